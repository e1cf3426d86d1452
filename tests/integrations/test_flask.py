"""A Flask application with every kind of door: none opens with the first factor alone, each opens with both."""

import html
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Blueprint, Flask, Response, g, redirect, request, session
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from twofold.errors import ConfigurationError
from twofold.integrations.flask import SecondFactor, fresh, second_factor_exempt, second_factor_required
from twofold.integrations.guard import Happened, Person
from twofold.testing import Kit, SoftwareAuthenticator, open_kit

PAGE = {"Accept": "text/html"}
JSON = {"Accept": "application/json"}
TOKEN = {"Authorization": "Bearer token-of-alice"}
DOORS = ("/form", "/social", "/magic/link", "/reset", "/login-as/alice")


class Shop(NamedTuple):
    app: Flask
    second_factor: SecondFactor
    done: list[str]
    kit: Kit

    def browser(self) -> FlaskClient:
        return self.app.test_client()


def who() -> str | None:
    token = {"Bearer token-of-alice": "alice"}.get(request.headers.get("Authorization", ""))
    return token or session.get("impersonator") or session.get("user")


def make_app(**options: Any) -> tuple[Flask, SecondFactor, list[str]]:
    app, done = Flask("Shop", template_folder=options.pop("template_folder", "templates")), []
    app.secret_key = "for tests"
    second_factor = SecondFactor(app, options.pop("person", who), sign_out_url="/sign-out", **options)

    def let_in(**whom: str) -> Response:
        session.update(whom)
        return redirect("/account")  # type: ignore[return-value]

    app.add_url_rule("/form", "form", lambda: let_in(user=request.form["user"]), methods=["POST"])
    app.add_url_rule("/login", "login", lambda: let_in(user=request.form["user"]), methods=["POST"])
    app.add_url_rule("/social", "social", lambda: let_in(user="alice"), methods=["POST"])
    app.add_url_rule("/magic/link", "magic", lambda: let_in(user="alice"), methods=["POST"])
    app.add_url_rule("/reset", "reset", lambda: let_in(user="alice"), methods=["POST"])
    app.add_url_rule("/login-as/<name>", "as", lambda name: let_in(user=name, impersonator="alice"), methods=["POST"])
    app.add_url_rule("/sign-out", "sign-out", lambda: (session.pop("user", "") and "") or "out")
    app.add_url_rule("/account", "account", lambda: f"account of {session.get('user') or who()}")
    app.add_url_rule("/status", "status", second_factor_exempt(lambda: "up"))
    app.add_url_rule("/paper", "paper", second_factor_required(lambda: "paper"))

    def do(what: str = "transfer") -> str:
        if request.method == "POST":
            done.append(f"{what} {request.form.get('to', '?')}")
        return f"{what} form or done"

    app.add_url_rule("/transfer", "transfer", fresh(minutes=5)(do), methods=["GET", "POST"])
    app.add_url_rule("/things/<what>", "thing", fresh(minutes=5)(do), methods=["GET", "POST"])
    app.add_url_rule("/vault", "vault", fresh(at_least="passkey")(do), methods=["GET", "POST"])
    return app, second_factor, done


@pytest.fixture
def kit() -> Iterator[Kit]:
    with open_kit() as opened:
        yield opened


@pytest.fixture
def shop(kit: Kit) -> Iterator[Shop]:
    app, second_factor, done = make_app()
    yield Shop(app, second_factor, done, kit)
    second_factor.close()


def knock(browser: FlaskClient, door: str = "/form", user: str = "alice") -> None:
    """The first factor, whichever it is."""
    assert browser.post(door, data={"user": user}).status_code == HTTPStatus.FOUND


def fields(response: TestResponse, action: str) -> dict[str, str]:
    """What the form with this action sends of itself."""
    text = response.get_data(as_text=True)
    form = re.search(rf'<form[^>]*action="{re.escape(html.escape(action))}[^"]*".*?</form>', text, re.DOTALL)
    assert form is not None, re.findall(r'action="([^"]*)"', text)
    return {
        html.unescape(name): html.unescape(value)
        for name, value in re.findall(r'name="([^"]*)" value="([^"]*)"', form[0])
    }


