import msgspec
import pytest
from tests.ledger import Ledger

from twofold.core.account import Account, epoch_claim
from twofold.core.clock import in_seconds
from twofold.core.ticket import TICKET_TTL_S, Ticket, check_ticket
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


def check(ticket: Ticket, account: Account, at_s: float = NOW_S, **changes: str) -> Account:
    asked = {"ceremony": "sign_in", "application": "shop", "purpose": "pay", "binding": "b1", **changes}
    return check_ticket(ticket, account, now=in_seconds(at_s), **asked)


def refusal(ticket: Ticket, account: Account, at_s: float = NOW_S, **changes: str) -> str:
    with pytest.raises(Refused) as refused:
        check(ticket, account, at_s, **changes)
    assert refused.value.code == "conflict"
    return refused.value.detail


def test_trap_59_a_ticket_is_answered_once() -> None:
    account = Ledger.with_account().account
    spent = check(a_ticket(account), account)
    assert len(spent.spent) == 1
    assert "answered already" in refusal(a_ticket(account), spent)
    assert check(msgspec.structs.replace(a_ticket(account), challenge=b"d" * 32), spent)


@pytest.mark.parametrize(("late_s", "is_good"), [(-1, False), (0, True), (299.9, True), (300, False), (301, False)])
def test_a_ticket_lives_300_seconds(late_s: float, is_good: bool) -> None:
    account = Ledger.with_account().account
    if is_good:
        assert check(a_ticket(account), account, NOW_S + late_s)
    else:
        assert "expired" in refusal(a_ticket(account), account, NOW_S + late_s)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"ceremony": "enroll"}, "another ceremony"),
        ({"application": "blog"}, "another application"),
        ({"purpose": "manage"}, "another purpose"),
        ({"binding": "b2"}, "another purpose"),
    ],
    ids=str,
)
def test_trap_43_a_ticket_counts_for_exactly_what_it_was_made_for(changes: dict[str, str], problem: str) -> None:
    account = Ledger.with_account().account
    assert problem in refusal(a_ticket(account), account, **changes)
    assert check(a_ticket(account), account)


def test_trap_43_a_ticket_of_one_account_means_nothing_in_another() -> None:
    alice, bob = Ledger.with_account().account, Ledger.with_account("bob").account
    assert "another account" in refusal(a_ticket(alice), bob)
    assert check(a_ticket(bob), bob)


def test_a_ticket_of_an_old_epoch_is_void() -> None:
    ledger = Ledger.with_account()
    ticket = a_ticket(ledger.account)
    ledger.record("signed_out_everywhere")
    assert "secured anew" in refusal(ticket, ledger.account)
    assert check(a_ticket(ledger.account), ledger.account)


def test_a_ticket_that_names_nobody_is_good_for_whoever_answers_it() -> None:
    account = Ledger.with_account().account
    nobody = msgspec.structs.replace(a_ticket(account), account_id="", epoch="")
    assert check(nobody, account)
