"""A person with a real browser: the machine's own Chromium, by mouse or by keyboard, with a script or without.

Every window is watched: a request to another host, an error on the console or in a script, a refusal of the content
security policy or a missing file fails the test. Playwright keeps an event loop in this thread while it runs, so a
file that uses these fixtures has no `async` tests; each file has one browser process.
"""

import importlib.resources
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Locator,
    Page,
    Request,
    Response,
    sync_playwright,
)
from tests.conftest import find_program
from tests.forms import USUAL
from tests.pages import Page as Snapshot
from tests.pages import Value

AXE = importlib.resources.files("axe_playwright_python").joinpath("axe.min.js").read_text()
AXE_TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
#: Names are looked up by nobody, so not even a prefetch leaves this machine.
ARGUMENTS = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",)
PHONE, DESKTOP = (390, 844), (1440, 900)
TABS_MAX = 120
#: What a laptop has that asks for a fingerprint; `Authenticator` takes others.
PLATFORM = {
    "protocol": "ctap2",
    "transport": "internal",
    "hasResidentKey": True,
    "hasUserVerification": True,
    "isUserVerified": True,
    "automaticPresenceSimulation": True,
}
#: None when an element has the focus. A group of radio buttons is one stop; its buttons are reached by arrows.
NEXT_KEY = """element => {
    const focused = document.activeElement;
    if (focused === element) return null;
    return element.type === 'radio' && focused.name === element.name ? 'ArrowDown' : 'Tab';
}"""
STEP_MS_MAX = 15_000


class Window:
    """One person's window: cookies and storage of its own, and what went wrong in it."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.context = context
        self.complaints: list[str] = []
        self._host = urlsplit(url).netloc
        context.on("console", self._hear)
        context.on("weberror", lambda error: self.complaints.append(f"script error: {error.error}"))
        context.on("request", self._see_request)
        context.on("response", self._see_response)
        context.set_default_timeout(STEP_MS_MAX)

    def new_tab(self) -> Page:
        return self.context.new_page()

    def _hear(self, message: ConsoleMessage) -> None:
        # Chromium reports the status of the page itself as a failed resource; that is no fault of the page.
        if message.text.startswith("Failed to load resource: the server responded"):
            return
        # "[DOM]" is how it hints at forms that password managers cannot fill.
        if message.type in ("error", "warning", "assert") or message.text.startswith("[DOM]"):
            self.complaints.append(f"console {message.type}: {message.text} ({message.location.get('url')})")

    def _see_request(self, request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob", "about") and parts.netloc != self._host:
            self.complaints.append(f"asks another host: {request.url}")

    def _see_response(self, response: Response) -> None:
        if response.status >= 400 and response.request.resource_type != "document":
            self.complaints.append(f"{response.status} for {response.url}")


class BrowserVisitor:
    """A person at one tab, by mouse. Has the face of `FormVisitor`; `tab` is Playwright's page."""

    def __init__(self, window: Window, tab: Page | None = None) -> None:
        self.window = window
        self.url = window.url
        self.tab = tab or window.new_tab()
        self._answer: Response | None = None

    @property
    def page(self) -> Snapshot:
        """What is shown now, as the browser understood it."""
        assert self._answer is not None
        return Snapshot(self.tab.url, self._answer.status, self._answer.headers, self.tab.content())

    @property
    def path(self) -> str:
        """Where it is now; nowhere at first."""
        return urlsplit(self.tab.url).path if self._answer else ""

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie["name"]: cookie["value"] for cookie in self.window.context.cookies()}

    def another_tab(self) -> "BrowserVisitor":
        """The same person's second tab."""
        return type(self)(self.window)

    def open(self, path: str, *, expect: Collection[int] = USUAL) -> Snapshot:
        """Go to an address of the server."""
        self._answer = self.tab.goto(f"{self.url}{path}" if path.startswith("/") else path)
        return self._arrive(expect)

    def send(
        self, *, press: str | None = None, to: str | None = None, expect: Collection[int] = USUAL, **fields: Value
    ) -> Snapshot:
        """Fill in fields by their names and press a button of the first form that has them all."""
        page = self.page
        form = page.form(press=press, to=to, fields=fields)
        shown = self.tab.locator("form").nth(page.root.all("form").index(form.element))
        button = form.find_button(press)
        assert button is not None
        for name, value in fields.items():
            which = f'[value="{value}"]' if form.control(name)["type"] == "radio" else ""
            control = shown.locator(f'[name="{name}"]{which}').first
            self._reveal(control)
            self._fill(control, value)
        pressed = shown.locator('button:not([type="button"]):not([type="reset"]), input[type="submit"]')
        target = pressed.nth(form.buttons.index(button))
        self._reveal(target)
        with self.tab.expect_navigation(timeout=STEP_MS_MAX) as navigation:
            self._press(target)
        self._answer = navigation.value
        return self._arrive(expect)

    def follow(self, path: str, *, expect: Collection[int] = USUAL) -> Snapshot:
        """Click the link to this path; what comes after a question mark in it need not be said."""
        link = self.tab.locator(f'a[href="{path}"], a[href^="{path}?"]').first
        assert link.count(), f"no link to {path} on {self.page!r}"
        self._reveal(link)
        with self.tab.expect_navigation(timeout=STEP_MS_MAX) as navigation:
            self._press(link)
        self._answer = navigation.value
        return self._arrive(expect)

    def show_passkey(self, *, expect: Collection[int] = USUAL, **fields: Value) -> Snapshot:
        """Press the button that asks for a passkey, after filling in fields of its form; where that leads."""
        button = self.tab.locator("[data-passkey] button").first
        form = button.locator("xpath=ancestor::form")
        for name, value in fields.items():
            self._fill(form.locator(f'[name="{name}"]'), value)
        with self.tab.expect_navigation(timeout=STEP_MS_MAX) as navigation:
            self._press(button)
        self._answer = navigation.value
        return self._arrive(expect)

    def show_passkey_in_vain(self) -> str:
        """Press the same button where the browser refuses; what the page says about it."""
        line = self.tab.locator("[data-passkey] [role=alert]")
        line.evaluate("line => { line.hidden = true; }")
        self._press(self.tab.locator("[data-passkey] button").first)
        line.wait_for()
        return line.inner_text()

    def back(self) -> Snapshot:
        self._answer = self.tab.go_back() or self._answer
        return self._arrive(USUAL)

    def reload(self) -> Snapshot:
        """GET the address that is shown."""
        return self.open(self.tab.url)

    def close(self) -> None:
        self.window.context.close()

    def _arrive(self, expect: Collection[int]) -> Snapshot:
        page = self.page
        assert page.status in expect, repr(page)
        page.check()
        return page

    def _reveal(self, wanted: Locator) -> None:
        """Open what folds it away."""
        for fold in wanted.locator("xpath=ancestor::details[not(@open)]").all():
            self._press(fold.locator("summary").first)

    def _fill(self, control: Locator, value: Value) -> None:
        if isinstance(value, bool):
            control.set_checked(value)
        elif control.get_attribute("type") == "radio":
            control.check()
        elif control.evaluate("element => element.tagName") == "SELECT":
            control.select_option(value)
        else:
            control.fill(value)

    def _press(self, wanted: Locator) -> None:
        wanted.click()


