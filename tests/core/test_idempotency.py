from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.kit import Phone, reason_of
from tests.ledger import Ledger

from twofold.core.account import Account
from twofold.core.attempt import Call
from twofold.core.clock import in_seconds
from twofold.core.decision import Decision, Done, Outcome, Pending, Refusal, Renewed, Throttled, Verified
from twofold.core.enrollment import renew_recovery_codes
from twofold.core.factor import read_answer
from twofold.core.idempotency import KEPT_MAX, KEPT_S, IdempotencyKey, is_kept, once
from twofold.core.management import delete_account, put_account, record_event
from twofold.core.verdict import Question
from twofold.core.verification import verify_answer
from twofold.errors import InvalidInput, Refused, Unavailable


def a_key(name: str, body: str = "") -> IdempotencyKey:
    return IdempotencyKey(name.encode().ljust(16), body.encode().ljust(16), name.encode())


def verify_once(ledger: Ledger, code: str, key: IdempotencyKey | None) -> Outcome:
    call = ledger.call()
    question = Question(read_answer([code]), purpose="pay")

    def decide(account: Account | None) -> Decision:
        return verify_answer(account, question, call, factors=ledger.factors, seals=ledger.seals)

    return ledger.write(once(decide, key, call, ledger.seals))


def code_now(ledger: Ledger, phone: Phone) -> str:
    return phone.code(ledger.clock.now())


def test_a_repeated_call_ends_as_the_first_one_did_receipt_and_browser_too() -> None:
    ledger, phone = Ledger.with_totp()
    code = code_now(ledger, phone)
    first = verify_once(ledger, code, a_key("k"))
    assert isinstance(first, Verified)
    assert first.browser is not None
    assert first.claims is not None
    events = len(ledger.rows)
    ledger.clock.advance(299)
    assert verify_once(ledger, code, a_key("k")) == first
    assert len(ledger.rows) == events, "nothing is judged or recorded again"
    assert reason_of(verify_once(ledger, code, a_key("other"))) == "code_already_used"
    assert reason_of(verify_once(ledger, code, None)) == "code_already_used"


def test_an_answer_is_kept_for_five_minutes() -> None:
    ledger, phone = Ledger.with_totp()
    code = code_now(ledger, phone)
    verify_once(ledger, code, a_key("k"))
    ledger.clock.advance(300)
    assert reason_of(verify_once(ledger, code, a_key("k"))) == "code_already_used"


def test_the_same_key_with_another_body_is_refused_and_judges_nothing() -> None:
    ledger, phone = Ledger.with_totp()
    verify_once(ledger, code_now(ledger, phone), a_key("k", "one"))
    before = ledger.standing
    with pytest.raises(Refused) as refused:
        verify_once(ledger, ledger.wrong_code(phone), a_key("k", "two"))
    assert refused.value.code == "idempotency_mismatch"
    assert ledger.standing == before


def test_a_wrong_answer_is_charged_once_however_often_it_is_repeated() -> None:
    ledger, phone = Ledger.with_totp()
    wrong = ledger.wrong_code(phone)
    for _ in range(5):
        assert reason_of(verify_once(ledger, wrong, a_key("k"))) == "wrong_code"
    assert ledger.authenticator(phone).failures == 1


def test_an_answer_that_was_turned_away_is_not_kept() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(3):
        ledger.verify(ledger.wrong_code(phone))
    code = code_now(ledger, phone)
    assert isinstance(verify_once(ledger, code, a_key("k")), Throttled)
    assert ledger.account.kept_answers == ()
    ledger.clock.advance(1)
    assert isinstance(verify_once(ledger, code, a_key("k")), Verified)


def test_a_refusal_is_kept_like_any_other_ending() -> None:
    ledger = Ledger.with_account()
    refusal = verify_once(ledger, "123456", a_key("k"))
    assert isinstance(refusal, Refusal)
    assert refusal.code == "no_factor"
    ledger.add()
    assert verify_once(ledger, "123456", a_key("k")) == refusal
    with pytest.raises(Refused):
        Ledger().write(once(lambda _account: refuse(), a_key("k"), ledger.call(), ledger.seals))


def refuse() -> Decision:
    raise Refused("not_found", "there is no account of that id")


@pytest.mark.parametrize("error", [InvalidInput("code", "text"), Unavailable("a key")])
def test_broken_input_and_broken_machines_are_not_kept(error: Exception) -> None:
    ledger, phone = Ledger.with_totp()

    def fail(_account: Account | None) -> Decision:
        raise error

    with pytest.raises(type(error)):
        ledger.write(once(fail, a_key("k"), ledger.call(), ledger.seals))
    assert isinstance(verify_once(ledger, code_now(ledger, phone), a_key("k")), Verified)


def test_secrets_shown_once_are_kept_sealed() -> None:
    ledger, _ = Ledger.with_totp()
    fresh = ledger.new_recovery_codes()

    def renew(seals_call: Call) -> Callable[[Account | None], Decision]:
        return lambda account: renew_recovery_codes(account, fresh, seals_call)

    call = ledger.call(is_admin=True)
    first = ledger.write(once(renew(call), a_key("k"), call, ledger.seals))
    assert isinstance(first, Renewed)
    assert ledger.last is not None
    assert ledger.last.decision.sealed_with == ("data-1",)
    document = ledger.codec.dump(ledger.account, 1).document
    assert not any(
        code.replace("-", "")[4:].encode() in document or code.encode() in document for code in fresh.plain_codes
    )
    again = ledger.call(is_admin=True)
    assert ledger.write(once(renew(again), a_key("k"), again, ledger.seals)) == first


