"""PostgreSQL databases full of accounts, spread out by the server itself, which is soon done for millions.

Some accounts are real, evenly spread among the others: these can be verified. The others have the row of a real one
under a name of their own, so they are as large and as much in the way, but their authentication codes are another's.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import asyncpg
import msgspec
from tests.postgres import PostgresServer

from bench.load import Load
from bench.population import ACCOUNT_COLUMNS, Phones, row_values, settle_all
from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings
from twofold.core.audit import EventRow

REAL_MAX = 100_000
EVENT_COLUMNS = EventRow.__struct_fields__
_SETTINGS = "SET work_mem = '256MB'; SET maintenance_work_mem = '1GB'; SET synchronous_commit = off"
_MAKE_REAL = """
    CREATE UNLOGGED TABLE real_accounts (LIKE twofold.accounts);
    CREATE UNLOGGED TABLE real_events (LIKE twofold.events)"""
_SPREAD_ACCOUNTS = f"""
    INSERT INTO twofold.accounts ({", ".join(ACCOUNT_COLUMNS)})
    SELECT {", ".join(ACCOUNT_COLUMNS)} FROM real_accounts UNION ALL
    SELECT 'person-' || lpad(n::text, 7, '0'), {", ".join(ACCOUNT_COLUMNS[1:])}
    FROM (SELECT * FROM real_accounts LIMIT 1) AS sample, generate_series(0, $1::integer - 1) AS n
    WHERE n % $2::integer <> 0 ORDER BY 1"""  # noqa: S608 - our own columns
_SPREAD_EVENTS = f"""
    INSERT INTO twofold.events ({", ".join(EVENT_COLUMNS)})
    SELECT {", ".join(EVENT_COLUMNS)} FROM real_events UNION ALL
    SELECT 'person-' || lpad(n::text, 7, '0'), position, {", ".join(EVENT_COLUMNS[2:])}
    FROM (SELECT * FROM real_events LIMIT 1) AS sample, generate_series(0, $1::integer - 1) AS n,
        generate_series(1, $3::integer) AS position
    WHERE n % $2::integer <> 0"""  # noqa: S608 - our own columns


class Crowd(NamedTuple):
    """A database with that many accounts, of which one in `stride` is real. `key` is an API key for it; its own keys
    are in `data_dir`."""

    name: str
    url: str
    data_dir: Path
    key: str
    accounts: int
    stride: int

    @property
    def settings(self) -> Settings:
        """Of a deployment over it."""
        return Settings(data_dir=self.data_dir, database_url=self.url)

    def phones(self) -> Phones:
        """Those of the real accounts."""
        return Phones(self.accounts, stride=self.stride)

    def load(self, port: int) -> Load:
        """The client for a server over it."""
        return Load("twofold", port, accounts=self.accounts, key=self.key, stride=self.stride)


def gather(server: PostgresServer, folder: Path, *, accounts: int, events: int = 0) -> Crowd:
    """A new database with about so many `events` in all, one for each account at least."""
    name = server.create_database(is_prepared=False)
    empty = Crowd(name, server.url(name), folder / name, "", accounts, -(-accounts // REAL_MAX))
    return empty._replace(key=asyncio.run(_fill(empty, max(1, events // accounts))))


async def _fill(crowd: Crowd, events_each: int) -> str:
    crowd.data_dir.mkdir(mode=0o700)
    deployment = await open_deployment(crowd.settings)
    connection = await asyncpg.connect(crowd.url)
    try:
        await _insert(deployment, connection, crowd, events_each)
        return (await deployment.applications.create("bench"))[1]
    finally:
        await connection.close()
        await deployment.close()


async def _insert(
    deployment: Deployment, connection: asyncpg.Connection[asyncpg.Record], crowd: Crowd, events_each: int
) -> None:
    accounts, stride = crowd.accounts, crowd.stride
    await connection.execute(_SETTINGS)
    await connection.execute(_MAKE_REAL)
    settled = [each async for each in settle_all(deployment, range(0, accounts, stride))]
    events = [_event_values(event) for settlement in settled for event in settlement.events]
    await connection.copy_records_to_table(
        "real_accounts", columns=ACCOUNT_COLUMNS, records=[row_values(settlement) for settlement in settled]
    )
    await connection.copy_records_to_table("real_events", columns=EVENT_COLUMNS, records=events)
    await connection.execute(_SPREAD_ACCOUNTS, accounts, stride)
    await connection.execute(_SPREAD_EVENTS, accounts, stride, events_each)
    await connection.execute("DROP TABLE real_accounts, real_events")
    # Before anything is measured: what autovacuum and the next checkpoint would do in the middle of it.
    for table in ("accounts", "events"):
        await connection.execute(f"VACUUM ANALYZE twofold.{table}")
    await connection.execute("CHECKPOINT")


def _event_values(event: EventRow) -> tuple[object, ...]:
    assert event.payload is not None
    return msgspec.structs.astuple(msgspec.structs.replace(event, payload=event.payload.decode()))
