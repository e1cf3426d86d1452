"""`verify` over HTTP with one worker, against the bare framework and against the tutorial's server; and memory.

All servers stand beside each other and take turns under the same load client.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from bench import servers
from bench.figures import Figure, ratio
from bench.load import Load, Result
from bench.population import populate

COUNTS = {1: 1_500, 16: 6_000, 64: 8_000, 256: 8_000}
TUTORIAL_COUNT = 4_000
TUTORIAL_ACCOUNTS = 10_000
GOAL_AT = 64


def measure(*, accounts: int, rounds: int) -> list[Figure]:
    """Medians over rounds in which all servers take turns."""
    ours: dict[int, list[Result]] = {in_flight: [] for in_flight in COUNTS}
    bare, tutorial = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        key = populate(Path(folder), accounts)
        server = stack.enter_context(servers.twofold(Path(folder)))
        bare_server = stack.enter_context(servers.bare())
        tutorial_server = stack.enter_context(servers.tutorial(TUTORIAL_ACCOUNTS))
        load = stack.enter_context(Load("twofold", server.port, accounts=accounts, key=key))
        bare_load = stack.enter_context(Load("other", bare_server.port, accounts=accounts))
        tutorial_load = stack.enter_context(Load("other", tutorial_server.port, accounts=TUTORIAL_ACCOUNTS))
        for each in (load, bare_load, tutorial_load):
            each.run(count=2_000, in_flight=GOAL_AT)
        for _ in range(rounds):
            bare.append(bare_load.run(count=COUNTS[GOAL_AT], in_flight=GOAL_AT).rate)
            for in_flight, count in COUNTS.items():
                ours[in_flight].append(load.run(count=count, in_flight=in_flight))
            tutorial.append(tutorial_load.run(count=TUTORIAL_COUNT, in_flight=GOAL_AT).rate)
        resident_mb = server.resident_mb
    rates = {in_flight: [result.rate for result in each] for in_flight, each in ours.items()}
    return [
        *(Figure(f"verify, {in_flight} in flight", median(each), "/s") for in_flight, each in rates.items()),
        Figure(f"bare Starlette, {GOAL_AT} in flight", median(bare), "/s"),
        Figure(f"Flask, a dict and pyotp, {GOAL_AT} in flight", median(tutorial), "/s"),
        Figure("verify : bare Starlette", ratio(rates[GOAL_AT], bare), "x", at_least=0.45),
        Figure("verify : Flask, a dict and pyotp", ratio(rates[GOAL_AT], tutorial), "x", at_least=1.5),
        Figure(f"p50 of verify, {GOAL_AT} in flight", median(r.p50_ms for r in ours[GOAL_AT]), "ms"),
        Figure(f"p99 of verify, {GOAL_AT} in flight", median(r.p99_ms for r in ours[GOAL_AT]), "ms"),
        Figure(f"resident after that, with {accounts:,} accounts", resident_mb, "MB", at_most=100),
    ]
