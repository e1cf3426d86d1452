"""Verifications a second of the engine on PostgreSQL, against the database alone; and what they write to its log."""

from __future__ import annotations

import asyncio
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
from twofold.bootstrap import Deployment, open_deployment
from twofold.core.decision import Verified

#: How many verifications are in flight, and how many are measured at once.
COUNTS = {1: 1_500, 16: 6_000, 64: 8_000, 256: 8_000}
GOAL_AT = 64


def measure(*, accounts: int, rounds: int) -> list[Figure]:
    """Medians over rounds in which all sides take turns."""
    if not cluster.is_installed():
        return []
    with cluster.running() as server, tempfile.TemporaryDirectory() as folder:
        everybody = crowd.gather(server, Path(folder), accounts=accounts)
        asyncio.run(copy_tables(everybody.url))
        phones = everybody.phones()
        rates = uvloop.run(_measure(everybody, phones, rounds))
        logged = uvloop.run(_measure_log(everybody, phones, server))
    return [*_figures(rates), *logged]


class Rates(NamedTuple):
    """What one number of calls in flight reached, one round after the other."""

    ours: list[float]
    pgbench: list[float]
    plain: list[float]
    alone: list[float]


async def _measure(everybody: Crowd, phones: Phones, rounds: int) -> dict[int, Rates]:
    settings = everybody.settings
    rates = {in_flight: Rates([], [], [], []) for in_flight in COUNTS}
    async with AsyncExitStack() as stack:
        ours = await open_deployment(settings)
        stack.push_async_callback(ours.close)
        alone = await open_deployment(msgspec.structs.replace(settings, batch="off"))
        stack.push_async_callback(alone.close)
        plain = await stack.enter_async_context(PlainTransactions(everybody.url, everybody.accounts, max(COUNTS)))
        pgbench = partial(pgbench_rate, everybody.url, everybody.accounts)
        await _rate(ours, phones, GOAL_AT, COUNTS[GOAL_AT])
        for _ in range(rounds):
            for in_flight, count in COUNTS.items():
                each = rates[in_flight]
                each.ours.append(await _rate(ours, phones, in_flight, count))
                each.pgbench.append(await asyncio.to_thread(pgbench, clients=in_flight, count=count))
                each.plain.append(await plain.rate(in_flight=in_flight, count=count))
                each.alone.append(await _rate(alone, phones, in_flight, count // 2))
    return rates


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


def _figures(rates: dict[int, Rates]) -> list[Figure]:
    at_goal, lone = rates[GOAL_AT], rates[1]
    return [
        *(Figure(f"engine, {in_flight} in flight", median(each.ours), "/s") for in_flight, each in rates.items()),
        *(Figure(f"pgbench, {in_flight} clients", median(each.pgbench), "/s") for in_flight, each in rates.items()),
        *(
            Figure(f"a transaction for each attempt, {in_flight} connections", median(each.plain), "/s")
            for in_flight, each in rates.items()
        ),
        *(
            Figure(f"engine with BATCH=off, {in_flight} in flight", median(each.alone), "/s")
            for in_flight, each in rates.items()
        ),
        Figure(f"engine : pgbench, {GOAL_AT}", ratio(at_goal.ours, at_goal.pgbench), "x", at_least=1.5),
        Figure(f"engine : a transaction for each, {GOAL_AT}", ratio(at_goal.ours, at_goal.plain), "x", at_least=1.5),
        Figure("engine : a transaction for each, 1", ratio(lone.ours, lone.plain), "x", at_least=1),
        Figure(f"engine : BATCH=off, {GOAL_AT}", ratio(at_goal.ours, at_goal.alone), "x"),
    ]
