"""A PostgreSQL database as one side of a move: all its rows as they are, and what says that they come or have gone.

What is moved and what is checked is decided in `twofold.migrating`, one step after the other: so nothing here is to be
awaited.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias, TypeVar

import asyncpg

from twofold.errors import Refused, Unavailable
from twofold.stores._postgres_connection import LONG_STATEMENT_S, Connection, connect, without_password
from twofold.stores._postgres_glance import FIRST_START_LOCK
from twofold.stores._postgres_schema import prepare
from twofold.stores._tables import ACCOUNTS, MOVED_TO, REFUSAL, TABLES, Row, Table

FETCH_ROWS = 2000
CLOSE_S = 2
LOCK_TIMEOUT_S = 5
_LOCK = f"LOCK TABLE {', '.join(f'twofold.{table.name}' for table in TABLES)} IN SHARE ROW EXCLUSIVE MODE"
_REFUSE = f"""
    CREATE OR REPLACE FUNCTION twofold.refuse() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN RAISE EXCEPTION '{REFUSAL}'; END $$;
    CREATE OR REPLACE TRIGGER refuse BEFORE INSERT OR UPDATE ON twofold.accounts EXECUTE FUNCTION twofold.refuse();
"""
# One sequence serves them all.
_SET_POSITION = "SELECT setval('twofold.positions', greatest(nextval('twofold.positions'), {}))".format(
    ", ".join(f"(SELECT max(position) FROM twofold.{t.name})" for t in TABLES if "position" in t.columns)  # noqa: S608
)
_PUT_SETTING = """
    INSERT INTO twofold.settings (name, value) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value"""

Cursor: TypeAlias = "asyncpg.cursor.Cursor[asyncpg.Record]"
T = TypeVar("T")
# The last one: asyncpg is confused by a connection that is lost in the middle of COPY.
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, asyncpg.InternalClientError)


class PostgresSide:
    """One database. `close` it; what was not said to be done by then is undone."""

    def __init__(self, url: str, *, partitions: int = 0) -> None:
        """Make the tables if there are none, and bring older ones up to date. Raises `ConfigurationError`; `Refused`
        when there are tables that are not divided into so many `partitions`."""
        self._url = url
        self.place: str = without_password(url)
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_exception_handler(_leave_out_lost)
        self._connections: list[Connection] = []
        self._idle: list[Connection] = []
        try:
            self._runner.run(prepare(url, partitions=partitions))
            self._writer = self._do(self._connect())
            if partitions and (found := self._count_partitions()) != partitions:
                problem = f"there are tables in {self.place} that are divided into {found or 1}, not {partitions}"
                raise Refused("conflict", f"{problem}: drop the schema twofold if nothing in it is needed")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let the database go, and everybody to it."""

        async def close_all() -> None:
            for connection in self._connections:
                # What was begun on it is undone by the server, whether it hears of the end or not.
                with suppress(*_FAILURES):
                    await connection.close(timeout=CLOSE_S)

        self._runner.run(close_all())
        self._runner.close()

    def hold(self) -> None:
        """Let nobody write from now on; reading stays free."""
        self._do(self._writer.execute(f"BEGIN; {_LOCK}"))

    def reserve(self) -> None:
        """Let nobody else begin here: neither a move nor a first start. Raises `Refused`."""
        if not self._do(self._writer.fetchval("SELECT pg_try_advisory_lock($1)", FIRST_START_LOCK)):
            raise Refused("conflict", f"a first start or another move is under way in {self.place}")

    def seen_since(self, at: int) -> Sequence[bytes]:
        """The documents of those that have served this database since then, in microseconds."""
        sql = "SELECT document FROM twofold.nodes WHERE seen_at > $1 ORDER BY id"
        return [document for (document,) in self._do(self._writer.fetch(sql, at))]

    def rows(self, table: Table) -> Iterator[Row]:
        """All rows in order of key, as they are now."""
        sql = f"""SELECT {", ".join(table.columns)} FROM twofold.{table.name} WHERE {table.condition}
            ORDER BY {", ".join(table.key)}"""  # noqa: S608 - one of ours

        async def begin() -> tuple[Connection, Cursor]:
            connection = self._idle.pop() if self._idle else await self._connect()
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return connection, await connection.cursor(sql)

        connection, cursor = self._do(begin())
        while chunk := self._do(cursor.fetch(FETCH_ROWS)):
            yield from map(tuple, chunk)
        self._do(connection.execute("COMMIT"))
        self._idle.append(connection)

    def count(self, table: Table) -> int:
        """How many rows there are."""
        sql = f"SELECT count(*) FROM twofold.{table.name} WHERE {table.condition}"  # noqa: S608 - one of ours
        return int(self._do(self._writer.fetchval(sql)))

    def change(self, table: Table, gone: Sequence[Row], new: Sequence[Row]) -> None:
        """Take away the rows of the keys `gone` and add the `new` ones, in one step. Raises `Unavailable`, also for
        values of other types, which only somebody else's tools can have put into a SQLite file."""
        is_key = " AND ".join(f"{column} = ${n}" for n, column in enumerate(table.key, 1))

        async def run() -> None:
            async with self._writer.transaction():
                if gone:
                    sql = f"DELETE FROM twofold.{table.name} WHERE {is_key}"  # noqa: S608 - one of ours
                    await self._writer.executemany(sql, gone)
                await self._writer.copy_records_to_table(
                    table.name, schema_name="twofold", columns=table.columns, records=new
                )

        try:
            self._do(run())
        except (TypeError, ValueError, OverflowError) as error:
            raise Unavailable(f"a row of the table {table.name} cannot be moved as it is: {error}") from None

    def read_mark(self, name: str) -> str | None:
        """What the database says of its move."""
        found = self._do(self._writer.fetchval("SELECT value FROM twofold.settings WHERE name = $1", name))
        return None if found is None else str(found)

    def write_mark(self, name: str, value: str | None) -> None:
        """Have it say that, or nothing more."""
        if value is None:
            self._do(self._writer.execute("DELETE FROM twofold.settings WHERE name = $1", name))
        else:
            self._do(self._writer.execute(_PUT_SETTING, name, value))

    def settle(self) -> None:
        """All rows are in: have them found quickly, and those that come after them behind them."""
        self._do(self._writer.fetchval(_SET_POSITION))
        for table in TABLES:
            self._do(self._writer.execute(f"ANALYZE twofold.{table.name}"))

    def leave(self, to: str) -> None:
        """Say where the rows have gone, and take no decision on an account any more. Ends `hold`."""
        self.write_mark(MOVED_TO, to)
        self._do(self._writer.execute(f"{_REFUSE} COMMIT"))

    def _count_partitions(self) -> int:
        sql = f"SELECT count(*) FROM pg_inherits WHERE inhparent = 'twofold.{ACCOUNTS.name}'::regclass"  # noqa: S608
        return int(self._do(self._writer.fetchval(sql)))

    async def _connect(self) -> Connection:
        connection = await connect(self._url, statement_timeout_s=LONG_STATEMENT_S)
        self._connections.append(connection)
        # One side waits while the other works; and a vacuum gives way to whoever waits for it a second.
        await connection.execute(f"SET idle_in_transaction_session_timeout = 0; SET lock_timeout = '{LOCK_TIMEOUT_S}s'")
        return connection

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        with self._translated():
            return self._runner.run(work)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except asyncpg.LockNotAvailableError:
            raise Unavailable(f"{self.place} is in use: stop whoever serves it") from None
        except _FAILURES as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise Unavailable(f"{self.place} cannot be read or written: {reason}") from None


def _leave_out_lost(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """asyncpg forgets a future when a connection is lost in the middle of COPY. Whoever copied was told of the loss."""
    if not isinstance(context.get("exception"), _FAILURES):
        loop.default_exception_handler(context)
