"""Moving a deployment between databases, in all directions; the command is in `tests/cli/test_migrate_store.py`."""

import asyncio
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.deployments import add_phone, open_for_test
from tests.houses import House
from tests.kit import Phone, SetClock, reason_of
from tests.postgres import PostgresServer
from tests.stores.examples import count

from twofold import setup_link
from twofold.bootstrap import Deployment
from twofold.core.attempt import Context
from twofold.core.codec import Codec
from twofold.core.decision import Message, Verified
from twofold.core.settlement import Decide
from twofold.crypto.digest import MacKeys
from twofold.directory import ProfileInput
from twofold.errors import Busy, ConfigurationError, Refused, Unavailable
from twofold.migrating import begin, check_at_home, copy, finish, is_done, read_keys, verify
from twofold.sign_in import Guest
from twofold.stores._postgres_side import PostgresSide
from twofold.stores._sqlite_side import SqliteSide
from twofold.stores._tables import ACCOUNTS, EVENTS, MOVED_TO, MOVING_FROM, TABLES, Row, Table
from twofold.stores.postgres import PostgresStore
from twofold.stores.sqlite import SqliteStore

PAGE = Path(__file__).parent.parent / "docs" / "howto" / "migrate-store.md"
PASSWORD = "correct horse battery"
Side = SqliteSide | PostgresSide
Store = SqliteStore | PostgresStore
Contents = dict[str, list[Row]]


class Furnished(NamedTuple):
    """A SQLite deployment with a row in every table; `keys` check them."""

    folder: Path
    now_s: float
    phone: Phone
    keys: MacKeys


async def furnish(folder: Path, *, seed: int = 0) -> Furnished:
    clock = SetClock()
    opened = await open_for_test(folder, clock, seed=seed)
    people = opened.verifier.accounts
    await people.put("alice", ProfileInput(display_name="Alice Šmíd", email="alice@example.com"))
    phone, _ = await add_phone(opened.verifier, "alice", clock)
    await House(opened, clock).enrolled("bob")
    await people.put("carol")
    await people.set_password("carol", PASSWORD)
    await opened.sign_in.begin("carol", PASSWORD, Guest(Context("192.0.2.7", "Lynx")))
    await people.put("dave")
    await people.delete("dave")
    await opened.applications.create("shop")
    await opened.networks.add("203.0.113.0/24")
    await opened.rotation.make_data_key("a test")
    await setup_link.put_public_url(opened.store, opened.keyring, "https://example.com")
    keys = opened.keyring.mac_keys()
    await opened.close()
    return Furnished(folder, clock.now_s, phone, keys)


class Ground:
    """Databases of both kinds, and a deployment in one of them."""

    def __init__(
        self, furnished: Furnished, folder: Path, find_server: Callable[[], PostgresServer], held: ExitStack
    ) -> None:
        self._find_server, self._held = find_server, held
        self.folder = folder
        for name in ("twofold.db", "twofold.key"):
            shutil.copy(furnished.folder / name, folder)
        self.clock = SetClock(furnished.now_s)
        self.phone = furnished.phone
        self.codec = Codec(furnished.keys)
        self.key_provider = f"file:{folder / 'twofold.key'}"
        self._names = iter("abcdefgh")

    @property
    def server(self) -> PostgresServer:
        return self._find_server()

    def new(self, kind: str) -> str:
        """The URL of an empty database."""
        if kind == "sqlite":
            return f"sqlite:///{self.folder / next(self._names)}.db"
        name = self.server.create_database()
        self._held.callback(self.server.drop_database, name)
        return self.server.url(name)

    def furnished(self, kind: str) -> str:
        """The URL of the database with the deployment."""
        first = f"sqlite:///{self.folder / 'twofold.db'}"
        if kind == "sqlite":
            return first
        url = self.new(kind)
        self.move(first, url)
        return url

    def move(self, source_url: str, target_url: str) -> dict[str, int]:
        """The whole move, or the rest of it."""
        with opened(source_url) as source, opened(target_url) as target:
            source.hold()
            begin(source, target, read_keys(source))
            copy(source, target, unnoted)
            counts = verify(source, target, self.codec, unnoted)
            finish(source, target)
            return counts

    async def open(self, url: str) -> Deployment:
        return await open_for_test(self.folder, self.clock, seed=1, database_url=url, key_provider=self.key_provider)

    async def open_store(self, url: str) -> Store:
        store = SqliteStore.open(path_of(url)) if is_file(url) else await PostgresStore.open(url)
        store.use_codec(self.codec)
        return store

    def contents(self, url: str) -> Contents:
        with opened(url) as side:
            return {table.name: list(side.rows(table)) for table in TABLES}

    def run(self, url: str, statement: str) -> None:
        """Change something as a thief would."""
        if is_file(url):
            with closing(sqlite3.connect(path_of(url))) as connection, connection:
                connection.execute(statement)
        else:
            tables = "accounts|events|sessions|claims|applications"
            statement = re.sub(rf"(?<!twofold\.)\b({tables})\b", r"twofold.\1", statement)
            self.server.sql(statement, database=url.rpartition("/")[2])


