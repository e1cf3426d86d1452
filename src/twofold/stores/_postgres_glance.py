"""What can be seen of a PostgreSQL database before it is opened as a store, and how several first starts take turns.

Nothing is made or changed here, and a database without tables of ours is none that is wrong.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from twofold.stores._postgres_connection import LONG_STATEMENT_S, Connection, connect, refusing

#: Whoever makes the keys of a new database holds this lock, of all that use the database ("2flk").
FIRST_START_LOCK = 0x32666C6B


async def is_there(url: str) -> bool:
    """Whether there are tables of ours; raises `ConfigurationError`, one line, when the database cannot be asked."""
    async with _connected(url) as connection:
        with refusing(url):
            return bool(await connection.fetchval("SELECT to_regclass('twofold.schema_version') IS NOT NULL"))


async def find_master_address(url: str) -> str | None:
    """Where the master key in use is, as the database says: for a message, anybody may have written it."""
    async with _connected(url) as connection:
        with refusing(url):
            sql = "SELECT uri FROM twofold.keyring WHERE purpose = 'master' AND state = 'active'"
            found = await connection.fetchval(sql) if await _has_keys(connection) else None
            return None if found is None else str(found)


@asynccontextmanager
async def first_start(url: str) -> AsyncIterator[bool]:
    """Tell whether the database has no keys yet. If so, whoever else starts waits until the block is over, and then
    finds those that were made in it."""
    async with _connected(url) as connection:
        with refusing(url):
            is_new = not await _has_keys(connection)
            if is_new:
                await connection.execute("SET lock_timeout = 0")
                await connection.execute("SELECT pg_advisory_lock($1)", FIRST_START_LOCK)
                is_new = not await _has_keys(connection)
        yield is_new


async def _has_keys(connection: Connection) -> bool:
    if await connection.fetchval("SELECT to_regclass('twofold.keyring')") is None:
        return False
    return bool(await connection.fetchval("SELECT EXISTS (SELECT 1 FROM twofold.keyring)"))


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[Connection]:
    with refusing(url):
        connection = await connect(url, statement_timeout_s=LONG_STATEMENT_S)
    try:
        yield connection
    finally:
        await connection.close()
