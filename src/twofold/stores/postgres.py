"""The PostgreSQL store: every port over one database, which any number of nodes share.

`open` gives a store whose keyring can be read at once; accounts need the integrity keys that come out of that
keyring, so `use_codec` comes before the first of them. Attempts are committed by `_postgres_writer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal

import msgspec

from twofold.core.account import Account
from twofold.core.audit import EventRow
from twofold.core.codec import Codec, StoredAccount
from twofold.core.decision import Decision, Done
from twofold.core.session import Session, StoredSession
from twofold.errors import DatabaseAway, TamperedRecord, Unavailable
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
from twofold.stores import _postgres_keys as keys
from twofold.stores import _postgres_pages as pages
from twofold.stores._fold import count_by, lost
from twofold.stores._postgres_connection import LONG_STATEMENT_S, Connections
from twofold.stores._postgres_health import CHECK_TIMEOUT_S, NotDurable, check_health
from twofold.stores._postgres_schema import prepare
from twofold.stores._postgres_writer import Writer

CONNECTIONS_MAX = 8
LIST_CONNECTIONS_MAX = 2
WINDOWS_KEPT_S = 86_400
#: At most so many windows are dropped with one that begins: more than come, and never a long wait.
WINDOWS_DROPPED_MAX = 20
_MICROS = 1_000_000

# The same statement and the same work for a name that is known and one that is not.
_LOAD = """
    SELECT EXISTS (SELECT FROM twofold.events WHERE account_id = $1), id, version, schema, document, mac
    FROM (SELECT 1) AS one LEFT JOIN twofold.accounts ON id = $1"""
_EVENTS = """
    SELECT account_id, seq, at, kind, salt, convert_to(payload, 'UTF8'), digest FROM twofold.events
    WHERE account_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"""
_FIND_BY_CONTACT = "SELECT account_id FROM twofold.contacts WHERE kind = $1 AND key_hmac = $2 ORDER BY account_id"
# Who holds it already is written over by himself: in this way one statement always finds somebody to tell.
_CLAIM = """
    INSERT INTO twofold.claims AS held (kind, key_hmac, account_id, created_at) VALUES ($1, $2, $3, $4)
    ON CONFLICT (kind, key_hmac) DO UPDATE SET created_at =
        CASE WHEN held.account_id = excluded.account_id THEN excluded.created_at ELSE held.created_at END
    RETURNING account_id"""
_FIND_CLAIM = "SELECT account_id FROM twofold.claims WHERE kind = $1 AND key_hmac = $2"
_RELEASE = """
    DELETE FROM twofold.claims WHERE kind = $1 AND key_hmac = $2 AND account_id = $3 AND created_at < $4"""
_SESSION = "SELECT token_digest, id, account_id, level, begun_at, expires_at, document, mac FROM twofold.sessions"
_TOUCH_SESSION = "UPDATE twofold.sessions SET document = $1, mac = $2 WHERE account_id = $3 AND token_digest = $4"
_PUT_BLOCK = """
    INSERT INTO twofold.network_blocks (network, document) VALUES ($1, $2)
    ON CONFLICT (network) DO UPDATE SET document = excluded.document"""
_HIT = """
    INSERT INTO twofold.rate AS counted (window_start, key_hmac, n) SELECT $1, $2, 1 WHERE $3::bigint > 0
    ON CONFLICT (key_hmac, window_start) DO UPDATE SET n = counted.n + 1 WHERE counted.n < $3 RETURNING n"""
# Rows that another node drops are passed over: nobody waits for that.
_DROP_WINDOWS = """
    DELETE FROM twofold.rate WHERE (key_hmac, window_start) IN (
        SELECT key_hmac, window_start FROM twofold.rate WHERE window_start < $1
        ORDER BY window_start LIMIT $2 FOR UPDATE SKIP LOCKED)"""
_TAKE_BACK = "UPDATE twofold.rate SET n = n - 1 WHERE window_start = $1 AND key_hmac = $2 AND n > 0"
# What another worker is about to take is passed over, and so is what it has taken meanwhile.
_TAKE = """
    WITH due AS MATERIALIZED (
        SELECT account_id, id FROM twofold.outbox WHERE due_at <= $1
        ORDER BY created_at, position LIMIT $2 FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE twofold.outbox AS message SET due_at = $3, attempts = attempts + 1
        FROM due WHERE message.account_id = due.account_id AND message.id = due.id
        RETURNING message.*
    ) SELECT id, account_id, kind, payload, created_at, attempts FROM taken ORDER BY created_at, position"""
_PUT_SETTING = """
    INSERT INTO twofold.settings (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value"""


class PostgresStore:
    """All ports over one database, for the event loop in which it was opened."""

    def __init__(self, url: str, *, batch: Literal["on", "off"]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections = Connections(url, size=CONNECTIONS_MAX)
        # What goes through a million accounts takes a while: nobody who signs in waits for it.
        self._lists = Connections(url, size=LIST_CONNECTIONS_MAX, statement_timeout_s=LONG_STATEMENT_S)
        self._writer = Writer(url, batch=batch == "on")
        self._is_closed = False

    @classmethod
    async def open(cls, url: str, *, batch: Literal["on", "off"] = "on") -> PostgresStore:
        """Open the database, and make or bring up to date its tables. `batch`: whether attempts of several accounts
        are committed together. Raises `ConfigurationError`, one line."""
        await prepare(url)
        return cls(url, batch=batch)

    def use_codec(self, codec: Codec) -> None:
        """How accounts are encoded and checked from now on."""
        self._writer.codec = codec

    async def close(self) -> None:
        """Commit and answer what waits, then let the connections go."""
        if self._is_closed:
            return
        self._is_closed = True
        await self._writer.close()
        self._connections.close()
        self._lists.close()
        # Their sockets are closed in the next turn of the event loop, and this may be its last one.
        await asyncio.sleep(0)

    async def transact(self, account_id: str, decide: Callable[[Account | None], Decision]) -> Decision:
        self._check_usable()
        return await self._writer.transact(account_id, decide)

    async def load(self, account_id: str) -> Account | None:
        ((has_events, *row),) = await self._read(_LOAD, account_id)
        is_known = row[0] is not None
        if has_events and not is_known:
            raise lost(account_id)
        state = self._writer.codec.load(StoredAccount(*row)) if is_known else None
        return state if isinstance(state, Account) else None

    async def orphans(self) -> Sequence[str]:
        return [account_id for (account_id,) in await self._list(pages.ORPHANS)]

    async def scan(self, *, after: str = "", tombstones: bool = False) -> AsyncIterator[StoredAccount]:
        statement = pages.SCAN_NEXT if after else pages.SCAN_FIRST
        while rows := await self._list(statement, after, tombstones, pages.SCAN_ROWS):
            for row in rows:
                yield StoredAccount(*row)
            statement, after = pages.SCAN_NEXT, rows[-1][0]

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
        # No id holds what cannot be printed, and the database could not even be asked for one with a NUL in it.
        if search is not None and not search.isprintable():
            return []
        pattern = None if search is None else pages.spell_search(search)
        narrowed = after.partition("\0")[0], limit, state, factor, role, pattern
        if stops_by is None:
            return [StoredAccount(*row) for row in await self._list(pages.PAGE, *narrowed)]
        return [StoredAccount(*row) for row in await self._list(pages.PAGE_STOPPING, *narrowed, stops_by)]

    async def count_accounts_by(self) -> AccountCounts:
        ((stopping, first_stops_at),) = await self._list(pages.COUNT_STOPPING)
        return count_by(await self._list(pages.COUNT_BY), stopping=stopping, first_stops_at=first_stops_at)

    async def events(self, account_id: str, *, after_seq: int = 0, limit: int = 1000) -> Sequence[EventRow]:
        return [EventRow(*row) for row in await self._read(_EVENTS, account_id, after_seq, limit)]

    async def find_by_contact(self, kind: str, key_hmac: bytes) -> Sequence[str]:
        return [account_id for (account_id,) in await self._read(_FIND_BY_CONTACT, kind, key_hmac)]

    async def claim(self, kind: str, key_hmac: bytes, account_id: str, now: int) -> str:
        ((holder,),) = await self._repeat(_CLAIM, kind, key_hmac, account_id, now)
        return str(holder)

    async def find_claim(self, kind: str, key_hmac: bytes) -> str | None:
        rows = await self._read(_FIND_CLAIM, kind, key_hmac)
        return str(rows[0][0]) if rows else None

    async def release(self, kind: str, key_hmac: bytes, account_id: str, *, made_before: int | None = None) -> None:
        older_than = 2**63 - 1 if made_before is None else made_before
        await self._repeat(_RELEASE, kind, key_hmac, account_id, older_than)

    async def add_application(self, application: Application) -> None:
        sql = "INSERT INTO twofold.applications (id, created_at, document) VALUES ($1, $2, $3)"
        await self._once(sql, application.id, application.created_at, msgspec.json.encode(application))

    async def find_application(self, application_id: str) -> Application | None:
        rows = await self._read("SELECT document FROM twofold.applications WHERE id = $1", application_id)
        return msgspec.json.decode(rows[0][0], type=Application) if rows else None

    async def list_applications(self) -> Sequence[Application]:
        rows = await self._read("SELECT document FROM twofold.applications ORDER BY created_at, id")
        return [msgspec.json.decode(document, type=Application) for (document,) in rows]

    async def revoke_application(self, application_id: str) -> bool:
        return bool(await self._once("DELETE FROM twofold.applications WHERE id = $1 RETURNING 1", application_id))

    async def find_session(self, token_digest: bytes) -> Session | None:
        rows = await self._read(f"{_SESSION} WHERE token_digest = $1", token_digest)
        return self._writer.codec.load_session(StoredSession(*rows[0])) if rows else None

    async def list_sessions(self, account_id: str) -> Sequence[Session]:
        found = []
        for row in await self._read(f"{_SESSION} WHERE account_id = $1 ORDER BY begun_at, position", account_id):
            with suppress(TamperedRecord):
                found.append(self._writer.codec.load_session(StoredSession(*row)))
        return found

    async def touch_session(self, token_digest: bytes, session: Session) -> None:
        row = self._writer.codec.dump_session(session, token_digest)
        await self._repeat(_TOUCH_SESSION, row.document, row.mac, row.account_id, token_digest)

    async def list_blocks(self) -> Sequence[NetworkBlock]:
        rows = await self._read("SELECT document FROM twofold.network_blocks ORDER BY network")
        return [msgspec.json.decode(document, type=NetworkBlock) for (document,) in rows]

    async def put_block(self, block: NetworkBlock) -> None:
        await self._repeat(_PUT_BLOCK, block.network, msgspec.json.encode(block))

    async def drop_block(self, network: str) -> bool:
        return bool(
            await self._once("DELETE FROM twofold.network_blocks WHERE network = $1 RETURNING network", network)
        )

    async def hit(self, key_hmac: bytes, window: int, cap: int) -> bool:
        """`window` is the second at which the window began; those that began more than a day earlier are dropped.

        Where a connection is lost it may count twice: that keeps somebody out too early, and lets nobody in.
        """
        counted = await self._repeat(_HIT, window, key_hmac, cap)
        if counted and counted[0][0] == 1:
            await self._repeat(_DROP_WINDOWS, window - WINDOWS_KEPT_S, WINDOWS_DROPPED_MAX)
        return bool(counted)

    async def take_back(self, key_hmac: bytes, window: int) -> None:
        await self._once(_TAKE_BACK, window, key_hmac)

    async def take(self, limit: int, now: int, lease_s: int) -> Sequence[OutboxRow]:
        """`attempts` counts this one too. What was taken over a connection that was lost comes back after its lease."""
        rows = await self._repeat(_TAKE, now, limit, now + lease_s * _MICROS)
        return [OutboxRow(*row) for row in rows]

    async def settle(self, message_id: str, *, sent: bool, retry_at: int = 0) -> None:
        if sent:
            await self._repeat("DELETE FROM twofold.outbox WHERE id = $1", message_id)
        else:
            await self._repeat("UPDATE twofold.outbox SET due_at = $2 WHERE id = $1", message_id, retry_at)

    async def load_keys(self) -> Sequence[WrappedKey]:
        return [WrappedKey(*row) for row in await self._read(keys.LOAD_KEYS)]

    async def add_keys(self, added: Sequence[WrappedKey], *, first: bool = False) -> bool:
        self._check_usable()
        return await self._connections.run(lambda connection: keys.add_keys(connection, added, first=first))

    async def change_keys(self, changes: Sequence[tuple[WrappedKey | None, WrappedKey]]) -> bool:
        self._check_usable()
        return await self._connections.run(lambda connection: keys.change_keys(connection, changes))

    async def reserve_uses(self, key_id: str, count: int, uses_max: int) -> int:
        """Where a connection is lost, some uses may be reserved for nobody."""
        rows = await self._repeat(keys.RESERVE_USES, key_id, count, uses_max)
        return int(rows[0][0]) if rows else 0

    async def note_unwraps(self, at: Mapping[str, int]) -> None:
        self._check_usable()
        await self._connections.repeat(lambda connection: keys.note_unwraps(connection, at))

    async def put_node(self, node: Node, *, forget_before: int) -> int:
        """Gives back the time by the database's clock."""
        self._check_usable()
        return await self._connections.repeat(
            lambda connection: keys.put_node(connection, node, forget_before=forget_before)
        )

    async def list_nodes(self) -> Sequence[Node]:
        return keys.read_nodes(await self._read("SELECT document FROM twofold.nodes ORDER BY id"))

    async def drop_node(self, node_id: str) -> None:
        await self._repeat("DELETE FROM twofold.nodes WHERE id = $1", node_id)

    async def count_accounts(self) -> int:
        """How many rows there are, tombstones and the deployment's own among them."""
        ((count,),) = await self._list("SELECT count(*) FROM twofold.accounts")
        return int(count)

    async def check(self) -> None:
        """Raises `Unavailable` unless something could be written now, or was within the last five seconds by any node,
        and what is committed survives a crash; within two seconds."""
        self._check_usable()
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                await self._connections.repeat(check_health)
                if fault := self._writer.find_fault():
                    raise DatabaseAway(fault)
                if self._writer.is_away:
                    # It answers us, and may not have a connection for the writer: whoever writes next finds out.
                    await self._writer.transact("", lambda _: Decision(Done()))
        except NotDurable:
            # What was set for a role counts for new connections only.
            await self._connections.renew()
            self._writer.renew()
            raise
        except TimeoutError:
            raise Unavailable(f"the database takes nothing, or did not answer within {CHECK_TIMEOUT_S:g} s") from None

    async def get_setting(self, name: str) -> str | None:
        """A value that was put under this name."""
        rows = await self._read("SELECT value FROM twofold.settings WHERE name = $1", name)
        return str(rows[0][0]) if rows else None

    async def put_setting(self, name: str, value: str) -> None:
        """Keep a value under this name, in place of the one before."""
        await self._repeat(_PUT_SETTING, name, value)

    async def _read(self, sql: str, *values: object) -> list[Any]:
        self._check_usable()
        return await self._connections.read(sql, *values)

    async def _list(self, sql: str, *values: object) -> list[Any]:
        self._check_usable()
        return await self._lists.read(sql, *values)

    async def _repeat(self, sql: str, *values: object) -> list[Any]:
        """A statement that writes and may be done twice."""
        return await self._read(sql, *values)

    async def _once(self, sql: str, *values: object) -> list[Any]:
        """A statement that writes; raises `OutcomeUnknown` where nobody knows whether it did."""
        self._check_usable()
        return await self._connections.write(sql, *values)

    def _check_usable(self) -> None:
        if asyncio.get_running_loop() is not self._loop:
            raise Unavailable("the store was opened in another event loop: open one in each")
        if self._is_closed:
            raise Unavailable("the store is closed")


_accounts: type[Accounts] = PostgresStore
_pages: type[AccountPages] = PostgresStore
_claims: type[Claims] = PostgresStore
_applications: type[Applications] = PostgresStore
_sessions: type[Sessions] = PostgresStore
_limits: type[Limits] = PostgresStore
_blocks: type[NetworkBlocks] = PostgresStore
_outbox: type[Outbox] = PostgresStore
_keys: type[KeyStore] = PostgresStore
_nodes: type[Nodes] = PostgresStore