def is_file(url: str) -> bool:
    return url.startswith("sqlite:")


def path_of(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))


def opened(url: str) -> "closing[Side]":
    return closing(SqliteSide(path_of(url)) if is_file(url) else PostgresSide(url))


def unnoted(_what: str, _table: Table, _rows: int) -> None:
    """Nobody watches."""


KINDS = ("sqlite", "postgres")
DIRECTIONS = [(source, target) for source in KINDS for target in KINDS]
every_direction = pytest.mark.parametrize(("source_kind", "target_kind"), DIRECTIONS)
both_kinds = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Furnished:
    return asyncio.run(furnish(tmp_path_factory.mktemp("furnished")))


@pytest.fixture
def ground(furnished: Furnished, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Ground]:
    with ExitStack() as held:
        # Where there is no PostgreSQL, the tests without it are run.
        yield Ground(furnished, tmp_path, lambda: request.getfixturevalue("postgres_server"), held)


# Everything, as it is.


@every_direction
def test_every_row_of_every_table_is_the_same_afterwards(ground: Ground, source_kind: str, target_kind: str) -> None:
    source, target = ground.furnished(source_kind), ground.new(target_kind)
    before = ground.contents(source)
    counts = ground.move(source, target)
    assert ground.contents(target) == before
    assert counts == {name: len(rows) for name, rows in before.items()}
    assert all(counts.values()), counts


@every_direction
def test_people_sign_in_there_and_a_code_that_was_used_stays_used(
    ground: Ground, source_kind: str, target_kind: str
) -> None:
    source, target = ground.furnished(source_kind), ground.new(target_kind)

    async def verify_code() -> Any:
        deployment = await ground.open(place)
        try:
            return await deployment.verifier.verify("alice", code=ground.phone.code(ground.clock.now()))
        finally:
            await deployment.close()

    place = source
    assert isinstance(asyncio.run(verify_code()), Verified)
    ground.move(source, target)
    place = target
    assert reason_of(asyncio.run(verify_code())) == "code_already_used"
    ground.clock.advance(30)
    assert isinstance(asyncio.run(verify_code()), Verified)


@both_kinds
def test_the_tables_that_are_moved_have_all_the_columns_that_there_are(ground: Ground, kind: str) -> None:
    url = ground.new(kind)
    if kind == "sqlite":
        SqliteSide(path_of(url)).close()
        with closing(sqlite3.connect(path_of(url))) as connection:
            names = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            found = {name: {row[1] for row in connection.execute(f"PRAGMA table_info({name})")} for name in names}
        found["rate"] = {"window_start" if column == "window" else column for column in found["rate"]}
        moved = {table.name: set(table.columns) - {"position"} for table in TABLES}
    else:
        sql = "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'twofold'"
        found = {}
        for table, column in ground.server.sql(sql, database=url.rpartition("/")[2]):
            found.setdefault(table, set()).add(column)
        del found["schema_version"]
        moved = {table.name: set(table.columns) for table in TABLES}
    del found["nodes"]
    assert moved == found


