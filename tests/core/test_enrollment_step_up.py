from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.kit import Phone, reason_of
from tests.ledger import Ledger

from twofold.core.account import SPENT_MAX, Account, with_authenticator
from twofold.core.attempt import Call
from twofold.core.decision import (
    Confirmed,
    Decision,
    Done,
    ReceiptClaims,
    Renewed,
    Throttled,
    Verified,
)
from twofold.core.enrollment import confirm_enrollment, renew_recovery_codes, revoke_authenticator
from twofold.core.factor import read_answer
from twofold.errors import Refused


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        action()
    return refused.value.code


def right_code(ledger: Ledger, phone: Phone) -> str:
    return phone.code(ledger.clock.now())


def revoke(ledger: Ledger, phone: Phone, step_up: ReceiptClaims | None = None, **call: Any) -> object:
    return ledger.commit(lambda account, made: revoke_authenticator(account, phone.id, made, step_up=step_up), **call)


def renew(ledger: Ledger, step_up: ReceiptClaims | None = None, **call: Any) -> Any:
    fresh = ledger.new_recovery_codes()
    return ledger.commit(lambda account, made: renew_recovery_codes(account, fresh, made, step_up=step_up), **call)


def lose_to_failures(ledger: Ledger, phone: Phone) -> None:
    while ledger.authenticator(phone).state == "active":
        outcome = ledger.verify(ledger.wrong_code(phone), authenticator_id=phone.id)
        if isinstance(outcome, Throttled):
            ledger.clock.advance(outcome.retry_after_s)


# Step-up.


def test_trap_49_adding_removing_and_new_recovery_codes_need_a_step_up_and_are_done_with_one() -> None:
    ledger, phone = Ledger.with_totp()
    assert refusal(ledger.enroll) == "step_up_required"
    assert refusal(lambda: revoke(ledger, phone)) == "step_up_required"
    assert refusal(lambda: renew(ledger)) == "step_up_required"
    second = ledger.enroll(step_up=ledger.receipt(phone))
    assert isinstance(ledger.confirm(second, right_code(ledger, second)), Confirmed)
    assert isinstance(renew(ledger, ledger.receipt(phone)), Renewed)
    assert revoke(ledger, second, ledger.receipt(phone)) == Done()


def test_trap_47_a_receipt_is_used_once() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone)
    assert isinstance(renew(ledger, receipt), Renewed)
    assert refusal(lambda: renew(ledger, receipt)) == "step_up_required"
    assert refusal(lambda: ledger.enroll(step_up=receipt)) == "step_up_required"
    assert isinstance(renew(ledger, ledger.receipt(phone)), Renewed)


@pytest.mark.parametrize("purpose", [None, "pay", "MANAGE", "manage "])
def test_trap_47_a_receipt_of_another_purpose_is_no_step_up(purpose: str | None) -> None:
    ledger, phone = Ledger.with_totp()
    receipt = msgspec.structs.replace(ledger.receipt(phone), purpose=purpose)
    assert refusal(lambda: renew(ledger, receipt)) == "step_up_required"
    assert isinstance(renew(ledger, msgspec.structs.replace(receipt, purpose="manage")), Renewed)


@pytest.mark.parametrize("change", [{"sub": "bob"}, {"aud": "shop"}, {"epoch": "0" * 16}])
def test_a_receipt_of_another_account_application_or_epoch_is_no_step_up(change: dict[str, str]) -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone)
    assert refusal(lambda: renew(ledger, msgspec.structs.replace(receipt, **change))) == "step_up_required"
    assert isinstance(renew(ledger, receipt), Renewed)


def test_a_receipt_of_another_application_is_no_step_up_and_in_its_own_it_is() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone, application="shop")
    assert refusal(lambda: renew(ledger, receipt)) == "step_up_required"
    assert refusal(lambda: renew(ledger, receipt, application="blog")) == "step_up_required"
    assert isinstance(renew(ledger, receipt, application="shop"), Renewed)


