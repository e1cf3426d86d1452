"""Adding a passkey on the pages: the question to the browser, what it made, and all that can go wrong with it."""

import json
from typing import Any

import pytest
from tests.lying_authenticator import LyingAuthenticator
from tests.pages import Element, Page
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import OpenServer, Server
from tests.server.enrolling import hidden
from tests.server.passkey_holders import Holder, add_holder
from tests.server.visitors import PASSWORD, Person

from twofold.core.account import PENDING_TTL_S
from twofold.core.ticket import TICKET_TTL_S

WEBAUTHN = "/enroll/webauthn"
#: What iCloud Keychain calls itself.
ICLOUD = bytes.fromhex("fbfc3007154e4ecc8c0b6e020557d7bd")


@pytest.fixture
async def bo(server: Server) -> Holder:
    """Bo, who has a password alone, where a first way is chosen."""
    accounts = server.deployment.verifier.accounts
    await accounts.put("bo")
    await accounts.set_password("bo", PASSWORD)
    holder = Holder(server)
    assert (await holder.give_password()).path == "/enroll"
    return holder


@pytest.fixture
async def at_passkey(bo: Holder) -> Holder:
    """Bo, where the browser is asked for a passkey."""
    assert (await bo.send(press="factor=webauthn")).path == WEBAUTHN
    return bo


async def labels(server: Server, name: str = "bo", *, state: str = "active") -> list[str]:
    view = await server.deployment.verifier.accounts.get(name)
    return [a.label for a in view.authenticators if a.factor == "webauthn" and a.state == state]


def csrf(page: Page) -> list[tuple[str, str]]:
    return [("csrf", page.forms[0].control("csrf")["value"])]


def options(page: Page) -> dict[str, Any]:
    """What the browser is asked."""
    return dict(json.loads(page.root.only("div", class_="passkey")["data-options"]))


class TestTheChoice:
    async def test_what_works_without_a_script_stands_first_until_the_script_is_there(self, bo: Holder) -> None:
        choices = bo.page.root.all("button", class_="choice")
        assert [choice["value"] for choice in choices] == ["totp", "webauthn"]
        assert ["data-passkey-first" in choice.attributes for choice in choices] == [False, True]
        assert "It needs JavaScript" in choices[1].text
        assert "Stops phishing" in choices[1].text

    async def test_where_browsers_make_none_one_line_says_so(self, open_server: OpenServer) -> None:
        server = await open_server(public_url="http://192.0.2.7:8000")
        accounts = server.deployment.verifier.accounts
        await accounts.put("bo")
        await accounts.set_password("bo", PASSWORD)
        bo = Person(server)
        bo.http.headers["host"] = "192.0.2.7:8000"
        page = await bo.open("/sign-in")
        assert "data-passkey" not in page.html
        assert page.form(fields={"name": ""}).control("name")["autocomplete"] == "username"
        pairs = page.forms[0].filled({"name": "bo", "password": PASSWORD}, Element("button"))
        bo.http.headers["origin"] = "http://192.0.2.7:8000"
        answer = await bo.http.post("/sign-in", data=dict(pairs), headers={"origin": "http://192.0.2.7:8000"})
        assert answer.headers["location"] == "/sign-in/code"
        page = await bo.open("/enroll")
        assert [choice["value"] for choice in page.root.all("button", class_="choice")] == ["totp"]
        assert "Passkeys cannot be added at this address" in page.text
        assert (await bo.open(WEBAUTHN)).path == "/enroll"


