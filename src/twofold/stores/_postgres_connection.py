"""Connections to PostgreSQL: opened with the settings that every one of them needs, replaced when they are lost, and
what an error of theirs means: was nothing done, may it be tried again, or does nobody know.

No statement is here; nothing here knows an account.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import parse_qs, urlsplit, urlunsplit

import asyncpg

from twofold.errors import ConfigurationError, DatabaseAway, OutcomeUnknown

#: As long a call waits for a database that is away, or for one that is being replaced.
PATIENCE_S = 6.0
CONNECT_TIMEOUT_S = 2.0
STATEMENT_TIMEOUT_S = 3
#: The server ends a statement by itself; an answer that does not come after that never will.
ANSWER_AFTER_S = 1.0
LOCK_TIMEOUT_S = 0.5
#: A process that stops between two statements keeps its locks no longer than this.
IDLE_IN_TRANSACTION_S = 1
#: For lists over everybody, and for copying.
LONG_STATEMENT_S = 120
_RETRY_FIRST_S = 0.02
_RETRY_MAX_S = 0.3

#: Of several servers in one address the one that answered last is asked first.
_answered: dict[str, str] = {}

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
T = TypeVar("T")

#: Whoever is told one of these may try again: nothing was done, and it was not the statement's fault.
_ROLLED_BACK = (
    asyncpg.SerializationError,
    asyncpg.DeadlockDetectedError,
    asyncpg.ReadOnlySQLTransactionError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.TargetServerAttributeNotMatched,
)
#: The connection is gone. What was under way on it may have been done, or not.
_LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.StatementCompletionUnknownError,
    asyncpg.InterfaceError,
    # What asyncpg says of a connection on which the server's farewell has come, and its end has not.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

#: Whatever comes from a database that is away, refuses, or is none.
DATABASE_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)


def is_rolled_back(error: BaseException) -> bool:
    """Whether nothing was done and another try may succeed, perhaps over another connection."""
    return isinstance(error, _ROLLED_BACK)


def is_lost(error: BaseException) -> bool:
    """Whether the connection is gone, and with it the answer."""
    return isinstance(error, _LOST)


def is_refused(error: BaseException) -> bool:
    """Whether the server itself says that nothing was done."""
    return isinstance(error, asyncpg.PostgresError) and not is_lost(error)


def is_stale(error: BaseException) -> bool:
    """Whether the connection is of no more use: lost, or to a server that takes no writes any more."""
    return is_lost(error) or isinstance(error, asyncpg.ReadOnlySQLTransactionError)


def translate(error: BaseException) -> Exception:
    """What a caller is told."""
    if isinstance(error, DATABASE_ERRORS):
        return DatabaseAway(f"the database cannot be used: {_in_one_line(error)}")
    return error if isinstance(error, Exception) else RuntimeError(repr(error))


def unconfirmed(error: BaseException) -> OutcomeUnknown:
    """What a caller is told when nobody knows."""
    return OutcomeUnknown(f"the database did not confirm it ({_in_one_line(error)})")


@contextmanager
def refusing(url: str) -> Iterator[None]:
    """What goes wrong inside is a `ConfigurationError`, one line without the password."""
    try:
        yield
    except DATABASE_ERRORS as error:
        detail = f"the database {without_password(url)} cannot be used ({_in_one_line(error)})"
        raise ConfigurationError(detail) from None
    except (ValueError, OverflowError):
        # Its own words may hold a part of the password.
        raise ConfigurationError(f"the database {without_password(url)} cannot be used (it is no address)") from None


def without_password(url: str) -> str:
    """The address as people may read it."""
    parts = urlsplit(url)
    authority = parts.netloc.rpartition("@")
    user = authority[0].partition(":")[0]
    # Options may hold a password, too.
    return urlunsplit(parts._replace(netloc=f"{user}@{authority[2]}" if user else authority[2], query=""))


async def connect(url: str, *, statement_timeout_s: int = STATEMENT_TIMEOUT_S, is_writer: bool = False) -> Connection:
    """A connection to the server that takes writes; raises what asyncpg raises. On that of a writer no statement is
    ever canceled, and none is planned twice."""
    options = _options(url, statement_timeout_s)
    if is_writer:
        # All rows are found by their keys: also while the tables are so small that another plan looked as good. What is
        # forbidden makes a plan look dear, and to compile it would take longer than all the rest.
        options["server_settings"] |= {"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
    else:
        options["command_timeout"] = statement_timeout_s + 2
    return await _connect(url, **options)


async def _connect(url: str, **options: Any) -> Connection:
    # Each by itself: asyncpg would ask no other one while the first is silent, or after it answered with an error.
    failure: BaseException | None = None
    for server in sorted(_servers(url), key=lambda server: server != _answered.get(url)):
        try:
            connection: Connection = await asyncpg.connect(server, **options)
        except DATABASE_ERRORS as error:
            # What a server says is worth more than that another one is silent.
            failure = failure if isinstance(failure, asyncpg.PostgresError) else error
        else:
            _answered[url] = server
            return connection
    raise failure or ConfigurationError("there is no server in the address")


def _servers(url: str) -> list[str]:
    """The addresses of single servers that are in one."""
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


class Connections:
    """Some connections to one database, for one event loop; made when they are needed."""

    def __init__(
        self,
        url: str,
        *,
        size: int,
        statement_timeout_s: int = STATEMENT_TIMEOUT_S,
        check: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        """`check` is asked about each new connection."""
        self._pool = asyncpg.create_pool(
            url,
            min_size=0,
            max_size=size,
            init=cast("Any", check),
            reset=_leave_as_it_is,
            connect=cast("Any", _connect),
            **_options(url, statement_timeout_s),
        )
        self._answer_s = statement_timeout_s + ANSWER_AFTER_S
        self._opening = asyncio.Lock()
        self._is_open = False

    async def read(self, sql: str, *values: object) -> list[Any]:
        """All rows. Raises `Unavailable` when the database stays away."""

        async def run(connection: Connection) -> list[Any]:
            return await connection.fetch(sql, *values)

        return await self.repeat(run)

    async def write(self, sql: str, *values: object) -> list[Any]:
        """All rows of one statement that commits by itself. Raises `Unavailable`; `OutcomeUnknown` when the connection
        was lost under it."""

        async def run(connection: Connection) -> list[Any]:
            return await connection.fetch(sql, *values)

        return await self.run(run)

    async def repeat(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do what may be done twice; raises `Unavailable` when the database stays away."""
        return await self._run(work, may_repeat=True)

    async def run(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Do what may be done once only, again where it is known that nothing was done. Raises `Unavailable`;
        `OutcomeUnknown` when the connection was lost under it."""
        return await self._run(work, may_repeat=False)

    async def renew(self) -> None:
        """Each connection is replaced before it is used again."""
        if self._is_open:
            await self._pool.expire_connections()

    def close(self) -> None:
        """Let all connections go at once; nothing waits for what is under way."""
        if self._is_open:
            self._pool.terminate()

    async def _run(self, work: Callable[[Connection], Awaitable[T]], *, may_repeat: bool) -> T:
        failure: Exception = DatabaseAway("the database cannot be used")
        async for _ in patiently():
            is_begun = False
            try:
                async with self._acquire() as connection:
                    is_begun = True
                    with self._cut_off(connection):
                        return await work(connection)
            except Exception as error:  # noqa: BLE001 - judged here, and raised as what it means
                if is_stale(error):
                    await self._pool.expire_connections()
                if is_begun and not may_repeat and isinstance(error, DATABASE_ERRORS) and not is_refused(error):
                    raise unconfirmed(error) from None
                if not is_lost(error) and not is_rolled_back(error):
                    raise translate(error) from None
                failure = translate(error)
        raise failure

    @contextmanager
    def _cut_off(self, connection: Connection) -> Iterator[None]:
        """A connection that does not answer is cut: to cancel a commit that waits for its standby would show what may
        be lost. One that was lost, or that nobody waits for any more, does not go back among the others."""

        def cut() -> None:
            # One that was lost has left the pool already, and says so.
            with suppress(asyncpg.InterfaceError):
                connection.terminate()

        timer = asyncio.get_running_loop().call_later(self._answer_s, cut)
        try:
            yield
        except BaseException as error:
            if is_lost(error) or isinstance(error, asyncio.CancelledError):
                cut()
            raise
        finally:
            timer.cancel()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        if not self._is_open:
            async with self._opening:
                if not self._is_open:
                    await self._pool
                    self._is_open = True
        async with self._pool.acquire(timeout=PATIENCE_S) as connection:
            # A proxy for the connection, which hands every call on.
            yield cast("Connection", connection)


async def patiently(patience_s: float = PATIENCE_S) -> AsyncIterator[None]:
    """A first try, then others with growing pauses between them, until patience is over."""
    loop = asyncio.get_running_loop()
    ends_at, pause_s = loop.time() + patience_s, _RETRY_FIRST_S
    yield
    while loop.time() + pause_s < ends_at:
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _RETRY_MAX_S)
        yield


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


async def _leave_as_it_is(_connection: object) -> None:
    """asyncpg would ask the server to forget what was set: nothing of ours is, and a round trip is half of a call."""


def _options(url: str, statement_timeout_s: int) -> dict[str, Any]:
    options: dict[str, Any] = {
        "timeout": CONNECT_TIMEOUT_S,
        "server_settings": {
            "application_name": "twofold",
            "statement_timeout": f"{statement_timeout_s}s",
            "lock_timeout": f"{int(LOCK_TIMEOUT_S * 1000)}ms",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
            # So that whatever is between us and the server does not forget a connection that rests.
            "tcp_keepalives_idle": "30",
            "default_transaction_isolation": "read committed",
            # All names of ours are written out. What others may have put into `public` is never taken for the server's
            # own: it would run with our rights.
            "search_path": "pg_catalog, pg_temp",
            # Rows that a policy hides are an error, and not people without a second factor.
            "row_security": "off",
        },
    }
    if "target_session_attrs" not in parse_qs(urlsplit(url).query):
        # Of several servers the one that takes writes: after a fail-over it is another one.
        options["target_session_attrs"] = "read-write"
    return options
