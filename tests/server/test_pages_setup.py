"""The set-up: the one-time link, the first administrator, and the address of the site."""

import pytest
from tests.pages import Page
from tests.passkey_owners import add_passkeys
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import URL, OpenServer, Server
from tests.server.visitors import FIREFOX, PASSWORD, Person, Visitor, add_person

from twofold import setup_link
from twofold.clocks import SystemEntropy
from twofold.engine import Caller
from twofold.lost_passkeys import find_lost, settle
from twofold.setup_link import new_link


async def make_link(server: Server) -> str:
    """Path and query of a new set-up link."""
    deployment = server.deployment
    link = await new_link(deployment.store, deployment.keyring, deployment.clock, SystemEntropy(), URL)
    assert link.startswith(f"{URL}/setup?token=")
    return link.removeprefix(URL)


async def set_up(server: Server, name: str = "ada") -> Visitor:
    """The set-up up to where a second factor is chosen."""
    visitor = Visitor(server)
    await visitor.open(await make_link(server))
    await visitor.send(name=name, new_password=PASSWORD)
    assert visitor.page.path == "/enroll"
    return visitor


async def finish(server: Server, visitor: Visitor) -> Page:
    """The rest of it."""
    page = await visitor.send(press="factor=totp")
    return await visitor.send(code=server.code(page.secret))


