"""A clock that stands still until a test moves it. Nothing waits in a test: time is set."""

from __future__ import annotations

import time

from twofold.core.clock import MICROS_PER_S, in_seconds
from twofold.ports import Clock

#: The usual life of a code.
STEP_S = 30


class FixedClock:
    """Unix time in seconds. It begins at the last change of codes before now, so that a code has its 30 s before it."""

    def __init__(self, at_s: float | None = None) -> None:
        self._now = in_seconds(time.time() // STEP_S * STEP_S if at_s is None else at_s)

    @property
    def now_s(self) -> float:
        """What it shows."""
        return self._now / MICROS_PER_S

    def set(self, at_s: float) -> None:
        """Show this time from now on; it may be an earlier one."""
        self._now = in_seconds(at_s)

    def advance(self, seconds: float) -> None:
        """Let so much time pass."""
        self._now += in_seconds(seconds)

    def now(self) -> int:
        """Microseconds since 1970, for Twofold itself."""
        return self._now


_: Clock = FixedClock()
