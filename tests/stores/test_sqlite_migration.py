"""A database that an earlier Twofold made and used is opened by this one: nothing of it may be lost."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.stores.examples import count, counted, data_key, delete, enroll, opening, signed_in

from twofold.core.audit import verify_chain
from twofold.core.codec import Codec
from twofold.core.session import digest_token
from twofold.core.settlement import Decide, Standing, settle
from twofold.errors import TamperedRecord
from twofold.ports import AccountCounts
from twofold.stores._sqlite_file import MIGRATIONS, prepare
from twofold.stores.sqlite import SqliteStore

PEOPLE = ("alice", "bob", "carol")
#: How many fields the documents of that time had: neither role nor link.
FIELDS = 15


class SchemaOne:
    """Writes as the program of schema 1 did: shorter documents, and statements of its own."""

    def __init__(self, path: Path, codec: Codec) -> None:
        self._path, self._codec = path, codec
        self._standings: dict[str, Standing] = {}

    def transact(self, account_id: str, decide: Decide, *summary: str) -> None:
        settled = settle(self._standings.get(account_id, Standing(account_id, 0, None)), decide, self._codec)
        self._standings[account_id] = settled.standing
        assert settled.row is not None
        document = msgspec.msgpack.encode(msgspec.msgpack.decode(settled.row.document)[:FIELDS])
        row = self._codec._sign(account_id, settled.row.version, settled.row.schema, document)
        events = [
            (e.account_id, e.seq, e.at, e.kind, e.salt, (e.payload or b"").decode(), e.digest) for e in settled.events
        ]
        with closing(sqlite3.connect(self._path)) as connection, connection:
            values = (row.account_id, row.version, row.schema, row.document, row.mac, *summary, 5)
            connection.execute("INSERT OR REPLACE INTO accounts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
            connection.executemany("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", events)

    def add_others(self) -> None:
        """A row in each of the other tables."""
        with closing(sqlite3.connect(self._path)) as connection, connection:
            connection.executescript("""
                INSERT INTO contacts VALUES ('email', x'01', 'alice');
                INSERT INTO claims VALUES ('import', x'02', 'alice', 1);
                INSERT INTO rate VALUES (60, x'03', 1);
                INSERT INTO outbox VALUES ('m1', 'alice', 'account.changed', '{}', 1, 0, 0);
                INSERT INTO settings VALUES ('public_url', 'http://a');
            """)
            key = msgspec.structs.astuple(data_key("d1"))[:5]
            connection.execute("INSERT INTO keyring VALUES (?, ?, ?, ?, ?)", key)


@pytest.fixture
def path(tmp_path: Path, codec: Codec) -> Path:
    """A database of schema 1 in use: three people, one deleted account, the deployment's own row."""
    first = tmp_path / "migrations"
    first.mkdir()
    (file,) = MIGRATIONS.glob("0001_*.sql")
    (first / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "data" / "twofold.db"
    prepare(path, first)
    old = SchemaOne(path, codec)
    old.transact("", count(""), "empty", "")
    old.transact("alice", enroll("alice", "totp", "hotp"), "active", " hotp totp ")
    for _ in range(3):
        old.transact("bob", count("bob"), "empty", "")
    old.transact("carol", enroll("carol", is_disabled=True), "disabled", "")
    old.transact("dave", count("dave"), "empty", "")
    old.transact("dave", delete, "deleted", "")
    old.add_others()
    return path


@pytest.fixture
def store(path: Path, codec: Codec):
    store = SqliteStore.open(path)
    store.use_codec(codec)
    yield store
    asyncio.run(store.close())


def read_all(path: Path) -> dict[str, list[tuple]]:
    """Every row of the tables that schema 1 has, with the columns that they had."""
    columns = dict.fromkeys(("events", "contacts", "claims", "applications", "rate", "outbox", "settings"), "*") | {
        "accounts": "id, version, schema, document, mac, state, factors, created_at",
        "keyring": "id, purpose, state, wrapped, created_at",
    }
    with closing(sqlite3.connect(path)) as connection:
        return {
            table: connection.execute(f"SELECT {its} FROM {table} ORDER BY 1, 2").fetchall()  # noqa: S608 - names above
            for table, its in columns.items()
        }


def test_every_row_is_kept_as_it_was_and_a_copy_lies_beside(path: Path) -> None:
    before = read_all(path)
    assert len(before["accounts"]) == 5
    prepare(path)
    assert read_all(path) == before
    assert read_all(path.with_name("twofold.db.before-0002")) == before
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT DISTINCT role FROM accounts").fetchall() == [("",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_accounts_and_chains_are_read_and_go_on(store: SqliteStore) -> None:
    for account_id in ("", *PEOPLE):
        account = await store.load(account_id)
        assert account is not None
        assert verify_chain(account_id, await store.events(account_id), account.head) is None
    assert await store.load("dave") is None
    assert counted(await store.transact("bob", count("bob"))) == 4
    bob = await store.load("bob")
    assert bob is not None
    assert verify_chain("bob", await store.events("bob"), bob.head) is None


async def test_lists_counts_and_sessions_work_on_what_was_there(store: SqliteStore) -> None:
    assert tuple(row.account_id for row in await store.page_accounts()) == PEOPLE
    assert [row.account_id for row in await store.page_accounts(factor="totp")] == ["alice"]
    states = {"active": 1, "empty": 1, "disabled": 1}
    assert await store.count_accounts_by() == AccountCounts(3, states, {}, {"totp": 1, "hotp": 1})
    await store.transact("bob", enroll("bob", "totp", role="administrator"))
    assert [row.account_id for row in await store.page_accounts(role="administrator")] == ["bob"]
    await store.transact("bob", count("bob", opening(signed_in("1", "bob"), "token")))
    assert await store.find_session(digest_token("token")) == signed_in("1", "bob")


async def test_what_was_changed_before_is_still_found_out(path: Path, codec: Codec) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE accounts SET version = version + 1 WHERE id = 'alice'")
    store = SqliteStore.open(path)
    store.use_codec(codec)
    with pytest.raises(TamperedRecord):
        await store.load("alice")
    await store.close()
