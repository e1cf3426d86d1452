"""A SQLite file as one side of a move: all its rows as they are, and what says that they are coming or have gone.

What is moved and what is checked is decided in `twofold.migrating`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from twofold.errors import Unavailable
from twofold.stores._sqlite_file import connect, prepare
from twofold.stores._tables import MOVED_TO, REFUSAL, Row, Table
from twofold.stores._turnstile import Turnstile

CACHE_KIB = 16 * 1024
FETCH_ROWS = 2000
#: Nobody else writes here, so nobody else is kept waiting by a checkpoint.
CHECKPOINT_PAGES = 4000
#: Columns that are called otherwise here.
_NAMES = {"position": "rowid", "window_start": "window"}
_REFUSE = """
    CREATE TRIGGER IF NOT EXISTS refuse_{0} BEFORE {0} ON accounts
    BEGIN SELECT RAISE(ABORT, '{1}'); END"""


class SqliteSide:
    """One file. `close` it; what was not said to be done by then is undone."""

    def __init__(self, path: Path) -> None:
        """Make the file if there is none, and bring an older one up to date. Raises `ConfigurationError`."""
        prepare(path)
        self.path = path
        self.place: str = f"sqlite:///{path.absolute()}"
        self._turnstile = Turnstile(path)
        self._writer = connect(path, cache_kib=CACHE_KIB)
        self._writer.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")
        self._reader = connect(path, cache_kib=CACHE_KIB)

    def close(self) -> None:
        """Let the file go, and everybody to it."""
        self._reader.close()
        self._writer.close()
        self._turnstile.close()

    def hold(self) -> None:
        """Let nobody write from now on; reading stays free."""
        with self._translated(), self._turnstile:
            self._writer.execute("BEGIN IMMEDIATE")

    def seen_since(self, at: int) -> Sequence[bytes]:
        """The documents of those that have served this database since then, in microseconds."""
        with self._translated():
            found = self._reader.execute("SELECT document FROM nodes WHERE seen_at > ? ORDER BY id", (at,))
            return [document for (document,) in found]

    def rows(self, table: Table) -> Iterator[Row]:
        """All rows in order of key, as they are now."""
        key = _named(table.key)
        sql = f"SELECT {_named(table.columns)} FROM {table.name} WHERE {table.condition} ORDER BY {key}"  # noqa: S608
        with self._translated():
            cursor = self._reader.execute(sql)
            while chunk := cursor.fetchmany(FETCH_ROWS):
                yield from chunk

    def count(self, table: Table) -> int:
        """How many rows there are."""
        with self._translated():
            sql = f"SELECT count(*) FROM {table.name} WHERE {table.condition}"  # noqa: S608 - one of ours
            ((count,),) = self._reader.execute(sql)
            return int(count)

    def change(self, table: Table, gone: Sequence[Row], new: Sequence[Row]) -> None:
        """Take away the rows of the keys `gone` and add the `new` ones, in one step."""
        is_key = " AND ".join(f"{column} = ?" for column in map(_name, table.key))
        values = ", ".join("?" * len(table.columns))
        with self._translated(), self._writer:
            self._writer.execute("BEGIN IMMEDIATE")
            self._writer.executemany(f"DELETE FROM {table.name} WHERE {is_key}", gone)  # noqa: S608 - one of ours
            # Another row may hold the position still: its own turn comes, for it is another one in the source.
            into = f"INSERT OR REPLACE INTO {table.name} ({_named(table.columns)})"
            self._writer.executemany(f"{into} VALUES ({values})", new)

    def read_mark(self, name: str) -> str | None:
        """What the database says of its move."""
        with self._translated():
            found = self._reader.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
            return None if found is None else str(found[0])

    def write_mark(self, name: str, value: str | None) -> None:
        """Have it say that, or nothing more."""
        with self._translated():
            if value is None:
                self._writer.execute("DELETE FROM settings WHERE name = ?", (name,))
            else:
                self._writer.execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, value))

    def settle(self) -> None:
        """All rows are in."""
        with self._translated():
            self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def leave(self, to: str) -> None:
        """Say where the rows have gone, and take no decision on an account any more. Ends `hold`."""
        self.write_mark(MOVED_TO, to)
        with self._translated():
            for act in ("INSERT", "UPDATE"):
                self._writer.execute(_REFUSE.format(act, REFUSAL))
            self._writer.execute("COMMIT")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            raise Unavailable(f"{self.place} cannot be read or written: {error}") from None


def _name(column: str) -> str:
    return _NAMES.get(column, column)


def _named(columns: Sequence[str]) -> str:
    return ", ".join(map(_name, columns))
