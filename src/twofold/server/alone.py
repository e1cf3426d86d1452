"""One server for one database file: a second one would undo links and limits of the first without a word.

The kernel lets the lock go with the process, also after `kill -9`. The command line needs none: it is made to work
beside a server. Nor does PostgreSQL, which any number of servers may use.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from twofold.errors import ConfigurationError


@contextmanager
def only_server(database: Path) -> Iterator[None]:
    """Be the one server of this database inside the block; raises `ConfigurationError`, one line, if there is one."""
    descriptor = os.open(database.with_name(f"{database.name}-serve"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform != "win32":
            from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415 - there is none on Windows

            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                detail = f"another server serves {database} already: one process serves one SQLite file"
                raise ConfigurationError(detail) from None
        yield
    finally:
        os.close(descriptor)
