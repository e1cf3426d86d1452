"""Why a code does not fit: a clock that is off, or an app that computes codes in another way than it was told to.

For the person who owns the authenticator and the administrator who helps; nothing found here ever lets anybody in.
"""

from __future__ import annotations

import base64
import itertools
from typing import get_args

from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Tried
from twofold.crypto.otp import DIGITS_MAX, DIGITS_MIN, Algorithm, matching_counters, step_at

CLOCK_SEARCH_S = 12 * 3600
COUNTER_SEARCH = 1000
_PERIODS_S = (30, 60, 15)


def diagnose_totp(secret: bytes, code: str, *, algorithm: Algorithm, digits: int, period_s: int, now: int) -> Tried:
    """What the code would fit: now, another time within twelve hours, or other parameters."""
    now_s = now // MICROS_PER_S
    if (
        steps := _nearest(
            secret, code, step_at(now_s, period_s), CLOCK_SEARCH_S // period_s, digits=digits, algorithm=algorithm
        )
    ) is not None:
        return Tried("fits") if abs(steps) <= 1 else Tried("fits_with_clock_off", steps=steps)
    periods = dict.fromkeys((period_s, *_PERIODS_S))
    for key, reading in _readings(secret):
        for other, period in itertools.product(get_args(Algorithm), periods):
            if _nearest(key, code, step_at(now_s, period), 1, digits=len(code), algorithm=other) is not None:
                return Tried("fits_with_other_parameters", parameters=_describe(reading, other, len(code), period))
    return Tried("fits_nothing")


def diagnose_hotp(secret: bytes, code: str, *, algorithm: Algorithm, digits: int, counter: int) -> Tried:
    """What the code would fit: the next counters, ones further away, or other parameters."""
    if (steps := _nearest(secret, code, counter, COUNTER_SEARCH, digits=digits, algorithm=algorithm)) is not None:
        return Tried("fits") if 0 <= steps < 10 else Tried("fits_with_clock_off", steps=steps)
    for key, reading in _readings(secret):
        for other in get_args(Algorithm):
            if _nearest(key, code, counter, 10, digits=len(code), algorithm=other) is not None:
                return Tried("fits_with_other_parameters", parameters=_describe(reading, other, len(code), None))
    return Tried("fits_nothing")


def _nearest(secret: bytes, code: str, center: int, reach: int, *, digits: int, algorithm: Algorithm) -> int | None:
    if not DIGITS_MIN <= len(code) <= DIGITS_MAX:
        return None
    counters = range(center - reach, center + reach + 1)
    fitting = matching_counters(secret, code, counters, digits=digits, algorithm=algorithm)
    return min((counter - center for counter in fitting), key=abs, default=None)


def _readings(secret: bytes) -> list[tuple[bytes, str]]:
    """The key as it should be read, and the wrong ways in which programs are known to read its text."""
    text = base64.b32encode(secret).decode().rstrip("=")
    return [
        (secret, ""),
        (text.encode(), "the key's letters taken as they are, not decoded from Base32"),
        (secret.hex().encode(), "the key in hexadecimal letters"),
    ]


def _describe(reading: str, algorithm: str, digits: int, period_s: int | None) -> str:
    parts = [algorithm, f"{digits} digits"] + ([f"{period_s} s"] if period_s else []) + ([reading] if reading else [])
    return ", ".join(parts)
