import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.kit import RFC_SECRET, Ledger, Phone, reason_of, reasons_of, wrong_code

from twofold.core.account import KNOWN_BROWSERS_MAX
from twofold.core.attempt import Call
from twofold.core.decision import Confirmed, Message, Rejected, Stale, Throttled, Verified
from twofold.core.entropy import Seed
from twofold.core.factor import Answer, Proof, read_answer
from twofold.core.verification import Question, epoch_claim, verify_answer
from twofold.errors import DataKeyMissing, InvalidInput, Refused, Unavailable

VECTORS = Path(__file__).parent.parent / "vectors"
SEQUENCES: dict[str, Any] = json.loads((VECTORS / "rfc6238.json").read_text())["sequences"]
RESYNC: dict[str, Any] = json.loads((VECTORS / "hotp_resync.json").read_text())
DAY_S = 86_400


def an_import(factor: str, **parameters: Any) -> tuple[Ledger, Phone]:
    """An account with one authenticator that was imported, and never used."""
    ledger = Ledger.with_account()
    return ledger, ledger.import_phone(ledger.new_phone(factor, **parameters))


def refusal_of(ledger: Ledger, *codes: str, **options: Any) -> str:
    with pytest.raises(Refused) as refused:
        ledger.verify(*codes, **options)
    return refused.value.code


# Vectors.


@pytest.mark.parametrize("case", SEQUENCES["cases"], ids=lambda case: case["name"])
def test_rfc6238_5_2_a_sequence_of_codes_ends_as_the_vectors_say(case: dict[str, Any]) -> None:
    ledger = Ledger.with_account()
    secret = bytes.fromhex(SEQUENCES["secret_hex"])
    is_enrolling = any(step.get("action") == "confirm-enrolment" for step in case["steps"])
    ledger.clock.set(case["steps"][0]["now"])
    phone = ledger.enroll(secret=secret) if is_enrolling else ledger.import_phone(ledger.new_phone(secret=secret))
    for step in case["steps"]:
        # Delays are another matter (tested in test_throttle.py): each step is sent when it may be judged.
        ledger.clock.set(step["now"])
        if step.get("action") == "confirm-enrolment":
            outcome = ledger.confirm(phone, step["code"])
        else:
            outcome = ledger.verify(step["code"], browser=None)
        if isinstance(outcome, Throttled):
            reset_lane(ledger)
            outcome = ledger.verify(step["code"])
        assert isinstance(outcome, Verified | Confirmed | Rejected)
        assert isinstance(outcome, Rejected) == (step["expect"] == "reject"), step
        if step.get("why") == "replay" or "newer" in step.get("why", ""):
            assert reason_of(outcome) == "code_already_used"


def reset_lane(ledger: Ledger) -> None:
    ledger.record("password_changed")


REFUSED_FORMS = next(case["steps"] for case in SEQUENCES["cases"] if case["name"] == "input-forms-refused")


@pytest.mark.parametrize("step", REFUSED_FORMS, ids=lambda step: step["why"])
def test_trap_10_a_code_of_another_form_is_refused_and_counted_once(step: dict[str, Any]) -> None:
    ledger, phone = an_import("totp", secret=RFC_SECRET)
    ledger.clock.set(step["now"])
    before = ledger.account.lane.spent
    assert reason_of(ledger.verify(step["code"])) == "wrong_code"
    assert ledger.account.lane.failures == 1
    assert ledger.account.lane.spent - before == 3 * 86_400
    assert ledger.authenticator(phone).failures == 1
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


@pytest.mark.parametrize(
    "code", ["732303", "732 303", "732-303", " 7 3 2 3 0 3 ", "732303\n", "732303\r\n", "\t732303"], ids=ascii
)
def test_trap_11_spaces_hyphens_and_a_newline_do_no_harm(code: str) -> None:
    ledger, _ = an_import("totp", secret=RFC_SECRET)
    assert isinstance(ledger.verify(code), Verified)


@pytest.mark.parametrize("code", ["732\u200b303", "732\xa0303", "732\u2013303", "732303\v"], ids=ascii)
def test_trap_10_other_spaces_and_dashes_are_refused_like_any_wrong_code(code: str) -> None:
    ledger, _ = an_import("totp", secret=RFC_SECRET)
    assert reason_of(ledger.verify(code)) == "wrong_code"


@pytest.mark.parametrize("case", RESYNC["cases"], ids=lambda case: case["name"])
def test_rfc4226_7_4_look_ahead_and_resynchronization_end_as_the_vectors_say(case: dict[str, Any]) -> None:
    ledger, phone = an_import("hotp", secret=bytes.fromhex(RESYNC["secret_hex"]), counter=case["server_counter"])
    for submit in case["submits"]:
        answers = [[code] for code in submit.get("parallel", ())] or [submit.get("codes") or [submit["code"]]]
        outcomes = []
        for codes in answers:
            before = ledger.hotp(phone).counter
            outcomes.append(ledger.verify(*codes))
            if isinstance(outcomes[-1], Rejected):
                assert ledger.hotp(phone).counter == before, "trap 15: only a success moves the counter"
        right = sum(isinstance(outcome, Verified) for outcome in outcomes)
        match submit["expect"]:
            case "accept" | "exactly-one-accept":
                assert right == 1, submit
            case "reject" | "accept-if-auto-resync":
                assert right == 0, submit  # ours resynchronizes by codes sent together only
            case other:
                assert other == "either-no-crash"
        if submit["server_counter_after"] is not None and submit["expect"] != "accept-if-auto-resync":
            assert ledger.hotp(phone).counter == submit["server_counter_after"]


