"""What every test may rely on: repeatable examples, and real programs that are found or asked for by name."""

import os
import shutil
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# Each run draws the same examples, however slow the machine: a red test is red again. `make soak` draws new ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", max_examples=2_000, deadline=None, print_blob=True)
settings.load_profile("repeatable")

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
}


@pytest.fixture
def require_program() -> Callable[[str], str]:
    """Give a function from a program's name to its path.

    Where the program is missing the test is skipped and listed at the end with the command that installs it; in CI
    (`CI=true`) it fails, so nothing goes unproven there unseen.
    """

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            commands = (command for tool, command in _PACKAGES[name].items() if shutil.which(tool))
            missing = f"{name} is missing; this installs it: {next(commands, 'your package manager')}"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
        return path

    return find