async def test_every_sentence_goes_through_the_catalogue(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    monkeypatch.setattr(Page, "check", lambda page: None)  # which knows English titles only
    visitor = Visitor(server)
    shown = [await visitor.open("/setup?token=x"), await visitor.open(await make_link(server))]
    for name, password in (("", ""), ("ada", "short"), ("ada", "password1"), ("longname", "longname")):
        shown.append(await visitor.send(name=name, new_password=password))
    for page in shown:
        # The command is the same in every language.
        assert escaped(page.html, names=("Twofold", "http://localhost:8000")) == [], page


async def test_every_sentence_about_lost_passkeys_goes_through_the_catalogue(
    open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    monkeypatch.setattr(Page, "check", lambda page: None)
    server = await open_server(public_url=None)
    await settle(server.deployment.store, server.deployment.keyring, URL)
    visitor = Visitor(server)
    for number in range(2):
        await add_passkeys(server.deployment.store, f"person-{number}", "localhost")
        await visitor.open(await make_link(server))
        page = await visitor.send(name="ada", new_password=PASSWORD, public_url="https://login.example.com")
        assert escaped(page.html, names=("Twofold", "https://login.example.com", "localhost")) == [], page


class TestTheLink:
    async def test_asvs_6_3_2_nobody_is_there_before_and_the_link_alone_opens_the_page(self, server: Server) -> None:
        assert not await server.deployment.administration.page()
        visitor = Visitor(server)
        assert {"name", "new_password"} <= (await visitor.open(await make_link(server))).fields

    async def test_looking_does_not_use_it_up(self, server: Server) -> None:
        link = await make_link(server)
        for _ in range(3):
            assert (await Visitor(server).open(link)).status == 200

    async def test_without_the_link_there_is_no_page(self, server: Server) -> None:
        assert (await Visitor(server).open("/setup?token=")).status == 403
        link = await make_link(server)
        for path in ("/setup", "/setup?token=", f"{link}A", link[:-1], "/setup?token=%00", "/setup?token=%FF"):
            page = await Visitor(server).open(path)
            assert (page.status, page.fields) == (403, set())
            assert "twofold setup-link" in page.text
        assert (await Visitor(server).open(link)).status == 200

    async def test_a_newer_link_voids_the_one_before(self, server: Server) -> None:
        old, new = await make_link(server), await make_link(server)
        assert (await Visitor(server).open(old)).status == 403
        assert (await Visitor(server).open(new)).status == 200

    async def test_it_is_good_for_a_day(self, server: Server) -> None:
        link = await make_link(server)
        server.clock.pass_s(86_399)
        assert (await Visitor(server).open(link)).status == 200
        server.clock.pass_s(1)
        assert (await Visitor(server).open(link)).status == 403

    async def test_what_is_stored_is_no_link_and_cannot_be_made_to_last(self, server: Server) -> None:
        link = await make_link(server)
        store = server.deployment.store
        stored = await store.get_setting("setup_link")
        assert stored is not None
        assert link.partition("=")[2] not in stored
        expiry, _, digest = stored.partition(":")
        for edited in (f"{int(expiry) + 10**12}:{digest}", "", ":", f"x:{digest}", expiry, f"\u0661:{digest}"):
            await store.put_setting("setup_link", edited)
            assert (await Visitor(server).open(link)).status == 403
        await store.put_setting("setup_link", stored)
        assert (await Visitor(server).open(link)).status == 200

    async def test_a_form_of_before_is_refused_once_the_link_is_void(self, server: Server) -> None:
        visitor = Visitor(server)
        page = await visitor.open(await make_link(server))
        await make_link(server)
        refused = await visitor.send(page, name="ada", new_password=PASSWORD)
        assert refused.status == 403
        assert not await server.deployment.administration.page()

    async def test_asvs_6_4_1_it_is_spent_by_the_first_second_factor_and_not_before(self, server: Server) -> None:
        ada = await set_up(server)
        # Whoever leaves in the middle may begin again: with a newer link, or by signing in.
        link = await make_link(server)
        assert (await Visitor(server).open(link)).status == 200
        await finish(server, ada)
        page = await Visitor(server).open(link)
        assert (page.status, page.fields) == (403, set())
        # Not even a new one helps: somebody administers this already.
        page = await Visitor(server).open(await make_link(server))
        assert (page.status, page.heading) == (403, "This is set up already")
        assert "/sign-in" in page.links

    async def test_an_account_without_the_role_is_no_administrator(self, server: Server) -> None:
        await add_person(server)
        link = await make_link(server)
        assert (await Visitor(server).open(link)).status == 200
        await server.deployment.administration.set_role("bo", "administrator", caller=Caller("test", is_admin=True))
        assert (await Visitor(server).open(link)).status == 403

    async def test_spending_leaves_no_link_until_a_new_one_is_made(self, server: Server) -> None:
        store = server.deployment.store
        assert not await setup_link.is_spent(store)
        link = await make_link(server)
        assert not await setup_link.is_spent(store)
        await setup_link.spend(store)
        assert await setup_link.is_spent(store)
        assert (await Visitor(server).open(link)).status == 403
        assert (await Visitor(server).open(await make_link(server))).status == 200


class TestTheAdministrator:
    async def test_name_and_password_lead_to_enrolment_and_nowhere_else(self, server: Server) -> None:
        ada = await set_up(server)
        assert (await ada.open("/security")).path == "/enroll"
        assert (await ada.open("/admin")).path == "/enroll"
        await finish(server, ada)
        assert (await ada.open("/admin")).status == 200
        account = await server.deployment.store.load("ada")
        assert account is not None
        assert account.role == "administrator"

    @pytest.mark.parametrize(
        ("name", "password", "field"),
        [
            ("", PASSWORD, "name"),
            ("a/b", PASSWORD, "name"),
            ("x" * 129, PASSWORD, "name"),
            ("ada\u202e", PASSWORD, "name"),
            ("ada", "", "new_password"),
            ("ada", "short", "new_password"),
            ("ada", "password1", "new_password"),
            ("longname", "LongName", "new_password"),
            ("ada", "x" * 129, "new_password"),
        ],
    )
    async def test_what_cannot_be_taken_is_explained_at_its_box(
        self, server: Server, name: str, password: str, field: str
    ) -> None:
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        page = await visitor.send(name=name, new_password=password)
        assert (page.path, page.status) == ("/setup", 422)
        assert page.title.startswith("Error: ")
        assert page.alert
        form = page.form(fields={"name": "", "new_password": ""})
        wrong = {control["name"] for control in form.controls if control["aria-invalid"] == "true"}
        assert wrong == {field}
        assert (form.control("name")["value"], form.control("new_password")["value"]) == (name, "")
        assert not visitor.token
        assert (await visitor.send(name="ada", new_password=PASSWORD)).path == "/enroll"

    @pytest.mark.parametrize("password", ["8 chars!", "x" * 128, "κωδικός με κενά"])
    async def test_asvs_6_2_1_and_6_2_5_any_password_of_8_to_128_characters_is_taken(
        self, server: Server, password: str
    ) -> None:
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        assert (await visitor.send(name="ada", new_password=password)).path == "/enroll"

    async def test_a_name_with_a_second_factor_is_taken(self, server: Server) -> None:
        await add_person(server, "ada")
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        page = await visitor.send(name="ADA", new_password=PASSWORD)
        assert (page.status, page.form(fields={"name": ""}).control("name")["aria-invalid"]) == (422, "true")
        assert "Choose another name" in page.text
        account = await server.deployment.store.load("ada")
        assert account is not None
        assert account.role == ""
        assert (await visitor.send(name="ada2", new_password=PASSWORD)).path == "/enroll"

    async def test_a_disabled_account_is_taken_too(self, server: Server) -> None:
        accounts = server.deployment.verifier.accounts
        await accounts.put("ada")
        await accounts.record_event("ada", "disabled")
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        assert (await visitor.send(name="ada", new_password=PASSWORD)).status == 422

    async def test_an_account_made_in_the_shell_becomes_the_administrator_under_the_new_password(
        self, server: Server
    ) -> None:
        accounts = server.deployment.verifier.accounts
        await accounts.put("ada")
        await accounts.set_password("ada", "another password of before")
        await set_up(server)
        ada = Person(server, "ada")
        assert (await ada.give_password()).path == "/enroll"
        before = Person(server, "ada")
        before.password = "another password of before"
        assert (await before.give_password()).status == 401

    async def test_trap_41_the_session_of_before_ends(self, server: Server) -> None:
        await add_person(server)
        bo = Person(server)
        await bo.sign_in()
        before = bo.token
        await bo.open(await make_link(server))
        assert (await bo.send(name="ada", new_password=PASSWORD)).path == "/enroll"
        assert await server.deployment.sign_in.find(before, FIREFOX) is None

    async def test_the_name_of_somebody_is_shown_as_text(self, server: Server) -> None:
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        page = await visitor.send(name="<img src=x onerror=alert(1)>", new_password="short")
        assert "<img" not in page.html
        assert page.form(fields={"name": ""}).control("name")["value"] == "<img src=x onerror=alert(1)>"


class TestTheAddress:
    async def test_one_that_was_set_is_shown_and_cannot_be_changed_here(self, server: Server) -> None:
        visitor = Visitor(server)
        page = await visitor.open(await make_link(server))
        assert "public_url" not in page.fields
        assert URL in page.text
        form = page.form(fields={"name": ""})
        button = form.find_button(None)
        assert button is not None
        pairs = form.filled({"name": "ada", "new_password": PASSWORD}, button)
        await visitor.post("/setup", [*pairs, ("public_url", "https://evil.example")])
        assert visitor.page.path == "/enroll"
        assert await self.stored(server) is None

    async def test_one_that_was_not_is_kept_for_the_next_start_when_it_differs(self, open_server: OpenServer) -> None:
        server = await open_server(public_url=None)
        visitor = Visitor(server)
        page = await visitor.open(await make_link(server))
        assert page.form(fields={"public_url": ""}).control("public_url")["value"] == URL
        assert "starts again" in page.text
        await visitor.send(name="ada", new_password=PASSWORD, public_url=" https://login.example.com/ ")
        assert visitor.page.path == "/enroll"
        assert await self.stored(server) == "https://login.example.com"
        # What was chosen is shown to whoever begins again, and can be taken back.
        page = await visitor.open(await make_link(server))
        assert page.form(fields={"public_url": ""}).control("public_url")["value"] == "https://login.example.com"
        await visitor.send(name="bo", new_password=PASSWORD, public_url=URL)
        assert await self.stored(server) == URL

    async def test_one_that_is_the_same_is_not_kept(self, open_server: OpenServer) -> None:
        server = await open_server(public_url=None)
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        await visitor.send(name="ada", new_password=PASSWORD)
        assert await self.stored(server) is None

    @pytest.mark.parametrize(
        "url",
        [
            *("", "login.example.com", "http://login.example.com", "ftp://login.example.com", "https://"),
            *("https://login.example.com/path", "https://ann:secret@login.example.com", "javascript:alert(1)"),
            *("https://login.example.com?x", "https://[::1", "https://login.example.com:x"),
        ],
    )
    async def test_what_cannot_be_one_is_explained_at_its_box(self, open_server: OpenServer, url: str) -> None:
        server = await open_server(public_url=None)
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        page = await visitor.send(name="ada", new_password=PASSWORD, public_url=url)
        assert (page.path, page.status) == ("/setup", 422)
        control = page.form(fields={"public_url": ""}).control("public_url")
        assert control["aria-invalid"] == "true"
        assert "https://login.example.com" in page.root.only(id=control["aria-describedby"].split()[0]).text
        # Nothing happened yet.
        assert not await server.deployment.administration.page()
        assert await self.stored(server) is None

    @pytest.mark.parametrize("host", ["co.uk", "github.io"])
    async def test_a_public_suffix_is_nobodys_and_a_name_below_it_is_somebodys(
        self, open_server: OpenServer, host: str
    ) -> None:
        server = await open_server(public_url=None)
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        page = await visitor.send(name="ada", new_password=PASSWORD, public_url=f"https://{host}")
        assert (page.path, page.status) == ("/setup", 422)
        assert "nobody's address" in page.alert
        await visitor.send(name="ada", new_password=PASSWORD, public_url=f"https://login.{host}")
        assert await self.stored(server) == f"https://login.{host}"

    async def test_one_that_ends_passkeys_says_how_many_and_takes_a_tick(self, open_server: OpenServer) -> None:
        server = await open_server(public_url=None)
        deployment = server.deployment
        await settle(deployment.store, deployment.keyring, URL)
        await add_passkeys(deployment.store, "bo", "localhost", "localhost")
        visitor = Visitor(server)
        page = await visitor.open(await make_link(server))
        assert "lose_passkeys" not in page.fields
        chosen = {"name": "ada", "public_url": "https://login.example.com"}
        for _ in range(2):
            page = await visitor.send(new_password=PASSWORD, **chosen)
            assert (page.path, page.status) == ("/setup", 422)
            assert "2 passkeys stop working at that address" in page.text
            assert "1 person has made passkeys for localhost" in page.text
            assert page.form(fields=chosen).control("lose_passkeys")["aria-invalid"] == "true"
            assert await deployment.store.load("ada") is None
            assert await self.stored(server) is None
        # Whoever ticks it need not do so again because of another field.
        page = await visitor.send(new_password="short", lose_passkeys=True, **chosen)
        assert "checked" in page.form(fields=chosen).control("lose_passkeys").attributes
        await visitor.send(new_password=PASSWORD)
        assert visitor.page.path == "/enroll"
        assert await self.stored(server) == "https://login.example.com"
        # The next start does not ask again.
        assert await find_lost(deployment.store, deployment.keyring, "https://login.example.com") is None

    async def test_one_that_ends_no_passkeys_asks_nothing(self, open_server: OpenServer) -> None:
        server = await open_server(public_url=None)
        deployment = server.deployment
        await settle(deployment.store, deployment.keyring, URL)
        await add_passkeys(deployment.store, "bo", "localhost")
        visitor = Visitor(server)
        await visitor.open(await make_link(server))
        await visitor.send(name="ada", new_password=PASSWORD, public_url="http://localhost:9000")
        assert visitor.page.path == "/enroll"
        await add_passkeys(deployment.store, "cy", "shop.example")
        await settle(deployment.store, deployment.keyring, "http://192.168.1.5")
        await visitor.open(await make_link(server))
        await visitor.send(name="ada2", new_password=PASSWORD, public_url="https://login.example.com")
        assert visitor.page.path == "/enroll"

    @pytest.mark.parametrize(
        ("url", "lasts"),
        [
            (URL, True),
            ("http://localhost:9000", True),
            ("https://login.example.com", False),
            ("http://10.0.0.5", False),
        ],
    )
    async def test_no_passkey_is_made_that_would_die_with_the_next_start(
        self, open_server: OpenServer, url: str, *, lasts: bool
    ) -> None:
        visitor = Visitor(server := await open_server(public_url=None))
        await visitor.open(await make_link(server))
        page = await visitor.send(name="ada", new_password=PASSWORD, public_url=url)
        assert page.path == "/enroll"
        assert ("factor=webauthn" in page.buttons) is lasts
        assert ("once the server has been started again" in page.text) is not lasts
        assert (await visitor.send(press="factor=totp")).path == "/enroll/totp"

    async def test_one_that_somebody_else_wrote_counts_as_none(self, open_server: OpenServer) -> None:
        server = await open_server(public_url=None)
        deployment = server.deployment
        await setup_link.put_public_url(deployment.store, deployment.keyring, "https://login.example.com")
        stored = await deployment.store.get_setting("public_url")
        assert stored is not None
        await deployment.store.put_setting("public_url", stored.replace("login", "evil"))
        assert await self.stored(server) is None
        # Nor is the note of where the server listens an address that somebody chose.
        await setup_link.note_url(deployment.store, deployment.keyring, "https://noted.example.com")
        noted = await deployment.store.get_setting("listening_url")
        assert noted is not None
        await deployment.store.put_setting("public_url", noted)
        assert await self.stored(server) is None

    async def stored(self, server: Server) -> str | None:
        return await setup_link.read_public_url(server.deployment.store, server.deployment.keyring)


async def test_whoever_began_and_never_finished_is_no_administrator_once_another_one_is(server: Server) -> None:
    # A name mistyped once, or somebody who found an old link.
    await set_up(server, "adaa")
    ada = await set_up(server)
    await finish(server, ada)
    await ada.send(saved=True)
    assert (await ada.open("/admin")).status == 200
    late = Visitor(server)
    await late.open("/sign-in")
    assert (await late.send(name="adaa", password=PASSWORD)).path == "/enroll"
    server.clock.pass_s(30)
    await finish(server, late)
    assert (await late.open("/admin")).status == 403
    alarms = await server.deployment.verifier.accounts.events("")
    assert [event.kind for event in alarms].count("setup.completed") == 1
    kinds = [event.kind for event in await server.deployment.verifier.accounts.events("adaa")]
    assert "account.role_changed" in kinds