def test_trap_14_a_token_at_its_last_counter_ends_and_never_wraps() -> None:
    ledger, phone = an_import("hotp", counter=2**63 - 2)
    assert isinstance(ledger.verify(phone.press()), Verified)
    assert ledger.hotp(phone).counter == 2**63 - 1
    assert reason_of(ledger.verify(phone.press())) == "wrong_code"
    assert reason_of(ledger.verify(phone.code_of(0))) == "wrong_code"


# One code, once.


def test_asvs_6_5_1_a_code_is_accepted_once() -> None:
    ledger, phone = Ledger.with_totp()
    code = phone.code(ledger.clock.now())
    first = ledger.verify(code)
    assert isinstance(first, Verified)
    assert (first.factor, first.authenticator_id) == ("totp", phone.id)
    ledger.clock.advance(1)
    again = ledger.verify(code)
    assert again == Rejected("code_already_used", retry_after_s=29)
    ledger.clock.advance(29)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_trap_01_a_used_code_costs_nothing_causes_no_delay_and_is_recorded() -> None:
    ledger, phone = Ledger.with_totp()
    code = phone.code(ledger.clock.now())
    ledger.verify(code)
    lane = ledger.account.lane
    for _ in range(20):
        assert reason_of(ledger.verify(code)) == "code_already_used"
    assert ledger.account.lane == lane
    assert ledger.authenticator(phone).failures == 0
    assert ledger.rows[-1].kind == "code.refused"
    assert b'"reason":"code_already_used"' in (ledger.rows[-1].payload or b"")


def test_trap_02_an_older_code_of_the_window_is_refused_after_a_newer_one() -> None:
    ledger, phone = Ledger.with_totp()
    now = ledger.clock.now()
    assert isinstance(ledger.verify(phone.code(now, ahead=1)), Verified)
    assert reasons_of([ledger.verify(phone.code(now, ahead=ahead)) for ahead in (0, -1)]) == ["code_already_used"] * 2


def test_trap_04_the_code_that_confirmed_the_enrollment_is_used_up_by_it() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    code = phone.code(ledger.clock.now())
    assert isinstance(ledger.confirm(phone, code), Confirmed)
    assert reason_of(ledger.verify(code)) == "code_already_used"
    ledger.clock.advance(30)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_trap_05_a_code_of_equal_seeds_on_one_account_is_used_up_in_all_of_them() -> None:
    ledger = Ledger.with_account()
    first, second = (ledger.import_phone(ledger.new_phone(secret=RFC_SECRET)) for _ in range(2))
    code = first.code(ledger.clock.now())
    assert isinstance(ledger.verify(code), Verified)
    assert reason_of(ledger.verify(code, authenticator_id=second.id)) == "code_already_used"
    assert reason_of(ledger.verify(code, authenticator_id=first.id)) == "code_already_used"


def test_trap_05_a_code_used_in_one_of_two_equal_authenticators_is_not_right_for_the_other_when_none_is_named() -> None:
    ledger = Ledger.with_account()
    first, _ = (ledger.import_phone(ledger.new_phone(secret=RFC_SECRET)) for _ in range(2))
    code = first.code(ledger.clock.now())
    assert isinstance(ledger.verify(code, authenticator_id=first.id), Verified)
    assert reason_of(ledger.verify(code)) == "code_already_used"


def test_trap_06_two_steps_away_is_outside_the_window_and_one_is_inside() -> None:
    ledger, phone = Ledger.with_totp()
    for ahead in (-2, 2):
        assert reason_of(ledger.verify(phone.code(ledger.clock.now(), ahead=ahead))) == "wrong_code"
    for ahead in (-1, 1):
        ledger.clock.advance(300)
        assert isinstance(ledger.verify(phone.code(ledger.clock.now(), ahead=ahead)), Verified)


def test_trap_07_after_the_servers_clock_went_back_used_codes_stay_used() -> None:
    ledger, phone = Ledger.with_totp()
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)
    ledger.clock.advance(-600)
    outcome = ledger.verify(phone.code(ledger.clock.now()))
    assert reason_of(outcome) == "code_already_used"
    assert isinstance(outcome, Rejected)
    assert outcome.retry_after_s == 630


def test_trap_09_leading_zeros_are_part_of_the_code() -> None:
    ledger, phone = Ledger.with_totp()
    while not (code := phone.code(ledger.clock.now())).startswith("0"):
        ledger.clock.advance(30)
    assert reason_of(ledger.verify(code.lstrip("0"))) == "wrong_code"
    assert isinstance(ledger.verify(code), Verified)


def test_trap_16_resynchronization_is_charged_like_a_guess_and_needs_two_codes_in_order() -> None:
    ledger, phone = an_import("hotp")
    codes = [phone.code_of(40), phone.code_of(41)]
    assert reason_of(ledger.verify(*reversed(codes))) == "wrong_code"
    assert ledger.account.lane.spent == 3 * 86_400
    assert ledger.authenticator(phone).failures == 1
    assert isinstance(ledger.verify(*codes), Verified)
    assert ledger.hotp(phone).counter == 42


def test_trap_16_two_codes_mean_nothing_to_a_totp_and_are_counted_once() -> None:
    ledger, phone = Ledger.with_totp()
    now = ledger.clock.now()
    assert reason_of(ledger.verify(phone.code(now, ahead=-1), phone.code(now))) == "wrong_code"
    assert ledger.account.lane.failures == 1
    assert ledger.authenticator(phone).failures == 0
    assert isinstance(ledger.verify(phone.code(now)), Verified)


def test_a_hotp_code_within_the_look_ahead_is_accepted_and_the_skipped_ones_are_spent() -> None:
    ledger, phone = an_import("hotp")
    assert isinstance(ledger.verify(phone.code_of(9)), Verified)
    assert reasons_of([ledger.verify(phone.code_of(counter)) for counter in (9, 3)]) == ["code_already_used"] * 2
    assert isinstance(ledger.verify(phone.code_of(10)), Verified)


