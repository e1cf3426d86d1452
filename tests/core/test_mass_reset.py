"""A reset of many on suspicion, as it is decided for one of them: the grace, its end, and who is left alone."""

from typing import Any

import msgspec
import pytest
from tests.browser_session import PASSWORD, Browser
from tests.kit import Phone, reason_of
from tests.ledger import Ledger, refusal_of, sign_in

from twofold.core.account import FIRST_FACTOR, RECOVERY, Account, Authenticator, find_known_browser
from twofold.core.clock import MICROS_PER_S, in_seconds
from twofold.core.codec import _encode
from twofold.core.decision import Confirmed, Decision, Done, Redeemed, Verified
from twofold.core.enrollment import renew_recovery_codes, revoke_authenticator
from twofold.core.management import redeem_receipt
from twofold.core.mass_reset import Grace, begin_reset, needs_link, remove_stopped
from twofold.core.session import find_ending
from twofold.core.step_up import is_receipt_good
from twofold.core.throttle import Lane
from twofold.errors import Refused

DAY_S = 86_400


def everything(authenticator: Authenticator) -> bool:
    return authenticator.factor not in (FIRST_FACTOR, RECOVERY)


def begin(ledger: Ledger, *, grace_s: int = 0, begun_at: int | None = None, chosen: Any = everything) -> Decision:
    begun_at = ledger.clock.now() if begun_at is None else begun_at
    grace = Grace(begun_at, begun_at + in_seconds(grace_s))
    made: list[Decision] = []

    def decide(account: Account | None, call: Any) -> Decision:
        made.append(begin_reset(account, call, grace=grace, is_suspected=chosen, reason="seeds leaked"))
        return made[-1]

    ledger.commit(decide, is_admin=True)
    return made[-1]


def a_person() -> tuple[Ledger, Phone]:
    ledger, phone = Ledger.with_totp()
    ledger.set_password(PASSWORD)
    return ledger, phone


def factors(ledger: Ledger) -> list[str]:
    return [a.factor for a in ledger.account.authenticators]


def payload(ledger: Ledger, at: int = -1) -> dict[str, Any]:
    return msgspec.json.decode(ledger.rows[at].payload or b"")  # type: ignore[no-any-return]


# At once.


def test_without_a_grace_everything_but_the_password_goes_at_once() -> None:
    ledger, _ = a_person()
    before = ledger.account.epoch
    begin(ledger)
    assert factors(ledger) == ["password"]
    assert ledger.account.epoch != before
    assert (ledger.kinds[-1], ledger.notices[-1]) == ("account.reset_begun",) * 2
    assert payload(ledger)["reason"] == "seeds leaked"
    assert "stops_at" not in payload(ledger)
    assert refusal_of(ledger, ledger.new_phone().code(ledger.clock.now())) == "no_factor"
    browser = Browser(ledger)
    browser.give_password()
    assert browser.session is not None
    assert browser.session.level == "enrolling"


def test_without_a_grace_the_budget_of_guesses_is_full_again() -> None:
    ledger, phone = a_person()
    ledger.verify(ledger.wrong_code(phone))
    assert ledger.account.lane != Lane()
    begin(ledger)
    assert ledger.account.lane == Lane()


def test_a_disabled_account_is_reset_as_well_and_stays_disabled() -> None:
    ledger, _ = a_person()
    ledger.record("disabled")
    begin(ledger)
    assert factors(ledger) == ["password"]
    assert ledger.account.is_disabled


# During the grace.


def test_sessions_and_known_browsers_end_at_once_and_the_old_phone_serves_on() -> None:
    ledger, phone = a_person()
    browser = Browser(ledger)
    browser.give_password()
    browser.give_code(ledger.next_code(phone))
    assert browser.session is not None
    known = sign_in(ledger, phone)
    begin(ledger, grace_s=14 * DAY_S)
    assert find_ending(browser.session, ledger.account, ledger.clock.now()) == "ended"
    assert find_known_browser(ledger.account, known, ledger.clock.now()) is None
    outcome = ledger.verify(ledger.next_code(phone))
    assert isinstance(outcome, Verified)
    assert outcome.reenroll_by == ledger.account.stops_at
    assert payload(ledger, -2)["stops_at"].endswith("Z")


def test_a_verdict_says_nothing_of_an_end_where_there_is_none() -> None:
    ledger, phone = a_person()
    outcome = ledger.verify(ledger.next_code(phone))
    assert isinstance(outcome, Verified)
    assert outcome.reenroll_by == 0
    assert ledger.account.stops_at == 0


def test_a_recovery_code_works_in_the_grace_and_says_so_too() -> None:
    ledger, _ = a_person()
    begin(ledger, grace_s=DAY_S)
    outcome = ledger.verify(ledger.recovery_codes[0])
    assert isinstance(outcome, Verified)
    assert outcome.reenroll_by == ledger.account.stops_at


