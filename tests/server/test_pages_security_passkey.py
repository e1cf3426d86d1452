"""A passkey as the proof for an act on one's own security: good for just that act, this session, once."""

import asyncio

import pytest
from tests.lying_authenticator import LyingAuthenticator
from tests.pages import Page
from tests.server.conftest import URL, Server
from tests.server.passkey_holders import Holder, add_holder, add_passkey
from tests.server.visitors import IPHONE, PASSWORD

from twofold.core.ticket import TICKET_TTL_S

NEW_PASSWORD = "amber lighthouse 2031"


@pytest.fixture
async def bo(server: Server) -> Holder:
    return await add_holder(server)


@pytest.fixture
async def tablet(server: Server, bo: Holder) -> str:
    """The id of a second passkey, on another device."""
    return await add_passkey(server, "bo", LyingAuthenticator(), "Tablet")


class Form:
    """A form that asks for a fresh proof: where it is, and what else goes into it."""

    def __init__(self, path: str, **fields: str) -> None:
        self.path = path
        self.fields = fields

    async def open(self, bo: Holder) -> Page:
        view = await bo.server.deployment.verifier.accounts.get(bo.name)
        tablet = next((a.id for a in view.authenticators if a.label == "Tablet"), "")
        return await bo.open(self.path.replace("{tablet}", tablet))


FORMS = [
    Form("/security/authenticators/{tablet}/remove"),
    Form("/security/recovery-codes"),
    Form("/security/password", password=PASSWORD, new_password=NEW_PASSWORD),
]
EVERY_FORM = pytest.mark.parametrize("form", FORMS, ids=["removal", "recovery codes", "password"])


async def state_of(server: Server, name: str = "bo") -> object:
    account = await server.deployment.store.load(name)
    assert account is not None
    return account.epoch, [(a.id, a.factor) for a in account.authenticators], len(account.spent)


@EVERY_FORM
async def test_a_passkey_proves_who_it_is_as_a_code_does(server: Server, bo: Holder, tablet: str, form: Form) -> None:
    before, token = await state_of(server), bo.token
    page = await form.open(bo)
    assert "code" in page.fields  # the other way is there too
    page = await bo.show_passkey(**form.fields)
    assert (page.status, page.alert) == (200, "")
    assert await state_of(server) != before
    assert bo.token != token
    assert await bo.is_signed_in()


@EVERY_FORM
async def test_with_only_a_passkey_everything_can_be_done(server: Server, bo: Holder, tablet: str, form: Form) -> None:
    await bo.lose_app()
    page = await form.open(bo)
    assert "code" not in page.fields
    page = await bo.show_passkey(**form.fields)
    assert (page.status, page.alert) == (200, "")


@EVERY_FORM
async def test_without_the_passkey_at_hand_a_recovery_code_is_a_link_away(
    server: Server, bo: Holder, tablet: str, form: Form
) -> None:
    await bo.lose_app()
    page = await form.open(bo)
    page = await bo.open(f"{page.path}?letters=1")
    assert page.forms[0].control("code")["inputmode"] == "text"
    wrong = await bo.send(code="AAAA-0000-0000-0000-0000", **form.fields)
    assert (wrong.status, "recovery code is not right" in wrong.alert) == (422, True)
    page = await bo.send(code=bo.recovery_codes[0], **form.fields)
    assert (page.status, page.alert) == (200, "")


@EVERY_FORM
async def test_a_passkey_that_was_asked_for_elsewhere_changes_nothing(
    server: Server, bo: Holder, tablet: str, form: Form
) -> None:
    before = await state_of(server)
    for other in FORMS:
        if other is form:
            continue
        asked = await other.open(bo)
        credential, challenge = bo.answer(asked), bo.passkey_form(asked).control("challenge")["value"]
        await form.open(bo)
        page = await bo.send(credential=credential, challenge=challenge, code="", **form.fields)
        assert page.status == 422
        assert page.alert
        assert await state_of(server) == before
    await form.open(bo)
    await bo.show_passkey(**form.fields)
    assert await state_of(server) != before


async def test_a_passkey_shown_to_remove_one_authenticator_does_not_remove_another(
    server: Server, bo: Holder, tablet: str
) -> None:
    phone = await add_passkey(server, "bo", LyingAuthenticator(), "Phone")
    asked = await bo.open(f"/security/authenticators/{tablet}/remove")
    credential, challenge = bo.answer(asked), bo.passkey_form(asked).control("challenge")["value"]
    await bo.open(f"/security/authenticators/{phone}/remove")
    page = await bo.send(credential=credential, challenge=challenge, code="")
    assert page.status == 422
    view = await server.deployment.verifier.accounts.get("bo")
    assert {"Tablet", "Phone"} <= {a.label for a in view.authenticators}
    # The refusal used nothing up.
    page = await bo.send(asked, credential=credential, code="")
    assert page.path == "/security"
    view = await server.deployment.verifier.accounts.get("bo")
    assert {"Tablet", "Phone"} & {a.label for a in view.authenticators} == {"Phone"}


async def test_a_passkey_shown_in_one_session_proves_nothing_in_another(server: Server, bo: Holder) -> None:
    thief = Holder(server, "bo", user_agent=IPHONE, address="198.51.100.7")
    await thief.sign_in()
    asked = await bo.open("/security/recovery-codes")
    credential, challenge = bo.answer(asked), bo.passkey_form(asked).control("challenge")["value"]
    await thief.open("/security/recovery-codes")
    before = await state_of(server)
    page = await thief.send(credential=credential, challenge=challenge, code="")
    assert (page.status, page.recovery_codes) == (422, [])
    assert await state_of(server) == before
    assert len((await bo.send(asked, credential=credential, code="")).recovery_codes) == 10