def test_trap_13_a_seed_that_is_empty_lets_nobody_in() -> None:
    for factor in ("totp", "hotp"):
        ledger, phone = an_import(factor, secret=b"")
        for code in ("", phone.code(ledger.clock.now()), phone.code_of(0)):
            assert reason_of(ledger.verify(code)) == "wrong_code"
            ledger.clock.advance(7 * DAY_S)


def test_trap_29_guesses_from_many_addresses_and_browsers_draw_on_one_budget() -> None:
    ledger, phone = Ledger.with_totp()
    judged = 0
    for number in range(200):
        outcome = ledger.verify(ledger.wrong_code(phone), ip=f"192.0.2.{number}", browser=f"browser {number}")
        judged += isinstance(outcome, Rejected)
        ledger.clock.advance(60)
    assert judged == 10


def test_trap_31_switching_the_factor_gives_no_new_tries() -> None:
    ledger, totp = Ledger.with_totp()
    hotp = ledger.import_phone(ledger.new_phone("hotp"))
    charged = 0
    for _ in range(60):
        for phone, cost in ((totp, 3), (hotp, 10)):
            outcome = ledger.verify(wrong_code(phone, ledger.clock.now()), authenticator_id=phone.id)
            charged += cost * isinstance(outcome, Rejected)
        ledger.verify("0000-0000-0000-0000-0000")
        ledger.clock.advance(60)
    assert 20 < charged <= 30


# Who may judge the answer.


def test_an_answer_that_names_nobody_is_tried_against_every_active_one_time_code() -> None:
    ledger, totp = Ledger.with_totp()
    hotp = ledger.import_phone(ledger.new_phone("hotp"))
    by_totp = ledger.verify(totp.code(ledger.clock.now()))
    by_hotp = ledger.verify(hotp.press())
    assert isinstance(by_totp, Verified)
    assert isinstance(by_hotp, Verified)
    assert (by_totp.authenticator_id, by_hotp.authenticator_id) == (totp.id, hotp.id)
    assert (by_hotp.factor, by_hotp.recovery_codes_left) == ("hotp", None)


def test_an_answer_for_one_authenticator_is_not_tried_against_another() -> None:
    ledger, totp = Ledger.with_totp()
    hotp = ledger.import_phone(ledger.new_phone("hotp"))
    code = totp.code(ledger.clock.now())
    assert reason_of(ledger.verify(code, authenticator_id=hotp.id)) == "wrong_code"
    assert reason_of(ledger.verify(code, factor="hotp")) == "wrong_code"
    assert ledger.account.lane.spent == 2 * 10 * 86_400, "only the HOTP was tried"
    assert isinstance(ledger.verify(code, authenticator_id=totp.id, factor="totp"), Verified)


def test_each_authenticator_tried_is_charged() -> None:
    ledger, totp = Ledger.with_totp()
    other, hotp = (ledger.import_phone(ledger.new_phone(factor)) for factor in ("totp", "hotp"))
    code = next(c for c in map(str, range(100_000, 999_999)) if not fits_any(ledger, c, [totp, other, hotp]))
    assert reason_of(ledger.verify(code)) == "wrong_code"
    assert ledger.account.lane.spent == (3 + 3 + 10) * 86_400


def fits_any(ledger: Ledger, code: str, phones: list[Phone]) -> bool:
    now = ledger.clock.now()
    totps, hotps = ([p for p in phones if p.factor == factor] for factor in ("totp", "hotp"))
    near = {p.code(now, ahead=ahead) for p in totps for ahead in range(-21, 22)}
    return code in near | {p.code_of(counter) for p in hotps for counter in range(200)}


def test_a_factor_that_the_account_has_not_is_named_as_missing_and_nothing_is_charged() -> None:
    ledger, phone = Ledger.with_totp()
    for factor in ("hotp", "webauthn", "nonsense"):
        assert refusal_of(ledger, phone.code(ledger.clock.now()), factor=factor) == "no_factor"
    assert ledger.account.lane.spent == 0
    assert isinstance(ledger.verify(phone.code(ledger.clock.now()), factor="totp"), Verified)


def test_an_authenticator_whose_factor_is_not_installed_is_passed_over() -> None:
    ledger, phone = Ledger.with_totp()
    hotp = ledger.import_phone(ledger.new_phone("hotp"))
    ledger.factors = {name: factor for name, factor in ledger.factors.items() if name != "hotp"}
    assert reason_of(ledger.verify(hotp.press())) == "wrong_code"
    assert ledger.account.lane.spent == 3 * 86_400
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_an_authenticator_that_does_not_exist_is_not_found_and_one_that_does_is() -> None:
    ledger, phone = Ledger.with_totp()
    code = phone.code(ledger.clock.now())
    assert refusal_of(ledger, code, authenticator_id="au_nothing") == "not_found"
    assert isinstance(ledger.verify(code, authenticator_id=phone.id), Verified)


def test_an_account_that_does_not_exist_is_not_found() -> None:
    assert refusal_of(Ledger(), "123456") == "not_found"


def test_an_account_without_a_second_factor_says_so() -> None:
    ledger = Ledger.with_account()
    assert refusal_of(ledger, "123456") == "no_factor"
    assert refusal_of(ledger, "AAAA-BBBB-CCCC-DDDD-EEEE") == "no_factor"


