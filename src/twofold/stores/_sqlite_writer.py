"""The one thread that writes a SQLite file: takes what waits, carries it out in one transaction, then answers all.

What an attempt writes is worked out in `_fold`; the statements are here. Reading is not done here.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

from twofold.core.account import Account
from twofold.core.audit import EventRow
from twofold.core.codec import Codec, StoredAccount, Tombstone
from twofold.core.decision import ContactIndex, Decision, EndSessions, OpenSession
from twofold.core.settlement import Decide, Settlement
from twofold.errors import Unavailable
from twofold.stores._checkpoints import Checkpointer
from twofold.stores._collector import Attempt, Collector, Task, answer_all
from twofold.stores._fold import Changes, Summary, fold, summarize
from twofold.stores._sqlite_file import connect
from twofold.stores._sqlite_sessions import write_sessions
from twofold.stores._turnstile import Turnstile

CACHE_KIB = 16 * 1024

T = TypeVar("T")

# One statement for names that are known and names that nobody has; the latter may not have events.
_SELECT = """
    WITH wanted (id) AS (VALUES {})
    SELECT wanted.id, version IS NULL AND EXISTS (SELECT 1 FROM events WHERE account_id = wanted.id),
        version, schema, CAST(document AS BLOB), CAST(mac AS BLOB), state, factors, role, stops_at
    FROM wanted LEFT JOIN accounts USING (id)"""
# Most attempts leave the summary as it is, and this statement touches no index.
_UPDATE = "UPDATE accounts SET version = ?, schema = ?, document = ?, mac = ? WHERE id = ?"
_UPSERT = """
    INSERT INTO accounts (version, schema, document, mac, id, state, factors, role, stops_at, created_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET version = excluded.version, schema = excluded.schema, document = excluded.document,
        mac = excluded.mac, state = excluded.state, factors = excluded.factors, role = excluded.role,
        stops_at = excluded.stops_at, created_at = excluded.created_at"""
_INSERT_EVENT = "INSERT INTO events (account_id, seq, at, kind, salt, payload, digest) VALUES (?, ?, ?, ?, ?, ?, ?)"
_ERASE_EVENTS = "UPDATE events SET at = 0, kind = '', salt = NULL, payload = NULL WHERE account_id = ? AND seq <= ?"
_INSERT_MESSAGE = """
    INSERT INTO outbox (id, account_id, kind, payload, created_at, due_at, attempts) VALUES (?, ?, ?, ?, ?, 0, 0)"""


class Job(Task[T]):
    """Any other write: `run` does it inside the transaction of a batch, and may be run again when a batch fails."""

    __slots__ = ("run",)

    def __init__(self, run: Callable[[sqlite3.Connection], T], lane: str | None = None) -> None:
        super().__init__(lane)
        self.run = run


class _StatementFailed(Exception):
    """Something between BEGIN and COMMIT went wrong: nothing was written."""


class Writer:
    """The writer thread of one file."""

    def __init__(self, path: Path) -> None:
        self._codec: Codec | None = None
        self._turnstile = Turnstile(path)
        self._connection = connect(path, cache_kib=CACHE_KIB)
        self._checkpointer = Checkpointer(path)
        self._collector = Collector()
        # A daemon, so that a program which forgets to close the store still ends; every commit is complete or absent.
        self._thread = threading.Thread(target=self._run, name="twofold-writer", daemon=True)
        self._thread.start()

    @property
    def codec(self) -> Codec:
        """How accounts are encoded and checked."""
        if self._codec is None:
            raise RuntimeError("use_codec comes before the first account")
        return self._codec

    @codec.setter
    def codec(self, codec: Codec) -> None:
        self._codec = codec

    def transact(self, account_id: str, decide: Decide) -> asyncio.Future[Decision]:
        """Let an attempt wait for its commit; the future raises what `decide` raised, or `Unavailable`.

        Raises `Busy` at once.
        """
        return self._collector.put(Attempt(account_id, decide))

    def run(self, run: Callable[[sqlite3.Connection], T], lane: str | None = None) -> asyncio.Future[T]:
        """The same for any other write; those of one lane take turns with the others as one account's attempts do."""
        return self._collector.put(Job(run, lane))

    def close(self) -> None:
        """Finish what waits, then end."""
        self._collector.close()
        self._thread.join()
        self._checkpointer.close()
        self._connection.close()
        self._turnstile.close()

    def _run(self) -> None:
        while (batch := self._collector.take()) is not None:
            self._commit(batch)
            answer_all(batch)
            self._checkpointer.note_commit(self._connection.total_changes)

    def _commit(self, batch: Sequence[Task[object]]) -> None:
        """Carry out the batch; leaves each task with its result or error. Nothing is answered yet."""
        try:
            with self._transaction():
                self._write(batch)
        except _StatementFailed as failure:
            if len(batch) > 1:
                # Whatever cannot be written, it fails alone and not with its neighbors.
                for task in batch:
                    self._commit([task])
            else:
                batch[0].fail(_translate(failure.__cause__))
        except BaseException as error:  # noqa: BLE001 - this thread must outlive whatever happens to one batch
            # BEGIN or COMMIT failed: no answer of this batch stands on a committed state, refusals included.
            for task in batch:
                task.fail(_translate(error))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._turnstile:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def _write(self, batch: Sequence[Task[object]]) -> None:
        try:
            attempts = []
            for task in batch:
                if isinstance(task, Attempt):
                    attempts.append(task)
                elif isinstance(task, Job):
                    task.succeed(task.run(self._connection))
            if attempts:
                self._settle(attempts)
        except BaseException as error:
            raise _StatementFailed from error

    def _settle(self, attempts: Sequence[Attempt]) -> None:
        rows: dict[str, StoredAccount] = {}
        summaries: dict[str, Summary] = {}
        ids = list({attempt.account_id for attempt in attempts})
        lost_ids: set[str] = set()
        found = self._connection.execute(_SELECT.format(",".join(["(?)"] * len(ids))), ids)
        for account_id, is_lost, version, schema, document, mac, *summary in found:
            if version is not None:
                rows[account_id] = StoredAccount(account_id, version, schema, document, mac)
                summaries[account_id] = tuple(summary)
            elif is_lost:
                lost_ids.add(account_id)
        active = {key_id for (key_id,) in self._connection.execute("SELECT id FROM keyring WHERE state = 'active'")}
        changes = fold(attempts, rows, lost_ids, codec=self.codec, active_keys=active)
        if changes.rows:
            self._write_rows(changes, summaries)
            self._connection.executemany(_INSERT_EVENT, map(_event_values, changes.events))
            for settlement in changes.further:
                self._write_further(settlement)

    def _write_rows(self, changes: Changes, summaries: dict[str, Summary]) -> None:
        updates, upserts = [], []
        for row, state in changes.rows.values():
            values = (row.version, row.schema, row.document, row.mac, row.account_id)
            summary = summarize(state)
            if summaries.get(row.account_id) == summary:
                updates.append(values)
            else:
                upserts.append((*values, *summary, state.created_at if isinstance(state, Account) else 0))
        self._connection.executemany(_UPDATE, updates)
        self._connection.executemany(_UPSERT, upserts)

    def _write_further(self, settlement: Settlement) -> None:
        account_id, state = settlement.standing.account_id, settlement.standing.state
        if isinstance(state, Tombstone):
            self._connection.execute(_ERASE_EVENTS, (account_id, state.head.erased))
            for table in ("contacts", "claims", "outbox", "sessions"):
                self._connection.execute(f"DELETE FROM {table} WHERE account_id = ?", (account_id,))  # noqa: S608 - above
        for effect in settlement.effects:
            if isinstance(effect, ContactIndex):
                self._connection.execute("DELETE FROM contacts WHERE account_id = ?", (account_id,))
                entries = [(kind, key_hmac, account_id) for kind, key_hmac in effect.entries]
                self._connection.executemany("INSERT OR IGNORE INTO contacts VALUES (?, ?, ?)", entries)
            elif isinstance(effect, OpenSession | EndSessions):
                write_sessions(self._connection, account_id, effect, self.codec)
            else:
                at = settlement.events[-1].at if settlement.events else 0
                payload = msgspec.json.encode(effect.payload)
                self._connection.execute(_INSERT_MESSAGE, (effect.id, account_id, effect.kind, payload, at))


def _event_values(event: EventRow) -> tuple[object, ...]:
    # The payload as text, for whoever looks at the table; its bytes are what the digest is over.
    payload = None if event.payload is None else event.payload.decode()
    return event.account_id, event.seq, event.at, event.kind, event.salt, payload, event.digest


def _translate(error: BaseException | None) -> Exception:
    if isinstance(error, sqlite3.Error | OSError):
        return Unavailable(f"the database cannot be written: {error}")
    return error if isinstance(error, Exception) else RuntimeError(repr(error))
