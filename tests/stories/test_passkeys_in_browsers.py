"""What the script does in browsers that are older, at the wrong address, or that refuse, in Chromium made so."""

import json
import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Route
from tests.browsers import Authenticator, BrowserVisitor, OpenBrowser
from tests.people import NewPerson
from tests.servers import Clock, Server

#: A browser of 2023: it has passkeys, and no JSON of its own.
WITHOUT_JSON = """
for (const name of ["parseCreationOptionsFromJSON", "parseRequestOptionsFromJSON"]) delete PublicKeyCredential[name];
delete PublicKeyCredential.prototype.toJSON;
"""
WITHOUT_PASSKEYS = "delete window.PublicKeyCredential;"
WITHOUT_HTTPS = f"{WITHOUT_PASSKEYS} Object.defineProperty(window, 'isSecureContext', {{ value: false }});"
FAILING = """
const error = new DOMException("", "%s");
navigator.credentials.create = () => Promise.reject(error);
"""


@pytest.fixture
def new_browser(server: Server, open_browser: OpenBrowser) -> Callable[..., BrowserVisitor]:
    def open_one(script: str = "") -> BrowserVisitor:
        visitor = open_browser(f"http://localhost:{server.port}")
        if script:
            visitor.window.context.add_init_script(script)
        return visitor

    return open_one


def at_passkey(visitor: BrowserVisitor, new_person: NewPerson) -> None:
    """Where the browser is asked for a passkey."""
    person = new_person(visitor)
    person.sign_in()
    visitor.open("/enroll")
    visitor.send(code=person.fresh_code())
    visitor.send(press="factor=webauthn")


def test_a_browser_without_json_of_its_own_adds_and_uses_passkeys(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson
) -> None:
    visitor = new_browser(WITHOUT_JSON)
    Authenticator(visitor, transport="usb")
    at_passkey(visitor, new_person)
    assert visitor.tab.evaluate("() => !PublicKeyCredential.prototype.toJSON")
    assert visitor.show_passkey().path == "/enroll/done"
    visitor.open("/sign-out")
    visitor.send(to="/sign-out")
    assert visitor.show_passkey().path == "/security"


@pytest.mark.parametrize(
    ("script", "says"), [(WITHOUT_PASSKEYS, "cannot do that"), (WITHOUT_HTTPS, "begins with https")]
)
def test_a_browser_without_passkeys_says_so_and_offers_no_button(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson, script: str, says: str
) -> None:
    visitor = new_browser(script)
    at_passkey(visitor, new_person)
    assert says in visitor.tab.locator("[data-passkey] [role=alert]").inner_text()
    assert not visitor.tab.locator("[data-passkey] button").is_visible()
    visitor.open("/enroll")
    assert visitor.page.text.index("Authenticator app") < visitor.page.text.index("Passkey or security key")


def test_where_nobody_asked_for_a_passkey_a_browser_without_them_says_nothing(
    new_browser: Callable[..., BrowserVisitor],
) -> None:
    visitor = new_browser(WITHOUT_PASSKEYS)
    visitor.open("/sign-in")
    assert not visitor.tab.locator("[data-passkey] [role=alert]").is_visible()
    assert not visitor.tab.locator("[data-passkey] button").is_visible()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("NotAllowedError", "It was canceled"),
        ("AbortError", "It was canceled"),
        ("InvalidStateError", "is registered for you already"),
        ("NotSupportedError", "cannot do that"),
        ("ConstraintError", "cannot do that"),
        ("UnknownError", "That did not work"),
    ],
)
def test_what_the_browser_refuses_is_a_sentence_and_can_be_tried_again(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson, error: str, says: str
) -> None:
    visitor = new_browser(FAILING % error)
    at_passkey(visitor, new_person)
    for _ in range(2):
        assert says in visitor.show_passkey_in_vain()
    button = visitor.tab.locator("[data-passkey] button")
    assert (button.inner_text(), button.get_attribute("aria-disabled")) == ("Try again", "false")


def test_the_wrong_address_names_both(new_browser: Callable[..., BrowserVisitor], server: Server) -> None:
    def ask_for_another(route: Route) -> None:
        answer = route.fetch()
        body = answer.text().replace("&#34;rpId&#34;:&#34;localhost&#34;", "&#34;rpId&#34;:&#34;login.example&#34;")
        route.fulfill(response=answer, body=body)

    visitor = new_browser()
    visitor.tab.route(re.compile("/sign-in$"), ask_for_another)
    visitor.open("/sign-in")
    said = visitor.show_passkey_in_vain()
    assert f"You opened http://localhost:{server.port}" in said
    assert "login.example" in said


def test_a_page_that_was_open_for_long_asks_anew(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson, clock: Clock
) -> None:
    """The question is good for five minutes; a page where somebody was called away still works."""
    visitor = new_browser()
    Authenticator(visitor, transport="usb")
    at_passkey(visitor, new_person)
    before = json.loads(visitor.tab.locator("[data-passkey]").get_attribute("data-options") or "")
    visitor.tab.clock.set_system_time(visitor.tab.evaluate("Date.now()") + 6 * 60 * 1000)
    clock.advance(6 * 60)
    with visitor.tab.expect_request(lambda request: request.url.endswith("/enroll/webauthn")) as asked:
        page = visitor.show_passkey()
    assert asked.value.method == "GET"
    assert page.path == "/enroll/done", before["challenge"]
