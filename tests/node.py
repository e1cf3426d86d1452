"""The npm package of `clients/js`, built for the tests that use it, and a folder as somebody has who installed it."""

import functools
import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.conftest import find_program

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


def install(application: Path, folder: Path, **instead: str) -> Path:
    """A copy of an application in a folder of its own, with the packages it depends on; `instead` names another
    package for one of them. They are links: nothing is fetched."""
    package = build_package()
    (folder / "package.json").write_text((application / "package.json").read_text())
    (folder / "app.js").write_text((application / "app.js").read_text())
    (folder / "node_modules" / "@twofold").mkdir(parents=True)
    for name in json.loads((application / "package.json").read_text())["dependencies"]:
        target = package if name == "@twofold/client" else package / "node_modules" / instead.get(name, name)
        (folder / "node_modules" / name).symlink_to(target)
    return folder
