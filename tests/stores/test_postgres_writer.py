"""How attempts are committed to PostgreSQL: together where nothing is in the way, alone where somebody is, and never
said to be done or not done when nobody knows."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest
from tests.postgres import PostgresServer
from tests.stores.examples import count, counted, data_key, delete, fail, look, opening, signed_in

from twofold.core.account import Account
from twofold.core.audit import verify_chain
from twofold.core.codec import Codec
from twofold.core.decision import ContactIndex, Decision, Done, Message
from twofold.errors import Busy, KeyRetired, OutcomeUnknown, Unavailable
from twofold.stores import _postgres_connection, _postgres_line, _postgres_statements, _postgres_writer
from twofold.stores._postgres_schema import prepare
from twofold.stores.postgres import PostgresStore


@pytest.fixture
async def store(postgres_url: str, codec: Codec) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres_url)
    store.use_codec(codec)
    yield store
    await store.close()


@asynccontextmanager
async def a_row_held(url: str, account_id: str) -> AsyncIterator[asyncpg.Connection]:
    """Inside, somebody else has locked the row of an account, in a transaction that may go on."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM twofold.accounts WHERE id = $1 FOR UPDATE", account_id)
            yield connection
    finally:
        await connection.close()


async def tamper(url: str, sql: str, *values: object) -> str:
    connection = await asyncpg.connect(url)
    try:
        return await connection.execute(sql, *values)
    finally:
        await connection.close()


async def ask(url: str, sql: str, *values: object) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql, *values)
    finally:
        await connection.close()


async def test_a_row_that_somebody_holds_holds_up_nobody_else(store: PostgresStore, postgres_url: str) -> None:
    names = [f"account-{n}" for n in range(20)]
    await asyncio.gather(*(store.transact(name, count(name)) for name in names))
    async with a_row_held(postgres_url, names[0]):
        held = asyncio.ensure_future(store.transact(names[0], count(names[0])))
        others = await asyncio.gather(*(store.transact(name, count(name)) for name in names[1:]))
        assert {counted(result) for result in others} == {2}
        assert not held.done()
    assert counted(await held) == 2


async def test_who_waits_too_long_for_a_row_is_told_to_come_back_and_nothing_was_judged(
    store: PostgresStore, postgres_url: str
) -> None:
    await store.transact("alice", count("alice"))
    async with a_row_held(postgres_url, "alice"):
        with pytest.raises(Busy):
            await store.transact("alice", count("alice"))
    assert counted(await store.transact("alice", count("alice"))) == 2


async def test_nobody_waits_for_long_behind_the_rows_that_others_wait_for(
    store: PostgresStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_postgres_writer, "ASIDE_MAX_S", 0.1)
    asked: list[str] = []
    await asyncio.gather(*(store.transact(name, count(name)) for name in ("alice", "bob")))
    async with a_row_held(postgres_url, "alice") as connection:
        await connection.execute("SELECT FROM twofold.accounts WHERE id = 'bob' FOR UPDATE")
        aside = await store._writer._side._lines[0].connection()
        aside.add_query_logger(lambda record: asked.append(record.query))
        calls = [store.transact(name, count(name)) for name in ("alice", "bob")]
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(result) for result in results] == [Busy, Busy]
    # The second one was not tried any more, or it would have taken as long again.
    assert len([query for query in asked if "FOR NO KEY UPDATE" in query]) == 1
    assert counted(await store.transact("bob", count("bob"))) == 2


async def test_attempts_behind_one_that_waits_keep_their_order(store: PostgresStore, postgres_url: str) -> None:
    await store.transact("alice", count("alice"))
    async with a_row_held(postgres_url, "alice"):
        calls = [asyncio.ensure_future(store.transact("alice", count("alice"))) for _ in range(3)]
        await store.transact("bob", count("bob"))
        calls += [asyncio.ensure_future(store.transact("alice", count("alice"))) for _ in range(3)]
        await store.transact("bob", count("bob"))
    assert [counted(result) for result in await asyncio.gather(*calls)] == [2, 3, 4, 5, 6, 7]


async def test_an_account_that_changed_since_it_was_read_is_decided_again(
    store: PostgresStore, postgres_url: str, codec: Codec
) -> None:
    await store.transact("alice", count("alice"))
    seen = []
    loop = asyncio.get_running_loop()

    def decide(account: Account | None) -> Decision:
        assert account is not None
        seen.append(account.unguessable_failed_at)
        if len(seen) == 1:
            # Between our reading and our writing somebody else is through.
            done = asyncio.run_coroutine_threadsafe(other_count(), elsewhere)
            done.result(10)
        return count("alice")(account)

    async def other_count() -> None:
        there = await PostgresStore.open(postgres_url)
        there.use_codec(codec)
        await there.transact("alice", count("alice"))
        await there.close()

    elsewhere = asyncio.new_event_loop()
    thread = loop.run_in_executor(None, elsewhere.run_forever)
    try:
        assert counted(await store.transact("alice", decide)) == 3
    finally:
        elsewhere.call_soon_threadsafe(elsewhere.stop)
        await thread
        elsewhere.close()
    assert seen == [1, 2]


