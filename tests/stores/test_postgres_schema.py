"""The tables in PostgreSQL: made once however many start, changed beside those who work, refused where they are not
ours to use."""

import asyncio
import re
import shutil
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest
from tests.postgres import PostgresServer

from twofold.errors import ConfigurationError, Unavailable
from twofold.stores import _postgres_schema as schema
from twofold.stores._postgres_connection import Connections, connect

PREPARE = """
import asyncio, pathlib, sys
from twofold.stores._postgres_schema import prepare
asyncio.run(prepare(sys.argv[1], pathlib.Path(sys.argv[2])))
"""
#: Tables that belong to people, and so are divided by whose they are.
DIVIDED = {"accounts", "events", "contacts", "sessions", "outbox", "claims", "rate"}


@pytest.fixture
def empty_url(postgres_server: PostgresServer) -> Iterator[str]:
    name = postgres_server.create_database(is_prepared=False)
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    """Somebody else in the database."""
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


@pytest.fixture
def newer(tmp_path: Path) -> Path:
    """The files of a program that knows one schema more."""
    folder = tmp_path / "migrations"
    shutil.copytree(schema.MIGRATIONS, folder)
    number = max(schema._files(folder)) + 1
    (folder / f"{number:04}_note.sql").write_text(
        "ALTER TABLE twofold.accounts ADD COLUMN note text;"
        "INSERT INTO twofold.settings VALUES (gen_random_uuid()::text, 'once');"
    )
    return folder


