"""A connection of the writer's own: opened when it is needed, anew when it was lost, and honest about commits.

A commit whose answer does not come is `OutcomeUnknown`. So is one that the server itself doubts: it says so with a
warning when a wait for a synchronous standby was cut short, and reports success.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import asyncpg

from twofold.errors import DatabaseAway, OutcomeUnknown
from twofold.stores._postgres_connection import (
    ANSWER_AFTER_S,
    DATABASE_ERRORS,
    PATIENCE_S,
    STATEMENT_TIMEOUT_S,
    Connection,
    connect,
    is_lost,
    is_refused,
    is_rolled_back,
    is_stale,
    patiently,
    translate,
    unconfirmed,
)
from twofold.stores._postgres_health import check_durable
from twofold.stores._postgres_schema import check_schema

#: The server ends a statement after `STATEMENT_TIMEOUT_S`, but a commit may wait for a standby as long as that takes.
ANSWER_TIMEOUT_S = STATEMENT_TIMEOUT_S + ANSWER_AFTER_S
#: So many failures one after the other, the last one so short a time ago, are the database's.
FAILURES_TOLD_MIN = 3
FAULT_TOLD_S = 3.0
_UNCONFIRMED = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = 'twofold' AND usename = current_user AND wait_event = 'SyncRep'
        AND clock_timestamp() - query_start > $1 * interval '1 s'"""

T = TypeVar("T")


class Weather:
    """What the lines of one writer tell each other: whether the database has been away for longer than their patience,
    whether somebody waits for a commit that is not confirmed, and from which generation on connections are of use."""

    def __init__(self) -> None:
        self.is_away = False
        self.is_unconfirmed = False
        self.generation = 0
        self._failures = 0
        self._failed_at = 0.0
        self._why = ""

    def note_success(self) -> None:
        """Something was committed."""
        self._failures = 0

    def note_failure(self, error: Exception) -> None:
        """Something could not be committed, and the caller was not to blame."""
        self._failures += 1
        self._failed_at, self._why = asyncio.get_running_loop().time(), str(error)

    def find_fault(self) -> str:
        """Why nothing is committed just now; empty when something was, or when nobody has tried for a while."""
        is_recent = asyncio.get_running_loop().time() - self._failed_at < FAULT_TOLD_S
        return self._why if self._failures >= FAILURES_TOLD_MIN and is_recent else ""


class Line:
    """One connection after the other; for one caller at a time."""

    def __init__(self, url: str, weather: Weather) -> None:
        self._url = url
        self._weather = weather
        self._generation = weather.generation
        self._connection: Connection | None = None
        self._is_doubtful = False

    async def connection(self) -> Connection:
        """The connection that is open, or a new one; raises what asyncpg raises, and `Unavailable`."""
        if self._generation != self._weather.generation:
            self._drop()
            self._generation = self._weather.generation
        if self._connection is None or self._connection.is_closed():
            # Ours at once, so that it is cut when no answer comes from now on.
            self._connection = await connect(self._url, is_writer=True)
            self._connection.add_log_listener(self._note)
            try:
                await check_schema(self._connection)
                await check_durable(self._connection)
            except BaseException:
                self._drop()
                raise
        # Each commit that nobody confirms keeps a connection of the server: not one more until those are through.
        if self._weather.is_unconfirmed:
            if await self._connection.fetchval(_UNCONFIRMED, ANSWER_TIMEOUT_S / 2):
                raise DatabaseAway("the database waits for a standby that does not answer")
            self._weather.is_unconfirmed = False
        return self._connection

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do the work, again where it is known that nothing was done, until patience is over: `Unavailable`. Once a
        database has been away for so long, the next try is the only one."""
        failure: Exception = DatabaseAway("the database cannot be used")
        async for _ in patiently(0 if self._weather.is_away else PATIENCE_S):
            try:
                with self._deadline():
                    result = await work()
            except Exception as error:
                if is_stale(error):
                    self._drop()
                if not is_lost(error) and not is_rolled_back(error):
                    raise
                failure = translate(error)
            else:
                self._weather.is_away = False
                return result
        self._weather.is_away = True
        raise failure

    async def committing(self, statement: Awaitable[T]) -> T:
        """The result of a statement that commits; raises `OutcomeUnknown` unless the server confirms it."""
        self._is_doubtful = False
        try:
            result = await statement
        except Exception as error:
            if is_refused(error):
                raise
            self._drop()
            raise unconfirmed(error) from None
        if self._is_doubtful:
            raise OutcomeUnknown("the database did not wait for its standby")
        return result

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Commits at the end of the block, and rolls back when something is raised in it."""
        connection = await self.connection()
        transaction = connection.transaction()
        try:
            await transaction.start()
        except BaseException:
            self._drop()  # asyncpg would take the next transaction for one inside this one
            raise
        try:
            yield connection
        except BaseException:
            try:
                await transaction.rollback()
            except DATABASE_ERRORS:
                self._drop()  # so the server does it
            raise
        await self.committing(transaction.commit())

    async def close(self) -> None:
        """Let the connection go, after what is under way."""
        if self._connection is not None and not self._connection.is_closed():
            with suppress(*DATABASE_ERRORS):
                await self._connection.close(timeout=ANSWER_TIMEOUT_S)
        self._connection = None

    @contextmanager
    def _deadline(self) -> Iterator[None]:
        """Inside, the connection is cut when no answer comes for too long.

        It is cut and not canceled: a commit that waits for its standby would become visible by that, and might be lost.
        """

        def cut() -> None:
            self._weather.is_unconfirmed = True
            self._drop()

        timer = asyncio.get_running_loop().call_later(ANSWER_TIMEOUT_S, cut)
        try:
            yield
        finally:
            timer.cancel()

    def _note(self, _connection: object, message: asyncpg.PostgresLogMessage) -> None:
        self._is_doubtful = self._is_doubtful or isinstance(message, asyncpg.PostgresWarning)

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None