async def test_two_nodes_that_make_one_account_make_it_once(postgres_url: str, codec: Codec) -> None:
    stores = [await PostgresStore.open(postgres_url) for _ in range(3)]
    for store in stores:
        store.use_codec(codec)
    for n in range(10):
        results = await asyncio.gather(*(store.transact(f"new-{n}", count(f"new-{n}")) for store in stores))
        assert sorted(counted(result) for result in results) == [1, 2, 3]
        account = await stores[0].load(f"new-{n}")
        assert account is not None
        assert verify_chain(f"new-{n}", await stores[0].events(f"new-{n}"), account.head) is None
    await asyncio.gather(*(store.close() for store in stores))


async def test_what_cannot_be_written_fails_alone(store: PostgresStore, postgres_url: str) -> None:
    await store.transact("bob", count("bob"))
    # An event that is there already: somebody has put it there by hand.
    insert = "INSERT INTO twofold.events VALUES ('bob', 2, 0, 'x', NULL, NULL, '')"
    await tamper(postgres_url, insert)
    names = ["alice", "bob", "carol"]
    alice, bob, carol = await asyncio.gather(
        *(store.transact(name, count(name)) for name in names), return_exceptions=True
    )
    assert isinstance(bob, Unavailable)
    assert not isinstance(bob, OutcomeUnknown)
    assert counted(alice) == counted(carol) == 1
    await tamper(postgres_url, "DELETE FROM twofold.events WHERE account_id = 'bob' AND seq = 2")
    assert counted(await store.transact("bob", count("bob"))) == 2


async def test_a_batch_takes_two_round_trips_and_so_does_a_single_attempt(store: PostgresStore) -> None:
    await store.transact("alice", count("alice"))
    asked: list[str] = []

    def note(record: asyncpg.connection.LoggedQuery) -> None:
        # asyncpg itself asks once about types, and we about the schema.
        if "twofold.accounts" in record.query:
            asked.append(record.query)

    for line in store._writer._lines:
        (await line.connection()).add_query_logger(note)
    await store.transact("alice", count("alice"))
    assert len(asked) == 2
    asked.clear()
    await asyncio.gather(*(store.transact(f"account-{n}", count(f"account-{n}")) for n in range(16)))
    assert len(asked) == 2
    asked.clear()
    # Of many one half is decided while the other one is written.
    await asyncio.gather(*(store.transact(f"account-{n}", count(f"account-{n}")) for n in range(40)))
    assert len(asked) == 4
    asked.clear()
    await store.transact("alice", look)
    assert len(asked) == 1


async def test_a_retired_key_is_noticed_at_the_commit_also_by_who_read_it_as_active(
    store: PostgresStore, postgres_url: str
) -> None:
    await store.add_keys([data_key("d1"), data_key("d2")])
    loop = asyncio.get_running_loop()
    retire = "UPDATE twofold.keyring SET state = 'decrypt_only' WHERE id = 'd1'"
    tries = []

    def decide(account: Account | None) -> Decision:
        tries.append(1)
        if len(tries) == 1:
            asyncio.run_coroutine_threadsafe(tamper(postgres_url, retire), elsewhere).result(10)
        return count("alice", sealed_with=("d1",))(account)

    elsewhere = asyncio.new_event_loop()
    thread = loop.run_in_executor(None, elsewhere.run_forever)
    try:
        with pytest.raises(KeyRetired):
            await store.transact("alice", decide)
    finally:
        elsewhere.call_soon_threadsafe(elsewhere.stop)
        await thread
        elsewhere.close()
    assert await store.load("alice") is None
    assert counted(await store.transact("alice", count("alice", sealed_with=("d2",)))) == 1


@pytest.mark.parametrize("effects", [(), (opening(signed_in("1"), "token"),)], ids=["together", "in a transaction"])
async def test_a_commit_that_nobody_confirms_is_unknown_and_the_next_ones_do_not_pile_up(
    own_postgres: Callable[..., PostgresServer],
    codec: Codec,
    monkeypatch: pytest.MonkeyPatch,
    effects: tuple,
) -> None:
    server = own_postgres()
    url = server.url(server.create_database())
    store = await PostgresStore.open(url)
    store.use_codec(codec)
    await store.transact("alice", count("alice"))
    server.configure(synchronous_standby_names="nobody")
    monkeypatch.setattr(_postgres_line, "ANSWER_TIMEOUT_S", 0.3)
    with pytest.raises(OutcomeUnknown):
        await store.transact("alice", count("alice", *effects))
    for _ in range(3):
        with pytest.raises(Unavailable, match="standby"):
            await store.transact("bob", count("bob"))
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    assert await ask(url, waiting) == 1
    # Nobody sees what may be lost with this server.
    account = await store.load("alice")
    assert account is not None
    assert account.unguessable_failed_at == 1
    server.configure(synchronous_standby_names="")
    for _ in range(100):
        if await ask(url, waiting) == 0:
            break
    assert counted(await store.transact("alice", count("alice"))) == 3
    await store.close()


