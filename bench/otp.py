"""One check of a TOTP code against three steps, beside pyotp's."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from statistics import median

import pyotp

from bench.figures import Figure, ratio
from bench.population import STEP_S, right_code, seed_of
from twofold.crypto.otp import matching_counters, step_at

COUNT = 5_000


def measure(*, rounds: int) -> list[Figure]:
    """Medians over rounds in which all take turns, for a right code; both sides are told the same time."""
    now_s = int(time.time())
    seed, step = seed_of(1), step_at(now_s, STEP_S)
    secret, code = base64.b32encode(seed).decode(), right_code(1, step)
    reused = pyotp.TOTP(secret)
    window = range(step - 1, step + 2)
    checks: dict[str, Callable[[], bool]] = {
        "ours": lambda: bool(matching_counters(seed, code, window)),
        "pyotp": lambda: pyotp.TOTP(secret).verify(code, for_time=now_s, valid_window=1),
        "reused": lambda: reused.verify(code, for_time=now_s, valid_window=1),
    }
    times: dict[str, list[float]] = {name: [] for name in checks}
    for _ in range(rounds):
        for name, check in checks.items():
            times[name].append(_microseconds(check))
    ours, built, kept = times.values()
    return [
        Figure("one check of three steps", median(ours), "µs"),
        Figure("pyotp.TOTP(secret).verify(code, valid_window=1)", median(built), "µs"),
        Figure("the same with the TOTP object kept", median(kept), "µs"),
        Figure("pyotp : ours", ratio(built, ours), "x", at_least=4),
        Figure("pyotp with the object kept : ours", ratio(kept, ours), "x"),
    ]


def _microseconds(check: Callable[[], bool]) -> float:
    began = time.perf_counter()
    for _ in range(COUNT):
        assert check()
    return (time.perf_counter() - began) / COUNT * 1e6
