import asyncio
import os
import resource
import sqlite3
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.stores.contract_accounts import AccountsContract
from tests.stores.contract_pages import PagesContract
from tests.stores.contract_ports import DAY_S, PortsContract
from tests.stores.contract_sessions import SessionsContract
from tests.stores.examples import SALT, count, counted, delete, fail, look, opening, reject, signed_in

from twofold.core.account import Account
from twofold.core.audit import Event, verify_chain
from twofold.core.codec import Codec
from twofold.core.decision import Decision, Done, Message
from twofold.core.session import SESSIONS_MAX, StoredSession, digest_token
from twofold.errors import Busy, TamperedRecord, Unavailable
from twofold.stores.sqlite import SqliteStore


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "twofold.db"


@pytest.fixture
def bare_store(path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(path)
    yield store
    asyncio.run(store.close())


@pytest.fixture
def store(bare_store: SqliteStore, codec: Codec) -> SqliteStore:
    bare_store.use_codec(codec)
    return bare_store


@asynccontextmanager
async def a_commit_under_way(store: SqliteStore) -> AsyncIterator[None]:
    """Inside, the store works on an attempt and everything else waits; at the end all of it is one batch."""
    is_begun, may_end = threading.Event(), threading.Event()

    def decide(account: Account | None) -> Decision:
        is_begun.set()
        may_end.wait(30)
        return Decision(Done())

    held = asyncio.ensure_future(store.transact("held", decide))
    await asyncio.to_thread(is_begun.wait, 30)
    try:
        yield
    finally:
        may_end.set()
        await held


@contextmanager
def a_full_disk(path: Path) -> Iterator[None]:
    """Inside, no file of this process grows beyond what the write-ahead log has already."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name("twofold.db-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def edit(path: Path, sql: str, *values: object) -> list[tuple]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, values).fetchall()


class TestSqliteStore(AccountsContract, PagesContract, PortsContract, SessionsContract):
    @pytest.fixture(autouse=True)
    def remember_path(self, path: Path) -> None:
        self.path = path

    async def take_row_away(self, store: SqliteStore, account_id: str) -> None:
        edit(self.path, "DELETE FROM accounts WHERE id = ?", account_id)

    async def replace_session(self, store: SqliteStore, row: StoredSession) -> None:
        edit(
            self.path, "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *msgspec.structs.astuple(row)
        )


async def test_what_waits_during_a_commit_is_committed_together(store: SqliteStore) -> None:
    order = []

    def note(account_id: str):
        def decide(account: Account | None) -> Decision:
            order.append(account_id)
            return count(account_id)(account)

        return decide

    async with a_commit_under_way(store):
        names = ["hot", "hot", "hot", "alice", "bob"]
        calls = [asyncio.ensure_future(store.transact(name, note(name))) for name in names]
        await asyncio.sleep(0)
    assert [counted(result) for result in await asyncio.gather(*calls)] == [1, 2, 3, 1, 1]
    assert order == ["hot", "alice", "bob", "hot", "hot"]


async def test_a_ninth_waiting_attempt_of_one_account_is_turned_away_without_being_decided(store: SqliteStore) -> None:
    async with a_commit_under_way(store):
        calls = [asyncio.ensure_future(store.transact("hot", count("hot"))) for _ in range(8)]
        await asyncio.sleep(0)
        with pytest.raises(Busy) as busy:
            await store.transact("hot", count("hot"))
        other = asyncio.ensure_future(store.transact("alice", count("alice")))
        await asyncio.sleep(0)
    assert busy.value.per_account
    assert [counted(result) for result in await asyncio.gather(*calls, other)] == [1, 2, 3, 4, 5, 6, 7, 8, 1]
    assert counted(await store.transact("hot", count("hot"))) == 9


async def test_a_caller_cancelled_before_its_attempt_was_taken_changes_nothing(store: SqliteStore) -> None:
    async with a_commit_under_way(store):
        calls = [asyncio.ensure_future(store.transact("alice", count("alice"))) for _ in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.sleep(0)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[1], asyncio.CancelledError)
    assert [counted(results[0]), counted(results[2])] == [1, 2]


async def test_a_caller_cancelled_during_the_commit_has_committed(store: SqliteStore) -> None:
    is_begun, may_end = threading.Event(), threading.Event()

    def decide(account: Account | None) -> Decision:
        is_begun.set()
        may_end.wait(30)
        return count("alice")(account)

    call = asyncio.ensure_future(store.transact("alice", decide))
    await asyncio.to_thread(is_begun.wait, 30)
    call.cancel()
    may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert counted(await store.transact("alice", look)) == 1


async def test_when_the_disk_is_full_nobody_is_answered_and_the_next_batch_works_again(
    store: SqliteStore, path: Path
) -> None:
    await store.transact("alice", count("alice"))
    decisions = (count("alice"), look, fail, reject)
    with a_full_disk(path):
        async with a_commit_under_way(store):
            calls = [asyncio.ensure_future(store.transact("alice", decide)) for decide in decisions]
            sessions = [opening(signed_in("1", f"n-{n}"), f"n-{n}") for n in range(100)]
            calls += [asyncio.ensure_future(store.transact(f"n-{n}", count(f"n-{n}", sessions[n]))) for n in range(100)]
            await asyncio.sleep(0)
        refused = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(error) for error in refused} == {Unavailable}
    assert counted(await store.transact("alice", count("alice"))) == 2
    assert await store.load("n-0") is None
    assert await store.find_session(digest_token("n-0")) is None
    account = await store.load("alice")
    assert account is not None
    assert verify_chain("alice", await store.events("alice"), account.head) is None


async def test_a_full_disk_is_found_by_the_check_and_so_is_room(store: SqliteStore, path: Path) -> None:
    await store.check()
    edit(path, "UPDATE settings SET value = value - 5 WHERE name = 'checked_at_s'")
    with a_full_disk(path):
        for _ in range(2):
            with pytest.raises(Unavailable, match="the database cannot be written"):
                await store.check()
    await store.check()


@pytest.mark.parametrize(("moved_s", "is_written"), [(-1, False), (-5, True), (1000, True)])
async def test_the_check_writes_once_in_five_seconds_also_when_the_clock_was_set_back(
    store: SqliteStore, path: Path, moved_s: int, is_written: bool
) -> None:
    await store.check()
    edit(path, "UPDATE settings SET value = value + ? WHERE name = 'checked_at_s'", moved_s)
    before = await store.get_setting("checked_at_s")
    await asyncio.gather(*(store.check() for _ in range(100)))
    assert (await store.get_setting("checked_at_s") != before) == is_written


async def test_several_event_loops_use_one_store(store: SqliteStore) -> None:
    async def count_ten() -> list[int]:
        return [counted(await store.transact("alice", count("alice"))) for _ in range(10)]

    numbers = await asyncio.gather(*(asyncio.to_thread(asyncio.run, count_ten()) for _ in range(4)), count_ten())
    assert sorted(n for theirs in numbers for n in theirs) == list(range(1, 51))


async def test_closing_answers_what_waits(path: Path, codec: Codec) -> None:
    store = SqliteStore.open(path)
    store.use_codec(codec)
    calls = [asyncio.ensure_future(store.transact(f"account-{n}", count(f"account-{n}"))) for n in range(50)]
    await asyncio.sleep(0)
    await store.close()
    assert [counted(result) for result in await asyncio.gather(*calls)] == [1] * 50


async def test_everything_is_there_after_closing_and_opening(path: Path, codec: Codec) -> None:
    for n in (1, 2, 3):
        store = SqliteStore.open(path)
        store.use_codec(codec)
        assert counted(await store.transact("alice", count("alice"))) == n
        await store.close()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_refused_and_its_parent_goes_on(store: SqliteStore) -> None:
    asyncio.run(store.transact("alice", count("alice")))
    child = os.fork()
    if child == 0:
        code = 1
        try:
            asyncio.run(store.close())
            store.transact("alice", look).send(None)
        except Unavailable as error:
            code = 0 if "forked" in str(error) else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert counted(asyncio.run(store.transact("alice", count("alice")))) == 2


async def test_one_changed_byte_makes_a_row_unusable_and_put_back_usable(store: SqliteStore, path: Path) -> None:
    await store.transact("alice", count("alice"))
    await store.transact("bob", count("bob"))
    ((document,),) = edit(path, "SELECT document FROM accounts WHERE id = 'alice'")
    edit(path, "UPDATE accounts SET document = ? WHERE id = 'alice'", document[:-1] + bytes([document[-1] ^ 1]))
    tampered, other = await asyncio.gather(
        store.transact("alice", look), store.transact("bob", look), return_exceptions=True
    )
    assert isinstance(tampered, TamperedRecord)
    assert counted(other) == 1
    edit(path, "UPDATE accounts SET document = ? WHERE id = 'alice'", document)
    assert counted(await store.transact("alice", look)) == 1


async def test_documents_exchanged_between_accounts_are_refused(store: SqliteStore, path: Path) -> None:
    await store.transact("alice", count("alice"))
    await store.transact("bob", count("bob"))
    rows = edit(path, "SELECT document, mac, id FROM accounts ORDER BY id")
    for (document, mac, _), (*_, other) in zip(rows, reversed(rows), strict=True):
        edit(path, "UPDATE accounts SET document = ?, mac = ? WHERE id = ?", document, mac, other)
    for account_id in ("alice", "bob"):
        with pytest.raises(TamperedRecord):
            await store.transact(account_id, look)
        with pytest.raises(TamperedRecord):
            await store.load(account_id)


async def test_nothing_of_a_deleted_account_is_left_in_the_files(path: Path, codec: Codec) -> None:
    store = SqliteStore.open(path)
    store.use_codec(codec)
    word = "a-word-that-is-nowhere-else"

    def record(account: Account | None) -> Decision:
        session = msgspec.structs.replace(signed_in("1"), browser=word)
        decision = count("alice", Message("m1", "account.changed", {"note": word}), opening(session, "t"))(account)
        return msgspec.structs.replace(decision, events=(Event("account.changed", 1, SALT, {"note": word}),))

    def is_anywhere() -> bool:
        return any(word.encode() in file.read_bytes() for file in path.parent.iterdir())

    await store.transact("alice", record)
    assert is_anywhere()
    await store.transact("alice", delete)
    await store.close()
    assert not is_anywhere()
    assert not path.with_name("twofold.db-wal").exists()


async def test_every_file_is_for_its_owner_alone(store: SqliteStore, path: Path) -> None:
    await store.transact("alice", count("alice"))
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes) == {f"twofold.db{end}" for end in ("", "-wal", "-shm", "-next", "-turn")}
    assert set(modes.values()) == {0o600}


async def test_windows_of_more_than_a_day_ago_are_dropped(store: SqliteStore, path: Path) -> None:
    for n in range(5):
        await store.hit(b"old %d" % n, 20 * DAY_S + n, 1)
    await store.hit(b"new", 21 * DAY_S + 2, 1)
    assert edit(path, "SELECT count(*) FROM rate") == [(4,)]


async def test_sessions_whose_time_is_over_go_in_small_numbers(store: SqliteStore, path: Path) -> None:
    for account_id in ("alice", "bob"):
        sessions = [opening(signed_in(f"{n}", account_id, expires_at=9), f"{account_id} {n}") for n in range(75)]
        await store.transact(account_id, count(account_id, *sessions))
    for left in (50 + 1, 2):
        session = opening(signed_in("new", "carol", begun_at=9), f"new {left}")
        await store.transact("carol", count("carol", session))
        assert edit(path, "SELECT count(*) FROM sessions") == [(left,)]


async def test_a_session_of_a_known_browser_makes_room_last(store: SqliteStore, path: Path) -> None:
    owners = msgspec.structs.replace(signed_in("owner's", level="pending"), is_known=True)
    older = signed_in("older", level="pending", begun_at=0)
    strangers = [signed_in(f"{n}", level="pending", begun_at=2) for n in range(SESSIONS_MAX)]
    await store.transact("alice", count("alice", opening(older, "older"), opening(owners, "owner's")))
    await store.transact("alice", count("alice", *(opening(each, each.id) for each in strangers)))
    held = {session.id for session in await store.list_sessions("alice")}
    assert held == {owners.id, *(each.id for each in strangers[1:])}
    # What was changed from outside is nobody's, and goes in its turn.
    edit(path, "UPDATE sessions SET mac = x'00' WHERE id = ?", owners.id)
    for name in ("new", "newer"):
        await store.transact("alice", count("alice", opening(signed_in(name, level="pending", begun_at=3), name)))
    assert edit(path, "SELECT count(*) FROM sessions WHERE id = ?", owners.id) == [(0,)]
    assert edit(path, "SELECT count(*) FROM sessions") == [(SESSIONS_MAX,)]


async def test_a_name_that_nobody_has_costs_the_same_statements(store: SqliteStore) -> None:
    await store.transact("alice", count("alice"))
    statements: list[str] = []
    for connection in (store._reader._connection, store._writer._connection):
        connection.set_trace_callback(statements.append)
    seen = []
    for account_id in ("alice", "nobody"):
        statements.clear()
        await store.load(account_id)
        assert len(statements) == 1
        await store.transact(account_id, look)
        seen.append([statement.replace(account_id, "?") for statement in statements])
    assert seen[0] == seen[1]


async def test_nobody_waits_for_a_long_list(store: SqliteStore) -> None:
    await store.transact("alice", count("alice"))
    may_end = threading.Event()
    store._lister._thread.submit(may_end.wait, 30)
    lists = [asyncio.ensure_future(call) for call in (store.page_accounts(), store.count_accounts_by())]
    assert await store.load("alice") is not None
    assert await store.find_session(b"") is None
    assert not any(call.done() for call in lists)
    may_end.set()
    rows, counts = await asyncio.gather(*lists)
    assert len(rows) == counts.total == 1


async def test_a_broken_database_is_unavailable_for_reading(store: SqliteStore, path: Path) -> None:
    edit(path, "ALTER TABLE settings RENAME TO elsewhere")
    with pytest.raises(Unavailable, match="cannot be read"):
        await store.get_setting("x")
    with pytest.raises(Unavailable, match="cannot be written"):
        await store.put_setting("x", "y")
    edit(path, "ALTER TABLE elsewhere RENAME TO settings")
    await store.put_setting("x", "y")
    assert await store.get_setting("x") == "y"