@pytest.mark.parametrize("event", ["password_changed", "signed_out_everywhere", "compromised", "disabled", "enabled"])
def test_every_event_voids_the_receipts_made_before_it(event: Any) -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone)
    ledger.record(event)
    if event == "disabled":
        ledger.record("enabled")
    assert refusal(lambda: renew(ledger, receipt)) == "step_up_required"
    assert isinstance(renew(ledger, ledger.receipt(phone)), Renewed)


def test_a_step_up_is_good_until_its_last_second() -> None:
    for seconds, is_good in ((299, True), (300, False), (301, False)):
        ledger, phone = Ledger.with_totp()
        receipt = ledger.receipt(phone)
        ledger.clock.advance(seconds)
        if is_good:
            assert isinstance(renew(ledger, receipt), Renewed)
        else:
            assert refusal(lambda: renew(ledger, receipt)) == "step_up_required"  # noqa: B023


def test_a_receipt_got_with_a_recovery_code_is_a_step_up() -> None:
    ledger, phone = Ledger.with_totp()
    outcome = ledger.verify(ledger.recovery_codes[0], purpose="manage")
    assert isinstance(outcome, Verified)
    assert revoke(ledger, phone, outcome.claims) == Done()


def test_an_administrator_may_do_without_a_step_up_and_the_person_is_told() -> None:
    ledger, phone = Ledger.with_totp()
    before = len(ledger.notices)
    assert isinstance(renew(ledger, is_admin=True), Renewed)
    assert revoke(ledger, phone, is_admin=True) == Done()
    assert ledger.notices[before:] == ["recovery_codes.made", "authenticator.removed"]
    assert all(b'"admin":true' in (row.payload or b"") for row in ledger.rows[-2:])


def test_an_administrators_receipt_is_checked_like_any_other() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = msgspec.structs.replace(ledger.receipt(phone), sub="bob")
    assert refusal(lambda: renew(ledger, receipt, is_admin=True)) == "step_up_required"


def test_trap_52_an_enrollment_begun_on_an_empty_account_needs_a_step_up_once_it_is_not_empty_any_more() -> None:
    ledger = Ledger.with_account()
    attackers = ledger.enroll(application="shop")
    owners = ledger.add()
    code = right_code(ledger, attackers)
    assert refusal(lambda: ledger.confirm(attackers, code, application="shop")) == "step_up_required"
    assert ledger.authenticator(attackers).state == "pending"
    ledger.clock.advance(30)
    receipt = ledger.receipt(owners, application="shop")
    outcome = ledger.confirm(attackers, right_code(ledger, attackers), step_up=receipt, application="shop")
    assert outcome == Confirmed(attackers.id, "totp")


def test_an_enrollment_begun_with_a_step_up_is_confirmed_without_another() -> None:
    ledger, phone = Ledger.with_totp()
    second = ledger.enroll(step_up=ledger.receipt(phone))
    assert isinstance(ledger.confirm(second, right_code(ledger, second)), Confirmed)


def test_nist_3_2_2_whoever_guessed_until_the_last_authenticator_was_disabled_cannot_bind_one_of_his_own() -> None:
    ledger, phone = Ledger.with_totp()
    lose_to_failures(ledger, phone)
    assert ledger.account.state == "disabled"
    assert refusal(ledger.enroll) == "step_up_required"
    assert refusal(lambda: revoke(ledger, phone)) == "step_up_required"
    # The owner binds anew with a recovery code, or an administrator does it.
    outcome = ledger.verify(ledger.recovery_codes[0], purpose="manage")
    assert isinstance(outcome, Verified)
    new = ledger.enroll(replaces=phone.id, step_up=outcome.claims)
    assert isinstance(ledger.confirm(new, right_code(ledger, new)), Confirmed)
    assert [a.factor for a in ledger.account.authenticators] == ["recovery_codes", "totp"]
    assert isinstance(ledger.verify(ledger.next_code(new), browser=outcome.browser), Verified)


