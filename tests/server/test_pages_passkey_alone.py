"""Signing in with a passkey alone: the question depends on nobody, and only one that knows its user is in."""

import json
import re

import pytest
from tests.pages import Element, Page
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import Server
from tests.server.passkey_holders import Holder, add_holder
from tests.server.visitors import ADMIN, IPHONE, PASSWORD, Person, Visitor, add_person

from twofold.core.session import Session, digest_token
from twofold.core.ticket import TICKET_TTL_S
from twofold.testing.software_authenticator import UV, encode

SIGN_IN = "/sign-in/passkey"


@pytest.fixture
async def bo(server: Server) -> Holder:
    """Bo, who has an app, a passkey and recovery codes, and is not signed in."""
    holder = await add_holder(server)
    await holder.sign_out()
    await holder.open("/sign-in")
    return holder


async def find_session(holder: Holder) -> Session | None:
    return await holder.server.deployment.store.find_session(digest_token(holder.token)) if holder.token else None


def question(page: Page) -> tuple[dict[str, object], str]:
    """The options on the page, and the ticket that goes back."""
    place = page.root.only("div", class_="passkey")
    return json.loads(place["data-options"]), place.only("input", name="challenge")["value"]


class TestTheQuestion:
    async def test_it_names_nobody_and_is_as_long_for_everybody(self, bo: Holder, server: Server) -> None:
        stranger = Visitor(server)
        pages = [await stranger.open("/sign-in"), await stranger.send(name="bo", password="violet harbour 1927")]
        pages += [await stranger.send(name="nobody", password="violet harbour 1927"), await bo.open("/sign-in")]
        asked = [question(page) for page in pages]
        for options, _ in asked:
            assert (options["allowCredentials"], options["userVerification"]) == ([], "required")
        assert len({len(ticket) for _, ticket in asked}) == 1
        assert len({ticket for _, ticket in asked}) == len(asked)

    async def test_it_stands_in_the_name_box_and_on_a_button_and_needs_no_name(self, bo: Holder) -> None:
        assert bo.page.form(fields={"name": ""}).control("name")["autocomplete"] == "username webauthn"
        assert "data-autofill" in bo.page.root.only("div", class_="passkey").attributes

    async def test_its_address_leads_to_the_form(self, bo: Holder) -> None:
        assert (await bo.open(SIGN_IN)).path == "/sign-in"


class TestIn:
    async def test_a_passkey_that_knows_its_user_is_both_factors(self, bo: Holder) -> None:
        assert (await bo.show_passkey()).path == "/security"
        session = await find_session(bo)
        assert session is not None
        assert (session.level, session.is_user_verified, session.via) == ("full", True, bo.ids[0])

    async def test_where_the_person_wanted_to_go_survives(self, bo: Holder) -> None:
        await bo.open("/sign-in?next=/security/activity")
        assert (await bo.show_passkey(says={"off": UV})).status == 401
        assert (await bo.show_passkey()).path == "/security/activity"

    async def test_a_sign_in_that_was_half_done_in_this_browser_ends_with_it(self, bo: Holder, server: Server) -> None:
        await bo.give_password()
        pending = bo.token
        await bo.open("/sign-in")
        assert (await bo.show_passkey()).path == "/security"
        assert await server.deployment.store.find_session(digest_token(pending)) is None


