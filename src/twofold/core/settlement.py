"""What one attempt writes, worked out before anything is written: every store folds attempts with this one function.

A store loads a row, settles each waiting attempt of that account in order, each on the result of the one before, and
commits the last row with all event rows and effects. Nothing here waits or writes.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from twofold.core.account import Account
from twofold.core.audit import EventRow, chain_start, erase, link
from twofold.core.codec import DOCUMENT_MAX, Codec, StoredAccount, Tombstone, measure
from twofold.core.decision import Decision, Effect, Rejected, Verified

Decide = Callable[[Account | None], Decision]


class Standing(msgspec.Struct, frozen=True):
    """An account between two attempts: the stored version, and what it is now (a tombstone, a document or nothing)."""

    account_id: str
    version: int
    state: Account | Tombstone | None


class Settlement(msgspec.Struct, frozen=True):
    """The result of one attempt: `row` is None when nothing changes. `is_deletion` erases the earlier events."""

    decision: Decision
    standing: Standing
    row: StoredAccount | None = None
    events: tuple[EventRow, ...] = ()
    effects: tuple[Effect, ...] = ()
    is_deletion: bool = False


def load_standing(account_id: str, row: StoredAccount | None, codec: Codec) -> Standing:
    """The account as its row says; raises `TamperedRecord`."""
    if row is None:
        return Standing(account_id, 0, None)
    return Standing(account_id, row.version, codec.load(row))


def settle(standing: Standing, decide: Decide, codec: Codec) -> Settlement:
    """Decide on this standing and work out the rows. Whatever `decide` raises passes through; nothing has happened."""
    account = standing.state if isinstance(standing.state, Account) else None
    decision = decide(account)
    if isinstance(decision.account, str) and decision.account == "unchanged":
        return Settlement(decision, standing)
    head = standing.state.head if standing.state is not None else chain_start(standing.account_id)
    head, rows = link(standing.account_id, head, decision.events)
    version = standing.version + 1
    if isinstance(decision.account, str):
        tombstone = Tombstone(erase(head))
        row = codec.dump_tombstone(standing.account_id, tombstone.head, version)
        after = Standing(standing.account_id, version, tombstone)
        return Settlement(decision, after, row, tuple(rows), decision.effects, is_deletion=True)
    changed = _with_room(msgspec.structs.replace(decision.account, head=head))
    # A judged answer is always written: on a full account a wrong one would be free, and a right one refused. What it
    # adds is small and bounded by itself.
    row = codec.dump(changed, version, may_exceed=isinstance(decision.outcome, Verified | Rejected))
    after = Standing(standing.account_id, version, changed)
    return Settlement(decision, after, row, tuple(rows), decision.effects)


def _with_room(account: Account) -> Account:
    """The account without its kept answers if it would be too large with them: they are a comfort, the rest is not."""
    if account.kept_answers and measure(account) > DOCUMENT_MAX:
        return msgspec.structs.replace(account, kept_answers=())
    return account
