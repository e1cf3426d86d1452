"""The second step of signing in with a passkey: what the page offers, and what it refuses."""

import json

import pytest
from tests.lying_authenticator import LyingAuthenticator
from tests.pages import Element, Page
from tests.pseudo import BEGINNING, PseudoWords, escaped
from tests.server.conftest import Server
from tests.server.passkey_holders import Holder, add_holder, add_passkey
from tests.server.visitors import ADMIN, PASSWORD, Person, add_app, add_person

from twofold.core.session import Session, digest_token
from twofold.core.ticket import TICKET_TTL_S
from twofold.factors.webauthn_json import RelyingParty

ELSEWHERE = RelyingParty("elsewhere.localhost", ("http://elsewhere.localhost:8000",))
OTHER_SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJA"


@pytest.fixture
async def bo(server: Server) -> Holder:
    """Bo, who has a password, an app, recovery codes and a passkey, where the second factor is asked for."""
    holder = await add_holder(server)
    await holder.sign_out()
    assert (await holder.give_password()).path == "/sign-in/code"
    return holder


async def session_of(person: Person) -> Session:
    session = await person.server.deployment.store.find_session(digest_token(person.token))
    assert session is not None
    return session


def way_links(page: Page) -> list[str]:
    """The other ways on the page, by their names."""
    return [row.text for row in page.root.all("p", class_="row-title")]


