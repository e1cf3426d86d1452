import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.kit import RFC_SECRET, Phone, reason_of
from tests.ledger import Ledger

from twofold.core.decision import Outcome, Rejected, Verified
from twofold.core.factor import read_answer
from twofold.crypto.otp import step_at
from twofold.factors.totp import Totp, TotpCredential

DAY_S = 86_400
#: With the secret of RFC 6238 this step and the next one have the same code.
TWIN_STEP = 56_188_870


def a_totp(**parameters: object) -> tuple[Ledger, Phone]:
    ledger = Ledger.with_account()
    phone = ledger.import_phone(ledger.new_phone(**{"secret": RFC_SECRET, **parameters}))  # type: ignore[arg-type]
    return ledger, phone


def send(ledger: Ledger, phone: Phone, ahead: int, **options: object) -> Outcome:
    """The code of a phone whose clock is that many steps ahead."""
    return ledger.verify(phone.code(ledger.clock.now(), ahead=ahead), **options)


def sign_in(ledger: Ledger, phone: Phone, ahead: int) -> int:
    """A day later a success with that offset; the drift that is remembered after it."""
    ledger.clock.advance(DAY_S)
    assert isinstance(send(ledger, phone, ahead), Verified), ahead
    return ledger.totp(phone).drift


# The window and the remembered drift (RFC 6238 section 6).


def test_rfc6238_6_a_fresh_authenticator_has_no_drift() -> None:
    ledger, phone = a_totp()
    assert ledger.totp(phone).drift == 0


@pytest.mark.parametrize("side", [-1, 1])
def test_rfc6238_6_two_successes_in_a_row_on_one_side_move_the_window_by_one_step(side: int) -> None:
    ledger, phone = a_totp()
    assert [sign_in(ledger, phone, side) for _ in range(2)] == [0, side]
    assert [sign_in(ledger, phone, 2 * side) for _ in range(2)] == [side, 2 * side]


@pytest.mark.parametrize("side", [-1, 1])
def test_rfc6238_6_a_success_in_the_middle_or_on_the_other_side_begins_anew(side: int) -> None:
    ledger, phone = a_totp()
    assert [sign_in(ledger, phone, ahead) for ahead in (side, 0, side, -side, side, 0)] == [0] * 6


@pytest.mark.parametrize("side", [-1, 1])
def test_rfc6238_6_the_window_moves_two_steps_at_most_and_stays_three_candidates_wide(side: int) -> None:
    ledger, phone = a_totp()
    for offset in (1, 1, 2, 2, 3, 3, 3, 3):
        sign_in(ledger, phone, offset * side)
    assert ledger.totp(phone).drift == 2 * side
    ledger.clock.advance(DAY_S)
    assert reason_of(send(ledger, phone, 4 * side)) == "wrong_code"
    assert reason_of(send(ledger, phone, 0)) == "wrong_code"
    ledger.clock.advance(DAY_S)
    assert isinstance(send(ledger, phone, side), Verified)


def test_rfc6238_6_a_clock_that_drifts_slowly_is_followed_there_and_back() -> None:
    ledger, phone = a_totp()
    offsets = [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 2, 2, 1, 1, 1, 0, 0, 0, -1, -1, -2, -2, -3, -3, -2, -1, -1, 0, 0]
    drifts = [sign_in(ledger, phone, offset) for offset in offsets]
    assert max(drifts) == 2
    assert min(drifts) == -2
    assert drifts[-1] in (0, -1)


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=120), st.integers(0, 2**32))
def test_rfc6238_6_a_phone_whose_clock_wanders_by_one_step_within_two_is_always_let_in(
    moves: list[int], seed: int
) -> None:
    rng = random.Random(seed)
    ledger, phone = a_totp()
    offset = 0
    for move in moves:
        offset = max(-2, min(2, offset + move))
        # It wanders slowly: some sign-ins happen before it moves on.
        for _ in range(rng.randrange(4, 7)):
            ledger.clock.advance(120)
            outcome = send(ledger, phone, offset)
            assert isinstance(outcome, Verified)
            assert abs(ledger.totp(phone).drift) <= 2


