"""docs/benchmarks.md: the words are written there by hand, the tables between the marks are written by `--write`."""

from __future__ import annotations

import os
import platform
import re
import sqlite3
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench import cluster
from bench.figures import Figure, as_table

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PACKAGES = (
    "twofold",
    "starlette",
    "uvicorn",
    "uvloop",
    "msgspec",
    "cryptography",
    "asyncpg",
    "pyotp",
    "flask",
    "gunicorn",
)


def write_page(measured: Mapping[str, Sequence[Figure]]) -> None:
    """Exchange the table under each title that was measured, and the line that says where and when."""
    page = _exchange(PAGE.read_text("utf-8"), "where", _where())
    for title, figures in measured.items():
        if not figures:
            continue
        page = _exchange(page, title, as_table(figures))
    PAGE.write_text(page, "utf-8")


def _exchange(page: str, name: str, text: str) -> str:
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    assert pattern.search(page), f"docs/benchmarks.md has no place for {name!r}"
    return pattern.sub(lambda _: f"{begin}\n\n{text}\n\n{end}", page)


def _where() -> str:
    kernel = platform.release().partition("-")[0]
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    # Without what a distribution adds to it.
    kernel = platform.release().partition("-")[0]
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} with {_processors()}, {platform.system()} {kernel}, "
        f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {cluster.version()}{versions}."
    )


def _processors() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    return f"{os.cpu_count()} processors ({model[1] if model else platform.processor() or platform.machine()})"