def test_a_kept_answer_that_cannot_be_opened_fails_closed() -> None:
    ledger, phone = Ledger.with_totp()
    code = code_now(ledger, phone)
    verify_once(ledger, code, a_key("k"))
    ledger.seals.gone.add("data-1")
    with pytest.raises(Unavailable):
        verify_once(ledger, code, a_key("k"))


def test_a_kept_answer_of_one_account_does_not_open_in_another() -> None:
    alice, phone = Ledger.with_totp()
    bob, _ = Ledger.with_totp("bob", seed=1)
    code = code_now(alice, phone)
    verify_once(alice, code, a_key("k"))
    moved = msgspec.structs.replace(bob.account, kept_answers=alice.account.kept_answers)
    bob.standing = msgspec.structs.replace(bob.standing, state=moved)
    with pytest.raises(Unavailable):
        verify_once(bob, code, a_key("k"))
    assert isinstance(verify_once(alice, code, a_key("k")), Verified)


def test_eight_answers_are_kept_and_the_oldest_makes_room() -> None:
    ledger, phone = Ledger.with_totp()
    code = code_now(ledger, phone)
    first = verify_once(ledger, code, a_key("0"))
    for number in range(1, KEPT_MAX):
        verify_once(ledger, code, a_key(str(number)))
    assert verify_once(ledger, code, a_key("0")) == first
    verify_once(ledger, code, a_key(str(KEPT_MAX)))
    assert len(ledger.account.kept_answers) == KEPT_MAX
    assert reason_of(verify_once(ledger, code, a_key("0"))) == "code_already_used"


def test_a_call_that_decides_nothing_new_is_kept_too() -> None:
    ledger, _ = Ledger.with_totp()
    call = ledger.call()
    pending = Pending("au_1", "totp", 1, "SECRET", "otpauth://x")
    ledger.write(once(lambda _account: Decision(pending), a_key("k"), call, ledger.seals))
    assert ledger.write(once(lambda _account: refuse(), a_key("k"), ledger.call(), ledger.seals)) == pending


def test_the_deletion_of_an_account_keeps_nothing() -> None:
    ledger, _ = Ledger.with_totp()
    call = ledger.call()
    ledger.write(once(lambda account: delete_account(account, call), a_key("k"), call, ledger.seals))
    assert not isinstance(ledger.standing.state, Account)


def test_what_creates_an_account_is_kept_in_it() -> None:
    ledger = Ledger()

    def put_once(key: str) -> Outcome:
        call = ledger.call()
        decide = once(lambda account: put_account(account, "alice", call), a_key(key), call, ledger.seals)
        return ledger.write(decide)

    first = put_once("k")
    now = ledger.clock.now()
    assert is_kept(ledger.account, a_key("k"), now)
    assert not is_kept(ledger.account, a_key("k"), now + in_seconds(KEPT_S))
    assert put_once("k") == first == Done(is_new=True)
    assert ledger.kinds == ["account.added"]
    assert not is_kept(ledger.account, a_key("other"), now)
    assert not is_kept(ledger.account, None, now)
    assert put_once("other") == Done()


def test_where_no_account_comes_of_it_nothing_is_kept() -> None:
    ledger = Ledger()
    call = ledger.call()
    assert ledger.write(once(lambda _: Decision(Done()), a_key("k"), call, ledger.seals)) == Done()
    assert not isinstance(ledger.standing.state, Account)


@pytest.mark.parametrize("event", ["password_changed", "signed_out_everywhere", "compromised"])
def test_a_success_of_an_old_epoch_is_not_repeated(event: Any) -> None:
    ledger, phone = Ledger.with_totp()
    code = code_now(ledger, phone)
    first = verify_once(ledger, code, a_key("k"))
    assert isinstance(first, Verified)
    assert verify_once(ledger, code, a_key("k")) == first
    ledger.record(event)
    assert reason_of(verify_once(ledger, code, a_key("k"))) == "code_already_used"


def test_an_event_itself_is_repeated_without_another_epoch() -> None:
    ledger, _ = Ledger.with_totp()
    for _ in range(2):
        call = ledger.call()
        decide = once(
            lambda account, call=call: record_event(account, "compromised", call), a_key("k"), call, ledger.seals
        )  # type: ignore[misc]
        ledger.write(decide)
        epoch = ledger.account.epoch
    assert ledger.kinds.count("account.compromised") == 1
    assert ledger.account.epoch == epoch


def test_trap_21_what_was_kept_cannot_be_opened_without_the_callers_own_key() -> None:
    ledger, _ = Ledger.with_totp()
    made = ledger.new_recovery_codes()
    call = ledger.call(is_admin=True)
    key = a_key("k")
    ledger.write(once(lambda account: renew_recovery_codes(account, made, call), key, call, ledger.seals))
    (kept,) = ledger.account.kept_answers
    opened = ledger.seals.open_seal(kept.sealed_outcome, field="accounts.kept_answer", account_id="alice")
    assert made.plain_codes[0].encode() not in opened
    assert "secret" not in repr(key).replace("secret=…", "")
    again = once(lambda account: renew_recovery_codes(account, made, call), key, call, ledger.seals)(ledger.account)
    assert isinstance(again.outcome, Renewed)
    assert again.outcome.recovery_codes == made.plain_codes
