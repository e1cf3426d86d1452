import json
from pathlib import Path
from typing import Any

import pytest
from tests.kit import RFC_SECRET, reason_of, reasons_of, wrong_code
from tests.ledger import Ledger, an_import, code_for_none, refusal_of

from twofold.core.decision import Confirmed, Rejected, Throttled, Verified
from twofold.core.factor import Answer, read_answer
from twofold.errors import InvalidInput

VECTORS = Path(__file__).parent.parent / "vectors"
SEQUENCES: dict[str, Any] = json.loads((VECTORS / "rfc6238.json").read_text())["sequences"]
RESYNC: dict[str, Any] = json.loads((VECTORS / "hotp_resync.json").read_text())
DAY_S = 86_400


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
    assert (ledger.account.lane.failures, ledger.account.lane.spent) == (1, 3 * 86_400)
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
    code = code_for_none(ledger, totp, other, hotp)
    assert reason_of(ledger.verify(code)) == "wrong_code"
    assert ledger.account.lane.spent == (3 + 3 + 10) * 86_400


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
