"""The tables in PostgreSQL: made and brought up to date by numbered SQL files, by one process at a time.

Everything is in the schema `twofold`, so an application's own database may hold it. Each file is applied in one
transaction that waits for no lock longer than a moment; nothing here reads or writes an account.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

import asyncpg

from twofold.errors import ConfigurationError, Unavailable
from twofold.stores._postgres_connection import LONG_STATEMENT_S, Connection, connect, patiently, refusing

MIGRATIONS = Path(__file__).with_name("migrations") / "postgres"
#: Whoever changes the tables holds this lock, of all that use the database ("2fld").
ADVISORY_LOCK = 0x32666C64
#: Others are at work on the tables while they are changed: rather try again than make them wait behind us.
LOCK_TIMEOUT_MS = 200
LOCK_PATIENCE_S = 30.0
MAJOR_MIN = 14
_BY_HASH = re.compile(r"CREATE TABLE (twofold\.\w+) (\([^;]*?\n\)) /\* BY HASH \((\w+)\) \*/;")
#: Rows change all the time and stay on their page, as long as there is room on it; a document is read each time and
#: stays with its row.
_STORAGE = "fillfactor = 50, toast_tuple_target = 8160"

log: logging.Logger = logging.getLogger("twofold")


async def prepare(url: str, migrations: Path = MIGRATIONS, *, partitions: int = 0) -> None:
    """Make the tables if there are none, and bring older ones up to date. `partitions`: by how many each new table
    that belongs to accounts is divided, by the hash of the account's id.

    Raises `ConfigurationError`, one line, when the database cannot be used or belongs to a newer program.
    """
    with refusing(url):
        connection = await connect(url, statement_timeout_s=LONG_STATEMENT_S)
        try:
            # One process at a time: a second first start waits here, and then finds everything done.
            await connection.execute("SET lock_timeout = 0")
            await connection.execute("SELECT pg_advisory_lock($1)", ADVISORY_LOCK)
            await _migrate(connection, migrations, partitions)
        finally:
            await connection.close()


async def check_schema(connection: Connection) -> None:
    """Raise `Unavailable` when a newer program has changed the tables since we began."""
    version = await _read_version(connection)
    if version != (known := max(_files(MIGRATIONS))):
        raise Unavailable(_explain(version, known))


async def _migrate(connection: Connection, migrations: Path, partitions: int) -> None:
    if (major := connection.get_server_version().major) < MAJOR_MIN:
        raise ConfigurationError(f"PostgreSQL {major} is too old: {MAJOR_MIN} or later is needed")
    if (encoding := await connection.fetchval("SHOW server_encoding")) != "UTF8":
        raise ConfigurationError(f"the database has the encoding {encoding}: make one with ENCODING 'UTF8'")
    files = _files(migrations)
    version = await _read_version(connection)
    if version > max(files):
        raise ConfigurationError(_explain(version, max(files)))
    for number in range(version + 1, max(files) + 1):
        await _apply(connection, number, files[number].read_text("utf-8"), partitions)
        if version > 0:
            log.info("the database was changed from schema %d to %d", number - 1, number)


async def _read_version(connection: Connection) -> int:
    """0 where there are no tables of ours."""
    if await connection.fetchval("SELECT to_regclass('twofold.schema_version')") is None:
        return 0
    return int(await connection.fetchval("SELECT version FROM twofold.schema_version"))


async def _apply(connection: Connection, number: int, script: str, partitions: int) -> None:
    script, leaves = divide(script, partitions)
    async for _ in patiently(LOCK_PATIENCE_S):
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                if number == 1:
                    # Where it was made for us, there may be no right to make another one.
                    if await connection.fetchval("SELECT to_regnamespace('twofold') IS NULL"):
                        await connection.execute("CREATE SCHEMA twofold")
                    await connection.execute("CREATE TABLE twofold.schema_version (version integer NOT NULL)")
                    await connection.execute("INSERT INTO twofold.schema_version VALUES (0)")
                await connection.execute(script)
                for leaf in leaves:
                    await connection.execute(f"ALTER TABLE {leaf} SET ({_STORAGE})")
                await connection.execute("UPDATE twofold.schema_version SET version = $1", number)
            return
        except asyncpg.LockNotAvailableError:
            continue
    raise ConfigurationError("the tables are in use for so long that they cannot be changed: try again")


def divide(script: str, partitions: int) -> tuple[str, list[str]]:
    """The script with the tables that are marked `BY HASH` divided into so many (0: left whole), and which tables hold
    the accounts then."""
    leaves = []

    def make(found: re.Match[str]) -> str:
        name, columns, key = found.groups()
        if not partitions:
            leaves.extend([name] if name == "twofold.accounts" else [])
            return f"CREATE TABLE {name} {columns};"
        parts = [f"{name}_{n:03}" for n in range(partitions)]
        leaves.extend(parts if name == "twofold.accounts" else [])
        made = (
            f"CREATE TABLE {part} PARTITION OF {name} FOR VALUES WITH (MODULUS {partitions}, REMAINDER {n});"
            for n, part in enumerate(parts)
        )
        return "\n".join((f"CREATE TABLE {name} {columns} PARTITION BY HASH ({key});", *made))

    return _BY_HASH.sub(make, script), leaves


def _files(migrations: Path) -> dict[int, Path]:
    return {int(file.name[:4]): file for file in migrations.glob("[0-9][0-9][0-9][0-9]_*.sql")}


def _explain(version: int, known: int) -> str:
    if version > known:
        return f"the database has schema {version}, this program knows up to {known}: use a newer Twofold"
    return f"the database has schema {version}, this program needs {known}: start `twofold serve` once to change it"
