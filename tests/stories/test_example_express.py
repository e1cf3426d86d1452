"""The Express example, started as somebody starts it, with both versions: each door with the first factor only and then
with both, by HTTP and in a real browser."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect
from tests.browsers import Authenticator, BrowserVisitor, OpenBrowser, assert_accessible
from tests.node import link_packages, serving
from tests.servers import STEP_S, Client, Clock, Phone, Server

APPLICATION = Path(__file__).parents[2] / "examples" / "express"
PASSWORD = "correct horse"
CHALLENGE = "Show that it is you"
#: Ask for a passkey for one action and give the answer for another one; without any, to pass the gate.
BY_SCRIPT = """async ([asked, given]) => {
  const { showPasskey } = await import("/2fa/browser.mjs");
  const post = async (path, body) => (await fetch(path, {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  })).json();
  const { challenge, public_key } = await post("/2fa/passkey", { action: asked });
  return post("/2fa/verify", { challenge, credential: await showPasskey(public_key), action: given });
}"""


@dataclass
class Shop:
    """The running example, and the Twofold server behind it."""

    url: str
    api: Client
    clock: Clock

    def enroll(self, name: str) -> Phone:
        """This person's app, as if she had it already; the one before is gone."""
        self.api.call("DELETE", f"/api/v1/accounts/{name}")
        phone, _ = self.api.enroll_phone(name, self.clock.now_s)
        return phone

    def next_code(self, phone: Phone) -> str:
        self.clock.advance(STEP_S)
        return phone.code(self.clock.now_s)

    def visit(self, **more: object) -> httpx.Client:
        """A browser that runs no script."""
        return httpx.Client(base_url=self.url, follow_redirects=True, headers={"Accept": "text/html"}, **more)  # type: ignore[arg-type]


@pytest.fixture(params=["express4", "express5"])
def shop(request: pytest.FixtureRequest, tmp_path: Path, server: Server, api: Client, clock: Clock) -> Iterator[Shop]:
    shutil.copy(APPLICATION / "app.js", tmp_path)
    shutil.copy(APPLICATION / "package.json", tmp_path)
    link_packages(tmp_path, request.param)
    with serving(tmp_path / "app.js", server) as url:
        yield Shop(url, api, clock)


def test_it_is_short() -> None:
    lines = (APPLICATION / "app.js").read_text().splitlines()
    assert len(lines) <= 60
    assert sum("twofold" in line.lower() and not line.startswith("//") for line in lines) <= 6


@pytest.mark.parametrize("door", ["/login", "/reset/mailed-to-alice"])
def test_each_door_opens_with_both_factors_only(shop: Shop, door: str) -> None:
    phone = shop.enroll("alice")
    with shop.visit() as alice:
        assert "Sign in" in alice.get("/").text
        landed = alice.post(door, data={"name": "alice", "password": PASSWORD})
        assert CHALLENGE in landed.text
        for path in ("/account", "/transfer"):
            assert CHALLENGE in alice.get(path).text
            assert "for bob" not in alice.post(path, data={"to": "bob", "amount": "1"}).text
        refused = alice.post("/2fa/challenge", data={"twofold-code": "000000", "next": "/account"})
        assert (refused.status_code, CHALLENGE in refused.text) == (422, True)
        passed = alice.post("/2fa/challenge", data={"twofold-code": shop.next_code(phone), "next": "/account"})
        assert "<h1>alice</h1>" in passed.text


def test_a_token_opens_with_both_factors_only(shop: Shop) -> None:
    phone = shop.enroll("alice")
    with shop.visit() as program:
        program.headers.update({"Authorization": "Bearer the-token-of-alice", "Accept": "application/json"})
        refused = program.get("/account")
        assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_required")
        verified = program.post(refused.json()["verify"], json={"code": shop.next_code(phone)})
        assert verified.json()["verified"] is True
        assert "<h1>alice</h1>" in program.get("/account").text

        refused = program.post("/transfer", data={"to": "bob", "amount": "1"})
        assert refused.json()["code"] == "step_up_required"
        program.post("/2fa/verify", json={"code": shop.next_code(phone), "action": refused.json()["action"]})
        assert program.post("/transfer", data={"to": "bob", "amount": "1"}).text == "1 for bob"
        assert program.post("/transfer", data={"to": "bob", "amount": "1"}).status_code == 403


