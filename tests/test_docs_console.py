"""The console blocks of the pages are run in order, in one shell, and what they print is what the page shows.

In a page `…` stands for anything. JSON is compared as JSON. `<!-- keep: NAME=path -->` before a block puts a value of
its last answer into the shell, as the reader does by hand. Blocks after `<!-- not run: reason -->` and
`<!-- run by: another test -->` are left out.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyotp
import pytest
from tests.test_docs import examples

from twofold import BlockingVerifier
from twofold.server.api import OPERATIONS

DOCS = Path(__file__).parent.parent / "docs"
COMMANDS = Path(sys.executable).parent
SERVED_AT = "http://localhost:8000"

#: The pages that are followed from beginning to end, by name.
FOLLOWED = [
    "docs/api.md",
    "docs/keys.md",
    "docs/howto/api-from-anything.md",
    "docs/howto/backup.md",
    "docs/howto/doctor.md",
    "docs/howto/hosted-prompt.md",
    "docs/howto/passkey-address.md",
    "docs/howto/passkeys-in-your-application.md",
    "docs/howto/run-a-server.md",
]

_BLOCK = re.compile(r"(?:<!-- (keep|not run|run by): (.+?) -->\n)?```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^\$ (.+(?:\\\n.+)*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
_END = "--end of the command--"


class Step(NamedTuple):
    """One command of a page with what the page says it prints, and what to keep of that."""

    command: str
    shown: str
    keep: dict[str, str]


def steps(page: Path) -> Iterator[Step]:
    """The commands of a page in order."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        is_ours = block[1] in (None, "keep") or (block[1] == "run by" and block[2] == "tests/test_docs_console.py")
        commands = list(_COMMAND.finditer(block[3])) if is_ours else []
        for command in commands:
            keep = block[2].split() if block[1] == "keep" and command is commands[-1] else []
            yield Step(command[1], command[2], dict(entry.split("=") for entry in keep))


def environment(home: Path) -> dict[str, str]:
    """Nothing of the developer's own: no setting, no configuration of curl."""
    return {"PATH": f"{COMMANDS}:{os.environ['PATH']}", "HOME": str(home), "LC_ALL": "C.UTF-8"}


class Shell:
    """One bash that keeps its variables from command to command; what pages say is served at `told` is at `url`."""

    def __init__(self, folder: Path, url: str, told: str = SERVED_AT) -> None:
        self._url, self._told = url, told
        self._process = subprocess.Popen(
            ["bash"], cwd=folder, env=environment(folder), text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, command: str) -> str:
        """What the command prints; it must succeed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        command = command.replace(self._told, self._url)
        print(f"{command}\nprintf '\\n%s %s\\n' '{_END}' $?", file=self._process.stdin)
        printed = ""
        for line in self._process.stdout:
            if line.startswith(_END):
                assert line.removeprefix(_END).strip() == "0", f"{command}\n{printed}"
                return printed.replace(self._url, self._told)
            printed += line
        raise AssertionError(f"the shell ended: {command}\n{printed}")

    def close(self) -> None:
        """End the shell."""
        self._process.communicate("exit\n", timeout=10)


def agrees(shown: object, printed: object) -> bool:
    """Whether the value is the one shown, where the string … stands for any."""
    if shown == "…":
        return True
    if isinstance(shown, dict) and isinstance(printed, dict):
        return shown.keys() == printed.keys() and all(agrees(value, printed[name]) for name, value in shown.items())
    return shown == printed


def check_printed(shown: str, printed: str) -> None:
    """Fail unless the output is what the page shows; a page that shows nothing promises nothing."""
    if shown.startswith("{"):
        assert agrees(json.loads(shown), json.loads(printed)), printed
    elif shown.strip():
        pattern = ".*".join(map(re.escape, shown.strip().split("…")))
        assert re.fullmatch(pattern, printed.strip(), re.DOTALL), printed


def find(answer: str, path: str) -> str:
    """The member of a JSON answer at a path such as `totp.secret` or `codes.0`."""
    value = json.loads(answer)
    for part in path.split("."):
        value = value[int(part) if part.isdigit() else part]
    return str(value)


@pytest.fixture
def served(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Shell]:
    """A shell in an empty folder beside a server that serves that folder's data."""
    for program in ("oathtool", "curl", "openssl", "softhsm2-util"):
        require_program(program)
    arguments = [str(COMMANDS / "twofold"), "serve", "--port", "0"]
    with subprocess.Popen(
        arguments, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().removeprefix("listening on ").strip()
            shell = Shell(tmp_path, url)
            yield shell
            shell.close()
        finally:
            server.terminate()


@pytest.mark.parametrize("page", FOLLOWED)
def test_commands_print_what_the_page_shows(page: str, served: Shell) -> None:
    for step in steps(DOCS.parent / page):
        printed = served.run(step.command)
        check_printed(step.shown, printed)
        for name, path in step.keep.items():
            served.run(f"{name}='{find(printed, path)}'")


def test_the_commands_for_administrators_print_what_administer_md_shows(served: Shell, tmp_path: Path) -> None:
    for person in ("alice", "bob"):
        served.run(f"echo a long pass phrase | twofold account add {person} --password")
    with BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold-data/twofold.db") as verifier:
        for person in ("alice", "bob"):
            pending = verifier.enroll(person)
            verifier.confirm(person, pending.id, code=pyotp.TOTP(pending.secret).now())
    for step in steps(DOCS / "howto" / "administer.md"):
        check_printed(step.shown, served.run(step.command))


def test_the_command_line_of_python_md_works_beside_its_program(tmp_path: Path) -> None:
    page = DOCS / "python.md"
    (program, *_) = examples(page, page.read_text(encoding="utf-8"))
    subprocess.run([sys.executable, "-c", program.code], cwd=tmp_path, env=environment(tmp_path), check=True)
    shell = Shell(tmp_path, SERVED_AT)
    try:
        printed = [shell.run(step.command) for step in steps(page)]
    finally:
        shell.close()
    assert "phone" in printed[-1]


def test_the_page_on_the_api_lists_every_call_with_its_scopes() -> None:
    page = (DOCS / "api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([A-Z]+ /[^`]+)` \| ([^|]+) \|", page, re.MULTILINE)
    listed = {call: set(scopes.split(", ")) for call, scopes in rows}
    assert listed == {f"{call.method} {call.path}": set(call.scopes) for call in OPERATIONS}


def test_output_agrees_where_the_page_shows_it() -> None:
    check_printed('{"id": "…", "state": {"a": 1}}', '{"state":{"a":1},"id":"au_x"}')
    check_printed("application … (shop)\n", "application abc (shop)\n\n")
    for shown, printed in (('{"id": 1}', '{"id":2}'), ('{"id": "…"}', '{"id":1,"b":2}'), ("one\n", "two\n")):
        with pytest.raises(AssertionError):
            check_printed(shown, printed)
