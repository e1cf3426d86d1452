"""Ways around the gate that somebody with the first factor alone would try, each beside the way that is right."""

import html
import os
import re
from collections.abc import Iterator
from http import HTTPStatus
from io import RawIOBase
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from flask import request, session
from flask.testing import FlaskClient
from tests.integrations.test_flask import JSON, PAGE, Shop, fields, make_app, show_code, sign_in, text

from twofold.errors import ConfigurationError, InvalidInput
from twofold.integrations.arrival import check_person
from twofold.integrations.guard import Happened, Person
from twofold.testing import Kit, open_kit


@pytest.fixture
def kit() -> Iterator[Kit]:
    with open_kit() as opened:
        yield opened


@pytest.fixture
def shop(kit: Kit) -> Iterator[Shop]:
    app, second_factor, done = make_app()

    def remember() -> None:
        if "user" not in session and request.cookies.get("remember") == "alice":
            session["user"] = "alice"

    def clear() -> str:
        session.clear()
        return "out"

    def become(name: str) -> str:
        session["user"] = name
        return name

    def fall() -> str:
        session.clear()
        raise RuntimeError("after the sign-out")

    app.before_request(remember)
    app.add_url_rule("/clear", "clear", clear)
    app.add_url_rule("/become/<name>", "become", become)
    app.add_url_rule("/fall", "fall", fall)
    app.config["PROPAGATE_EXCEPTIONS"] = False
    yield Shop(app, second_factor, done, kit)
    second_factor.close()


def cookies(browser: FlaskClient) -> dict[str, str]:
    """A copy of all that the browser holds, as somebody takes who gets at it once."""
    held: Any = browser._cookies
    return {cookie.key: cookie.value for cookie in held.values()}


def opens(shop: Shop, held: dict[str, str]) -> bool:
    """Whether the account opens for whoever sends these cookies."""
    thief = shop.app.test_client(use_cookies=False)
    sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in held.items())}
    return thief.get("/account", headers=JSON | sent).status_code == HTTPStatus.OK


def test_somebody_signed_in_by_another_function_before_the_request_is_asked_all_the_same(shop: Shop) -> None:
    remembered = {"remember": "alice"}
    assert opens(shop, remembered)
    shop.kit.enroll("alice")
    assert not opens(shop, remembered)
    browser = shop.browser()
    browser.set_cookie("remember", "alice")
    led = browser.get("/account", headers=PAGE)
    assert led.location == "/2fa/sign-in/code?next=%2F-%2Faccount"
    assert show_code(shop, browser).location == "/account"
    assert text(browser.get("/account", headers=PAGE)) == "account of alice"


@pytest.mark.parametrize("way_out", ["/clear", "/sign-out", "/become/bob", "/fall"])
def test_what_was_copied_from_a_browser_opens_nothing_after_its_owner_left(shop: Shop, way_out: str) -> None:
    shop.kit.enroll("alice")
    browser = shop.browser()
    sign_in(shop, browser)
    held = cookies(browser)
    assert opens(shop, held)
    browser.get(way_out)
    assert not opens(shop, held)


def test_a_login_has_its_name_from_the_first_answer_on(shop: Shop) -> None:
    shop.kit.enroll("alice")
    browser = shop.browser()
    begun = browser.post("/form", data={"user": "alice"})
    named = cookies(browser)["session"]
    # Two requests at once, each with the cookie of the sign-in: neither changes what the other is tied to.
    for _ in range(2):
        answer = browser.get("/account", headers=JSON | {"Cookie": f"session={named}"})
        assert "session=" not in answer.headers.get("set-cookie", "")
    assert begun.status_code == HTTPStatus.FOUND


@pytest.mark.parametrize("found", [True, 1.5, b"5", object(), Person(5), Person(None), Person("")])  # type: ignore[arg-type]
def test_what_can_be_no_id_is_refused_and_not_taken_for_somebody_without_a_second_factor(found: Any) -> None:
    with pytest.raises(InvalidInput):
        check_person(found)


@pytest.mark.parametrize(("found", "expected"), [(5, "5"), ("5", "5"), (Person("5"), "5"), (0, "0")])
def test_an_id_is_text_or_a_number(found: Any, expected: str) -> None:
    person = check_person(found)
    assert person is not None
    assert person.id == expected
    assert check_person(None) is None


