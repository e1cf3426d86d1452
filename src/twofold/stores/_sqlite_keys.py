"""The keyring and the nodes in SQLite: each function is one write inside a transaction of the writer."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import msgspec

from twofold.key_ports import WrappedKey

KEY_COLUMNS = "id, purpose, state, wrapped, created_at, master, uses, retired_at, empty_since, unwrapped_at, uri, mac"
_INSERT = f"INSERT INTO keyring ({KEY_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - above
# What the change stands on, and what it may set: `uses` and `unwrapped_at` go their own way.
_CHANGE = """
    UPDATE keyring SET state = ?, wrapped = ?, master = ?, retired_at = ?, empty_since = ?, uri = ?, mac = ?
    WHERE id = ? AND state = ? AND wrapped = ? AND master = ? AND retired_at = ? AND empty_since = ? AND uri = ?"""
_RESERVE = """
    UPDATE keyring SET uses = uses + ?2 WHERE id = ?1 AND state = 'active' AND uses + ?2 <= ?3 RETURNING uses"""


def find_master_address(path: Path) -> str | None:
    """Where the master key in use is, as the database at this path says: for a message, anybody may have written it."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT uri FROM keyring WHERE purpose = 'master' AND state = 'active'")
            return next((str(uri) for (uri,) in found), None)
    except sqlite3.Error:
        return None  # of before master keys had addresses, or not to be read


def insert_keys(connection: sqlite3.Connection, keys: Sequence[WrappedKey]) -> None:
    """New rows."""
    connection.executemany(_INSERT, map(msgspec.structs.astuple, keys))


def change_keys(connection: sqlite3.Connection, changes: Sequence[tuple[WrappedKey | None, WrappedKey]]) -> bool:
    """All changes or, when one row is not as expected, none of them and False."""
    connection.execute("SAVEPOINT keys")
    try:
        for before, after in changes:
            if before is None:
                insert_keys(connection, [after])
                continue
            set_to = (after.state, after.wrapped, after.master, after.retired_at, after.empty_since, after.uri)
            expected = (before.state, before.wrapped, before.master, before.retired_at, before.empty_since, before.uri)
            changed = connection.execute(_CHANGE, (*set_to, after.mac, before.id, *expected))
            if changed.rowcount != 1:
                connection.execute("ROLLBACK TO keys")
                return False
    except sqlite3.IntegrityError:
        connection.execute("ROLLBACK TO keys")
        return False
    finally:
        connection.execute("RELEASE keys")
    return True


def reserve_uses(connection: sqlite3.Connection, key_id: str, count: int, uses_max: int) -> int:
    """The uses after the reservation, 0 if there was none."""
    row = connection.execute(_RESERVE, (key_id, count, uses_max)).fetchone()
    return int(row[0]) if row else 0