class TestRefused:
    @pytest.mark.parametrize(
        ("says", "title"),
        [
            ({"off": UV}, "did not make sure who you are"),
            ({"off": 0x01}, "was not accepted"),
            ({"user_handle": None}, "is not known here"),
            ({"user_handle": b"h" * 32}, "is not known here"),
            ({"credential_id": b"another"}, "is not known here"),
            ({"client": {"origin": "https://localhost"}}, "at another address"),
            ({"client": {"type": "webauthn.create"}}, "was not accepted"),
        ],
    )
    async def test_a_wrong_one_is_told_on_the_page_and_begins_nothing(
        self, bo: Holder, says: dict[str, object], title: str
    ) -> None:
        page = await bo.show_passkey(says=says)
        assert (page.path, page.status) == (SIGN_IN, 401)
        assert title in page.alert
        assert not bo.token
        assert (await bo.show_passkey()).path == "/security"

    async def test_the_passkey_manager_is_told_of_one_that_is_not_known_any_more(
        self, bo: Holder, server: Server
    ) -> None:
        await server.deployment.verifier.revoke("bo", bo.ids[0], caller=ADMIN)
        page = await bo.show_passkey()
        assert (page.status, "is not known here" in page.alert) == (401, True)
        signals = json.loads(page.root.only("div", class_="signals")["data-signal"])
        credential_id = encode(bo.authenticator.credentials[0].id)
        assert signals == {"signalUnknownCredential": {"rpId": "localhost", "credentialId": credential_id}}

    async def test_and_of_no_other(self, bo: Holder) -> None:
        assert "data-signal" not in (await bo.show_passkey(says={"off": UV})).html

    async def test_an_answer_counts_once(self, bo: Holder) -> None:
        pairs = bo.passkey_form().filled({"credential": bo.answer()}, Element("button"))
        assert (await bo.post(SIGN_IN, pairs)).path == "/security"
        await bo.sign_out()
        page = await bo.open("/sign-in")
        csrf = page.forms[0].control("csrf")["value"]
        page = await bo.post(SIGN_IN, [(name, csrf if name == "csrf" else value) for name, value in pairs])
        assert (page.status, "was sent already" in page.alert) == (401, True)
        assert not bo.token

    async def test_an_answer_that_comes_late_is_told_so(self, bo: Holder, server: Server) -> None:
        page = bo.page
        server.clock.pass_s(TICKET_TTL_S)
        assert "That took too long" in (await bo.show_passkey(page)).alert
        assert not bo.token

    async def test_what_was_asked_in_another_browser_counts_for_nothing(self, bo: Holder, server: Server) -> None:
        """Somebody who shows his own question to her, and sends her answer from his browser."""
        thief = Holder(server, user_agent=IPHONE)
        thief.authenticator = bo.authenticator
        await thief.open("/sign-in")
        answered_by_her = thief.answer(bo.page)
        pairs = thief.passkey_form().filled(
            {"credential": answered_by_her, "challenge": question(bo.page)[1]}, Element("button")
        )
        page = await thief.post(SIGN_IN, pairs)
        assert (page.status, "belongs elsewhere" in page.alert) == (401, True)
        assert not thief.token

    async def test_neither_step_takes_what_the_other_one_asked(self, bo: Holder, server: Server) -> None:
        alone = bo.page
        second = await bo.give_password()
        for asked, other in ((alone, second), (second, alone)):
            answered = {"credential": bo.answer(asked), "challenge": question(asked)[1]}
            form = bo.passkey_form(other)
            page = await bo.post(form.action, form.filled(answered, Element("button")))
            assert (page.status, "belongs elsewhere" in page.alert) == (401, True), form
            session = await find_session(bo)
            assert session is not None
            assert session.level == "pending"

    async def test_a_disabled_account_is_told_so(self, bo: Holder, server: Server) -> None:
        await server.deployment.verifier.accounts.record_event("bo", "disabled")
        page = await bo.show_passkey()
        assert (page.status, page.heading) == (403, "Your account is disabled")
        assert not bo.token

    @pytest.mark.parametrize("credential", ["", "{}", "null", '{"id": "AA", "type": "public-key"}'])
    async def test_what_no_browser_sends_is_refused_in_a_sentence(self, bo: Holder, credential: str) -> None:
        page = await bo.post(SIGN_IN, bo.passkey_form().filled({"credential": credential}, Element("button")))
        assert (page.path, page.status) == (SIGN_IN, 422)
        assert page.alert

    async def test_a_ticket_that_is_none_is_refused_in_a_sentence(self, bo: Holder) -> None:
        pairs = bo.passkey_form().filled({"credential": bo.answer(), "challenge": "x"}, Element("button"))
        page = await bo.post(SIGN_IN, pairs)
        assert (page.status, "open for too long" in page.alert) == (422, True)

    async def test_it_is_one_line_of_the_log(self, bo: Holder, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "twofold.sign_in")
        for says in ({"off": UV}, {"user_handle": b"h" * 32}):
            caplog.clear()
            await bo.show_passkey(says=says)
            lines = [record.getMessage() for record in caplog.records if record.name == "twofold.sign_in"]
            assert [re.findall("wrong_passkey", line) for line in lines] == [["wrong_passkey"]]

    async def test_from_a_refused_network_a_known_browser_of_hers_alone_passes(
        self, bo: Holder, server: Server
    ) -> None:
        elsewhere = Holder(server)
        elsewhere.authenticator = bo.authenticator
        asked = await elsewhere.open("/sign-in")
        await add_person(server, "cy")
        cy = Person(server, "cy", address="198.51.100.7")
        await cy.sign_in()
        await server.deployment.networks.add("203.0.113.0/24", caller=ADMIN)
        assert (await elsewhere.show_passkey(asked)).status == 429
        # Nor does a browser that somebody else is known in.
        elsewhere.http.cookies.set("twofold-known", cy.cookies["twofold-known"], domain="localhost.local")
        assert (await elsewhere.show_passkey(asked)).status == 429
        assert not elsewhere.token
        assert (await bo.show_passkey()).path == "/security"


async def test_no_text_of_it_escapes_the_catalogue(bo: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    assert escaped((await bo.open("/sign-in")).html) == []
    assert escaped(await bo.refused({"off": UV})) == []
    assert escaped(await bo.refused({"user_handle": None})) == []


async def test_a_password_that_is_wrong_says_what_to_do_at_its_box(bo: Holder) -> None:
    page = await bo.send(name="bo", password="violet harbour 1927")
    assert page.root.only("p", id="field-password-error").text
    assert PASSWORD not in page.html
