"""A batch of attempts over the rows they found: what to write, worked out before any of it is written.

Every store folds with these functions and differs only in how it reads rows and writes settlements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import msgspec

from twofold.core.account import Account
from twofold.core.audit import EventRow
from twofold.core.codec import Codec, StoredAccount, Tombstone, signer_of
from twofold.core.decision import EndSessions, OpenSession
from twofold.core.session import SESSIONS_MAX, StoredSession
from twofold.core.settlement import Decide, Settlement, Standing, load_standing, settle
from twofold.errors import KeyRetired, TamperedRecord
from twofold.ports import AccountCounts
from twofold.stores._collector import Attempt

DELETED = "deleted"

#: The columns of an account that lists ask for: state, factors, role, and when its first authenticator stops.
Summary = tuple[str, str, str, int]


class Changes(msgspec.Struct):
    """What a batch writes: the last row of each account with what it holds, all events in order, and the settlements
    that do more than that (effects, deletions) in order. `keys` are those that it stands on: they were active."""

    rows: dict[str, tuple[StoredAccount, Account | Tombstone | None]] = {}
    events: list[EventRow] = []
    further: list[Settlement] = []
    keys: set[str] = set()


def settle_sealed(standing: Standing, decide: Decide, codec: Codec, active_keys: AbstractSet[str]) -> Settlement:
    """`settle`, and raise `KeyRetired` when the decision seals, or its row is signed, with a key of the keyring that is
    not in `active_keys` any more.

    So no walk over all accounts leaves behind what a server wrote that had not heard of the new key. The sessions of a
    decision are signed after its row: with the same key or a newer one.
    """
    settlement = settle(standing, decide, codec)
    for key_id in keys_of(settlement):
        if key_id not in active_keys:
            raise KeyRetired(key_id)
    return settlement


def keys_of(settlement: Settlement) -> tuple[str, ...]:
    """The keys of the keyring that must be active when this is committed."""
    sealed_with = settlement.decision.sealed_with
    signer = signer_of(settlement.row) if settlement.row is not None else ""
    # Each id in a keyring begins with its purpose: a code under any other name is not of one.
    return (*sealed_with, signer) if signer.startswith("integrity-") else sealed_with


def fold(
    attempts: Iterable[Attempt],
    rows: Mapping[str, StoredAccount],
    lost_ids: AbstractSet[str],
    *,
    codec: Codec,
    active_keys: AbstractSet[str],
) -> Changes:
    """Settle each attempt on the result of the one before it, account by account.

    `lost_ids` have events and no row: somebody took the row away, and they are not taken for new accounts.
    Each attempt is left with its decision or its error: what one of them raises concerns no other.
    """
    standings: dict[str, Standing] = {}
    changes = Changes()
    for attempt in attempts:
        account_id = attempt.account_id
        try:
            if account_id in lost_ids:
                raise lost(account_id)
            standing = standings.get(account_id) or load_standing(account_id, rows.get(account_id), codec)
            settlement = settle_sealed(standing, attempt.decide, codec, active_keys)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's and no other attempt's
            attempt.fail(error)
            continue
        standings[account_id] = settlement.standing
        attempt.succeed(settlement.decision)
        if settlement.row is not None:
            changes.rows[account_id] = (settlement.row, settlement.standing.state)
            changes.events += settlement.events
            changes.keys.update(keys_of(settlement))
            if settlement.effects or settlement.is_deletion:
                changes.further.append(settlement)
    return changes


def lost(account_id: str) -> TamperedRecord:
    """The error for an account whose row was taken away. Without it the person would look like one who never had a
    second factor."""
    return TamperedRecord(f"account {account_id}, whose row is gone while its events are there,")


def fold_sessions(
    effect: OpenSession | EndSessions, held: Sequence[StoredSession], codec: Codec
) -> tuple[list[bytes], bool]:
    """The digests that leave `held` (the account's sessions, oldest first) and whether the effect's own is opened.

    Sessions begun in a known browser make room last: whoever has the password alone opens sessions elsewhere, and
    pushes out none of the owner's.
    """
    if isinstance(effect, EndSessions):
        return [row.token_digest for row in held if _is_ended(effect, row.id)], False
    leaving = [row.token_digest for row in held if row.token_digest == effect.replaces]
    if effect.replaces is not None and not leaving:
        return [], False
    equals = [row for row in held if row.level == effect.session.level and row.token_digest != effect.replaces]
    too_many = len(equals) + 1 - SESSIONS_MAX
    if too_many > 0:
        equals.sort(key=lambda row: _is_of_known_browser(row, codec))
        leaving += [row.token_digest for row in equals[:too_many]]
    return leaving, True


def _is_of_known_browser(row: StoredSession, codec: Codec) -> bool:
    """Whether the session was begun in one; a row that was changed from outside counts as none."""
    try:
        return codec.load_session(row).is_known
    except TamperedRecord:
        return False


def _is_ended(effect: EndSessions, session_id: str) -> bool:
    return session_id in effect.ids if effect.ids is not None else session_id != effect.but


def summarize(state: Account | Tombstone | None) -> Summary:
    """The summary of a row: of the factors the active ones in order, each between spaces."""
    if not isinstance(state, Account):
        return DELETED, "", "", 0
    factors = sorted({a.factor for a in state.authenticators if a.state == "active"})
    return state.state, f" {' '.join(factors)} " if factors else "", state.role, state.stops_at


def count_by(
    groups: Iterable[tuple[str, str, str, int]], *, stopping: int = 0, first_stops_at: int = 0
) -> AccountCounts:
    """The counts of accounts, each group a state, factors and role, and how many have them."""
    total = 0
    states: Counter[str] = Counter()
    factors: Counter[str] = Counter()
    roles: Counter[str] = Counter()
    for state, its_factors, role, n in groups:
        total += n
        states[state] += n
        roles.update({role: n} if role else {})
        factors.update(dict.fromkeys(its_factors.split(), n))
    return AccountCounts(total, states, roles, factors, stopping, first_stops_at)