async def test_a_commit_that_the_server_doubts_is_unknown(
    own_postgres: Callable[..., PostgresServer], codec: Codec
) -> None:
    server = own_postgres()
    url = server.url(server.create_database())
    store = await PostgresStore.open(url)
    store.use_codec(codec)
    await store.transact("alice", count("alice"))
    server.configure(synchronous_standby_names="nobody")
    call = asyncio.ensure_future(store.transact("alice", count("alice")))
    cancel = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
    while not await ask(url, cancel):
        pass
    with pytest.raises(OutcomeUnknown, match="standby"):
        await call
    server.configure(synchronous_standby_names="")
    assert counted(await store.transact("alice", count("alice"))) == 3
    await store.close()


async def test_what_was_to_be_told_to_a_deleted_account_is_not_told(store: PostgresStore, postgres_url: str) -> None:
    index = ContactIndex((("email", b"h"),))
    await store.transact("alice", count("alice", Message("m0", "account.changed", {}), index))

    def delete_with_message(account: Account | None) -> Decision:
        return msgspec.structs.replace(delete(account), effects=(Message("m2", "account.deleted", {}),))

    together = [
        store.transact("alice", count("alice", Message("m1", "account.changed", {}), opening(signed_in("1"), "t"))),
        store.transact("alice", delete_with_message),
        store.transact("alice", look),
    ]
    *_, after = await asyncio.gather(*together)
    assert counted(after) == 0
    assert [row.id for row in await store.take(10, 10**18, 1)] == ["m2"]
    assert await store.find_by_contact("email", b"h") == []
    assert await store.list_sessions("alice") == []
    erased = "SELECT count(*) FROM twofold.events WHERE account_id = 'alice' AND payload IS NOT NULL"
    assert await ask(postgres_url, erased) == 0


async def test_a_decision_that_raises_spoils_nothing_beside_it(store: PostgresStore) -> None:
    failed, alice, bob = await asyncio.gather(
        store.transact("alice", fail),
        store.transact("alice", count("alice")),
        store.transact("bob", lambda account: Decision(Done())),
        return_exceptions=True,
    )
    assert isinstance(failed, LookupError)
    assert counted(alice) == 1
    assert isinstance(bob, Decision)


def _single(statement: str, *values: object) -> tuple[str, list[object]]:
    spelled, whose = _postgres_statements._spell_whose(statement, ["alice"])
    return spelled, [whose, *values]


PARTITION = re.compile(r"(accounts|events|sessions|outbox|contacts)_(\d{3})\b")
#: The statements of one attempt in the form for a single account, each with values of the right types.
_ROW = ["alice", 1, 2, 1, b"d", b"m", "active", " totp ", "", 0, 0]
_EVENT = [["alice"], [1], [1], ["x"], [b"s"], ["{}"], [b"d"]]
_MESSAGE = [["alice"], ["m1"], ["x"], [b"{}"], [1]]
SINGLE = {
    "read": (_postgres_statements._READ_ONE, ["alice"]),
    "lock": (_postgres_statements._LOCK_ONE, ["alice"]),
    "read nobody": (_postgres_statements._READ_NOBODY, ["alice"]),
    "change": (_postgres_statements._CHANGE_ONE, [[], *_ROW, *_EVENT, *_MESSAGE]),
    "erase events": (_postgres_statements._ERASE_EVENTS, ["alice", 1]),
    "drop messages": (_postgres_statements._DROP_MESSAGES, ["alice", []]),
    "drop contacts": _single(_postgres_statements._DROP_CONTACTS),
    "read sessions": _single(_postgres_statements._READ_SESSIONS),
    "drop sessions": _single(_postgres_statements._DROP_SESSIONS, [b"t"]),
}


