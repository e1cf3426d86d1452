from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.kit import Phone, reason_of
from tests.ledger import Ledger

from twofold.core.account import AUTHENTICATORS_MAX, PENDING_MAX, Account
from twofold.core.activity import read_activity
from twofold.core.attempt import Call
from twofold.core.decision import (
    Confirmed,
    Decision,
    Done,
    NeedsRecoveryCodes,
    ReceiptClaims,
    Rejected,
    Renewed,
    Throttled,
    Verified,
)
from twofold.core.enrollment import (
    begin_enrollment,
    confirm_enrollment,
    import_authenticator,
    rename_authenticator,
    renew_recovery_codes,
    revoke_authenticator,
)
from twofold.core.factor import read_answer
from twofold.errors import Refused, Unavailable


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


# Begin and confirm.


def test_the_first_code_makes_a_pending_authenticator_active_and_brings_ten_recovery_codes() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    assert ledger.account.state == "empty"
    assert ledger.authenticator(phone).state == "pending"
    outcome = ledger.confirm(phone, right_code(ledger, phone))
    assert isinstance(outcome, Confirmed)
    assert (outcome.id, outcome.factor) == (phone.id, "totp")
    assert len(set(outcome.recovery_codes)) == 10
    assert ledger.account.state == "active"
    assert ledger.kinds == ["account.added", "enrollment.begun", "authenticator.added", "recovery_codes.made"]
    assert ledger.notices == ["authenticator.added"]


def test_the_second_authenticator_brings_no_recovery_codes() -> None:
    ledger, phone = Ledger.with_totp()
    second = ledger.enroll(step_up=ledger.receipt(phone))
    outcome = ledger.confirm(second, right_code(ledger, second))
    assert outcome == Confirmed(second.id, "totp")


def test_a_hotp_token_is_enrolled_like_a_phone() -> None:
    ledger = Ledger.with_account()
    token = ledger.add("hotp")
    assert ledger.hotp(token).counter == 1
    assert isinstance(ledger.verify(token.press()), Verified)


def test_trap_51_a_wrong_code_leaves_it_pending_with_the_same_secret() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    assert reason_of(ledger.confirm(phone, ledger.wrong_code(phone))) == "wrong_code"
    assert ledger.kinds[-1] == "enrollment.refused"
    again = ledger.enroll()
    assert (again.id, again.secret) == (phone.id, phone.secret)
    assert isinstance(ledger.confirm(phone, right_code(ledger, phone)), Confirmed)


@pytest.mark.parametrize("ahead", [-20, -2, 2, 20])
def test_two_first_codes_with_one_offset_say_how_far_the_clock_is_off(ahead: int) -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    first = phone.code(ledger.clock.now(), ahead=ahead)
    assert ledger.confirm(phone, first) == Rejected("wrong_code")
    assert ledger.confirm(phone, first) == Rejected("code_already_used"), "the same one tells nothing"
    ledger.clock.advance(30)
    second = phone.code(ledger.clock.now(), ahead=ahead)
    assert ledger.confirm(phone, second) == Rejected("clock_off", clock_offset_s=30 * ahead)
    assert ledger.kinds[-3:] == ["enrollment.refused"] * 3
    assert ledger.enroll().secret == phone.secret
    ledger.clock.advance(90)
    assert isinstance(ledger.confirm(phone, right_code(ledger, phone)), Confirmed), "the clock was set right"


@pytest.mark.parametrize("offsets", [(5, 6), (21, 21)])
def test_other_first_codes_say_nothing_of_the_clock(offsets: tuple[int, int]) -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    for ahead in offsets:
        assert ledger.confirm(phone, phone.code(ledger.clock.now(), ahead=ahead)) == Rejected("wrong_code")
        ledger.clock.advance(30)


def test_wrong_first_codes_are_slowed_from_the_third_on_and_never_charged_to_a_lane() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    for _ in range(3):
        assert reason_of(ledger.confirm(phone, ledger.wrong_code(phone))) == "wrong_code"
    assert ledger.confirm(phone, right_code(ledger, phone)) == Throttled(1)
    assert ledger.account.lane.spent == 0
    ledger.clock.advance(-5)
    assert reason_of(ledger.confirm(phone, ledger.wrong_code(phone))) == "wrong_code", "a clock gone back opens it"
    assert ledger.confirm(phone, right_code(ledger, phone)) == Throttled(2)
    ledger.clock.advance(2)
    assert isinstance(ledger.confirm(phone, right_code(ledger, phone)), Confirmed)