class KeyboardVisitor(BrowserVisitor):
    """The same person without a mouse: everything is reached by Tab, is seen to be reached, and is done by keys."""

    def _fill(self, control: Locator, value: Value) -> None:
        self._reach(control)
        if isinstance(value, bool):
            if control.is_checked() != value:
                self.tab.keyboard.press("Space")
        elif control.get_attribute("type") == "radio":
            if not control.is_checked():
                self.tab.keyboard.press("Space")
        elif control.evaluate("element => element.tagName") == "SELECT":
            self.tab.keyboard.type(control.locator(f'option[value="{value}"]').inner_text())
        else:
            self.tab.keyboard.press("ControlOrMeta+a")
            self.tab.keyboard.press("Delete")
            self.tab.keyboard.insert_text(value)

    def _press(self, wanted: Locator) -> None:
        self._reach(wanted)
        self.tab.keyboard.press("Enter")

    def _reach(self, wanted: Locator) -> None:
        """Press Tab until it has the focus, and look whether that shows."""
        for _ in range(TABS_MAX):
            if (key := wanted.evaluate(NEXT_KEY)) is None:
                break
            self.tab.keyboard.press(key)
        else:
            raise AssertionError(f"{wanted} cannot be reached by Tab on {self.page!r}")
        assert wanted.evaluate(
            "element => { const style = getComputedStyle(element);"
            " return style.outlineStyle !== 'none' || style.boxShadow !== 'none' }"
        ), f"one cannot see that {wanted} has the focus"