def test_what_comes_after_a_move_into_postgresql_stands_behind_what_was_moved(ground: Ground) -> None:
    source, target = ground.furnished("sqlite"), ground.new("postgres")
    ground.move(source, target)

    async def send() -> list[str]:
        store = await ground.open_store(target)
        for name in ("m1", "m2"):
            await store.transact("erin", count("erin", Message(name, "account.changed", {})))
        messages = await store.take(100, 2**60, 60)
        await store.close()
        return [message.id for message in messages if message.created_at == 1]

    assert asyncio.run(send()) == ["m1", "m2"]
    outbox = sorted(ground.contents(target)["outbox"], key=lambda row: int(row[-1]))
    assert [row[1] for row in outbox][-2:] == ["m1", "m2"]


# Cut off and gone on with.


class Cut(BaseException):
    """The process is gone."""


class CutOff:
    """A target for one step: at the next one the process is gone."""

    def __init__(self, target: Side) -> None:
        self._target = target
        self._is_over = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name not in ("change", "write_mark"):
            return found

        def run(*arguments: Any) -> None:
            if self._is_over:
                raise Cut
            self._is_over = True
            found(*arguments)

        return run


@every_direction
def test_a_move_that_is_cut_off_after_every_step_goes_on_to_the_same_end(
    ground: Ground, source_kind: str, target_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twofold.migrating.STEP_ROWS", 8)
    source_url, target_url = ground.furnished(source_kind), ground.new(target_kind)
    before = ground.contents(source_url)
    cuts = 0
    while True:
        with opened(source_url) as source, opened(target_url) as target:
            source.hold()
            cut: Any = CutOff(target)
            try:
                begin(source, cut, read_keys(source))
                copy(source, cut, unnoted)
                verify(source, cut, ground.codec, unnoted)
                finish(source, cut)
                break
            except Cut:
                cuts += 1
                # At no time are both places in use.
                assert target.read_mark(MOVING_FROM) is not None
                assert not is_done(source, target)
    # Each step was the last one of a call, also the one between leaving the source and opening the target.
    assert cuts > len(TABLES)
    assert ground.contents(target_url) == before
    with opened(source_url) as source, opened(target_url) as target:
        assert is_done(source, target)


@every_direction
def test_what_was_changed_between_two_calls_is_as_it_is_now(ground: Ground, source_kind: str, target_kind: str) -> None:
    source_url, target_url = ground.furnished(source_kind), ground.new(target_kind)
    with opened(source_url) as source, opened(target_url) as target:
        source.hold()
        begin(source, target, read_keys(source))
        copy(source, target, unnoted)

    async def go_on() -> None:
        deployment = await ground.open(source_url)
        people = deployment.verifier.accounts
        await people.put("aaron")
        await people.put("alice", ProfileInput(email="alice@example.org"))
        await people.delete("carol")
        await deployment.close()

    asyncio.run(go_on())
    before = ground.contents(source_url)
    ground.move(source_url, target_url)
    assert ground.contents(target_url) == before


# Nothing is overwritten, nothing goes on in two places.


@both_kinds
def test_a_database_that_holds_anything_is_no_target(ground: Ground, kind: str, tmp_path: Path) -> None:
    source, taken = ground.furnished("sqlite"), ground.new(kind)

    async def use() -> None:
        deployment = await ground.open(taken)
        await deployment.close()

    asyncio.run(use())
    before = ground.contents(taken)
    with pytest.raises(Refused, match="holds data already"):
        ground.move(source, taken)
    assert ground.contents(taken) == before
    ground.move(source, ground.new(kind))


@both_kinds
def test_a_part_of_another_deployment_is_no_target(ground: Ground, kind: str, tmp_path: Path) -> None:
    source, target = ground.furnished("sqlite"), ground.new(kind)
    asyncio.run(furnish(tmp_path / "other", seed=5))
    with opened(f"sqlite:///{tmp_path / 'other' / 'twofold.db'}") as other, opened(target) as begun:
        begin(other, begun, read_keys(other))
    with pytest.raises(Refused, match=r"a part of another deployment, from sqlite:///.*/other/twofold.db"):
        ground.move(source, target)


def test_an_unfinished_target_and_an_empty_database_are_no_source(ground: Ground) -> None:
    source_url, target_url = ground.furnished("sqlite"), ground.new("sqlite")
    with opened(target_url) as target, pytest.raises(Refused, match="there is nothing in"):
        read_keys(target)
    with opened(source_url) as source, opened(target_url) as target:
        begin(source, target, read_keys(source))
        with pytest.raises(Refused, match="is not finished: finish it first"):
            read_keys(target)


@both_kinds
def test_a_store_opens_where_the_deployment_is_and_nowhere_else(ground: Ground, kind: str) -> None:
    source_url, target_url = ground.furnished(kind), ground.new(kind)

    async def check(url: str) -> None:
        store = await ground.open_store(url)
        try:
            await check_at_home(store)
        finally:
            await store.close()

    asyncio.run(check(source_url))
    with opened(source_url) as source, opened(target_url) as target:
        place = source.place
        begin(source, target, read_keys(source))
    asyncio.run(check(source_url))
    with pytest.raises(ConfigurationError, match=f"the move from {re.escape(place)} into this database is not finish"):
        asyncio.run(check(target_url))
    ground.move(source_url, target_url)
    asyncio.run(check(target_url))
    with pytest.raises(ConfigurationError, match=r"the data of this database were moved to .*: set DATABASE_URL to it"):
        asyncio.run(check(source_url))


@both_kinds
def test_nobody_writes_while_a_source_is_held_and_whoever_still_has_it_open_writes_never_again(
    ground: Ground, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twofold.stores._sqlite_file.BUSY_TIMEOUT_S", 0.1)
    source_url, target_url = ground.furnished(kind), ground.new("sqlite")
    before = ground.contents(source_url)

    async def write(account_id: str, decide: Decide) -> None:
        store = await ground.open_store(source_url)
        # What the settings say was read before the move: this is a process that has it open.
        try:
            await store.transact(account_id, decide)
        finally:
            await store.close()

    for account_id in ("alice", "erin"):
        with opened(source_url) as source:
            source.hold()
            with pytest.raises((Busy, Unavailable)):
                asyncio.run(write(account_id, count(account_id)))
    assert ground.contents(source_url) == before
    ground.move(source_url, target_url)
    for account_id in ("alice", "erin"):
        with pytest.raises(Unavailable, match="the data were moved to another database"):
            asyncio.run(write(account_id, count(account_id)))
    assert ground.contents(source_url) == before


def test_what_was_moved_and_lost_is_not_moved_again_by_mistake(ground: Ground) -> None:
    source_url, target_url = ground.furnished("sqlite"), ground.new("sqlite")
    ground.move(source_url, target_url)
    with opened(source_url) as source, opened(target_url) as target:
        assert is_done(source, target)
    path_of(target_url).unlink()
    with (
        opened(source_url) as source,
        opened(target_url) as target,
        pytest.raises(Refused, match=f"were moved to {target.place} already"),
    ):
        is_done(source, target)


@both_kinds
def test_a_place_that_was_left_is_opened_by_hand_as_the_page_says(ground: Ground, kind: str) -> None:
    source_url, target_url = ground.furnished(kind), ground.new("sqlite")
    ground.move(source_url, target_url)
    name = "SQLite" if kind == "sqlite" else "PostgreSQL"
    (statements,) = re.findall(rf"```sql\n-- {name}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    for statement in statements.split(";\n")[:-1]:
        ground.run(source_url, statement)

    async def use() -> None:
        store = await ground.open_store(source_url)
        try:
            await check_at_home(store)
            await store.transact("erin", count("erin"))
        finally:
            await store.close()

    asyncio.run(use())


@both_kinds
def test_a_source_is_held_by_one(ground: Ground, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.stores._sqlite_file.BUSY_TIMEOUT_S", 0.1)
    monkeypatch.setattr("twofold.stores._postgres_side.LOCK_TIMEOUT_S", 0.1)
    url = ground.furnished(kind)
    with opened(url) as first, opened(url) as second:
        first.hold()
        with pytest.raises(Unavailable, match=r"in use|locked"):
            second.hold()


def test_a_postgresql_target_is_reserved_for_one(ground: Ground) -> None:
    url = ground.new("postgres")
    with opened(url) as first, opened(url) as second:
        assert isinstance(first, PostgresSide)
        assert isinstance(second, PostgresSide)
        first.reserve()
        with pytest.raises(Refused, match="a first start or another move is under way"):
            second.reserve()


@pytest.mark.parametrize("parts", [2, 16])
def test_the_tables_may_be_divided(ground: Ground, parts: int) -> None:
    source_url = ground.furnished("sqlite")
    name = ground.server.create_database(is_prepared=False)
    url = ground.server.url(name)
    try:
        with opened(source_url) as source, closing(PostgresSide(url, partitions=parts)) as target:
            begin(source, target, read_keys(source))
            copy(source, target, unnoted)
            verify(source, target, ground.codec, unnoted)
        PostgresSide(url, partitions=parts).close()
        with pytest.raises(Refused, match=f"divided into {parts}, not 8: drop the schema twofold"):
            PostgresSide(url, partitions=8)
        assert ground.contents(url) == ground.contents(source_url)
    finally:
        ground.server.drop_database(name)


# Whatever is wrong in the source is found, and the move is not finished.


FAULTS = (
    ("UPDATE accounts SET version = version + 1 WHERE id = 'alice'", "account alice was changed"),
    ("DELETE FROM events WHERE account_id = 'alice' AND seq = 2", "an event is missing"),
    ("UPDATE events SET payload = '{}' WHERE account_id = 'bob' AND seq = 1", "'bob', 1 of the table events: the ev"),
    ("UPDATE events SET payload = NULL WHERE account_id = 'bob' AND seq = 1", "contents were taken away"),
    ("DELETE FROM accounts WHERE id = 'bob'", "account 'bob' is gone while its events are there"),
    ("DELETE FROM accounts WHERE id >= 'dave'", "account 'dave' is gone while its events are there"),
    ("DELETE FROM events WHERE account_id = 'dave'", "does not end where the account says"),
    ("UPDATE sessions SET document = mac", "session se_.* was changed"),
)


@pytest.mark.parametrize(
    ("kind", "statement", "problem"),
    [*(("sqlite", *fault) for fault in FAULTS), *(("postgres", *fault) for fault in FAULTS[:3])],
)
def test_what_was_changed_from_outside_is_named_and_the_source_stays_in_use(
    ground: Ground, kind: str, statement: str, problem: str
) -> None:
    source_url, target_url = ground.furnished(kind), ground.new(kind)
    ground.run(source_url, statement)
    with pytest.raises(Unavailable, match=problem):
        ground.move(source_url, target_url)
    with opened(source_url) as source, opened(target_url) as target:
        assert source.read_mark(MOVED_TO) is None
        assert target.read_mark(MOVING_FROM) is not None


@both_kinds
@pytest.mark.parametrize(
    ("statement", "row"),
    [
        ("DELETE FROM claims", "the row 'webauthn.credential', .* of the table claims"),
        ("UPDATE applications SET created_at = 7", "the row '.*' of the table applications"),
        ("UPDATE accounts SET role = 'admin' WHERE id = 'bob'", "the row 'bob' of the table accounts"),
    ],
)
def test_a_row_that_is_not_the_same_in_the_target_is_named(ground: Ground, kind: str, statement: str, row: str) -> None:
    source_url, target_url = ground.furnished("sqlite"), ground.new(kind)
    with opened(source_url) as source, opened(target_url) as target:
        begin(source, target, read_keys(source))
        copy(source, target, unnoted)
        verify(source, target, ground.codec, unnoted)
        ground.run(target_url, statement)
        with pytest.raises(Unavailable, match=f"{row} is not the same in"):
            verify(source, target, ground.codec, unnoted)


def test_a_value_that_the_target_cannot_hold_is_one_line(ground: Ground) -> None:
    source, target = ground.furnished("sqlite"), ground.new("postgres")
    ground.run(source, "UPDATE accounts SET document = 'text' WHERE id = 'bob'")
    with pytest.raises(Unavailable, match="a row of the table accounts cannot be moved as it is"):
        ground.move(source, target)


def test_progress_tells_of_each_row_twice(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.migrating.STEP_ROWS", 2)
    told: dict[tuple[str, str], int] = {}

    def note(what: str, table: Table, rows: int) -> None:
        told[what, table.name] = told.get((what, table.name), 0) + rows

    source_url, target_url = ground.furnished("sqlite"), ground.new("sqlite")
    with opened(source_url) as source, opened(target_url) as target:
        copy(source, target, note)
        verify(source, target, ground.codec, note)
        for table in (ACCOUNTS, EVENTS):
            assert told["copying", table.name] == told["checking", table.name] == source.count(table)