@pytest.mark.parametrize("code", ["", "1234567", "AAAA-BBBB-CCCC-DDDD-EEEE", "١٢٣٤٥٦"])
def test_what_is_no_code_does_not_confirm(code: str) -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    assert reason_of(ledger.confirm(phone, code)) == "wrong_code"
    assert isinstance(ledger.confirm(phone, right_code(ledger, phone)), Confirmed)


def test_three_codes_do_not_confirm() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()

    def decide(account: Account | None, call: Call) -> Decision:
        answer = read_answer(phone.three(call.now))
        return confirm_enrollment(account, phone.id, answer, call, factors=ledger.factors, seals=ledger.seals)

    assert reason_of(ledger.commit(decide)) == "wrong_code"
    assert isinstance(ledger.confirm(phone, right_code(ledger, phone)), Confirmed)


def test_trap_51_a_pending_enrollment_lives_fifteen_minutes() -> None:
    for seconds, is_there in ((899, True), (900, False)):
        ledger = Ledger.with_account()
        phone = ledger.enroll()
        ledger.clock.advance(seconds)
        if is_there:
            assert isinstance(ledger.confirm(phone, right_code(ledger, phone)), Confirmed)
        else:
            code = right_code(ledger, phone)
            assert refusal(lambda: ledger.confirm(phone, code)) == "not_found"  # noqa: B023
            assert ledger.enroll().secret != phone.secret


def test_confirming_twice_is_a_conflict() -> None:
    ledger, phone = Ledger.with_totp()
    assert refusal(lambda: ledger.confirm(phone, right_code(ledger, phone))) == "conflict"


def test_a_pending_authenticator_whose_seed_cannot_be_opened_is_not_confirmed() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    ledger.seals.gone.add("data-1")
    with pytest.raises(Unavailable):
        ledger.confirm(phone, right_code(ledger, phone))
    ledger.seals.gone.clear()
    assert isinstance(ledger.confirm(phone, right_code(ledger, phone)), Confirmed)


def test_a_right_first_code_asks_for_recovery_codes_before_anything_is_written() -> None:
    ledger = Ledger.with_account()
    phone = ledger.enroll()
    before = ledger.account

    def decide(account: Account | None, call: Call) -> Decision:
        answer = read_answer([phone.code(call.now)])
        return confirm_enrollment(account, phone.id, answer, call, factors=ledger.factors, seals=ledger.seals)

    assert ledger.commit(decide) == NeedsRecoveryCodes()
    assert ledger.account == before


# Reload, other callers, limits.


def test_the_same_caller_who_begins_again_sees_the_same_secret_and_nothing_is_written() -> None:
    ledger = Ledger.with_account()
    first = ledger.enroll()
    version = ledger.standing.version
    second = ledger.enroll()
    assert (second.id, second.secret) == (first.id, first.secret)
    assert ledger.standing.version == version


def test_trap_52_another_caller_never_sees_the_secret_of_the_first() -> None:
    ledger = Ledger.with_account()
    first = ledger.enroll(application="shop")
    other = ledger.enroll(application="blog")
    assert other.id != first.id
    assert other.secret != first.secret


def test_another_factor_or_replacement_is_another_enrollment() -> None:
    ledger, phone = Ledger.with_totp()
    plain = ledger.enroll(step_up=ledger.receipt(phone))
    replacing = ledger.enroll(replaces=phone.id, step_up=ledger.receipt(phone))
    assert plain.id != replacing.id
    ledger = Ledger.with_account()
    assert ledger.enroll("totp").id != ledger.enroll("hotp").id


def test_trap_51_the_oldest_of_two_pending_enrollments_makes_room_for_a_third() -> None:
    ledger = Ledger.with_account()
    phones = [ledger.enroll(application=name) for name in ("one", "two", "three")]
    pending = [a.id for a in ledger.account.authenticators]
    assert pending == [phone.id for phone in phones[1:]]
    assert len(pending) == PENDING_MAX
    assert refusal(lambda: ledger.confirm(phones[0], right_code(ledger, phones[0]), application="one")) == "not_found"
    assert refusal(lambda: ledger.confirm(phones[1], right_code(ledger, phones[1]), application="one")) == "not_found"
    assert isinstance(ledger.confirm(phones[1], right_code(ledger, phones[1]), application="two"), Confirmed)


