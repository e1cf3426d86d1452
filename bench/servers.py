"""The servers that are measured, each as a process of its own on a free port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

START_S_MAX = 30


class Server(NamedTuple):
    """A server that runs."""

    port: int
    pid: int
    started_in_s: float

    @property
    def resident_mb(self) -> float:
        """Its resident memory."""
        asked = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(self.pid)],  # noqa: S607 - wherever this system has it
            capture_output=True,
            text=True,
            check=True,
        )
        return int(asked.stdout) / 1024


@contextmanager
def twofold(data_dir: Path, *, database_url: str | None = None, workers: int = 1) -> Iterator[Server]:
    """`twofold serve` over a folder, or over a database and the key in that folder; it has started when it says so."""
    command = [sys.executable, "-m", "twofold", "serve", "--port", "0", "--data-dir", str(data_dir)]
    command += ["--workers", str(workers)]
    environment = {**os.environ, **({"TWOFOLD_DATABASE_URL": database_url} if database_url else {})}
    began = time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            started_in_s = time.perf_counter() - began
            assert greeting.startswith("listening on "), greeting
            yield Server(int(greeting.rpartition(":")[2]), process.pid, started_in_s)
        finally:
            process.terminate()


@contextmanager
def bare() -> Iterator[Server]:
    """Starlette on uvicorn, doing nothing."""
    port = free_port()
    with other([sys.executable, "-m", "bench.bare", str(port)], port) as server:
        yield server


@contextmanager
def tutorial(accounts: int) -> Iterator[Server]:
    """Flask and pyotp under gunicorn, in one worker with threads."""
    with gunicorn("bench.tutorial:app", {"ACCOUNTS": str(accounts)}) as server:
        yield server


@contextmanager
def gunicorn(
    application: str, environment: Mapping[str, str], *, workers: int = 1, has_threads: bool = True
) -> Iterator[Server]:
    """An application under gunicorn. Workers with threads keep connections and have the most threads that its manual
    advises (four for each processor; with fewer the tutorial was slower here); the others answer one request after
    the other, each over a connection of its own."""
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", str(workers), "--log-level", "error"]
    if has_threads:
        command += ["--threads", str(4 * (os.cpu_count() or 1)), "--worker-connections", "1000", "--keep-alive", "30"]
    with other([*command, "--bind", f"127.0.0.1:{port}", application], port, environment) as server:
        yield server


@contextmanager
def other(command: Sequence[str], port: int, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Any server that listens on that port when it has started."""
    began = time.perf_counter()
    with subprocess.Popen(command, env={**os.environ, **(environment or {})}) as process:
        try:
            while not _listens(port):
                assert process.poll() is None
                assert time.perf_counter() - began < START_S_MAX
                time.sleep(0.05)
            yield Server(port, process.pid, time.perf_counter() - began)
        finally:
            process.terminate()


def processor_s(pid: int) -> float:
    """The processor time of a process and of its children, in seconds."""
    ticks = 0
    for file in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = file.read_text().rpartition(")")[2].split()
            parent, *spent = (int(fields[place]) for place in (1, 11, 12, 13, 14))
            if file.parent.name == str(pid):
                # With that of its children that have ended.
                ticks += sum(spent)
            elif parent == pid:
                ticks += sum(spent[:2])
    return ticks / os.sysconf("SC_CLK_TCK")


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