def test_trap_51_a_pending_enrollment_neither_satisfies_nor_blocks_a_sign_in() -> None:
    ledger = Ledger.with_account()
    pending = ledger.enroll()
    assert refusal_of(ledger, pending.code(ledger.clock.now())) == "no_factor"
    assert refusal_of(ledger, pending.code(ledger.clock.now()), authenticator_id=pending.id) == "no_factor"

    ledger, phone = Ledger.with_totp()
    pending = ledger.enroll(step_up=ledger.receipt(phone))
    ledger.clock.advance(30)
    code = pending.code(ledger.clock.now())
    assert reason_of(ledger.verify(code)) == "wrong_code"
    assert refusal_of(ledger, code, authenticator_id=pending.id) == "no_factor"
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_a_disabled_account_lets_nobody_in_until_it_is_enabled() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.record("disabled")
    assert refusal_of(ledger, phone.code(ledger.clock.now())) == "disabled"
    assert refusal_of(ledger, ledger.recovery_codes[0]) == "disabled"
    ledger.record("enabled")
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


@pytest.mark.parametrize("codes", [[], ["1"] * 4], ids=len)
def test_a_number_of_codes_that_nobody_takes_is_invalid(codes: list[str]) -> None:
    with pytest.raises(InvalidInput) as invalid:
        read_answer(codes)
    assert invalid.value.field == "codes"


def test_twenty_letters_and_digits_are_a_recovery_code_in_any_case_and_with_lookalikes() -> None:
    assert read_answer(["oIl2-abcd-efgh-jkmn-pqrs"]) == Answer("recovery", ("0112ABCDEFGHJKMNPQRS",))
    assert read_answer(["U" * 20]).kind == "otp", "U is no letter of Crockford's alphabet"
    assert read_answer(["ß" * 20]).kind == "otp"
    assert read_answer(["a" * 19]).kind == "otp"
    assert read_answer(["a" * 20, "a" * 20]).kind == "otp"


# Known browsers.


def test_a_full_sign_in_makes_the_browser_known_and_rotates_its_value_each_time() -> None:
    ledger, phone = Ledger.with_totp()
    first = sign_in(ledger, phone)
    second = sign_in(ledger, phone, browser=first)
    assert first != second
    assert len(ledger.account.known_browsers) == 1
    assert ledger.account.known_browsers[0].returned
    third = sign_in(ledger, phone, browser=first)  # an old value is merely unknown
    assert len(ledger.account.known_browsers) == 2
    assert len({first, second, third}) == 3


def sign_in(ledger: Ledger, phone: Phone, **options: Any) -> str:
    outcome = ledger.verify(ledger.next_code(phone), **options)
    assert isinstance(outcome, Verified)
    assert outcome.browser is not None
    return outcome.browser


def test_a_known_browser_has_a_budget_and_a_delay_of_its_own() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    exhaust(ledger, phone)
    ledger.clock.advance(30)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now()), browser=browser), Verified)


def exhaust(ledger: Ledger, phone: Phone, **options: Any) -> Throttled:
    """Guess until the budget is gone, waiting out the delays."""
    for _ in range(40):
        outcome = ledger.verify(ledger.wrong_code(phone), authenticator_id=phone.id, **options)
        if isinstance(outcome, Throttled):
            if outcome.retry_after_s > 60:
                return outcome
            ledger.clock.advance(outcome.retry_after_s)
    raise AssertionError("the budget never ends")


def test_a_known_browser_that_used_up_its_budget_counts_as_new_and_is_known_again_after_a_success() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    for _ in range(10):
        outcome = ledger.verify(ledger.wrong_code(phone), browser=browser)
        while isinstance(outcome, Throttled):
            ledger.clock.advance(outcome.retry_after_s)
            outcome = ledger.verify(ledger.wrong_code(phone), browser=browser)
    assert ledger.account.lane.spent == 0
    assert ledger.account.known_browsers[0].lane.spent == 30 * 86_400
    ledger.clock.advance(60)
    ledger.verify(ledger.wrong_code(phone), browser=browser)
    assert ledger.account.lane.spent == 3 * 86_400, "from now on it draws on the lane of new browsers"
    renewed = sign_in(ledger, phone, browser=browser)
    ledger.verify(ledger.wrong_code(phone), browser=renewed)
    assert ledger.account.lane.spent == pytest.approx(3 * 86_400, abs=200)


def test_a_success_in_a_known_browser_refills_its_budget_and_leaves_that_of_new_browsers_alone() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    ledger.verify(ledger.wrong_code(phone))
    ledger.verify(ledger.wrong_code(phone), browser=browser)
    spent = ledger.account.lane
    assert ledger.account.known_browsers[0].lane.spent == 3 * 86_400
    sign_in(ledger, phone, browser=browser)
    assert ledger.account.known_browsers[0].lane.spent == 0
    assert ledger.account.lane == spent


def test_a_known_browser_without_budget_for_this_answer_counts_as_new_and_is_not_put_off_for_days() -> None:
    ledger = Ledger.with_account()
    totp, hotp = (ledger.import_phone(ledger.new_phone(factor)) for factor in ("totp", "hotp"))
    browser = sign_in(ledger, totp)
    for phone in (totp, hotp, hotp):
        ledger.verify(wrong_code(phone, ledger.clock.now()), authenticator_id=phone.id, browser=browser)
    ledger.clock.advance(60)
    # 23 ppm are spent: a TOTP's 3 are left, a HOTP's 10 are not, and nothing but a success refills this lane.
    outcome = ledger.verify(hotp.press(), authenticator_id=hotp.id, browser=browser)
    assert isinstance(outcome, Verified)


def test_a_success_in_a_new_browser_ends_its_delay_and_refills_nothing() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(2):
        ledger.verify(ledger.wrong_code(phone))
    sign_in(ledger, phone)
    assert (ledger.account.lane.failures, ledger.account.lane.spent) == (0, pytest.approx(6 * 86_400, abs=200))


