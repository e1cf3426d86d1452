"""What people see of their passkeys: names and facts in words, warnings, and what the browser is told of them."""

import json

import pytest
from tests.lying_authenticator import LyingAuthenticator
from tests.pages import Page
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import OpenServer, Server
from tests.server.passkey_holders import Holder, add_holder, add_passkey
from tests.server.visitors import add_app, add_person

from twofold.core.health import assess_health
from twofold.directory import ProfileInput
from twofold.factors.webauthn_json import RelyingParty
from twofold.testing.software_authenticator import encode

ELSEWHERE = RelyingParty("old.example", ("https://old.example",))
TABLET = "PFXXK4TCMFWGYZLSMVXGI2LUMVXGK3TP"
ICLOUD = bytes.fromhex("fbfc3007154e4ecc8c0b6e020557d7bd")


@pytest.fixture
async def bo(server: Server) -> Holder:
    return await add_holder(server)


def row_of(page: Page, name: str) -> str:
    """The line of the authenticator of that name."""
    rows = page.root.only("section", id="authenticators").all("li", class_="row")
    return next(row.text for row in rows if row.only("p", class_="row-title").text.startswith(name))


def signals_of(page: Page) -> dict[str, dict[str, object]]:
    """What the browser is told."""
    found = [element["data-signal"] for element in page.root.walk() if element["data-signal"]]
    told: dict[str, dict[str, object]] = json.loads(found[0]) if found else {}
    return told


@pytest.mark.parametrize(
    ("authenticator", "words"),
    [
        (
            LyingAuthenticator(aaguid=ICLOUD, is_backup_eligible=True, is_backed_up=True),
            "Passkey · iCloud Keychain · Synced between your devices · Checks finger, face or PIN",
        ),
        (LyingAuthenticator(), "Passkey · Only on this device · Checks finger, face or PIN"),
        (LyingAuthenticator(is_backup_eligible=True), "Passkey · Only on this device · Checks finger, face or PIN"),
        (
            LyingAuthenticator(verifies_user=False, transports=("usb", "nfc")),
            "Security key · Only on this device · Asks for a touch only",
        ),
    ],
)
async def test_a_passkey_is_described_in_words(
    server: Server, bo: Holder, authenticator: LyingAuthenticator, words: str
) -> None:
    await add_passkey(server, "bo", authenticator, "Mine")
    assert words in row_of(await bo.open("/security"), "Mine")
    server.clock.pass_s(3600)


async def test_it_says_when_it_was_used_last(server: Server, bo: Holder) -> None:
    server.clock.pass_s(600)
    assert "last used 10 minutes ago" in row_of(await bo.open("/security"), "Key")
    await bo.open("/security/recovery-codes")
    await bo.show_passkey()
    server.clock.pass_s(120)
    assert "last used 2 minutes ago" in row_of(await bo.open("/security"), "Key")


async def test_a_passkey_is_renamed_without_a_proof_and_removed_with_one(server: Server, bo: Holder) -> None:
    page = await bo.open(f"/security/authenticators/{bo.ids[0]}")
    assert "Only on this device" in page.text
    page = await bo.send(label="Bo's laptop")
    assert "Bo's laptop" in row_of(page, "Bo")
    page = await bo.open(f"/security/authenticators/{bo.ids[0]}/remove")
    assert page.heading == "Remove Bo's laptop ?"
    page = await bo.send(code=bo.fresh_code())
    assert "Bo's laptop" not in page.root.only("section", id="authenticators").text


async def test_one_that_has_no_name_is_called_what_it_is(server: Server, bo: Holder) -> None:
    await add_passkey(server, "bo", LyingAuthenticator(transports=("usb",)), "")
    page = await bo.open("/security")
    assert "Security key" in page.root.only("section", id="authenticators").text


async def test_the_only_passkey_can_be_replaced_and_not_removed(server: Server, bo: Holder) -> None:
    page = await bo.open("/security")
    form = await bo.open(f"/security/authenticators/{bo.ids[0]}/remove")
    await bo.lose_app()
    page = await bo.open("/security")
    assert f"/security/authenticators/{bo.ids[0]}/remove" not in page.links
    assert f"/enroll?replaces={bo.ids[0]}" in page.links
    assert (await bo.open(f"/security/authenticators/{bo.ids[0]}/remove")).heading == "It cannot be removed"
    assert (await bo.send(form, code=bo.recovery_codes[0])).status == 409
    assert bo.ids[0] in (await bo.open("/security")).html


class TestWhatTheBrowserIsTold:
    async def test_all_passkeys_that_are_good_here_and_the_names_of_their_owner(
        self, server: Server, bo: Holder
    ) -> None:
        await server.deployment.verifier.accounts.put("bo", ProfileInput(display_name="Bo <b>Li</b>"))
        second = LyingAuthenticator()
        await add_passkey(server, "bo", second)
        (first_one,), (second_one,) = bo.authenticator.credentials, second.credentials
        told = signals_of(await bo.open("/security"))
        whose = {"rpId": "localhost", "userId": encode(first_one.user_handle)}
        assert told == {
            "signalAllAcceptedCredentials": {
                **whose,
                "allAcceptedCredentialIds": [encode(first_one.id), encode(second_one.id)],
            },
            "signalCurrentUserDetails": {**whose, "name": "bo", "displayName": "Bo <b>Li</b>"},
        }

    async def test_that_the_last_one_was_removed_too(self, server: Server, bo: Holder) -> None:
        await bo.open(f"/security/authenticators/{bo.ids[0]}/remove")
        page = await bo.send(code=bo.fresh_code())
        assert page.path == "/security"
        assert signals_of(page)["signalAllAcceptedCredentials"]["allAcceptedCredentialIds"] == []

    async def test_nothing_of_other_addresses_and_nothing_where_there_never_was_one(self, server: Server) -> None:
        await add_person(server, "cy")
        cy = Holder(server, "cy")
        await cy.sign_in()
        assert signals_of(await cy.open("/security")) == {}
        await add_passkey(server, "cy", LyingAuthenticator(), rp=ELSEWHERE)
        assert signals_of(await cy.open("/security")) == {}
        await add_passkey(server, "cy", cy.authenticator)
        told = signals_of(await cy.open("/security"))["signalAllAcceptedCredentials"]
        assert told["allAcceptedCredentialIds"] == [encode(cy.authenticator.credentials[0].id)]


