import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Literal

import asyncpg
import msgspec
import pytest
from tests.postgres import PostgresServer
from tests.stores.contract_accounts import AccountsContract
from tests.stores.contract_pages import PagesContract
from tests.stores.contract_ports import DAY_S, PortsContract
from tests.stores.contract_sessions import SessionsContract
from tests.stores.examples import count, counted, data_key, look, opening, signed_in

from twofold.core.account import Account
from twofold.core.codec import Codec
from twofold.core.decision import Decision, EndSessions, Message
from twofold.core.session import StoredSession
from twofold.errors import Busy, TamperedRecord, Unavailable
from twofold.stores.postgres import PostgresStore

_EMPTY = """
    DO $$ BEGIN
        DELETE FROM twofold.accounts; DELETE FROM twofold.events; DELETE FROM twofold.contacts;
        DELETE FROM twofold.sessions; DELETE FROM twofold.outbox; DELETE FROM twofold.claims;
        DELETE FROM twofold.applications; DELETE FROM twofold.rate; DELETE FROM twofold.network_blocks;
        DELETE FROM twofold.keyring; DELETE FROM twofold.nodes; DELETE FROM twofold.settings;
    END $$"""


@pytest.fixture(scope="module")
def database(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def postgres_url(postgres_server: PostgresServer, database: str) -> str:
    """One database for all of these tests, empty for each: that takes a tenth of the time that a new one takes."""
    postgres_server.sql(_EMPTY, database=database)
    return postgres_server.url(database)


@pytest.fixture
def batch() -> Literal["on", "off"]:
    return "on"


@pytest.fixture
async def bare_store(postgres_url: str, batch: Literal["on", "off"]) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres_url, batch=batch)
    yield store
    await store.close()


@pytest.fixture
def store(bare_store: PostgresStore, codec: Codec) -> PostgresStore:
    bare_store.use_codec(codec)
    return bare_store


@pytest.fixture
async def other_node(postgres_url: str, codec: Codec) -> AsyncIterator[PostgresStore]:
    """Another store on the same database."""
    store = await PostgresStore.open(postgres_url)
    store.use_codec(codec)
    yield store
    await store.close()