def test_at_twenty_known_browsers_the_oldest_that_never_came_back_makes_room() -> None:
    ledger, phone = Ledger.with_totp()
    mine = sign_in(ledger, phone, browser=sign_in(ledger, phone))
    strays = [sign_in(ledger, phone) for _ in range(KNOWN_BROWSERS_MAX + 5)]
    assert len(ledger.account.known_browsers) == KNOWN_BROWSERS_MAX
    known = len(ledger.account.known_browsers)
    sign_in(ledger, phone, browser=mine)
    assert len(ledger.account.known_browsers) == known, "the one that came back is still known"
    exhaust(ledger, phone)
    ledger.clock.advance(60)
    code = ledger.next_code(phone)
    assert isinstance(ledger.verify(code, browser=strays[0]), Throttled)
    assert isinstance(ledger.verify(code, browser=strays[-1]), Verified)


def test_a_browser_that_was_not_seen_for_180_days_is_unknown() -> None:
    for days, expected in ((179.9, 1), (180.1, 2)):
        ledger, phone = Ledger.with_totp()
        browser = sign_in(ledger, phone)
        ledger.clock.advance(days * DAY_S)
        sign_in(ledger, phone, browser=browser)
        assert len(ledger.account.known_browsers) == expected


def test_trap_45_the_value_of_one_persons_browser_means_nothing_on_another_account() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    other, others_phone = Ledger.with_totp("bob", seed=1)
    theirs = sign_in(other, others_phone)
    exhaust(other, others_phone)
    other.clock.advance(60)
    code = other.next_code(others_phone)
    assert isinstance(other.verify(code, browser=browser), Throttled)
    assert isinstance(other.verify(code, browser=theirs), Verified)


def test_nothing_of_a_browsers_value_is_in_the_document() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    assert browser.encode() not in ledger.codec.dump(ledger.account, 1).document


# Three codes in a row.


def test_three_codes_in_a_row_open_an_empty_lane_and_a_delayed_one() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(3):
        ledger.verify(ledger.wrong_code(phone))
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)
    exhaust(ledger, phone)
    ledger.clock.advance(300)
    throttled = ledger.verify(phone.code(ledger.clock.now()))
    assert isinstance(throttled, Throttled)
    assert "three_codes" in throttled.ways
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


@pytest.mark.parametrize("aheads", [(-3, -2, -1), (-2, -1, 0), (-1, 0, 1)], ids=str)
def test_the_last_of_three_codes_lies_within_one_step(aheads: tuple[int, ...]) -> None:
    ledger, phone = Ledger.with_totp()
    codes = [phone.code(ledger.clock.now(), ahead=ahead) for ahead in aheads]
    assert isinstance(ledger.verify(*codes), Verified)
    assert reason_of(ledger.verify(codes[-1])) == "code_already_used"


@pytest.mark.parametrize(
    "aheads", [(-1, -2, 0), (-2, -2, 0), (0, 0, 0), (-2, 0, 1), (-8, -7, -6), (4, 5, 6), (0, -1, -2)], ids=str
)
def test_three_codes_that_are_not_consecutive_in_order_and_of_now_are_wrong_and_burn_nothing(
    aheads: tuple[int, ...],
) -> None:
    ledger, phone = Ledger.with_totp()
    now = ledger.clock.now()
    codes = [phone.code(now, ahead=ahead) for ahead in aheads]
    assert reason_of(ledger.verify(*codes)) == "wrong_code"
    assert (ledger.account.lane.spent, ledger.account.lane.failures) == (0, 0)
    assert ledger.authenticator(phone).failures == 0
    assert isinstance(ledger.verify(*phone.three(now)), Verified)


def test_all_of_three_codes_must_be_later_than_the_last_used_step() -> None:
    ledger, phone = Ledger.with_totp()
    assert isinstance(ledger.verify(phone.code(ledger.clock.now(), ahead=-1)), Verified)
    for _ in range(2):
        assert reason_of(ledger.verify(*phone.three(ledger.clock.now()))) == "wrong_code"
        ledger.clock.advance(30)
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


def test_three_hotp_codes_in_a_row_are_found_within_a_hundred() -> None:
    ledger, phone = an_import("hotp")
    assert reason_of(ledger.verify(*(phone.code_of(counter) for counter in (100, 101, 102)))) == "wrong_code"
    assert isinstance(ledger.verify(*(phone.code_of(counter) for counter in (99, 100, 101))), Verified)
    assert ledger.hotp(phone).counter == 102


def test_the_strict_profile_takes_no_three_codes_and_does_not_offer_them() -> None:
    ledger, phone = Ledger.with_totp()
    with pytest.raises(InvalidInput):
        ledger.verify(*phone.three(ledger.clock.now()), allow_three_codes=False)
    throttled = exhaust(ledger, phone, allow_three_codes=False)
    assert throttled.ways == ("recovery_codes",)
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


def test_wrong_answers_that_cost_nothing_leave_one_event_a_minute() -> None:
    ledger, phone = Ledger.with_totp()
    before = len(ledger.rows)
    for _ in range(30):
        assert reason_of(ledger.verify("000000", "000000", "000000")) == "wrong_code"
        ledger.clock.advance(1)
    assert len(ledger.rows) == before + 1
    ledger.clock.advance(60)
    ledger.verify("000000", "000000", "000000")
    assert len(ledger.rows) == before + 2
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)


