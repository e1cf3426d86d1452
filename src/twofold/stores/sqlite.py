"""The SQLite store: every port over one file. Writing goes through one thread, reading through others.

`open` gives a store whose keyring can be read at once; accounts need the integrity keys that come out of that
keyring, so `use_codec` comes before the first of them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from twofold.core.account import Account
from twofold.core.audit import EventRow
from twofold.core.codec import Codec, StoredAccount
from twofold.core.decision import Decision
from twofold.core.session import Session, StoredSession
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
from twofold.stores._fold import count_by, lost
from twofold.stores._sqlite_file import prepare
from twofold.stores._sqlite_keys import KEY_COLUMNS, change_keys, insert_keys, reserve_uses
from twofold.stores._sqlite_reader import Reader
from twofold.stores._sqlite_writer import Writer

READ_CACHE_KIB = 4 * 1024
LIST_CACHE_KIB = 2 * 1024
SCAN_ROWS = 200
WINDOWS_KEPT_S = 86_400
#: Anybody may ask whether we are ready, as often as he likes: it writes no more than once in so many seconds.
CHECK_WRITES_EVERY_S = 5
_MICROS = 1_000_000

T = TypeVar("T")

# Whoever edits the file with other tools changes a column's type as well: read as bytes, the code finds it out.
_ROW = "SELECT id, version, schema, CAST(document AS BLOB), CAST(mac AS BLOB) FROM accounts"
# The same statement and the same work for a name that is known and one that is not.
_LOAD = """
    SELECT EXISTS (SELECT 1 FROM events WHERE account_id = ?1),
        id, version, schema, CAST(document AS BLOB), CAST(mac AS BLOB)
    FROM (SELECT 1) LEFT JOIN accounts ON id = ?1"""
# The inner statement needs the index of summaries only, so even a rare factor is found soon among a million accounts.
_PAGE = """
    SELECT id, version, schema, CAST(document AS BLOB), CAST(mac AS BLOB) FROM accounts WHERE id IN (
        SELECT id FROM accounts WHERE id > ?1 AND id >= '!' AND state <> 'deleted' AND (?3 IS NULL OR state = ?3)
        AND (?4 IS NULL OR instr(factors, ' ' || ?4 || ' ') > 0) AND (?5 IS NULL OR role = ?5)
        AND (?6 IS NULL OR id GLOB ?6) ORDER BY id LIMIT ?2)
    ORDER BY id"""
# Few or all are in the index of those who have to set up an authenticator anew; it is in order of id, as pages are.
_PAGE_STOPPING = """
    SELECT id, version, schema, CAST(document AS BLOB), CAST(mac AS BLOB) FROM accounts WHERE id IN (
        SELECT id FROM accounts WHERE id > ?1 AND stops_at <> 0 AND stops_at <= ?7 AND (?3 IS NULL OR state = ?3)
        AND (?4 IS NULL OR instr(factors, ' ' || ?4 || ' ') > 0) AND (?5 IS NULL OR role = ?5)
        AND (?6 IS NULL OR id GLOB ?6) ORDER BY id LIMIT ?2)
    ORDER BY id"""
_COUNT_STOPPING = "SELECT count(*), ifnull(min(stops_at), 0) FROM accounts WHERE stops_at <> 0"
_COUNT_BY = """
    SELECT state, factors, role, count(*) FROM accounts WHERE id > '' AND state <> 'deleted' AND id >= '!'
    GROUP BY state, factors, role"""
_CLAIM = """
    INSERT INTO claims VALUES (?, ?, ?, ?) ON CONFLICT (kind, key_hmac)
    DO UPDATE SET created_at = excluded.created_at WHERE account_id = excluded.account_id
