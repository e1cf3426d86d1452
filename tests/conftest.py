"""What every test may rely on: repeatable examples, real programs that are found or asked for by name, and visitors."""

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = ["tests.forms", "tests.browsers", "tests.people", "tests.postgres"]

# Each run draws the same examples, however slow the machine: a red test is red again. `make soak` draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("repeatable")

# A run that is told to end (by a time limit, by CI) ends what it has started, as it does at Ctrl-C.
signal.signal(signal.SIGTERM, signal.default_int_handler)

_PACKAGES = {
    "oathtool": {
        "apt-get": "sudo apt-get install oathtool",
        "dnf": "sudo dnf install oathtool",
        "pacman": "sudo pacman -S oath-toolkit",
        "apk": "sudo apk add oath-toolkit-oathtool",
        "brew": "brew install oath-toolkit",
    },
    "curl": {
        "apt-get": "sudo apt-get install curl",
        "dnf": "sudo dnf install curl",
        "pacman": "sudo pacman -S curl",
        "apk": "sudo apk add curl",
        "brew": "brew install curl",
    },
    "chromium": {
        "apt-get": "sudo apt-get install chromium",
        "dnf": "sudo dnf install chromium",
        "pacman": "sudo pacman -S chromium",
        "apk": "sudo apk add chromium",
        "brew": "brew install --cask chromium",
    },
    "nginx": {
        "apt-get": "sudo apt-get install nginx",
        "dnf": "sudo dnf install nginx",
        "pacman": "sudo pacman -S nginx",
        "apk": "sudo apk add nginx",
        "brew": "brew install nginx",
    },
    "caddy": {
        "apt-get": "sudo apt-get install caddy",
        "dnf": "sudo dnf install caddy",
        "pacman": "sudo pacman -S caddy",
        "apk": "sudo apk add caddy",
        "brew": "brew install caddy",
    },
    "node": {
        "apt-get": "sudo apt-get install nodejs",
        "dnf": "sudo dnf install nodejs",
        "pacman": "sudo pacman -S nodejs",
        "apk": "sudo apk add nodejs",
        "brew": "brew install node",
    },
    "npm": {
        "apt-get": "sudo apt-get install npm",
        "dnf": "sudo dnf install nodejs-npm",
        "pacman": "sudo pacman -S npm",
        "apk": "sudo apk add npm",
        "brew": "brew install node",
    },
    "openssl": {
        "apt-get": "sudo apt-get install openssl",
        "dnf": "sudo dnf install openssl",
        "pacman": "sudo pacman -S openssl",
        "apk": "sudo apk add openssl",
        "brew": "brew install openssl",
    },
    "softhsm2-util": {
        "apt-get": "sudo apt-get install softhsm2",
        "dnf": "sudo dnf install softhsm",
        "pacman": "sudo pacman -S softhsm",
        "apk": "sudo apk add softhsm",
        "brew": "brew install softhsm",
    },
    "systemd-analyze": {
        "apt-get": "sudo apt-get install systemd",
        "dnf": "sudo dnf install systemd",
        "pacman": "sudo pacman -S systemd",
    },
    "postgres": {
        "apt-get": "sudo apt-get install postgresql",
        "dnf": "sudo dnf install postgresql-server",
        "pacman": "sudo pacman -S postgresql",
        "apk": "sudo apk add postgresql",
        "brew": "brew install postgresql@17",
    },
}
#: The same program elsewhere, under other names; of the places that match a pattern, the newest version.
OTHER_NAMES = {
    # not on the PATH of everybody
    "nginx": ("/usr/sbin/nginx",),
    "postgres": (
        "/usr/lib/postgresql/*/bin/postgres",
        "/usr/pgsql-*/bin/postgres",
        "/usr/libexec/postgresql*/postgres",
        "/opt/homebrew/opt/postgresql@*/bin/postgres",
        "/usr/local/opt/postgresql@*/bin/postgres",
    ),
    "chromium": (
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
        "chrome",
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
        "/Applications/Chromium.app/Contents/MacOS/Chromium",
    ),
}


def find_program(name: str) -> str:
    """The path of a program.

    Where the program is missing the test is skipped and listed at the end with the command that installs it; in CI
    (`CI=true`) it fails, so nothing goes unproven there unseen.
    """
    places = (place for other in (name, *OTHER_NAMES.get(name, ())) for place in _expand(other))
    path = next(filter(None, map(shutil.which, places)), None)
    if path is None:
        commands = (command for tool, command in _PACKAGES[name].items() if shutil.which(tool))
        missing = f"{name} is missing; this installs it: {next(commands, 'your package manager')}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return path


def _expand(place: str) -> list[str]:
    """The places that a pattern stands for, the one with the highest number first."""
    if "*" not in place:
        return [place]
    return sorted(map(str, Path("/").glob(place.removeprefix("/"))), key=_numbers, reverse=True)


def _numbers(place: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", place)]


@pytest.fixture
def require_program() -> Callable[[str], str]:
    """Give `find_program` to a test."""
    return find_program
