"""Attacks on the PostgreSQL store: by bursts, by whoever shares the database, by servers that are silent and by errors
that no list has. Whatever happens, each attempt is answered, once, and told the truth."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Literal

import asyncpg
import pytest
from tests.postgres import PASSWORD, USER, PostgresServer
from tests.stores.attempts import CODEC
from tests.stores.examples import count, counted, look, opening, signed_in
from tests.stores.proxy import proxy_to

from twofold.core.codec import Codec
from twofold.core.decision import Decision
from twofold.errors import Busy, OutcomeUnknown, Unavailable
from twofold.stores import _postgres_connection, _postgres_line
from twofold.stores.postgres import PostgresStore

Batch = Literal["on", "off"]
#: What takes so long has come to a halt.
HALT_S = 10


@asynccontextmanager
async def opened(url: str, *, batch: Batch = "on", codec: Codec = CODEC) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(url, batch=batch)
    store.use_codec(codec)
    yield store
    async with asyncio.timeout(HALT_S):
        await store.close()


async def count_one(store: PostgresStore, account_id: str) -> int:
    return counted(await store.transact(account_id, count(account_id)))


async def count_or_be_busy(store: PostgresStore, account_id: str) -> int:
    """On a slow machine who waits for too long is told so: that is an answer, too, and a true one."""
    try:
        return await count_one(store, account_id)
    except Busy:
        account = await store.load(account_id)
        return 1 if account is None else 0


# Bursts.


@pytest.mark.parametrize("batch", ["on", "off"])
async def test_of_many_that_come_at_once_each_is_answered(postgres_url: str, batch: Batch) -> None:
    async with opened(postgres_url, batch=batch) as store, asyncio.timeout(HALT_S):
        numbers = await asyncio.gather(*(count_or_be_busy(store, f"account-{n}") for n in range(150)))
    assert numbers == [1] * 150


@pytest.mark.parametrize("batch", ["on", "off"])
async def test_a_store_that_is_closed_answers_all_that_waits(postgres_url: str, batch: Batch) -> None:
    async with opened(postgres_url, batch=batch) as store:
        tasks = [asyncio.create_task(count_one(store, f"account-{n}")) for n in range(150)]
        await asyncio.sleep(0)
    endings = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(ending == 1 or isinstance(ending, Busy) for ending in endings)


async def test_callers_that_go_away_keep_nobody_waiting(postgres_url: str) -> None:
    async with opened(postgres_url) as store, asyncio.timeout(HALT_S):
        gone = [asyncio.create_task(count_one(store, f"gone-{n}")) for n in range(150)]
        stayed = [asyncio.create_task(count_one(store, f"stayed-{n}")) for n in range(150)]
        await asyncio.sleep(0)
        for task in gone:
            task.cancel()
        assert await asyncio.gather(*stayed) == [1] * 150
    assert all(task.cancelled() for task in gone)


# Whoever shares the database.


async def test_a_function_of_somebody_elses_is_not_taken_for_one_of_the_database(
    postgres_server: PostgresServer, postgres_url: str
) -> None:
    # Before PostgreSQL 15 everybody may do that. A function that fits better is taken, wherever it is found.
    body = "BEGIN RAISE EXCEPTION 'taken over'; END"
    create = f"CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE plpgsql AS $${body}$$"
    connection = await asyncpg.connect(postgres_url)
    await connection.execute(create)
    # And so that this proves something: who looks there as usual is taken in.
    with pytest.raises(asyncpg.RaiseError, match="taken over"):
        await connection.fetch("SELECT * FROM unnest($1::text[])", ["alice"])
    await connection.close()
    async with opened(postgres_url) as store:
        assert await asyncio.gather(*(count_one(store, each) for each in ("alice", "bob"))) == [1, 1]


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_a_role_whose_transactions_are_stricter_by_default_loses_nothing(
    postgres_server: PostgresServer, postgres_url: str, level: str
) -> None:
    name = postgres_url.rpartition("/")[2]
    await asyncio.to_thread(postgres_server.sql, f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    async with opened(postgres_url) as one, opened(postgres_url) as other, asyncio.timeout(HALT_S):
        numbers = await asyncio.gather(*(count_one(store, "alice") for _ in range(7) for store in (one, other)))
    assert sorted(numbers) == list(range(1, 15))


# Servers.


@pytest.mark.parametrize("is_first", [True, False])
async def test_of_two_servers_one_that_is_silent_does_not_keep_us_from_the_other(
    postgres_server: PostgresServer, postgres_url: str, is_first: bool
) -> None:
    # One whose machine was stopped does not refuse; it does not answer.
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    hosts = [f"127.0.0.1:{silent.sockets[0].getsockname()[1]}", f"127.0.0.1:{postgres_server.port}"]
    both = postgres_url.replace(hosts[1], ",".join(hosts if is_first else reversed(hosts)))
    async with opened(both) as store:
        assert await count_one(store, "alice") == 1
        assert await store.load("alice") is not None
    silent.close()


async def test_a_server_that_refuses_for_a_reason_of_its_own_does_not_keep_us_from_the_other(
    own_postgres: "type[PostgresServer]", postgres_server: PostgresServer, postgres_url: str
) -> None:
    # There is no such database on the first one: as on a server that was made anew.
    own = own_postgres()
    here = f"127.0.0.1:{postgres_server.port}"
    name = f"{postgres_url.rpartition('/')[2]}_elsewhere"
    await asyncio.to_thread(postgres_server.sql, f"CREATE DATABASE {name}")
    both = f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{own.port},{here}/{name}"
    async with opened(both) as store:
        assert await count_one(store, "alice") == 1
    await asyncio.to_thread(postgres_server.drop_database, name)


# Errors.


async def test_an_error_behind_the_commit_that_is_not_the_servers_own_word_leaves_the_outcome_unknown(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = asyncpg.Connection.fetch

    async def fetch_and_break(self: asyncpg.Connection, query: str, *given: object, **options: object) -> Any:
        found = await fetch(self, query, *given, **options)  # type: ignore[call-overload]
        if "UPDATE twofold.accounts" in query:
            monkeypatch.setattr(asyncpg.Connection, "fetch", fetch)
            raise asyncpg.InternalClientError("got result for unknown protocol state")
        return found

    async with opened(postgres_url) as store:
        assert await count_one(store, "alice") == 1
        monkeypatch.setattr(asyncpg.Connection, "fetch", fetch_and_break)
        with pytest.raises(OutcomeUnknown):
            await count_one(store, "alice")
        assert counted(await store.transact("alice", look)) == 2
        assert await count_one(store, "alice") == 3


@pytest.mark.parametrize("statement", ["BEGIN;", "ROLLBACK;", "COMMIT;"])
@pytest.mark.parametrize("batch", ["on", "off"])
async def test_a_transaction_that_cannot_begin_or_end_is_the_last_one_of_its_connection_only(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, statement: str, batch: Batch
) -> None:
    execute = asyncpg.Connection.execute
    # What is rolled back has failed before.
    refused_ones = [statement] if statement != "ROLLBACK;" else ["INSERT INTO twofold.sessions", statement]

    async def refuse_once(self: asyncpg.Connection, query: str, *given: object, **options: object) -> str:
        if refused_ones and refused_ones[0] in query:
            refused_ones.pop(0)
            raise asyncpg.QueryCanceledError("canceling statement due to user request")
        return await execute(self, query, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(asyncpg.Connection, "execute", refuse_once)
    async with opened(postgres_url, batch=batch) as store:
        endings: list[int | None] = []
        for n in range(6):
            effect = opening(signed_in(f"s{n}", "alice"), f"token {n}")
            try:
                endings.append(counted(await store.transact("alice", count("alice", effect))))
            except (Busy, Unavailable):
                endings.append(None)
        held = await asyncio.gather(*(count_one(store, f"account-{n}") for n in range(40)))
    assert refused_ones == []
    numbers = [ending for ending in endings if ending is not None]
    assert numbers == list(range(1, len(numbers) + 1))
    assert None not in endings[3:]
    assert held == [1] * 40


@pytest.mark.parametrize("bad", ["\ud800", "a\0b", "x" * 5000])
async def test_what_cannot_be_written_or_asked_fails_alone_and_at_once(postgres_url: str, bad: str) -> None:
    async with opened(postgres_url) as store, asyncio.timeout(2):
        answers = await asyncio.gather(
            store.transact("alice", count("alice")),
            store.transact(bad, count(bad)),
            store.transact("bob", count("bob")),
            return_exceptions=True,
        )
        assert isinstance(answers[0], Decision)
        assert isinstance(answers[2], Decision)
        assert (await store.load("alice")) is not None


@pytest.mark.parametrize("batch", ["on", pytest.param("off", marks=pytest.mark.soak)])
async def test_a_network_that_goes_silent_at_each_moment_of_a_new_connection_holds_nobody_for_ever(
    postgres_server: PostgresServer, postgres_url: str, monkeypatch: pytest.MonkeyPatch, batch: Batch
) -> None:
    monkeypatch.setattr(_postgres_line, "ANSWER_TIMEOUT_S", 0.5)
    monkeypatch.setattr(_postgres_connection, "CONNECT_TIMEOUT_S", 0.5)
    done = 0
    async with proxy_to(postgres_server.port) as proxy:
        theirs = postgres_url.replace(f":{postgres_server.port}/", f":{proxy.port}/")
        async with opened(theirs, batch=batch) as store:
            for moment in range(1, 30):
                proxy.cut()
                proxy.order("silent before", at_message=moment)
                async with asyncio.timeout(HALT_S):
                    with suppress(OutcomeUnknown, Unavailable):
                        await count_one(store, "alice")
                        done += 1
                if proxy.cancel():
                    break
            assert counted(await store.transact("alice", look)) >= done
    assert moment > 5