class Authenticator:
    """A passkey or security key of Chromium's own, as its developer tools make them, for one tab."""

    def __init__(self, visitor: BrowserVisitor, **options: Any) -> None:
        self._tab = visitor.tab
        self._tools = self._tab.context.new_cdp_session(self._tab)
        self._tools.send("WebAuthn.enable")
        made = self._tools.send("WebAuthn.addVirtualAuthenticator", {"options": {**PLATFORM, **options}})
        self._id = {"authenticatorId": made["authenticatorId"]}

    @property
    def credentials(self) -> list[dict[str, Any]]:
        """What it holds."""
        held: list[dict[str, Any]] = self._tools.send("WebAuthn.getCredentials", self._id)["credentials"]
        return held

    def wait_until_empty(self) -> None:
        """Until it holds nothing any more: what a page signals comes a moment later."""
        for _ in range(STEP_MS_MAX // 50):
            if not self.credentials:
                return
            self._tab.wait_for_timeout(50)
        raise AssertionError(f"it still holds {self.credentials}")

    def be_touched(self, is_touched: bool = True) -> None:
        """Whether somebody touches it when it asks for that, from now on."""
        self._tools.send("WebAuthn.setAutomaticPresenceSimulation", {**self._id, "enabled": is_touched})

    def know_user(self, is_known: bool = True) -> None:
        """Whether the finger, the face or the PIN is the right one, from now on."""
        self._tools.send("WebAuthn.setUserVerified", {**self._id, "isUserVerified": is_known})

    def take_away(self) -> None:
        """Unplug it."""
        self._tools.send("WebAuthn.removeVirtualAuthenticator", self._id)


@contextmanager
def running_chromium() -> Iterator[Browser]:
    """A browser process that ends with the block."""
    program = find_program("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()


def open_window(
    browser: Browser,
    url: str,
    *,
    javascript: bool = True,
    theme: str = "light",
    size: tuple[int, int] = DESKTOP,
    motion: str = "reduce",
    locale: str = "en-US",
    **more: Any,
) -> Window:
    """A window of its own; `theme` is light or dark, `size` in CSS pixels; `more` as Playwright's `new_context`."""
    context = browser.new_context(
        java_script_enabled=javascript,
        color_scheme=theme,  # type: ignore[arg-type]
        reduced_motion=motion,  # type: ignore[arg-type]
        viewport={"width": size[0], "height": size[1]},
        locale=locale,
        accept_downloads=True,
        permissions=["clipboard-read", "clipboard-write"],
        **more,
    )
    return Window(context, url)


def find_violations(tab: Page, rules: Collection[str] = ()) -> list[str]:
    """What axe finds on a page, one line for each rule, with the places; `rules` narrows it to some."""
    try:
        has_axe = tab.evaluate("() => typeof window.axe !== 'undefined'")
    except Error:  # the page went away in between
        has_axe = False
    if not has_axe:
        tab.evaluate(AXE)
    chosen = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": list(AXE_TAGS)}
    result = tab.evaluate("options => axe.run(document, options)", {"runOnly": chosen, "resultTypes": ["violations"]})
    return [
        f"{violation['id']} ({violation['impact']}): {violation['help']}"
        + "".join(f"\n    {node['html'][:160]}\n      {node['failureSummary']}" for node in violation["nodes"])
        for violation in result["violations"]
    ]


def assert_accessible(tab: Page, rules: Collection[str] = ()) -> None:
    """No violation of WCAG 2.2 A and AA, nor of axe's best practice."""
    found = find_violations(tab, rules)
    assert not found, f"{tab.url}\n" + "\n".join(found)


OpenWindow = Callable[..., Window]
OpenBrowser = Callable[..., BrowserVisitor]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One browser process for a file."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def new_window(chromium: Browser) -> Iterator[OpenWindow]:
    """Give a function from a server's URL, and options of `open_window`, to a new window; at the end nothing in any of
    them may have gone wrong."""
    opened: list[Window] = []

    def open_one(url: str, **options: Any) -> Window:
        opened.append(open_window(chromium, url, **options))
        return opened[-1]

    yield open_one
    for window in opened:
        window.context.close()
    complaints = [complaint for window in opened for complaint in window.complaints]
    assert not complaints, "\n".join(complaints)


@pytest.fixture
def open_browser(new_window: OpenWindow) -> OpenBrowser:
    """Give a function from a server's URL to a person at a new window; with `keyboard=True` one without a mouse."""

    def open_one(url: str, *, keyboard: bool = False, **options: Any) -> BrowserVisitor:
        return (KeyboardVisitor if keyboard else BrowserVisitor)(new_window(url, **options))

    return open_one
