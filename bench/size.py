"""Whether a server becomes slower with more accounts: the same load on a small database and on a large one."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import servers
from bench.figures import Figure, ratio
from bench.load import Load
from bench.population import populate

IN_FLIGHT = 64
COUNT = 3_000


def measure(*, small: int, large: int, rounds: int) -> list[Figure]:
    """Median latencies over rounds in which both take turns."""
    p50s: dict[int, list[float]] = {small: [], large: []}
    loads: dict[int, Load] = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        for accounts in p50s:
            data_dir = Path(folder) / str(accounts)
            key = populate(data_dir, accounts)
            server = stack.enter_context(servers.twofold(data_dir))
            loads[accounts] = stack.enter_context(Load("twofold", server.port, accounts=accounts, key=key))
            loads[accounts].run(count=COUNT, in_flight=IN_FLIGHT)
        for _ in range(rounds):
            for accounts, load in loads.items():
                p50s[accounts].append(load.run(count=COUNT, in_flight=IN_FLIGHT).p50_ms)
    return [
        *(Figure(f"p50 of verify, {accounts:,} accounts", median(each), "ms") for accounts, each in p50s.items()),
        Figure(f"{large:,} accounts : {small:,}", ratio(p50s[large], p50s[small]), "x", at_most=1.3),
    ]
