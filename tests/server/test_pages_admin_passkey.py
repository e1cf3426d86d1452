"""Administration takes the passkey of whoever has one: to get in, and for every act. Codes are as good as ever for all
others, and never a way around it."""

import pytest
from tests.lying_authenticator import LyingAuthenticator
from tests.server.administrators import add_somebody
from tests.server.conftest import Server
from tests.server.passkey_holders import RP, Holder, add_holder, add_passkey
from tests.server.visitors import ADMIN, IPHONE, add_app, add_person

from twofold.passkey_facts import has_verifying_passkey

TABLET = "PFXXK4TCMFWGYZLSMVXGI2LUMVXGK3TP"
NETWORK = "203.0.114.0/24"
ADMINISTRATION = ("/admin", "/admin/people", "/admin/invite", "/admin/people/bo", "/admin/networks")


@pytest.fixture
async def ada(server: Server) -> Holder:
    """An administrator with a passkey, who signed in with a code of her app."""
    await add_somebody(server, "bo")
    return await add_holder(server, "ada", is_administrator=True)


async def verified(ada: Holder) -> Holder:
    """The same, and the passkey was shown."""
    assert (await ada.open("/admin")).path == "/admin/passkey"
    assert (await ada.show_passkey()).path == "/admin"
    return ada


async def is_disabled(server: Server, name: str = "bo") -> bool:
    return (await server.deployment.verifier.accounts.get(name)).is_disabled


async def has_passkey(server: Server) -> bool:
    account = await server.deployment.store.load("ada")
    assert account is not None
    return has_verifying_passkey(account, RP)


@pytest.mark.parametrize("path", ADMINISTRATION)
async def test_administration_asks_for_the_passkey_and_leads_on_to_where_she_was_going(ada: Holder, path: str) -> None:
    page = await ada.open(path)
    assert (page.status, page.path) == (200, "/admin/passkey")
    assert "code" not in page.fields
    page = await ada.show_passkey()
    assert (page.status, page.path) == (200, path)
    assert (await ada.open("/admin/people?q=b")).path == "/admin/people"


async def test_the_way_on_survives_with_its_query(ada: Holder) -> None:
    assert (await ada.open("/admin/people?q=bo&show=unprotected")).path == "/admin/passkey"
    page = await ada.show_passkey()
    assert (page.path, page.query) == ("/admin/people", "q=bo&show=unprotected")


async def test_the_passkey_is_shown_once_a_session_however_often_its_token_changes(ada: Holder) -> None:
    await verified(ada)
    await ada.open("/security/recovery-codes")
    token = ada.token
    await ada.show_passkey()
    assert ada.token != token
    assert (await ada.open("/admin")).path == "/admin"
    await ada.sign_out()
    await ada.sign_in()
    assert (await ada.open("/admin")).path == "/admin/passkey"


async def test_whoever_showed_it_or_has_none_is_led_on_at_once(server: Server, ada: Holder) -> None:
    await verified(ada)
    assert (await ada.open("/admin/passkey?next=/admin/networks")).path == "/admin/networks"
    cy = Holder(server, "cy")
    await add_person(server, "cy")
    await server.deployment.administration.set_role("cy", "administrator", caller=ADMIN)
    await cy.sign_in()
    assert (await cy.open("/admin/passkey")).path == "/admin"


async def test_somebody_who_is_no_administrator_gets_no_question(server: Server, ada: Holder) -> None:
    eve = await add_holder(server, "eve")
    assert (await eve.open("/admin/passkey")).status == 403
    assert (await eve.open("/admin")).status == 403


async def test_a_form_from_before_the_passkey_is_refused_and_leads_to_it(server: Server) -> None:
    await add_somebody(server, "bo")
    ada = Holder(server, "ada")
    await add_person(server, "ada")
    await server.deployment.administration.set_role("ada", "administrator", caller=ADMIN)
    await ada.sign_in()
    form = await ada.open("/admin/people/bo/disable")
    await add_passkey(server, "ada", ada.authenticator)
    page = await ada.send(form, code=ada.fresh_code())
    assert (page.status, page.heading) == (403, "Show your passkey first")
    assert not await is_disabled(server)
    await ada.open(next(link for link in page.links if link.startswith("/admin/passkey")))
    assert (await ada.show_passkey()).path == "/admin/people/bo/disable"
    assert (await ada.show_passkey()).status == 200
    assert await is_disabled(server)


async def test_each_act_takes_the_passkey_and_no_code(server: Server, ada: Holder) -> None:
    await verified(ada)
    page = await ada.open("/admin/people/bo/disable")
    assert "code" not in page.fields
    for code in (ada.fresh_code(), ada.recovery_codes[0]):
        form = ada.passkey_form(page)
        pairs = [(c["name"], c["value"]) for c in form.controls if c["type"] == "hidden"]
        refused = await ada.post(form.action, [*pairs, ("code", code)])
        assert refused.status == 422
        assert "passkey" in refused.alert
        assert not await is_disabled(server)
    await ada.open("/admin/people/bo/disable")
    page = await ada.show_passkey()
    assert page.query == "done=disable"
    assert await is_disabled(server)
    # The recovery code that was refused was not used up.
    await ada.open("/security/recovery-codes?letters=1")
    assert len((await ada.send(code=ada.recovery_codes[0])).recovery_codes) == 10