def test_an_enrollment_begun_on_an_empty_account_is_not_confirmed_after_its_authenticator_was_disabled() -> None:
    ledger = Ledger.with_account()
    attackers = ledger.enroll()
    owners = ledger.import_phone(ledger.new_phone())
    ledger.standing = msgspec.structs.replace(
        ledger.standing,
        state=with_authenticator(ledger.account, msgspec.structs.replace(ledger.authenticator(owners), failures=99)),
    )
    lose_to_failures(ledger, owners)
    assert refusal(lambda: ledger.confirm(attackers, right_code(ledger, attackers))) == "step_up_required"


def test_thirty_two_single_use_values_are_remembered_and_one_more_waits_until_one_expired() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone)
    receipts = [msgspec.structs.replace(receipt, jti=f"{number:022}") for number in range(SPENT_MAX + 1)]
    for used in receipts[:-1]:
        assert isinstance(renew(ledger, used), Renewed)
    assert len(ledger.account.spent) == SPENT_MAX
    assert refusal(lambda: renew(ledger, receipts[-1])) == "too_many"
    assert refusal(lambda: renew(ledger, receipts[0])) == "step_up_required", "none was forgotten"
    ledger.clock.advance(301)
    assert isinstance(renew(ledger, ledger.receipt(phone)), Renewed)


# Replace.


def test_nist_3_1_4_1_the_old_authenticator_stays_valid_until_the_new_one_is_confirmed() -> None:
    ledger, old = Ledger.with_totp()
    new = ledger.enroll(replaces=old.id, step_up=ledger.receipt(old))
    assert isinstance(ledger.verify(ledger.next_code(old)), Verified)
    assert reason_of(ledger.confirm(new, ledger.wrong_code(new))) == "wrong_code"
    assert isinstance(ledger.verify(ledger.next_code(old)), Verified)
    assert isinstance(ledger.confirm(new, right_code(ledger, new)), Confirmed)
    assert old.id not in [a.id for a in ledger.account.authenticators]
    ledger.clock.advance(60)
    assert reason_of(ledger.verify(right_code(ledger, old))) == "wrong_code"
    assert isinstance(ledger.verify(right_code(ledger, new)), Verified)
    assert ledger.kinds.count("authenticator.removed") == 1


def test_replacing_what_was_removed_meanwhile_confirms_the_new_one() -> None:
    ledger, old = Ledger.with_totp()
    other = ledger.import_phone(ledger.new_phone())
    new = ledger.enroll(replaces=other.id, step_up=ledger.receipt(old))
    revoke(ledger, other, is_admin=True)
    assert isinstance(ledger.confirm(new, right_code(ledger, new)), Confirmed)


def test_only_an_authenticator_that_gives_codes_can_be_replaced() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    receipt = ledger.receipt(phone)
    for factor in ("recovery_codes", "password"):
        target = next(a.id for a in ledger.account.authenticators if a.factor == factor)
        assert refusal(lambda: ledger.enroll(replaces=target, step_up=receipt)) == "conflict"  # noqa: B023
    assert refusal(lambda: ledger.enroll(replaces="au_nothing", step_up=receipt)) == "not_found"
    assert ledger.enroll(replaces=phone.id, step_up=receipt).id != phone.id


def test_two_first_enrollments_confirmed_at_once_bring_recovery_codes_once() -> None:
    ledger = Ledger.with_account()
    first, second = ledger.enroll("totp"), ledger.enroll("hotp")
    prepared = ledger.new_recovery_codes()
    assert isinstance(ledger.confirm(first, right_code(ledger, first)), Confirmed)

    def decide(account: Account | None, call: Call) -> Decision:
        # This one asked for recovery codes too, before the other one was done.
        return confirm_enrollment(
            account,
            second.id,
            read_answer([second.press()]),
            call,
            factors=ledger.factors,
            seals=ledger.seals,
            recovery=prepared,
        )

    assert ledger.commit(decide, is_admin=True) == Confirmed(second.id, "hotp")
    assert [a.factor for a in ledger.account.authenticators].count("recovery_codes") == 1


