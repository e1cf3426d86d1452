"""Why a code does not fit: a clock that is off, or an app that computes codes in another way than it was told to.

For whoever has the server's shell, who is told all of it, and for the person herself, who is told of the past alone: a
code that will be right later must not be found by guessing. Nothing found here ever lets anybody in.
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
    reach = CLOCK_SEARCH_S // period_s
    steps = _nearest(
        secret, code, step_at(now_s, period_s), range(-reach, reach + 1), digits=digits, algorithm=algorithm
    )
    if steps is not None:
        return Tried("fits") if abs(steps) <= 1 else _off(steps, period_s)
    periods = dict.fromkeys((period_s, *_PERIODS_S))
    for key, reading in _readings(secret):
        for other, period in itertools.product(get_args(Algorithm), periods):
            near = range(-1, 2)
            if _nearest(key, code, step_at(now_s, period), near, digits=len(code), algorithm=other) is not None:
                return Tried("fits_with_other_parameters", parameters=_describe(reading, other, len(code), period))
    return Tried("fits_nothing")


def diagnose_late_clock(
    secret: bytes, code: str, *, algorithm: Algorithm, digits: int, period_s: int, now: int
) -> Tried:
    """Whether the code is one of the past twelve hours, and nothing else: it is good for nothing any more."""
    past = range(-(CLOCK_SEARCH_S // period_s), 0)
    steps = _nearest(secret, code, step_at(now // MICROS_PER_S, period_s), past, digits=digits, algorithm=algorithm)
    return Tried("fits_nothing") if steps is None else _off(steps, period_s)


def diagnose_hotp(secret: bytes, code: str, *, algorithm: Algorithm, digits: int, counter: int) -> Tried:
    """What the code would fit: the next counters, ones further away, or other parameters."""
    around = range(-COUNTER_SEARCH, COUNTER_SEARCH + 1)
    if (steps := _nearest(secret, code, counter, around, digits=digits, algorithm=algorithm)) is not None:
        return Tried("fits") if 0 <= steps < 10 else Tried("fits_with_clock_off", steps=steps)
    for key, reading in _readings(secret):
        for other in get_args(Algorithm):
            if _nearest(key, code, counter, range(-10, 11), digits=len(code), algorithm=other) is not None:
                return Tried("fits_with_other_parameters", parameters=_describe(reading, other, len(code), None))
    return Tried("fits_nothing")


def _off(steps: int, period_s: int) -> Tried:
    return Tried("fits_with_clock_off", steps=steps, clock_offset_s=steps * period_s)


def _nearest(secret: bytes, code: str, center: int, around: range, *, digits: int, algorithm: Algorithm) -> int | None:
    """How far from the center the nearest of the counters around it is that has this code."""
    if not DIGITS_MIN <= len(code) <= DIGITS_MAX:
        return None
    counters = range(center + around.start, center + around.stop)
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
