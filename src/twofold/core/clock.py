"""Time as the core sees it: whole microseconds since 1970-01-01 UTC, always an argument, never read here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

MICROS_PER_S = 1_000_000
#: A clock that was set right by less than this, or of another node, voids nothing that was made a moment ago.
CLOCK_SKEW_S = 10
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(at: int) -> str:
    """`at` (microseconds) as RFC 3339 in UTC, such as `2026-03-01T12:00:00.250000Z`."""
    moment = _EPOCH + timedelta(microseconds=at)
    return moment.isoformat(timespec="microseconds" if at % MICROS_PER_S else "seconds").replace("+00:00", "Z")


def in_seconds(seconds: float) -> int:
    """A duration in seconds as microseconds."""
    return round(seconds * MICROS_PER_S)