def test_a_password_is_not_removed() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    password = next(a.id for a in ledger.account.authenticators if a.factor == "password")
    assert refusal(lambda: revoke(ledger, Phone(password, b""), is_admin=True)) == "conflict"
    assert revoke(ledger, phone, is_admin=True) == Done()


# What began an enrollment, and what earned a receipt.


def test_trap_49_an_open_enrollment_is_shown_again_with_the_receipt_that_began_it_and_not_without() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone)
    begun = ledger.enroll(step_up=receipt)
    assert refusal(ledger.enroll) == "step_up_required"
    again = ledger.enroll(step_up=receipt)
    assert (again.id, again.secret) == (begun.id, begun.secret)
    ledger.clock.advance(30)
    fresh = ledger.enroll(step_up=ledger.receipt(phone))
    assert (fresh.id, fresh.secret) == (begun.id, begun.secret), "another proof shows it too, and is used up by it"
    assert refusal(lambda: ledger.enroll(step_up=receipt)) == "step_up_required"
    assert ledger.enroll(is_admin=True).id == begun.id


def test_a_receipt_is_void_without_the_authenticator_that_earned_it() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.add("hotp", is_admin=True)
    stolen, own = ledger.receipt(phone), ledger.receipt(other)
    revoke(ledger, phone, is_admin=True)
    assert refusal(lambda: ledger.enroll(step_up=stolen)) == "step_up_required"
    assert ledger.enroll(step_up=own)


def test_an_enrollment_ends_with_the_authenticator_that_allowed_it() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.add("hotp", is_admin=True)
    by_thief = ledger.enroll(step_up=ledger.receipt(phone))
    revoke(ledger, phone, is_admin=True)
    assert refusal(lambda: ledger.confirm(by_thief, right_code(ledger, by_thief))) == "conflict"
    ledger.clock.advance(900)
    by_owner = ledger.enroll(step_up=ledger.receipt(other))
    assert isinstance(ledger.confirm(by_owner, right_code(ledger, by_owner)), Confirmed)


def test_a_password_is_changed_and_not_removed() -> None:
    ledger = Ledger.with_account()
    ledger.set_password("correct horse battery")
    (password,) = ledger.account.authenticators
    remove = lambda account, made: revoke_authenticator(account, password.id, made)  # noqa: E731 - as short as it is
    assert refusal(lambda: ledger.commit(remove, is_admin=True)) == "conflict"
    ledger.set_password("another horse battery")
    assert ledger.account.authenticators[0].id != password.id


def test_a_receipt_that_may_be_forgotten_as_used_does_not_count_when_the_clock_goes_back() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone)
    assert ledger.enroll(step_up=receipt)
    ledger.clock.advance(3600)
    assert isinstance(ledger.verify(right_code(ledger, phone)), Verified)
    ledger.clock.advance(-3600)
    assert refusal(lambda: ledger.enroll("hotp", step_up=receipt)) == "step_up_required"


def test_a_secret_shown_without_proof_is_never_shown_to_the_owner_who_brings_one() -> None:
    ledger = Ledger.with_account()
    seen_by_thief = ledger.enroll()
    phone = ledger.import_phone(ledger.new_phone())
    by_owner = ledger.enroll(step_up=ledger.receipt(phone))
    assert by_owner.secret != seen_by_thief.secret
    assert refusal(lambda: ledger.confirm(seen_by_thief, right_code(ledger, seen_by_thief))) == "not_found"
    assert isinstance(ledger.confirm(by_owner, right_code(ledger, by_owner)), Confirmed)
