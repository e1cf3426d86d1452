"""What README.md shows of the terminal and of HTTP, typed as it stands there; `oathtool` is the phone."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest
from tests.cli.conftest import Clock, Phone
from tests.cli.test_howto_personal import PROMPT, Reader
from tests.servers import running
from tests.test_docs_console import COMMANDS, DOCS, SERVED_AT, check_printed, environment

README = (DOCS.parent / "README.md").read_text(encoding="utf-8")


def commands(title: str) -> list[tuple[str, str]]:
    """The commands of the console block below that heading, without remarks, and what each is said to print."""
    block = README.split(f"\n## {title}\n", 1)[1].split("```console\n", 1)[1].split("```", 1)[0]
    entries = (entry.partition("\n") for entry in block.split("$ ", 1)[1].split("\n$ "))
    return [(command.split("  #")[0].rstrip(), printed) for command, _, printed in entries]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `make` was run."""
    monkeypatch.delenv("TWOFOLD_DATA_DIR")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(COMMANDS)
    return tmp_path


def enroll_bob(checkout: Path, clock: Clock, new_phone: Callable[[str], Phone]) -> list[list[str]]:
    """Follow the commands of the terminal, and give what each printed."""
    shell = pexpect.spawn(
        "/bin/sh",
        env={**environment(checkout), "PS1": PROMPT, "TWOFOLD_TEST_CLOCK": str(checkout / "clock")},
        cwd=str(checkout),
        encoding="utf-8",
        timeout=20,
        dimensions=(60, 160),
    )
    try:
        reader = Reader(shell, clock, new_phone)
        return [reader.follow(command, []) for command, _ in commands("In a terminal")]
    finally:
        shell.close(force=True)


def test_the_terminal_of_the_readme_leads_to_a_verified_code(
    checkout: Path, clock: Clock, new_phone: Callable[[str], Phone]
) -> None:
    added, enrolled, verified = enroll_bob(checkout, clock, new_phone)
    assert added[0].startswith("added bob")
    assert "confirmed: totp is active for bob" in enrolled
    assert verified[-1] == "verified (totp)"


def test_the_http_of_the_readme_is_answered_as_it_shows(
    checkout: Path, clock: Clock, new_phone: Callable[[str], Phone], require_program: Callable[[str], str]
) -> None:
    require_program("curl")
    enroll_bob(checkout, clock, new_phone)
    (make_key, _), (ask, shown) = commands("Over HTTP")
    with running(checkout / "twofold-data") as server:
        script = f"{make_key}\n{ask}".replace(SERVED_AT, f"http://localhost:{server.port}")
        told = subprocess.run(
            ["bash", "-ec", script], cwd=checkout, env=environment(checkout), capture_output=True, text=True, check=True
        )
    assert json.loads(told.stdout)["verified"] is False
    check_printed(shown, told.stdout)