"""
_SESSION = """
    SELECT CAST(token_digest AS BLOB), id, account_id, level, begun_at, expires_at,
        CAST(document AS BLOB), CAST(mac AS BLOB) FROM sessions"""
# The row itself tells when it was written: what was rolled back counts for nothing, and the clock may be set back.
_WRITE_CHECK = """
    INSERT INTO settings (name, value) VALUES ('checked_at_s', strftime('%s', 'now'))
    ON CONFLICT (name) DO UPDATE SET value = excluded.value WHERE abs(excluded.value - value) >= ?"""


class SqliteStore:
    """All ports over the database at one path. Any number of event loops may use it; a fork may not."""

    def __init__(self, path: Path) -> None:
        self._writer = Writer(path)
        self._reader = Reader(path, cache_kib=READ_CACHE_KIB)
        # What goes through a million accounts takes a while: nobody who signs in waits for it.
        self._lister = Reader(path, cache_kib=LIST_CACHE_KIB)
        self._process = os.getpid()
        self._is_closed = False

    @classmethod
    def open(cls, path: Path) -> SqliteStore:
        """Open the database, or make it, and bring it up to date. Raises `ConfigurationError`, one line."""
        prepare(path)
        return cls(path)

    def use_codec(self, codec: Codec) -> None:
        """How accounts are encoded and checked from now on."""
        self._writer.codec = codec

    async def close(self) -> None:
        """Commit and answer what waits, then end the threads. A copy of the store in a forked child is left alone."""
        if self._is_closed or os.getpid() != self._process:
            return
        self._is_closed = True
        self._reader.close()
        self._lister.close()
        await asyncio.to_thread(self._writer.close)

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
        sql = "SELECT DISTINCT account_id FROM events WHERE account_id NOT IN (SELECT id FROM accounts) ORDER BY 1"
        return [account_id for (account_id,) in await self._list(sql)]

    async def scan(self, *, after: str = "", tombstones: bool = False) -> AsyncIterator[StoredAccount]:
        # The least string behind `after`; from "" on, the deployment's own row "" is among them.
        start = f"{after}\0" if after else ""
        sql = f"{_ROW} WHERE id >= ? AND (? OR state <> 'deleted') ORDER BY id LIMIT ?"
        while rows := await self._read(sql, start, tombstones, SCAN_ROWS):
            for row in rows:
                yield StoredAccount(*row)
            start = f"{rows[-1][0]}\0"

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
        if search is not None and "\0" in search:
            return []  # SQLite takes a pattern to end there; no id has it
        narrowed = after, limit, state, factor, role, None if search is None else _glob(search)
        found = self._list(_PAGE, *narrowed) if stops_by is None else self._list(_PAGE_STOPPING, *narrowed, stops_by)
        return [StoredAccount(*row) for row in await found]

    async def count_accounts_by(self) -> AccountCounts:
        ((stopping, first_stops_at),) = await self._list(_COUNT_STOPPING)
        return count_by(await self._list(_COUNT_BY), stopping=stopping, first_stops_at=first_stops_at)

    async def events(self, account_id: str, *, after_seq: int = 0, limit: int = 1000) -> Sequence[EventRow]:
        sql = """SELECT account_id, seq, at, kind, CAST(salt AS BLOB), CAST(payload AS BLOB), CAST(digest AS BLOB)
            FROM events
            WHERE account_id = ? AND seq > ? ORDER BY seq LIMIT ?"""
        return [EventRow(*row) for row in await self._read(sql, account_id, after_seq, limit)]

    async def find_by_contact(self, kind: str, key_hmac: bytes) -> Sequence[str]:
        sql = "SELECT account_id FROM contacts WHERE kind = ? AND key_hmac = ? ORDER BY account_id"
        return [account_id for (account_id,) in await self._read(sql, kind, key_hmac)]

    async def claim(self, kind: str, key_hmac: bytes, account_id: str, now: int) -> str:
        def run(connection: sqlite3.Connection) -> str:
            connection.execute(_CLAIM, (kind, key_hmac, account_id, now))
            sql = "SELECT account_id FROM claims WHERE kind = ? AND key_hmac = ?"
            (holder,) = connection.execute(sql, (kind, key_hmac)).fetchone()
            return str(holder)

        return await self._write(run)

    async def find_claim(self, kind: str, key_hmac: bytes) -> str | None:
        rows = await self._read("SELECT account_id FROM claims WHERE kind = ? AND key_hmac = ?", kind, key_hmac)
        return str(rows[0][0]) if rows else None

    async def release(self, kind: str, key_hmac: bytes, account_id: str, *, made_before: int | None = None) -> None:
        sql = "DELETE FROM claims WHERE kind = ? AND key_hmac = ? AND account_id = ? AND created_at < ?"
        await self._execute(sql, kind, key_hmac, account_id, 2**63 - 1 if made_before is None else made_before)

    async def add_application(self, application: Application) -> None:
        sql = "INSERT INTO applications (id, created_at, document) VALUES (?, ?, ?)"
        await self._execute(sql, application.id, application.created_at, msgspec.json.encode(application))

    async def find_application(self, application_id: str) -> Application | None:
        rows = await self._read("SELECT document FROM applications WHERE id = ?", application_id)
        return msgspec.json.decode(rows[0][0], type=Application) if rows else None

    async def list_applications(self) -> Sequence[Application]:
        rows = await self._read("SELECT document FROM applications ORDER BY created_at, id")
        return [msgspec.json.decode(document, type=Application) for (document,) in rows]

    async def revoke_application(self, application_id: str) -> bool:
        return await self._execute("DELETE FROM applications WHERE id = ?", application_id) > 0

    async def find_session(self, token_digest: bytes) -> Session | None:
        rows = await self._read(f"{_SESSION} WHERE token_digest = ?", token_digest)
        return self._writer.codec.load_session(StoredSession(*rows[0])) if rows else None

    async def list_sessions(self, account_id: str) -> Sequence[Session]:
        found = []
        for row in await self._read(f"{_SESSION} WHERE account_id = ? ORDER BY begun_at, rowid", account_id):
            with suppress(TamperedRecord):
                found.append(self._writer.codec.load_session(StoredSession(*row)))
        return found

    async def touch_session(self, token_digest: bytes, session: Session) -> None:
        row = self._writer.codec.dump_session(session, token_digest)
        sql = "UPDATE sessions SET document = ?, mac = ? WHERE token_digest = ?"
        await self._execute(sql, row.document, row.mac, token_digest)

    async def list_blocks(self) -> Sequence[NetworkBlock]:
        rows = await self._read("SELECT document FROM network_blocks ORDER BY network")
        return [msgspec.json.decode(document, type=NetworkBlock) for (document,) in rows]

    async def put_block(self, block: NetworkBlock) -> None:
        sql = "INSERT OR REPLACE INTO network_blocks (network, document) VALUES (?, ?)"
        await self._execute(sql, block.network, msgspec.json.encode(block))

    async def drop_block(self, network: str) -> bool:
        return await self._execute("DELETE FROM network_blocks WHERE network = ?", network) > 0

    async def hit(self, key_hmac: bytes, window: int, cap: int) -> bool:
        """`window` is the second at which the window began; those that began more than a day earlier are dropped."""

        def run(connection: sqlite3.Connection) -> bool:
            sql = """INSERT INTO rate (window, key_hmac, n) SELECT ?1, ?2, 1 WHERE ?3 > 0
                ON CONFLICT DO UPDATE SET n = n + 1 WHERE n < ?3"""
            connection.execute("DELETE FROM rate WHERE window < ?", (window - WINDOWS_KEPT_S,))
            return connection.execute(sql, (window, key_hmac, cap)).rowcount > 0

        # No account has such an id, so the lane is this counter's own.
        return await self._write(run, lane=f"\0{key_hmac.hex()}")

    async def take_back(self, key_hmac: bytes, window: int) -> None:
        sql = "UPDATE rate SET n = n - 1 WHERE window = ? AND key_hmac = ? AND n > 0"
        await self._execute(sql, window, key_hmac)

    async def take(self, limit: int, now: int, lease_s: int) -> Sequence[OutboxRow]:
        """`attempts` counts this one too."""

        def run(connection: sqlite3.Connection) -> list[OutboxRow]:
            sql = """SELECT id, account_id, kind, payload, created_at, attempts + 1 FROM outbox
                WHERE due_at <= ? ORDER BY created_at, rowid LIMIT ?"""
            rows = [OutboxRow(*row) for row in connection.execute(sql, (now, limit))]
            leased = [(now + lease_s * _MICROS, row.id) for row in rows]
            connection.executemany("UPDATE outbox SET due_at = ?, attempts = attempts + 1 WHERE id = ?", leased)
            return rows

        return await self._write(run)

    async def settle(self, message_id: str, *, sent: bool, retry_at: int = 0) -> None:
        if sent:
            await self._execute("DELETE FROM outbox WHERE id = ?", message_id)
        else:
            await self._execute("UPDATE outbox SET due_at = ? WHERE id = ?", retry_at, message_id)

    async def load_keys(self) -> Sequence[WrappedKey]:
        sql = f"SELECT {KEY_COLUMNS} FROM keyring ORDER BY created_at, rowid"  # noqa: S608 - our own columns
        return [WrappedKey(*row) for row in await self._read(sql)]

    async def add_keys(self, keys: Sequence[WrappedKey], *, first: bool = False) -> bool:
        def run(connection: sqlite3.Connection) -> bool:
            if first and connection.execute("SELECT 1 FROM keyring LIMIT 1").fetchone():
                return False
            insert_keys(connection, keys)
            return True

        return await self._write(run)

    async def change_keys(self, changes: Sequence[tuple[WrappedKey | None, WrappedKey]]) -> bool:
        return await self._write(lambda connection: change_keys(connection, changes))

    async def reserve_uses(self, key_id: str, count: int, uses_max: int) -> int:
        return await self._write(lambda connection: reserve_uses(connection, key_id, count, uses_max))

    async def note_unwraps(self, at: Mapping[str, int]) -> None:
        sql = "UPDATE keyring SET unwrapped_at = ?2 WHERE id = ?1 AND unwrapped_at < ?2"

        def run(connection: sqlite3.Connection) -> None:
            connection.executemany(sql, at.items())

        await self._write(run)

    async def put_node(self, node: Node, *, forget_before: int) -> None:
        def run(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM nodes WHERE seen_at < ?", (forget_before,))
            sql = "INSERT OR REPLACE INTO nodes (id, seen_at, document) VALUES (?, ?, ?)"
            connection.execute(sql, (node.id, node.seen_at, msgspec.json.encode(node)))

        await self._write(run)

    async def list_nodes(self) -> Sequence[Node]:
        rows = await self._read("SELECT document FROM nodes ORDER BY id")
        nodes = []
        for (document,) in rows:
            # What somebody else's tools have put there is no process that could be waited for.
            with suppress(msgspec.DecodeError, TypeError):
                nodes.append(msgspec.json.decode(document, type=Node))
        return nodes

    async def drop_node(self, node_id: str) -> None:
        await self._execute("DELETE FROM nodes WHERE id = ?", node_id)

    async def count_accounts(self) -> int:
        """How many rows there are, tombstones and the deployment's own among them."""
        ((count,),) = await self._list("SELECT count(*) FROM accounts")
        return int(count)

    async def check(self) -> None:
        """Raises `Unavailable` unless something could be written now, or was within the last five seconds."""
        await self._execute(_WRITE_CHECK, CHECK_WRITES_EVERY_S)

    async def get_setting(self, name: str) -> str | None:
        """A value that was put under this name."""
        rows = await self._read("SELECT value FROM settings WHERE name = ?", name)
        return str(rows[0][0]) if rows else None

    async def put_setting(self, name: str, value: str) -> None:
        """Keep a value under this name, in place of the one before."""
        await self._execute("INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", name, value)

    async def _execute(self, sql: str, *values: object) -> int:
        return await self._write(lambda connection: connection.execute(sql, values).rowcount)

    async def _write(self, run: Callable[[sqlite3.Connection], T], *, lane: str | None = None) -> T:
        self._check_usable()
        return await self._writer.run(run, lane)

    async def _read(self, sql: str, *values: object) -> list[Any]:
        self._check_usable()
        return await self._reader.fetch(sql, *values)

    async def _list(self, sql: str, *values: object) -> list[Any]:
        self._check_usable()
        return await self._lister.fetch(sql, *values)

    def _check_usable(self) -> None:
        # The threads stay behind in the parent: a forked child would wait for ever, and SQLite forbids it anyway.
        if os.getpid() != self._process:
            raise Unavailable("the store was opened before this process was forked: open it afterwards")
        if self._is_closed:
            raise Unavailable("the store is closed")


def _glob(search: str) -> str:
    """The pattern of whatever contains this text, in capitals or not: LIKE knows capitals of A to Z only."""
    parts = (f"[{c}{c.swapcase()}]" if c.isalpha() else f"[{c}]" if c in "*?[" else c for c in search)
    return f"*{''.join(parts)}*"


_accounts: type[Accounts] = SqliteStore
_pages: type[AccountPages] = SqliteStore
_claims: type[Claims] = SqliteStore
_applications: type[Applications] = SqliteStore
_sessions: type[Sessions] = SqliteStore
_limits: type[Limits] = SqliteStore
_blocks: type[NetworkBlocks] = SqliteStore
_outbox: type[Outbox] = SqliteStore
_keys: type[KeyStore] = SqliteStore
_nodes: type[Nodes] = SqliteStore
