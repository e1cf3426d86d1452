import msgspec
import pytest
from tests.ledger import Ledger

from twofold.core.account import SPENT_MAX, Account, epoch_claim, without_expired
from twofold.core.clock import in_seconds
from twofold.core.decision import Reason
from twofold.core.ticket import TICKET_TTL_S, Ticket, find_fault, spend_ticket
from twofold.errors import Refused

NOW_S = 1_700_000_000


def a_ticket(account: Account) -> Ticket:
    return Ticket(
        "sign_in",
        account.id,
        epoch_claim(account),
        "shop",
        "webauthn",
        "pay",
        "b1",
        ("au_1",),
        True,
        b"c" * 32,
        NOW_S,
        NOW_S + TICKET_TTL_S,
    )


def fault(ticket: Ticket, account: Account, at_s: float = NOW_S, **changes: str) -> Reason | None:
    asked = {"ceremony": "sign_in", "application": "shop", "purpose": "pay", "binding": "b1", **changes}
    return find_fault(ticket, account, now=in_seconds(at_s), **asked)


def test_trap_59_a_ticket_is_answered_once() -> None:
    account = Ledger.with_account().account
    ticket = a_ticket(account)
    assert fault(ticket, account) is None
    spent = spend_ticket(ticket, account)
    assert len(spent.spent) == 1
    assert fault(ticket, spent) == "challenge_used"
    assert fault(msgspec.structs.replace(ticket, challenge=b"d" * 32), spent) is None


@pytest.mark.parametrize(
    ("late_s", "is_good"), [(-11, False), (-10, True), (0, True), (299.9, True), (300, False), (301, False)]
)
def test_a_ticket_lives_300_seconds(late_s: float, is_good: bool) -> None:
    account = Ledger.with_account().account
    found = fault(a_ticket(account), account, NOW_S + late_s)
    assert found is None if is_good else found == "challenge_expired"


def test_a_ticket_that_expired_does_not_come_back_with_the_clock() -> None:
    account = Ledger.with_account().account
    ticket = a_ticket(account)
    spent = spend_ticket(ticket, account)
    forgotten = without_expired(spent, in_seconds(NOW_S + TICKET_TTL_S))
    assert forgotten.spent == ()
    assert fault(ticket, forgotten) == "challenge_expired"
    later = msgspec.structs.replace(ticket, challenge=b"d" * 32, expires_at=NOW_S + TICKET_TTL_S + 1)
    assert fault(later, forgotten) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"ceremony": "enroll"},
        {"application": "blog"},
        {"purpose": "manage"},
        {"purpose": ""},
        {"binding": "b2"},
        {"binding": ""},
    ],
    ids=str,
)
def test_trap_43_a_ticket_counts_for_exactly_what_it_was_made_for(changes: dict[str, str]) -> None:
    account = Ledger.with_account().account
    assert fault(a_ticket(account), account, **changes) == "challenge_mismatch"
    assert fault(a_ticket(account), account) is None


def test_trap_43_a_ticket_of_one_account_means_nothing_in_another() -> None:
    alice, bob = Ledger.with_account().account, Ledger.with_account("bob").account
    assert fault(a_ticket(alice), bob) == "challenge_mismatch"
    assert fault(a_ticket(bob), bob) is None


def test_a_ticket_of_an_old_epoch_is_void() -> None:
    ledger = Ledger.with_account()
    ticket = a_ticket(ledger.account)
    ledger.record("signed_out_everywhere")
    assert fault(ticket, ledger.account) == "challenge_mismatch"
    assert fault(a_ticket(ledger.account), ledger.account) is None


def test_a_ticket_that_names_nobody_is_good_for_whoever_answers_it_and_once() -> None:
    account = Ledger.with_account().account
    nobody = msgspec.structs.replace(a_ticket(account), account_id="", epoch="")
    assert fault(nobody, account) is None
    assert fault(nobody, spend_ticket(nobody, account)) == "challenge_used"


def test_more_tickets_than_can_be_remembered_are_not_spent() -> None:
    account = Ledger.with_account().account
    for number in range(SPENT_MAX):
        account = spend_ticket(msgspec.structs.replace(a_ticket(account), challenge=bytes([number]) * 32), account)
    with pytest.raises(Refused) as refused:
        spend_ticket(a_ticket(account), account)
    assert refused.value.code == "too_many"
    five_minutes_later = without_expired(account, in_seconds(NOW_S + TICKET_TTL_S))
    assert (
        len(spend_ticket(msgspec.structs.replace(a_ticket(account), expires_at=NOW_S + 600), five_minutes_later).spent)
        == 1
    )