def test_a_clock_that_was_set_right_at_once_is_found_again_after_two_codes() -> None:
    for drift in (-2, 2):
        ledger, phone = a_totp()
        for offset in (1, 1, 2, 2):
            sign_in(ledger, phone, offset * drift // 2)
        assert ledger.totp(phone).drift == drift
        # Phone or server was set to the right time: both agree now, and the remembered drift is what is wrong.
        ledger.clock.advance(DAY_S)
        for _ in range(2):
            ledger.clock.advance(60)
            refused = send(ledger, phone, 0)
            assert refused == Rejected("wrong_code"), "nothing is said about a clock that is right"
        ledger.clock.advance(60)
        assert isinstance(send(ledger, phone, 0), Verified)
        assert ledger.totp(phone).drift == 0


def test_a_clock_that_was_set_right_at_once_is_found_again_by_three_codes_in_a_row() -> None:
    for drift in (-2, 2):
        ledger, phone = a_totp()
        for offset in (1, 1, 2, 2):
            sign_in(ledger, phone, offset * drift // 2)
        ledger.clock.advance(DAY_S)
        assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)
        assert ledger.totp(phone).drift == 0
        ledger.clock.advance(60)
        assert isinstance(send(ledger, phone, 0), Verified)


# Hints, and the codes that were seen for them.


@pytest.mark.parametrize("ahead", [-20, -7, -2, 2, 5, 20])
def test_after_two_different_codes_with_one_offset_the_person_is_told_how_far_the_clock_is_off(ahead: int) -> None:
    ledger, phone = a_totp()
    assert send(ledger, phone, ahead) == Rejected("wrong_code")
    ledger.clock.advance(30)
    assert send(ledger, phone, ahead) == Rejected("clock_off", clock_offset_s=30 * ahead)
    assert ledger.account.lane.spent == pytest.approx(6 * 86_400, abs=100), "both are charged"
    assert ledger.authenticator(phone).failures == 2


@pytest.mark.parametrize(
    ("offsets", "waits"),
    [
        ((5, 6), (30,)),  # another offset
        ((5, 4), (30,)),  # the same code again
        ((5, 5), (0,)),  # within one step: the same code again
        ((5, 5), (601,)),  # too long ago
        ((5, 6, 5), (30, 30)),
        ((21, 21), (30,)),  # further than ten minutes away
    ],
)
def test_nothing_is_said_of_the_clock_after_anything_less(offsets: tuple[int, ...], waits: tuple[int, ...]) -> None:
    ledger, phone = a_totp()
    for offset, wait in zip(offsets, (*waits, 0), strict=True):
        outcome = send(ledger, phone, offset)
        assert isinstance(outcome, Rejected)
        assert outcome.reason != "clock_off"
        assert outcome.clock_offset_s is None
        ledger.clock.advance(wait)


def test_codes_of_decreasing_steps_or_a_clock_that_went_back_give_no_hint() -> None:
    ledger, phone = a_totp()
    send(ledger, phone, 5)
    ledger.clock.advance(-60)
    assert send(ledger, phone, 5) == Rejected("wrong_code")


def test_a_success_forgets_the_sighting() -> None:
    ledger, phone = a_totp()
    send(ledger, phone, -5)
    assert isinstance(send(ledger, phone, 0), Verified)
    ledger.clock.advance(30)
    assert reason_of(send(ledger, phone, -5)) == "code_already_used"
    assert ledger.totp(phone).sighting is None


def test_a_code_that_was_seen_before_its_time_is_never_accepted_when_its_time_comes() -> None:
    ledger, phone = a_totp()
    early = phone.code(ledger.clock.now(), ahead=10)
    assert reason_of(ledger.verify(early)) == "wrong_code"
    assert reason_of(ledger.verify(early)) == "code_already_used"
    ledger.clock.advance(300)
    assert phone.code(ledger.clock.now()) == early
    burnt = ledger.verify(early)
    assert burnt == Rejected("code_already_used", retry_after_s=None)
    three = [phone.code(ledger.clock.now(), ahead=ahead) for ahead in (-1, 0, 1)]
    assert reason_of(ledger.verify(*three)) == "wrong_code"
    ledger.clock.advance(1)
    assert isinstance(send(ledger, phone, 1), Verified)


def test_however_many_codes_were_seen_before_their_time_none_is_accepted_later() -> None:
    ledger, phone = a_totp()
    # Nineteen codes of a phone ten minutes ahead, sent from two browsers as fast as the delays allow.
    browser = ledger.verify(phone.code(ledger.clock.now()))
    assert isinstance(browser, Verified)
    seen = []
    for number in range(19):
        code = phone.code(ledger.clock.now(), ahead=20)
        outcome = ledger.verify(code, browser=browser.browser if number % 2 else None)
        if isinstance(outcome, Rejected):
            seen.append(code)
        ledger.clock.advance(30)
    assert len(seen) > 9
    end = ledger.clock.now_s + 600
    while ledger.clock.now_s < end:
        code = phone.code(ledger.clock.now())
        if code in seen:
            assert not isinstance(ledger.verify(code, authenticator_id=phone.id, browser=browser.browser), Verified)
        ledger.clock.advance(30)
    assert len(ledger.totp(phone).burnt) <= 41


def test_a_used_code_is_told_to_be_used_for_ten_minutes_and_is_wrong_after_that() -> None:
    ledger, phone = a_totp()
    code = phone.code(ledger.clock.now())
    assert isinstance(ledger.verify(code), Verified)
    ledger.clock.advance(600)
    assert ledger.verify(code) == Rejected("code_already_used")
    ledger.clock.advance(30)
    assert ledger.verify(code) == Rejected("wrong_code")


def test_burnt_steps_are_forgotten_when_a_later_one_is_accepted() -> None:
    ledger, phone = a_totp()
    send(ledger, phone, 5)
    send(ledger, phone, -5)
    now = step_at(ledger.clock.now() // 1_000_000, 30)
    assert ledger.totp(phone).burnt == (now + 5, now - 5)
    assert isinstance(send(ledger, phone, 0), Verified)
    assert ledger.totp(phone).burnt == (now + 5,)


# Numbers of digits, periods and algorithms.


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
@pytest.mark.parametrize("digits", [6, 7, 8])
@pytest.mark.parametrize("period_s", [15, 30, 60, 120])
def test_trap_19_imported_parameters_are_the_ones_that_count(algorithm: str, digits: int, period_s: int) -> None:
    ledger, phone = a_totp(algorithm=algorithm, digits=digits, period_s=period_s)
    for other in (a_totp(algorithm=a, digits=digits)[1] for a in {"SHA1", "SHA256", "SHA512"} - {algorithm}):
        other.period_s = period_s
        assert reason_of(ledger.verify(other.code(ledger.clock.now()))) == "wrong_code"
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_a_guess_costs_three_candidates_and_three_ppm_at_least() -> None:
    answer = read_answer(["123456"])
    for digits, cost in ((6, 3), (7, 3), (8, 3)):
        ledger, phone = a_totp(digits=digits)
        assert Totp().cost_ppm(ledger.authenticator(phone).credential, answer) == cost


def test_the_next_code_is_announced_from_the_phones_own_clock() -> None:
    ledger, phone = a_totp()
    for offset in (1, 1, 2, 2):
        sign_in(ledger, phone, offset)
    again = send(ledger, phone, 2)
    # The phone is two steps ahead: it shows the next code at the end of this step, not in a minute and a half.
    assert isinstance(again, Rejected)
    assert again.retry_after_s == 30 - int(ledger.clock.now_s) % 30


def test_two_codes_are_not_read_and_a_recovery_code_is_not_either() -> None:
    assert not Totp().reads(read_answer(["123456", "123456"]))
    assert not Totp().reads(read_answer(["A" * 20]))
    assert Totp().reads(read_answer(["123456"]))
    assert Totp().reads(read_answer(["123456"] * 3))


def test_three_codes_in_a_row_may_hold_the_same_code_twice() -> None:
    # "Consecutive" is about steps, not about different codes.
    ledger, phone = a_totp()
    step = TWIN_STEP
    assert phone.code_of(step) == phone.code_of(step + 1)
    ledger.clock.set((step + 1) * 30)
    codes = [phone.code_of(s) for s in (step - 1, step, step + 1)]
    assert isinstance(ledger.verify(*codes), Verified)
    assert ledger.totp(phone).last_step == step + 1


def test_a_code_that_two_steps_of_the_window_share_is_accepted_once() -> None:
    ledger, phone = a_totp()
    step = TWIN_STEP
    assert phone.code_of(step) == phone.code_of(step + 1)
    ledger.clock.set((step + 1) * 30)
    code = phone.code_of(step)
    assert isinstance(ledger.verify(code), Verified)
    assert ledger.totp(phone).last_step == step + 1
    assert reason_of(ledger.verify(code)) == "code_already_used"


# After a restore from a backup.


def restore(ledger: Ledger, phone: Phone) -> TotpCredential:
    """The credential after a restore now."""
    credential = ledger.authenticator(phone).credential
    return Totp().read_credential(Totp().after_restore(credential, ledger.clock.now()))


def test_after_a_restore_each_step_that_could_have_been_accepted_is_used_whatever_the_drift() -> None:
    ledger, phone = a_totp()
    step = step_at(ledger.clock.now_s, 30)
    after = restore(ledger, phone)
    assert after.last_step == step + 3, "two steps of drift and one of the window"
    assert after.accepted == tuple(range(step - 3, step + 4))
    slow, slow_phone = a_totp(period_s=120)
    assert restore(slow, slow_phone).last_step == step_at(slow.clock.now_s, 120) + 3


def test_after_a_restore_with_a_clock_that_is_behind_what_was_used_stays_used() -> None:
    ledger, phone = a_totp()
    sign_in(ledger, phone, 0)
    before = ledger.totp(phone)
    ledger.clock.advance(-DAY_S)
    assert restore(ledger, phone).last_step == before.last_step


def test_a_restore_forgets_sightings_and_keeps_drift_and_what_was_burnt_beyond_it() -> None:
    ledger, phone = a_totp()
    sign_in(ledger, phone, 1)
    sign_in(ledger, phone, 1)
    ledger.clock.advance(DAY_S)
    assert isinstance(send(ledger, phone, 3), Rejected)
    assert isinstance(send(ledger, phone, 15), Rejected)
    before = ledger.totp(phone)
    assert before.sighting is not None
    assert len(before.burnt) == 2
    after = restore(ledger, phone)
    assert (after.drift, after.sighting) == (before.drift, None)
    assert after.burnt == before.burnt[1:]
