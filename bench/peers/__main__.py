"""`python -m bench.peers FOLDER`: Twofold beside privacyIDEA, which is installed into that folder the first time."""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.postgres import PostgresServer

from bench import cluster, crowd, servers
from bench.figures import Figure, as_text, ratio
from bench.load import Load, Result
from bench.page import write_page
from bench.peers import privacyidea
from bench.servers import Server, processor_s

ROUNDS = 3
#: As fast as it goes, and with so few requests in flight that they hardly wait for each other.
BUSY, CALM = 64, 4
ACCOUNTS = 100_000
GOAL = 150


class Contender(NamedTuple):
    """A server and its client, and how many requests a measurement has time for."""

    name: str
    node: Server
    load: Load
    requests: int


class Turn(NamedTuple):
    """What one round said of one contender."""

    busy: Result
    calm: Result
    node_ms: float
    database_ms: float


def measure(folder: Path) -> list[Figure]:
    """Medians over rounds in which both take turns; the database server is the same."""
    environment = privacyidea.install(folder)
    turns: dict[str, list[Turn]] = {}
    with cluster.running() as server, tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        everybody = crowd.gather(server, Path(scratch), accounts=ACCOUNTS)
        ours = servers.twofold(everybody.data_dir, database_url=everybody.url, workers=privacyidea.WORKERS)
        node = stack.enter_context(ours)
        contenders = [Contender("Twofold", node, stack.enter_context(everybody.load(node.port)), 6_000)]
        count = 80
        tokens = 2 * (ROUNDS + 1) * count
        url = server.url(server.create_database(is_prepared=False))
        node = stack.enter_context(privacyidea.serving(environment, Path(scratch), url, tokens))
        load = stack.enter_context(Load("privacyidea", node.port, accounts=tokens))
        contenders.append(Contender("privacyIDEA", node, load, count))
        for contender in contenders:
            _take_turn(contender, server)
        for _ in range(ROUNDS):
            for contender in contenders:
                turns.setdefault(contender.name, []).append(_take_turn(contender, server))
    return _figures(turns)


def _take_turn(contender: Contender, server: PostgresServer) -> Turn:
    node_s, database_s = processor_s(contender.node.pid), processor_s(server.pid)
    busy = contender.load.run(count=contender.requests, in_flight=BUSY)
    node_ms = (processor_s(contender.node.pid) - node_s) * 1000 / contender.requests
    database_ms = (processor_s(server.pid) - database_s) * 1000 / contender.requests
    return Turn(busy, contender.load.run(count=contender.requests, in_flight=CALM), node_ms, database_ms)


def _figures(turns: dict[str, list[Turn]]) -> list[Figure]:
    figures = []
    for name, each in turns.items():
        figures += [
            Figure(f"{name}: right codes, {BUSY} in flight", median(turn.busy.rate for turn in each), "/s"),
            Figure(f"{name}: p50, {CALM} in flight", median(turn.calm.p50_ms for turn in each), "ms"),
            Figure(f"{name}: p99, {CALM} in flight", median(turn.calm.p99_ms for turn in each), "ms"),
            Figure(f"{name}: processor time of a request", median(turn.node_ms for turn in each), "ms"),
            Figure(f"{name}: that of the database", median(turn.database_ms for turn in each), "ms"),
        ]
    ours, theirs = turns.values()
    rates = ratio([turn.busy.rate for turn in ours], [turn.busy.rate for turn in theirs])
    times = ratio([turn.node_ms for turn in theirs], [turn.node_ms for turn in ours])
    figures.append(Figure("right codes, Twofold : privacyIDEA", rates, "x", at_least=GOAL))
    figures.append(Figure("processor time, privacyIDEA : Twofold", times, "x"))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("folder", type=Path, help="where privacyIDEA is, or will be, installed")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/benchmarks.md")
    arguments = parser.parse_args()
    figures = measure(arguments.folder.absolute())
    print(as_text(figures))
    if arguments.write:
        write_page({"Beside another system": figures})


if __name__ == "__main__":
    main()
