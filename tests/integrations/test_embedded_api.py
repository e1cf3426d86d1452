"""`docs/embedded-api.md` is followed in a shell beside the example application that it speaks of."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyotp
import pytest
from tests.test_docs_console import DOCS, Shell, check_printed, environment
from tests.test_docs_https import free_port

from twofold import BlockingVerifier
from twofold.server.pages.door import door_routes

PAGE = DOCS / "embedded-api.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = DOCS.parent / "examples"
SERVED_AT = "http://localhost:5000"


def steps() -> list[tuple[str, str]]:
    """The commands of the page, and what each is said to print."""
    blocks = re.findall(r"^```console\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return re.findall(r"^\$ (.+)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)


@pytest.fixture
def shell(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Shell]:
    """A shell that knows what the program and its owner know, beside the application of the page."""
    for program in ("oathtool", "curl"):
        require_program(program)
    with BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold.db") as verifier:
        pending = verifier.enroll("alice")
        code = pyotp.TOTP(pending.secret).now()
        recovery_codes = verifier.confirm("alice", pending.id, code=code).recovery_codes
    port = free_port()
    command = [sys.executable, "-m", "flask", "--app", str(EXAMPLES / "flask" / "app.py"), "run", "--port", str(port)]
    surroundings = {**os.environ, **environment(tmp_path), "DATA_DIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=surroundings, stderr=subprocess.PIPE, text=True) as application:
        try:
            assert application.stderr is not None
            next(line for line in application.stderr if "Running on" in line)
            here = Shell(tmp_path, f"http://localhost:{port}", SERVED_AT)
            here.run(f"TOKEN=the-token-of-alice SECRET={pending.secret} RECOVERY_CODE={recovery_codes[0]}")
            yield here
            here.close()
        finally:
            application.terminate()


def test_the_page_leads_a_program_through_the_gate(shell: Shell) -> None:
    for command, shown in steps():
        check_printed(shown, shell.run(command))


def test_the_page_lists_every_call() -> None:
    listed = re.findall(r"^\| `([A-Z]+) /2fa(/\w+)` \|", TEXT, re.MULTILINE)
    assert {path for _, path in listed} == {route.path for route in door_routes(None)}  # type: ignore[arg-type]
