"""Adding an authenticator on the pages: setting it up, proving it, keeping the recovery codes, and the end."""

import asyncio
import html

import pyotp
import pytest
from tests.pages import Page
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import Server
from tests.server.enrolling import (
    GUEST,
    SOMEBODY_ELSE,
    Enrolling,
    enrolled,
    id_of,
    labels,
    new_ada,
    pairs_of,
)
from tests.server.visitors import IPHONE, PASSWORD
from tests.test_qr import pixels_of_svg, scanned

from twofold import setup_link


@pytest.fixture
async def ada(server: Server) -> Enrolling:
    return await new_ada(server)


@pytest.fixture
async def bo(ada: Enrolling) -> Enrolling:
    """The same person with an app, recovery codes and a full session."""
    return await enrolled(ada)


async def test_the_journey_of_somebody_without_a_second_factor(server: Server, ada: Enrolling) -> None:
    page = await ada.begin()
    assert page.path == "/enroll/totp"
    page = await ada.send(code=ada.code(), label="My phone")
    assert len(page.recovery_codes) == 10
    assert page.status == 200
    page = await ada.send(saved=True)
    assert page.path == "/enroll/done"
    assert "My phone" in page.text
    assert "/security" in page.links
    assert await labels(server) == ["My phone"]
    assert (await ada.open("/security")).path == "/security"


async def test_the_steps_are_counted_for_each_person(bo: Enrolling) -> None:
    """Three for a first authenticator; three for another one, which begins with a proof and brings no codes."""
    await bo.open("/enroll")
    assert "Step 1 of 3" in bo.page.text
    await bo.prove_who()
    assert "Step 2 of 3" in bo.page.text
    await bo.begin()
    assert "Step 3 of 3" in bo.page.text


async def test_people_6_the_key_is_the_same_after_a_reload_a_slip_and_beginning_again(ada: Enrolling) -> None:
    page = await ada.begin()
    assert (await ada.open("/enroll/totp")).secret == page.secret
    slip = await ada.send(code=ada.wrong_code(), label="My phone")
    assert (slip.status, slip.secret) == (422, page.secret)
    assert slip.title.startswith("Error: ")
    assert "not right" in slip.alert
    assert slip.form(fields={"label": ""}).control("label")["value"] == "My phone"
    await ada.open("/enroll")
    assert (await ada.send(press="factor=totp")).secret == page.secret
    assert len((await ada.send(code=ada.code())).recovery_codes) == 10


async def test_people_11_picture_link_and_key_are_one(ada: Enrolling) -> None:
    page = await ada.begin()
    start = page.html.index("<svg", page.html.index('class="qr-paper"'))
    svg = page.html[start : page.html.index("</svg>", start) + 6]
    uri = scanned(pixels_of_svg(svg), enlarge=4)
    (link,) = [a["href"] for a in page.root.all("a") if a["href"].startswith("otpauth:")]
    assert html.unescape(link) == uri
    read = pyotp.parse_uri(uri)
    assert isinstance(read, pyotp.TOTP)
    assert (read.secret, read.issuer, read.name) == (page.secret, "Twofold", "ada")
    assert "=" not in page.secret
    assert page.root.only("code", id="secret").text.split()[0] == page.secret[:4]


async def test_on_a_phone_the_link_comes_before_the_picture_and_elsewhere_after_it(
    server: Server, ada: Enrolling
) -> None:
    phone = Enrolling(server, user_agent=IPHONE)
    await phone.give_password()
    for visitor, is_link_first in ((ada, False), (phone, True)):
        page = await visitor.begin()
        assert (page.html.index('href="otpauth:') < page.html.index('class="qr-paper"')) is is_link_first


@pytest.mark.parametrize(("code", "status"), [("", 422), ("  ", 422), ("abc", 422), ("1" * 64, 422)])
async def test_what_is_no_code_is_refused_on_the_same_page(ada: Enrolling, code: str, status: int) -> None:
    page = await ada.begin()
    refused = await ada.send(code=code)
    assert (refused.status, refused.path, refused.secret) == (status, "/enroll/totp", page.secret)
    assert await labels(ada.server) == []


async def test_a_label_that_is_too_long_keeps_the_code_for_another_try(ada: Enrolling) -> None:
    await ada.begin()
    refused = await ada.send(code=ada.code(), label="x" * 65)
    assert refused.status == 422
    assert refused.form(fields={"label": ""}).control("label")["aria-invalid"] == "true"
    assert len((await ada.send(code=ada.code(), label="x" * 64)).recovery_codes) == 10
    assert await labels(ada.server) == ["x" * 64]


