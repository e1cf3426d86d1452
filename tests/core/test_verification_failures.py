import msgspec
import pytest
from tests.kit import Phone, reason_of
from tests.ledger import Ledger, code_for_none, exhaust, refusal_of, sign_in

from twofold.core.attempt import Call
from twofold.core.decision import Message, Rejected, Throttled, Verified
from twofold.core.entropy import Seed
from twofold.core.factor import read_answer
from twofold.core.verdict import Question
from twofold.core.verification import verify_answer
from twofold.errors import DataKeyMissing, Unavailable

DAY_S = 86_400


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
    code = code_for_none(ledger, phone, other)
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


def test_nist_3_2_2_in_the_strict_profile_a_failure_counts_towards_every_authenticator_tried() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.add("totp", is_admin=True)
    wrong = code_for_none(ledger, phone, other)
    ledger.verify(wrong)
    assert sorted((ledger.authenticator(phone).failures, ledger.authenticator(other).failures)) == [0, 1]
    ledger.verify(wrong, is_strict=True)
    assert sorted((ledger.authenticator(phone).failures, ledger.authenticator(other).failures)) == [1, 2]
