"""A small application that sends people to prompts, as `docs/howto/hosted-prompt.md` has it, and a real browser.

The application is at an address of another site than Twofold, so that redirects cross from one to the other.
"""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page
from tests.browsers import Authenticator, BrowserVisitor, Window, assert_accessible, open_window
from tests.servers import STEP_S, Clock, Phone, Server
from werkzeug.serving import make_server

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "hosted-prompt.md"
PASSWORD = "violet harbour 1926"


@contextmanager
def shop_at(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The application of the page on a port of its own; its address."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    example: dict[str, Any] = {"__name__": "shop"}

    def answer(environ: Any, respond: Any) -> Any:
        return example["app"](environ, respond)

    opened = make_server("127.0.0.1", 0, answer, threaded=True)
    url = f"http://127.0.0.1:{opened.server_port}"
    key = server.command("apikey", "create", "Shop", "--return-to", f"{url}/2fa/back").stdout.strip()
    monkeypatch.setenv("TWOFOLD_API", f"http://localhost:{server.port}/api/v1")
    monkeypatch.setenv("TWOFOLD_KEY", key)
    monkeypatch.setenv("SHOP_URL", url)
    exec(program, example)  # noqa: S102 - a page of ours
    example["PASSWORDS"]["bob"] = PASSWORD
    thread = threading.Thread(target=opened.serve_forever)
    thread.start()
    try:
        yield url
    finally:
        opened.shutdown()
        thread.join()
        opened.server_close()


@pytest.fixture(scope="module")
def shop(server: Server) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch, shop_at(server, patch) as url:
        yield url


@pytest.fixture
def new_tab(chromium: Browser, shop: str, server: Server) -> Iterator[Any]:
    """Give a function to a new person's browser at the application. Nothing but the two sites may be asked for."""
    windows: list[Window] = []

    def open_one(**options: Any) -> Page:
        windows.append(open_window(chromium, shop, **options))
        return windows[-1].new_tab()

    yield open_one
    for window in windows:
        window.context.close()
    twofold = f"asks another host: http://localhost:{server.port}/"
    complaints = [each for window in windows for each in window.complaints if shop not in each]
    assert [each for each in complaints if not each.startswith(twofold)] == []


def sign_in(tab: Page, shop: str, name: str = "alice") -> None:
    """The application's own form; ends at a page of Twofold, or back at the application."""
    tab.goto(f"{shop}/sign-in")
    tab.fill("[name=name]", name)
    tab.fill("[name=password]", PASSWORD)
    tab.click("button")


def give_code(tab: Page, phone: Phone, clock: Clock) -> None:
    clock.advance(STEP_S)
    tab.fill("[name=code]", phone.code(clock.now_s))
    tab.click("form:has([name=code]) button:has-text('Confirm')")


def enroll_app(tab: Page, clock: Clock, name: str = "alice") -> Phone:
    """Set up an app, keep the codes; ends where the application says who it is."""
    tab.click("[name=factor][value=totp]")
    phone = Phone(name, tab.locator("#secret").inner_text().replace(" ", ""))
    tab.fill("[name=code]", phone.code(clock.now_s))
    tab.click("form:has([name=code]) button:has-text('Confirm')")
    assert tab.locator(".recovery-code").count() == 10
    tab.check("[name=saved]")
    tab.click("button:has-text('Go on')")
    return phone


def assert_is_in(tab: Page, shop: str, done: str = "sign-in", *, name: str = "alice") -> None:
    tab.wait_for_url(f"{shop}/?done={done}")
    assert f"Hello {name}." in tab.content()


@pytest.fixture(scope="module")
def phone(chromium: Browser, shop: str, clock: Clock) -> Phone:
    """That of alice, who set it up when she signed in for the first time."""
    window = open_window(chromium, shop)
    tab = window.new_tab()
    sign_in(tab, shop)
    assert "/enroll" in tab.url
    made = enroll_app(tab, clock)
    assert_is_in(tab, shop)
    window.context.close()
    return made


def test_the_first_time_she_enrolls_then_a_code_is_asked_for(
    new_tab: Any, shop: str, clock: Clock, phone: Phone
) -> None:
    tab = new_tab()
    sign_in(tab, shop)
    assert urlsplit(tab.url).path.endswith("/sign-in/code")
    assert "Shop asks whether you are Alice." in tab.locator("body").inner_text()
    assert_accessible(tab)
    tab.fill("[name=code]", "000000")
    tab.click("form:has([name=code]) button:has-text('Confirm')")
    assert "/prompt/" in tab.url
    give_code(tab, phone, clock)
    assert_is_in(tab, shop)
    tab.click("button:has-text('Transfer')")
    give_code(tab, phone, clock)
    assert_is_in(tab, shop, "transfer")


def test_without_a_script_the_way_is_the_same(new_tab: Any, shop: str, clock: Clock, phone: Phone) -> None:
    tab = new_tab(javascript=False)
    sign_in(tab, shop)
    give_code(tab, phone, clock)
    assert_is_in(tab, shop)


def test_with_the_password_alone_nobody_is_in(new_tab: Any, shop: str, phone: Phone) -> None:
    tab = new_tab()
    sign_in(tab, shop)
    tab.goto(shop)
    assert tab.url == f"{shop}/sign-in"


def test_going_back_without_an_answer_leads_back(new_tab: Any, shop: str, phone: Phone) -> None:
    tab = new_tab()
    sign_in(tab, shop)
    tab.click("text=Back without an answer")
    assert_accessible(tab)
    tab.click("button:has-text('Back to Shop')")
    tab.wait_for_url(f"{shop}/2fa/back?error=access_denied")
    assert "Nothing was confirmed" in tab.content()


def test_a_passkey_is_set_up_and_shown(new_tab: Any, shop: str) -> None:
    tab = new_tab()
    authenticator = Authenticator(BrowserVisitor(Window(tab.context, shop), tab))
    sign_in(tab, shop, "bob")
    tab.click("[name=factor][value=webauthn]")
    tab.click("button:has-text('Add a passkey')")
    tab.check("[name=saved]")
    tab.click("button:has-text('Go on')")
    assert_is_in(tab, shop, name="bob")
    assert [held["rpId"] for held in authenticator.credentials] == ["localhost"]
    tab.click("button:has-text('Transfer')")
    tab.click("button:has-text('Use your passkey')")
    assert_is_in(tab, shop, "transfer", name="bob")


def test_another_browser_gets_neither_the_link_nor_the_code(
    new_tab: Any, shop: str, clock: Clock, phone: Phone
) -> None:
    """Somebody has alice's password and sends her the link of his sign-in. She answers, and he even sees the code."""
    his, hers = new_tab(), new_tab()
    given = {"name": "alice", "password": PASSWORD}
    link = his.context.request.post(f"{shop}/sign-in", form=given, max_redirects=0).headers["location"]
    hers.goto(link)
    give_code(hers, phone, clock)
    hers.wait_for_url(f"{shop}/2fa/back?code=*")
    assert "prompt_mismatch" in hers.content()
    his.goto(link)
    assert "This link cannot be used any more" in his.content()
    his.goto(hers.url)
    assert "prompt_used" in his.content()
    his.goto(shop)
    assert his.url == f"{shop}/sign-in"
