"""The SQLite file: made with mode 0600, opened with the settings that every connection needs, brought up to date.

Migrations are numbered SQL files, each applied in a transaction of its own after a copy of the database was laid
beside it. Nothing here reads or writes an account.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from twofold.errors import ConfigurationError
from twofold.stores._turnstile import Turnstile

MIGRATIONS = Path(__file__).with_name("migrations") / "sqlite"
#: Written into the file's header, so that nobody migrates another program's database: "2fld".
APPLICATION_ID = 0x32666C64
BUSY_TIMEOUT_S = 5
log: logging.Logger = logging.getLogger("twofold")


def prepare(path: Path, migrations: Path = MIGRATIONS) -> None:
    """Make the database if there is none, and bring an older one up to date.

    Raises `ConfigurationError`, one line, when the file cannot be used, belongs to another program or to a newer one.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _create(path)
        turnstile = Turnstile(path)
    except OSError as error:
        raise ConfigurationError(f"the database {path} cannot be used ({error.strerror})") from None
    try:
        # One process at a time: a second first start waits here, and then finds everything done.
        with turnstile:
            _migrate(path, migrations)
    except sqlite3.Error as error:
        raise ConfigurationError(f"the database {path} cannot be used ({error})") from None
    finally:
        turnstile.close()


def _create(path: Path) -> None:
    """Made by us before SQLite opens it: SQLite gives its side files the mode of the database.

    Only if it is not there yet. When a process closes a file the system drops all locks that it has on it, and so those
    of a connection that is open: the next one to close elsewhere would take itself for the last, and remove a log that
    is being written to (sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def connect(path: Path, *, cache_kib: int) -> sqlite3.Connection:
    """A connection for one thread, in autocommit mode: transactions are begun by name."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=64
    )
    connection.executescript(f"""
        PRAGMA synchronous = FULL;
        PRAGMA fullfsync = ON;
        PRAGMA checkpoint_fullfsync = ON;
        PRAGMA secure_delete = ON;
        PRAGMA wal_autocheckpoint = 0;
        PRAGMA mmap_size = 0;
        PRAGMA temp_store = MEMORY;
        PRAGMA cache_size = -{cache_kib};
    """)
    return connection


def _migrate(path: Path, migrations: Path) -> None:
    connection = connect(path, cache_kib=2048)
    try:
        files = {int(file.name[:4]): file for file in sorted(migrations.glob("[0-9][0-9][0-9][0-9]_*.sql"))}
        version = _read_version(connection, path)
        if version > max(files):
            raise ConfigurationError(
                f"the database {path} has schema {version}, this program knows up to {max(files)}: use a newer Twofold"
            )
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise ConfigurationError(f"the database {path} is on a file system that cannot keep a write-ahead log")
        for number in range(version + 1, max(files) + 1):
            copy = path.with_name(f"{path.name}.before-{number:04}")
            if version > 0:
                _copy(connection, copy)
            _apply(connection, number, files[number].read_text("utf-8"))
            if version > 0:
                changed = f"the database {path} was changed from schema {number - 1} to {number}"
                log.info("%s; the one before is %s", changed, copy.name)
    finally:
        connection.close()


def _read_version(connection: sqlite3.Connection, path: Path) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application_id != APPLICATION_ID:
        raise ConfigurationError(f"the database {path} belongs to another program")
    return int(version)


def _copy(connection: sqlite3.Connection, target: Path) -> None:
    # Complete and on the disk before it gets its name: what is called a copy can be put back.
    draft = target.with_name(f"{target.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        connection.execute("VACUUM INTO ?", (str(draft),))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    draft.replace(target)


def _apply(connection: sqlite3.Connection, number: int, script: str) -> None:
    try:
        connection.executescript(f"""
            BEGIN IMMEDIATE;
            {script}
            PRAGMA application_id = {APPLICATION_ID};
            PRAGMA user_version = {number};
            COMMIT;
        """)
    except sqlite3.Error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