def test_the_ways_that_stay_open_are_those_that_the_account_has() -> None:
    ledger, phone = Ledger.with_totp()
    assert exhaust(ledger, phone).ways == ("recovery_codes", "three_codes")
    ledger.clock.advance(300)
    browser = ledger.verify(*phone.three(ledger.clock.now()))
    assert isinstance(browser, Verified)
    throttled = ledger.verify(phone.code(ledger.clock.now(), ahead=1))
    assert isinstance(throttled, Throttled)
    assert throttled.ways == ("known_browser", "recovery_codes", "three_codes")
    for _ in range(3):
        ledger.verify(ledger.wrong_code(phone), browser=browser.browser)
    delayed = ledger.verify(ledger.wrong_code(phone), browser=browser.browser)
    assert isinstance(delayed, Throttled)
    assert delayed.ways == ("recovery_codes", "three_codes")


def test_a_passkey_is_named_as_a_way_where_there_is_one() -> None:
    ledger, phone = Ledger.with_totp()
    passkey = msgspec.structs.replace(ledger.authenticator(phone), id="au_key", factor="webauthn")
    account = msgspec.structs.replace(ledger.account, authenticators=(*ledger.account.authenticators, passkey))
    ledger.standing = msgspec.structs.replace(ledger.standing, state=account)
    assert exhaust(ledger, phone).ways == ("webauthn", "recovery_codes", "three_codes")


# Recovery codes.


def test_a_recovery_code_is_accepted_once_and_says_how_many_are_left() -> None:
    ledger, phone = Ledger.with_totp()
    outcome = ledger.verify(ledger.recovery_codes[3])
    assert isinstance(outcome, Verified)
    assert (outcome.factor, outcome.recovery_codes_left) == ("recovery_codes", 9)
    assert ledger.notices[-1] == "recovery_code.used"
    assert reason_of(ledger.verify(ledger.recovery_codes[3])) == "code_already_used"
    assert isinstance(ledger.verify(ledger.recovery_codes[4]), Verified)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified), "a recovery code leaves the rest alone"


def test_trap_26_a_recovery_code_may_be_typed_in_lower_case_without_hyphens_and_with_lookalikes() -> None:
    ledger, _ = Ledger.with_totp()
    for code, write in zip(ledger.recovery_codes, (str.lower, undashed, spaced, lookalike), strict=False):
        assert isinstance(ledger.verify(write(code)), Verified), code


def undashed(code: str) -> str:
    return code.replace("-", "")


def spaced(code: str) -> str:
    return f" {code.replace('-', ' ')}\n"


def lookalike(code: str) -> str:
    return code.replace("0", "o").replace("1", "l")


def test_nothing_that_is_wrong_elsewhere_stops_a_recovery_code() -> None:
    ledger, phone = Ledger.with_totp()
    exhaust(ledger, phone)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)


def test_trap_25_five_wrong_secrets_under_one_locator_delay_that_locator_alone() -> None:
    ledger, phone = Ledger.with_totp()
    locator = ledger.recovery_codes[0][:4]
    for number in range(5):
        assert reason_of(ledger.verify(f"{locator}-0000-0000-0000-000{number}")) == "wrong_code"
    held = ledger.verify(ledger.recovery_codes[0])
    assert held == Throttled(1, ("recovery_codes", "three_codes"))
    assert isinstance(ledger.verify(ledger.recovery_codes[1]), Verified)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)
    ledger.clock.advance(1)
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)


def test_trap_22_a_proof_for_another_version_of_the_credential_is_stale_and_costs_nothing() -> None:
    ledger, _ = Ledger.with_totp()
    question = Question(ledger.prove(read_answer([ledger.recovery_codes[0]])))
    ledger.verify(ledger.recovery_codes[1])
    before = ledger.account

    def decide(account: Any) -> Any:
        return verify_answer(account, question, ledger.call(), factors=ledger.factors, seals=ledger.seals)

    assert ledger.write(decide) == Stale()
    assert ledger.account == before
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)


def test_a_recovery_code_on_an_account_that_has_none_is_wrong() -> None:
    ledger, _ = an_import("totp")
    assert reason_of(ledger.verify("0000-0000-0000-0000-0000")) == "wrong_code"
    assert ledger.account.lane.failures == 0


# Passwords.


def test_a_password_is_judged_by_the_password_alone_and_makes_no_browser_known() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    outcome = ledger.verify(password="correct horse battery")
    assert outcome == Verified("password", next(a.id for a in ledger.account.authenticators if a.factor == "password"))
    assert ledger.account.known_browsers == ()
    assert ledger.rows[-1].kind == "password.accepted"
    assert reason_of(ledger.verify(password="another horse battery")) == "wrong_password"
    assert ledger.rows[-1].kind == "password.refused"
    assert reason_of(ledger.verify("correct horse battery")) == "wrong_code", "a password is no code"
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_trap_30_the_right_password_resets_no_counter_of_the_second_factor() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    ledger.verify(ledger.wrong_code(phone))
    lane = ledger.account.lane
    ledger.verify(password="correct horse battery")
    assert ledger.account.lane == lane
    assert ledger.authenticator(phone).failures == 1
    ledger.verify(phone.code(ledger.clock.now()))
    assert (ledger.account.lane.failures, ledger.authenticator(phone).failures) == (0, 0)


def test_trap_35_wrong_passwords_count_nowhere_against_the_second_factor() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    before = ledger.account.lane
    for number in range(200):
        assert reason_of(ledger.verify(password=f"wrong horse {number}")) == "wrong_password"
    assert ledger.account.lane == before
    assert all(a.failures == 0 for a in ledger.account.authenticators)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


# A hundred failures in a row.


