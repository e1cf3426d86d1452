"""Verifications a second of the engine on SQLite, against raw commits of the same statements.

The raw side does what one verification writes, and nothing else: no code is computed, no document decoded. It says how
fast this disk and SQLite are when every answer has a commit to itself.
"""

import asyncio
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.figures import Figure
from bench.population import Phones, account_id, populate
from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings
from twofold.core.decision import Verified
from twofold.stores import _collector
from twofold.stores._sqlite_file import connect

IN_FLIGHT = (1, 16, 64, 256)
GOAL_AT = 64
GOAL = 4.0


def measure(*, accounts: int, rounds: int, seconds: float) -> list[Figure]:
    """The figures of the engine: medians over rounds in which all sides take turns."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder)
        populate(data_dir, accounts)
        return asyncio.run(_measure(data_dir, accounts, rounds, seconds))


async def _measure(data_dir: Path, accounts: int, rounds: int, seconds: float) -> list[Figure]:
    settings = Settings(data_dir=data_dir)
    deployment = await open_deployment(settings)
    phones = Phones(accounts)
    sync_s = _time_of_a_sync(data_dir)
    raw_rates, alone_rates = [], []
    rates: dict[int, list[float]] = {at: [] for at in IN_FLIGHT}
    try:
        await _rate(deployment, phones, GOAL_AT, seconds)
        with RawCommits(settings.sqlite_path) as raw:
            for _ in range(rounds):
                raw_rates.append(raw.rate(seconds))
                for at in IN_FLIGHT:
                    rates[at].append(await _rate(deployment, phones, at, seconds))
                alone_rates.append(await _one_attempt_a_commit(lambda: _rate(deployment, phones, GOAL_AT, seconds)))
    finally:
        await deployment.close()
    raw_rate = statistics.median(raw_rates)
    medians = {at: statistics.median(rates[at]) for at in IN_FLIGHT}
    figures = [
        Figure("one fdatasync of this disk", sync_s * 1000, "ms"),
        Figure("raw commits of the same statements, one a commit", raw_rate, "/s"),
        Figure(f"engine with one attempt a commit, {GOAL_AT} in flight", statistics.median(alone_rates), "/s"),
    ]
    figures += [Figure(f"engine, {at} in flight", rate, "/s") for at, rate in medians.items()]
    figures.append(
        Figure(f"engine at {GOAL_AT} in flight : raw commits", medians[GOAL_AT] / raw_rate, "x", at_least=GOAL)
    )
    ratio = medians[GOAL_AT] / statistics.median(alone_rates)
    figures.append(Figure(f"engine at {GOAL_AT} in flight : one attempt a commit", ratio, "x"))
    return figures


async def _rate(deployment: Deployment, phones: Phones, in_flight: int, seconds: float) -> float:
    """Verifications a second with that many callers, each of which waits for its answer before it asks again."""
    verify, done = deployment.verifier.verify, 0
    end = time.perf_counter() + seconds

    async def call() -> None:
        nonlocal done
        while time.perf_counter() < end:
            number, code = phones.next_code(time.time())
            assert isinstance(await verify(account_id(number), code=code), Verified)
            done += 1

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(in_flight)))
    return done / (time.perf_counter() - began)


async def _one_attempt_a_commit(run: Callable[[], Awaitable[float]]) -> float:
    batch_max, _collector.BATCH_MAX = _collector.BATCH_MAX, 1
    try:
        return await run()
    finally:
        _collector.BATCH_MAX = batch_max


class RawCommits:
    """One verification's statements on the same file with the same settings: read a row, write one of the same size
    back, insert an event; commit."""

    def __init__(self, database: Path) -> None:
        self._connection = connect(database, cache_kib=16 * 1024)
        self._connection.execute("PRAGMA wal_autocheckpoint = 1000")
        self._seq = 1_000_000

    def __enter__(self) -> "RawCommits":
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def rate(self, seconds: float) -> float:
        """Commits a second."""
        execute: Callable[..., sqlite3.Cursor] = self._connection.execute
        salt, payload, digest = os.urandom(16), b"p" * 110, os.urandom(32)
        done, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            name = account_id(done % 10_000)
            self._seq += 1
            execute("BEGIN IMMEDIATE")
            sql = "SELECT version, schema, document, mac FROM accounts WHERE id = ?"
            version, schema, document, mac = execute(sql, (name,)).fetchone()
            sql = "UPDATE accounts SET version = ?, schema = ?, document = ?, mac = ? WHERE id = ?"
            execute(sql, (version, schema, document, mac, name))
            sql = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)"
            execute(sql, (name, self._seq, time.time_ns() // 1000, "code.accepted", salt, payload, digest))
            execute("COMMIT")
            done += 1
        return done / (time.perf_counter() - began)


def _time_of_a_sync(folder: Path) -> float:
    """The median time of appending one page to a file and bringing it to the disk, in seconds."""
    times = []
    with (folder / "sync").open("wb", buffering=0) as file:
        for _ in range(200):
            file.write(bytes(4096))
            began = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)