def test_a_new_authenticator_takes_the_place_of_all_that_stop_and_brings_new_recovery_codes() -> None:
    ledger, phone = a_person()
    second = ledger.import_phone(ledger.new_phone())
    begin(ledger, grace_s=DAY_S)
    old_codes = ledger.recovery_codes
    new = ledger.enroll(step_up=ledger.receipt(phone))
    confirmed = ledger.confirm(new, new.code(ledger.clock.now()))
    assert isinstance(confirmed, Confirmed)
    assert len(confirmed.recovery_codes) == 10
    assert set(confirmed.recovery_codes).isdisjoint(old_codes)
    assert factors(ledger) == ["password", "totp", "recovery_codes"]
    removed = [payload(ledger, n) for n, row in enumerate(ledger.rows) if row.kind == "authenticator.removed"]
    assert {event["replaced_by"] for event in removed} == {new.id}
    assert {phone.id, second.id} < {event["authenticator"] for event in removed}
    assert len(removed) == 3
    assert ledger.account.stops_at == 0
    ledger.clock.advance(60)
    assert reason_of(ledger.verify(phone.code(ledger.clock.now()))) == "wrong_code"
    assert reason_of(ledger.verify(old_codes[0])) == "wrong_code"
    assert isinstance(ledger.verify(ledger.next_code(new)), Verified)


def test_a_new_authenticator_removes_nothing_where_nothing_stops() -> None:
    ledger, phone = a_person()
    new = ledger.enroll(step_up=ledger.receipt(phone))
    assert isinstance(ledger.confirm(new, new.code(ledger.clock.now())), Confirmed)
    assert sorted(factors(ledger)) == ["password", "recovery_codes", "totp", "totp"]


def test_a_secret_that_an_administrator_brings_along_removes_nothing() -> None:
    ledger, phone = a_person()
    begin(ledger, grace_s=DAY_S)
    ledger.import_phone(ledger.new_phone())
    assert isinstance(ledger.verify(ledger.next_code(phone)), Verified)


def test_a_session_that_an_authenticator_opened_ends_when_that_stops() -> None:
    ledger, phone = a_person()
    begin(ledger, grace_s=3 * DAY_S)
    ledger.clock.advance(3 * DAY_S - 600)
    browser = Browser(ledger)
    browser.give_password()
    browser.give_code(ledger.next_code(phone))
    assert browser.session is not None
    assert browser.session.level == "full"
    assert browser.session.expires_at == ledger.account.stops_at
    ledger.clock.set(ledger.account.stops_at / MICROS_PER_S)
    assert find_ending(browser.session, ledger.account, ledger.clock.now()) == "expired"


# At its end.


def test_at_the_end_of_the_grace_the_old_phone_and_the_recovery_codes_count_for_nothing() -> None:
    ledger, phone = a_person()
    receipt = ledger.receipt(phone)
    begin(ledger, grace_s=DAY_S)
    ledger.clock.set(ledger.account.stops_at / MICROS_PER_S - 1)
    assert isinstance(ledger.verify(ledger.next_code(phone)), Verified)
    ledger.clock.advance(31)
    assert refusal_of(ledger, phone.code(ledger.clock.now())) == "no_factor"
    assert refusal_of(ledger, ledger.recovery_codes[0]) == "no_factor"
    assert not is_receipt_good(ledger.account, receipt, ledger.call())
    browser = Browser(ledger)
    browser.give_password()
    assert browser.session is not None
    assert browser.session.level == "enrolling"
    assert factors(ledger) == ["password"]


def test_a_receipt_of_what_stopped_is_not_redeemed() -> None:
    for passed_s, is_good in ((0, True), (100, False)):
        ledger, phone = a_person()
        begin(ledger, grace_s=DAY_S)
        ledger.clock.set(ledger.account.stops_at / MICROS_PER_S - 61)
        claims = ledger.receipt(phone, purpose="pay")
        ledger.clock.advance(passed_s)

        def redeem(account: Account | None, call: Any, claims: Any = claims) -> Decision:
            return redeem_receipt(account, claims, call, purpose="pay", binding=None)

        if is_good:
            assert isinstance(ledger.commit(redeem), Redeemed)
        else:
            with pytest.raises(Refused) as refused:
                ledger.commit(redeem)
            assert refused.value.code == "receipt_mismatch"


def test_recovery_codes_that_do_not_stop_go_with_the_last_that_they_stand_in_for() -> None:
    ledger, phone = a_person()
    begin(ledger, grace_s=DAY_S)
    receipt, fresh = ledger.receipt(phone), ledger.new_recovery_codes()
    ledger.commit(lambda account, call: renew_recovery_codes(account, fresh, call, step_up=receipt))
    codes = next(a for a in ledger.account.authenticators if a.factor == RECOVERY)
    assert codes.stops_at == 0
    ledger.clock.advance(DAY_S)
    ledger.commit(remove_stopped)
    assert factors(ledger) == ["password"]


