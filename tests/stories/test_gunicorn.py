"""Several workers of somebody's Python application over one SQLite file: one code lets in one, and guesses are counted
together, whichever worker is asked and however gunicorn makes it."""

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import pyotp
import pytest
from tests.servers import START_S_MAX

from twofold import BlockingVerifier, Verified

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="gunicorn forks")
COPIES = 16
SHARED_VOLLEYS = 3
VOLLEYS_MAX = 100
HOW = {
    "two workers": ["--workers", "2"],
    "two workers with threads": ["--workers", "2", "--threads", "8"],
    "preloaded": ["--workers", "2", "--threads", "8", "--preload"],
}


class Said(NamedTuple):
    """How an answer ended, and in which process."""

    ended: str
    worker: int


class Desk:
    """The application under gunicorn, on the socket that it binds."""

    def __init__(self, port: int, process: "subprocess.Popen[bytes]") -> None:
        self.port = port
        self.process = process

    def ask(self, account: str, code: str) -> Said:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=START_S_MAX)
        body = json.dumps({"account": account, "code": code})
        try:
            connection.request("POST", "/verify", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 200, response.read()
            return Said(**json.loads(response.read()))
        finally:
            connection.close()

    def volley(self, account: str, code: str) -> list[Said]:
        """The same at the same moment, many times."""
        with ThreadPoolExecutor(COPIES) as threads:
            return list(threads.map(lambda _: self.ask(account, code), range(COPIES)))


@contextmanager
def served(folder: Path, *options: str) -> Iterator[Desk]:
    ready = folder / "bound"
    hook = "def when_ready(server): open('bound', 'w').write(str(server.LISTENERS[0].getsockname()[1]))\n"
    (folder / "gunicorn.conf.py").write_text(hook)
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--pythonpath", str(Path(__file__).parent)]
    environment = os.environ | {"DATABASE": f"sqlite:///{folder}/twofold.db"}
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [*command, *options, "desk:app"], cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + START_S_MAX
        while not ready.exists() or not ready.read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield Desk(int(ready.read_text()), process)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S_MAX) == 0


def wait_for_the_end_of(worker: int) -> None:
    deadline = time.monotonic() + START_S_MAX
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.kill(worker, 0)
            time.sleep(0.05)


def until_both_took_part(volley: Callable[[], list[Said]]) -> list[Said]:
    """All answers of several volleys, each shared by both workers; on a busy machine one of them may take it all."""
    said: list[Said] = []
    shared = 0
    for _ in range(VOLLEYS_MAX):
        answers = volley()
        said += answers
        shared += len({answer.worker for answer in answers}) == 2
        if shared == SHARED_VOLLEYS:
            return said
    raise AssertionError("one worker took nearly everything")


@pytest.fixture(params=HOW, ids=str)
def desk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Desk]:
    with served(tmp_path, *HOW[request.param]) as started:
        yield started


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, pyotp.HOTP]:
    """People with tokens; each code is another one, so nobody waits for time to pass."""
    with BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold.db") as verifier:
        made = {}
        for name in ("alice", "bob", "carol"):
            begun = verifier.enroll(name, "hotp")
            made[name] = pyotp.HOTP(begun.secret)
            verifier.confirm(name, begun.id, code=made[name].at(0))
        return made


def test_one_code_lets_in_one_whoever_is_asked(tokens: dict[str, pyotp.HOTP], desk: Desk, tmp_path: Path) -> None:
    counters = itertools.count(1)

    def volley() -> list[Said]:
        said = desk.volley("alice", tokens["alice"].at(next(counters)))
        ends = Counter(each.ended for each in said)
        assert ends["Verified"] == 1, ends
        assert set(ends) <= {"Verified", "Rejected", "Busy"}
        return said

    until_both_took_part(volley)
    # What they said yes to is there after them: nothing was written beside the file.
    desk.process.send_signal(signal.SIGTERM)
    desk.process.wait(START_S_MAX)
    following = next(counters)
    with BlockingVerifier.open(f"sqlite:///{tmp_path}/twofold.db") as verifier:
        assert not isinstance(verifier.verify("alice", code=tokens["alice"].at(following - 1)), Verified)
        assert isinstance(verifier.verify("alice", code=tokens["alice"].at(following)), Verified)


def test_guesses_are_counted_together(tokens: dict[str, pyotp.HOTP], desk: Desk) -> None:
    near = {tokens["bob"].at(counter) for counter in range(200)}
    wrong = next(code for code in map("{:06}".format, range(10**6)) if code not in near)
    said = until_both_took_part(lambda: desk.volley("bob", wrong))
    ends = Counter(each.ended for each in said)
    # A wrong answer of a token costs 10 ppm of 30.
    assert ends["Rejected"] == 3, ends
    assert ends["Rejected"] + ends["Throttled"] + ends["Busy"] == len(said)
    assert desk.ask("carol", tokens["carol"].at(1)).ended == "Verified"


def test_a_worker_that_was_killed_is_replaced_and_knows_what_was_used(
    tokens: dict[str, pyotp.HOTP], tmp_path: Path
) -> None:
    with served(tmp_path, "--workers", "1", "--threads", "4", "--preload") as desk:
        first = desk.ask("alice", tokens["alice"].at(1))
        os.kill(first.worker, signal.SIGKILL)
        wait_for_the_end_of(first.worker)
        second = desk.ask("alice", tokens["alice"].at(1))
        assert (first.ended, second.ended) == ("Verified", "Rejected")
        assert second.worker != first.worker
        assert desk.ask("alice", tokens["alice"].at(2)).ended == "Verified"