@pytest.fixture
async def elsewhere(postgres_url: str) -> AsyncIterator["asyncpg.Connection[Any]"]:
    """A connection of somebody else's tools."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@asynccontextmanager
async def a_commit_under_way(store: PostgresStore, elsewhere: "asyncpg.Connection[Any]") -> AsyncIterator[None]:
    """Inside, the store works on an attempt and everything else waits; at the end all of it is one batch.

    What holds it is a lock, so it may not take longer than the store waits for one.
    """
    async with elsewhere.transaction():
        await elsewhere.execute("LOCK TABLE twofold.accounts IN ACCESS EXCLUSIVE MODE")
        held = asyncio.ensure_future(store.transact("held", look))
        await until_somebody_waits(elsewhere)
        yield
    await held


async def until_somebody_waits(elsewhere: "asyncpg.Connection[Any]") -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'twofold.accounts'::regclass"
    while not await elsewhere.fetchval(waiting):
        pass


class TestPostgresStore(AccountsContract, PagesContract, PortsContract, SessionsContract):
    @pytest.fixture(autouse=True)
    def connect_elsewhere(self, elsewhere: "asyncpg.Connection[Any]") -> None:
        self.elsewhere = elsewhere

    async def take_row_away(self, store: PostgresStore, account_id: str) -> None:
        await self.elsewhere.execute("DELETE FROM twofold.accounts WHERE id = $1", account_id)

    async def replace_session(self, store: PostgresStore, row: StoredSession) -> None:
        # What is no text, or no bytes, cannot be in these columns at all.
        mac = row.mac if isinstance(row.mac, bytes) else b"text"
        values = msgspec.structs.astuple(msgspec.structs.replace(row, id=str(row.id), mac=mac))
        async with self.elsewhere.transaction():
            await self.elsewhere.execute("DELETE FROM twofold.sessions WHERE token_digest = $1", row.token_digest)
            sql = """
                INSERT INTO twofold.sessions
                    (token_digest, id, account_id, level, begun_at, expires_at, document, mac)
                VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"""
            await self.elsewhere.execute(sql, *values)


class TestPostgresStoreUnbatched(TestPostgresStore):
    @pytest.fixture
    def batch(self) -> Literal["on", "off"]:
        return "off"


async def test_what_waits_during_a_commit_is_committed_together(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    order = []

    def note(account_id: str):
        def decide(account: Account | None) -> Decision:
            order.append(account_id)
            return count(account_id)(account)

        return decide

    async with a_commit_under_way(store, elsewhere):
        names = ["hot", "hot", "hot", "alice", "bob"]
        calls = [asyncio.ensure_future(store.transact(name, note(name))) for name in names]
        await asyncio.sleep(0)
    assert [counted(result) for result in await asyncio.gather(*calls)] == [1, 2, 3, 1, 1]
    assert order == ["hot", "alice", "bob", "hot", "hot"]
    transactions = "SELECT count(DISTINCT xmin::text) FROM twofold.accounts"
    assert await elsewhere.fetchval(transactions) == 1


async def test_a_ninth_waiting_attempt_of_one_account_is_turned_away_without_being_decided(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    async with a_commit_under_way(store, elsewhere):
        calls = [asyncio.ensure_future(store.transact("hot", count("hot"))) for _ in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as busy:
            await store.transact("hot", count("hot"))
        other = asyncio.ensure_future(store.transact("alice", count("alice")))
        await asyncio.sleep(0)
    assert busy.value.per_account
    assert [counted(result) for result in await asyncio.gather(*calls, other)] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert counted(await store.transact("hot", count("hot"))) == 9


async def test_a_caller_cancelled_before_its_attempt_was_taken_changes_nothing(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    async with a_commit_under_way(store, elsewhere):
        calls = [asyncio.ensure_future(store.transact("alice", count("alice"))) for _ in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [counted(results[0]), counted(results[2])] == [1, 2]


async def test_a_caller_cancelled_during_the_commit_has_committed(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    async with elsewhere.transaction():
        await elsewhere.execute("LOCK TABLE twofold.accounts IN ACCESS EXCLUSIVE MODE")
        call = asyncio.ensure_future(store.transact("alice", count("alice")))
        await until_somebody_waits(elsewhere)
        call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert counted(await store.transact("alice", look)) == 1


async def test_nobody_waits_for_an_account_that_somebody_holds(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    await asyncio.gather(*(store.transact(name, count(name)) for name in ("held", "alice")))
    async with elsewhere.transaction():
        await elsewhere.execute("SELECT FROM twofold.accounts WHERE id = 'held' FOR UPDATE")
        calls = [asyncio.ensure_future(store.transact(name, count(name))) for name in ("held", "alice", "held")]
        assert counted(await calls[1]) == 2
        assert counted(await store.transact("alice", count("alice"))) == 3
        assert not calls[0].done()
    assert [counted(await calls[n]) for n in (0, 2)] == [2, 3]


async def test_nobody_is_forgotten_behind_many_accounts_that_somebody_holds(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    held, free = ([f"{kind}-{n}" for n in range(many)] for kind, many in (("held", 80), ("free", 20)))
    await asyncio.gather(*(store.transact(name, count(name)) for name in held))
    async with elsewhere.transaction():
        await elsewhere.execute("SELECT FROM twofold.accounts FOR UPDATE")
        aside = [asyncio.ensure_future(store.transact(name, count(name))) for name in held]
        await store.transact("marker", look)
        aside += [asyncio.ensure_future(store.transact(name, count(name))) for name in held]
        async with asyncio.timeout(10):
            results = await asyncio.gather(*(store.transact(name, count(name)) for name in free))
        assert list(map(counted, results)) == [1] * 20
    await asyncio.gather(*aside, return_exceptions=True)


async def test_who_holds_an_account_for_too_long_makes_it_busy_and_no_other(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    await asyncio.gather(*(store.transact(name, count(name)) for name in ("held", "alice")))
    async with elsewhere.transaction():
        await elsewhere.execute("SELECT FROM twofold.accounts WHERE id = 'held' FOR UPDATE")
        with pytest.raises(Busy):
            await store.transact("held", count("held"))
        assert counted(await store.transact("alice", count("alice"))) == 2
    assert counted(await store.transact("held", count("held"))) == 2


@pytest.mark.parametrize("batch", ["on", "off"])
async def test_two_nodes_count_on_the_same_accounts_without_losing_one(
    store: PostgresStore, other_node: PostgresStore
) -> None:
    async def keep_counting(node: PostgresStore, account_id: str) -> list[int]:
        return [counted(await node.transact(account_id, count(account_id))) for _ in range(30)]

    told = await asyncio.gather(
        *(keep_counting(node, name) for node in (store, other_node) for name in ("a", "b") for _ in range(3))
    )
    for first in (0, 3):
        numbers = sorted(n for their in (*told[first : first + 3], *told[first + 6 : first + 9]) for n in their)
        assert numbers == list(range(1, 181))


async def test_closing_answers_what_waits(postgres_url: str, codec: Codec) -> None:
    store = await PostgresStore.open(postgres_url)
    store.use_codec(codec)
    calls = [asyncio.ensure_future(store.transact(f"account-{n}", count(f"account-{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert [counted(result) for result in await asyncio.gather(*calls)] == [1] * 50


async def test_everything_is_there_after_closing_and_opening(postgres_url: str, codec: Codec) -> None:
    for n in (1, 2, 3):
        store = await PostgresStore.open(postgres_url)
        store.use_codec(codec)
        assert counted(await store.transact("alice", count("alice"))) == n
        await store.close()


async def test_another_event_loop_is_refused_and_this_one_goes_on(store: PostgresStore) -> None:
    for call in (store.load("alice"), store.transact("alice", count("alice")), store.check()):
        with pytest.raises(Unavailable, match="another event loop"):
            await asyncio.to_thread(asyncio.run, call)
    assert counted(await store.transact("alice", count("alice"))) == 1


async def test_an_id_that_the_database_cannot_hold_fails_alone(store: PostgresStore) -> None:
    failed, result = await asyncio.gather(
        store.transact("a\0b", count("a\0b")), store.transact("bob", count("bob")), return_exceptions=True
    )
    assert isinstance(failed, Unavailable)
    assert counted(result) == 1


async def test_one_changed_byte_makes_a_row_unusable_and_put_back_usable(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    await store.transact("alice", count("alice"))
    await store.transact("bob", count("bob"))
    document = await elsewhere.fetchval("SELECT document FROM twofold.accounts WHERE id = 'alice'")
    edit = "UPDATE twofold.accounts SET document = $1 WHERE id = 'alice'"
    await elsewhere.execute(edit, document[:-1] + bytes([document[-1] ^ 1]))
    tampered, other = await asyncio.gather(
        store.transact("alice", look), store.transact("bob", look), return_exceptions=True
    )
    assert isinstance(tampered, TamperedRecord)
    assert counted(other) == 1
    await elsewhere.execute(edit, document)
    assert counted(await store.transact("alice", look)) == 1


async def test_documents_exchanged_between_accounts_are_refused(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    await store.transact("alice", count("alice"))
    await store.transact("bob", count("bob"))
    exchange = """
        UPDATE twofold.accounts AS one SET document = other.document, mac = other.mac
        FROM twofold.accounts AS other WHERE one.id <> other.id"""
    await elsewhere.execute(exchange)
    for account_id in ("alice", "bob"):
        with pytest.raises(TamperedRecord):
            await store.transact(account_id, look)
        with pytest.raises(TamperedRecord):
            await store.load(account_id)


async def test_windows_of_more_than_a_day_ago_are_dropped(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    for n in range(5):
        await store.hit(b"old %d" % n, 20 * DAY_S + n, 1)
    await store.hit(b"new", 21 * DAY_S + 2, 1)
    assert await elsewhere.fetchval("SELECT count(*) FROM twofold.rate") == 4


async def test_nodes_that_count_and_drop_windows_at_once_do_not_wait_for_each_other(
    store: PostgresStore, other_node: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    await asyncio.gather(*(store.hit(b"%d" % n, n, 1) for n in range(100)))
    nodes = (store, other_node)
    counted_in = await asyncio.gather(*(nodes[n % 2].hit(b"%d" % (n // 4), 5 * DAY_S, 3) for n in range(120)))
    assert sum(counted_in) == 90
    assert await elsewhere.fetchval("SELECT count(*) FROM twofold.rate WHERE window_start < 100") == 0


async def test_sessions_whose_time_is_over_go_in_small_numbers(
    store: PostgresStore, elsewhere: "asyncpg.Connection[Any]"
) -> None:
    for account_id in ("alice", "bob"):
        sessions = [opening(signed_in(f"{n}", account_id, expires_at=9), f"{account_id} {n}") for n in range(75)]
        await store.transact(account_id, count(account_id, *sessions))
    for left in (50 + 1, 2):
        session = opening(signed_in("new", "carol", begun_at=9), f"new {left}")
        await store.transact("carol", count("carol", session))
        assert await elsewhere.fetchval("SELECT count(*) FROM twofold.sessions") == left


async def test_of_many_first_keyrings_on_two_nodes_one_is_kept_whole(
    store: PostgresStore, other_node: PostgresStore
) -> None:
    rings = [[data_key(f"data-{n}"), data_key(f"more-{n}")] for n in range(10)]
    added = await asyncio.gather(*((store, other_node)[n % 2].add_keys(rings[n], first=True) for n in range(10)))
    assert added.count(True) == 1
    assert await store.load_keys() == await other_node.load_keys() == rings[added.index(True)]


async def test_of_many_changes_to_the_same_keys_one_is_made(store: PostgresStore, other_node: PostgresStore) -> None:
    one, two = data_key("d1", 1), data_key("d2", 2)
    await store.add_keys([one, two])

    def change(n: int) -> list[tuple[Any, Any]]:
        both = [(key, msgspec.structs.replace(key, wrapped=b"%d" % n)) for key in (one, two)]
        return both if n % 2 else both[::-1]

    made = await asyncio.gather(*((store, other_node)[n % 2].change_keys(change(n)) for n in range(10)))
    assert made.count(True) == 1
    assert {key.wrapped for key in await store.load_keys()} == {b"%d" % made.index(True)}


async def test_messages_are_taken_once_over_two_nodes(store: PostgresStore, other_node: PostgresStore) -> None:
    await store.transact("alice", count("alice", *(Message(f"m{n}", "x", {}) for n in range(60))))
    taken = await asyncio.gather(*((store, other_node)[n % 2].take(4, 100, 60) for n in range(40)))
    assert sorted(row.id for rows in taken for row in rows) == sorted(f"m{n}" for n in range(60))


async def test_a_session_ended_on_one_node_is_over_on_the_other_at_once(
    store: PostgresStore, other_node: PostgresStore
) -> None:
    effect = opening(signed_in("1"), "token")
    await store.transact("alice", count("alice", effect))
    assert await other_node.find_session(effect.token_digest) == signed_in("1")
    await store.transact("alice", count("alice", EndSessions()))
    assert await other_node.find_session(effect.token_digest) is None


async def test_nobody_waits_for_a_long_list(store: PostgresStore) -> None:
    await store.transact("alice", count("alice"))
    async with store._lists._acquire(), store._lists._acquire():
        lists = [asyncio.ensure_future(call) for call in (store.page_accounts(), store.count_accounts_by())]
        assert await store.load("alice") is not None
        assert await store.find_session(b"") is None
        assert not any(call.done() for call in lists)
    rows, counts = await asyncio.gather(*lists)
    assert len(rows) == counts.total == 1


async def test_a_broken_database_is_unavailable(store: PostgresStore, elsewhere: "asyncpg.Connection[Any]") -> None:
    await elsewhere.execute("ALTER TABLE twofold.settings RENAME TO elsewhere")
    for call in (store.get_setting("x"), store.put_setting("x", "y"), store.check()):
        with pytest.raises(Unavailable, match="the database cannot be used"):
            await call
    await elsewhere.execute("ALTER TABLE twofold.elsewhere RENAME TO settings")
    await store.put_setting("x", "y")
    assert await store.get_setting("x") == "y"
