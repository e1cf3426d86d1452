"""The npm package of `clients/js`, built for the tests that use it, and applications for Node that run on it."""

import functools
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.conftest import find_program
from tests.servers import Server

PACKAGE = Path(__file__).parent.parent / "clients" / "js"
SECONDS_MAX = 300


def run_node(*command: str, folder: Path = PACKAGE, stdin: str = "", **environment: str) -> str:
    """The standard output of `node`, `npm` or what is in `node_modules`; the test fails with all that it said."""
    program = str(folder / "node_modules" / ".bin" / command[0]) if command[0] == "tsc" else find_program(command[0])
    run = subprocess.run(
        [program, *command[1:]],
        cwd=folder,
        env=os.environ | {"NO_COLOR": "1"} | environment,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if run.returncode:
        pytest.fail(f"{' '.join(command)}:\n{run.stdout}\n{run.stderr}", pytrace=False)
    return run.stdout


@functools.cache
def build_package() -> Path:
    """The package with what its tests need, compiled. `make setup` has fetched it; else it is fetched now, once."""
    find_program("node")
    if not (PACKAGE / "node_modules").exists():
        run_node("npm", "ci", "--no-audit", "--no-fund")
    run_node("tsc")
    return PACKAGE


def link_packages(folder: Path, express: str) -> None:
    """What the applications depend on, as if installed in this folder; `express` is `express4` or `express5`."""
    modules = build_package() / "node_modules"
    packages = {"express": modules / express, "@twofold/client": PACKAGE}
    packages |= {name: modules / name for name in ("express-rate-limit", "express-session", "helmet")}
    for name, package in packages.items():
        link = folder / "node_modules" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(package)


@contextmanager
def serving(script: Path, server: Server, **environment: str) -> Iterator[str]:
    """An application on a free port, with an API key of its own that names its address; the address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    url = f"http://localhost:{port}"
    created = server.command("apikey", "create", "shop", "--origin", url)
    assert created.returncode == 0, created.stderr
    key = created.stdout.strip().splitlines()[-1]
    known = {"PORT": port, "TWOFOLD_URL": f"http://localhost:{server.port}", "TWOFOLD_KEY": key, **environment}
    process = subprocess.Popen(
        [find_program("node"), script.name], cwd=script.parent, env=known, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        yield url
    finally:
        process.terminate()
        process.communicate(timeout=SECONDS_MAX)