def fail_until_disabled(ledger: Ledger, phone: Phone, most: int = 100) -> int:
    """Wrong codes over months, from a new browser each; how many there were."""
    for number in range(most):
        outcome = ledger.verify(ledger.wrong_code(phone), authenticator_id=phone.id)
        while isinstance(outcome, Throttled):
            ledger.clock.advance(outcome.retry_after_s)
            outcome = ledger.verify(ledger.wrong_code(phone), authenticator_id=phone.id)
        assert isinstance(outcome, Rejected)
        if ledger.authenticator(phone).state == "disabled":
            return number + 1
    return most


def test_nist_3_2_2_a_hundred_failures_in_a_row_disable_the_authenticator_and_its_right_code_is_refused() -> None:
    ledger, phone = Ledger.with_totp()
    begin_s = ledger.clock.now_s
    assert fail_until_disabled(ledger, phone) == 100
    assert ledger.clock.now_s - begin_s > 134 * DAY_S
    assert "authenticator.disabled" in ledger.kinds
    assert "authenticator.disabled" in ledger.notices
    assert ledger.account.state == "disabled"
    ledger.clock.advance(60 * DAY_S)
    assert refusal_of(ledger, phone.code(ledger.clock.now())) == "disabled"
    assert refusal_of(ledger, *phone.three(ledger.clock.now())) == "disabled"
    assert refusal_of(ledger, phone.code(ledger.clock.now()), authenticator_id=phone.id) == "disabled"


def test_trap_34_ninety_nine_failures_and_a_success_begin_the_count_anew() -> None:
    ledger, phone = Ledger.with_totp()
    assert fail_until_disabled(ledger, phone, 99) == 99
    assert ledger.authenticator(phone).failures == 99
    ledger.clock.advance(DAY_S)
    assert isinstance(ledger.verify(*phone.three(ledger.clock.now())), Verified)
    assert ledger.authenticator(phone).failures == 0
    assert fail_until_disabled(ledger, phone, 99) == 99
    assert ledger.authenticator(phone).state == "active"


def test_nist_3_2_2_a_success_resets_only_the_count_of_the_authenticator_that_was_used() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.import_phone(ledger.new_phone())
    for target in (phone, other):
        ledger.verify(ledger.wrong_code(target), authenticator_id=target.id)
    ledger.clock.advance(DAY_S)
    ledger.verify(phone.code(ledger.clock.now()), authenticator_id=phone.id)
    assert (ledger.authenticator(phone).failures, ledger.authenticator(other).failures) == (0, 1)


def test_an_answer_that_names_no_authenticator_counts_towards_the_one_used_last() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.import_phone(ledger.new_phone())
    code = next(c for c in map(str, range(100_000, 999_999)) if not fits_any(ledger, c, [phone, other]))
    ledger.verify(code)
    assert (ledger.authenticator(phone).failures, ledger.authenticator(other).failures) == (1, 0)
    ledger.verify(other.code(ledger.clock.now()))
    ledger.verify(code)
    assert (ledger.authenticator(phone).failures, ledger.authenticator(other).failures) == (1, 1)


def test_failed_three_code_answers_and_recovery_codes_disable_nothing() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(150):
        ledger.verify("000000", "000000", "000000")
        ledger.verify("0000-0000-0000-0000-0000")
    assert all(a.failures == 0 for a in ledger.account.authenticators)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_the_failures_of_known_browsers_count_too() -> None:
    ledger, phone = Ledger.with_totp()
    browser = sign_in(ledger, phone)
    ledger.verify(ledger.wrong_code(phone), browser=browser)
    ledger.verify(ledger.wrong_code(phone))
    assert ledger.authenticator(phone).failures == 2


def test_a_recovery_code_still_works_on_an_account_whose_totp_was_disabled() -> None:
    ledger, phone = Ledger.with_totp()
    fail_until_disabled(ledger, phone)
    outcome = ledger.verify(ledger.recovery_codes[0])
    assert isinstance(outcome, Verified)
    assert outcome.factor == "recovery_codes"
    assert ledger.authenticator(phone).state == "disabled"


def test_another_authenticator_still_works_when_one_was_disabled() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.import_phone(ledger.new_phone())
    fail_until_disabled(ledger, phone)
    ledger.clock.advance(60 * DAY_S)
    assert refusal_of(ledger, phone.code(ledger.clock.now()), authenticator_id=phone.id) == "disabled"
    assert reason_of(ledger.verify(phone.code(ledger.clock.now()))) == "wrong_code"
    ledger.clock.advance(60)
    assert isinstance(ledger.verify(other.code(ledger.clock.now())), Verified)


# Notices.


def test_asvs_6_3_5_five_wrong_codes_in_a_row_send_one_notice() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(9):
        outcome = ledger.verify(ledger.wrong_code(phone), ip="192.0.2.1")
        while isinstance(outcome, Throttled):
            ledger.clock.advance(outcome.retry_after_s)
            outcome = ledger.verify(ledger.wrong_code(phone), ip="192.0.2.1")
    notices = [e for e in ledger.effects if isinstance(e, Message) and e.kind == "codes.refused"]
    assert [notice.payload for notice in notices] == [{"failures": 5, "ip": "192.0.2.1"}]


def test_when_the_budget_of_new_browsers_is_gone_the_person_is_told_that_someone_is_guessing() -> None:
    ledger, phone = Ledger.with_totp()
    exhaust(ledger, phone)
    assert ledger.kinds.count("browsers.guessing") == 1
    assert ledger.notices.count("browsers.guessing") == 1


def test_the_next_judged_answer_tells_how_many_left_no_event() -> None:
    ledger, phone = Ledger.with_totp()
    call = Call(ledger.clock.now(), Seed(bytes(32)), unrecorded_before=7)
    question = Question(read_answer([phone.code(ledger.clock.now())]))
    ledger.write(lambda account: verify_answer(account, question, call, factors=ledger.factors, seals=ledger.seals))
    assert b'"unrecorded_before":7' in (ledger.rows[-1].payload or b"")