@pytest.mark.parametrize(
    "url", ["shop.example", "http://shop.example", "https://shop.example/app", "https://u:p@shop.example"]
)
def test_an_address_that_people_cannot_open_is_refused_at_the_start(kit: Kit, url: str) -> None:
    with pytest.raises(ConfigurationError, match="PUBLIC_URL"):
        make_app(public_url=url)


def test_an_address_is_understood_however_it_is_spelled(kit: Kit) -> None:
    app, second_factor, done = make_app(public_url="HTTPS://LocalHost:443/")
    kit.enroll("alice")
    browser, there = Shop(app, second_factor, done, kit).browser(), "https://localhost"
    browser.post("/form", data={"user": "alice"}, base_url=there)
    led = browser.get("/account", headers=PAGE, base_url=there)
    asked = browser.get(led.location, headers=PAGE, base_url=there)
    assert "__Host-twofold-session" in cookies(browser)
    sent = fields(asked, "/2fa/sign-in/code") | {"code": kit.current_code("alice")}
    headers = PAGE | {"Origin": there, "Sec-Fetch-Site": "same-origin"}
    assert browser.post(led.location, data=sent, headers=headers, base_url=there).location == "/account"
    second_factor.close()


@pytest.mark.parametrize("host", ["[", "[::1", "localhost:5000]"])
def test_a_name_that_is_none_is_not_the_applications(shop: Shop, host: str) -> None:
    browser = shop.browser()
    page = browser.get("/2fa/state", headers=JSON | {"Host": host})
    assert page.status_code == HTTPStatus.MISDIRECTED_REQUEST
    assert browser.get("/2fa/state", headers=JSON).status_code == HTTPStatus.UNAUTHORIZED


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_listener_may_fork_and_may_ask_the_verifier_while_the_gate_closes(tmp_path: Path) -> None:
    app, second_factor, _ = make_app(database=f"sqlite:///{tmp_path}/twofold.db")
    heard: SimpleQueue[str] = SimpleQueue()

    def listen(event: Happened) -> None:
        if not (child := os.fork()):
            os._exit(0)
        os.waitpid(child, 0)
        heard.put(second_factor.verifier.account(event.account_id).id)

    second_factor.on("sign_in.vouched", listen)
    browser = app.test_client()
    browser.post("/form", data={"user": "alice"})
    assert browser.get("/2fa/enroll", headers=PAGE).status_code == HTTPStatus.OK
    second_factor.close()
    assert heard.get(timeout=30) == "alice"
    second_factor.close()


class Endless(RawIOBase):
    """What somebody sends who wants our memory; counts how much of it was read."""

    taken = 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return 0

    def seek(self, *_: int) -> int:
        return 0

    def readinto(self, buffer: Any) -> int:
        assert len(buffer) <= 1 << 20
        self.taken += len(buffer)
        buffer[:] = b"x" * len(buffer)
        return len(buffer)


@pytest.mark.parametrize("path", ["/2fa/verify", "/2fa/fresh", "/transfer"])
def test_nobody_fills_our_memory_with_a_large_body(shop: Shop, path: str) -> None:
    shop.kit.enroll("alice")
    browser = shop.browser()
    sign_in(shop, browser)
    sent = Endless()
    large = {"CONTENT_LENGTH": str(1 << 30), "CONTENT_TYPE": "application/x-www-form-urlencoded"}
    refused = browser.post(path, input_stream=sent, environ_overrides=large, headers=PAGE)
    assert refused.status_code in (303, 403, 413, 415)
    assert sent.taken <= 1 << 17
    assert browser.post(path, data={"to": "bob"}, headers=PAGE).status_code in (403, 415)


def test_without_a_script_the_way_to_a_recovery_code_leads_back_to_the_act(shop: Shop) -> None:
    shop.kit.enroll("alice")
    browser = shop.browser()
    sign_in(shop, browser)
    asked = browser.post("/transfer?a=1", data={"to": "bob"}, headers=PAGE)
    link = re.search(r'href="(/2fa/fresh[^"]*letters=1[^"]*)"', text(asked))
    assert link is not None
    page = browser.get(html.unescape(link[1]), headers=PAGE)
    assert 'inputmode="text"' in text(page)
    assert fields(page, "/2fa/fresh")["next"] == "/-/transfer?a=1"
