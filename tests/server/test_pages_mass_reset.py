"""After a reset of many: what each person is led to until the end of the grace, and what administrators see of it."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.pages import Page
from tests.server.administrators import add_administrator, add_somebody, secret_of
from tests.server.conftest import Server
from tests.server.enrolling import Enrolling
from tests.server.passkey_holders import Holder, add_holder
from tests.server.visitors import ADMIN, Person

from twofold.core.session import digest_token
from twofold.mass_reset import Report, Target
from twofold.server.pages.enroll import LAST_DAY_S

DAY_S = 86_400


async def reset(server: Server, days: int = 0, target: Target = Target()) -> Report:  # noqa: B008 - a frozen value
    return await server.deployment.mass_reset.run(target, grace_days=days, caller=ADMIN)


def titles(page: Page) -> list[str]:
    return [notice.text for notice in page.root.all(class_="notice-title")]


def day_of(server: Server, days: int) -> str:
    at = datetime.fromtimestamp(server.clock.now_s + days * DAY_S, UTC)
    return f"{at:%B} {at.day}, {at.year}"


async def sign_in(person: Person) -> Page:
    """Both steps, wherever they end."""
    assert (await person.give_password()).path == "/sign-in/code", person.page
    return await person.send(code=person.fresh_code())


@pytest.fixture
async def bo(server: Server) -> Enrolling:
    """Somebody with a password, an app and recovery codes, signed in; she can type keys into a phone."""
    await add_somebody(server, "ada")
    bo = Enrolling(server, secret=secret_of("ada"))
    await bo.sign_in()
    return bo


# A person.


async def test_everybody_is_signed_out_at_once_and_led_to_a_new_authenticator(server: Server, bo: Enrolling) -> None:
    await reset(server, 14)
    assert not await bo.is_signed_in()
    page = await sign_in(bo)
    assert page.path == "/enroll"
    assert titles(page) == [f"Set up a new authenticator before {day_of(server, 14)}"]
    assert "in 2 weeks" in page.text
    assert "/security" in page.links, "it may wait"


async def test_in_a_browser_that_is_not_known_one_code_makes_no_new_authenticator(
    server: Server, bo: Enrolling
) -> None:
    await reset(server, 14)
    page = await sign_in(bo)
    assert "code" in page.fields, "who it is, is asked again: the code of the sign-in may have been relayed"
    assert (await bo.send(code=bo.fresh_code())).path == "/enroll"
    page = await bo.send(press="factor=totp")
    assert page.path == "/enroll/totp"


async def test_in_a_known_browser_the_code_of_the_sign_in_is_enough(server: Server, bo: Enrolling) -> None:
    await reset(server, 14)
    await sign_in(bo)
    await bo.sign_out()
    page = await sign_in(bo)
    assert (page.path, "code" in page.fields) == ("/enroll", False)
    assert titles(page) == [f"Set up a new authenticator before {day_of(server, 14)}"]
    assert (await bo.send(press="factor=totp")).path == "/enroll/totp"


async def test_a_new_authenticator_ends_it_with_new_recovery_codes_and_leads_where_the_person_was_going(
    server: Server, bo: Enrolling
) -> None:
    old = bo.secret
    await reset(server, 14)
    await bo.open("/sign-in?next=/security/activity")
    await bo.send(name=bo.name, password=bo.password)
    page = await bo.send(code=bo.fresh_code())
    assert page.path == "/enroll"
    await bo.send(code=bo.fresh_code())
    page = await bo.enroll()
    assert len(page.recovery_codes) == 10
    assert (await bo.send(saved=True)).path == "/enroll/done"
    assert "/security/activity" in bo.page.links
    page = await bo.open("/security")
    assert titles(page) == []
    assert (await server.deployment.administration.count()).stopping == 0
    await bo.sign_out()
    new, bo.secret = bo.secret, old
    assert (await sign_in(bo)).status == 401
    bo.secret = new
    assert (await bo.send(code=bo.fresh_code())).path == "/security"


async def test_it_can_wait_and_the_security_page_says_so_and_leads_there(server: Server, bo: Enrolling) -> None:
    await reset(server, 14)
    await sign_in(bo)
    page = await bo.open("/security")
    assert (page.path, page.status) == ("/security", 200)
    assert titles(page)[0] == f"Set up a new authenticator before {day_of(server, 14)}"
    assert "/enroll" in page.links
    assert "To be replaced" in page.text


async def test_on_the_last_day_the_page_offers_nothing_else(server: Server, bo: Enrolling) -> None:
    await reset(server, 3)
    for passed_s, can_wait in ((3 * DAY_S - LAST_DAY_S - 120, True), (300, False)):
        server.clock.pass_s(passed_s)
        page = await sign_in(bo)
        assert page.path == "/enroll"
        assert ("/security" in page.links) == can_wait
        await bo.sign_out()


async def test_a_recovery_code_leads_there_too_and_is_proof_enough(server: Server, bo: Enrolling) -> None:
    codes = await server.deployment.verifier.renew_recovery_codes("ada", caller=ADMIN)
    await reset(server, 14)
    await bo.give_password()
    page = await bo.send(code=codes.recovery_codes[0])
    assert (page.path, "code" in page.fields) == ("/enroll", False)


async def test_when_the_grace_is_over_the_password_leads_to_a_new_authenticator_and_the_page_says_why(
    server: Server, bo: Enrolling
) -> None:
    began = day_of(server, 0)
    report = await reset(server, 1)
    await sign_in(bo)
    server.clock.pass_s(report.stops_at / 1_000_000 - server.clock.now_s)
    assert (await bo.open("/security")).status == 401, "the session ended with what it was opened by"
    page = await bo.give_password()
    assert page.path == "/enroll"
    assert titles(page) == [f"Authenticators were reset here on {began}"]
    assert (await bo.open("/security")).path == "/enroll"
    await bo.open("/enroll")
    await bo.enroll()
    assert (await bo.send(saved=True)).path == "/enroll/done"


async def test_without_a_grace_the_next_password_leads_there(server: Server, bo: Enrolling) -> None:
    await reset(server)
    page = await bo.give_password()
    assert page.path == "/enroll"
    assert titles(page) == [f"Authenticators were reset here on {day_of(server, 0)}"]


async def test_what_happened_is_told_in_words(server: Server, bo: Enrolling) -> None:
    report = await reset(server, 14)
    await sign_in(bo)
    page = await bo.open("/security/activity")
    until = f"{datetime.fromtimestamp(report.stops_at / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
    assert f"A new authenticator has to be set up by {until}" in page.text


# With a passkey.


@pytest.fixture
async def holder(server: Server) -> Holder:
    """Somebody with an app, a passkey and recovery codes, who is not signed in."""
    holder = await add_holder(server, "cy")
    await holder.sign_out()
    return holder


async def test_a_passkey_alone_leads_there_and_the_same_device_takes_its_own_place(
    server: Server, holder: Holder
) -> None:
    report = await reset(server, 14)
    await holder.open("/sign-in")
    assert (await holder.show_passkey()).path == "/enroll"
    await holder.show_passkey()
    assert (await holder.send(press="factor=webauthn")).path == "/enroll/webauthn"
    asked = json.loads(holder.page.root.only("div", class_="passkey")["data-options"])
    assert asked["excludeCredentials"] == []
    page = await holder.show_passkey()
    assert len(page.recovery_codes) == 10
    await holder.send(saved=True)
    view = await server.deployment.verifier.accounts.get("cy")
    assert [a.factor for a in view.second_factors] == ["webauthn"]
    assert view.second_factors[0].id not in holder.ids
    assert view.stops_at == 0
    server.clock.pass_s(report.stops_at / 1_000_000 - server.clock.now_s)
    await holder.open("/sign-in")
    assert (await holder.show_passkey()).path == "/security"


async def test_a_passkey_after_the_password_leads_there_too(server: Server, holder: Holder) -> None:
    await reset(server, 14)
    assert (await holder.give_password()).path == "/sign-in/code"
    assert (await holder.show_passkey()).path == "/enroll"


async def test_a_session_by_a_passkey_that_stops_ends_with_it(server: Server, holder: Holder) -> None:
    report = await reset(server, 1)
    await holder.open("/sign-in")
    server.clock.pass_s(3600)
    await holder.open("/sign-in")
    await holder.show_passkey()
    session = await server.deployment.store.find_session(digest_token(holder.token))
    assert session is not None
    assert session.expires_at == report.stops_at


async def test_a_passkey_is_not_meant_by_the_reset_of_a_data_key(server: Server, holder: Holder) -> None:
    key = server.deployment.keyring.active_key_id
    await reset(server, 14, Target(data_key=key))
    await holder.open("/sign-in")
    assert (await holder.show_passkey()).path == "/security"
    assert titles(holder.page)[0] == f"Set up a new authenticator before {day_of(server, 14)}"
    server.clock.pass_s(14 * DAY_S)
    view = await server.deployment.verifier.accounts.get("cy")
    assert ([a.id for a in view.second_factors], view.recovery_codes_left) == (holder.ids, 10)


# Administrators.


async def test_administrators_see_how_many_are_missing_and_who(server: Server) -> None:
    ada = await add_administrator(server)
    await server.deployment.verifier.accounts.put("cy")
    assert "New authenticator due" not in (await ada.open("/admin/people")).text
    await add_somebody(server, "bo")
    await add_somebody(server, "dee")
    await reset(server, 14)
    await sign_in(ada)
    page = await ada.open("/admin")
    assert titles(page) == [f"3 people have to set up a new authenticator, the first by {day_of(server, 14)}"]
    assert "/admin/people?show=stopping" in page.links
    page = await ada.open("/admin/people?show=stopping")
    names = [link for link in page.links if link.startswith("/admin/people/")]
    assert names == ["/admin/people/ada", "/admin/people/bo", "/admin/people/dee"]
    page = await ada.open("/admin/people/bo")
    assert titles(page)[0] == "New authenticator due"
    assert "To be replaced" in page.text


async def test_a_list_of_nobody_who_is_missing_is_empty(server: Server) -> None:
    ada = await add_administrator(server)
    page = await ada.open("/admin/people?show=stopping")
    assert (page.status, "Nobody" in page.text) == (200, True)
    assert titles(await ada.open("/admin")) == []


# Applications.


async def test_the_api_says_until_when_an_authenticator_counts(server: Server) -> None:
    await server.add()

    async def read() -> dict[str, Any]:
        return (await server.get("accounts/alice")).json()  # type: ignore[no-any-return]

    assert "stops_at" not in (await read())["authenticators"][0]
    verified = (await server.post("accounts/alice/verify", {"code": server.code()})).json()
    assert verified["verified"]
    assert "reenroll_by" not in verified
    report = await reset(server, 14)
    stops_at = f"{datetime.fromtimestamp(report.stops_at / 1e6, UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert (await read())["authenticators"][0]["stops_at"] == stops_at
    server.clock.pass_s(30)
    verified = (await server.post("accounts/alice/verify", {"code": server.code()})).json()
    assert (verified["verified"], verified["reenroll_by"]) == (True, stops_at)
    server.clock.pass_s(14 * DAY_S)
    account = await read()
    assert (account["state"], account["authenticators"], account["recovery_codes_left"]) == ("empty", [], 0)
    refused = await server.post("accounts/alice/verify", {"code": server.code()})
    assert (refused.status_code, refused.json()["code"]) == (409, "no_factor")
