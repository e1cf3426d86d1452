from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.kit import Phone
from tests.ledger import Ledger

from twofold.core.account import PENDING_TTL_S, Account
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed, Decision, Done
from twofold.core.enrollment import confirm_enrollment
from twofold.core.factor import read_answer
from twofold.core.open_enrollment import cancel_enrollment, find_open, see_again
from twofold.core.session import Session
from twofold.errors import Refused

ONE, OTHER = "pages:se_1", "pages:se_2"


def refusal(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as refused:
        action()
    return refused.value.code


def find(ledger: Ledger, begun_by: str = ONE) -> str | None:
    found = find_open(ledger.account, begun_by, ledger.clock.now(), factor="totp")
    return None if found is None else found.id


def see(ledger: Ledger, authenticator_id: str, **call: Any) -> str:
    return see_again(ledger.account, authenticator_id, ledger.call(**{"application": ONE, **call})).id


def see_with_grant(ledger: Ledger, authenticator_id: str, *, left_s: int) -> str:
    """By a session that may enroll for so many seconds more."""
    until = ledger.clock.now() + left_s * MICROS_PER_S
    session = Session("se_1", "alice", "", "full", 0, 0, 0, 0, via="au_1", may_enroll_until=until)
    call = msgspec.structs.replace(ledger.call(application=ONE), session=session)
    return see_again(ledger.account, authenticator_id, call).id


def cancel(ledger: Ledger, phone: Phone, **call: Any) -> object:
    return ledger.commit(
        lambda account, made: cancel_enrollment(account, phone.id, made), **{"application": ONE, **call}
    )


def test_an_enrollment_is_found_by_whoever_began_it_until_it_expires() -> None:
    ledger = Ledger.with_account()
    assert find(ledger) is None
    phone = ledger.enroll(application=ONE)
    assert find(ledger) == phone.id
    ledger.clock.advance(PENDING_TTL_S - 1)
    assert find(ledger) == phone.id
    ledger.clock.advance(1)
    assert find(ledger) is None


def test_the_newest_of_two_is_the_one_that_is_found() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.enroll(application=ONE, is_admin=True)
    ledger.clock.advance(1)
    newer = ledger.enroll(replaces=phone.id, application=ONE, is_admin=True)
    assert find(ledger) == newer.id


def test_trap_51_what_another_session_began_is_neither_found_nor_seen_nor_canceled() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll(application=ONE)
    assert find(ledger, OTHER) is None
    for is_admin in (False, True):
        stranger: dict[str, Any] = {"application": OTHER, "is_admin": is_admin}
        assert refusal(lambda call=stranger: see(ledger, phone.id, **call)) == "not_found"  # type: ignore[misc]
        assert refusal(lambda call=stranger: cancel(ledger, phone, **call)) == "not_found"  # type: ignore[misc]
    assert see(ledger, phone.id) == phone.id


def test_what_is_active_is_neither_seen_nor_canceled() -> None:
    ledger = Ledger.with_account()
    phone = ledger.add(application=ONE)
    for is_admin in (False, True):
        assert refusal(lambda by=is_admin: see(ledger, phone.id, is_admin=by)) == "not_found"  # type: ignore[misc]
        assert refusal(lambda by=is_admin: cancel(ledger, phone, is_admin=by)) == "not_found"  # type: ignore[misc]
    assert ledger.authenticator(phone).state == "active"


def test_an_enrollment_is_seen_and_canceled_until_it_expires() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll(application=ONE)
    ledger.clock.advance(PENDING_TTL_S)
    assert refusal(lambda: see(ledger, phone.id)) == "not_found"
    assert refusal(lambda: cancel(ledger, phone)) == "not_found"


def test_a_canceled_enrollment_is_gone_and_what_it_was_to_replace_stays() -> None:
    ledger, phone = Ledger.with_totp()
    new = ledger.enroll(replaces=phone.id, application=ONE, is_admin=True)
    before = len(ledger.notices)
    assert cancel(ledger, new) == Done()
    assert find(ledger) is None
    assert ledger.authenticator(phone).state == "active"
    assert ledger.kinds[-1] == "authenticator.removed"
    assert len(ledger.notices) == before


@pytest.mark.parametrize("state", ["missing", "disabled"])
def test_a_missing_or_disabled_account_has_no_open_enrollment(state: str) -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll(application=ONE)
    changed = None if state == "missing" else msgspec.structs.replace(ledger.account, is_disabled=True)
    expected = {"missing": "not_found", "disabled": "disabled"}[state]
    assert refusal(lambda: see_again(changed, phone.id, ledger.call(application=ONE))) == expected
    assert refusal(lambda: cancel_enrollment(changed, phone.id, ledger.call(application=ONE))) == expected


def test_trap_49_on_an_account_with_a_second_factor_it_is_seen_again_while_the_session_may_enroll() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone, application=ONE)
    new = ledger.enroll(step_up=receipt, application=ONE)
    assert see_with_grant(ledger, new.id, left_s=1) == new.id
    assert refusal(lambda: see_with_grant(ledger, new.id, left_s=0)) == "step_up_required"
    assert refusal(lambda: see(ledger, new.id)) == "step_up_required"


def test_trap_52_one_begun_on_an_empty_account_is_not_seen_again_once_it_is_bound() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll(application=ONE)
    assert see_with_grant(ledger, phone.id, left_s=1) == phone.id
    ledger.add(application=OTHER)
    assert refusal(lambda: see_with_grant(ledger, phone.id, left_s=1)) == "step_up_required"


def confirm(ledger: Ledger, phone: Phone, *, by_session: bool, **call: Any) -> object:
    made = ledger.call(**{"application": ONE, **call})
    if by_session:
        made = msgspec.structs.replace(made, session=Session("se_1", "alice", "", "enrolling", 0, 0, 0, 0))
    codes = ledger.new_recovery_codes()

    def decide(account: Account | None) -> Decision:
        answer = read_answer([phone.code(ledger.clock.now())])
        return confirm_enrollment(
            account, phone.id, answer, made, factors=ledger.factors, seals=ledger.seals, label="tablet", recovery=codes
        )

    return ledger.write(decide)


def test_the_label_given_with_the_first_code_is_the_one_it_gets() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll(application=ONE)
    assert isinstance(confirm(ledger, phone, by_session=True), Confirmed)
    assert ledger.authenticator(phone).label == "tablet"


def test_trap_51_a_session_let_in_by_a_link_does_not_confirm_what_another_began_and_an_application_may() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll(application=OTHER)
    assert refusal(lambda: confirm(ledger, phone, by_session=True, is_admin=True)) == "not_found"
    assert isinstance(confirm(ledger, phone, by_session=False, is_admin=True), Confirmed)


def test_nothing_is_written_by_looking() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll(application=ONE)
    before = ledger.account

    def look(account: Account | None, call: Call) -> Decision:
        see_again(account, phone.id, call)
        return Decision(Done())

    ledger.commit(look, application=ONE)
    assert ledger.account == before
