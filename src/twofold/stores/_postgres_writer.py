"""The collecting writer of a process over PostgreSQL: takes what waits, decides, commits, then answers all.

Most attempts go together: one statement reads their accounts, one writes those that nobody else has changed or holds
meanwhile. The others go alone, in a side lane that waits for its turn at the row, so none of them holds up the rest.
The statements are in `_postgres_statements`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeAlias

import asyncpg

from twofold.core.account import Account
from twofold.core.codec import Codec
from twofold.core.decision import Decision, OpenSession
from twofold.errors import Busy, OutcomeUnknown, Unavailable
from twofold.stores._collector import BATCH_MAX, WAITING_MAX, WAITING_PER_ACCOUNT_MAX, Attempt, Waiting
from twofold.stores._fold import Changes, fold
from twofold.stores._postgres_connection import DATABASE_ERRORS, Connection, translate
from twofold.stores._postgres_line import Line, Weather
from twofold.stores._postgres_statements import (
    Found,
    drop_expired,
    needs_transaction,
    read_many,
    read_one,
    spell_write,
    write_further,
)

#: While one batch is written another one is decided.
BATCHES_AT_ONCE = 2
HALVED_MIN = 16
#: So many accounts are written at once, each alone, where nothing is written together.
LANES_UNBATCHED = 16
#: Others may change an account again and again while it is about to be made: then its attempts are turned away.
CONFLICTS_MAX = 20
#: Whoever has waited for so long behind rows that others hold is told to come back: there may be many more.
ASIDE_MAX_S = 5.0

Settle: TypeAlias = "Callable[[Line, str, Sequence[Attempt]], Awaitable[None]]"


class Writer:
    """Belongs to the event loop on which it was made."""

    def __init__(self, url: str, *, batch: bool = True) -> None:
        self._codec: Codec | None = None
        self._waiting = Waiting()
        self._more = asyncio.Event()
        self._is_closed = False
        self._is_batching = batch
        #: The accounts of the batches that are under way: their other attempts wait.
        self._under_way: set[str] = set()
        self._weather = weather = Weather()
        self._lines = [Line(url, weather) for _ in range(BATCHES_AT_ONCE)]
        lanes = [Line(url, weather) for _ in range(1 if batch else LANES_UNBATCHED)]
        self._side = SideLane(self.settle_alone, lanes)
        self._tasks = [asyncio.create_task(self._run(line), name="twofold-writer") for line in self._lines]

    @property
    def codec(self) -> Codec:
        """How accounts are encoded and checked."""
        if self._codec is None:
            raise RuntimeError("use_codec comes before the first account")
        return self._codec

    @codec.setter
    def codec(self, codec: Codec) -> None:
        self._codec = codec

    async def transact(self, account_id: str, decide: Callable[[Account | None], Decision]) -> Decision:
        """Raises what `decide` raised, `Busy` at once, or `Unavailable`."""
        if self._is_closed:
            raise Unavailable("the store is closed")
        attempt = Attempt(account_id, decide)
        self._waiting.put(attempt)
        self._more.set()
        return await attempt.future

    @property
    def is_away(self) -> bool:
        """Whether the last ones had to be told that the database is away."""
        return self._weather.is_away

    def find_fault(self) -> str:
        """Why the last commits failed; empty if they did not."""
        return self._weather.find_fault()

    def renew(self) -> None:
        """Each connection is replaced before it is used again."""
        self._weather.generation += 1

    async def close(self) -> None:
        """Finish what waits, then end."""
        self._is_closed = True
        self._more.set()
        await asyncio.gather(*self._tasks)
        await self._side.close()
        for line in self._lines:
            await line.close()

    async def _run(self, line: Line) -> None:
        while self._waiting or not self._is_closed:
            if attempts := self._take():
                ids = {attempt.account_id for attempt in attempts}
                self._under_way |= ids
                await self._commit(line, attempts)
                self._under_way -= ids
                if self._waiting or self._is_closed:
                    self._more.set()
            elif self._waiting or not self._is_closed:
                # Set by the first that comes; we go on behind the callbacks that are ready then: what they bring comes
                # along.
                self._more.clear()
                await self._more.wait()

    def _take(self) -> list[Attempt]:
        """The next batch: of many a half, so that one half is decided while the other one is written."""
        there = len(self._waiting) + len(self._under_way)
        most = max(HALVED_MIN, min(BATCH_MAX, -(-there // BATCHES_AT_ONCE)))
        while taken := self._waiting.take(most, but=self._under_way):
            attempts = [task for task in taken if isinstance(task, Attempt) and not self._goes_alone(task)]
            if attempts:
                return attempts
        return []

    def _goes_alone(self, attempt: Attempt) -> bool:
        """Whether the attempt was handed to the side lane; what is there already keeps its order."""
        if self._is_batching and attempt.account_id not in self._side:
            return False
        self._side.put(attempt)
        return True

    async def _commit(self, line: Line, attempts: Sequence[Attempt]) -> None:
        """Carry out the batch and answer it, but for what has to go alone."""
        try:
            alone = await line.patiently(lambda: self._settle(line, attempts))
        except Exception as error:  # noqa: BLE001 - this task must outlive whatever happens to one batch
            alone = set()
            if isinstance(error, Unavailable):
                self._weather.note_failure(error)
                fail_all(attempts, error)
            else:
                # Whatever cannot be written, it fails alone and not with its neighbors.
                alone = {attempt.account_id for attempt in attempts}
        for attempt in attempts:
            if attempt.account_id in alone:
                self._side.put(attempt)
            else:
                attempt.answer()

    async def _settle(self, line: Line, attempts: Sequence[Attempt]) -> set[str]:
        """Decide and write; which accounts have to go alone. Nothing is answered yet."""
        connection = await line.connection()
        found = await read_many(connection, list({attempt.account_id for attempt in attempts}))
        changes = fold(attempts, found.rows, found.lost_ids, codec=self.codec, active_keys=found.active_keys)
        if not changes.rows:
            return set()
        try:
            written = await self._write(line, changes, found)
        except OutcomeUnknown as unknown:
            # What stands on no change is answered; nobody knows what became of the rest.
            self._weather.note_failure(unknown)
            fail_all((attempt for attempt in attempts if attempt.account_id in changes.rows), unknown)
            return set()
        if written:
            self._weather.note_success()
        await sweep(connection, changes)
        return changes.rows.keys() - written

    async def _write(self, line: Line, changes: Changes, found: Found) -> set[str]:
        """Which accounts were written: all but those that somebody else holds or has changed."""
        statement, values = spell_write(changes, found)
        if not any(map(needs_transaction, changes.further)):
            connection = await line.connection()
            return _first_column(await line.committing(connection.fetch(statement, *values)))
        async with line.transaction() as connection:
            written = _first_column(await connection.fetch(statement, *values))
            of_written = [each for each in changes.further if each.standing.account_id in written]
            await write_further(connection, of_written, self.codec)
        return written

    async def settle_alone(self, line: Line, account_id: str, attempts: Sequence[Attempt]) -> None:
        """Carry out attempts of one account in a transaction that waits for its row, and answer them."""
        try:
            await line.patiently(lambda: self._settle_alone(line, account_id, attempts))
        except asyncpg.LockNotAvailableError:
            fail_all(attempts, Busy())
        except Exception as error:  # noqa: BLE001 - whatever it is, the lane goes on
            if len(attempts) > 1 and not isinstance(error, Unavailable):
                for attempt in attempts:
                    await self.settle_alone(line, account_id, [attempt])
                return
            if isinstance(error, (*DATABASE_ERRORS, Unavailable)):
                self._weather.note_failure(translate(error))
            fail_all(attempts, translate(error))
        for attempt in attempts:
            attempt.answer()

    async def _settle_alone(self, line: Line, account_id: str, attempts: Sequence[Attempt]) -> None:
        for _ in range(CONFLICTS_MAX):
            async with line.transaction() as connection:
                found = await read_one(connection, account_id, lock=True)
                changes = fold(attempts, found.rows, found.lost_ids, codec=self.codec, active_keys=found.active_keys)
                is_settled = not changes.rows
                if changes.rows:
                    statement, values = spell_write(changes, found)
                    is_settled = bool(await connection.fetch(statement, *values))
                if changes.rows and is_settled:
                    await write_further(connection, changes.further, self.codec)
            if is_settled:
                if changes.rows:
                    self._weather.note_success()
                await sweep(connection, changes)
                return
        raise Busy


class SideLane:
    """Accounts whose attempts go alone, one after the other; in the order in which they came here."""

    def __init__(self, settle: Settle, lines: Sequence[Line]) -> None:
        self._settle = settle
        self._lines = lines
        self._idle = list(lines)
        self._waiting: dict[str, deque[tuple[Attempt, float]]] = {}
        self._turns: deque[str] = deque()
        self._tasks: set[asyncio.Task[None]] = set()

    def __contains__(self, account_id: str) -> bool:
        return account_id in self._waiting

    def put(self, attempt: Attempt) -> None:
        """Let the attempt wait here, or answer that too many do."""
        queue = self._waiting.get(attempt.account_id)
        if queue is None:
            queue = self._waiting[attempt.account_id] = deque()
            self._turns.append(attempt.account_id)
        if len(queue) >= WAITING_PER_ACCOUNT_MAX or len(self._waiting) > WAITING_MAX:
            attempt.fail(Busy(per_account=len(queue) >= WAITING_PER_ACCOUNT_MAX))
            attempt.answer()
        else:
            queue.append((attempt, asyncio.get_running_loop().time()))
        if self._idle:
            task = asyncio.create_task(self._work(self._idle.pop()), name="twofold-side-lane")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Finish what waits, then end."""
        await asyncio.gather(*self._tasks)
        for line in self._lines:
            await line.close()

    async def _work(self, line: Line) -> None:
        while self._turns:
            account_id = self._turns.popleft()
            if attempts := self._take(account_id):
                await self._settle(line, account_id, attempts)
            if self._waiting[account_id]:
                self._turns.append(account_id)
            else:
                del self._waiting[account_id]
        self._idle.append(line)

    def _take(self, account_id: str) -> list[Attempt]:
        """Whoever waits for this account; those who waited for too long are told so."""
        queue, now = self._waiting[account_id], asyncio.get_running_loop().time()
        attempts = []
        while queue:
            attempt, put_at = queue.popleft()
            if now - put_at > ASIDE_MAX_S:
                attempt.fail(Busy())
                attempt.answer()
            elif not attempt.future.cancelled():
                attempts.append(attempt)
        return attempts


async def sweep(connection: Connection, changes: Changes) -> None:
    """With sessions that were opened some of those go whose time is over. Nothing depends on it."""
    effects = (effect for settlement in changes.further for effect in settlement.effects)
    opened = [effect.session.seen_at for effect in effects if isinstance(effect, OpenSession)]
    if opened:
        with suppress(*DATABASE_ERRORS):
            await drop_expired(connection, max(opened))


def _first_column(rows: Iterable[asyncpg.Record]) -> set[str]:
    return {row[0] for row in rows}


def fail_all(attempts: Iterable[Attempt], error: Exception) -> None:
    """The same error for each; nobody is answered yet."""
    for attempt in attempts:
        attempt.fail(error)