async def test_a_passkey_of_another_address_says_where_it_works_and_counts_for_nothing_here(
    server: Server, bo: Holder
) -> None:
    await add_passkey(server, "bo", LyingAuthenticator(), "Old", rp=ELSEWHERE)
    page = await bo.open("/security")
    assert "Works at old.example only" in row_of(page, "Old")
    assert "You have passkeys that do not work here" in page.text
    view = await server.deployment.verifier.accounts.get("bo")
    ids = {a.label: a.id for a in view.authenticators}
    # With the one that works and the app there are two ways; the old one is none.
    await bo.open(f"/security/authenticators/{ids['Key']}/remove")
    await bo.send(code=bo.fresh_code())
    page = await bo.open("/security")
    assert f"/security/authenticators/{ids['']}/remove" not in page.links
    assert "You have one authenticator" in page.text
    page = await bo.open(f"/security/authenticators/{ids['Old']}/remove")
    assert "Old" not in (await bo.send(code=bo.fresh_code())).root.only("section", id="authenticators").text


async def test_a_counter_that_went_back_is_a_warning_until_the_passkey_is_gone(server: Server, bo: Holder) -> None:
    await bo.open("/security/recovery-codes")
    await bo.show_passkey(says={"sign_count": 7})
    await bo.open("/security/recovery-codes")
    page = await bo.show_passkey(says={"sign_count": 3})
    assert page.status == 422
    page = await bo.open("/security")
    assert "There may be a copy of Key" in page.text
    assert "There may be a copy of Key : it was refused" in page.root.only("section", id="activity").text
    assert "Perhaps copied" in row_of(page, "Key")
    assert "There may be a copy of it" in (await bo.open(f"/security/authenticators/{bo.ids[0]}")).text
    await bo.open(f"/security/authenticators/{bo.ids[0]}/remove")
    page = await bo.send(code=bo.fresh_code())
    assert "There may be a copy of Key" not in page.root.only("section", id="authenticators").text


async def test_what_happened_is_told_in_words(server: Server, bo: Holder) -> None:
    await bo.open("/security/recovery-codes")
    await bo.show_passkey(says={"client": {"origin": "https://evil.example"}})
    await bo.show_passkey()
    told = (await bo.open("/security/activity")).main.text
    assert "A passkey allowed a change" in told
    assert "A passkey was refused because it was shown to a page at another address" in told


async def test_a_passkey_is_advised_where_there_is_none_and_it_would_work(server: Server) -> None:
    await add_person(server, "cy")
    await add_app(server, "cy", TABLET, "Tablet")
    cy = Holder(server, "cy")
    await cy.sign_in()
    assert "Add a passkey" in (await cy.open("/security")).text
    await add_passkey(server, "cy", LyingAuthenticator())
    page = await cy.open("/security")
    assert "Your account is well protected" in page.text
    assert "Add a passkey" not in page.text


async def test_where_browsers_make_none_no_passkey_is_advised_or_asked_for(open_server: OpenServer) -> None:
    server = await open_server(public_url="http://192.0.2.7:8000")
    await add_person(server, "cy")
    await add_app(server, "cy", TABLET, "Tablet")
    account = await server.deployment.store.load("cy")
    assert account is not None
    rp = server.deployment.relying_party
    assert rp is None
    health = assess_health(account, recovery_codes_left=10, can_add_passkey=rp is not None)
    assert [finding.code for finding in health.findings] == ["only_phishable"]


async def test_somebody_with_nothing_that_shows_codes_is_told_what_testing_is_for(server: Server, bo: Holder) -> None:
    assert "/security/test" in (await bo.open("/security")).links
    form = await bo.open("/security/test")
    assert "code" in form.fields
    await bo.lose_app()
    assert "/security/test" not in (await bo.open("/security")).links
    page = await bo.open("/security/test")
    assert (page.status, page.heading) == (200, "You have no codes to test")
    assert (await bo.send(form, code="123456")).heading == "You have no codes to test"
    account = await server.deployment.store.load("bo")
    assert account is not None
    assert account.lane.failures == 0


async def test_every_word_about_passkeys_is_in_the_catalogue(
    server: Server, bo: Holder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_passkey(server, "bo", LyingAuthenticator(aaguid=ICLOUD, transports=("usb",)), "Old", rp=ELSEWHERE)
    await bo.open("/security/recovery-codes")
    await bo.show_passkey(says={"sign_count": 7})
    await bo.open("/security/recovery-codes")
    await bo.show_passkey(says={"sign_count": 3})
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    key = f"/security/authenticators/{bo.ids[0]}"
    for path in ("/security", "/security/activity", key, f"{key}/remove", "/security/password"):
        page = await bo.open(path)
        assert escaped(page.html, names=("Twofold", "Key")) == [], path
    await bo.lose_app()
    for path in ("/security", "/security/test", "/security/recovery-codes", "/security/recovery-codes?letters=1"):
        page = await bo.open(path)
        assert escaped(page.html, names=("Twofold", "Key")) == [], path
