"""A PostgreSQL server of our own for a measurement, as durable as it is installed, in a temporary folder.

What it is asked about the log that it writes before it answers is here, too.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.conftest import find_program
from tests.postgres import PostgresServer

#: For all contenders alike. What a commit promises stays as it is installed, and `running` looks.
SETTINGS = {
    "shared_buffers": "1GB",
    "max_connections": "600",
    "max_wal_size": "8GB",
    "checkpoint_timeout": "15min",
}
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


def is_installed() -> bool:
    """Whether there is a PostgreSQL to measure with; says so if not."""
    try:
        find_program("postgres")
    except pytest.skip.Exception as missing:
        print(f"  without PostgreSQL: {missing}")
        return False
    return True


def version() -> str:
    """`PostgreSQL 15.18, `, or nothing where there is none."""
    if not is_installed():
        return ""
    said = subprocess.run([find_program("postgres"), "--version"], capture_output=True, text=True, check=True).stdout
    return f"PostgreSQL {said.split()[2]}, "


@contextmanager
def running() -> Iterator[PostgresServer]:
    """A server that runs; it is gone afterwards."""
    with PostgresServer() as server:
        server.create()
        server.configure(**SETTINGS)
        server.start()
        for name in DURABLE:
            assert server.sql(f"SHOW {name}")[0][0] == "on", name
        yield server


@contextmanager
def without_page_images(server: PostgresServer) -> Iterator[None]:
    """As it is long after a checkpoint, when every page that is touched has been written whole already."""
    server.configure(full_page_writes="off")
    try:
        yield
    finally:
        server.configure(full_page_writes="on")


class Wal:
    """How many bytes of log a server has written since then."""

    def __init__(self, server: PostgresServer) -> None:
        """From a checkpoint on: pages that are touched for the first time after it are written whole."""
        self._server = server
        server.sql("CHECKPOINT")
        self._begun = self._position()

    def written(self) -> int:
        """Since this was made."""
        return self._position() - self._begun

    def _position(self) -> int:
        return int(self._server.sql("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")[0][0])
