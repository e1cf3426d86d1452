"""`examples/flask/app.py` and `examples/fastapi/app.py`, started as a reader starts them: in a real browser, and door
by door. They differ in their words only.
It has the time of the machine, so each person has three codes of an app at once (the one before, the one of now and the
coming one), and for all else recovery codes.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import httpx
import pyotp
import pytest
from playwright.sync_api import Browser
from playwright.sync_api import Page as Tab
from tests.browsers import OpenWindow, open_window

EXAMPLES = Path(__file__).parents[2] / "examples"
LISTENS = re.compile(r"unning on http://127\.0\.0\.1:(\d+)")
LINES_MAX = 60
STEP_S = 30
TOKEN = {"authorization": "Bearer the-token-of-alice"}


class Example(NamedTuple):
    """How it is started, and where its people sign in."""

    name: str
    command: tuple[str, ...]
    login: str

    @property
    def folder(self) -> Path:
        return EXAMPLES / self.name


FLASK = Example("flask", ("flask", "--app", "app", "run", "--port", "0"), "/login")
FASTAPI = Example("fastapi", ("uvicorn", "app:app", "--port", "0", "--no-access-log"), "/")


@pytest.fixture(scope="module", params=[FLASK, FASTAPI], ids=lambda example: example.name)
def example(request: pytest.FixtureRequest) -> Example:
    """Each of them."""
    found: Example = request.param
    return found


@contextmanager
def serving(example: Example, folder: Path) -> Iterator[str]:
    """The example on a free port, with its data in this folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TWOFOLD_")}
    with subprocess.Popen(
        [sys.executable, "-m", *example.command],
        cwd=example.folder,
        env=environment | {"DATA_DIR": str(folder)},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stderr is not None
            found = next(filter(None, map(LISTENS.search, server.stderr)), None)
            assert found is not None, "it ended before it listened"
            yield f"http://localhost:{found[1]}"
        finally:
            server.terminate()


class Person:
    """Somebody at a tab, with an app and a list of recovery codes."""

    def __init__(self, tab: Tab, url: str, name: str, example: Example) -> None:
        self.tab, self.url, self.name, self.login = tab, url, name, example.login
        self.recovery_codes: list[str] = []
        self._codes: list[str] = []

    @property
    def path(self) -> str:
        return urlsplit(self.tab.url).path

    def open(self, path: str) -> str:
        self.tab.goto(self.url + path)
        return self.path

    def send(self, button: str, **fields: str) -> str:
        """Fill in the form with these fields, and press its button."""
        for name, value in fields.items():
            self.tab.fill(f"[name={name}]", value)
        with self.tab.expect_navigation():
            self.tab.get_by_role("button", name=button, exact=True).click()
        return self.path

    def sign_in(self) -> str:
        self.open(self.login)
        return self.send("Sign in", name=self.name, password="correct horse")

    def give_code(self, button: str) -> str:
        return self.send(button, code=self._codes.pop(0))

    def enroll(self) -> None:
        """As the pages lead through it; ends at the application, signed in."""
        self.open("/2fa/enroll")
        with self.tab.expect_navigation():
            self.tab.click("button[value=totp]")
        app = pyotp.TOTP(self.tab.locator("#secret").inner_text().replace(" ", ""))
        now = int(time.time())
        self._codes = [app.at(now + steps * STEP_S) for steps in (-1, 0, 1)]
        self.tab.fill("[name=code]", self._codes.pop(0))
        with self.tab.expect_navigation():
            self.tab.locator("[name=code]").press("Enter")
        self.recovery_codes = [code.inner_text() for code in self.tab.locator("li.recovery-code").all()]
        self.tab.check("[name=saved]")
        with self.tab.expect_navigation():
            self.tab.locator("[name=saved]").press("Enter")
        assert self.path == "/2fa/enroll/done"


@pytest.fixture(scope="module")
def url(example: Example, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(example, tmp_path_factory.mktemp("example")) as started:
        yield started


@pytest.fixture(scope="module")
def people(example: Example, url: str, chromium: Browser) -> dict[str, list[str]]:
    """The recovery codes of two people who have enrolled."""
    codes = {}
    for name in ("alice", "root"):
        window = open_window(chromium, url)
        person = Person(window.new_tab(), url, name, example)
        assert person.sign_in() == "/account"
        person.enroll()
        codes[name] = person.recovery_codes
        window.context.close()
        assert not window.complaints
    return codes


class Program(httpx.Client):
    """A browser for somebody who looks at bytes: follows redirects, keeps cookies."""

    def __init__(self, url: str, **headers: str) -> None:
        super().__init__(base_url=url, headers={"accept": "text/html"} | headers, follow_redirects=True, timeout=30)

    def give_code(self, code: str) -> None:
        assert self.post("/2fa/verify", json={"code": code}).json()["verified"] is True

    def is_shut(self) -> bool:
        """Whether nothing but the second step is shown, wherever one goes."""
        answers = [self.get("/account"), self.post("/transfer", data={"to": "eve", "amount": "1"}), self.get("/docs")]
        return all(answer.status_code == 403 or answer.url.path == "/2fa/sign-in/code" for answer in answers)


def test_it_is_as_short_as_it_says(example: Example) -> None:
    lines = (example.folder / "app.py").read_text().splitlines()
    assert len([line for line in lines if line.strip()]) <= LINES_MAX


def test_somebody_enrolls_signs_out_and_in_and_sends_money(
    example: Example, tmp_path: Path, new_window: OpenWindow
) -> None:
    with serving(example, tmp_path) as url:
        alice = Person(new_window(url).new_tab(), url, "alice", example)
        assert alice.sign_in() == "/account"
        alice.enroll()
        assert alice.open("/account") == "/account"
        assert alice.open("/logout") == example.login
        assert alice.sign_in() == "/2fa/sign-in/code"
        assert alice.open("/account") == "/2fa/sign-in/code"
        assert alice.give_code("Sign in") == "/account"

        assert alice.send("Send", to="bob & son", amount="7") == "/transfer"
        assert alice.tab.locator("h1").inner_text() == "Confirm that it is you"
        alice.give_code("Confirm")
        alice.tab.wait_for_url("**/transfer")
        alice.tab.locator("h1", has_text="7 for bob & son").wait_for()


DOORS = {
    "form": ("/login", {"name": "alice", "password": "correct horse"}),
    "password reset": ("/reset/mailed-to-alice", {"password": "correct horse"}),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_form_opens_with_both_factors_alone(url: str, people: dict[str, list[str]], door: str) -> None:
    path, fields = DOORS[door]
    with Program(url) as browser:
        assert browser.post(path, data=fields).url.path == "/2fa/sign-in/code"
        assert browser.is_shut()
        browser.give_code(people["alice"].pop())
        assert browser.get("/account").text.startswith("<h1>alice</h1>")


def test_a_token_opens_with_both_factors_alone(url: str, people: dict[str, list[str]]) -> None:
    with Program(url, accept="application/json", **TOKEN) as program:
        assert program.get("/account").json()["code"] == "second_factor_required"
        assert program.is_shut()
        program.give_code(people["alice"].pop())
        assert program.get("/account").text.startswith("<h1>alice</h1>")
        asked = program.post("/transfer", data={"to": "bob", "amount": "7"}).json()
        proof = {"code": people["alice"].pop(), "act": asked["act"]}
        assert program.post("/2fa/verify", json=proof).json() == {"verified": True}
        assert program.post("/transfer", data={"to": "bob", "amount": "7"}).text == "<h1>7 for bob</h1>"


def test_an_administrator_becomes_somebody_else_with_both_of_her_own_factors_alone(
    url: str, people: dict[str, list[str]]
) -> None:
    with Program(url) as browser:
        browser.post("/login", data={"name": "root", "password": "correct horse"})
        assert browser.post("/login-as/alice").url.path == "/2fa/sign-in/code"
        assert browser.is_shut()
        browser.give_code(people["root"].pop())
        assert browser.post("/login-as/alice").text.startswith("<h1>alice</h1>")


def test_a_session_that_was_planted_opens_nothing(url: str, people: dict[str, list[str]]) -> None:
    with Program(url) as thief, Program(url) as alice:
        thief.post("/login", data={"name": "alice", "password": "correct horse"})
        alice.cookies.update(thief.cookies)
        alice.give_code(people["alice"].pop())
        assert alice.get("/account").text.startswith("<h1>alice</h1>")
        assert thief.is_shut()
