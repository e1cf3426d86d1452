"""The two endpoints of every tutorial and the same on Twofold, attacked alike.

docs/howto/textbook.md says how it ends.
"""

import base64
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pyotp
import pytest
from tests.conftest import find_program
from tests.servers import STEP_S, Clock
from tests.stories.textbook import EXAMPLES, ROOT, Application, Visitor, express, flask

PAGE = ROOT / "docs" / "howto" / "textbook.md"
TABLE = re.compile(r"<!-- found -->\n\n(.*?)\n\n<!-- /found -->", re.DOTALL)
COPIES = 20
GUESSES = 200
ADDRESSES = 8
#: A guess may happen to be a code of another time.
WRONG = ("wrong code", "wrong_code", "clock_off", "code_already_used")

Open = Callable[[str, Path], AbstractContextManager[Application]]


class Story:
    """Alice, her phone and her browser, and what others try. The attacks come in the order of the page: each leaves
    her account as she would have it."""

    def __init__(self, application: Application) -> None:
        self.application = application
        self.clock = application.clock
        self.alice = application.visitor()
        self.secret = ""
        self.recovery_codes: list[str] = []

    def code(self) -> str:
        """What her phone shows."""
        return pyotp.TOTP(self.secret).at(self.clock.now_s)

    def wrong_code(self) -> str:
        """A code that is not right just now."""
        near = {pyotp.TOTP(self.secret).at(self.clock.now_s + STEP_S * step) for step in (-1, 0, 1)}
        return next(code for code in ("000000", "111111", "222222", "333333") if code not in near)

    def signs_in(self) -> None:
        """With a new code, as every day."""
        self.clock.advance(2 * STEP_S)
        self.alice.leave()
        assert self.alice.gets_in(self.code())

    def closes_the_page_half_way(self) -> str:
        self.alice.sign_in()
        self.secret = self.alice.post("/setup-2fa").body["secret"]
        self.alice.leave()
        self.alice.sign_in()
        return "signs in as before" if self.alice.is_in else "locked out"

    def first_code_again(self) -> str:
        if self.alice.is_in:
            self.secret = self.alice.post("/setup-2fa").body["secret"]
        confirmed = self.alice.post("/verify-2fa", code=self.code())
        assert confirmed.status == 200, confirmed
        self.recovery_codes = confirmed.body.get("recovery_codes", [])
        return _end(self.application.visitor().gets_in(self.code()))

    def replay(self) -> str:
        self.signs_in()
        return _end(self.application.visitor().gets_in(self.code()))

    def race(self) -> str:
        self.clock.advance(2 * STEP_S)
        thieves = [self.application.visitor() for _ in range(COPIES)]
        with ThreadPoolExecutor(COPIES) as threads:
            list(threads.map(Visitor.sign_in, thieves))
            list(threads.map(lambda thief: thief.post("/verify-2fa", code=self.code()), thieves))
        return f"{sum(thief.is_in for thief in thieves)} of {COPIES} let in"

    def restart(self) -> str:
        self.signs_in()
        self.application.restart()
        return _end(self.application.visitor().gets_in(self.code()))

    def clock_goes_back(self) -> str:
        self.signs_in()
        self.clock.advance(2 * STEP_S)
        seen_over_her_shoulder, seen_at = self.code(), self.clock.now_s
        self.signs_in()
        self.clock.set(seen_at)
        try:
            return _end(self.application.visitor().gets_in(seen_over_her_shoulder))
        finally:
            self.clock.advance(4 * STEP_S)

    def theft(self) -> str:
        copy = self.application.stolen()
        assert copy
        seed = base64.b32decode(self.secret + "=" * (-len(self.secret) % 8))
        if not any(spelled in copy for spelled in (seed, seed.hex().encode(), self.secret.encode())):
            return "no secret in it"
        self.clock.advance(2 * STEP_S)
        return f"the secret in it: {_end(self.application.visitor().gets_in(self.code()))}"

    def guessing(self) -> str:
        self.signs_in()
        last = ADDRESSES + 1 if sys.platform == "linux" else 2  # elsewhere a machine has one loopback address
        guessers = [self.application.visitor(address=f"127.0.0.{n}") for n in range(1, last)]
        for guesser in guessers:
            guesser.sign_in()
        judged = 0
        for n in range(GUESSES):
            self.clock.advance(60)
            if n == GUESSES // 2:
                self.application.restart()
                for guesser in guessers:
                    guesser.sign_in()
            answer = guessers[n % len(guessers)].post("/verify-2fa", code=self.wrong_code())
            assert (answer.status == 429) != (answer.error in WRONG), answer
            judged += answer.error in WRONG
        return f"{judged} of {GUESSES} judged"

    def alice_meanwhile(self) -> str:
        self.clock.advance(2 * STEP_S)
        self.alice.leave()
        return _end(self.alice.gets_in(self.code()))

    def lost_phone(self) -> str:
        if not self.recovery_codes:
            return "no way in"
        code = self.recovery_codes[0]
        assert self.application.visitor().gets_in(code)
        return "a recovery code, once" if not self.application.visitor().gets_in(code) else "a recovery code, again"

    def stolen_session(self) -> str:
        answer = self.alice.post("/setup-2fa")
        if answer.status != 200:
            return "refused"
        self.secret = answer.body["secret"]
        return f"a new secret: {_end(self.application.visitor().gets_in(self.code()))}"


