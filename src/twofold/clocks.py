"""The real sources of time and randomness, and a clock that tests set through a file."""

from __future__ import annotations

import os
import secrets
import threading
import time
from pathlib import Path

from twofold.core.clock import in_seconds
from twofold.errors import Unavailable
from twofold.ports import Clock, Entropy

PAGE_BYTES = 4096


class SystemClock:
    """The machine's clock. Server time alone counts: nothing that a caller sends is ever used as time."""

    def now(self) -> int:
        """Microseconds since 1970."""
        return time.time_ns() // 1000


class FileClock:
    """Unix time read from a file each time (TEST_CLOCK): for tests only."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def now(self) -> int:
        """Microseconds since 1970; raises `Unavailable` while the file holds no number."""
        try:
            return in_seconds(float(self._path.read_text()))
        except (OSError, ValueError) as error:
            raise Unavailable(f"TEST_CLOCK {self._path} holds no Unix time ({error})") from None


class SystemEntropy:
    """The operating system's random generator, asked for a page at a time.

    Each question lets another thread in, which costs a busy server more than the bytes do. A forked child never hands
    out what its parent may: the page is thrown away.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._page = b""
        self._used = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def bytes(self, length: int) -> bytes:
        """Unpredictable bytes, each handed out once."""
        with self._lock:
            if len(self._page) - self._used < length:
                self._page, self._used = secrets.token_bytes(max(length, PAGE_BYTES)), 0
            start, self._used = self._used, self._used + length
            return self._page[start : self._used]

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._page, self._used = b"", 0


def system_clock(test_clock: Path | None) -> Clock:
    """The clock that the settings ask for."""
    return SystemClock() if test_clock is None else FileClock(test_clock)


_: tuple[Clock, Entropy] = (SystemClock(), SystemEntropy())
