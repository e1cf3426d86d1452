"""How far a prompt reaches: its session, what is enrolled in it, and whose forms it takes."""

import pytest
from tests.server.askers import Answerer, Asker, asked
from tests.server.conftest import URL, Server
from tests.server.levels import ROWS
from tests.server.passkey_holders import Holder, add_passkey
from tests.server.test_csrf import FOREIGN, REFUSED
from tests.server.visitors import ADMIN, FIREFOX, PASSWORD, Person, add_person

from twofold import setup_link
from twofold.server.pages.prompt import PAGES

#: What is shown to anybody, or leads on only.
OPEN_TO_ALL = {"/static/{name}", "/health/live", "/health/ready", "/metrics", "/.well-known/jwks.json"} | {
    *("/openapi.json", "/api/v1/openapi.json", "/sign-in", "/sign-in/help", "/sign-in/passkey", "/sign-out"),
    *("/", "/setup", "/link", "/.well-known/webauthn"),
}


@pytest.mark.parametrize("stage", ["pending", "enrolling", "full"])
@pytest.mark.parametrize("cookie", ["twofold-prompt", "twofold-session"])
async def test_asvs_8_2_1_its_session_opens_nothing_but_the_prompt(server: Server, stage: str, cookie: str) -> None:
    """Walks every address that there is, with the cookie as it is and under the name of the other one."""
    await server.deployment.verifier.accounts.put("alice")
    await server.deployment.verifier.accounts.set_password("alice", PASSWORD)
    await server.deployment.administration.set_role("alice", "administrator", caller=ADMIN)
    if stage == "pending":
        await server.add()
    alice = Answerer(server)
    link = await (await Asker.open(server)).ask(enroll=True)
    await alice.open(link)
    if stage == "full":
        await alice.send(press="factor=totp")
        alice.secret = alice.page.secret
        await alice.send(code=alice.code())
    alice.http.cookies.set(cookie, alice.token, domain="localhost.local")
    walked = 0
    for row in ROWS:
        if row.path.startswith("/prompt/") or row.path in OPEN_TO_ALL:
            continue
        answer = await alice.http.request(row.method, row.example)
        assert answer.status_code in (302, 303, 401, 403), row
        assert answer.headers.get("location", "/sign-in").startswith("/sign-in"), row
        walked += 1
    assert walked > 30
    levels = {"pending": "/sign-in/code", "enrolling": "/enroll", "full": "/enroll/done"}
    assert (await alice.http.get(link + levels[stage])).status_code == 200


async def test_a_session_of_the_pages_opens_no_prompt(server: Server) -> None:
    await add_person(server, "alice")
    alice = Person(server, "alice")
    await alice.sign_in()
    link = await (await Asker.open(server)).ask()
    alice.http.cookies.set("twofold-prompt", alice.token, domain="localhost.local")
    for path in sorted({page.path for page in PAGES} - {""}):
        assert (await alice.http.get(link + path)).status_code == 401, path


async def test_who_is_signed_in_stays_signed_in_as_the_same_person(server: Server) -> None:
    """A link that somebody sends signs nobody in, and out of nothing."""
    await add_person(server, "bo")
    _, alice, link = await asked(server)
    bo = Person(server, "bo")
    await bo.sign_in()
    alice.http = bo.http
    token = bo.token
    await alice.answer(link)
    assert bo.token == token
    assert "bo" in (await bo.open("/security")).text
    assert await bo.is_signed_in()


async def test_who_answered_reaches_no_enrolling(server: Server) -> None:
    _, alice, link = await asked(server, enroll=True)
    await alice.open(link)
    for path in ("/enroll", "/enroll/totp", "/enroll/webauthn"):
        answer = await alice.http.get(link + path)
        assert answer.headers["location"] == f"{link.removeprefix(URL)}/sign-in/code"


