"""Whether a node over PostgreSQL becomes slower with more accounts: the same requests a second on two databases."""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import cluster, crowd, servers
from bench.figures import Figure, ratio
from bench.load import Load, Result

IN_FLIGHT = 64
#: Far below what a node can do, so that neither has a queue: what is compared is how long one takes.
PER_S = 300
COUNT = 3_000
_SIZE = "SELECT pg_database_size(current_database()) / 1e9::float8"


def measure(*, small: int, large: int, rounds: int, events: int = 0) -> list[Figure]:
    """Medians over rounds in which both take turns; `events` are those of the large database."""
    if not cluster.is_installed():
        return []
    results: dict[int, list[Result]] = {small: [], large: []}
    loads: dict[int, Load] = {}
    sizes: dict[int, float] = {}
    with cluster.running() as server, tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        began = time.perf_counter()
        for accounts in results:
            everybody = crowd.gather(server, Path(folder), accounts=accounts, events=events if accounts == large else 0)
            node = stack.enter_context(servers.twofold(everybody.data_dir, database_url=everybody.url))
            loads[accounts] = stack.enter_context(everybody.load(node.port))
            sizes[accounts] = server.sql(_SIZE, database=everybody.name)[0][0]
        filled_in_s = time.perf_counter() - began
        for load in loads.values():
            load.run(count=COUNT, in_flight=IN_FLIGHT, per_s=PER_S)
        for _ in range(rounds):
            for accounts, load in loads.items():
                results[accounts].append(load.run(count=COUNT, in_flight=IN_FLIGHT, per_s=PER_S))
    p99s = {accounts: [result.p99_ms for result in each] for accounts, each in results.items()}
    p50s = {accounts: [result.p50_ms for result in each] for accounts, each in results.items()}
    return [
        *(
            Figure(f"{name} of verify at {PER_S} a second, {accounts:,} accounts", median(each), "ms")
            for name, values in (("p50", p50s), ("p99", p99s))
            for accounts, each in values.items()
        ),
        Figure(f"p50, {large:,} accounts : {small:,}", ratio(p50s[large], p50s[small]), "x"),
        Figure(f"p99, {large:,} accounts : {small:,}", ratio(p99s[large], p99s[small]), "x", at_most=1.3),
        Figure(f"the database of {large:,} accounts", sizes[large], "GB"),
        Figure("both filled in", filled_in_s, "s"),
    ]
