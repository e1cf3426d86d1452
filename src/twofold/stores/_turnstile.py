"""Whose turn it is to write, between processes that share one SQLite file.

SQLite's own lock is taken by whoever asks at the right moment, so a busy server can keep a command line waiting for
ever. Here a writer takes `next`, then `turn`, and lets `next` go: while one works, exactly one other is already first
in line, and two busy processes alternate. The kernel frees the locks of a process that dies.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType

if sys.platform != "win32":
    from fcntl import LOCK_EX, LOCK_UN, flock
else:
    # Without these locks `busy_timeout` alone keeps writers apart: correct, but not fair.
    LOCK_EX = LOCK_UN = 0

    def flock(_fd: int, _operation: int) -> None: ...


class Turnstile:
    """`with turnstile:` around each write transaction. One object for each thread that writes."""

    def __init__(self, database: Path) -> None:
        self._next = _open_lock(database, "next")
        self._turn = _open_lock(database, "turn")

    def __enter__(self) -> None:
        flock(self._next, LOCK_EX)
        try:
            flock(self._turn, LOCK_EX)
        finally:
            flock(self._next, LOCK_UN)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        flock(self._turn, LOCK_UN)

    def close(self) -> None:
        """Let the files go; only while nobody is inside."""
        os.close(self._next)
        os.close(self._turn)


def _open_lock(database: Path, name: str) -> int:
    return os.open(database.with_name(f"{database.name}-{name}"), os.O_RDWR | os.O_CREAT, 0o600)
