"""The store in memory: every port over dictionaries, for tests and trials. Nothing outlives the process.

It keeps the same rows as a database would, encoded and signed, so whatever works here does not lean on shared objects.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress

import msgspec

from twofold.core.account import FIRST_PERSON, Account
from twofold.core.audit import EventRow
from twofold.core.codec import Codec, StoredAccount
from twofold.core.decision import ContactIndex, Decision, EndSessions, Message, OpenSession
from twofold.core.session import Session, StoredSession
from twofold.core.settlement import Settlement, load_standing
from twofold.errors import TamperedRecord, Unavailable
from twofold.key_ports import KeyStore, Node, Nodes, WrappedKey
from twofold.ports import (
    AccountCounts,
    AccountPages,
    Accounts,
    Application,
    Applications,
    Claims,
    Limits,
    NetworkBlock,
    NetworkBlocks,
    Outbox,
    OutboxRow,
    Sessions,
)
from twofold.stores._fold import DELETED, Summary, count_by, fold_sessions, lost, settle_sealed, summarize

_MICROS = 1_000_000


class MemoryStore:
    """All ports. Each call is one step under one lock, and every event loop may use it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._codec: Codec | None = None
        self._is_closed = False
        self._rows: dict[str, StoredAccount] = {}
        self._summaries: dict[str, Summary] = {}
        self._events: defaultdict[str, list[EventRow]] = defaultdict(list)
        self._contacts: dict[str, tuple[tuple[str, bytes], ...]] = {}
        self._claims: dict[tuple[str, bytes], tuple[str, int]] = {}
        self._applications: dict[str, Application] = {}
        self._sessions: dict[bytes, StoredSession] = {}
        self._blocks: dict[str, NetworkBlock] = {}
        self._rate: dict[tuple[int, bytes], int] = {}
        self._outbox: dict[str, tuple[int, OutboxRow]] = {}
        self._keys: dict[str, WrappedKey] = {}
        self._nodes: dict[str, Node] = {}
        self._settings: dict[str, str] = {}

    def use_codec(self, codec: Codec) -> None:
        """How accounts are encoded and checked from now on."""
        self._codec = codec

    async def close(self) -> None:
        """Take no more attempts."""
        self._is_closed = True

    async def transact(self, account_id: str, decide: Callable[[Account | None], Decision]) -> Decision:
        if self._is_closed:
            raise Unavailable("the store is closed")
        with self._lock:
            codec = self._require_codec()
            self._check_not_lost(account_id)
            standing = load_standing(account_id, self._rows.get(account_id), codec)
            active = {key.id for key in self._keys.values() if key.state == "active"}
            settlement = settle_sealed(standing, decide, codec, active)
            self._write(settlement)
        return settlement.decision

    def _write(self, settlement: Settlement) -> None:
        if settlement.row is None:
            return
        if any(isinstance(effect, Message) and effect.id in self._outbox for effect in settlement.effects):
            raise Unavailable("there is a message of this id")
        account_id = settlement.row.account_id
        # Worked out before anything is kept: what cannot be encoded changes nothing.
        sessions = self._fold_sessions(settlement)
        self._rows[account_id] = settlement.row
        self._summaries[account_id] = summarize(settlement.standing.state)
        self._events[account_id] += settlement.events
        if settlement.is_deletion:
            self._events[account_id] = [_erase(event) for event in self._events[account_id]]
            self._contacts.pop(account_id, None)
            self._claims = {key: holder for key, holder in self._claims.items() if holder[0] != account_id}
            self._outbox = {i: kept for i, kept in self._outbox.items() if kept[1].account_id != account_id}
        for effect in settlement.effects:
            if isinstance(effect, ContactIndex):
                self._contacts[account_id] = effect.entries
            elif isinstance(effect, Message):
                at = settlement.events[-1].at if settlement.events else 0
                payload = msgspec.json.encode(effect.payload)
                self._outbox[effect.id] = (0, OutboxRow(effect.id, account_id, effect.kind, payload, at, 0))
        self._sessions = sessions

    def _fold_sessions(self, settlement: Settlement) -> dict[bytes, StoredSession]:
        account_id, kept = settlement.standing.account_id, self._sessions
        if settlement.is_deletion:
            kept = {digest: row for digest, row in kept.items() if row.account_id != account_id}
        for effect in settlement.effects:
            if not isinstance(effect, OpenSession | EndSessions):
                continue
            if isinstance(effect, OpenSession):
                kept = {digest: row for digest, row in kept.items() if row.expires_at > effect.session.seen_at}
            leaving, is_opened = fold_sessions(effect, _of_account(kept, account_id), self._require_codec())
            kept = {digest: row for digest, row in kept.items() if digest not in leaving}
            if isinstance(effect, OpenSession) and is_opened:
                if effect.token_digest in kept:
                    raise Unavailable("there is a session of this token")
                kept[effect.token_digest] = self._require_codec().dump_session(effect.session, effect.token_digest)
        return kept

    async def load(self, account_id: str) -> Account | None:
        self._check_not_lost(account_id)
        row = self._rows.get(account_id)
        state = self._require_codec().load(row) if row else None
        return state if isinstance(state, Account) else None

    async def scan(self, *, after: str = "", tombstones: bool = False) -> AsyncIterator[StoredAccount]:
        for account_id in sorted(self._rows):
            if (not after or account_id > after) and (tombstones or self._summaries[account_id][0] != DELETED):
                yield self._rows[account_id]

    async def page_accounts(
        self,
        *,
        after: str = "",
        limit: int = 100,
        factor: str | None = None,
        state: str | None = None,
        role: str | None = None,
        search: str | None = None,
        stops_by: int | None = None,
    ) -> Sequence[StoredAccount]:
        found = []
        for account_id in sorted(self._rows):
            its_state, factors, its_role, stops_at = self._summaries[account_id]
            is_wanted = FIRST_PERSON <= account_id > after and its_state != DELETED and state in (None, its_state)
            is_wanted = is_wanted and role in (None, its_role) and (factor is None or factor in factors.split())
            is_wanted = is_wanted and (stops_by is None or 0 < stops_at <= stops_by)
            if is_wanted and (search is None or search.casefold() in account_id.casefold()):
                found.append(self._rows[account_id])
        return found[:limit]

    async def count_accounts_by(self) -> AccountCounts:
        people = [summary for i, summary in self._summaries.items() if i >= FIRST_PERSON and summary[0] != DELETED]
        stops = [stops_at for *_, stops_at in people if stops_at]
        kinds = ((state, factors, role, 1) for state, factors, role, _ in people)
        return count_by(kinds, stopping=len(stops), first_stops_at=min(stops, default=0))

    async def events(self, account_id: str, *, after_seq: int = 0, limit: int = 1000) -> Sequence[EventRow]:
        return [event for event in self._events.get(account_id, ()) if event.seq > after_seq][:limit]

    async def orphans(self) -> Sequence[str]:
        return sorted(
            account_id for account_id, events in self._events.items() if events and account_id not in self._rows
        )

    async def find_by_contact(self, kind: str, key_hmac: bytes) -> Sequence[str]:
        with self._lock:
            return sorted(account_id for account_id, entries in self._contacts.items() if (kind, key_hmac) in entries)

    async def claim(self, kind: str, key_hmac: bytes, account_id: str, now: int) -> str:
        with self._lock:
            holder, _ = self._claims.get((kind, key_hmac), (account_id, now))
            if holder == account_id:
                self._claims[kind, key_hmac] = (account_id, now)
            return holder

    async def find_claim(self, kind: str, key_hmac: bytes) -> str | None:
        with self._lock:
            holder = self._claims.get((kind, key_hmac))
            return holder[0] if holder else None

    async def release(self, kind: str, key_hmac: bytes, account_id: str, *, made_before: int | None = None) -> None:
        with self._lock:
            holder = self._claims.get((kind, key_hmac))
            if holder and holder[0] == account_id and (made_before is None or holder[1] < made_before):
                del self._claims[kind, key_hmac]

    async def add_application(self, application: Application) -> None:
        with self._lock:
            if application.id in self._applications:
                raise Unavailable("there is an application of this id")
            self._applications[application.id] = application

    async def find_application(self, application_id: str) -> Application | None:
        return self._applications.get(application_id)

    async def list_applications(self) -> Sequence[Application]:
        with self._lock:
            return sorted(self._applications.values(), key=lambda application: (application.created_at, application.id))

    async def revoke_application(self, application_id: str) -> bool:
        return self._applications.pop(application_id, None) is not None

    async def find_session(self, token_digest: bytes) -> Session | None:
        row = self._sessions.get(token_digest)
        return self._require_codec().load_session(row) if row else None

    async def list_sessions(self, account_id: str) -> Sequence[Session]:
        found = []
        for row in _of_account(self._sessions, account_id):
            with suppress(TamperedRecord):
                found.append(self._require_codec().load_session(row))
        return found

    async def touch_session(self, token_digest: bytes, session: Session) -> None:
        with self._lock:
            if token_digest in self._sessions:
                self._sessions[token_digest] = self._require_codec().dump_session(session, token_digest)

    async def list_blocks(self) -> Sequence[NetworkBlock]:
        with self._lock:
            return sorted(self._blocks.values(), key=lambda block: block.network)

    async def put_block(self, block: NetworkBlock) -> None:
        with self._lock:
            self._blocks[block.network] = block

    async def drop_block(self, network: str) -> bool:
        with self._lock:
            return self._blocks.pop(network, None) is not None

    async def hit(self, key_hmac: bytes, window: int, cap: int) -> bool:
        with self._lock:
            count = self._rate.get((window, key_hmac), 0)
            if count < cap:
                self._rate[window, key_hmac] = count + 1
            return count < cap

    async def take_back(self, key_hmac: bytes, window: int) -> None:
        with self._lock:
            count = self._rate.get((window, key_hmac), 0)
            self._rate[window, key_hmac] = max(0, count - 1)

    async def take(self, limit: int, now: int, lease_s: int) -> Sequence[OutboxRow]:
        """`attempts` counts this one too."""
        with self._lock:
            due = sorted(
                (row for due_at, row in self._outbox.values() if due_at <= now), key=lambda row: row.created_at
            )
            taken = [msgspec.structs.replace(row, attempts=row.attempts + 1) for row in due[:limit]]
            self._outbox.update({row.id: (now + lease_s * _MICROS, row) for row in taken})
            return taken

    async def settle(self, message_id: str, *, sent: bool, retry_at: int = 0) -> None:
        with self._lock:
            if sent:
                self._outbox.pop(message_id, None)
            elif message_id in self._outbox:
                self._outbox[message_id] = (retry_at, self._outbox[message_id][1])

    async def load_keys(self) -> Sequence[WrappedKey]:
        with self._lock:
            return sorted(self._keys.values(), key=lambda key: key.created_at)

    async def add_keys(self, keys: Sequence[WrappedKey], *, first: bool = False) -> bool:
        with self._lock:
            if first and self._keys:
                return False
            if any(key.id in self._keys for key in keys):
                raise Unavailable("there is a key of this id")
            self._keys |= {key.id: key for key in keys}
        return True

    async def change_keys(self, changes: Sequence[tuple[WrappedKey | None, WrappedKey]]) -> bool:
        with self._lock:
            changed = dict(self._keys)
            for before, after in changes:
                held = changed.get(after.id)
                if (held is None) != (before is None) or (held and before and not _is_as_expected(held, before)):
                    return False
                kept = {"uses": held.uses, "unwrapped_at": held.unwrapped_at} if held else {}
                changed[after.id] = msgspec.structs.replace(after, **kept)
            self._keys = changed
        return True

    async def reserve_uses(self, key_id: str, count: int, uses_max: int) -> int:
        with self._lock:
            key = self._keys.get(key_id)
            if key is None or key.state != "active" or key.uses + count > uses_max:
                return 0
            self._keys[key_id] = msgspec.structs.replace(key, uses=key.uses + count)
            return key.uses + count

    async def note_unwraps(self, at: Mapping[str, int]) -> None:
        with self._lock:
            for key_id, when in at.items():
                if (key := self._keys.get(key_id)) is not None and key.unwrapped_at < when:
                    self._keys[key_id] = msgspec.structs.replace(key, unwrapped_at=when)

    async def put_node(self, node: Node, *, forget_before: int) -> None:
        with self._lock:
            self._nodes = {i: kept for i, kept in self._nodes.items() if kept.seen_at >= forget_before}
            self._nodes[node.id] = node

    async def list_nodes(self) -> Sequence[Node]:
        with self._lock:
            return sorted(self._nodes.values(), key=lambda node: node.id)

    async def drop_node(self, node_id: str) -> None:
        with self._lock:
            self._nodes.pop(node_id, None)

    async def count_accounts(self) -> int:
        """How many rows there are, tombstones and the deployment's own among them."""
        return len(self._rows)

    async def check(self) -> None:
        """Raises `Unavailable` after `close`."""
        if self._is_closed:
            raise Unavailable("the store is closed")

    async def get_setting(self, name: str) -> str | None:
        """A value that was put under this name."""
        return self._settings.get(name)

    async def put_setting(self, name: str, value: str) -> None:
        """Keep a value under this name, in place of the one before."""
        self._settings[name] = value

    def _check_not_lost(self, account_id: str) -> None:
        if account_id not in self._rows and self._events.get(account_id):
            raise lost(account_id)

    def _require_codec(self) -> Codec:
        if self._codec is None:
            raise RuntimeError("use_codec comes before the first account")
        return self._codec


def _of_account(sessions: Mapping[bytes, StoredSession], account_id: str) -> list[StoredSession]:
    """The account's rows, oldest first."""
    theirs = [row for row in sessions.values() if row.account_id == account_id]
    return sorted(theirs, key=lambda row: row.begun_at)


def _erase(event: EventRow) -> EventRow:
    return EventRow(event.account_id, event.seq, 0, "", None, None, event.digest)


def _is_as_expected(held: WrappedKey, before: WrappedKey) -> bool:
    names = ("state", "wrapped", "master", "retired_at", "empty_since", "uri")
    return all(getattr(held, name) == getattr(before, name) for name in names)


_accounts: type[Accounts] = MemoryStore
_pages: type[AccountPages] = MemoryStore
_claims: type[Claims] = MemoryStore
_applications: type[Applications] = MemoryStore
_sessions: type[Sessions] = MemoryStore
_limits: type[Limits] = MemoryStore
_blocks: type[NetworkBlocks] = MemoryStore
_outbox: type[Outbox] = MemoryStore
_keys: type[KeyStore] = MemoryStore
_nodes: type[Nodes] = MemoryStore
