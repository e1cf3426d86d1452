"""`BlockingVerifier` in somebody's Flask application, against the dict and pyotp of the tutorials, both under gunicorn.

All of them stand beside each other, ours over one SQLite file, and take turns under the same load client.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench import servers
from bench.figures import Figure, ratio
from bench.load import Load
from bench.population import populate
from bench.servers import Server

IN_FLIGHT = 64
COUNT = 3_000
GOAL = 0.7


class Way(NamedTuple):
    """How gunicorn is started."""

    name: str
    workers: int
    has_threads: bool


WAYS = (
    Way("1 worker with threads", 1, True),
    Way("2 workers with threads", 2, True),
    Way("1 worker without", 1, False),
    Way("2 workers without", 2, False),
)
WRONG_CODES_IN = 1


def measure(*, accounts: int, rounds: int) -> list[Figure]:
    """Requests a second of both, medians over rounds in which all servers take turns."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        populate(Path(folder), accounts)
        environment = {"DATABASE": f"sqlite:///{folder}/twofold.db", "ACCOUNTS": str(accounts)}

        def started(application: str) -> list[Server]:
            return [
                stack.enter_context(
                    servers.gunicorn(application, environment, workers=way.workers, has_threads=way.has_threads)
                )
                for way in WAYS
            ]

        ours, tutorial = started("bench.embedded:app"), started("bench.tutorial:app")
        figures = []
        for kind, codes, ways in (("other", "right", range(len(WAYS))), ("wrong", "wrong", [WRONG_CODES_IN])):
            # Each side has phones of its own: to both each code is new.
            load = stack.enter_context(Load(kind, ours[0].port, accounts=accounts))
            tutorial_load = stack.enter_context(Load(kind, tutorial[0].port, accounts=accounts))
            for n in ways:
                rates = _in_turns(load, ours[n], rounds, tutorial_load, tutorial[n])
                figures += _figures(f"{WAYS[n].name}, {codes} codes", *rates)
        return figures


def _in_turns(
    load: Load, ours: Server, rounds: int, tutorial_load: Load, tutorial: Server
) -> tuple[list[float], list[float]]:
    """The rates of both in each round but the first, which warms them up."""
    pairs = [
        (
            load.run(count=COUNT, in_flight=IN_FLIGHT, port=ours.port).rate,
            tutorial_load.run(count=COUNT, in_flight=IN_FLIGHT, port=tutorial.port).rate,
        )
        for _ in range(1 + rounds)
    ]
    return [rate for rate, _ in pairs[1:]], [rate for _, rate in pairs[1:]]


def _figures(name: str, ours: list[float], tutorial: list[float]) -> list[Figure]:
    return [
        Figure(f"{name}: BlockingVerifier", median(ours), "/s"),
        Figure(f"{name}: a dict and pyotp", median(tutorial), "/s"),
        Figure(f"{name}: ratio", ratio(ours, tutorial), "x", at_least=GOAL),
    ]
