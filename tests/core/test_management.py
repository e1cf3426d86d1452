from typing import Any

import msgspec
import pytest
from tests.kit import reason_of
from tests.ledger import Ledger, sign_in

from twofold.core.account import find_known_browser
from twofold.core.attempt import Call
from twofold.core.decision import ContactIndex, Done, Message, ReceiptClaims, Redeemed, Throttled, Verified
from twofold.core.management import (
    ProfileChange,
    delete_account,
    forget_browser,
    put_account,
    record_event,
    redeem_receipt,
)
from twofold.errors import Refused

EVENTS = ["password_changed", "signed_out_everywhere", "compromised", "disabled", "enabled"]


def put(ledger: Ledger, **changes: Any) -> Any:
    return ledger.commit(lambda account, call: put_account(account, "alice", call, **changes))


def redeem(
    ledger: Ledger, claims: ReceiptClaims, purpose: str | None = "pay", binding: str | None = None, **call: Any
) -> Any:
    return ledger.commit(
        lambda account, made: redeem_receipt(account, claims, made, purpose=purpose, binding=binding), **call
    )


def refusal(ledger: Ledger, claims: ReceiptClaims, *asked: str | None, **call: Any) -> str:
    before = ledger.standing
    with pytest.raises(Refused) as refused:
        redeem(ledger, claims, *asked, **call)
    assert ledger.standing == before, "nothing is consumed"
    return refused.value.code


# Put and delete.


def test_putting_an_account_creates_it_and_putting_it_again_changes_what_is_sent() -> None:
    ledger = Ledger()
    assert put(ledger, groups=("staff",)) == Done(is_new=True)
    epoch = ledger.account.epoch
    assert put(ledger) == Done(is_new=False)
    assert ledger.account.groups == ("staff",)
    change = ProfileChange(b"sealed", "data-1", (("email", b"k"),))
    put(ledger, profile=change, groups=())
    assert (ledger.account.groups, ledger.account.sealed_profile) == ((), b"sealed")
    assert ledger.account.epoch == epoch
    assert ledger.last is not None
    assert ledger.last.decision.sealed_with == ("data-1",)
    index, told = ledger.effects
    assert index == ContactIndex((("email", b"k"),))
    assert isinstance(told, Message)
    assert told.kind == "account.changed"
    assert ledger.kinds == ["account.added", "account.changed", "account.changed"]


def test_trap_83_nothing_of_a_deleted_account_is_left_for_a_new_one_of_its_name() -> None:
    ledger, phone = Ledger.with_totp()
    signed_in = ledger.verify(phone.code(ledger.clock.now()), purpose="pay")
    assert isinstance(signed_in, Verified)
    assert signed_in.claims is not None
    ledger.commit(delete_account)
    assert ledger.kinds[-1] == "account.deleted"
    with pytest.raises(Refused):
        ledger.commit(delete_account)
    put(ledger)
    with pytest.raises(Refused) as refused:
        ledger.verify(phone.code(ledger.clock.now(), ahead=1), browser=signed_in.browser)
    assert refused.value.code == "no_factor"
    assert refusal(ledger, signed_in.claims) == "receipt_mismatch"


# Events and epochs.


@pytest.mark.parametrize("kind", EVENTS)
def test_every_event_begins_a_new_epoch_under_which_nothing_older_works(kind: Any) -> None:
    ledger, phone = Ledger.with_totp()
    pending = ledger.enroll(step_up=ledger.receipt(phone))
    ledger.clock.advance(30)
    signed_in = ledger.verify(phone.code(ledger.clock.now()), purpose="pay")
    assert isinstance(signed_in, Verified)
    assert signed_in.claims is not None
    epoch = ledger.account.epoch
    ledger.record(kind)
    if kind == "disabled":
        ledger.record("enabled")
    assert ledger.account.epoch != epoch
    assert ledger.account.known_browsers == ()
    assert refusal(ledger, signed_in.claims) == "receipt_mismatch"
    with pytest.raises(Refused) as refused:
        ledger.confirm(pending, pending.code(ledger.clock.now()))
    assert refused.value.code == "not_found"
    for _ in range(3):
        ledger.verify(ledger.wrong_code(phone))
    code = phone.code(ledger.clock.now(), ahead=1)
    assert isinstance(ledger.verify(code, browser=signed_in.browser), Throttled)
    ledger.clock.advance(30)
    assert isinstance(ledger.verify(code), Verified), "the authenticators themselves stay"


def test_a_password_change_refills_the_lane_of_new_browsers_and_other_events_do_not() -> None:
    for kind in EVENTS:
        ledger, phone = Ledger.with_totp()
        ledger.verify(ledger.wrong_code(phone))
        ledger.record(kind)  # type: ignore[arg-type]
        assert (ledger.account.lane.spent == 0) == (kind == "password_changed"), kind
        assert ledger.authenticator(phone).failures == 1, "failures in a row go on"


def test_every_event_is_recorded_and_told() -> None:
    ledger, _ = Ledger.with_totp()
    kinds, notices = len(ledger.rows), len(ledger.notices)
    for kind in EVENTS:
        ledger.record(kind)  # type: ignore[arg-type]
    expected = ["password.changed", "sessions.ended", "account.compromised", "account.disabled", "account.enabled"]
    assert ledger.kinds[kinds:] == expected
    assert ledger.notices[notices:] == expected