def test_what_stopped_is_taken_out_of_the_document_without_an_event() -> None:
    ledger, _ = a_person()
    begin(ledger, grace_s=DAY_S)
    ledger.clock.advance(DAY_S - 1)
    ledger.commit(remove_stopped)
    assert "totp" in factors(ledger)
    ledger.clock.advance(1)
    events = len(ledger.rows)
    ledger.commit(remove_stopped)
    assert (factors(ledger), len(ledger.rows)) == (["password"], events)
    with pytest.raises(Refused) as refused:
        remove_stopped(None, ledger.call())
    assert refused.value.code == "not_found"


# Who is chosen.


def test_what_was_set_up_after_the_beginning_stays() -> None:
    ledger, _ = a_person()
    begun_at = ledger.clock.now()
    ledger.clock.advance(60)
    later = ledger.import_phone(ledger.new_phone())
    begin(ledger, begun_at=begun_at)
    assert [a.id for a in ledger.account.authenticators if a.factor == "totp"] == [later.id]
    assert "recovery_codes" in factors(ledger), "something is left that they stand in for"


def test_only_what_is_suspected_stops_and_the_recovery_codes_with_the_last_of_it() -> None:
    ledger, phone = a_person()
    ledger.clock.advance(1)
    other = ledger.import_phone(ledger.new_phone())
    begin(ledger, grace_s=DAY_S, chosen=lambda a: a.id == phone.id)
    stops = {a.id: a.stops_at for a in ledger.account.authenticators if a.stops_at}
    assert list(stops) == [phone.id]
    assert not needs_link(ledger.account)
    begin(ledger, grace_s=DAY_S, chosen=lambda a: a.id == other.id)
    stopping = [a.factor for a in ledger.account.authenticators if a.stops_at]
    assert sorted(stopping) == ["recovery_codes", "totp", "totp"]


def test_nothing_happens_to_whoever_has_nothing_of_it() -> None:
    ledger, _ = a_person()
    before = ledger.standing
    assert begin(ledger, chosen=lambda a: False) == Decision(Done())
    empty = Ledger.with_account("bo")
    assert begin(empty).account == "unchanged"
    assert ledger.standing == before
    with pytest.raises(Refused) as refused:
        begin(Ledger("nobody"))
    assert refused.value.code == "not_found"


def test_a_reset_that_is_run_again_changes_nothing_and_an_earlier_end_does() -> None:
    ledger, _ = a_person()
    begun_at = ledger.clock.now()
    begin(ledger, grace_s=DAY_S)
    ledger.clock.advance(60)
    epoch = ledger.account.epoch
    assert begin(ledger, grace_s=DAY_S, begun_at=begun_at).account == "unchanged"
    assert begin(ledger, grace_s=2 * DAY_S).account == "unchanged"
    assert ledger.account.epoch == epoch
    begin(ledger, grace_s=3600)
    assert ledger.account.stops_at == ledger.clock.now() + in_seconds(3600)
    assert ledger.account.epoch != epoch


def test_an_open_enrollment_that_is_suspected_ends_and_one_that_is_not_goes_on() -> None:
    ledger = Ledger.with_account()
    pending = ledger.enroll()
    assert begin(ledger, chosen=lambda a: False).account == "unchanged"
    begin(ledger)
    assert ledger.account.authenticators == ()
    with pytest.raises(Refused):
        ledger.confirm(pending, pending.code(ledger.clock.now()))
    begun_at = ledger.clock.now()
    ledger.clock.advance(1)
    pending = ledger.enroll()
    assert begin(ledger, begun_at=begun_at).account == "unchanged"
    assert isinstance(ledger.confirm(pending, pending.code(ledger.clock.now())), Confirmed)


def test_who_has_neither_a_password_nor_a_factor_that_stays_needs_a_link() -> None:
    ledger, _ = Ledger.with_totp()
    assert not needs_link(ledger.account)
    begin(ledger, grace_s=DAY_S)
    assert needs_link(ledger.account)
    ledger.set_password(PASSWORD)
    assert not needs_link(ledger.account)
    assert needs_link(Ledger.with_account("bo").account)


def test_the_last_authenticator_that_is_removed_takes_the_recovery_codes_along_in_the_grace_too() -> None:
    ledger, phone = a_person()
    begin(ledger, grace_s=DAY_S)
    receipt = ledger.receipt(phone)
    ledger.commit(lambda account, call: revoke_authenticator(account, phone.id, call, step_up=receipt))
    assert factors(ledger) == ["password"]


def test_documents_written_before_there_were_resets_of_many_are_read_as_without_an_end() -> None:
    ledger, _ = a_person()
    fields = msgspec.msgpack.decode(_encode(ledger.account))
    fields[4] = [authenticator[:10] for authenticator in fields[4]]
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Account) == ledger.account