async def test_the_same_form_sent_twice_ends_alike_and_its_passkey_is_good_for_no_other_form(
    server: Server, bo: Holder
) -> None:
    asked = await bo.open("/security/recovery-codes")
    credential = bo.answer(asked)
    first = await bo.send(asked, credential=credential, code="")
    again = await bo.send(asked, credential=credential, code="")
    assert len(first.recovery_codes) == 10
    assert again.recovery_codes == first.recovery_codes
    challenge = bo.passkey_form(asked).control("challenge")["value"]
    await bo.open("/security/recovery-codes")
    page = await bo.send(credential=credential, challenge=challenge, code="")
    assert (page.status, page.recovery_codes) == (422, [])
    await bo.open("/security/recovery-codes")
    fresh = await bo.show_passkey()
    assert len(fresh.recovery_codes) == 10
    assert set(fresh.recovery_codes).isdisjoint(first.recovery_codes)


async def test_a_passkey_counts_for_five_minutes_after_the_page_was_shown(server: Server, bo: Holder) -> None:
    await bo.open("/security/recovery-codes")
    server.clock.pass_s(TICKET_TTL_S)
    page = await bo.show_passkey()
    assert (page.status, page.recovery_codes) == (422, [])
    page = await bo.show_passkey()  # what is asked on the page that says so
    assert len(page.recovery_codes) == 10


async def test_a_passkey_without_a_form_of_ours_is_refused(server: Server, bo: Holder) -> None:
    asked = await bo.open("/security/recovery-codes")
    pairs = [("credential", bo.answer(asked)), ("challenge", bo.passkey_form(asked).control("challenge")["value"])]
    assert (await bo.post("/security/recovery-codes", pairs)).status == 403
    assert len((await bo.send(asked, credential=pairs[0][1], code="")).recovery_codes) == 10


@pytest.mark.parametrize(
    "says", [{"client": {"origin": "https://evil.example"}}, {"off": 0x01}, {"credential_id": b"of somebody else"}]
)
async def test_a_wrong_passkey_is_explained_and_can_be_shown_again(
    server: Server, bo: Holder, says: dict[str, object]
) -> None:
    await bo.open("/security/recovery-codes")
    page = await bo.show_passkey(says=says)
    assert page.status == 422
    assert page.title.startswith("Error: ")
    assert page.alert
    assert page.forms[0].control("code")["aria-invalid"] == ""
    assert len((await bo.show_passkey()).recovery_codes) == 10


@pytest.mark.parametrize("credential", ["{", "[]", '{"id":"AA"}', "null", "\\ud800"])
async def test_what_no_browser_sends_is_a_wrong_passkey(server: Server, bo: Holder, credential: str) -> None:
    await bo.open("/security/recovery-codes")
    page = await bo.send(credential=credential, code="")
    assert (page.status, page.recovery_codes) == (422, [])
    assert page.alert
    page = await bo.send(credential=bo.answer(), challenge="no ticket", code="")
    assert (page.status, page.recovery_codes) == (422, [])
    assert len((await bo.show_passkey()).recovery_codes) == 10


async def test_a_form_without_any_proof_says_what_is_missing(server: Server, bo: Holder) -> None:
    await bo.lose_app()
    page = await bo.open("/security/recovery-codes")
    form = bo.passkey_form()
    page = await bo.post(form.action, [(c["name"], c["value"]) for c in form.controls if c["type"] == "hidden"])
    assert (page.status, "passkey is missing" in page.alert) == (422, True)
    assert len((await bo.show_passkey()).recovery_codes) == 10


async def test_wrong_passkeys_never_slow_down_or_lock(server: Server, bo: Holder) -> None:
    await bo.open("/security/recovery-codes")
    for _ in range(12):
        page = await bo.show_passkey(says={"client": {"origin": "https://evil.example"}})
        assert page.status == 422
    assert len((await bo.show_passkey()).recovery_codes) == 10


async def test_a_wrong_new_password_uses_no_passkey_up(server: Server, bo: Holder) -> None:
    asked = await bo.open("/security/password")
    credential = bo.answer(asked)
    page = await bo.send(asked, credential=credential, code="", password=PASSWORD, new_password="password")
    assert page.status == 422
    page = await bo.send(asked, credential=credential, code="", password="not this one", new_password=NEW_PASSWORD)
    assert "not your password" in page.alert
    page = await bo.send(asked, credential=credential, code="", password=PASSWORD, new_password=NEW_PASSWORD)
    assert page.path == "/security"


async def test_twenty_tabs_that_send_one_answer_at_once_do_the_act_once(server: Server, bo: Holder) -> None:
    asked = await bo.open("/security/recovery-codes")
    form = bo.passkey_form(asked)
    pairs = dict(form.filled({"credential": bo.answer(asked)}, form.element))
    headers = {"origin": URL}
    answers = await asyncio.gather(
        *(
            bo.http.post("/security/recovery-codes", data={**pairs, "form": f"tab {tab}"}, headers=headers)
            for tab in range(20)
        )
    )
    done = [answer for answer in answers if answer.status_code == 200]
    assert len(done) == 1
    assert "Your new recovery codes" in done[0].text
    account = await server.deployment.store.load("bo")
    assert account is not None
    made = await server.deployment.verifier.accounts.latest_activity(account, count=50)
    assert [each.kind for each in made].count("recovery_codes.made") == 2  # the first set, and this one


async def test_without_the_script_a_line_says_why_there_is_no_button(server: Server, bo: Holder) -> None:
    await bo.lose_app()
    page = await bo.open("/security/recovery-codes")
    assert "Passkeys need JavaScript" in page.html
    assert "?letters=1" in page.html
