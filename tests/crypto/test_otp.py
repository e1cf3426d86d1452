import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.crypto.otp import COUNTER_MAX, Algorithm, code_at, matching_counters, step_at

VECTORS = Path(__file__).parent.parent / "vectors"
RFC4226: dict[str, Any] = json.loads((VECTORS / "rfc4226.json").read_text())
RFC6238: dict[str, Any] = json.loads((VECTORS / "rfc6238.json").read_text())
SECRET = bytes.fromhex(RFC4226["secret_hex"])

ALGORITHMS: st.SearchStrategy[Algorithm] = st.sampled_from(["SHA1", "SHA256", "SHA512"])
SECRETS = st.integers(min_value=1, max_value=200).flatmap(lambda size: st.binary(min_size=size, max_size=size))
COUNTERS = st.integers(min_value=0, max_value=COUNTER_MAX)
DIGITS = st.integers(min_value=6, max_value=8)


def code_by_the_letter(secret: bytes, counter: int, digits: int, algorithm: str) -> str:
    """RFC 4226 §5.3 and §5.4 over the standard library's HMAC, as the text reads."""
    digest = hmac.digest(secret, counter.to_bytes(8, "big"), algorithm)
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return str(number % 10**digits).zfill(digits)


@pytest.mark.parametrize("vector", RFC4226["appendix_d"], ids=lambda vector: f"counter-{vector['counter']}")
def test_rfc4226_appendix_d_codes_are_made_and_found(vector: dict[str, Any]) -> None:
    assert code_at(SECRET, vector["counter"]) == vector["code"]
    assert matching_counters(SECRET, vector["code"], range(10)) == (vector["counter"],)


def test_rfc4226_codes_hold_at_every_counter_width_key_length_and_number_of_digits() -> None:
    for vector in RFC4226["boundary"]:
        secret, counter = bytes.fromhex(vector["key_hex"]), int(vector["counter_str"])
        digits, algorithm = vector["digits"], vector["algorithm"]
        assert code_at(secret, counter, digits=digits, algorithm=algorithm) == vector["code"], vector
        expected = (counter,) if counter <= COUNTER_MAX else ()
        found = matching_counters(secret, vector["code"], [counter], digits=digits, algorithm=algorithm)
        assert found == expected, vector


def test_leading_zeros_are_kept_and_needed() -> None:
    for vector in RFC4226["leading_zeros"]:
        counter, code = vector["counter"], vector["code"]
        assert code_at(SECRET, counter) == code
        assert matching_counters(SECRET, code, [counter]) == (counter,)
        assert matching_counters(SECRET, str(vector["int_value"]), [counter]) == ()


@pytest.mark.parametrize("part", ["published", "boundary"])
def test_rfc6238_codes_hold_for_each_algorithm_period_and_time(part: str) -> None:
    for vector in RFC6238[part]:
        secret, algorithm, digits = bytes.fromhex(vector["secret_hex"]), vector["algorithm"], vector["digits"]
        step = step_at(vector["time"], vector["period"])
        assert step == vector["step"], vector
        assert code_at(secret, step, digits=digits, algorithm=algorithm) == vector["code"], vector
        found = matching_counters(secret, vector["code"], [step], digits=digits, algorithm=algorithm)
        assert found == (step,), vector


def test_rfc6238_seeds_are_as_long_as_the_hash_and_not_all_20_bytes() -> None:
    for vector in RFC6238["seed_length_trap"]:
        secret, step = bytes.fromhex(vector["secret_hex"]), step_at(vector["time"], 30)
        code = code_at(secret, step, digits=vector["digits"], algorithm=vector["algorithm"])
        assert code == vector["code"]
        assert code != vector["must_differ_from"]


@given(SECRETS, COUNTERS, DIGITS, ALGORITHMS)
def test_codes_equal_the_standard_librarys_hmac_for_every_key_length(
    secret: bytes, counter: int, digits: int, algorithm: Algorithm
) -> None:
    code = code_by_the_letter(secret, counter, digits, algorithm)
    assert code_at(secret, counter, digits=digits, algorithm=algorithm) == code
    assert matching_counters(secret, code, [counter], digits=digits, algorithm=algorithm) == (counter,)


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_every_key_length_from_1_to_200_bytes_is_right(algorithm: Algorithm) -> None:
    for length in range(1, 201):
        secret = bytes(range(length))
        assert code_at(secret, length, algorithm=algorithm) == code_by_the_letter(secret, length, 6, algorithm)


def test_a_key_longer_than_the_block_is_hashed_first() -> None:
    long = b"k" * 65
    block = b"k" * 64
    assert code_at(long, 7, algorithm="SHA256") == code_at(hashlib.sha256(long).digest(), 7, algorithm="SHA256")
    assert code_at(block, 7, algorithm="SHA256") != code_at(hashlib.sha256(block).digest(), 7, algorithm="SHA256")


