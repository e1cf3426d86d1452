"""The same tests with the oldest Django that is served: 4.2, which `make setup` puts beside the newest one."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

OLDER = Path(sys.prefix) / "older"


def test_all_of_it_holds_for_the_oldest_django_too() -> None:
    if not (OLDER / "django").is_dir():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)("Django 4.2 is missing; `make setup` gets it")
    environment = os.environ | {"PYTHONPATH": str(OLDER)}
    version = [sys.executable, "-c", "import django; print(django.VERSION[:2])"]
    assert subprocess.run(version, env=environment, capture_output=True, check=True).stdout == b"(4, 2)\n"
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--ignore",
        __file__,
        Path(__file__).parent,
    ]
    run = subprocess.run(tests, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