class TestAdded:
    async def test_as_the_first_factor_it_brings_recovery_codes_and_a_full_session(
        self, at_passkey: Holder, server: Server
    ) -> None:
        page = await at_passkey.show_passkey(label="Laptop")
        assert len(page.recovery_codes) == 10
        assert (await at_passkey.send(saved=True)).path == "/enroll/done"
        assert "Laptop" in at_passkey.page.text
        assert await at_passkey.is_signed_in()
        assert await labels(server) == ["Laptop"]
        await at_passkey.sign_out()
        await at_passkey.open("/sign-in")
        assert (await at_passkey.show_passkey()).path == "/security"

    async def test_without_a_name_it_is_called_what_its_maker_calls_it(
        self, at_passkey: Holder, server: Server
    ) -> None:
        at_passkey.authenticator.aaguid = ICLOUD
        await at_passkey.show_passkey()
        assert await labels(server) == ["iCloud Keychain"]

    async def test_a_security_key_that_only_takes_a_touch_is_added_too(
        self, at_passkey: Holder, server: Server
    ) -> None:
        at_passkey.authenticator = LyingAuthenticator(verifies_user=False, is_resident=False, transports=("usb",))
        assert (await at_passkey.show_passkey()).recovery_codes
        assert len(await labels(server)) == 1

    async def test_where_the_sign_in_was_to_lead_is_not_forgotten(self, bo: Holder) -> None:
        await bo.sign_out()
        await bo.open("/sign-in?next=/security/activity")
        await bo.send(name="bo", password=PASSWORD)
        await bo.send(press="factor=webauthn")
        await bo.show_passkey()
        assert "/security/activity" in (await bo.send(saved=True)).links

    async def test_it_takes_the_place_of_another_one_when_it_works(self, server: Server) -> None:
        bo = await add_holder(server)
        await bo.open(f"/enroll?replaces={bo.ids[0]}")
        await bo.show_passkey()
        page = await bo.send(press="factor=webauthn")
        assert "stays valid until the new one works" in page.text
        assert len(await labels(server)) == 1
        bo.authenticator = LyingAuthenticator()
        assert (await bo.show_passkey(label="New")).path == "/enroll/done"
        assert await labels(server) == ["New"]

    async def test_a_second_one_takes_a_proof_before(self, server: Server) -> None:
        bo = await add_holder(server)
        page = await bo.open("/enroll")
        assert page.heading == "Confirm who you are"
        assert (await bo.post("/enroll", [*csrf(page), ("factor", "webauthn")])).heading == "Confirm who you are"
        assert (await bo.post(WEBAUTHN, [*csrf(page), ("credential", "{}")])).status in (409, 422)
        await bo.open("/enroll")
        assert (await bo.show_passkey()).heading == "Add an authenticator"
        await bo.send(press="factor=webauthn")
        bo.authenticator = LyingAuthenticator()
        assert (await bo.show_passkey()).path == "/enroll/done"
        assert len(await labels(server)) == 2

    async def test_the_same_form_sent_twice_shows_the_same_codes(self, at_passkey: Holder) -> None:
        form = at_passkey.passkey_form()
        pairs = form.filled({"credential": at_passkey.answer()}, Element("button"))
        first = await at_passkey.post(WEBAUTHN, pairs)
        assert (await at_passkey.post(WEBAUTHN, pairs)).recovery_codes == first.recovery_codes != []


class TestHalfDone:
    async def test_the_page_can_be_opened_again_with_a_fresh_question(self, at_passkey: Holder, server: Server) -> None:
        first = at_passkey.page
        server.clock.pass_s(TICKET_TTL_S)
        page = await at_passkey.open(WEBAUTHN)
        assert hidden(page, "authenticator") == hidden(first, "authenticator")
        assert options(page)["challenge"] != options(first)["challenge"]
        refused = await at_passkey.show_passkey(first)
        assert (refused.status, "That took too long" in refused.alert) == (422, True)
        assert (await at_passkey.show_passkey()).recovery_codes

    async def test_cancel_forgets_it(self, at_passkey: Holder, server: Server) -> None:
        page = at_passkey.page
        assert (await at_passkey.send(to="/enroll/cancel")).path == "/enroll"
        assert (await at_passkey.open(WEBAUTHN)).path == "/enroll"
        assert (await at_passkey.show_passkey(page)).status == 409
        assert await labels(server) == await labels(server, state="pending") == []

    async def test_after_a_quarter_of_an_hour_it_is_over(self, at_passkey: Holder, server: Server) -> None:
        page = at_passkey.page
        server.clock.pass_s(PENDING_TTL_S)
        page = await at_passkey.show_passkey(page)
        assert (page.status, page.heading) == (409, "This cannot be added any more")
        assert await labels(server) == []

    async def test_another_session_neither_sees_nor_ends_it(self, at_passkey: Holder, server: Server) -> None:
        thief = Holder(server)
        await thief.give_password()
        assert (await thief.open(WEBAUTHN)).path == "/enroll"
        form = at_passkey.passkey_form()
        pairs = form.filled({"credential": at_passkey.answer()}, Element("button"))
        own = dict(csrf(thief.page))["csrf"]
        page = await thief.post(WEBAUTHN, [(name, own if name == "csrf" else value) for name, value in pairs])
        assert page.status == 409
        assert await labels(server) == []


