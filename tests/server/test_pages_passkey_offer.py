"""After signing in with a code: a passkey is offered where the browser could do without, once in a while."""

from http.cookies import SimpleCookie

import pytest
from tests.pages import Page
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import Server
from tests.server.passkey_holders import Holder, add_passkey
from tests.server.visitors import add_person

from twofold.server.cookies import OFFERED, OFFERED_TTL_S

OFFER = "/enroll/offer"


@pytest.fixture
async def bo(server: Server) -> Holder:
    """Bo, who has a password, an app and recovery codes, at a browser that can make passkeys."""
    holder = Holder(server)
    holder.recovery_codes = await add_person(server)
    return holder


async def sign_in(bo: Holder, code: str | None = None, *, able: str = "yes", path: str = "/sign-in") -> Page:
    """Both steps, in a browser whose script found out what it is `able` to."""
    await bo.open(path)
    await bo.send(name=bo.name, password=bo.password)
    form = bo.page.form(fields={"code": ""})
    button = form.find_button(None)
    assert button is not None
    pairs = form.filled({"code": code or bo.fresh_code(), "able": able}, button)
    return await bo.post(form.action, pairs if "able" in dict(pairs) else [*pairs, ("able", able)])


async def test_in_a_known_browser_the_offered_passkey_is_added_without_another_code(bo: Holder) -> None:
    await bo.sign_in()
    await bo.sign_out()
    page = await sign_in(bo, path="/sign-in?next=/security/activity")
    assert (page.path, page.query) == (OFFER, "next=%2Fsecurity%2Factivity")
    assert (await bo.send(press="factor=webauthn")).path == "/enroll/webauthn"
    page = await bo.show_passkey()
    assert page.path == "/enroll/done"
    assert "/security/activity" in page.links


async def test_trap_52_in_an_unknown_browser_one_code_leaves_no_passkey_behind(bo: Holder, server: Server) -> None:
    assert (await sign_in(bo)).path == OFFER
    page = await bo.send(press="factor=webauthn")
    assert (page.path, "code" in page.fields) == ("/enroll", True)
    account = await server.deployment.store.load("bo")
    assert account is not None
    assert "webauthn" not in {a.factor for a in account.authenticators}


async def test_not_now_leads_on(bo: Holder) -> None:
    page = await sign_in(bo, path="/sign-in?next=/security/activity")
    assert "/security/activity" in page.links
    assert "/security" in (await bo.open(OFFER)).links


async def test_without_the_script_nothing_changes(bo: Holder) -> None:
    assert (await bo.sign_in()).path == "/security"
    assert OFFERED not in bo.cookies
    assert (await bo.open("/enroll")).fields == {"code"}


async def test_it_is_offered_once_in_thirty_days_in_a_browser(bo: Holder) -> None:
    assert (await sign_in(bo)).path == OFFER
    assert OFFERED in bo.cookies
    await bo.sign_out()
    assert "able" not in str((await bo.give_password()).forms)
    assert (await sign_in(bo)).path == "/security"
    # Nothing may be added by a sign-in that led to no offer.
    assert (await bo.open("/enroll")).fields == {"code"}
    bo.http.cookies.delete(OFFERED)
    await bo.sign_out()
    assert (await sign_in(bo)).path == OFFER


async def test_the_browser_keeps_it_for_thirty_days(bo: Holder) -> None:
    given: list[str] = []

    async def note(response: object) -> None:
        given.extend(response.headers.get_list("set-cookie"))  # type: ignore[attr-defined]

    bo.http.event_hooks["response"].append(note)
    await sign_in(bo)
    cookie = next(SimpleCookie(line)[OFFERED] for line in given if line.startswith(OFFERED))
    assert (cookie["max-age"], cookie["httponly"], cookie["samesite"]) == (str(OFFERED_TTL_S), True, "lax")


async def test_whoever_has_a_passkey_is_not_offered_one_and_gets_no_leave_to_add_one(
    bo: Holder, server: Server
) -> None:
    await add_passkey(server, "bo", bo.authenticator)
    assert (await sign_in(bo)).path == "/security"
    assert (await bo.open(OFFER)).path == "/security"
    page = await bo.open("/enroll")
    assert page.root.all("div", class_="passkey")


async def test_a_wrong_code_leads_to_no_offer(bo: Holder) -> None:
    page = await sign_in(bo, bo.wrong_code())
    assert (page.path, page.status) == ("/sign-in/code", 401)
    assert OFFERED not in bo.cookies


async def test_after_a_bad_day_other_things_come_first(bo: Holder) -> None:
    assert (await sign_in(bo, bo.recovery_codes[0])).path == "/security"
    assert OFFERED not in bo.cookies


async def test_no_text_of_it_escapes_the_catalogue(bo: Holder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    assert escaped((await sign_in(bo)).html) == []