@given(SECRETS, st.integers(min_value=1, max_value=COUNTER_MAX - 1), DIGITS, ALGORITHMS, st.data())
def test_exactly_the_counters_of_a_window_whose_code_it_is_are_found(
    secret: bytes, middle: int, digits: int, algorithm: Algorithm, data: st.DataObject
) -> None:
    window = (middle - 1, middle, middle + 1)
    codes = [code_by_the_letter(secret, counter, digits, algorithm) for counter in window]
    code = data.draw(st.sampled_from(codes) | st.text("0123456789", min_size=digits, max_size=digits))
    expected = tuple(counter for counter, its_code in zip(window, codes, strict=True) if its_code == code)
    assert matching_counters(secret, code, window, digits=digits, algorithm=algorithm) == expected


def test_two_counters_with_one_code_are_both_found_in_the_order_given() -> None:
    codes = [code_at(SECRET, counter) for counter in range(5_000)]
    second = next(counter for counter, code in enumerate(codes) if code in codes[:counter])
    first = codes.index(codes[second])
    assert matching_counters(SECRET, codes[first], iter([second, 0, first])) == (second, first)


def test_counters_out_of_range_are_skipped_and_the_others_still_judged() -> None:
    code = code_at(SECRET, 0)
    assert matching_counters(SECRET, code, [-1, 0, COUNTER_MAX + 1, 2**64, 2**80]) == (0,)
    assert matching_counters(SECRET, code_at(SECRET, COUNTER_MAX), [COUNTER_MAX]) == (COUNTER_MAX,)
    assert matching_counters(SECRET, code_at(SECRET, COUNTER_MAX + 1), [COUNTER_MAX + 1]) == ()


@pytest.mark.parametrize("counter", [-1, 2**64])
def test_a_code_of_a_counter_that_does_not_fit_64_bits_is_not_made(counter: int) -> None:
    with pytest.raises(OverflowError):
        code_at(SECRET, counter)


def refused_forms() -> list[str]:
    cases = {case["name"]: case["steps"] for case in RFC6238["sequences"]["cases"]}
    return [
        *(step["code"] for step in cases["input-forms-refused"]),
        *(step["code"] for step in cases["input-forms"]),  # spaces are taken out before, by the factor
        "1_2",
        "+12",
        "+32303",
        "-32303",
        " 32303",
        "32303\n",
        "²32303",
        "①②③④⑤⑥",
        "\ud800\ud800\ud800\ud800\ud800\ud800",
        "732303\0",
        "9" * 5_000,
        "\0" * 6,
        "七三二三〇三",
    ]


@pytest.mark.parametrize("digits", [6, 7, 8])
@pytest.mark.parametrize("code", refused_forms(), ids=lambda code: ascii(code[:12]))
def test_a_code_of_another_form_matches_nothing_and_never_raises(code: str, digits: int) -> None:
    step = step_at(1_700_000_010, 30)
    assert matching_counters(SECRET, code, range(step - 10, step + 10), digits=digits) == ()
    right = code_at(SECRET, step, digits=digits)
    assert matching_counters(SECRET, right, range(step - 10, step + 10), digits=digits) == (step,)


@given(st.text(), DIGITS)
def test_no_text_at_all_makes_the_check_raise(code: str, digits: int) -> None:
    found = matching_counters(SECRET, code, range(3), digits=digits)
    assert found == tuple(counter for counter in range(3) if code_at(SECRET, counter, digits=digits) == code)


def test_an_empty_secret_matches_nothing_not_even_its_own_code() -> None:
    code = code_by_the_letter(b"", 0, 6, "SHA1")
    assert code_at(b"", 0) == code
    assert matching_counters(b"", code, [0]) == ()
    assert matching_counters(b"\1", code_at(b"\1", 0), [0]) == (0,)


def test_every_candidate_is_computed_even_after_one_has_matched() -> None:
    asked = []

    def counters() -> Any:
        for counter in range(5):
            asked.append(counter)
            yield counter

    assert matching_counters(SECRET, code_at(SECRET, 0), counters()) == (0,)
    assert asked == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("now_s", "period_s", "step"),
    [
        (0, 30, 0),
        (29, 30, 0),
        (29.999, 30, 0),
        (30, 30, 1),
        (59.5, 30, 1),
        (1_700_000_010, 30, 56_666_667),
        (-0.5, 30, -1),
    ],
)
def test_a_step_begins_with_its_first_second_and_ends_before_the_next(now_s: float, period_s: int, step: int) -> None:
    assert step_at(now_s, period_s) == step
    assert isinstance(step_at(now_s, period_s), int)
