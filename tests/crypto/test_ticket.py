import base64
import os

import pytest

from twofold.core.ticket import Ticket
from twofold.crypto.ticket import issue_ticket, read_ticket
from twofold.errors import InvalidInput

KEYS = {"ticket-1": b"1" * 32, "ticket-2": b"2" * 32}
TICKET = Ticket("sign_in", "alice", "e" * 16, "shop", "webauthn", "pay", "b1", ("au_1",), True, b"c" * 32, 1, 301)


def a_ticket(key_id: str = "ticket-1", salt: bytes = b"s" * 32) -> str:
    return issue_ticket(TICKET, key_id=key_id, key=KEYS[key_id], salt=salt)


def test_a_ticket_is_read_back_whole_under_any_key_that_is_held() -> None:
    for key_id in KEYS:
        assert read_ticket(a_ticket(key_id), KEYS) == TICKET


def test_a_ticket_tells_nothing_to_whoever_carries_it() -> None:
    raw = base64.urlsafe_b64decode(a_ticket().partition(".")[2] + "==")
    assert not any(word in raw for word in (b"alice", b"shop", b"cccc", b"au_1"))


def test_asvs_6_7_2_two_tickets_never_share_a_key() -> None:
    one, two = a_ticket(salt=b"1" * 32), a_ticket(salt=b"2" * 32)
    assert one[60:] != two[60:]


def is_read(text: str) -> bool:
    try:
        return read_ticket(text, KEYS) == TICKET
    except InvalidInput as invalid:
        assert invalid.field == "challenge"  # noqa: PT017
        return False


def test_a_ticket_with_any_character_changed_is_none() -> None:
    text = a_ticket()
    assert is_read(text)
    for place in range(len(text) - 1):
        assert not is_read(text[:place] + ("A" if text[place] != "A" else "B") + text[place + 1 :])


@pytest.mark.parametrize("more", ["!", " ", "\n", "=", "+", "A"])
def test_a_ticket_with_anything_behind_or_within_it_is_none(more: str) -> None:
    text = a_ticket()
    assert not is_read(text + more)
    assert not is_read(text[:40] + more + text[40:])
    assert is_read(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "ticket-1",
        "ticket-1.",
        "ticket-1.AAAA",
        "ticket-3." + "A" * 100,
        "ticket-1." + "A" * 100_000,
        "ticket-1.é",
        "\ud800.AAAA",
        "ticket-1.====",
        "💥" * 100,
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_no_ticket_of_ours_is_refused(text: str) -> None:
    assert not is_read(text)
    assert is_read(a_ticket())


def test_a_ticket_of_a_key_that_is_gone_or_of_another_deployment_is_refused() -> None:
    text = a_ticket("ticket-2")
    for keys in ({"ticket-1": KEYS["ticket-1"]}, {"ticket-2": b"x" * 32}, {}):
        with pytest.raises(InvalidInput):
            read_ticket(text, keys)
    assert is_read(text)


def test_a_ticket_under_the_name_of_another_key_is_refused() -> None:
    assert not is_read(a_ticket("ticket-2").replace("ticket-2", "ticket-1"))


def test_trap_17_ten_thousand_tickets_are_distinct() -> None:
    tickets = {
        issue_ticket(TICKET, key_id="ticket-1", key=KEYS["ticket-1"], salt=os.urandom(32)) for _ in range(10_000)
    }
    assert len(tickets) == 10_000
