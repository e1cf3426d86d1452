"""examples/django/app.py as it is started: every door with the first factor only and with both, in Chromium."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import httpx
import pyotp
import pytest
from playwright.sync_api import Browser
from tests.browsers import Authenticator, BrowserVisitor, OpenWindow, Window, open_window

EXAMPLE = Path(__file__).parents[2] / "examples" / "django" / "app.py"
PASSWORD = "correct horse"
STARTS_S_MAX = 30
LINES_MAX = 60
RECOVERY_CODES = 10
CODE_PAGE = "/2fa/sign-in/code"


class Example(NamedTuple):
    """The application, running; `printed` is what it writes, mails among it."""

    url: str
    printed: Path

    def mailed_link(self) -> str:
        """The link of the last mail."""
        return re.findall(r"/reset/\S+", self.printed.read_text(encoding="utf-8"))[-1]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Example]:
    folder = tmp_path_factory.mktemp("django")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"DATA_DIR": str(folder), "PORT": str(port), "PYTHONUNBUFFERED": "1"}
    printed = folder / "printed"
    with (
        printed.open("wb") as log,
        subprocess.Popen([sys.executable, EXAMPLE], env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            wait_until_open(port, server)
            yield Example(f"http://localhost:{port}", printed)
        finally:
            server.terminate()


def wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until it listens."""
    for _ in range(STARTS_S_MAX * 20):
        assert server.poll() is None, "it ended"
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("it does not listen")


class Owner:
    """Alice or root at a tab, with an authenticator app, and recovery codes, as its code was just used."""

    codes: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, window: Window, name: str = "alice") -> None:
        self.window, self.tab, self.url, self.name = window, window.new_tab(), window.url, name

    @property
    def path(self) -> str:
        """Where the tab is."""
        return self.tab.url.removeprefix(self.url).partition("?")[0]

    @property
    def is_in(self) -> bool:
        """Whether the application shows what is for people who are signed in; and whose it is."""
        self.open("/account")
        return self.path == "/account"

    def open(self, path: str) -> None:
        self.tab.goto(self.url + path)

    def press(self, button: str) -> None:
        with self.tab.expect_navigation():
            self.tab.get_by_role("button", name=button).click()

    def give_password(self, at: str = "/login/") -> None:
        self.open(at)
        self.tab.fill("[name=username]", self.name)
        self.tab.fill("[name=password]", PASSWORD)
        with self.tab.expect_navigation():
            self.tab.click("[type=submit]")

    def enroll(self) -> None:
        self.open("/2fa/enroll")
        with self.tab.expect_navigation():
            self.tab.click("button[value=totp]")
        self.give_code(pyotp.TOTP(self.tab.inner_text("#secret").replace(" ", "")).now())
        self.codes[self.name] = self.tab.locator(".recovery-code").all_inner_texts()

    def give_code(self, code: str = "") -> None:
        self.tab.fill("[name=code]", code or self.codes[self.name].pop())
        with self.tab.expect_navigation():
            self.tab.press("[name=code]", "Enter")


Visit = Callable[..., Owner]


@pytest.fixture(scope="module")
def enrolled(example: Example, chromium: Browser) -> None:
    """Both have a second factor."""
    for name in ("alice", "root"):
        window = open_window(chromium, example.url)
        owner = Owner(window, name)
        owner.give_password()
        owner.enroll()
        assert len(owner.codes[name]) == RECOVERY_CODES
        window.context.close()


@pytest.fixture
def visit(example: Example, enrolled: None, new_window: OpenWindow) -> Visit:
    """Give a function from a name to that person at a new window."""
    return lambda name="alice": Owner(new_window(example.url), name)


def by_form(owner: Owner, example: Example) -> None:
    owner.give_password()


def by_the_form_of_the_admin(owner: Owner, example: Example) -> None:
    owner.give_password("/admin/login/?next=/account")