def test_nothing_happens_to_an_account_that_does_not_exist() -> None:
    ledger = Ledger()
    with pytest.raises(Refused) as refused:
        ledger.record("compromised")
    assert refused.value.code == "not_found"


# Passwords.


def test_a_new_password_is_a_new_epoch_with_a_full_budget_and_the_old_one_is_dead() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    assert ledger.kinds[-1] == "password.set"
    assert "password.changed" not in ledger.notices
    ledger.verify(ledger.wrong_code(phone))
    epoch = ledger.account.epoch
    ledger.set_password("another horse battery")
    assert ledger.account.epoch != epoch
    assert ledger.account.lane.spent == 0
    assert ledger.kinds[-1] == "password.changed"
    assert ledger.notices[-1] == "password.changed"
    assert reason_of(ledger.verify(password="correct horse battery")) == "wrong_password"
    assert isinstance(ledger.verify(password="another horse battery"), Verified)
    assert sum(a.factor == "password" for a in ledger.account.authenticators) == 1


# Receipts.


def a_receipt(ledger: Ledger, phone: Any, **options: Any) -> ReceiptClaims:
    return ledger.receipt(phone, **{"purpose": "pay", **options})


def test_a_receipt_is_redeemed_once() -> None:
    ledger, phone = Ledger.with_totp()
    claims = a_receipt(ledger, phone)
    assert redeem(ledger, claims) == Redeemed(claims)
    assert ledger.kinds[-1] == "receipt.redeemed"
    assert refusal(ledger, claims) == "receipt_used"


def test_trap_47_a_receipt_for_another_purpose_or_binding_is_refused_and_not_consumed() -> None:
    ledger, phone = Ledger.with_totp()
    claims = a_receipt(ledger, phone, binding="b1")
    for purpose, binding in (("manage", "b1"), ("pay", "b2"), ("pay", None), (None, "b1")):
        assert refusal(ledger, claims, purpose, binding) == "receipt_mismatch"
    assert redeem(ledger, claims, "pay", "b1") == Redeemed(claims)


def test_a_receipt_of_another_application_or_account_is_refused_and_not_consumed() -> None:
    ledger, phone = Ledger.with_totp()
    claims = a_receipt(ledger, phone, application="shop")
    assert refusal(ledger, claims) == "receipt_mismatch"
    assert refusal(ledger, msgspec.structs.replace(claims, sub="bob"), application="shop") == "receipt_mismatch"
    assert redeem(ledger, claims, application="shop") == Redeemed(claims)


@pytest.mark.parametrize(("seconds", "is_good"), [(119, True), (120, False), (121, False)])
def test_a_receipt_is_good_until_its_last_second(seconds: int, is_good: bool) -> None:
    ledger, phone = Ledger.with_totp()
    claims = a_receipt(ledger, phone)
    ledger.clock.advance(seconds)
    if is_good:
        assert redeem(ledger, claims) == Redeemed(claims)
    else:
        assert refusal(ledger, claims) == "receipt_mismatch"


def test_a_receipt_of_an_account_that_is_gone_or_disabled_is_refused() -> None:
    ledger, phone = Ledger.with_totp()
    claims = a_receipt(ledger, phone)
    with pytest.raises(Refused) as refused:
        redeem_receipt(None, claims, ledger.call(), purpose="pay", binding=None)
    assert refused.value.code == "receipt_mismatch"
    disabled = msgspec.structs.replace(ledger.account, is_disabled=True)
    with pytest.raises(Refused) as refused:
        redeem_receipt(disabled, claims, ledger.call(), purpose="pay", binding=None)
    assert refused.value.code == "disabled"


def test_a_receipt_that_was_redeemed_is_no_step_up_any_more() -> None:
    ledger, phone = Ledger.with_totp()
    claims = ledger.receipt(phone)
    assert redeem(ledger, claims, "manage") == Redeemed(claims)
    with pytest.raises(Refused) as refused:
        ledger.enroll(step_up=claims)
    assert refused.value.code == "step_up_required"
    assert ledger.enroll(step_up=ledger.receipt(phone)).factor == "totp"


def test_an_event_may_be_recorded_by_any_application() -> None:
    ledger, _ = Ledger.with_totp()

    def compromise(account: Any, call: Call) -> Any:
        return record_event(account, "compromised", call)

    ledger.commit(compromise, application="shop")
    assert b'"application":"shop"' in (ledger.rows[-1].payload or b"")


# Known browsers.


def test_a_forgotten_browser_is_a_new_one_from_now_on() -> None:
    ledger, phone = Ledger.with_totp()
    agents = ("Mozilla/5.0 (X11; Linux) Firefox/140.0", "Mozilla/5.0 (Macintosh) Version/18 Safari/600")
    values = [sign_in(ledger, phone, user_agent=agent) for agent in agents]
    first, second = ledger.account.known_browsers
    assert (first.name, second.name) == ("Firefox on Linux", "Safari on macOS")
    assert first.id != second.id
    ledger.commit(lambda account, call: forget_browser(account, first.id, call))
    now = ledger.clock.now()
    assert [find_known_browser(ledger.account, value, now) for value in values] == [None, second]
    assert ledger.kinds[-1] == "browser.forgotten"
    with pytest.raises(Refused) as refused:
        ledger.commit(lambda account, call: forget_browser(account, first.id, call))
    assert refused.value.code == "not_found"