async def test_a_passkey_that_did_not_check_its_user_acts_on_nobody(server: Server, ada: Holder) -> None:
    await verified(ada)
    await ada.open("/admin/people/bo/disable")
    page = await ada.show_passkey(says={"off": 0x04})
    assert page.status == 422
    assert not await is_disabled(server)
    assert (await ada.show_passkey()).query == "done=disable"


async def test_a_passkey_shown_for_one_act_does_no_other_and_on_nobody_else(server: Server, ada: Holder) -> None:
    await add_somebody(server, "cy")
    await verified(ada)
    asked = await ada.open("/admin/people/bo/sign-out")
    credential, challenge = ada.answer(asked), ada.passkey_form(asked).control("challenge")["value"]
    for path in ("/admin/people/bo/disable", "/admin/people/cy/disable", "/admin/people/cy/sign-out"):
        page = await ada.open(path)
        form = ada.passkey_form(page)
        pairs = form.filled({"credential": credential, "challenge": challenge}, form.element)
        page = await ada.post(form.action, pairs)
        assert page.status == 422, path
    assert not await is_disabled(server)
    assert not await is_disabled(server, "cy")
    page = await ada.show_passkey(asked)
    assert page.query == "done=sign-out"


async def test_the_passkey_that_opened_the_administration_acts_on_nobody(server: Server, ada: Holder) -> None:
    asked = await ada.open("/admin/people/bo/disable")
    assert asked.path == "/admin/passkey"
    credential, challenge = ada.answer(asked), ada.passkey_form(asked).control("challenge")["value"]
    page = await ada.show_passkey()
    form = ada.passkey_form(page)
    page = await ada.post(form.action, form.filled({"credential": credential, "challenge": challenge}, form.element))
    assert page.status == 422
    assert not await is_disabled(server)
    assert (await ada.show_passkey()).query == "done=disable"


async def test_people_are_invited_and_networks_refused_with_the_passkey(server: Server, ada: Holder) -> None:
    await verified(ada)
    await ada.open("/admin/invite")
    page = await ada.show_passkey(name="dee")
    assert page.heading.startswith("Send this link to dee")
    await ada.open("/admin/invite")
    assert "already" in (await ada.show_passkey(name="dee")).alert
    await ada.open("/admin/networks")
    page = await ada.show_passkey(network=NETWORK)
    assert page.query == "done=refused"
    assert [block.network for block in await server.deployment.networks.list()] == [NETWORK]
    # Lifting takes no proof, and no form without the passkey's session.
    thief = await stolen(ada)
    assert (await thief.open("/admin/networks")).path == "/admin/passkey"


async def test_a_reset_takes_reason_and_passkey(server: Server, ada: Holder) -> None:
    await verified(ada)
    await ada.open("/admin/people/bo/reset")
    page = await ada.show_passkey(reason="")
    assert (page.status, "reason" in page.alert) == (422, True)
    page = await ada.show_passkey(reason="lost the phone")
    assert page.query == "done=reset"
    account = await server.deployment.store.load("bo")
    assert account is not None
    assert not account.is_bound


async def stolen(ada: Holder) -> Holder:
    """Somebody who knows her password and got hold of a code of her app, at a browser of his own."""
    thief = Holder(ada.server, "ada", user_agent=IPHONE, address="198.51.100.66")
    await thief.sign_in()
    return thief


class TestACodeOfTheAppIsNoWayAroundIt:
    """Whoever has her password and one code after the other gets no further than to see her security page."""

    async def test_it_does_not_remove_the_passkey(self, server: Server, ada: Holder) -> None:
        thief = await stolen(ada)
        await thief.open(f"/security/authenticators/{ada.ids[0]}/remove?letters=1")
        page = await thief.send(code=thief.fresh_code())
        assert (page.status, "passkey" in page.alert) == (422, True)
        assert await has_passkey(server)
        assert (await thief.open("/admin")).path == "/admin/passkey"

    async def test_it_makes_no_recovery_codes_that_would_remove_it(self, server: Server, ada: Holder) -> None:
        thief = await stolen(ada)
        await thief.open("/security/recovery-codes?letters=1")
        page = await thief.send(code=thief.fresh_code())
        assert (page.status, page.recovery_codes) == (422, [])

    async def test_it_adds_no_authenticator_that_would_take_its_place(self, server: Server, ada: Holder) -> None:
        thief = await stolen(ada)
        for path in ("/enroll?letters=1", f"/enroll?letters=1&replaces={ada.ids[0]}"):
            await thief.open(path)
            page = await thief.send(to="/enroll", code=thief.fresh_code())
            assert page.status == 422, path
            assert "passkey" in page.alert
            assert not page.root.all("button", name="factor")

    async def test_she_does_all_of_it_with_the_passkey(self, server: Server, ada: Holder) -> None:
        await ada.open("/security/recovery-codes")
        assert len((await ada.show_passkey()).recovery_codes) == 10
        await ada.open("/enroll")
        assert (await ada.show_passkey()).root.all("button", name="factor")
        await ada.open(f"/security/authenticators/{ada.ids[0]}/remove")
        assert (await ada.show_passkey()).path == "/security"
        assert not await has_passkey(server)