def by_password_reset(owner: Owner, example: Example) -> None:
    owner.open("/password_reset/")
    owner.tab.fill("[name=email]", "alice@example.com")
    owner.tab.click("[type=submit]")
    owner.tab.wait_for_url("**/password_reset/done/")
    owner.open(example.mailed_link())
    owner.tab.fill("[name=new_password1]", PASSWORD)
    owner.tab.fill("[name=new_password2]", PASSWORD)
    with owner.tab.expect_navigation():
        owner.tab.click("[type=submit]")


DOORS = ((by_form, "alice"), (by_the_form_of_the_admin, "root"), (by_password_reset, "alice"))


@pytest.mark.parametrize(("door", "name"), DOORS)
def test_no_door_opens_with_the_first_factor_alone_and_each_opens_with_both(
    visit: Visit, example: Example, door: Callable[[Owner, Example], None], name: str
) -> None:
    owner = visit(name)
    door(owner, example)
    for path in ("/account", "/", "/transfer", "/admin/"):
        owner.open(path)
        assert owner.path == CODE_PAGE, path
    owner.give_code()
    assert owner.is_in
    assert owner.tab.inner_text("h1") == name
    owner.press("Sign out")
    assert not owner.is_in


def test_login_as_opens_with_the_administrators_own_code(visit: Visit) -> None:
    root = visit("root")
    root.give_password()
    root.give_code()
    assert root.is_in
    root.press("Login as alice")
    assert not root.is_in
    assert root.path == CODE_PAGE
    root.give_code()
    assert root.is_in
    assert root.tab.inner_text("h1") == "alice"


def test_a_token_opens_with_a_code(example: Example, enrolled: None) -> None:
    with httpx.Client(base_url=example.url, headers={"authorization": "Bearer the-token-of-alice"}) as program:
        refused = program.get("/account")
        assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_required")
        assert program.post("/2fa/verify", json={"code": "00000000"}).json()["verified"] is False
        assert program.post("/2fa/verify", json={"code": Owner.codes["alice"].pop()}).json()["verified"] is True
        assert "<h1>alice</h1>" in program.get("/account").text


def test_a_session_planted_before_is_worth_nothing_after(visit: Visit, example: Example) -> None:
    victim, thief = visit(), visit()
    thief.give_password()
    planted = [cookie for cookie in thief.tab.context.cookies() if cookie["name"] == "sessionid"]
    victim.tab.context.add_cookies(planted)  # type: ignore[arg-type]
    assert not victim.is_in
    victim.give_code()
    assert victim.is_in
    assert not thief.is_in


def test_what_was_sent_without_a_fresh_proof_is_done_once_after_it(visit: Visit) -> None:
    owner = visit()
    owner.give_password()
    owner.give_code()
    assert owner.is_in
    owner.tab.fill("[name=to]", "bo & co")
    owner.tab.fill("[name=amount]", "25")
    owner.press("Send")
    assert owner.tab.locator("[name=code]").is_visible()
    owner.give_code()
    owner.tab.wait_for_url("**/transfer")
    owner.tab.get_by_role("heading", name="25 for bo & co").wait_for()
    owner.tab.reload()
    assert owner.tab.locator("[name=code]").is_visible()


def test_a_passkey_opens_as_well(visit: Visit) -> None:
    owner = visit()
    Authenticator(BrowserVisitor(owner.window, owner.tab))
    owner.give_password()
    owner.give_code()
    owner.open("/2fa/enroll")
    with owner.tab.expect_navigation():
        owner.tab.click("button[value=webauthn]")
    with owner.tab.expect_navigation():
        owner.tab.click("[data-passkey] button")
    owner.open("/account")
    owner.press("Sign out")
    owner.give_password()
    assert owner.path == CODE_PAGE
    with owner.tab.expect_navigation():
        owner.tab.click("[data-passkey] button")
    assert owner.is_in


def test_it_is_short() -> None:
    lines = [line for line in EXAMPLE.read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(lines) <= LINES_MAX
