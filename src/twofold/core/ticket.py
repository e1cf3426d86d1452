"""Challenges that need no message are tickets: sealed data in the caller's hands, nothing in the database.

A ticket says what it was made for; an answer under it counts only for exactly that, before it expires, under the same
epoch, and once (`twofold.core.account.spend` remembers it until then). `twofold.crypto.ticket` seals and opens.
"""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from twofold.core.account import Account, epoch_claim, spend
from twofold.core.clock import CLOCK_SKEW_S, MICROS_PER_S
from twofold.core.decision import Reason

TICKET_TTL_S = 300


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed into a ticket. `account_id` and `epoch` are empty where nobody is named yet; times in seconds.
    `content` is what the ceremony keeps besides."""

    ceremony: str
    account_id: str
    epoch: str
    application: str
    factor: str
    purpose: str
    binding: str
    allowed: tuple[str, ...]
    wants_user_verification: bool
    challenge: bytes
    issued_at: int
    expires_at: int
    content: bytes = b""


def find_fault(
    ticket: Ticket, account: Account, *, ceremony: str, application: str, purpose: str, binding: str, now: int
) -> Reason | None:
    """Why an answer under this ticket does not count: it was made for something else, is over, or was answered already.
    None if it counts."""
    expires_at = ticket.expires_at * MICROS_PER_S
    made_for = (ticket.ceremony, ticket.account_id or account.id, ticket.application, ticket.purpose, ticket.binding)
    if made_for != (ceremony, account.id, application, purpose, binding):
        return "challenge_mismatch"
    if ticket.account_id and ticket.epoch != epoch_claim(account):
        return "challenge_mismatch"
    # What expired under a clock that went back since is not in force again: that it is spent may be forgotten.
    issued_at = (ticket.issued_at - CLOCK_SKEW_S) * MICROS_PER_S
    if not issued_at <= now < expires_at or expires_at <= account.forgotten_until:
        return "challenge_expired"
    digest = _digest(ticket)
    if any(hmac.compare_digest(spent.digest, digest) for spent in account.spent):
        return "challenge_used"
    return None


def spend_ticket(ticket: Ticket, account: Account) -> Account:
    """The account in which the ticket is spent; it had no fault before. Raises `Refused("too_many")`."""
    spent = spend(account, _digest(ticket), ticket.expires_at * MICROS_PER_S)
    assert spent is not None  # noqa: S101 - `find_fault` would have said so
    return spent


def _digest(ticket: Ticket) -> bytes:
    return hashlib.sha256(b"twofold/1|ticket|" + ticket.challenge).digest()[:16]