class TestWhatIsOffered:
    async def test_the_passkey_comes_first_and_a_code_will_do_as_well(self, bo: Holder) -> None:
        actions = [form.action.partition("?")[0].removeprefix("http://localhost:8000") for form in bo.page.forms]
        assert actions == ["/sign-in/code/passkey", "/sign-in/code"]
        assert way_links(bo.page)[0] == "A recovery code"
        assert (await bo.send(code=bo.fresh_code())).path == "/security"

    async def test_with_only_a_passkey_there_is_no_box_and_recovery_codes_are_another_way(self, bo: Holder) -> None:
        await bo.lose_app()
        page = await bo.open("/sign-in/code")
        assert "code" not in page.fields
        page = await bo.open(next(link for link in page.links if "way=" in link))
        assert page.fields == {"code"}
        assert page.title.startswith("Enter a recovery code")
        assert (await bo.send(code=bo.recovery_codes[0])).path == "/security"

    async def test_each_way_can_be_chosen_alone(self, bo: Holder, server: Server) -> None:
        await add_app(server, "bo", OTHER_SECRET, "Tablet")
        page = await bo.open("/sign-in/code")
        app = next(link for link in page.links if "way=au_" in link)
        page = await bo.open(app)
        assert "A passkey or security key" in way_links(page)
        assert not page.root.all("div", class_="passkey")
        page = await bo.open("/sign-in/code?way=webauthn")
        assert "code" not in page.fields
        assert "Tablet" in way_links(page)
        assert (await bo.show_passkey()).path == "/security"

    async def test_the_box_has_the_focus_when_a_code_was_used_last_and_not_when_a_passkey_was(
        self, bo: Holder, server: Server
    ) -> None:
        server.clock.pass_s(1)
        assert (await bo.send(code=bo.fresh_code())).path == "/security"
        await bo.sign_out()
        page = await bo.give_password()
        assert "autofocus" in page.form(fields={"code": ""}).control("code").attributes
        server.clock.pass_s(1)
        await bo.show_passkey()
        await bo.sign_out()
        page = await bo.give_password()
        assert "autofocus" not in page.form(fields={"code": ""}).control("code").attributes

    async def test_a_passkey_for_another_address_is_no_way_in_here(self, server: Server) -> None:
        await add_person(server, "cy")
        await add_passkey(server, "cy", LyingAuthenticator(), rp=ELSEWHERE)
        cy = Person(server, "cy")
        page = await cy.give_password()
        assert not page.root.all("div", class_="passkey")
        assert "A passkey or security key" not in way_links(page)

    async def test_no_text_of_it_escapes_the_catalogue(self, bo: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
        for path in ("/sign-in/code", "/sign-in/code?way=webauthn"):
            page = await bo.open(path)
            assert escaped(page.html) == []
            texts = json.loads(page.root.only("div", class_="passkey")["data-texts"])
            assert all(text.startswith(BEGINNING) for text in texts.values()), texts
        assert escaped(await bo.refused({"off": 0x01})) == []


class TestIn:
    async def test_password_and_passkey_let_in_and_the_session_knows_its_user(self, bo: Holder) -> None:
        page = await bo.show_passkey()
        assert page.path == "/security"
        session = await session_of(bo)
        assert (session.level, session.is_user_verified, session.via) == ("full", True, bo.ids[0])

    async def test_a_key_that_only_takes_a_touch_will_do_after_the_password(self, bo: Holder, server: Server) -> None:
        key = LyingAuthenticator(verifies_user=False, is_resident=False, transports=("usb",))
        await add_passkey(server, "bo", key, "Touch")
        await bo.open("/sign-in/code")
        bo.authenticator = key
        assert (await bo.show_passkey()).path == "/security"
        session = await session_of(bo)
        assert (session.level, session.is_user_verified) == ("full", False)

    async def test_where_the_person_wanted_to_go_survives_a_wrong_passkey(self, server: Server) -> None:
        bo = await add_holder(server)
        await bo.sign_out()
        await bo.open("/sign-in?next=/security/activity")
        await bo.send(name="bo", password=PASSWORD)
        assert (await bo.show_passkey(says={"off": 0x01})).status == 401
        assert (await bo.show_passkey()).path == "/security/activity"

    async def test_the_same_form_sent_twice_ends_alike(self, bo: Holder) -> None:
        form, page = bo.passkey_form(), bo.page
        pairs = form.filled({"credential": bo.answer()}, Element("button"))
        assert (await bo.post(form.action, pairs)).path == "/security"
        assert (await bo.post(form.action, pairs)).path == "/security"
        assert page.path == "/sign-in/code"

    async def test_while_codes_are_not_looked_at_a_passkey_is(self, bo: Holder) -> None:
        for _ in range(5):
            await bo.send(code=bo.wrong_code())
        page = await bo.send(code=bo.code())
        assert page.status == 429
        assert "Without waiting: a passkey" in page.alert
        assert (await bo.show_passkey()).path == "/security"


class TestRefused:
    @pytest.mark.parametrize(
        ("says", "title"),
        [
            ({"off": 0x01}, "Your passkey was not accepted"),
            ({"rp_id": "evil.example"}, "Your passkey was not accepted"),
            ({"client": {"origin": "http://evil.example"}}, "Your passkey was used at another address"),
            ({"client": {"challenge": "AAAA"}}, "That answer belongs elsewhere"),
            ({"credential_id": b"another"}, "This passkey is not known here"),
            ({"user_handle": b"somebody else"}, "This passkey is not known here"),
        ],
    )
    async def test_a_wrong_one_stays_on_the_page_and_says_why(
        self, bo: Holder, says: dict[str, object], title: str
    ) -> None:
        page = await bo.show_passkey(says=says)
        assert (page.path, page.status) == ("/sign-in/code/passkey", 401)
        assert page.title.startswith("Error: ")
        assert title in page.alert
        assert (await session_of(bo)).level == "pending"
        assert (await bo.show_passkey()).path == "/security"

    async def test_a_counter_that_went_back_is_told(self, server: Server) -> None:
        bo = await add_holder(server)
        key = LyingAuthenticator(counts=1)
        await add_passkey(server, "bo", key)
        bo.authenticator = key
        await bo.sign_out()
        await bo.give_password()
        assert "may have been copied" in (await bo.show_passkey(says={"sign_count": 1})).alert
        assert (await bo.show_passkey()).path == "/security"

    async def test_an_answer_that_comes_late_is_told_so(self, bo: Holder, server: Server) -> None:
        page = bo.page
        server.clock.pass_s(TICKET_TTL_S)
        assert "That took too long" in (await bo.show_passkey(page)).alert
        assert (await bo.show_passkey()).path == "/security"

    async def test_what_was_asked_in_another_session_counts_for_nothing(self, bo: Holder, server: Server) -> None:
        """Trap 43: the same person at another browser, whose page somebody else reads."""
        other = Holder(server)
        other.authenticator = bo.authenticator
        await other.give_password()
        pairs = bo.passkey_form().filled({"credential": other.answer()}, Element("button"))
        challenge = other.passkey_form().control("challenge")["value"]
        theirs = [(name, challenge if name == "challenge" else value) for name, value in pairs]
        page = await bo.post("/sign-in/code/passkey", theirs)
        assert "That answer belongs elsewhere" in page.alert
        assert (await session_of(bo)).level == "pending"
        assert (await other.show_passkey()).path == "/security"

    async def test_an_answer_of_another_account_counts_for_nothing(self, bo: Holder, server: Server) -> None:
        cy = await add_holder(server, "cy")
        bo.authenticator.credentials.append(cy.authenticator.credentials[0])
        page = await bo.show_passkey(says={"credential": cy.authenticator.credentials[0]})
        assert "This passkey is not known here" in page.alert
        assert (await session_of(bo)).level == "pending"

    async def test_one_that_was_removed_meanwhile_is_not_known(self, bo: Holder, server: Server) -> None:
        page = bo.page
        await server.deployment.verifier.revoke("bo", bo.ids[0], caller=ADMIN)
        page = await bo.show_passkey(page)
        assert (page.path, page.status) == ("/sign-in/code/passkey", 409)
        assert "This passkey is not known here" in page.alert
        assert (await bo.send(code=bo.fresh_code())).path == "/security"

    @pytest.mark.parametrize("credential", ["", "{}", "null", "[" * 9999, json.dumps({"id": "é"}), "\ud800"])
    async def test_what_no_browser_sends_is_refused_in_a_sentence(self, bo: Holder, credential: str) -> None:
        pairs = bo.passkey_form().filled({"credential": credential.encode("utf-8", "replace").decode()}, Element("b"))
        page = await bo.post("/sign-in/code/passkey", pairs)
        assert (page.path, page.status) == ("/sign-in/code/passkey", 422)
        assert page.alert

    async def test_a_ticket_that_is_none_is_refused_in_a_sentence(self, bo: Holder) -> None:
        pairs = bo.passkey_form().filled({"credential": bo.answer(), "challenge": "x"}, Element("button"))
        page = await bo.post("/sign-in/code/passkey", pairs)
        assert page.status == 422
        assert "open for too long" in page.alert

    async def test_it_is_one_line_of_the_log(self, bo: Holder, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("INFO", "twofold.sign_in")
        await bo.show_passkey(says={"off": 0x01})
        lines = [record.getMessage() for record in caplog.records if record.name == "twofold.sign_in"]
        assert len(lines) == 1
        assert "wrong_passkey" in lines[0]
