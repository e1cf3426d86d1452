"""`python -m bench [--quick] [--write]`: prints all figures; `--write` puts them into docs/benchmarks.md."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

from bench import engine, gunicorn, http, keys, many, nodes, otp, passkey, postgres, profile, size, startup, wal
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
        ("Under gunicorn", lambda: gunicorn.measure(accounts=ACCOUNTS, rounds=rounds)),
        ("More accounts", lambda: size.measure(small=small, large=large, rounds=rounds)),
        ("Start-up", lambda: startup.measure(rounds=rounds)),
        ("The engine on PostgreSQL", lambda: postgres.measure(accounts=ACCOUNTS, rounds=rounds)),
        ("Over HTTP and PostgreSQL", lambda: nodes.measure(accounts=ACCOUNTS, rounds=rounds)),
        ("More accounts on PostgreSQL", lambda: many.measure(small=small, large=large, rounds=rounds)),
        ("What PostgreSQL writes", lambda: wal.measure(accounts=2 * ACCOUNTS)),
        ("Where the time goes", lambda: profile.measure(accounts=ACCOUNTS, rounds=rounds)),
    ]


def long_sections() -> list[Section]:
    """What takes so long that it is measured apart: half an hour or less, and 30 GB of disk."""
    return [
        (
            "Many accounts on PostgreSQL",
            lambda: many.measure(small=10_000, large=5_000_000, events=50_000_000, rounds=5),
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer accounts and rounds: five minutes instead of ten")
    parser.add_argument("--soak", action="store_true", help="what takes half an hour and 30 GB of disk instead")
    parser.add_argument("--only", metavar="TITLE", help="one section of them")
    parser.add_argument("--write", action="store_true", help="write the figures into docs/benchmarks.md")
    arguments = parser.parse_args()
    measured: dict[str, list[Figure]] = {}
    began = time.monotonic()
    chosen = long_sections() if arguments.soak else sections(quick=arguments.quick)
    for title, measure in chosen:
        if arguments.only not in (None, title):
            continue
        print(f"\n{title}", flush=True)
        measured[title] = measure()
        print(as_text(measured[title]), flush=True)
    print(f"\nin {time.monotonic() - began:.0f} s")
    if arguments.write:
        write_page(measured)


if __name__ == "__main__":
    main()