def test_signing_in_as_somebody_takes_the_administrators_own_second_factor(shop: Shop) -> None:
    shop.enroll("alice")
    phone = shop.enroll("root")
    with shop.visit() as root:
        assert CHALLENGE in root.post("/login", data={"name": "root", "password": PASSWORD}).text
        assert CHALLENGE in root.post("/login-as/alice").text
        root.post("/2fa/challenge", data={"twofold-code": shop.next_code(phone)})
        assert CHALLENGE in root.post("/login-as/alice").text
        passed = root.post("/2fa/challenge", data={"twofold-code": shop.next_code(phone), "next": "/account"})
        assert "<h1>alice</h1>" in passed.text


def test_a_session_that_is_copied_before_the_code_is_worth_nothing_after_it(shop: Shop) -> None:
    phone = shop.enroll("alice")
    with shop.visit() as alice:
        alice.post("/login", data={"name": "alice", "password": PASSWORD})
        with shop.visit(cookies=dict(alice.cookies)) as thief:
            alice.post("/2fa/challenge", data={"twofold-code": shop.next_code(phone)})
            assert "<h1>alice</h1>" in alice.get("/account").text
            assert CHALLENGE in thief.get("/account").text


def sign_in(shop: Shop, person: BrowserVisitor, name: str = "alice") -> Page:
    person.tab.goto(shop.url)
    person.tab.get_by_label("name").fill(name)
    person.tab.get_by_label("password").fill(PASSWORD)
    person.tab.get_by_role("button", name="Sign in").click()
    return person.tab


def give_code(tab: Page, code: str, button: str = "Continue") -> None:
    tab.get_by_label("Code", exact=True).fill(code)
    tab.get_by_role("button", name=button).click()


def transfer(tab: Page, amount: str) -> None:
    tab.get_by_label("to").fill("bob")
    tab.get_by_label("amount").fill(amount)
    tab.get_by_role("button", name="Send").click()


def test_somebody_enrolls_an_app_and_uses_it_from_then_on(shop: Shop, open_browser: OpenBrowser) -> None:
    shop.api.call("DELETE", "/api/v1/accounts/alice")
    tab = sign_in(shop, open_browser(shop.url))
    expect(tab.locator("h1")).to_have_text("alice")
    tab.goto(f"{shop.url}/2fa/enroll?next=/account")
    assert_accessible(tab)
    tab.get_by_role("button", name="Authenticator app").click()
    assert_accessible(tab)
    assert tab.locator(".qr").evaluate("image => image.complete && image.naturalWidth > 0")
    phone = Phone("alice", tab.locator("#secret").inner_text().replace(" ", ""))
    tab.locator("[name=code]").fill("000000")
    tab.get_by_role("button", name="Done").click()
    expect(tab.get_by_role("alert")).to_contain_text("wrong")
    tab.locator("[name=code]").fill(phone.code(shop.clock.now_s))
    tab.get_by_role("button", name="Done").click()
    expect(tab.locator(".recovery-code")).to_have_count(10)
    assert_accessible(tab)
    tab.get_by_role("link", name="I have kept them").click()
    expect(tab.locator("h1")).to_have_text("alice")

    tab = sign_in(shop, open_browser(shop.url))
    expect(tab.locator("h1")).to_have_text(CHALLENGE)
    assert_accessible(tab)
    give_code(tab, shop.next_code(phone))
    expect(tab.locator("h1")).to_have_text("alice")


