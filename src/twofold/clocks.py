"""The real sources of time and randomness, and a clock that tests set through a file."""

from __future__ import annotations

import os
import secrets
import sys
import time
from pathlib import Path

from twofold.core.clock import in_seconds
from twofold.errors import Unavailable
from twofold.ports import Clock, Entropy


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
    """The operating system's random generator."""

    def bytes(self, length: int) -> bytes:
        """Unpredictable bytes."""
        # The same source either way; this one keeps the interpreter's lock, which a busy server would wait to get back.
        # Up to 256 bytes it never returns fewer than were asked for.
        if sys.platform == "linux" and length <= 256:
            return os.getrandom(length)
        return secrets.token_bytes(length)


def system_clock(test_clock: Path | None) -> Clock:
    """The clock that the settings ask for."""
    return SystemClock() if test_clock is None else FileClock(test_clock)


_: tuple[Clock, Entropy] = (SystemClock(), SystemEntropy())