async def test_an_authenticator_without_a_label_is_one_too(ada: Enrolling) -> None:
    await ada.begin()
    await ada.send(code=ada.code(), label="")
    await ada.send(saved=True)
    assert await labels(ada.server) == [""]
    assert "Authenticator app" in ada.page.text


async def test_each_new_one_is_offered_a_name_that_is_free(bo: Enrolling) -> None:
    assert await labels(bo.server) == ["Phone"]
    await bo.prove_who()
    page = await bo.begin()
    assert page.form(fields={"label": ""}).control("label")["value"] == "Phone 2"


async def test_wrong_codes_are_slowed_and_it_says_for_how_long(ada: Enrolling) -> None:
    await ada.begin()
    for _ in range(3):
        await ada.send(code=ada.wrong_code())
    page = await ada.send(code=ada.code())
    assert page.status == 429
    assert "1 second" in page.alert
    assert page.headers["retry-after"] == "1"
    ada.server.clock.pass_s(1)
    assert len((await ada.send(code=ada.code())).recovery_codes) == 10


async def test_a_phone_whose_clock_is_off_is_told_so_before_it_can_sign_in_at_all(ada: Enrolling) -> None:
    await ada.begin()
    page = await ada.send(code=ada.code(steps=-20))
    assert "your phone's time is off; the time here is 2026-01-01 00:00:" in page.alert
    ada.server.clock.pass_s(30)
    page = await ada.send(code=ada.code(steps=-20))
    assert (page.status, "about 10 minutes behind" in page.alert) == (422, True)
    assert len((await ada.send(code=ada.code())).recovery_codes) == 10


async def test_somebody_whose_authenticators_were_taken_away_is_told_when_until_there_is_a_new_one(
    server: Server, bo: Enrolling
) -> None:
    told = "An administrator removed your authenticators on January 1, 2026"
    assert told not in (await bo.open("/enroll")).text
    await server.deployment.administration.reset("ada", reason="lost phone", caller=SOMEBODY_ELSE)
    page = await bo.give_password()
    assert (page.path, told in page.text) == ("/enroll", True)
    await bo.enroll()
    assert told not in (await bo.prove_who()).text


async def test_nobody_is_told_of_a_reset_that_never_was(ada: Enrolling) -> None:
    assert "An administrator removed" not in (await ada.open("/enroll")).text


async def test_without_an_open_enrollment_the_step_leads_to_the_choice(ada: Enrolling) -> None:
    assert (await ada.open("/enroll/totp")).path == "/enroll"
    page = await ada.begin()
    ada.server.clock.pass_s(15 * 60)
    assert (await ada.open("/enroll/totp")).path == "/enroll"
    late = await ada.send(page, code=ada.code())
    assert (late.status, late.path) == (409, "/enroll/totp")
    assert "/enroll" in late.links
    assert await labels(ada.server, "pending") == []


async def test_a_canceled_enrollment_is_gone_and_a_new_one_has_another_key(ada: Enrolling) -> None:
    page = await ada.begin()
    assert (await ada.send(to="/enroll/cancel")).path == "/enroll"
    assert (await ada.open("/enroll/totp")).path == "/enroll"
    assert (await ada.send(page, to="/enroll/cancel")).path == "/enroll"
    assert (await ada.send(page, to="/enroll/totp", code=ada.code())).status == 409
    await ada.open("/enroll")
    assert (await ada.begin()).secret != page.secret


async def test_a_way_that_is_not_offered_is_refused(ada: Enrolling) -> None:
    pairs = pairs_of(ada.page, "/enroll", without="factor")
    for factor in ("hotp", "recovery_codes", "sms", "", "../x"):
        page = await ada.post("/enroll", [*pairs, ("factor", factor)])
        assert page.status == 422
    assert await labels(ada.server, "pending") == []


async def test_trap_24_the_same_form_shows_the_same_codes_for_five_minutes_and_nothing_else_ever_does(
    ada: Enrolling,
) -> None:
    page = await ada.begin()
    code = ada.code()
    first = await ada.send(page, code=code)
    again = await ada.send(page, code=code)
    assert first.recovery_codes == again.recovery_codes
    assert first.headers["cache-control"] == "no-store"
    ada.server.clock.pass_s(5 * 60)
    late = await ada.send(page, code=code)
    assert (late.path, late.status) == ("/enroll/done", 200)
    for path in ("/enroll/totp", "/enroll/done", "/enroll", "/security"):
        shown = await ada.open(path)
        assert not any(secret in shown.html for secret in (*first.recovery_codes, page.secret))