async def test_a_lost_passkey_is_removed_with_a_recovery_code_and_then_codes_administer_again(
    server: Server, ada: Holder
) -> None:
    page = await ada.open("/admin")
    assert "Remove it under your security with a recovery code" in page.text
    assert "twofold account reset ada" in page.text
    await ada.open(f"/security/authenticators/{ada.ids[0]}/remove?letters=1")
    page = await ada.send(code=ada.recovery_codes[0])
    assert (page.path, page.status) == ("/security", 200)
    page = await ada.open("/admin/people/bo/disable")
    assert page.path == "/admin/people/bo/disable"
    page = await ada.send(code=ada.fresh_code())
    assert page.query == "done=disable"


async def test_a_key_that_asks_for_a_touch_only_leaves_codes_as_they_are(server: Server) -> None:
    await add_somebody(server, "bo")
    ada = Holder(server, "ada")
    await add_person(server, "ada")
    await server.deployment.administration.set_role("ada", "administrator", caller=ADMIN)
    await ada.sign_in()
    ada.authenticator = LyingAuthenticator(verifies_user=False, transports=("usb",))
    await add_passkey(server, "ada", ada.authenticator)
    await ada.open("/admin/people/bo/sign-out")
    assert (await ada.send(code=ada.fresh_code())).query == "done=sign-out"
    await ada.open("/admin/people/bo/disable")
    assert (await ada.show_passkey()).query == "done=disable"


async def test_a_passkey_of_another_address_asks_for_nothing_here(server: Server, ada: Holder) -> None:
    cy = Holder(server, "cy")
    await add_person(server, "cy")
    await server.deployment.administration.set_role("cy", "administrator", caller=ADMIN)
    await add_app(server, "cy", TABLET, "Tablet")
    elsewhere = type(RP)("old.example", ("https://old.example",))
    await add_passkey(server, "cy", LyingAuthenticator(), rp=elsewhere)
    await cy.sign_in()
    assert (await cy.open("/admin")).path == "/admin"
    assert "code" in (await cy.open("/admin/people/bo/disable")).fields


async def test_administrators_see_what_kinds_of_passkeys_somebody_has(server: Server, ada: Holder) -> None:
    await add_passkey(server, "bo", LyingAuthenticator(is_backup_eligible=True, is_backed_up=True), "Bo's laptop")
    await verified(ada)
    page = await ada.open("/admin/people/bo")
    assert "Bo's laptop" in page.text
    assert "Synced between devices" in page.text
    assert "Passkey" in (await ada.open("/admin/people")).text
    assert "Passkey" in (await ada.open("/admin")).text


@pytest.mark.parametrize("aim", ["https://evil.example/", "//evil.example", "/sign-out", "/admin/../sign-out"])
async def test_the_passkey_leads_to_no_other_place_than_ours(ada: Holder, aim: str) -> None:
    await ada.open(f"/admin/passkey?next={aim}")
    assert (await ada.show_passkey()).path == "/admin"
    assert (await ada.open(f"/admin/passkey?next={aim}")).path == "/admin"


async def test_an_act_sent_twice_ends_alike_and_is_done_once(server: Server, ada: Holder) -> None:
    await verified(ada)
    asked = await ada.open("/admin/people/bo/sign-out")
    form = ada.passkey_form(asked)
    pairs = form.filled({"credential": ada.answer(asked)}, form.element)
    assert [(await ada.post(form.action, pairs)).query for _ in range(2)] == ["done=sign-out"] * 2
    account = await server.deployment.store.load("bo")
    assert account is not None
    told = await server.deployment.verifier.accounts.latest_activity(account, count=50)
    assert [each.kind for each in told].count("sessions.ended") == 1


async def test_she_acts_on_people_whose_names_are_as_long_as_names_can_be(server: Server, ada: Holder) -> None:
    long = "n" * 128
    await add_somebody(server, long)
    await verified(ada)
    for act, becomes in (("disable", True), ("enable", False)):
        await ada.open(f"/admin/people/{long}/{act}")
        assert (await ada.show_passkey()).query == f"done={act}"
        assert await is_disabled(server, long) is becomes


async def test_trap_86_with_her_first_passkey_what_a_code_opened_elsewhere_ends(server: Server) -> None:
    await add_person(server, "ada")
    await server.deployment.administration.set_role("ada", "administrator", caller=ADMIN)
    thief, ada = Holder(server, "ada"), Holder(server, "ada")
    for holder in (thief, ada):
        await holder.sign_in()
        await holder.open("/enroll")
        await holder.send(code=holder.fresh_code())
    await ada.send(press="factor=webauthn")
    assert (await ada.show_passkey()).path == "/enroll/done"
    assert (await ada.open("/admin")).path == "/admin", "this session goes on"
    assert (await thief.open("/enroll")).status == 401
    assert (await thief.open("/admin")).path == "/sign-in"
