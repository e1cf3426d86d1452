import msgspec
import pytest
from tests.kit import RepeatableEntropy
from tests.ledger import Ledger

from twofold.core.account import (
    KNOWN_BROWSERS_MAX,
    Account,
    AuditHead,
    check_account_id,
    check_label,
    find_known_browser,
    new_account,
    new_deployment,
    remember_browser,
    spend,
    without_expired,
)
from twofold.core.clock import in_seconds
from twofold.core.entropy import Seed
from twofold.errors import InvalidInput, Refused

NOW = in_seconds(1_700_000_000)


def an_account() -> Account:
    return new_account("alice", Seed(b"s" * 32), NOW)


@pytest.mark.parametrize("account_id", ["a", "alice", "x" * 128, "a b", "alice@example.com", "Zoë", "名前", "#1?"])
def test_an_id_is_1_to_128_printable_characters(account_id: str) -> None:
    assert check_account_id(account_id) == account_id
    assert new_account(account_id, Seed(bytes(32)), NOW).id == account_id


@pytest.mark.parametrize(
    "account_id",
    ["", "x" * 129, "a/b", " a", "a ", "a\nb", "a\0b", "a\x1b[31mb", "Zoe\u0308", "a\u202eb", "\ud800", "a\u200bb"],
    ids=ascii,
)
def test_trap_82_what_could_be_mistaken_or_break_a_line_is_no_id(account_id: str) -> None:
    with pytest.raises(InvalidInput) as invalid:
        new_account(account_id, Seed(bytes(32)), NOW)
    assert invalid.value.field == "id"


def test_a_label_is_kept_in_nfc_without_outer_spaces_and_with_single_inner_ones() -> None:
    assert check_label("  Zoe\u0308's phone ") == "Zoë's phone"
    assert check_label("Zoe's   old  phone") == "Zoe's old phone"
    assert check_label("") == ""
    assert check_label("x" * 64) == "x" * 64


@pytest.mark.parametrize("label", ["x" * 65, "a\nb", "a \t b", "a\u202eb", "\x1b]0;x\x07"], ids=ascii)
def test_trap_82_a_label_that_is_too_long_or_not_printable_is_refused(label: str) -> None:
    with pytest.raises(InvalidInput) as invalid:
        check_label(label)
    assert invalid.value.field == "label"


def test_a_new_account_has_an_epoch_of_its_own_and_no_history() -> None:
    one, two = (new_account("alice", Seed(seed * 32), NOW) for seed in (b"1", b"2"))
    assert one.epoch != two.epoch
    assert len(one.epoch) == 8
    assert one.head == AuditHead(0, b"")
    assert one.state == "empty"


def test_the_deployments_own_account_has_an_id_that_no_person_can_have() -> None:
    deployment = new_deployment(Seed(bytes(32)), NOW)
    assert deployment.id == ""
    with pytest.raises(InvalidInput):
        check_account_id(deployment.id)


def test_the_state_of_an_account_follows_its_second_factors() -> None:
    ledger, phone = Ledger.with_totp()
    assert ledger.account.state == "active"
    states = {
        "pending": "empty",
        "disabled": "disabled",
        "active": "active",
    }
    for state, expected in states.items():
        changed = msgspec.structs.replace(ledger.authenticator(phone), state=state)
        account = msgspec.structs.replace(ledger.account, authenticators=(changed,))
        assert account.state == expected
        assert account.is_bound == (state != "pending")
        assert account.has_second_factor == (state == "active")
    assert msgspec.structs.replace(ledger.account, is_disabled=True).state == "disabled"


def test_a_password_and_recovery_codes_alone_are_no_second_factor() -> None:
    ledger, phone = Ledger.with_totp()
    ledger.set_password("correct horse battery")
    kept = tuple(a for a in ledger.account.authenticators if a.id != phone.id)
    account = msgspec.structs.replace(ledger.account, authenticators=kept)
    assert [a.factor for a in kept] == ["recovery_codes", "password"]
    assert (account.state, account.has_second_factor, account.is_bound) == ("empty", False, False)


def test_an_authenticator_is_found_by_its_id_and_another_id_is_not_found() -> None:
    ledger, phone = Ledger.with_totp()
    assert ledger.account.find(phone.id).factor == "totp"
    with pytest.raises(Refused) as refused:
        ledger.account.find("au_other")
    assert refused.value.code == "not_found"


def test_what_time_has_ended_is_forgotten_and_the_rest_stays() -> None:
    ledger, _ = Ledger.with_totp()
    pending = ledger.enroll(is_admin=True)
    spent = spend(ledger.account, b"d" * 16, ledger.clock.now() + in_seconds(10))
    assert spent is not None
    assert without_expired(spent, ledger.clock.now()) is spent
    after_ten = without_expired(spent, ledger.clock.now() + in_seconds(10))
    assert after_ten.spent == ()
    assert [a.id for a in after_ten.authenticators] == [a.id for a in spent.authenticators]
    after_fifteen_minutes = without_expired(spent, ledger.clock.now() + in_seconds(900))
    assert pending.id not in [a.id for a in after_fifteen_minutes.authenticators]


def test_a_value_is_spent_once() -> None:
    first = spend(an_account(), b"d" * 16, NOW + 1)
    assert first is not None
    assert spend(first, b"d" * 16, NOW + 1) is None
    second = spend(first, b"e" * 16, NOW + 1)
    assert second is not None
    assert len(second.spent) == 2


def test_what_expired_makes_room_for_what_is_spent_now() -> None:
    account = an_account()
    for number in range(32):
        spent = spend(account, bytes((number,)) * 16, NOW + 1)
        assert spent is not None
        account = spent
    with pytest.raises(Refused) as refused:
        spend(account, b"x" * 16, NOW + 2)
    assert refused.value.code == "too_many"
    later = spend(without_expired(account, NOW + 1), b"x" * 16, NOW + 2)
    assert later is not None
    assert len(later.spent) == 1


def test_no_value_or_an_unknown_one_names_no_known_browser() -> None:
    account = an_account()
    assert find_known_browser(account, None, NOW) is None
    assert find_known_browser(account, "x", NOW) is None
    account, value = remember_browser(account, None, Seed(b"1" * 32), NOW)
    assert find_known_browser(account, None, NOW) is None
    for other in ("", value[:-1], value + "=", value.swapcase(), "\ud800" * 10, "x" * 10_000):
        assert find_known_browser(account, other, NOW) is None
    assert find_known_browser(account, value, NOW) is account.known_browsers[0]


def test_the_oldest_of_the_browsers_that_came_back_goes_when_all_of_them_did() -> None:
    entropy = RepeatableEntropy()
    account, values = an_account(), []
    for number in range(KNOWN_BROWSERS_MAX):
        account, value = remember_browser(account, None, Seed(entropy.bytes(32)), NOW + number)
        known = find_known_browser(account, value, NOW)
        account, value = remember_browser(account, known, Seed(entropy.bytes(32)), NOW + number)
        values.append(value)
    account, newest = remember_browser(account, None, Seed(entropy.bytes(32)), NOW + 100)
    known_values = [value for value in (*values, newest) if find_known_browser(account, value, NOW + 100)]
    assert known_values == [*values[1:], newest]