ATTACKS: dict[str, Callable[[Story], str]] = {
    "Alice closes the set-up page half way": Story.closes_the_page_half_way,
    "The code that ended the set-up signs in": Story.first_code_again,
    "A code that was used signs in once more": Story.replay,
    f"One code in {COPIES} browsers at the same moment": Story.race,
    "A used code, after the server was killed and started again": Story.restart,
    "An older code, after the server's clock went back": Story.clock_goes_back,
    "A copy of the database, without the key file": Story.theft,
    f"{GUESSES} guesses, one a minute, from {ADDRESSES} addresses, over a restart": Story.guessing,
    "Alice meanwhile, in the browser that she always uses": Story.alice_meanwhile,
    "Alice loses her phone": Story.lost_phone,
    "A stolen session sets up another phone": Story.stolen_session,
}


def _end(is_in: bool) -> str:
    return "let in" if is_in else "refused"


def in_flask(kind: str, folder: Path) -> AbstractContextManager[Application]:
    folder.mkdir()
    return flask(f"{kind}_flask", folder, Clock(folder / "clock"))


def in_express(kind: str, folder: Path) -> AbstractContextManager[Application]:
    folder.mkdir()
    return express(f"{kind}_express", find_program("node"), folder, Clock(folder / "clock"))


@pytest.mark.parametrize("in_this_language", [in_flask, in_express])
def test_the_page_says_what_each_attack_did(in_this_language: Open, tmp_path: Path) -> None:
    found: list[dict[str, str]] = []
    for kind in ("tutorial", "twofold"):
        with in_this_language(kind, tmp_path / kind) as application:
            story = Story(application)
            found.append({tried: attack(story) for tried, attack in ATTACKS.items()})
    tutorial, ours = found
    rows = [f"| {tried} | {tutorial[tried]} | {ours[tried]} |" for tried in ATTACKS]
    table = "\n".join(["| what happens | the tutorial | on Twofold |", "|---|---|---|", *rows])
    on_the_page = TABLE.search(PAGE.read_text("utf-8"))
    assert on_the_page is not None
    assert table == on_the_page[1], table


def test_the_commands_of_the_page_do_what_it_shows(tmp_path: Path) -> None:
    block = re.search(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert block is not None
    curl = find_program("curl")
    with in_flask("twofold", tmp_path / "twofold") as application:
        for command, shown in re.findall(r"^\$ curl (.*)\n((?:(?!\$).*\n)+)", block[1], re.MULTILINE):
            words = shlex.split(command.replace("localhost:5000", f"127.0.0.1:{application.port}"))
            run = subprocess.run([curl, "-s", *words], cwd=tmp_path, capture_output=True, text=True, check=True)
            assert re.fullmatch(re.escape(shown.strip()).replace("…", ".*"), run.stdout.strip()), run.stdout


@pytest.mark.parametrize("name", ["twofold_flask.py", "twofold_express.js"])
def test_on_twofold_they_are_as_short(name: str) -> None:
    tutorial = EXAMPLES / name.replace("twofold", "tutorial")
    assert len((EXAMPLES / name).read_text("utf-8").splitlines()) <= 60
    assert "NOT to be used" in tutorial.read_text("utf-8")
