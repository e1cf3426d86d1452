"""Verifications a second of the engine on SQLite, against raw commits of the same statements.

The raw side does what one verification writes, and nothing else: no code is computed, no document decoded. It says how
fast this disk and SQLite are when every answer has a commit to itself.
"""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Self

from bench.figures import Figure, ratio
from bench.population import Phones, account_id, populate
from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings
from twofold.core.decision import Verified
from twofold.stores import _collector
from twofold.stores._sqlite_file import connect

#: How many verifications are in flight, and how many are measured at once.
COUNTS = {1: 2_000, 16: 6_000, 64: 8_000, 256: 8_000}
COUNT_OF_COMMITS = 4_000
GOAL_AT = 64
GOAL = 4.0


def measure(*, accounts: int, rounds: int) -> list[Figure]:
    """Medians over rounds in which all sides take turns."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        populate(data_dir, accounts)
        return asyncio.run(_measure(data_dir, accounts, rounds))


async def _measure(data_dir: Path, accounts: int, rounds: int) -> list[Figure]:
    settings = Settings(data_dir=data_dir)
    deployment = await open_deployment(settings)
    phones = Phones(accounts)
    sync_s = _time_of_a_sync(data_dir)
    raw_rates, alone_rates = list[float](), list[float]()
    rates: dict[int, list[float]] = {in_flight: [] for in_flight in COUNTS}

    async def rate(in_flight: int, count: int) -> float:
        return await _rate(deployment, phones, in_flight, count)

    try:
        await rate(GOAL_AT, COUNTS[GOAL_AT])
        with RawCommits(settings.sqlite_path, accounts) as raw:
            for _ in range(rounds):
                raw_rates.append(raw.rate(COUNT_OF_COMMITS))
                for in_flight, count in COUNTS.items():
                    rates[in_flight].append(await rate(in_flight, count))
                alone_rates.append(await _one_attempt_a_commit(lambda: rate(GOAL_AT, COUNT_OF_COMMITS)))
    finally:
        await deployment.close()
    at_goal = rates[GOAL_AT]
    return [
        Figure("one fsync on this disk", sync_s * 1000, "ms"),
        Figure("raw commits of the same statements", median(raw_rates), "/s"),
        *(Figure(f"engine, {in_flight} in flight", median(each), "/s") for in_flight, each in rates.items()),
        Figure(f"engine, {GOAL_AT} in flight, one attempt a commit", median(alone_rates), "/s"),
        Figure(f"engine at {GOAL_AT} in flight : raw commits", ratio(at_goal, raw_rates), "x", at_least=GOAL),
        Figure(f"engine at {GOAL_AT} in flight : one attempt a commit", ratio(at_goal, alone_rates), "x"),
    ]


async def _rate(deployment: Deployment, phones: Phones, in_flight: int, count: int) -> float:
    """Verifications a second with that many callers, each of which waits for its answer before it asks again."""
    verify = deployment.verifier.verify
    answers = iter([phones.next_code(time.time()) for _ in range(count)])

    async def call() -> None:
        for number, code in answers:
            outcome = await verify(account_id(number), code=code)
            assert isinstance(outcome, Verified), outcome

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(in_flight)))
    return count / (time.perf_counter() - began)


async def _one_attempt_a_commit(run: Callable[[], Awaitable[float]]) -> float:
    batch_max, _collector.BATCH_MAX = _collector.BATCH_MAX, 1
    try:
        return await run()
    finally:
        _collector.BATCH_MAX = batch_max


class RawCommits:
    """One verification's statements on the same file with the same settings: read a row, write one of the same size
    back, insert an event; commit."""

    def __init__(self, database: Path, accounts: int) -> None:
        self._connection = connect(database, cache_kib=16 * 1024)
        self._connection.execute("PRAGMA wal_autocheckpoint = 1000")
        self._random = random.Random(accounts)
        self._accounts = accounts
        self._seq = 1_000_000

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rate(self, count: int) -> float:
        """Commits a second."""
        execute: Callable[..., sqlite3.Cursor] = self._connection.execute
        salt, payload, digest = os.urandom(16), "p" * 130, os.urandom(32)
        names = [account_id(self._random.randrange(self._accounts)) for _ in range(count)]
        began = time.perf_counter()
        for name in names:
            self._seq += 1
            execute("BEGIN IMMEDIATE")
            sql = "SELECT version, schema, document, mac FROM accounts WHERE id = ?"
            version, schema, document, mac = execute(sql, (name,)).fetchone()
            sql = "UPDATE accounts SET version = ?, schema = ?, document = ?, mac = ? WHERE id = ?"
            execute(sql, (version, schema, document, mac, name))
            sql = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)"
            execute(sql, (name, self._seq, 0, "code.accepted", salt, payload, digest))
            execute("COMMIT")
        return count / (time.perf_counter() - began)


def _time_of_a_sync(folder: Path) -> float:
    """The median time of appending one page to a file and bringing it to the disk, in seconds."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return median(times)
