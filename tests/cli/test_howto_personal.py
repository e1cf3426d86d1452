"""`docs/howto/personal.md`, followed word by word in a shell in a pseudo-terminal; `oathtool` is the phone."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from tests.cli.conftest import STEP_S, Clock, Phone

PAGE = Path(__file__).parent.parent.parent / "docs" / "howto" / "personal.md"
PROMPT = "<ready>"

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_NAMED = re.compile(r"#!/bin/sh\n# ~/([\w/-]+): ")
_QR_ROW = re.compile(r"\x1b\[38;5;16.*")
# What differs from phone to phone, and what is typed.
_VARIES = [
    (re.compile(r"secret=[A-Z2-7]{32}"), "secret=KEY"),
    (re.compile(r"^([A-Z2-7]{4} ){7}[A-Z2-7]{4}$"), "KEY"),
    (re.compile(r"^([0-9A-Z]{4}-){4}[0-9A-Z]{4}$"), "RECOVERY CODE"),
    (re.compile(r"^Code:.*"), "Code:"),
]


def masked(lines: list[str]) -> list[str]:
    """The lines with everything that varies replaced."""
    for pattern, name in _VARIES:
        lines = [pattern.sub(name, line.rstrip()) for line in lines]
    return lines


def transcripts(text: str) -> Iterator[tuple[str, list[str]]]:
    """Each command of the page's `console` blocks, with the lines that it is said to print."""
    for kind, block in _BLOCK.findall(text):
        if kind == "console":
            for entry in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, *printed = entry.splitlines()
                yield command, masked(printed)


def is_as_told(printed: list[str], told: list[str]) -> bool:
    """Whether the lines are those of the page, in which `…` stands for any number of lines."""
    pattern = "".join(r"(?:.*\n)*" if line == "…" else re.escape(line) + "\n" for line in told)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in printed)) is not None


class Reader:
    """Somebody who follows the page: types its commands, answers `Code: ` from the phone, sees what is printed."""

    def __init__(self, shell: "pexpect.spawn[str]", clock: Clock, new_phone: Callable[[str], Phone]) -> None:
        self._shell = shell
        self._clock = clock
        self._new_phone = new_phone
        self._phone: Phone | None = None
        self._last_code = ""
        shell.expect_exact(PROMPT)

    def follow(self, command: str, told: list[str]) -> list[str]:
        """What the command printed, without the command itself and without the QR code."""
        self._shell.sendline(command)
        printed = ""
        while self._shell.expect_exact(["Code: ", PROMPT]) == 0:
            printed += self._shell.before + "Code: "
            if "otpauth://" in printed:
                self._phone = self._new_phone(printed)
            self._shell.sendline(self._choose_code(told))
        lines = (printed + self._shell.before).replace("\r\n", "\n").splitlines()[1:]
        return masked([line for line in lines if not _QR_ROW.match(line)])

    def _choose_code(self, told: list[str]) -> str:
        """The code that leads to what the page tells: right, wrong, or the one before again."""
        assert self._phone is not None
        if any("code_already_used" in line for line in told):
            return self._last_code
        self._clock.advance(STEP_S)
        self._last_code = self._phone.code()
        is_wrong = any("wrong_code" in line for line in told)
        return f"{(int(self._last_code) + 1) % 1_000_000:06}" if is_wrong else self._last_code


@pytest.fixture
def shell(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator["pexpect.spawn[str]"]:
    """A shell in a home of its own, in which Twofold and the scripts of the page are where the page puts them."""
    home = tmp_path / "home"
    (home / ".local" / "bin").mkdir(parents=True)
    (home / ".local" / "bin" / "twofold").symlink_to(Path(sys.executable).with_name("twofold"))
    for kind, block in _BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        if kind == "sh" and (named := _NAMED.match(block)):
            (home / named[1]).parent.mkdir(exist_ok=True)
            (home / named[1]).write_text(block)
    monkeypatch.delenv("TWOFOLD_DATA_DIR")
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{home / '.local' / 'bin'}:/usr/bin:/bin",
        "PS1": PROMPT,
        "SHELL": "/bin/sh",
    }
    child = pexpect.spawn("/bin/sh", env=environment, cwd=str(home), encoding="utf-8", timeout=20, dimensions=(60, 160))
    yield child
    child.close(force=True)


def test_the_page_is_true(shell: "pexpect.spawn[str]", clock: Clock, new_phone: Callable[[str], Phone]) -> None:
    reader = Reader(shell, clock, new_phone)
    followed = 0
    for command, told in transcripts(PAGE.read_text(encoding="utf-8")):
        printed = reader.follow(command, told)
        assert is_as_told(printed, told), (command, printed, told)
        followed += 1
    assert followed == 15


def test_dots_stand_for_lines_and_nothing_else_does() -> None:
    assert is_as_told(["a", "b", "c"], ["a", "…", "c"])
    assert not is_as_told(["a", "b", "c"], ["a", "c"])
    assert not is_as_told(["a", "b"], ["a", "…", "c"])
