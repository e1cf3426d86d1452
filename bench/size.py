"""Whether a server becomes slower with more accounts: the same load on a small database and on a large one."""

from __future__ import annotations

import statistics
import tempfile
from contextlib import ExitStack
from pathlib import Path

from bench import servers
from bench.figures import Figure
from bench.load import Load, Result
from bench.population import populate

IN_FLIGHT = 64
COUNT = 3_000


def measure(*, small: int, large: int, rounds: int) -> list[Figure]:
    """Median latencies over rounds in which both take turns."""
    results: dict[int, list[Result]] = {small: [], large: []}
    loads: dict[int, Load] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for accounts in results:
            data_dir = Path(folder) / str(accounts)
            key = populate(data_dir, accounts)
            server = stack.enter_context(servers.twofold(data_dir))
            loads[accounts] = stack.enter_context(Load("twofold", server.port, accounts=accounts, key=key))
            loads[accounts].run(count=COUNT, in_flight=IN_FLIGHT)
        for _ in range(rounds):
            for accounts, load in loads.items():
                results[accounts].append(load.run(count=COUNT, in_flight=IN_FLIGHT))
    p50s = {accounts: statistics.median(r.p50_ms for r in each) for accounts, each in results.items()}
    return [
        *(Figure(f"p50 of verify, {accounts:,} accounts", p50, "ms") for accounts, p50 in p50s.items()),
        Figure(f"{large:,} accounts : {small:,}", p50s[large] / p50s[small], "x", at_most=1.3),
    ]
