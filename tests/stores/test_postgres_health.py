"""Whether a database may be relied on, as a node that is asked for its health finds it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest
from tests.postgres import PostgresServer

from twofold.errors import Unavailable
from twofold.stores.postgres import PostgresStore

IN_TIME_S = 2.5


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres_url)
    yield store
    await store.close()


@pytest.fixture
async def other_node(postgres_url: str) -> AsyncIterator[PostgresStore]:
    """Another store on the same database."""
    store = await PostgresStore.open(postgres_url)
    yield store
    await store.close()


@pytest.fixture
async def elsewhere(postgres_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection of somebody else's tools."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.mark.parametrize(("moved_s", "is_written"), [(-1, False), (-6, True), (1000, True)])
async def test_all_nodes_together_write_for_the_check_once_in_five_seconds(
    store: PostgresStore,
    other_node: PostgresStore,
    elsewhere: "asyncpg.Connection[Any]",
    moved_s: int,
    is_written: bool,
) -> None:
    await store.check()
    move = "UPDATE twofold.settings SET value = value::bigint + $1 WHERE name = 'checked_at_s'"
    await elsewhere.execute(move, moved_s)
    version = "SELECT xmin::text, value FROM twofold.settings WHERE name = 'checked_at_s'"
    before = await elsewhere.fetchrow(version)
    await asyncio.gather(*(node.check() for node in (store, other_node) for _ in range(20)))
    assert (await elsewhere.fetchrow(version) != before) == is_written


async def test_a_check_between_two_writes_costs_no_transaction_id(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    await store.check()
    before = await elsewhere.fetchval("SELECT pg_current_xact_id()::text::bigint")
    await asyncio.gather(*(store.check() for _ in range(20)))
    assert await elsewhere.fetchval("SELECT pg_current_xact_id()::text::bigint") == before + 1


async def test_commits_that_may_be_lost_in_a_crash_are_found_by_the_check(
    postgres_server: PostgresServer,
) -> None:
    name = postgres_server.create_database()
    for setting, refused in (("off", "synchronous_commit"), ("local", None), ("on", None)):
        postgres_server.sql(f"ALTER DATABASE {name} SET synchronous_commit = {setting}")
        store = await PostgresStore.open(postgres_server.url(name))
        if refused:
            with pytest.raises(Unavailable, match=refused):
                await store.check()
        else:
            await store.check()
        await store.close()
    postgres_server.drop_database(name)


async def test_a_server_that_does_not_wait_for_its_replicas_is_found_by_the_check(
    own_postgres: Callable[..., PostgresServer],
) -> None:
    server = own_postgres(synchronous_commit="local")
    store = await PostgresStore.open(server.url(server.create_database()))
    await store.check()
    server.configure(synchronous_standby_names="standby")
    with pytest.raises(Unavailable, match="replicas"):
        await store.check()
    await store.close()


async def test_a_database_that_takes_no_writes_or_is_away_is_found_by_the_check_soon(
    own_postgres: Callable[..., PostgresServer],
) -> None:
    server = own_postgres()
    name = server.create_database()
    store = await PostgresStore.open(server.url(name))
    await store.check()

    async def fails_soon() -> None:
        async with asyncio.timeout(IN_TIME_S):
            with pytest.raises(Unavailable, match="takes nothing"):
                await store.check()

    server.configure(default_transaction_read_only="on")
    await fails_soon()
    server.configure(default_transaction_read_only="off")
    await store.check()
    await asyncio.to_thread(server.stop)
    await fails_soon()
    await asyncio.to_thread(server.start)
    await store.check()
    await store.close()


async def test_a_newer_program_s_tables_are_found_by_the_check(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    await elsewhere.execute("UPDATE twofold.schema_version SET version = version + 1")
    with pytest.raises(Unavailable, match="use a newer Twofold"):
        await store.check()
    await elsewhere.execute("UPDATE twofold.schema_version SET version = version - 1")
    await store.check()