class TestRefused:
    async def test_one_of_another_account_is_told_so(self, at_passkey: Holder, server: Server) -> None:
        cy = await add_holder(server, "cy")
        page = await at_passkey.show_passkey(says={"credential_id": cy.authenticator.credentials[0].id})
        assert (page.path, page.status) == (WEBAUTHN, 422)
        assert "is registered already" in page.alert
        assert await labels(server) == []

    async def test_the_browser_is_told_which_ones_there_are(self, server: Server) -> None:
        bo = await add_holder(server)
        await bo.open("/enroll")
        await bo.show_passkey()
        page = await bo.send(press="factor=webauthn")
        assert len(options(page)["excludeCredentials"]) == 1

    @pytest.mark.parametrize(
        ("says", "title"),
        [
            ({"off": 0x01}, "was not accepted"),
            ({"client": {"origin": "http://evil.example"}}, "at another address"),
            ({"client": {"challenge": "AAAA"}}, "took too long"),
            ({"public_key": b"\xa1\x01\x02"}, "cannot be added"),
            ({"fmt": "packed", "statement": {"alg": -7, "sig": b""}}, "cannot be added"),
        ],
    )
    async def test_what_breaks_a_rule_is_told_with_the_way_on(
        self, at_passkey: Holder, says: dict[str, object], title: str, server: Server
    ) -> None:
        page = await at_passkey.show_passkey(says=says, label="Mine")
        assert (page.path, page.status) == (WEBAUTHN, 422)
        assert title in page.alert
        assert at_passkey.passkey_form().control("label")["value"] == "Mine"
        server.clock.pass_s(60)
        assert (await at_passkey.show_passkey()).recovery_codes

    @pytest.mark.parametrize("credential", ["", "{}", "null", "[" * 9999])
    async def test_what_no_browser_sends_is_refused_in_a_sentence(self, at_passkey: Holder, credential: str) -> None:
        pairs = at_passkey.passkey_form().filled({"credential": credential}, Element("button"))
        page = await at_passkey.post(WEBAUTHN, pairs)
        assert (page.path, page.status) == (WEBAUTHN, 422)
        assert page.alert

    async def test_a_name_that_cannot_be_is_told_at_its_box(self, at_passkey: Holder) -> None:
        page = await at_passkey.show_passkey(label="x" * 65)
        assert (page.path, page.status) == (WEBAUTHN, 422)
        assert "at most 64" in page.root.only("p", id="field-label-error").text


async def test_its_maker_is_known_to_the_pages_and_its_text_is_made_inert(at_passkey: Holder) -> None:
    await at_passkey.show_passkey(label="<b>Laptop</b>")
    page = await at_passkey.send(saved=True)
    assert "<b>Laptop" not in page.html
    assert "<b>Laptop</b>" in page.text


async def test_no_text_of_it_escapes_the_catalogue(bo: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    assert escaped((await bo.open("/enroll")).html) == []
    assert escaped((await bo.send(press="factor=webauthn")).html) == []
    assert escaped(await bo.refused({"off": 0x01})) == []
    bo.server.clock.pass_s(60)
    assert escaped((await bo.show_passkey()).html) == []
    assert escaped((await bo.send(saved=True)).html) == []


async def test_a_form_that_was_sent_before_the_button_was_pressed_says_so_and_keeps_the_name(bo: Holder) -> None:
    await bo.open("/enroll")
    await bo.send(press="factor=webauthn")
    form = bo.passkey_form()
    page = await bo.post(form.action, form.filled({"label": "My key", "credential": ""}, Element("button")))
    assert (page.status, page.path) == (422, "/enroll/webauthn")
    assert "Press the button" in page.text
    assert (await bo.show_passkey(label="My key")).recovery_codes