async def test_the_single_form_of_each_statement_touches_one_partition(postgres_server: PostgresServer) -> None:
    database = postgres_server.create_database(is_prepared=False)
    url = postgres_server.url(database)
    await prepare(url, partitions=8)
    connection = await asyncpg.connect(url)
    try:
        for name, (statement, values) in SINGLE.items():
            for mode in ("force_custom_plan", "force_generic_plan"):
                await connection.execute(f"SET plan_cache_mode = {mode}")
                plan = [line for (line,) in await connection.fetch(f"EXPLAIN ANALYZE {statement}", *values)]
                partitions = set(PARTITION.findall("\n".join(line for line in plan if "never executed" not in line)))
                tables = {table for table, _ in partitions}
                assert tables, (name, plan)
                assert len(partitions) == len(tables), (name, mode, plan)
        # And so that this proves something: the form for many touches all.
        plan = await connection.fetch(f"EXPLAIN {_postgres_statements._READ_MANY}", ["alice"])
        assert len(set(PARTITION.findall(str(plan)))) >= 8
    finally:
        await connection.close()
        postgres_server.drop_database(database)


async def test_many_that_go_alone_are_all_answered_and_closing_ends(postgres_url: str, codec: Codec) -> None:
    store = await PostgresStore.open(postgres_url, batch="off")
    store.use_codec(codec)
    names = [f"account-{n}" for n in range(100)]
    async with asyncio.timeout(60):
        results = await asyncio.gather(*(store.transact(name, count(name)) for name in names))
        await store.close()
    assert {counted(result) for result in results} == {1}


async def test_what_is_no_word_of_the_server_is_unknown_and_not_done_again(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.transact("alice", count("alice"))
    fetch = asyncpg.Connection.fetch

    async def lose_the_answer(self: asyncpg.Connection, query: str, *args: object) -> list:
        rows = await fetch(self, query, *args)
        if "UPDATE twofold.accounts" in query:
            monkeypatch.undo()
            raise asyncpg.InternalClientError("not understood")
        return rows

    monkeypatch.setattr(asyncpg.Connection, "fetch", lose_the_answer)
    with pytest.raises(OutcomeUnknown):
        await store.transact("alice", count("alice"))
    assert counted(await store.transact("alice", look)) == 2


async def test_a_transaction_that_could_not_begin_spoils_no_later_one(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.transact("alice", count("alice"))
    start = asyncpg.transaction.Transaction.start

    async def fail_once(self: asyncpg.transaction.Transaction) -> None:
        monkeypatch.undo()
        self._connection._top_xact = self
        raise asyncpg.QueryCanceledError("canceled")

    monkeypatch.setattr(asyncpg.transaction.Transaction, "start", fail_once)
    session = opening(signed_in("1"), "token")
    results = [await store.transact("alice", count("alice", session))]
    assert asyncpg.transaction.Transaction.start is start
    results += [await store.transact("alice", count("alice")) for _ in range(3)]
    assert [counted(result) for result in results] == [2, 3, 4, 5]


async def test_functions_of_others_are_not_taken_for_the_servers_own(store: PostgresStore, postgres_url: str) -> None:
    names = ["alice", "bob", "carol"]
    await asyncio.gather(*(store.transact(name, count(name)) for name in names))
    forged = """
        CREATE FUNCTION public.unnest(text[]) RETURNS SETOF text LANGUAGE sql
        AS 'SELECT 1/0; SELECT pg_catalog.unnest($1)'"""
    await tamper(postgres_url, forged)
    seen = await asyncio.gather(*(store.transact(name, count(name)) for name in names))
    assert {counted(result) for result in seen} == {2}


async def test_a_silent_server_of_several_keeps_nobody_from_the_one_that_answers(
    postgres_url: str, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_postgres_connection, "CONNECT_TIMEOUT_S", 0.5)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        port = silent.getsockname()[1]
        store = await PostgresStore.open(postgres_url.replace("@", f"@127.0.0.1:{port},"))
        store.use_codec(codec)
        assert counted(await store.transact("alice", count("alice"))) == 1
        assert await store.find_by_contact("email", b"h") == []
        await store.close()


async def test_that_nothing_is_committed_any_more_is_found_by_the_check_and_so_is_the_end_of_it(
    store: PostgresStore, postgres_url: str
) -> None:
    await store.transact("alice", count("alice"))
    await store.check()
    full = """
        CREATE FUNCTION public.fill() RETURNS trigger LANGUAGE plpgsql
        AS $$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$"""
    await tamper(postgres_url, full)
    trigger = "CREATE TRIGGER full_disk BEFORE INSERT ON twofold.events EXECUTE FUNCTION public.fill()"
    await tamper(postgres_url, trigger)
    for _ in range(_postgres_line.FAILURES_TOLD_MIN):
        with pytest.raises(Unavailable, match="No space left"):
            await store.transact("alice", count("alice"))
    with pytest.raises(Unavailable, match="No space left"):
        await store.check()
    await tamper(postgres_url, "DROP TRIGGER full_disk ON twofold.events")
    assert counted(await store.transact("alice", count("alice"))) == 2
    await store.check()