async def test_decision_16_what_is_enrolled_in_it_does_not_sign_in_alone(server: Server) -> None:
    """An application could walk through a prompt of its own, with an authenticator in software."""
    await server.call("PUT", "accounts/alice", {})
    mallory = Answerer(server)
    await mallory.open(await (await Asker.open(server)).ask(enroll=True))
    await mallory.send(press="factor=webauthn")
    await mallory.show_passkey()
    assert len(mallory.page.recovery_codes) == 10
    await mallory.open("/sign-in")
    page = await mallory.show_passkey()
    assert (page.path, page.status) == ("/sign-in/passkey", 401)
    holder = Holder(server, "bo")
    await add_person(server, "bo")
    await add_passkey(server, "bo", holder.authenticator)
    await holder.open("/sign-in")
    assert (await holder.show_passkey()).path == "/security"


async def test_what_is_enrolled_in_it_completes_no_set_up(server: Server) -> None:
    await server.deployment.verifier.accounts.put("alice")
    await server.deployment.administration.set_role("alice", "administrator", caller=ADMIN)
    store = server.deployment.store
    deployment = server.deployment
    await setup_link.new_link(store, deployment.keyring, deployment.clock, deployment.entropy, URL)
    assert await setup_link.find_open(store) is not None
    await Answerer(server).enroll(await (await Asker.open(server)).ask(enroll=True))
    assert await setup_link.find_open(store) is not None


async def test_the_events_tell_the_application_and_the_browser(server: Server) -> None:
    shop, alice, link = await asked(server, purpose="pay")
    await shop.redeem(await alice.answer(link))
    events = await server.deployment.verifier.accounts.latest_activity(
        await server.deployment.store.load("alice"), count=5
    )
    kinds = [event.kind for event in reversed(events)]
    assert kinds[-4:] == ["prompt.opened", "code.accepted", "prompt.answered", "prompt.redeemed"]
    told = {event.kind: event for event in events}
    assert told["prompt.opened"].text("application") == shop.id
    assert told["code.accepted"].text("application").startswith(f"{shop.id}:se_")
    assert told["prompt.answered"].text("user_agent") == FIREFOX
    assert told["prompt.redeemed"].text("purpose") == "pay"


#: The stage at which each page of a prompt takes a form.
STAGES = {
    "/sign-in/code": "pending",
    "/sign-in/code/passkey": "pending",
    "/enroll": "enrolling",
    "/enroll/totp": "enrolling",
    "/enroll/webauthn": "enrolling",
    "/enroll/cancel": "enrolling",
    "/enroll/saved": "full",
    "/sign-out": "pending",
}


async def at_stage(server: Server, stage: str) -> tuple[Answerer, str]:
    """Somebody in the midst of a prompt, and its link."""
    if stage == "pending":
        await server.add()
    else:
        await server.call("PUT", "accounts/alice", {})
    alice = Answerer(server)
    link = await (await Asker.open(server)).ask(enroll=True)
    await alice.open(link)
    if stage == "full":
        await alice.send(press="factor=totp")
        alice.secret = alice.page.secret
        await alice.send(code=alice.code())
    return alice, link


def test_every_page_of_a_prompt_that_takes_a_form_is_tried_for_foreign_ones() -> None:
    assert {page.path for page in PAGES if page.take is not None} == set(STAGES)


@pytest.mark.parametrize("path", STAGES)
async def test_asvs_3_5_1_and_trap_50_every_form_of_a_prompt_needs_its_token(server: Server, path: str) -> None:
    alice, link = await at_stage(server, STAGES[path])
    own = alice.page.forms[0].control("csrf")["value"]

    async def is_refused(token: str, **headers: str) -> bool:
        answer = await alice.http.post(link + path, data={"csrf": token, "x": ""}, headers=headers)
        return REFUSED in answer.text

    for token in ("", own[:-1], own + "A", own.swapcase()):
        assert await is_refused(token)
    for headers in FOREIGN:
        assert await is_refused(own, **headers), headers
    assert not await is_refused(own, origin=URL)