def test_a_transfer_is_proven_sent_once_and_not_by_reloading(shop: Shop, open_browser: OpenBrowser) -> None:
    phone = shop.enroll("alice")
    person = open_browser(shop.url)
    tab = sign_in(shop, person)
    give_code(tab, shop.next_code(phone))
    other = person.window.new_tab()
    other.goto(f"{shop.url}/account")
    for page, amount in ((tab, "1"), (other, "2")):
        transfer(page, amount)
        expect(page.locator("strong")).to_have_text("POST /transfer")
        assert_accessible(page)
    for page, amount in ((tab, "1"), (other, "2")):
        give_code(page, shop.next_code(phone), "Confirm and continue")
        expect(page.locator("body")).to_have_text(f"{amount} for bob")
    tab.reload()
    expect(tab.get_by_role("alert")).to_contain_text("already used")


def test_a_passkey_is_made_opens_the_gate_and_proves_a_transfer(shop: Shop, open_browser: OpenBrowser) -> None:
    shop.api.call("DELETE", "/api/v1/accounts/alice")
    person = open_browser(shop.url)
    passkey = Authenticator(person)
    tab = sign_in(shop, person)
    tab.goto(f"{shop.url}/2fa/enroll?next=/account")
    tab.get_by_role("button", name="Passkey").click()
    assert_accessible(tab)
    tab.get_by_role("button", name="Make a passkey").click()
    expect(tab.locator(".recovery-code")).to_have_count(10)
    assert [held["rpId"] for held in passkey.credentials] == ["localhost"]

    tab.goto(f"{shop.url}/logout")
    sign_in(shop, person)
    assert_accessible(tab)
    tab.get_by_role("button", name="Use your passkey").click()
    expect(tab.locator("h1")).to_have_text("alice")

    transfer(tab, "3")
    tab.get_by_role("button", name="Use your passkey").click()
    expect(tab.locator("body")).to_have_text("3 for bob")
    tab.reload()
    expect(tab.locator("h1")).to_have_text(re.compile("Confirm"))

    # A page of one's own does the same by script.
    tab.goto(f"{shop.url}/logout")
    sign_in(shop, person)
    expect(tab.locator("h1")).to_have_text(CHALLENGE)
    tab.goto(shop.url)
    assert tab.evaluate(BY_SCRIPT, [None, None])["factor"] == "webauthn"
    tab.goto(f"{shop.url}/account")
    expect(tab.locator("h1")).to_have_text("alice")


def test_a_passkey_that_was_shown_for_one_thing_is_good_for_nothing_else(shop: Shop, open_browser: OpenBrowser) -> None:
    shop.api.call("DELETE", "/api/v1/accounts/alice")
    person = open_browser(shop.url)
    Authenticator(person)
    tab = sign_in(shop, person)
    tab.goto(f"{shop.url}/2fa/enroll?next=/account")
    tab.get_by_role("button", name="Passkey").click()
    tab.get_by_role("button", name="Make a passkey").click()
    tab.get_by_role("link", name="I have kept them").click()
    for asked, given in ((None, "/one"), ("/one", "/other"), ("/one", None)):
        assert tab.evaluate(BY_SCRIPT, [asked, given])["code"] == "challenge_mismatch"
    assert tab.evaluate(BY_SCRIPT, ["/one", "/one"])["verified"] is True
    # Each no was a 422, as it should be.
    assert person.window.complaints == [f"422 for {shop.url}/2fa/verify"] * 3
    person.window.complaints.clear()


def test_without_its_key_the_passkey_page_says_so_and_takes_a_code(shop: Shop, open_browser: OpenBrowser) -> None:
    phone = shop.enroll("alice")
    person = open_browser(shop.url, javascript=False)
    tab = sign_in(shop, person)
    give_code(tab, shop.next_code(phone))
    expect(tab.locator("h1")).to_have_text("alice")
    transfer(tab, "4")
    give_code(tab, shop.next_code(phone), "Confirm and continue")
    expect(tab.locator("body")).to_have_text("4 for bob")
