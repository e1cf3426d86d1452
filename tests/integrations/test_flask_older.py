"""The same tests with the oldest Flask that is served: 2.3, which `make setup` puts beside the newest one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OLDER = Path(sys.prefix) / "older"


def test_all_of_it_holds_for_the_oldest_flask_too() -> None:
    if not (OLDER / "flask").is_dir():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("Flask 2.3 is missing; `make setup` gets it")
    environment = os.environ | {"PYTHONPATH": str(OLDER)}
    version = [sys.executable, "-c", "from importlib.metadata import version; print(version('flask')[:3])"]
    assert subprocess.run(version, env=environment, capture_output=True, check=True).stdout == b"2.3\n"
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", Path(__file__).with_name("test_flask.py")]
    run = subprocess.run(tests, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
