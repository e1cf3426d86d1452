import base64

import pytest

from twofold.core.clock import in_seconds
from twofold.core.decision import Tried
from twofold.crypto.otp import code_at, step_at
from twofold.factors.diagnosis import COUNTER_SEARCH, diagnose_hotp, diagnose_late_clock, diagnose_totp

SECRET = b"12345678901234567890"
NOW_S = 1_700_000_010
STEP = step_at(NOW_S, 30)


def totp(code: str, **changes: object) -> Tried:
    parameters = {"algorithm": "SHA1", "digits": 6, "period_s": 30, **changes}
    return diagnose_totp(SECRET, code, now=in_seconds(NOW_S), **parameters)  # type: ignore[arg-type]


def late(code: str, *, period_s: int = 30) -> Tried:
    return diagnose_late_clock(SECRET, code, algorithm="SHA1", digits=6, period_s=period_s, now=in_seconds(NOW_S))


def hotp(code: str, counter: int = 50) -> Tried:
    return diagnose_hotp(SECRET, code, algorithm="SHA1", digits=6, counter=counter)


@pytest.mark.parametrize("ahead", [-1, 0, 1])
def test_a_code_of_now_fits(ahead: int) -> None:
    assert totp(code_at(SECRET, STEP + ahead)) == Tried("fits")


@pytest.mark.parametrize("ahead", [-1440, -120, -2, 2, 10, 1440])
def test_a_code_within_twelve_hours_tells_by_how_many_steps_the_clock_is_off(ahead: int) -> None:
    assert totp(code_at(SECRET, STEP + ahead)) == Tried("fits_with_clock_off", steps=ahead, clock_offset_s=ahead * 30)


@pytest.mark.parametrize("ahead", [-1440, -20, -1])
def test_the_owner_is_told_of_a_code_of_the_past(ahead: int) -> None:
    assert late(code_at(SECRET, STEP + ahead)) == Tried("fits_with_clock_off", steps=ahead, clock_offset_s=ahead * 30)


@pytest.mark.parametrize("code", [code_at(SECRET, STEP + ahead) for ahead in (-1441, 0, 1, 2, 20, 1440)])
def test_the_owner_is_told_of_no_code_that_is_right_now_or_later(code: str) -> None:
    assert late(code) == Tried("fits_nothing")


def test_the_distance_of_a_clock_counts_the_period_of_its_codes() -> None:
    code = code_at(SECRET, step_at(NOW_S, 60) - 5)
    assert late(code, period_s=60) == Tried("fits_with_clock_off", steps=-5, clock_offset_s=-300)


def test_the_nearest_of_several_fitting_steps_is_told() -> None:
    codes = [code_at(SECRET, counter) for counter in range(20_000)]
    later = next(c for c in range(20_000) if codes[c] in codes[max(0, c - 700) : c])
    earlier = codes.index(codes[later])
    tried = diagnose_totp(
        SECRET, codes[later], algorithm="SHA1", digits=6, period_s=30, now=in_seconds(30 * (later - 3))
    )
    assert tried.steps in (3, earlier - later + 3)
    assert abs(tried.steps) == min(3, abs(earlier - later + 3))


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        (code_at(SECRET, STEP, algorithm="SHA256"), "SHA256, 6 digits, 30 s"),
        (code_at(SECRET, STEP, algorithm="SHA512"), "SHA512, 6 digits, 30 s"),
        (code_at(SECRET, STEP, digits=8), "SHA1, 8 digits, 30 s"),
        (code_at(SECRET, step_at(NOW_S, 60)), "SHA1, 6 digits, 60 s"),
        (code_at(SECRET, step_at(NOW_S, 15), digits=7, algorithm="SHA256"), "SHA256, 7 digits, 15 s"),
        (
            code_at(base64.b32encode(SECRET), STEP),
            "SHA1, 6 digits, 30 s, the key's letters taken as they are, not decoded from Base32",
        ),
        (code_at(SECRET.hex().encode(), STEP), "SHA1, 6 digits, 30 s, the key in hexadecimal letters"),
    ],
)
def test_a_code_of_an_app_that_computes_otherwise_tells_how(code: str, parameters: str) -> None:
    assert totp(code) == Tried("fits_with_other_parameters", parameters=parameters)


def test_a_code_that_fits_nothing_says_so() -> None:
    assert totp("000000") == Tried("fits_nothing")
    assert hotp("000000") == Tried("fits_nothing")


@pytest.mark.parametrize("code", ["", "1", "12345", "123456789", "9" * 11, "9" * 5000, "\u0661" * 6, "abcdef"], ids=len)
def test_trap_10_what_is_no_code_fits_nothing_and_breaks_nothing(code: str) -> None:
    assert totp(code) == Tried("fits_nothing")
    assert hotp(code) == Tried("fits_nothing")
    assert late(code) == Tried("fits_nothing")


@pytest.mark.parametrize("ahead", [0, 5, 9])
def test_the_next_presses_of_a_token_fit(ahead: int) -> None:
    assert hotp(code_at(SECRET, 50 + ahead)) == Tried("fits")


@pytest.mark.parametrize("ahead", [-50, -1, 10, 500, COUNTER_SEARCH])
def test_a_token_that_is_further_away_tells_by_how_many_presses(ahead: int) -> None:
    assert hotp(code_at(SECRET, 50 + ahead)) == Tried("fits_with_clock_off", steps=ahead)


@pytest.mark.parametrize(
    ("code", "parameters"),
    [
        (code_at(SECRET, 53, digits=8), "SHA1, 8 digits"),
        (code_at(SECRET, 53, algorithm="SHA512"), "SHA512, 6 digits"),
        (code_at(SECRET.hex().encode(), 50), "SHA1, 6 digits, the key in hexadecimal letters"),
    ],
)
def test_a_token_that_computes_otherwise_tells_how(code: str, parameters: str) -> None:
    assert hotp(code) == Tried("fits_with_other_parameters", parameters=parameters)
