import msgspec
import pytest
from tests.ledger import Ledger

from twofold.core.account import Account, Authenticator, with_authenticator
from twofold.core.health import CODES_LEFT_LOW, CODES_NEW_S, Finding, Health, assess_health, has_new_codes
from twofold.factors import FACTORS

PHISHABLE = Finding("only_phishable")


def codes_of(health: Health) -> list[str]:
    return [finding.code for finding in health.findings]


def with_passkey(account: Account) -> Account:
    passkey = Authenticator("au_key", "webauthn", "key", "active", b"", 0)
    return msgspec.structs.replace(account, authenticators=(*account.authenticators, passkey))


def test_an_account_without_a_second_factor_is_weak() -> None:
    ledger = Ledger.with_account()
    ledger.set_password("violet harbour 1926")
    ledger.enroll()
    assert assess_health(ledger.account, recovery_codes_left=0) == Health("weak", (Finding("no_second_factor"),))


def test_one_authenticator_and_recovery_codes_are_fair() -> None:
    ledger, _ = Ledger.with_totp()
    health = assess_health(ledger.account, recovery_codes_left=10)
    assert health == Health("fair", (Finding("no_second_authenticator"), PHISHABLE))


def test_two_authenticators_and_recovery_codes_are_good_and_codes_can_still_be_phished() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.add(step_up=ledger.receipt(phone))
    assert assess_health(ledger.account, recovery_codes_left=10) == Health("good", (PHISHABLE,))


def test_nothing_is_left_to_say_with_an_authenticator_that_stops_phishing() -> None:
    ledger, _ = Ledger.with_totp()
    assert assess_health(with_passkey(ledger.account), recovery_codes_left=10) == Health("good")


@pytest.mark.parametrize("factor", sorted(FACTORS.keys() - {"password", "recovery_codes"}))
def test_nist_3_2_5_whatever_is_typed_can_be_phished_and_a_passkey_cannot(factor: str) -> None:
    ledger = Ledger.with_account()
    account = msgspec.structs.replace(
        ledger.account, authenticators=tuple(Authenticator(f"au_{n}", factor, "", "active", b"", 0) for n in range(2))
    )
    findings = () if factor == "webauthn" else (PHISHABLE,)
    assert assess_health(account, recovery_codes_left=10) == Health("good", findings)


def test_without_recovery_codes_one_lost_phone_is_a_lost_account_and_one_of_two_is_none() -> None:
    ledger, _ = Ledger.with_totp()
    alone = assess_health(ledger.account, recovery_codes_left=0)
    assert (alone.state, codes_of(alone)[:2]) == ("weak", ["no_recovery_codes", "no_second_authenticator"])
    both = assess_health(with_passkey(ledger.account), recovery_codes_left=0)
    assert (both.state, codes_of(both)) == ("fair", ["no_recovery_codes"])


@pytest.mark.parametrize(("left", "state"), [(1, "fair"), (CODES_LEFT_LOW, "fair"), (CODES_LEFT_LOW + 1, "good")])
def test_few_recovery_codes_are_said_with_their_number(left: int, state: str) -> None:
    ledger, _ = Ledger.with_totp()
    health = assess_health(with_passkey(ledger.account), recovery_codes_left=left)
    assert health.state == state
    assert health.findings == ((Finding("few_recovery_codes", left),) if state == "fair" else ())


def test_what_a_hundred_wrong_codes_switched_off_comes_first_and_is_named() -> None:
    ledger, phone = Ledger.with_totp()
    disabled = msgspec.structs.replace(ledger.authenticator(phone), state="disabled", label="my phone")
    account = with_authenticator(ledger.account, disabled)
    alone = assess_health(account, recovery_codes_left=10)
    assert alone == Health(
        "weak", (Finding("disabled_authenticator", 0, phone.id, "my phone"), Finding("no_second_factor"))
    )
    beside = assess_health(with_passkey(account), recovery_codes_left=10)
    assert (beside.state, codes_of(beside)) == ("weak", ["disabled_authenticator", "no_second_authenticator"])


def test_recovery_codes_are_new_for_a_quarter_of_an_hour() -> None:
    ledger = Ledger.with_account()
    assert not has_new_codes(ledger.account, ledger.clock.now())
    ledger.add("totp")
    ledger.clock.advance(CODES_NEW_S - 1)
    assert has_new_codes(ledger.account, ledger.clock.now())
    ledger.clock.advance(1)
    assert not has_new_codes(ledger.account, ledger.clock.now())


def test_where_a_passkey_would_work_and_there_is_none_it_is_what_is_said_of_phishing() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.add(step_up=ledger.receipt(phone))
    health = assess_health(ledger.account, recovery_codes_left=10, can_add_passkey=True)
    assert health == Health("good", (Finding("no_passkey"),))
    assert assess_health(with_passkey(ledger.account), recovery_codes_left=10, can_add_passkey=True) == Health("good")


def test_what_does_not_work_where_the_person_is_counts_for_nothing() -> None:
    ledger, _ = Ledger.with_totp()
    both = with_passkey(ledger.account)
    alone = assess_health(ledger.account, recovery_codes_left=10, can_add_passkey=True)
    assert assess_health(both, recovery_codes_left=10, useless={"au_key"}, can_add_passkey=True) == alone
    assert codes_of(alone) == ["no_second_authenticator", "no_passkey"]


def test_what_stops_after_a_reset_is_no_lasting_safety() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.add(step_up=ledger.receipt(phone))
    lasting = ledger.account.authenticators
    account = msgspec.structs.replace(
        ledger.account, authenticators=(msgspec.structs.replace(lasting[0], stops_at=1), *lasting[1:])
    )
    health = assess_health(account, recovery_codes_left=10)
    assert (health.state, codes_of(health)) == ("fair", ["stopping", "only_phishable"])
