import pytest
from tests.kit import Phone, reason_of
from tests.ledger import Ledger

from twofold.core.decision import Rejected, Verified
from twofold.core.factor import Answer, Proof, read_answer
from twofold.factors.hotp import Hotp


def a_token(**parameters: object) -> tuple[Ledger, Phone]:
    ledger = Ledger.with_account()
    return ledger, ledger.import_phone(ledger.new_phone("hotp", **parameters))  # type: ignore[arg-type]


def test_rfc4226_7_2_the_counter_grows_by_success_alone() -> None:
    ledger, token = a_token(counter=7)
    for code in (ledger.wrong_code(token), token.code_of(6), token.code_of(17), ""):
        assert isinstance(ledger.verify(code), Rejected)
        assert ledger.hotp(token).counter == 7
        ledger.clock.advance(7 * 86_400)
    assert isinstance(ledger.verify(token.code_of(16)), Verified)
    assert ledger.hotp(token).counter == 17


def test_a_code_of_the_last_hundred_counters_is_told_to_be_used_and_an_older_one_is_wrong() -> None:
    ledger, token = a_token(counter=300)
    assert reason_of(ledger.verify(token.code_of(299))) == "code_already_used"
    assert reason_of(ledger.verify(token.code_of(200))) == "code_already_used"
    assert ledger.account.lane.spent == 0
    assert reason_of(ledger.verify(token.code_of(199))) == "wrong_code"


def test_a_code_that_occurs_in_the_past_and_in_the_look_ahead_is_a_used_one() -> None:
    ledger, token = a_token(secret=b"12345678901234567890")
    codes: dict[str, int] = {}
    for counter in range(100_000):
        earlier = codes.get(code := token.code_of(counter))
        if earlier is not None and counter - earlier < 100:
            break
        codes[code] = counter
    else:
        raise AssertionError("no such pair")
    ledger, token = a_token(secret=b"12345678901234567890", counter=counter)
    assert reason_of(ledger.verify(code)) == "code_already_used"
    assert ledger.hotp(token).counter == counter
    assert isinstance(ledger.verify(token.code_of(counter + 1)), Verified)


@pytest.mark.parametrize(("first", "is_found"), [(0, True), (50, True), (99, True), (100, False)])
def test_rfc4226_7_4_two_codes_in_a_row_are_found_within_a_hundred(first: int, is_found: bool) -> None:
    ledger, token = a_token()
    outcome = ledger.verify(token.code_of(first), token.code_of(first + 1))
    assert isinstance(outcome, Verified) == is_found
    assert ledger.hotp(token).counter == (first + 2 if is_found else 0)


def test_two_codes_of_which_one_was_used_are_wrong() -> None:
    ledger, token = a_token(counter=10)
    assert reason_of(ledger.verify(token.code_of(9), token.code_of(10))) == "wrong_code"
    assert isinstance(ledger.verify(token.code_of(10), token.code_of(11)), Verified)


def test_codes_in_a_row_near_the_last_counter_are_judged_and_nothing_wraps() -> None:
    last = 2**63 - 1
    for first, is_found in ((last - 4, True), (last - 3, True), (last - 2, False)):
        ledger, token = a_token(counter=last - 4)
        codes = [token.code_of(counter) for counter in (first, first + 1, first + 2)]
        assert isinstance(ledger.verify(*codes), Verified) == is_found


@pytest.mark.parametrize(
    ("digits", "codes", "ppm"), [(6, 1, 10), (7, 1, 3), (8, 1, 3), (6, 2, 3), (8, 2, 3), (6, 3, 0)]
)
def test_a_guess_costs_ten_candidates_two_codes_three_ppm_and_three_codes_nothing(
    digits: int, codes: int, ppm: int
) -> None:
    ledger, token = a_token(digits=digits)
    answer = read_answer(["1" * digits] * codes)
    assert Hotp().cost_ppm(ledger.authenticator(token).credential, answer) == ppm


def test_it_reads_one_time_codes_and_nothing_else() -> None:
    assert Hotp().reads(read_answer(["1"]))
    assert not Hotp().reads(read_answer(["A" * 20]))
    assert not Hotp().reads(Answer("password", ("123456",), Proof("au_1", 0, b"")))


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
def test_trap_19_imported_algorithms_are_the_ones_that_count(algorithm: str) -> None:
    ledger, token = a_token(algorithm=algorithm, digits=8)
    for other in {"SHA1", "SHA256", "SHA512"} - {algorithm}:
        stranger = Phone("", token.secret, "hotp", other, 8)  # type: ignore[arg-type]
        assert reason_of(ledger.verify(stranger.code_of(0))) == "wrong_code"
    assert isinstance(ledger.verify(token.press()), Verified)


def test_after_a_restore_ten_codes_are_used_and_at_the_end_of_the_counter_none_comes_back() -> None:
    ledger, token = a_token(counter=300)
    credential = ledger.authenticator(token).credential
    assert Hotp().read_credential(Hotp().after_restore(credential, ledger.clock.now())).counter == 310
    last = Hotp().new_credential(b"sealed", counter=2**63 - 3)
    assert Hotp().read_credential(Hotp().after_restore(last, 0)).counter == 2**63 - 1
