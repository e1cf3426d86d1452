"""What PostgreSQL does alone with the statements of one verification: nothing is computed, no document is read.

`pgbench` writes an account and its event back in one statement, as Twofold does, and each client waits for its commit.
`PlainTransactions` does what a program does that has a transaction for each attempt: it reads the row locked, then
writes. Both work on copies of the tables, on rows and events of the same size.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

import asyncpg
from tests.conftest import find_program

from bench.population import account_id

#: As long as those of an account with one authenticator and one known browser, and of the event of its code.
DOCUMENT, MAC = os.urandom(283), os.urandom(51)
SALT, DIGEST, PAYLOAD = os.urandom(16), os.urandom(32), "p" * 93
_COPY = """
    CREATE SCHEMA copied;
    CREATE TABLE copied.accounts (LIKE twofold.accounts INCLUDING ALL);
    ALTER TABLE copied.accounts SET (fillfactor = 50, toast_tuple_target = 8160);
    CREATE TABLE copied.events (LIKE twofold.events INCLUDING ALL);
    INSERT INTO copied.accounts SELECT * FROM twofold.accounts ORDER BY id;
    INSERT INTO copied.events SELECT * FROM twofold.events"""
_SCRIPT = r"""
\set n random(0, {last})
WITH written AS (
    UPDATE copied.accounts SET version = version + 1, document = decode(:document, 'hex'), mac = decode(:mac, 'hex')
    WHERE id = 'person-' || lpad(:n::text, 7, '0') RETURNING id, version
)
INSERT INTO copied.events (account_id, seq, at, kind, salt, payload, digest)
SELECT id, version, 0, 'code.accepted', decode(:salt, 'hex'), :payload, decode(:digest, 'hex') FROM written;
"""
_READ = "SELECT version, document, mac FROM copied.accounts WHERE id = $1 FOR NO KEY UPDATE"
_WRITE = """
    WITH written AS (
        UPDATE copied.accounts SET version = $2, document = $3, mac = $4 WHERE id = $1 RETURNING id, version
    )
    INSERT INTO copied.events (account_id, seq, at, kind, salt, payload, digest)
    SELECT id, version, 0, 'code.accepted', $5, $6, $7 FROM written"""


async def copy_tables(url: str) -> None:
    """Make the copies that both work on."""
    connection = await asyncpg.connect(url)
    await connection.execute(_COPY)
    for table in ("accounts", "events"):
        await connection.execute(f"VACUUM ANALYZE copied.{table}")
    await connection.execute("CHECKPOINT")
    await connection.close()


def pgbench_rate(url: str, accounts: int, *, clients: int, count: int) -> float:
    """Transactions a second of that many clients."""
    values = {"document": DOCUMENT.hex(), "mac": MAC.hex(), "salt": SALT.hex(), "digest": DIGEST.hex()}
    program = Path(find_program("postgres")).resolve().with_name("pgbench")
    with tempfile.NamedTemporaryFile("w") as script:
        script.write(_SCRIPT.format(last=accounts - 1))
        script.flush()
        command = [str(program), "--no-vacuum", "--protocol=prepared", f"--file={script.name}", f"--client={clients}"]
        command += [f"--jobs={min(clients, os.cpu_count() or 1)}", f"--transactions={max(1, count // clients)}"]
        command += [f"--define={name}={value}" for name, value in (values | {"payload": PAYLOAD}).items()]
        run = subprocess.run([*command, url], capture_output=True, text=True, check=True)
    found = re.search(r"tps = ([\d.]+) \(without initial connection time\)", run.stdout)
    assert found is not None, run.stdout
    return float(found[1])


class PlainTransactions:
    """As many connections as there may be attempts at once."""

    def __init__(self, url: str, accounts: int, connections: int) -> None:
        self._pool = asyncpg.create_pool(url, min_size=connections, max_size=connections)
        self._accounts = accounts
        self._random = random.Random(accounts)

    async def __aenter__(self) -> Self:
        await self._pool
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._pool.close()

    async def rate(self, *, in_flight: int, count: int) -> float:
        """Transactions a second."""
        names = iter([account_id(self._random.randrange(self._accounts)) for _ in range(count)])

        async def call() -> None:
            async with self._pool.acquire() as connection:
                for name in names:
                    async with connection.transaction():
                        ((version, document, mac),) = await connection.fetch(_READ, name)
                        await connection.execute(_WRITE, name, version + 1, document, mac, SALT, PAYLOAD, DIGEST)

        began = time.perf_counter()
        await asyncio.gather(*(call() for _ in range(in_flight)))
        return count / (time.perf_counter() - began)