def show_code(shop: Shop, browser: FlaskClient, account: str = "alice", path: str = "/account") -> TestResponse:
    """From the page that was asked for to the second step, with the code that the phone shows."""
    led = browser.get(path, headers=PAGE)
    assert led.status_code == HTTPStatus.FOUND
    asked = browser.get(led.location, headers=PAGE)
    address = urlsplit(led.location)
    sent = fields(asked, address.path) | {"code": shop.kit.current_code(account)}
    return browser.post(led.location, data=sent, headers=PAGE)


def sign_in(shop: Shop, browser: FlaskClient, door: str = "/form", user: str = "alice") -> None:
    knock(browser, door, user)
    assert show_code(shop, browser, user).location == "/account"
    shop.kit.clock.advance(30)


def text(response: TestResponse) -> str:
    return response.get_data(as_text=True)


class TestDoors:
    @pytest.mark.parametrize("door", DOORS)
    def test_a_door_opens_with_both_factors_and_not_with_the_first_alone(self, shop: Shop, door: str) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        knock(browser, door)
        for headers in (PAGE, JSON):
            refused = browser.get("/account", headers=headers)
            assert refused.status_code in (302, 403)
            assert b"account of" not in refused.data
        done = show_code(shop, browser)
        assert (done.status_code, done.location) == (303, "/account")
        assert text(browser.get("/account", headers=PAGE)) == "account of alice"

    def test_an_api_token_opens_with_a_code_and_not_alone(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        program = shop.browser()
        refused = program.get("/account", headers=TOKEN | JSON)
        assert refused.status_code == HTTPStatus.FORBIDDEN
        assert refused.json is not None
        assert (refused.json["code"], refused.json["url"]) == ("second_factor_required", "/2fa/sign-in/code")
        wrong = program.post("/2fa/verify", json={"code": "000000"}, headers=TOKEN)
        assert wrong.json == {"verified": False, "reason": "wrong_code"}
        assert program.get("/account", headers=TOKEN | JSON).status_code == HTTPStatus.FORBIDDEN
        right = program.post("/2fa/verify", json={"code": shop.kit.current_code("alice")}, headers=TOKEN)
        assert right.json == {"verified": True}
        assert text(program.get("/account", headers=TOKEN)) == "account of alice"

    def test_the_cookie_of_a_browser_is_worth_nothing_beside_a_token(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        assert browser.get("/account", headers=PAGE).status_code == HTTPStatus.OK
        assert browser.get("/account", headers=TOKEN | JSON).status_code == HTTPStatus.FORBIDDEN

    def test_every_route_is_gated_but_those_that_are_open_on_purpose(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        knock(browser)
        opened = set()
        for rule in shop.app.url_map.iter_rules():
            path = re.sub(r"<[^>]+>", "x", rule.rule)
            if path in ("/login", "/sign-out"):
                continue  # where somebody who is half in may become somebody else, or leave
            for method in (rule.methods or set()) - {"HEAD"}:
                answer = browser.open(path, method=method, headers=JSON)
                if answer.status_code != HTTPStatus.FORBIDDEN and not path.startswith("/2fa/"):
                    opened.add(path)
        assert opened == {"/status", "/static/x"}
        assert browser.get("/no-such-page", headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_who_has_no_second_factor_and_needs_none_is_let_through(self, shop: Shop) -> None:
        browser = shop.browser()
        knock(browser, user="bob")
        assert text(browser.get("/account", headers=PAGE)) == "account of bob"

    def test_nobody_is_asked_who_is_not_signed_in(self, shop: Shop) -> None:
        assert text(shop.browser().get("/account", headers=PAGE)) == "account of None"

    def test_an_extension_that_answers_before_a_request_is_behind_the_gate(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        shop.app.before_request(lambda: "answered before" if request.path == "/early" else None)
        blueprint = Blueprint("early", __name__)
        shop.app.register_blueprint(blueprint)
        browser = shop.browser()
        assert text(browser.get("/early")) == "answered before"
        knock(browser)
        assert browser.get("/early", headers=JSON).status_code == HTTPStatus.FORBIDDEN


class TestOneLogin:
    def test_signing_out_and_in_again_asks_again(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        cookie = browser.get_cookie("twofold-session")
        browser.get("/sign-out")
        knock(browser)
        assert browser.get_cookie("twofold-session") == cookie
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_signing_out_ends_the_session_on_the_server(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser, thief = shop.browser(), shop.browser()
        sign_in(shop, browser)
        for name in ("session", "twofold-session"):
            cookie = browser.get_cookie(name)
            assert cookie is not None
            thief.set_cookie(name, cookie.value)
        assert thief.get("/account", headers=JSON).status_code == HTTPStatus.OK
        browser.get("/sign-out")
        # The application keeps its session in the cookie, so that one goes on; the second factor does not.
        assert thief.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_a_session_that_was_fixed_before_is_worth_nothing(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        victim, attacker = shop.browser(), shop.browser()
        sign_in(shop, victim)
        fixed = victim.get_cookie("session")
        assert fixed is not None
        attacker.set_cookie("session", fixed.value)
        assert attacker.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN
        assert victim.get("/account", headers=JSON).status_code == HTTPStatus.OK

    def test_somebody_else_in_the_same_browser_shows_a_factor_of_her_own(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        shop.kit.enroll("carol")
        browser = shop.browser()
        sign_in(shop, browser)
        knock(browser, user="carol")
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN
        assert show_code(shop, browser, "carol").location == "/account"
        assert text(browser.get("/account", headers=JSON)) == "account of carol"
        knock(browser, user="alice")
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_somebody_who_is_half_in_may_sign_in_as_somebody_else_or_leave(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        knock(browser)
        knock(browser, "/login", "bob")
        assert text(browser.get("/account", headers=JSON)) == "account of bob"
        knock(browser)
        assert text(browser.get("/sign-out", headers=PAGE)) == "out"
        assert text(browser.get("/account", headers=JSON)) == "account of None"

    def test_another_browser_with_the_same_cookies_is_none(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        there = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
        assert browser.get("/account", headers=JSON | there).status_code == HTTPStatus.FORBIDDEN
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.OK

    def test_a_second_factor_counts_for_a_day_and_no_longer(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        shop.kit.clock.advance(24 * 3600 - 60)
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.OK
        shop.kit.clock.advance(120)
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_what_voids_the_epoch_ends_it_at_once(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        shop.second_factor.verifier.record_event("alice", "password_changed")
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_a_disabled_account_is_let_nowhere(self, shop: Shop) -> None:
        browser = shop.browser()
        knock(browser, user="bob")
        shop.kit.enroll("bob")
        shop.second_factor.verifier.record_event("bob", "disabled")
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_a_code_works_once_in_two_browsers(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        code = shop.kit.current_code("alice")
        outcomes = []
        for browser in (shop.browser(), shop.browser()):
            knock(browser)
            outcomes.append(browser.post("/2fa/verify", json={"code": code}).json)
        assert outcomes[0] == {"verified": True}
        assert outcomes[1] is not None
        assert outcomes[1]["reason"] == "code_already_used"

    def test_somebody_who_guesses_elsewhere_does_not_keep_a_known_browser_out(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser, guesser = shop.browser(), shop.browser()
        sign_in(shop, browser)
        browser.get("/sign-out")
        for _ in range(12):
            knock(guesser, "/login")
            answer = guesser.post("/2fa/verify", json={"code": "000000"})
            shop.kit.clock.advance(60)
        assert answer.status_code == HTTPStatus.TOO_MANY_REQUESTS
        assert answer.json is not None
        assert "known_browser" in answer.json["ways"]
        sign_in(shop, browser)
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.OK


class TestPages:
    def test_pages_are_under_the_prefix_alone(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        for path in ("/2fa/security", "/2fa/security/recovery-codes", "/2fa/enroll", "/2fa/security/activity"):
            page = browser.get(path, headers=PAGE)
            assert page.status_code == HTTPStatus.OK
            addresses = re.findall(r' (?:href|action|src)="(/[^"]*)"', text(page))
            assert addresses
            assert {a for a in addresses if not a.startswith("/2fa/")} <= {"/", "/sign-out"}
            assert "/-/" not in text(page)
        for path in ("/2fa/admin", "/2fa/setup", "/2fa/sign-in/passkey", "/2fa/link"):
            assert browser.get(path, headers=PAGE).status_code == HTTPStatus.NOT_FOUND

    def test_the_first_enrollment_leads_from_the_choice_to_the_recovery_codes(self, shop: Shop) -> None:
        browser = shop.browser()
        knock(browser)
        choice = browser.get("/2fa/enroll", headers=PAGE)
        led = browser.post("/2fa/enroll", data=fields(choice, "/2fa/enroll") | {"factor": "totp"}, headers=PAGE)
        assert led.location == "/2fa/enroll/totp"
        shown = browser.get(led.location, headers=PAGE)
        assert "otpauth://totp/Shop:alice" in html.unescape(text(shown))

    def test_somebody_who_is_not_signed_in_is_led_to_the_application(self, shop: Shop) -> None:
        led = shop.browser().get("/2fa/security", headers=PAGE)
        step = shop.browser().get(led.location, headers=PAGE)
        assert urlsplit(step.location).path == "/login"
        assert parse_qs(urlsplit(step.location).query) == {"next": ["/2fa/security"]}

    def test_the_way_to_sign_in_may_have_a_query_of_its_own(self, kit: Kit) -> None:
        app, second_factor, _ = make_app(login_url="/?sign-in=1")
        browser = app.test_client()
        assert browser.get("/paper", headers=PAGE).location == "/?sign-in=1&next=%2Fpaper"
        led = browser.get("/2fa/sign-in?next=/security", headers=PAGE)
        assert led.location == "/?sign-in=1&next=%2F2fa%2Fsecurity"
        second_factor.close()

    def test_a_form_of_another_site_is_refused(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        knock(browser)
        asked = browser.get("/2fa/sign-in/code", headers=PAGE)
        sent = fields(asked, "/2fa/sign-in/code") | {"code": shop.kit.current_code("alice")}
        for change in ({"csrf": "x"}, {}):
            headers = PAGE | ({} if change else {"Origin": "https://evil.example"})
            assert browser.post("/2fa/sign-in/code", data=sent | change, headers=headers).status_code == 403
        assert browser.post("/2fa/sign-in/code", data=sent, headers=PAGE).status_code == HTTPStatus.SEE_OTHER
        foreign = {"Origin": "https://evil.example"}
        assert browser.post("/2fa/verify", json={"code": "1"}, headers=foreign).status_code == HTTPStatus.FORBIDDEN

    @pytest.mark.parametrize(
        "aim",
        ["//evil.example", "/-//evil.example", "/-/\\evil.example", "https://evil.example", "/-/../x", "/-/%0a/x/"],
    )
    def test_nobody_is_led_to_another_site(self, shop: Shop, aim: str) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        knock(browser)
        asked = browser.get("/2fa/sign-in/code", query_string={"next": aim}, headers=PAGE)
        action = re.search(r'action="(/2fa/sign-in/code[^"]*)"', text(asked))
        assert action is not None
        sent = fields(asked, "/2fa/sign-in/code") | {"code": shop.kit.current_code("alice")}
        done = browser.post(html.unescape(action[1]), data=sent, headers=PAGE)
        assert done.location in ("/2fa/security", "/%0a/x/")

    def test_under_a_name_that_is_not_the_applications_nobody_is_let_in(self, kit: Kit) -> None:
        app, second_factor, _ = make_app(public_url="http://localhost:5000")
        shop = Shop(app, second_factor, [], kit)
        kit.enroll("alice")
        browser = shop.browser()
        knock(browser)
        there = browser.get("/2fa/sign-in/code", headers=PAGE, base_url="http://evil.example")
        assert there.status_code == HTTPStatus.MISDIRECTED_REQUEST
        here = browser.get("/2fa/sign-in/code", headers=PAGE, base_url="http://localhost:5000")
        assert here.status_code == HTTPStatus.OK
        second_factor.close()

    def test_pages_are_shown_in_the_layout_of_the_application(self, kit: Kit, tmp_path: Any) -> None:
        (tmp_path / "twofold").mkdir()
        (tmp_path / "twofold" / "base.html").write_text(
            "<title>{{ twofold.title }}</title>{{ twofold.head }}<header>Shop</header>{{ twofold.body }}"
        )
        app, second_factor, _ = make_app(template_folder=str(tmp_path))
        kit.enroll("alice")
        shop = Shop(app, second_factor, [], kit)
        browser = shop.browser()
        knock(browser)
        page = browser.get("/2fa/sign-in/code", headers=PAGE)
        assert text(page).startswith("<title>Enter your code</title><link")
        assert "<header>Shop</header>" in text(page)
        assert text(page).count("<html") == 0
        assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
        assert "script-src" not in page.headers["content-security-policy"]
        assert show_code(shop, browser).location == "/account"
        style = re.search(r'href="(/2fa/static/embedded\.css[^"]*)"', text(page))
        assert style is not None
        assert browser.get(style[1]).status_code == HTTPStatus.OK
        second_factor.close()

    def test_the_pages_bear_the_name_and_the_picture_of_the_application(self, kit: Kit) -> None:
        app, second_factor, _ = make_app(issuer="Tea & Co", logo="/static/logo.svg")
        kit.enroll("alice")
        browser = Shop(app, second_factor, [], kit).browser()
        knock(browser)
        page = text(browser.get("/2fa/sign-in/code", headers=PAGE))
        assert '<img class="logo" src="/static/logo.svg" alt="">' in page
        assert "Tea &amp; Co" in page
        second_factor.close()

    def test_the_application_under_a_root_of_its_own(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        browser.post("/form", data={"user": "alice"}, base_url="http://localhost/shop")
        led = browser.get("/account", headers=PAGE, base_url="http://localhost/shop")
        assert led.location == "/shop/2fa/sign-in/code?next=%2F-%2Faccount"
        address = led.location.removeprefix("/shop")
        asked = browser.get(address, headers=PAGE, base_url="http://localhost/shop")
        sent = fields(asked, "/shop/2fa/sign-in/code") | {"code": shop.kit.current_code("alice")}
        done = browser.post(address, data=sent, headers=PAGE, base_url="http://localhost/shop")
        assert done.location == "/shop/account"


class TestFresh:
    def prove(self, shop: Shop, browser: FlaskClient, asked: TestResponse) -> TestResponse:
        sent = fields(asked, "/2fa/fresh") | {"code": shop.kit.current_code("alice")}
        proven = browser.post("/2fa/fresh", data=sent, headers=PAGE)
        shop.kit.clock.advance(30)
        return proven

    def test_a_form_waits_for_the_proof_and_is_sent_once(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        sent = {"to": "bob & co", "note": "two\r\nlines", "submit": ""}
        asked = browser.post("/transfer?a=1", data=sent, headers=PAGE)
        assert (asked.status_code, shop.done) == (HTTPStatus.FORBIDDEN, [])
        proven = self.prove(shop, browser, asked)
        waiting = fields(proven, "/transfer?a=1")
        assert waiting == sent
        assert shop.done == []
        first = browser.post("/transfer?a=1", data=waiting, headers=PAGE)
        assert (first.status_code, shop.done) == (HTTPStatus.OK, ["transfer bob & co"])
        second = browser.post("/transfer?a=1", data=waiting, headers=PAGE)
        assert (second.status_code, shop.done) == (HTTPStatus.FORBIDDEN, ["transfer bob & co"])

    def test_the_proof_for_one_form_is_worth_nothing_for_another(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        proven = self.prove(shop, browser, browser.post("/transfer", data={"to": "bob"}, headers=PAGE))
        assert browser.post("/transfer", data={"to": "mallory"}, headers=PAGE).status_code == HTTPStatus.FORBIDDEN
        assert browser.post("/things/transfer", data={"to": "bob"}, headers=PAGE).status_code == HTTPStatus.FORBIDDEN
        assert (
            browser.post("/transfer?from=savings", data={"to": "bob"}, headers=PAGE).status_code == HTTPStatus.FORBIDDEN
        )
        assert browser.post("/transfer", data=fields(proven, "/transfer"), headers=PAGE).status_code == HTTPStatus.OK

    def test_the_page_of_an_act_leads_to_the_proof_and_back_and_its_form_uses_it_up(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        led = browser.get("/things/seven", headers=PAGE)
        assert led.location.startswith("/2fa/fresh?next=%2F-%2Fthings%2Fseven")
        assert self.prove(shop, browser, browser.get(led.location, headers=PAGE)).location == "/things/seven"
        assert browser.get("/things/seven", headers=PAGE).status_code == HTTPStatus.OK
        assert browser.get("/things/eight", headers=PAGE).status_code == HTTPStatus.FOUND
        assert browser.post("/things/seven", data={"to": "x"}, headers=PAGE).status_code == HTTPStatus.OK
        assert browser.post("/things/seven", data={"to": "x"}, headers=PAGE).status_code == HTTPStatus.FORBIDDEN
        assert shop.done == ["seven x"]

    def test_a_proof_counts_for_five_minutes(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        self.prove(shop, browser, browser.get(browser.get("/transfer", headers=PAGE).location, headers=PAGE))
        shop.kit.clock.advance(240)
        assert browser.get("/transfer", headers=PAGE).status_code == HTTPStatus.OK
        shop.kit.clock.advance(60)
        assert browser.get("/transfer", headers=PAGE).status_code == HTTPStatus.FOUND

    def test_the_code_of_the_sign_in_is_no_proof_for_an_act(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        assert browser.get("/transfer", headers=PAGE).status_code == HTTPStatus.FOUND

    def test_a_form_of_another_site_does_not_wait(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        foreign = PAGE | {"Origin": "https://evil.example"}
        refused = browser.post("/transfer", data={"to": "mallory"}, headers=foreign)
        assert refused.status_code == HTTPStatus.FORBIDDEN
        assert b"<form" not in refused.data
        assert b"<form" in browser.post("/transfer", data={"to": "bob"}, headers=PAGE).data

    def test_a_form_with_files_is_sent_again_after_the_proof(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)

        def send() -> TestResponse:
            sent = {"to": "bob", "file": (__import__("io").BytesIO(b"x"), "x.txt")}
            return browser.post("/transfer", data=sent, headers=PAGE)

        led = send()
        assert led.status_code == HTTPStatus.SEE_OTHER
        self.prove(shop, browser, browser.get(led.location, headers=PAGE))
        assert send().status_code == HTTPStatus.OK
        assert shop.done == ["transfer bob"]

    def test_a_program_proves_as_json(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        refused = browser.post("/transfer", data={"to": "bob"}, headers=JSON).json
        assert refused is not None
        assert (refused["code"], refused["act"]) == ("step_up_required", "/transfer")
        body = {"code": shop.kit.current_code("alice"), "act": refused["act"], "at_least": refused["at_least"]}
        assert browser.post("/2fa/verify", json=body).json == {"verified": True}
        assert browser.post("/transfer", data={"to": "bob"}, headers=JSON).status_code == HTTPStatus.OK
        assert browser.post("/transfer", data={"to": "bob"}, headers=JSON).status_code == HTTPStatus.FORBIDDEN

    def test_a_code_is_not_enough_where_a_passkey_is_asked_for(self, shop: Shop) -> None:
        shop.kit.enroll("alice")
        browser = shop.browser()
        sign_in(shop, browser)
        led = browser.get("/vault", headers=PAGE)
        assert "This takes a passkey" in text(browser.get(led.location, headers=PAGE))
        body = {"code": shop.kit.current_code("alice"), "act": "/vault"}
        assert browser.post("/2fa/verify", json=body).json == {"verified": True}
        assert browser.get("/vault", headers=PAGE).status_code == HTTPStatus.FOUND

        key = SoftwareAuthenticator()
        shop.kit.enroll_passkey("alice", key)
        asked = browser.post("/2fa/challenge", json={"act": "/vault", "at_least": "passkey"}).json
        assert asked is not None
        credential = key.answer(asked["public_key"], "http://localhost")
        body = {"challenge": asked["challenge"], "credential": credential, "act": "/vault", "at_least": "passkey"}
        assert browser.post("/2fa/verify", json=body).json == {"verified": True}
        assert browser.get("/vault", headers=PAGE).status_code == HTTPStatus.OK

    def test_what_needs_a_second_factor_leads_to_enroll_one(self, shop: Shop) -> None:
        browser = shop.browser()
        assert urlsplit(browser.get("/paper", headers=PAGE).location).path == "/login"
        assert browser.get("/paper", headers=JSON).status_code == HTTPStatus.UNAUTHORIZED
        knock(browser, user="bob")
        assert urlsplit(browser.get("/paper", headers=PAGE).location).path == "/2fa/enroll"
        shop.kit.enroll("bob")
        assert show_code(shop, browser, "bob", "/paper").location == "/paper"
        assert text(browser.get("/paper", headers=PAGE)) == "paper"


class TestRequire:
    def test_it_refuses_to_go_on_while_no_administrator_is_enrolled(self, shop: Shop) -> None:
        with pytest.raises(ConfigurationError, match="no administrator has a second factor yet"):
            shop.second_factor.require(lambda _: True, administrators=["root"])
        browser = shop.browser()
        knock(browser, user="bob")
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.OK
        shop.kit.enroll("root")
        shop.second_factor.require(lambda user: user == "bob", administrators=lambda: ["root"])
        assert urlsplit(browser.get("/account", headers=PAGE).location).path == "/2fa/enroll"
        knock(browser, "/login", "eve")
        assert browser.get("/account", headers=JSON).status_code == HTTPStatus.OK

    def test_the_rule_is_asked_about_the_applications_own_user(self, kit: Kit) -> None:
        person = lambda: Person("7", name="Grace", user=g.user) if hasattr(g, "user") else None  # noqa: E731
        app, second_factor, _ = make_app(person=person)
        app.before_request_funcs[None].insert(0, lambda: setattr(g, "user", {"is_staff": True}))
        kit.enroll("root")
        second_factor.require(lambda user: user["is_staff"], administrators=["root"])
        assert app.test_client().get("/account", headers=JSON).status_code == HTTPStatus.FORBIDDEN
        second_factor.close()


def test_hooks_hear_what_happened_after_it_was_written_down(shop: Shop) -> None:
    heard: list[Happened] = []
    shop.second_factor.on("code.accepted", heard.append)
    everything: list[str] = []
    shop.second_factor.on("*", lambda happened: everything.append(happened.kind))
    shop.kit.enroll("alice")
    sign_in(shop, shop.browser())
    shop.second_factor.close()  # it tells first what it knows
    assert [(each.account_id, each.payload["factor"]) for each in heard] == [("alice", "totp")]
    assert everything[:1] == ["sign_in.vouched"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"prefix": "2fa/"}, "prefix"),
        ({"login_url": "https://x"}, "login_url"),
        ({"session_hours": 0}, "session_hours"),
        ({"session_hours": "24"}, "session_hours"),
    ],
)
def test_an_option_that_cannot_be_is_refused_in_one_line(kit: Kit, options: Any, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected):
        make_app(**options)


def test_where_people_come_from_outside_the_database_has_a_place_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError, match=r"depends on the folder .* sqlite:////"):
        make_app(public_url="https://shop.example")
    assert not list(tmp_path.iterdir())
    _, second_factor, _ = make_app(public_url="https://shop.example", database=f"sqlite:///{tmp_path}/twofold.db")
    second_factor.close()
    assert f"a new database, in which nobody has a second factor yet: {tmp_path}/twofold.db" in caplog.text
    caplog.clear()
    _, again, _ = make_app(public_url="https://shop.example", database=f"sqlite:///{tmp_path}/twofold.db")
    again.close()
    assert not caplog.text


def test_one_gate_is_enough(shop: Shop) -> None:
    with pytest.raises(ConfigurationError, match="there is a gate before this application already"):
        SecondFactor(shop.app, who)


def test_a_decorator_without_its_brackets_is_told_in_a_line() -> None:
    with pytest.raises(ConfigurationError, match="fresh: minutes: expected 1 to 60"):
        fresh(lambda: "view")  # type: ignore[arg-type]


def test_who_needs_help_is_not_promised_a_link_that_leads_nowhere(shop: Shop) -> None:
    page = text(shop.browser().get("/2fa/sign-in/help", headers=PAGE))
    assert "Look where you sign in" in page
    assert "link that" not in page
