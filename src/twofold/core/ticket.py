"""Challenges that need no message are tickets: sealed data in the caller's hands, nothing in the database.

A ticket says what it was made for; an answer under it counts only for exactly that, before it expires, under the same
epoch, and once (`twofold.core.account.spend` remembers it until then). `twofold.crypto.ticket` seals and opens.
"""

from __future__ import annotations

import hashlib

import msgspec

from twofold.core.account import Account, epoch_claim, spend, without_expired
from twofold.core.clock import MICROS_PER_S
from twofold.errors import Refused

TICKET_TTL_S = 300


class Ticket(msgspec.Struct, frozen=True, array_like=True):
    """What is sealed into a ticket. `account_id` and `epoch` are empty where nobody is named yet; times in seconds."""

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


def check_ticket(
    ticket: Ticket, account: Account, *, ceremony: str, application: str, purpose: str, binding: str, now: int
) -> Account:
    """The account in which the ticket is spent.

    Raises `Refused("conflict")` unless it was made for exactly this and is neither expired nor used.
    """
    account = without_expired(account, now)
    problem = (
        "expired"
        if not ticket.issued_at * MICROS_PER_S <= now < ticket.expires_at * MICROS_PER_S
        or ticket.expires_at * MICROS_PER_S <= account.forgotten_until
        else "for another ceremony"
        if ticket.ceremony != ceremony
        else "for another account"
        if ticket.account_id not in ("", account.id)
        else "from before the account was secured anew"
        if ticket.account_id and ticket.epoch != epoch_claim(account)
        else "for another application"
        if ticket.application != application
        else "for another purpose"
        if (ticket.purpose, ticket.binding) != (purpose, binding)
        else None
    )
    if problem is not None:
        raise Refused("conflict", f"this challenge is {problem}")
    digest = hashlib.sha256(b"twofold/1|ticket|" + ticket.challenge).digest()[:16]
    spent = spend(account, digest, ticket.expires_at * MICROS_PER_S)
    if spent is None:
        raise Refused("conflict", "this challenge was answered already")
    return spent
