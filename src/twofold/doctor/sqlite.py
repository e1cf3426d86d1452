"""What can be wrong with a SQLite database: its file, its folder, its disk. Reads everything, changes nothing."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from twofold.doctor.finding import Finding, Look, State, check_move, quote, read_url
from twofold.stores._sqlite_file import connect
from twofold.stores._sqlite_keys import find_master_address

FREE_LOW_BYTES = 1 << 30
FREE_MIN_BYTES = 100 << 20
_SYNCHRONOUS_FULL = 2


def look_at_sqlite(path: Path) -> Look:
    """The findings, and what the database says of keys, messages and PUBLIC_URL."""
    findings = tuple(check_database(path))
    if not path.exists():
        return Look(findings)
    try:
        with closing(connect(path, cache_kib=2048)) as connection:
            settings = dict(connection.execute("SELECT name, value FROM settings"))
            keys = connection.execute(
                "SELECT id, wrapped FROM keyring WHERE state <> 'destroyed' AND purpose <> 'master'"
            ).fetchall()
            ((waiting,),) = connection.execute("SELECT count(*) FROM outbox")
    except sqlite3.Error as error:
        return Look(findings, fault=str(error))
    return Look(
        (*findings, *check_move(settings)),
        public_url=read_url(settings),
        master_address=find_master_address(path),
        keys=tuple(keys),
        waiting=waiting,
    )


def check_database(path: Path) -> Iterator[Finding]:
    """What is acknowledged stays: write-ahead log, synchronous commits, room on the disk, a sound file."""
    if not path.exists():
        yield Finding("database", "ok", f"{path} is not made yet")
        return
    if closed := [place for place in (path, path.parent) if not os.access(place, os.R_OK | os.W_OK)]:
        mend = f"chown {os.geteuid()} {quote(closed)}, or run as its owner"
        yield Finding("database", "problem", f"this user may not write {quote(closed)}", mend)
        return
    try:
        connection = connect(path, cache_kib=2048)
        try:
            mode, synchronous, health = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("journal_mode", "synchronous", "quick_check(1)")
            )
        finally:
            connection.close()
    except sqlite3.Error as error:
        yield Finding("database", "problem", f"{path} cannot be read: {error}", "put it back from a backup")
        return
    if (mode, synchronous) != ("wal", _SYNCHRONOUS_FULL):
        mend = f"move it to a local disk: {quote([path])}"
        yield Finding("database", "problem", f"journal_mode={mode}, synchronous={synchronous}: may forget", mend)
    if health != "ok":
        yield Finding("database", "problem", f"{path} is damaged: {health}", "put it back from a backup")
    if (mode, synchronous, health) == ("wal", _SYNCHRONOUS_FULL, "ok"):
        yield Finding("database", "ok", f"{path}: journal_mode=wal, synchronous=FULL, quick_check ok")
    free = shutil.disk_usage(path.parent).free
    state: State = "problem" if free < FREE_MIN_BYTES else "warning" if free < FREE_LOW_BYTES else "ok"
    room = None if state == "ok" else f"make room on the disk of {quote([path.parent])}"
    yield Finding("disk", state, f"{free // (1 << 20):,} MiB are free", room)
