"""Verifications a second of the engine on PostgreSQL, against the database alone; and what they write to its log."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import msgspec
import uvloop
from tests.postgres import PostgresServer

from bench import cluster, crowd
from bench.crowd import Crowd
from bench.figures import Figure, ratio
from bench.pgbench import PlainTransactions, copy_tables, pgbench_rate
from bench.population import Phones, account_id
from bench.servers import processor_s
from twofold.bootstrap import Deployment, open_deployment
from twofold.core.decision import Verified

#: How many verifications are in flight, and how many are measured at once.
COUNTS = {1: 1_500, 16: 6_000, 64: 8_000, 256: 8_000}
GOAL_AT = 64
GOAL = 1.5
OURS, PGBENCH, PLAIN, ALONE = "engine", "pgbench", "a transaction for each attempt", "engine with BATCH=off"


def measure(*, accounts: int, rounds: int) -> list[Figure]:
    """Medians over rounds in which all sides take turns."""
    if not cluster.is_installed():
        return []
    with cluster.running() as server, tempfile.TemporaryDirectory() as folder:
        everybody = crowd.gather(server, Path(folder), accounts=accounts)
        phones = everybody.phones()
        asyncio.run(copy_tables(everybody.url))
        speeds = uvloop.run(_measure(everybody, phones, server, rounds))
        logged = uvloop.run(_measure_log(everybody, phones, server))
    return [*_figures(speeds), *logged]


class Speed(NamedTuple):
    """Verifications a second, and the processor time of each in microseconds: of whoever asks, and of the database."""

    rate: float
    processor_us: float


Speeds = dict[tuple[str, int], list[Speed]]


async def _measure(everybody: Crowd, phones: Phones, server: PostgresServer, rounds: int) -> Speeds:
    speeds: Speeds = {}
    async with AsyncExitStack() as stack:
        ours = await open_deployment(everybody.settings)
        stack.push_async_callback(ours.close)
        alone = await open_deployment(msgspec.structs.replace(everybody.settings, batch="off"))
        stack.push_async_callback(alone.close)
        plain = await stack.enter_async_context(PlainTransactions(everybody.url, everybody.accounts, max(COUNTS)))
        pgbench = partial(pgbench_rate, everybody.url, everybody.accounts)
        await _rate(ours, phones, GOAL_AT, COUNTS[GOAL_AT])
        for _ in range(rounds):
            for in_flight, count in COUNTS.items():
                for name, work in (
                    (OURS, _rate(ours, phones, in_flight, count)),
                    (PGBENCH, asyncio.to_thread(pgbench, clients=in_flight, count=count)),
                    (PLAIN, plain.rate(in_flight=in_flight, count=count)),
                    (ALONE, _rate(alone, phones, in_flight, count)),
                ):
                    before_s = _processor_s(server)
                    rate = await work
                    processor_us = (_processor_s(server) - before_s) * 1e6 / count
                    speeds.setdefault((name, in_flight), []).append(Speed(rate, processor_us))
    return speeds


def _processor_s(server: PostgresServer) -> float:
    # pgbench is a child that has ended.
    return sum(os.times()[:4]) + processor_s(server.pid)


async def _rate(deployment: Deployment, phones: Phones, in_flight: int, count: int) -> float:
    """Verifications a second with that many callers, each of which waits for its answer before it asks again."""
    answers = iter([phones.next_code(time.time()) for _ in range(count)])

    async def call() -> None:
        for number, code in answers:
            outcome = await deployment.verifier.verify(account_id(number), code=code)
            assert isinstance(outcome, Verified), outcome

    began = time.perf_counter()
    await asyncio.gather(*(call() for _ in range(in_flight)))
    return count / (time.perf_counter() - began)


async def _measure_log(everybody: Crowd, phones: Phones, server: PostgresServer) -> list[Figure]:
    """Bytes of log for each, when all pages that are touched have been written whole since the last checkpoint."""
    deployment = await open_deployment(everybody.settings)
    figures = []
    try:
        with cluster.without_page_images(server):
            for in_flight in (1, GOAL_AT):
                wal, count = cluster.Wal(server), COUNTS[in_flight]
                await _rate(deployment, phones, in_flight, count)
                name = f"written to the log for each, {in_flight} in flight"
                figures.append(Figure(name, wal.written() / count, "B"))
    finally:
        await deployment.close()
    return figures


def _figures(speeds: Speeds) -> list[Figure]:
    def rates(name: str, in_flight: int) -> list[float]:
        return [speed.rate for speed in speeds[name, in_flight]]

    def times(name: str) -> list[float]:
        return [speed.processor_us for speed in speeds[name, GOAL_AT]]

    names = (OURS, PGBENCH, PLAIN, ALONE)
    return [
        *(
            Figure(f"{name}, {in_flight} in flight", median(rates(name, in_flight)), "/s")
            for name in names
            for in_flight in COUNTS
        ),
        *(Figure(f"processor time of one, {name}, {GOAL_AT} in flight", median(times(name)), "µs") for name in names),
        Figure(f"{OURS} : {PGBENCH}, {GOAL_AT}", ratio(rates(OURS, GOAL_AT), rates(PGBENCH, GOAL_AT)), "x", GOAL),
        Figure(f"{OURS} : {PLAIN}, {GOAL_AT}", ratio(rates(OURS, GOAL_AT), rates(PLAIN, GOAL_AT)), "x", GOAL),
        Figure(f"{OURS} : {ALONE}, {GOAL_AT}", ratio(rates(OURS, GOAL_AT), rates(ALONE, GOAL_AT)), "x"),
        Figure(f"{OURS} : {ALONE}, 1", ratio(rates(OURS, 1), rates(ALONE, 1)), "x", at_least=1),
        Figure(f"{OURS} : {PLAIN}, 1", ratio(rates(OURS, 1), rates(PLAIN, 1)), "x"),
        Figure(f"processor time, {PGBENCH} : {OURS}, {GOAL_AT}", ratio(times(PGBENCH), times(OURS)), "x"),
    ]
