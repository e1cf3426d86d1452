"""What the tests of the command line share: a data folder of their own, a clock that is set, and oathtool as the phone.

Most commands run inside the test; where a terminal matters, the real program runs in a pseudo-terminal.
"""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from click.testing import CliRunner, Result

from twofold.cli import main

NOON = 1_772_366_400  # 2026-03-01 12:00:00 UTC, the first second of a step
STEP_S = 30
RECOVERY_CODE = re.compile(r"^[0-9A-HJKMNP-TV-Z]{4}(?:-[0-9A-HJKMNP-TV-Z]{4}){4}$", re.MULTILINE)


class Clock:
    """The time of every command, kept in a file that TWOFOLD_TEST_CLOCK names."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.set(NOON)

    def set(self, now_s: int) -> None:
        self.now_s = now_s
        self._path.write_text(str(now_s))

    def advance(self, seconds: int) -> None:
        self.set(self.now_s + seconds)


class Phone:
    """An authenticator app: knows one key, shows the code of a moment."""

    def __init__(self, program: str, clock: Clock, key: str) -> None:
        self._program = program
        self._clock = clock
        self.key = key

    def code(self, *, ahead_s: int = 0) -> str:
        """What the phone shows; `ahead_s`: how far its clock is ahead."""
        return self.run("--totp", "--now", f"@{self._clock.now_s + ahead_s}")

    def run(self, *arguments: str) -> str:
        command = [self._program, "--base32", *arguments, self.key]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


Invoke = Callable[..., Result]


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("TWOFOLD_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setenv("TWOFOLD_TEST_CLOCK", str(tmp_path / "clock"))
    return Clock(tmp_path / "clock")


@pytest.fixture
def invoke() -> Invoke:
    """Run a command inside this process; `typed` is its standard input, which is no terminal."""

    def run(*arguments: str, typed: str = "") -> Result:
        result = CliRunner().invoke(main, arguments, input=typed)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exc_info
        return result

    return run


@pytest.fixture
def new_phone(require_program: Callable[[str], str], clock: Clock) -> Callable[[str], Phone]:
    """A phone that has scanned the URI in what a command printed."""

    def scan(printed: str) -> Phone:
        scanned = re.search(r"otpauth://\S+[?&]secret=([A-Z2-7]+)", printed)
        assert scanned is not None, printed
        return Phone(require_program("oathtool"), clock, scanned[1])

    return scan


@pytest.fixture
def terminal() -> Iterator[Callable[..., "pexpect.spawn[str]"]]:
    """Start the real program in a pseudo-terminal."""
    children = []

    def spawn(*arguments: str) -> "pexpect.spawn[str]":
        child = pexpect.spawn(
            sys.executable,
            ["-m", "twofold", *arguments],
            encoding="utf-8",
            timeout=20,
            dimensions=(50, 120),
            # Whoever starts the tests in the background makes them, and what they start, deaf to Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        # What is typed is typed after a prompt that comes when everything is ready: there is nothing to wait for.
        child.delaybeforesend = None
        child.ptyproc.delayafterclose = 0
        children.append(child)
        return child

    yield spawn
    for child in children:
        child.close(force=True)


@pytest.fixture
def enrolled(invoke: Invoke, new_phone: Callable[[str], Phone], clock: Clock) -> tuple[Phone, list[str]]:
    """The account `me` with its phone and recovery codes, one step after the phone was confirmed."""
    assert invoke("account", "add", "me").exit_code == 0
    phone = new_phone(invoke("account", "enroll", "me").stdout)
    confirmed = invoke("account", "enroll", "me", typed=f"{phone.code()}\n")
    assert confirmed.exit_code == 0, confirmed.output
    clock.advance(STEP_S)
    return phone, RECOVERY_CODE.findall(confirmed.stdout)
