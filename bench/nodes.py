"""`verify` over HTTP and PostgreSQL, by one worker and by two; and what a node needs of memory.

Server, database and client share the processors of this machine, so a second worker has what the others leave.
"""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from statistics import median

from bench import cluster, crowd, servers
from bench.crowd import Crowd
from bench.figures import Figure, ratio
from bench.load import Result
from bench.servers import Server

WORKERS = (1, 2)
COUNTS = {1: 1_000, 16: 4_000, 64: 6_000, 256: 6_000}
GOAL_AT = 64


def measure(*, accounts: int, rounds: int) -> list[Figure]:
    """Medians over rounds in which both take turns."""
    if not cluster.is_installed():
        return []
    results: dict[tuple[int, int], list[Result]] = {}
    with cluster.running() as server, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        everybody = crowd.gather(server, Path(folder), accounts=accounts)
        nodes = {workers: stack.enter_context(_serve(everybody, workers)) for workers in WORKERS}
        # One client for all, so that no code is sent twice.
        load = stack.enter_context(everybody.load(nodes[1].port))
        for node in nodes.values():
            load.run(count=2_000, in_flight=GOAL_AT, port=node.port)
        for _ in range(rounds):
            for in_flight, count in COUNTS.items():
                for workers, node in nodes.items():
                    result = load.run(count=count, in_flight=in_flight, port=node.port)
                    results.setdefault((workers, in_flight), []).append(result)
        resident_mb = nodes[1].resident_mb
    rates = {key: [result.rate for result in each] for key, each in results.items()}
    one = results[1, GOAL_AT]
    return [
        *(
            Figure(f"verify, {_spell(workers)}, {in_flight} in flight", median(each), "/s")
            for (workers, in_flight), each in sorted(rates.items())
        ),
        Figure(f"two workers : one, {GOAL_AT} in flight", ratio(rates[2, GOAL_AT], rates[1, GOAL_AT]), "x"),
        Figure(f"p50 of verify, one worker, {GOAL_AT} in flight", median(r.p50_ms for r in one), "ms"),
        Figure(f"p99 of verify, one worker, {GOAL_AT} in flight", median(r.p99_ms for r in one), "ms"),
        Figure(f"resident after that, with {accounts:,} accounts", resident_mb, "MB", at_most=150),
    ]


def _serve(everybody: Crowd, workers: int) -> AbstractContextManager[Server]:
    return servers.twofold(everybody.data_dir, database_url=everybody.url, workers=workers)


def _spell(workers: int) -> str:
    return "one worker" if workers == 1 else f"{workers} workers"