def test_an_account_has_at_most_twenty_authenticators() -> None:
    ledger, phone = Ledger.with_totp()
    for _ in range(AUTHENTICATORS_MAX - 2):
        ledger.import_phone(ledger.new_phone())
    assert len(ledger.account.authenticators) == AUTHENTICATORS_MAX
    assert refusal(lambda: ledger.enroll(is_admin=True)) == "too_many"
    assert refusal(lambda: ledger.import_phone(ledger.new_phone())) == "too_many"
    assert refusal(lambda: ledger.set_password("correct horse battery")) == "too_many"
    assert isinstance(ledger.verify(right_code(ledger, phone)), Verified)
    assert isinstance(renew(ledger, is_admin=True), Renewed), "an exchange takes no room"
    revoke(ledger, phone, is_admin=True)
    assert ledger.enroll(is_admin=True).id


def test_an_enrollment_that_could_not_be_confirmed_for_want_of_room_is_not_begun() -> None:
    ledger = Ledger.with_account()
    phones = [ledger.import_phone(ledger.new_phone()) for _ in range(AUTHENTICATORS_MAX - 1)]
    # It would need two places: its own, and one for the recovery codes that come with it.
    assert refusal(lambda: ledger.enroll(is_admin=True)) == "too_many"
    revoke(ledger, phones[0], is_admin=True)
    last = ledger.enroll(is_admin=True)
    outcome = ledger.confirm(last, right_code(ledger, last), is_admin=True)
    assert isinstance(outcome, Confirmed)
    assert len(outcome.recovery_codes) == 10


@pytest.mark.parametrize("state", ["missing", "disabled"])
def test_nothing_is_managed_on_an_account_that_is_missing_or_disabled(state: str) -> None:
    ledger = Ledger()
    if state == "disabled":
        ledger, _ = Ledger.with_totp()
        ledger.record("disabled")
    code = {"missing": "not_found", "disabled": "disabled"}[state]
    phone = ledger.new_phone()
    fresh = ledger.new_otp(phone)
    actions: list[Callable[[Account | None, Call], object]] = [
        lambda account, call: begin_enrollment(account, fresh, call),
        lambda account, call: import_authenticator(account, fresh, call),
        lambda account, call: rename_authenticator(account, phone.id, "x", call),
        lambda account, call: revoke_authenticator(account, phone.id, call),
        lambda account, call: renew_recovery_codes(account, None, call),
    ]
    account = ledger.standing.state
    assert account is None or isinstance(account, Account)
    for action in actions:
        assert refusal(lambda: action(account, ledger.call(is_admin=True))) == code  # noqa: B023
    assert refusal(lambda: ledger.confirm(phone, "123456")) == code


def test_trap_53_the_last_second_factor_stays_where_that_is_asked_for() -> None:
    ledger, phone = Ledger.with_totp()
    keep = lambda account, call: revoke_authenticator(account, phone.id, call, keeps_last=True)  # noqa: E731
    assert refusal(lambda: ledger.commit(keep, is_admin=True)) == "conflict"
    assert ledger.account.has_second_factor
    other = ledger.new_phone()
    fresh = ledger.new_otp(other)
    ledger.commit(lambda account, call: import_authenticator(account, fresh, call), is_admin=True)
    assert ledger.commit(keep, is_admin=True) == Done()


# Import, rename, revoke, renew.


def test_an_import_is_active_at_once_brings_no_recovery_codes_and_needs_the_scope_admin() -> None:
    ledger = Ledger.with_account()
    phone = ledger.new_phone()
    fresh = ledger.new_otp(phone)
    importing = lambda account, call: import_authenticator(account, fresh, call, label="token")  # noqa: E731
    assert refusal(lambda: ledger.commit(importing)) == "forbidden"
    assert ledger.commit(importing, is_admin=True) == Confirmed(phone.id, "totp")
    assert [(a.factor, a.label, a.state) for a in ledger.account.authenticators] == [("totp", "token", "active")]
    assert ledger.notices == ["authenticator.added"]
    assert isinstance(ledger.verify(right_code(ledger, phone)), Verified)


def test_the_first_enrollment_after_an_import_brings_recovery_codes() -> None:
    ledger = Ledger.with_account()
    imported = ledger.import_phone(ledger.new_phone())
    second = ledger.enroll(step_up=ledger.receipt(imported))
    outcome = ledger.confirm(second, right_code(ledger, second))
    assert isinstance(outcome, Confirmed)
    assert len(outcome.recovery_codes) == 10