async def run(url: str, statement: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(statement)
    finally:
        await connection.close()


async def refusal(url: str, **options: Path) -> str:
    """The one line that says why the database is not used."""
    with pytest.raises(ConfigurationError) as refused:
        await schema.prepare(url, **options)
    line = str(refused.value)
    assert "\n" not in line
    return line


async def test_of_processes_that_start_at_once_one_makes_the_tables_and_the_others_find_them(
    empty_url: str, newer: Path
) -> None:
    command = (sys.executable, "-c", PREPARE, empty_url, str(newer))
    processes = [await asyncio.create_subprocess_exec(*command) for _ in range(3)]
    await asyncio.gather(*(schema.prepare(empty_url, newer) for _ in range(5)))
    assert [await process.wait() for process in processes] == [0, 0, 0]
    assert await run(empty_url, "SELECT value FROM twofold.settings") == [("once",)]
    assert await run(empty_url, "SELECT version FROM twofold.schema_version") == [(max(schema._files(newer)),)]


async def test_prepared_tables_are_left_as_they_are(postgres_url: str) -> None:
    await run(postgres_url, "INSERT INTO twofold.settings VALUES ('name', 'value')")
    await schema.prepare(postgres_url)
    assert await run(postgres_url, "SELECT * FROM twofold.settings") == [("name", "value")]


async def test_an_older_program_refuses_what_a_newer_one_has_changed(postgres_url: str, newer: Path) -> None:
    await schema.prepare(postgres_url, newer)
    known = max(schema._files(schema.MIGRATIONS))
    assert await refusal(postgres_url) == (
        f"the database has schema {known + 1}, this program knows up to {known}: use a newer Twofold"
    )
    # Also one that was running meanwhile, at its next connection.
    connections = Connections(postgres_url, size=1, check=schema.check_schema)
    with pytest.raises(Unavailable, match=f"has schema {known + 1}, this program knows up to {known}"):
        await connections.read("SELECT 1")
    connections.close()


async def test_a_program_that_does_not_migrate_says_who_does(empty_url: str) -> None:
    connection = await connect(empty_url)
    with pytest.raises(Unavailable, match=r"has schema 0, this program needs \d+: start `twofold serve` once"):
        await schema.check_schema(connection)
    await schema.prepare(empty_url)
    await schema.check_schema(connection)
    await connection.close()


async def test_a_server_that_is_too_old_is_refused(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MAJOR_MIN", 100)
    line = await refusal(empty_url)
    monkeypatch.undo()
    assert re.fullmatch(r"PostgreSQL \d+ is too old: 100 or later is needed", line)
    assert await run(empty_url, "SELECT to_regclass('twofold.accounts')") == [(None,)]
    await schema.prepare(empty_url)


async def test_a_change_of_the_tables_gives_way_to_those_who_work_and_lets_nobody_wait_behind_it(
    postgres_url: str, connection: asyncpg.Connection, newer: Path
) -> None:
    waits: list[float] = []
    lock_timeout_s = schema.LOCK_TIMEOUT_MS / 1000
    holder = await asyncpg.connect(postgres_url)
    async with asyncio.timeout(20), holder.transaction():
        await holder.fetch("SELECT FROM twofold.accounts")
        migration = asyncio.create_task(schema.prepare(postgres_url, newer))
        # A read that comes while the migration waits does so, too: it would until the end of this block.
        while sum(wait > lock_timeout_s / 4 for wait in waits) < 3:
            began_at = time.monotonic()
            await connection.fetch("SELECT FROM twofold.accounts")
            waits.append(time.monotonic() - began_at)
        assert not migration.done()
    await migration
    await holder.close()
    assert max(waits) < 5 * lock_timeout_s
    assert await connection.fetch("SELECT note FROM twofold.accounts") == []
    assert await connection.fetch("SELECT value FROM twofold.settings") == [("once",)]


async def test_a_change_that_never_finds_its_moment_is_given_up_and_leaves_nothing(
    postgres_url: str, connection: asyncpg.Connection, newer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "LOCK_PATIENCE_S", 0.5)
    async with connection.transaction():
        await connection.fetch("SELECT FROM twofold.accounts")
        assert "in use for so long that they cannot be changed" in await refusal(postgres_url, migrations=newer)
    assert await connection.fetch("SELECT * FROM twofold.settings") == []
    await schema.prepare(postgres_url, newer)
    assert len(await connection.fetch("SELECT * FROM twofold.settings")) == 1


async def test_tables_of_people_are_divided_by_whose_they_are(empty_url: str) -> None:
    await schema.prepare(empty_url, partitions=8)
    parts = await run(
        empty_url,
        "SELECT parent.relname, count(*) FROM pg_inherits JOIN pg_class AS parent ON parent.oid = inhparent"
        " WHERE parent.relkind = 'p' GROUP BY 1",
    )
    assert dict(parts) == dict.fromkeys(DIVIDED, 8)
    roomy = "SELECT count(*) FROM pg_class WHERE relname LIKE 'accounts___%' AND 'fillfactor=50' = ANY (reloptions)"
    assert await run(empty_url, roomy) == [(8,)]


async def test_tables_of_another_program_beside_ours_are_neither_used_nor_touched(empty_url: str) -> None:
    for table in DIVIDED | {"settings", "keyring", "nodes", "schema_version"}:
        await run(empty_url, f"CREATE TABLE public.{table} AS SELECT 99 AS theirs")
    await schema.prepare(empty_url)
    await schema.prepare(empty_url)
    connection = await connect(empty_url)
    await schema.check_schema(connection)
    await connection.close()
    assert await run(empty_url, "SELECT * FROM public.accounts, public.schema_version") == [(99, 99)]
    assert await run(empty_url, "SELECT * FROM twofold.accounts") == []


class Guest:
    """Somebody with few rights."""

    def __init__(self, server: PostgresServer, url: str) -> None:
        self.owner = url
        self.url = url.replace(url.partition("//")[2].partition("@")[0], "guest:se%40cret")
        server.sql("CREATE ROLE guest LOGIN PASSWORD 'se@cret'")


@pytest.fixture
def guest(postgres_server: PostgresServer) -> Iterator[Guest]:
    """In an empty database."""
    name = postgres_server.create_database(is_prepared=False)
    yield Guest(postgres_server, postgres_server.url(name))
    postgres_server.drop_database(name)
    postgres_server.sql("DROP ROLE guest")


async def test_without_the_right_to_make_the_schema_one_line_says_so(guest: Guest) -> None:
    line = await refusal(guest.url)
    assert "permission denied for database" in line
    assert "se%40cret" not in line
    assert "se@cret" not in line
    await schema.prepare(guest.owner)
    assert "permission denied for schema twofold" in await refusal(guest.url)


async def test_a_schema_that_was_made_for_us_is_all_that_we_need(guest: Guest) -> None:
    await run(guest.owner, "CREATE SCHEMA twofold AUTHORIZATION guest")
    await schema.prepare(guest.url)
    assert await run(guest.url, "SELECT * FROM twofold.accounts") == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({":se%40cret@": ":wr%40ng@"}, "password authentication failed"),
        ({"guest:": "stranger:"}, "password authentication failed"),
        ({"/test_": "/unknown_"}, "does not exist"),
        ({"127.0.0.1:{port}": "127.0.0.1:1,127.0.0.1:2"}, "Connect call failed"),
        ({"127.0.0.1:{port}": "127.0.0.1:99999"}, "it is no address"),
        ({"127.0.0.1:{port}": "127.0.0.1:port"}, "it is no address"),
        ({"127.0.0.1:{port}": "nowhere.invalid"}, "not known"),
    ],
)
async def test_a_database_out_of_reach_is_named_in_one_line_without_the_password(
    guest: Guest, postgres_server: PostgresServer, change: dict[str, str], reason: str
) -> None:
    await schema.prepare(guest.owner)
    url = guest.url
    for old, new in change.items():
        assert old.format(port=postgres_server.port) in url
        url = url.replace(old.format(port=postgres_server.port), new)
    line = await refusal(url)
    assert line.startswith("the database postgresql://")
    assert reason in line
    for secret in ("se%40cret", "se@cret", "wr%40ng", "wr@ng"):
        assert secret not in line
