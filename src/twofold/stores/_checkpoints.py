"""Moves what is committed from the write-ahead log into the database file, in a thread of its own.

Inside a commit that would cost up to a tenth of a second now and then. Durability does not depend on it.
"""

from __future__ import annotations

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path

from twofold.stores._sqlite_file import connect
from twofold.stores._turnstile import Turnstile

#: A changed row is about one page of the log.
CHANGES_MAX = 1_000
#: While commits never pause, copying never quite catches up and the log only grows; from here on they are made to
#: pause while the little that is left is copied, and the log begins anew.
LOG_PAGES_MAX = 16_000
IDLE_S = 1.0


class Checkpointer:
    """The checkpoint thread of one file."""

    def __init__(self, path: Path) -> None:
        self._turnstile = Turnstile(path)
        self._connection = connect(path, cache_kib=2048)
        # Never waits for a reader: what cannot be done now is done the next time.
        self._connection.execute("PRAGMA busy_timeout = 0")
        self._wake = threading.Event()
        self._is_closing = False
        self._changes = self._copied = self._emptied = 0
        self._thread = threading.Thread(target=self._run, name="twofold-checkpoints", daemon=True)
        self._thread.start()

    def note_commit(self, changes: int) -> None:
        """Called after each commit with the number of rows that the writer has changed so far."""
        was_empty = self._changes == self._emptied
        self._changes = changes
        if was_empty or changes - self._copied >= CHANGES_MAX:
            self._wake.set()

    def close(self) -> None:
        """End the thread; the last connection that closes a SQLite file copies the rest of the log."""
        self._is_closing = True
        self._wake.set()
        self._thread.join()
        self._connection.close()
        self._turnstile.close()

    def _run(self) -> None:
        while not self._is_closing:
            seen = self._changes
            is_woken = self._wake.wait(None if seen == self._emptied else IDLE_S)
            self._wake.clear()
            # A file that cannot be written now is found out, and told, by the writer.
            with suppress(sqlite3.Error, OSError):
                self._checkpoint(is_idle=not is_woken and seen == self._changes)

    def _checkpoint(self, *, is_idle: bool) -> None:
        changes = self._changes
        if changes - self._copied >= CHANGES_MAX:
            pages = self._copy("PASSIVE")
            self._copied = changes
            if pages > LOG_PAGES_MAX:
                with self._turnstile:
                    self._copy("RESTART")
        elif is_idle and changes != self._emptied:
            with self._turnstile:
                pages = self._copy("TRUNCATE")
            if pages == 0:
                self._copied = self._emptied = changes

    def _copy(self, mode: str) -> int:
        """The number of pages in the log afterwards; readers of an old state keep some of them for another time."""
        _, pages, _ = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        return int(pages)