def test_what_is_sealed_names_its_data_key_so_that_the_commit_can_check_it() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.enroll(step_up=ledger.receipt(phone))
    assert ledger.last is not None
    assert ledger.last.decision.sealed_with == ("data-1",)
    ledger.import_phone(ledger.new_phone())
    assert ledger.last.decision.sealed_with == ("data-1",)
    ledger.clock.advance(901)
    unsealed = msgspec.structs.replace(ledger.new_otp(ledger.new_phone()), sealed_with=None)
    decision, _ = begin_enrollment(ledger.account, unsealed, ledger.call(is_admin=True))
    imported = import_authenticator(ledger.account, unsealed, ledger.call(is_admin=True))
    assert decision.sealed_with == imported.sealed_with == ()


def test_a_new_label_changes_nothing_else() -> None:
    ledger, phone = Ledger.with_totp()
    before = ledger.authenticator(phone)
    ledger.commit(lambda account, call: rename_authenticator(account, phone.id, "old phone", call))
    assert ledger.authenticator(phone) == msgspec.structs.replace(before, label="old phone")
    assert ledger.kinds[-1] == "authenticator.renamed"
    missing = lambda account, call: rename_authenticator(account, "au_nothing", "x", call)  # noqa: E731
    assert refusal(lambda: ledger.commit(missing)) == "not_found"


def test_asvs_6_5_6_what_was_removed_is_refused_at_once() -> None:
    ledger, phone = Ledger.with_totp()
    other = ledger.import_phone(ledger.new_phone())
    revoke(ledger, phone, ledger.receipt(other))
    assert reason_of(ledger.verify(right_code(ledger, phone))) == "wrong_code"
    ledger.clock.advance(30)
    assert isinstance(ledger.verify(right_code(ledger, other)), Verified)
    assert refusal(lambda: revoke(ledger, phone, is_admin=True)) == "not_found"


def test_with_the_last_authenticator_go_the_recovery_codes() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    code = ledger.recovery_codes[0]
    revoke(ledger, phone, ledger.receipt(phone))
    assert [a.factor for a in ledger.account.authenticators] == ["password"]
    assert refusal(lambda: ledger.verify(code)) == "no_factor"
    assert ledger.add().id != phone.id


def test_a_pending_enrollment_is_canceled_without_a_step_up_and_without_a_notice() -> None:
    ledger, phone = Ledger.with_totp()
    pending = ledger.enroll(step_up=ledger.receipt(phone))
    before = len(ledger.notices)
    assert revoke(ledger, pending) == Done()
    assert len(ledger.notices) == before
    assert refusal(lambda: ledger.confirm(pending, right_code(ledger, pending))) == "not_found"
    assert isinstance(ledger.verify(ledger.recovery_codes[0]), Verified), "the rest is as it was"


def test_trap_23_new_recovery_codes_make_every_old_one_dead() -> None:
    ledger, phone = Ledger.with_totp()
    old = ledger.recovery_codes
    renewed = renew(ledger, ledger.receipt(phone))
    assert isinstance(renewed, Renewed)
    assert len(set(renewed.recovery_codes) | set(old)) == 20
    assert all(reason_of(ledger.verify(code)) == "wrong_code" for code in old)
    assert isinstance(ledger.verify(renewed.recovery_codes[0]), Verified)
    assert "recovery_codes.made" in ledger.notices


def test_new_recovery_codes_are_recorded_with_the_set_that_they_replace() -> None:
    ledger, phone = Ledger.with_totp()
    old = next(a.id for a in ledger.account.authenticators if a.factor == "recovery_codes")
    renew(ledger, ledger.receipt(phone))
    made = [read_activity(row).text("replaces") for row in ledger.rows if row.kind == "recovery_codes.made"]
    assert made == ["", old]


def test_recovery_codes_need_something_that_they_stand_in_for() -> None:
    ledger = Ledger.with_account()
    assert refusal(lambda: renew(ledger)) == "no_factor"
    ledger.add()
    assert isinstance(renew(ledger, is_admin=True), Renewed)


def test_new_recovery_codes_are_prepared_only_after_the_step_up_was_checked() -> None:
    ledger, phone = Ledger.with_totp()
    receipt = ledger.receipt(phone)
    decide = lambda account, call: renew_recovery_codes(account, None, call, step_up=receipt)  # noqa: E731
    assert ledger.commit(decide) == NeedsRecoveryCodes()
    assert isinstance(renew(ledger, receipt), Renewed), "asking for them has not used the receipt up"


def test_new_recovery_codes_take_a_free_place() -> None:
    ledger = Ledger.with_account()
    for _ in range(AUTHENTICATORS_MAX):
        ledger.import_phone(ledger.new_phone())
    assert refusal(lambda: renew(ledger, is_admin=True)) == "too_many"
