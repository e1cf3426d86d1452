"""The audit chain of an account: each event carries a digest over the one before it.

`link` turns what a decision wants recorded into rows; `verify_chain` finds the first row that was changed, moved or
taken away. Nothing secret ever goes into a payload: an event says what happened, not what was typed.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from twofold.core.account import AuditHead

EventKind = Literal[
    "account.added",
    "account.changed",
    "account.deleted",
    "account.disabled",
    "account.enabled",
    "account.tampered",
    "application.added",
    "application.revoked",
    "account.compromised",
    "password.set",
    "password.changed",
    "password.accepted",
    "password.refused",
    "sign_in.vouched",
    "session.ended",
    "sessions.ended",
    "browser.forgotten",
    "link.made",
    "link.used",
    "account.unlocked",
    "account.reset",
    "account.reset_begun",
    "accounts.reset_begun",
    "accounts.reset",
    "account.role_changed",
    "account.restored",
    "deployment.restored",
    "setup.completed",
    "enrollment.begun",
    "enrollment.refused",
    "authenticator.added",
    "authenticator.imported",
    "authenticator.renamed",
    "authenticator.removed",
    "authenticator.disabled",
    "authenticator.cloned",
    "recovery_codes.made",
    "code.accepted",
    "code.refused",
    "code.tested",
    "browsers.guessing",
    "receipt.redeemed",
    "prompt.opened",
    "prompt.answered",
    "prompt.canceled",
    "prompt.redeemed",
    "prompt.refused",
    "sign_in.sprayed",
    "network.blocked",
    "network.lifted",
    "key.wrapped",
    "key.unwrapped",
    "key.refused",
    "key.away",
    "key.rotated",
    "key.joined",
    "key.moved",
    "key.destroyed",
    "keys.resealed",
]

Scalar = str | int | bool | None
SALT_BYTES = 16


class Event(msgspec.Struct, frozen=True):
    """Something to record. `at` in microseconds; `salt` fresh, so that a digest left behind tells nothing."""

    kind: EventKind
    at: int
    salt: bytes
    payload: Mapping[str, Scalar | Sequence[str]]


class EventRow(msgspec.Struct, frozen=True):
    """One row of the table `events`; salt and payload are None once the deletion of the account has erased them."""

    account_id: str
    seq: int
    at: int
    kind: str
    salt: bytes | None
    payload: bytes | None
    digest: bytes


class ChainBreak(msgspec.Struct, frozen=True):
    """The first place at which a chain does not hold, and why in a few words."""

    account_id: str
    seq: int
    problem: str


def chain_start(account_id: str) -> AuditHead:
    """The head of a chain without events."""
    return AuditHead(0, hashlib.sha256(b"twofold/1|audit" + account_id.encode()).digest())


def link(account_id: str, head: AuditHead, events: Iterable[Event]) -> tuple[AuditHead, list[EventRow]]:
    """The rows that continue the chain at `head`, and the head after them."""
    rows = []
    seq, digest = head.seq, head.digest
    for event in events:
        seq += 1
        payload = _encode_payload({k: v for k, v in event.payload.items() if v is not None})
        digest = _link_digest(digest, seq, event.at, event.kind, hashlib.sha256(event.salt + payload).digest())
        rows.append(EventRow(account_id, seq, event.at, event.kind, event.salt, payload, digest))
    return AuditHead(seq, digest, head.erased), rows


def erase(head: AuditHead) -> AuditHead:
    """The head of a chain whose events, all of them, keep their digests and lose their contents."""
    return AuditHead(head.seq, head.digest, head.seq)


def verify_chain(account_id: str, rows: Iterable[EventRow], head: AuditHead) -> ChainBreak | None:
    """None when `rows`, in order of seq, lead from the chain's start exactly to `head`.

    An erased event is taken at its digest, which the events after it and the head confirm; only the events that the
    head names as erased may be so, or taking the contents away would be a way to hide them.
    """
    seq, digest = 0, chain_start(account_id).digest
    for row in rows:
        seq += 1
        if row.seq != seq:
            return ChainBreak(account_id, seq, "an event is missing")
        if row.payload is None or row.salt is None:
            if seq > head.erased:
                return ChainBreak(account_id, seq, "the event's contents were taken away")
            digest = row.digest
            continue
        try:
            digest = _link_digest(digest, seq, row.at, row.kind, hashlib.sha256(row.salt + row.payload).digest())
            is_linked = hmac.compare_digest(digest, row.digest)
        except (AttributeError, TypeError, ValueError, struct.error):
            # A column of another type, which only somebody else's tools can have put there.
            is_linked = False
        if not is_linked:
            return ChainBreak(account_id, seq, "the event or one before it was changed")
    if (seq, digest) != (head.seq, head.digest):
        return ChainBreak(account_id, min(seq, head.seq) + 1, "the chain does not end where the account says")
    return None


_encode_payload = msgspec.json.Encoder().encode


def _link_digest(previous: bytes, seq: int, at: int, kind: str, content: bytes) -> bytes:
    # Every field is length-prefixed, so that no two different events share one encoding.
    name = kind.encode()
    head = struct.pack(">I32sIqIqI", 32, previous, 8, seq, 8, at, len(name))
    return hashlib.sha256(head + name + b"\0\0\0\x20" + content).digest()
