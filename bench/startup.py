"""From the start of the process to `listening on`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median

from bench import servers
from bench.figures import Figure
from bench.population import populate

ACCOUNTS = 10_000


def measure(*, rounds: int) -> list[Figure]:
    """The median over an existing database, and the very first start, which makes the database and its keys."""
    with tempfile.TemporaryDirectory() as folder:
        data_dir = Path(folder) / "existing"
        populate(data_dir, ACCOUNTS)
        again = [_start(data_dir) for _ in range(rounds)]
        first = [_start(Path(folder) / f"first-{number}") for number in range(rounds)]
    return [
        Figure(f"start over {ACCOUNTS:,} accounts", median(again), "s", at_most=1),
        Figure("first start", median(first), "s", at_most=1),
    ]


def _start(data_dir: Path) -> float:
    with servers.twofold(data_dir) as server:
        return server.started_in_s