def test_an_event_says_who_where_and_how_and_never_what_was_typed() -> None:
    ledger, phone = Ledger.with_totp()
    wrong = "13579-24680"
    ledger.verify(wrong, ip="192.0.2.7", user_agent="x" * 500, application="shop", purpose="pay")
    payload = msgspec.json.decode(ledger.rows[-1].payload or b"")
    assert payload == {
        "factor": "totp",
        "authenticator": phone.id,
        "reason": "wrong_code",
        "browser": "new",
        "purpose": "pay",
        "application": "shop",
        "ip": "192.0.2.7",
        "user_agent": "x" * 256,
    }
    assert wrong not in str(ledger.rows)


def test_what_is_turned_away_writes_nothing() -> None:
    ledger, phone = Ledger.with_totp()
    exhaust(ledger, phone)
    before = ledger.account, len(ledger.rows), len(ledger.effects)
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)
    assert (ledger.account, len(ledger.rows), len(ledger.effects)) == before
    assert ledger.last is not None
    assert ledger.last.row is None


# Seals that do not open.


def test_a_seed_that_cannot_be_opened_fails_closed_and_says_unavailable() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.seals.gone.add("data-1")
    with pytest.raises(Unavailable):
        ledger.verify(phone.code(ledger.clock.now()))
    with pytest.raises(Unavailable):
        ledger.verify(ledger.wrong_code(phone))
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified), "what needs no seal still works"
    ledger.seals.gone.clear()
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_an_authenticator_that_cannot_be_opened_does_not_stop_the_others() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.seals.rotate()
    other = ledger.import_phone(ledger.new_phone())
    ledger.seals.gone.add("data-1")
    with pytest.raises(Unavailable):
        ledger.verify(phone.code(ledger.clock.now()), authenticator_id=phone.id)
    assert reason_of(ledger.verify(phone.code(ledger.clock.now()))) == "wrong_code"
    assert isinstance(ledger.verify(other.code(ledger.clock.now())), Verified)


def test_a_data_key_that_is_not_in_memory_is_asked_for() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.seals.missing.add("data-1")
    with pytest.raises(DataKeyMissing) as missing:
        ledger.verify(phone.code(ledger.clock.now()))
    assert missing.value.key_id == "data-1"
    ledger.seals.missing.clear()
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_trap_74_seeds_swapped_between_two_authenticators_do_not_open() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.import_phone(ledger.new_phone())
    first, second = ledger.authenticator(phone), ledger.authenticator(other)
    swapped = {
        first.id: msgspec.structs.replace(first, credential=second.credential),
        second.id: msgspec.structs.replace(second, credential=first.credential),
    }
    authenticators = tuple(swapped.get(a.id, a) for a in ledger.account.authenticators)
    honest = ledger.standing
    ledger.standing = msgspec.structs.replace(
        honest, state=msgspec.structs.replace(ledger.account, authenticators=authenticators)
    )
    for code in (phone.code(ledger.clock.now()), other.code(ledger.clock.now())):
        with pytest.raises(Unavailable):
            ledger.verify(code)
    ledger.standing = honest
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Verified)


def test_what_may_not_be_judged_is_not_even_opened() -> None:
    ledger, phone = Ledger.with_totp()
    exhaust(ledger, phone)
    ledger.seals.gone.add("data-1")
    assert isinstance(ledger.verify(phone.code(ledger.clock.now())), Throttled)


# Receipts.


def test_a_receipt_states_who_with_what_when_for_whom_and_for_what() -> None:
    ledger, phone = Ledger.with_totp()
    outcome = ledger.verify(phone.code(ledger.clock.now()), purpose="pay", binding="b1", application="shop")
    assert isinstance(outcome, Verified)
    claims = outcome.claims
    assert claims is not None
    now_s = int(ledger.clock.now_s)
    assert (claims.sub, claims.aud, claims.epoch) == ("alice", "shop", epoch_claim(ledger.account))
    assert (claims.iat, claims.exp, claims.auth_time) == (now_s, now_s + 120, now_s)
    assert (claims.amr, claims.acr, claims.purpose, claims.bnd) == (("otp",), "urn:nist:aal1", "pay", "b1")
    assert len(claims.jti) == 22


def test_a_receipt_to_manage_lives_300_seconds_and_none_is_made_unasked() -> None:
    ledger, phone = Ledger.with_totp()
    managing = ledger.verify(phone.code(ledger.clock.now(), ahead=-1), purpose="manage")
    bound = ledger.verify(phone.code(ledger.clock.now()), binding="b")
    unasked = ledger.verify(phone.code(ledger.clock.now(), ahead=1))
    assert isinstance(managing, Verified)
    assert isinstance(bound, Verified)
    assert isinstance(unasked, Verified)
    assert managing.claims is not None
    assert managing.claims.exp - managing.claims.iat == 300
    assert bound.claims is not None
    assert (bound.claims.purpose, bound.claims.bnd) == (None, "b")
    assert unasked.claims is None


def test_a_proof_of_another_authenticator_is_stale() -> None:
    ledger, _ = Ledger.with_totp()
    answer = ledger.prove(read_answer([ledger.recovery_codes[0]]))
    assert answer.proof is not None
    other = Answer("recovery", answer.codes, Proof("au_other", answer.proof.credential_version, answer.proof.digest))
    for asked in (other, Answer("recovery", answer.codes)):
        decision = verify_answer(
            ledger.account, Question(asked), ledger.call(), factors=ledger.factors, seals=ledger.seals
        )
        assert decision.outcome == Stale()
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified)
