"""`BlockingVerifier` in somebody's Flask application, against the tutorial's dict and pyotp: the same gunicorn around both.

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
        for kind, codes in (("other", "right"), ("wrong", "wrong")):
            # Each side has phones of its own: to both each code is new.
            load = stack.enter_context(Load(kind, ours[0].port, accounts=accounts))
            tutorial_load = stack.enter_context(Load(kind, tutorial[0].port, accounts=accounts))
            for way, here, there in zip(WAYS, ours, tutorial, strict=True):
                rates, tutorial_rates = list[float](), list[float]()
                for n in range(1 + rounds):
                    rate = load.run(count=COUNT, in_flight=IN_FLIGHT, port=here.port).rate
                    tutorial_rate = tutorial_load.run(count=COUNT, in_flight=IN_FLIGHT, port=there.port).rate
                    # The first round warms them up.
                    if n > 0:
                        rates.append(rate)
                        tutorial_rates.append(tutorial_rate)
                figures += [
                    Figure(f"{way.name}, {codes} codes: BlockingVerifier", median(rates), "/s"),
                    Figure(f"{way.name}, {codes} codes: a dict and pyotp", median(tutorial_rates), "/s"),
                    Figure(f"{way.name}, {codes} codes: ratio", ratio(rates, tutorial_rates), "x", at_least=GOAL),
                ]
        return figures