async def test_people_1_the_journey_goes_on_when_the_codes_are_saved(ada: Enrolling) -> None:
    page = await ada.enroll()
    assert "required" in page.form(fields={"saved": True}).control("saved").attributes
    without = await ada.send()
    assert (without.status, without.path) == (422, "/enroll/saved")
    assert "/security/recovery-codes" in without.links
    assert not without.recovery_codes
    assert (await ada.send(saved=True)).path == "/enroll/done"


async def test_the_codes_that_were_shown_sign_in(ada: Enrolling, server: Server) -> None:
    codes = (await ada.enroll()).recovery_codes
    elsewhere = Enrolling(server)
    await elsewhere.give_password()
    assert (await elsewhere.send(code=codes[9])).path == "/security"


async def test_a_second_authenticator_brings_no_codes(bo: Enrolling, server: Server) -> None:
    await bo.prove_who()
    page = await bo.enroll()
    assert page.path == "/enroll/done"
    assert not page.recovery_codes
    assert await labels(server) == ["Phone", "Phone 2"]


async def test_people_2_the_end_says_what_is_in_place_what_is_weak_and_where_to_go(bo: Enrolling) -> None:
    page = await bo.open("/enroll/done")
    assert "Phone" in page.text
    assert "10 left" in page.text
    assert "one authenticator" in page.text
    assert "/enroll" in page.links
    await bo.prove_who()
    await bo.enroll()
    assert "one authenticator" not in (await bo.open("/enroll/done")).text


async def test_the_end_is_not_shown_to_somebody_whose_last_authenticator_was_removed(
    bo: Enrolling, server: Server
) -> None:
    await server.deployment.verifier.revoke("ada", await id_of(server), caller=SOMEBODY_ELSE)
    assert (await bo.open("/enroll/done")).path == "/enroll"
    # And nobody asks for a code that there is nothing to check with.
    assert "factor=totp" in bo.page.buttons


async def test_the_end_leads_to_where_the_person_wanted_to_go(ada: Enrolling, server: Server) -> None:
    visitor = Enrolling(server)
    await visitor.open("/security/activity")
    await visitor.send(name="ada", password=PASSWORD)
    await visitor.enroll()
    page = await visitor.send(saved=True)
    assert "/security/activity" in page.links
    # Once: another one is added from one's own page.
    await visitor.prove_who()
    assert "/security/activity" not in (await visitor.enroll()).links
    assert "/security" in visitor.page.links


async def test_the_set_up_link_is_spent_when_an_administrator_has_a_second_factor(server: Server) -> None:
    deployment = server.deployment
    visitor = Enrolling(server)
    await visitor.open("/sign-in")
    done = await deployment.sign_in.make_first_administrator("ada", PASSWORD, GUEST)
    visitor.take_session(done.session)
    await visitor.open("/enroll")
    await visitor.begin()
    await visitor.send(code=visitor.wrong_code())
    assert not await setup_link.is_spent(deployment.store)
    await visitor.send(code=visitor.code())
    assert await setup_link.is_spent(deployment.store)


async def test_of_two_who_complete_the_set_up_at_once_one_is_the_administrator(server: Server) -> None:
    deployment = server.deployment
    people = {}
    for name in ("ada", "eve"):
        done = await deployment.sign_in.make_first_administrator(name, PASSWORD, GUEST)
        people[name] = visitor = Enrolling(server)
        visitor.take_session(done.session)
        await visitor.open("/enroll")
        await visitor.begin()
    await asyncio.gather(*(visitor.send(code=visitor.code()) for visitor in people.values()))
    (row,) = await deployment.store.page_accounts(role="administrator")
    assert await deployment.administration.has_administrator()
    assert await setup_link.is_spent(deployment.store)
    # And a second authenticator of the one who is makes her none the less so.
    winner = people[row.account_id]
    await winner.send(saved=True)
    await winner.prove_who()
    await winner.enroll()
    (still,) = await deployment.store.page_accounts(role="administrator")
    assert still.account_id == row.account_id


async def test_every_sentence_goes_through_the_catalogue(
    server: Server, ada: Enrolling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    monkeypatch.setattr(Page, "check", lambda page: None)  # which knows English titles only
    shown = [await ada.open("/enroll"), await ada.begin(), await ada.send(code=ada.wrong_code())]
    shown += [await ada.send(code=ada.code()), await ada.send(), await ada.send(saved=True), await ada.open("/enroll")]
    for page in shown:
        assert escaped(page.html, names=("Twofold", "ada", "Phone")) == [], page
