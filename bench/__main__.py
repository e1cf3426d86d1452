"""`python -m bench [--quick] [--write]`: prints all figures; `--write` puts them into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from bench import engine, http, keys, otp, passkey, size, startup
from bench.figures import Figure, as_text
from bench.page import write_page

ACCOUNTS = 100_000
Section = tuple[str, Callable[[], list[Figure]]]


def sections(*, quick: bool) -> list[Section]:
    """What is measured, in the order of the page."""
    rounds = 3 if quick else 5
    small, large = (10_000, 100_000) if quick else (10_000, 1_000_000)
    return [
        ("One code", lambda: otp.measure(rounds=4 * rounds)),
        ("One passkey", lambda: passkey.measure(rounds=4 * rounds)),
        ("The engine on SQLite", lambda: engine.measure(accounts=ACCOUNTS, rounds=rounds)),
        ("Seeds under keys", lambda: keys.measure(rounds=rounds)),
        ("Over HTTP, one worker", lambda: http.measure(accounts=ACCOUNTS, rounds=rounds)),
        ("More accounts", lambda: size.measure(small=small, large=large, rounds=rounds)),
        ("Start-up", lambda: startup.measure(rounds=rounds)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer accounts and rounds: two minutes instead of five")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/benchmarks.md")
    arguments = parser.parse_args()
    measured: dict[str, list[Figure]] = {}
    began = time.monotonic()
    for title, measure in sections(quick=arguments.quick):
        print(f"\n{title}", flush=True)
        measured[title] = measure()
        print(as_text(measured[title]), flush=True)
    print(f"\nin {time.monotonic() - began:.0f} s")
    if arguments.write:
        write_page(measured)


if __name__ == "__main__":
    main()
