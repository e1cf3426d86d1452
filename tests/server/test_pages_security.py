"""One's own security on the pages: what it shows, and that nothing is taken away or renewed without a fresh code."""

import asyncio
import base64
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.server.conftest import Server
from tests.server.visitors import ADMIN, IPHONE, PASSWORD, Person, add_app, add_person

from twofold.core.throttle import FAILURES_MAX
from twofold.sign_in_limits import NAME_NETWORK_PER_WINDOW, WINDOW_S

TABLET = base64.b32encode(b"a tablet of somebody").decode()
NEW_PASSWORD = "amber lighthouse 2031"


@pytest.fixture
async def bo(server: Server) -> Person:
    """Somebody with a password, one app and recovery codes, signed in."""
    await add_person(server)
    person = Person(server)
    await person.sign_in()
    return person


@pytest.fixture
async def tablet(server: Server, bo: Person) -> str:
    """The id of a second app."""
    return await add_app(server, "bo", TABLET, "Tablet")


async def elsewhere(bo: Person) -> Person:
    """The same person, signed in at a phone too."""
    other = Person(bo.server, user_agent=IPHONE, address="198.51.100.7")
    await other.sign_in()
    return other


async def labels(server: Server, name: str = "bo") -> list[str]:
    view = await server.deployment.verifier.accounts.get(name)
    return [a.label for a in view.authenticators if a.factor == "totp"]


async def codes_left(server: Server) -> int:
    return (await server.deployment.verifier.accounts.get("bo")).recovery_codes_left


Act = Callable[[Person, str], Awaitable[object]]


async def remove(bo: Person, code: str) -> object:
    page = await bo.open("/security")
    await bo.open([link for link in page.links if link.endswith("/remove")][-1])
    return await bo.send(code=code)


async def renew(bo: Person, code: str) -> object:
    await bo.open("/security/recovery-codes")
    return await bo.send(code=code)


async def change_password(bo: Person, code: str) -> object:
    await bo.open("/security/password")
    page = await bo.send(password=bo.password, new_password=NEW_PASSWORD, code=code)
    if page.path == "/security":
        bo.password = NEW_PASSWORD
    return page


ACTS = pytest.mark.parametrize("act", [remove, renew, change_password])


async def state_of(server: Server) -> object:
    account = await server.deployment.store.load("bo")
    assert account is not None
    return account.epoch, [(a.id, a.factor) for a in account.authenticators]


@ACTS
async def test_asvs_7_5_1_a_fresh_code_is_asked_for_and_nothing_happens_with_a_wrong_one(
    server: Server, bo: Person, tablet: str, act: Act
) -> None:
    before = await state_of(server)
    await act(bo, bo.wrong_code())
    assert (bo.page.status, "That code is not right" in bo.page.alert) == (422, True)
    assert bo.page.title.startswith("Error: ")
    assert {"code"} <= bo.page.fields
    await act(bo, "")
    assert (bo.page.status, bo.page.forms[0].control("code")["aria-invalid"]) == (422, "true")
    assert await state_of(server) == before
    await act(bo, bo.fresh_code())
    assert bo.page.status == 200
    assert not bo.page.alert
    assert await state_of(server) != before


@ACTS
async def test_asvs_7_2_4_each_proof_makes_a_new_token_and_the_old_one_is_dead(
    server: Server, bo: Person, tablet: str, act: Act
) -> None:
    old = bo.token
    await act(bo, bo.fresh_code())
    assert bo.token != old
    assert await bo.is_signed_in()
    thief = Person(server)
    thief.http.cookies.set("twofold-session", old, domain="localhost.local", path="/")
    assert not await thief.is_signed_in()


@ACTS
async def test_a_code_that_signed_in_does_not_prove_anything_again(
    server: Server, bo: Person, tablet: str, act: Act
) -> None:
    await act(bo, bo.code())
    assert (bo.page.status, "already used" in bo.page.alert) == (422, True)


@ACTS
async def test_whoever_guesses_from_a_stolen_session_is_slowed_down_and_told_so(
    server: Server, bo: Person, tablet: str, act: Act
) -> None:
    for _ in range(4):
        await act(bo, bo.wrong_code())
    assert bo.page.status == 429
    assert 1 <= int(bo.page.headers["retry-after"]) <= 30
    await act(bo, bo.fresh_code())
    assert bo.page.status == 200


@ACTS
async def test_asvs_3_5_1_no_act_without_the_token_of_a_form(server: Server, bo: Person, tablet: str, act: Act) -> None:
    before = await state_of(server)
    for path in (f"/security/authenticators/{tablet}/remove", "/security/recovery-codes", "/security/password"):
        page = await bo.post(path, [("code", bo.fresh_code()), ("password", PASSWORD), ("new_password", NEW_PASSWORD)])
        assert page.status == 403
    assert await state_of(server) == before
    await act(bo, bo.fresh_code())
    assert await state_of(server) != before


@pytest.mark.parametrize("act", [remove, renew])
async def test_asvs_7_4_3_other_sessions_end_with_it_unless_one_says_no(
    server: Server, bo: Person, tablet: str, act: Act
) -> None:
    other = await elsewhere(bo)
    await act(bo, bo.fresh_code())
    assert await bo.is_signed_in()
    assert not await other.is_signed_in()
    other = await elsewhere(bo)
    await bo.open("/security/recovery-codes")
    await bo.send(code=bo.fresh_code(), end_others=False)
    assert await other.is_signed_in()


async def test_asvs_6_5_6_an_authenticator_that_was_removed_is_refused_at_its_next_use(
    server: Server, bo: Person, tablet: str
) -> None:
    half = Person(server, secret=TABLET, address="198.51.100.8")
    await half.give_password()
    await bo.open(f"/security/authenticators/{tablet}/remove")
    assert "Tablet" in bo.page.heading
    await bo.send(code=bo.fresh_code(), end_others=False)
    assert "is removed" in bo.page.text
    assert await labels(server) == [""]
    assert (await half.send(code=half.fresh_code())).path == "/sign-in/code"
    # The form again, as by the back button: there is nothing left to remove.
    page = await bo.open(f"/security/authenticators/{tablet}/remove")
    assert page.status == 404


async def test_trap_53_the_last_authenticator_can_be_replaced_and_not_removed(server: Server, bo: Person) -> None:
    page = await bo.open("/security")
    assert not [link for link in page.links if link.endswith("/remove")]
    only = next(link for link in page.links if "replaces=" in link).partition("=")[2]
    page = await bo.open(f"/security/authenticators/{only}/remove")
    assert "code" not in page.fields
    assert f"/enroll?replaces={only}" in page.links
    form = (await bo.open("/security/recovery-codes")).form(fields={"code": ""})
    token = form.control("csrf")["value"]
    page = await bo.post(f"/security/authenticators/{only}/remove", [("csrf", token), ("code", bo.fresh_code())])
    assert page.status == 409
    assert await labels(server) == [""]
    assert await bo.is_signed_in()


async def test_two_tabs_that_remove_one_each_leave_one(server: Server, bo: Person, tablet: str) -> None:
    links = [link for link in (await bo.open("/security")).links if link.endswith("/remove")]
    tabs = [await bo.open(link) for link in links]
    assert len(tabs) == 2
    await bo.send(tabs[0], code=bo.fresh_code())
    assert len(await labels(server)) == 1
    bo.secret = TABLET
    page = await bo.send(tabs[1], code=bo.fresh_code())
    assert page.status == 409
    assert len(await labels(server)) == 1


async def test_a_tab_from_before_another_act_still_works(server: Server, bo: Person) -> None:
    first = await bo.open("/security/recovery-codes")
    await change_password(bo, bo.fresh_code())
    page = await bo.send(first, code=bo.fresh_code())
    assert len(page.recovery_codes) == 10


async def test_what_too_many_failures_switched_off_says_so_and_can_be_removed_or_replaced(
    server: Server, bo: Person, tablet: str
) -> None:
    guesser = Person(server, secret=TABLET, address="192.0.2.66")
    verifier = server.deployment.verifier
    for _ in range(FAILURES_MAX):
        server.clock.pass_s(3 * 86_400)
        await verifier.verify("bo", code=guesser.wrong_code(), authenticator_id=tablet)
    server.clock.pass_s(60)
    await bo.sign_in()
    assert "Switched off" in bo.page.text
    page = await bo.open(f"/security/authenticators/{tablet}")
    assert ("hundred wrong codes" in page.text, "label" in page.fields) == (True, False)
    assert f"/enroll?replaces={tablet}" in page.links
    await bo.open(f"/security/authenticators/{tablet}/remove")
    await bo.send(code=bo.fresh_code())
    assert await labels(server) == [""]


async def test_asvs_8_2_2_ids_of_other_people_are_not_found_like_ids_of_nobody(server: Server, bo: Person) -> None:
    await add_person(server, "eve", TABLET)
    eve = Person(server, "eve", secret=TABLET)
    page = await eve.sign_in()
    theirs = [form.action.partition(":8000")[2] for form in page.forms if "/security/browsers/" in form.action]
    theirs += [link for link in page.links if link.startswith("/security/authenticators/")]
    session = (await server.deployment.store.list_sessions("eve"))[0].id
    theirs += [f"{theirs[1]}/remove", f"/security/sessions/{session}"]
    assert len(theirs) == 4
    token = (await bo.open("/security/recovery-codes")).form(fields={"code": ""}).control("csrf")["value"]
    for path in theirs:
        nobodys = path.replace("_", "_zz")
        shown = []
        for each in (path, nobodys):
            if "/authenticators/" in each:
                assert (await bo.open(each)).status == 404
            fields = [("csrf", token), ("code", bo.fresh_code()), ("label", "mine")]
            page = await bo.post(each, fields)
            shown.append((page.status, page.main.text))
        assert shown[0] == shown[1]
        assert shown[0][0] == 404
    assert await eve.is_signed_in()
    assert await labels(server, "eve") == [""]


async def test_a_name_is_shown_as_it_was_typed_and_one_that_is_too_long_is_not_taken(
    server: Server, bo: Person
) -> None:
    path = next(link for link in (await bo.open("/security")).links if link.startswith("/security/authenticators/"))
    await bo.open(path)
    page = await bo.send(label="Bo's <b>phone</b>")
    assert page.path == "/security"
    assert "Bo's <b>phone</b>" in page.text
    await bo.open(path)
    page = await bo.send(label="x" * 65)
    assert (page.status, page.title.startswith("Error: ")) == (422, True)
    assert "64" in page.text
    assert page.forms[0].control("label")["value"] == "x" * 65
    assert await labels(server) == ["Bo's <b>phone</b>"]


async def test_trap_82_a_name_is_inert_wherever_it_is_shown(server: Server, bo: Person) -> None:
    tablet = await add_app(server, "bo", TABLET, "<img src=x onerror=alert(1)>")
    path = f"/security/authenticators/{tablet}"
    for page in [await bo.open(each) for each in ("/security", path, f"{path}/remove", "/security/activity")]:
        assert "<img src=x onerror=alert(1)>" in page.text
        assert not page.root.all("img")


async def test_traps_23_and_24_new_recovery_codes_are_shown_once_and_kill_the_old_ones(server: Server) -> None:
    old = await add_person(server)
    bo = Person(server)
    await bo.sign_in()
    assert "10 of 10 left" in bo.page.text
    assert not (await bo.open("/security/recovery-codes")).recovery_codes
    form = bo.page
    await bo.send(code=bo.fresh_code())
    new = bo.page.recovery_codes
    assert (len(new), set(new) & set(old)) == (10, set())
    # The same form once more, as by reloading: the same codes, and none made anew.
    await bo.send(form, code=bo.code())
    assert bo.page.recovery_codes == new
    assert not (await bo.open("/security/recovery-codes")).recovery_codes
    other = Person(server, address="198.51.100.7")
    await other.give_password()
    assert (await other.send(code=old[0])).path == "/sign-in/code"
    await other.open("/sign-in/code")
    page = await other.send(code=new[0])
    assert page.path == "/security"
    assert "You signed in with a recovery code" in page.text
    assert "9 are left" in page.text


async def test_a_form_that_is_sent_twice_at_once_makes_new_codes_once(server: Server, bo: Person) -> None:
    form = (await bo.open("/security/recovery-codes")).form(fields={"code": ""})
    pairs = form.filled({"code": bo.fresh_code()}, form.buttons[0])
    pages = await asyncio.gather(*(bo.post(form.action, pairs) for _ in range(2)))
    assert sorted(page.status for page in pages) == [200, 429]
    made = max(pages, key=lambda page: len(page.recovery_codes)).recovery_codes
    # Whoever was told to wait a moment, and sends the form again, gets what was made.
    assert (await bo.post(form.action, pairs)).recovery_codes == made
    assert len(made) == 10
    assert (await bo.open("/security/activity")).text.count("10 recovery codes were made") == 2


async def test_a_recovery_code_is_as_good_a_proof_as_an_app_code(server: Server) -> None:
    codes = await add_person(server)
    bo = Person(server)
    await bo.sign_in()
    await bo.open("/security/recovery-codes?letters=1")
    await bo.send(code="ZZZZ-ZZZZ-ZZZZ-ZZZZ-ZZZZ")
    assert bo.page.status == 422
    await bo.send(code=codes[0].lower().replace("-", " "))
    assert len(bo.page.recovery_codes) == 10


async def test_asvs_6_2_3_a_new_password_needs_the_one_of_now(server: Server, bo: Person) -> None:
    await bo.open("/security/password")
    page = await bo.send(password="not my password", new_password=NEW_PASSWORD, code=bo.fresh_code())
    assert (page.status, "This is not your password now" in page.main.text) == (422, True)
    # The code was not looked at: it is as good as before.
    page = await bo.send(password=PASSWORD, new_password=NEW_PASSWORD, code=bo.code())
    assert "Your password is changed" in page.text
    other = Person(server)
    assert (await other.give_password()).path == "/sign-in"
    other.password = NEW_PASSWORD
    assert (await other.give_password()).path == "/sign-in/code"


@pytest.mark.parametrize(
    ("chosen", "why"),
    [("short", "8 to 128"), ("password1", "tried first"), ("x" * 129, "8 to 128")],
)
async def test_asvs_6_2_4_a_bad_password_is_refused_at_its_field(
    server: Server, bo: Person, chosen: str, why: str
) -> None:
    await bo.open("/security/password")
    page = await bo.send(password=PASSWORD, new_password=chosen, code=bo.fresh_code())
    assert page.status == 422
    box = page.forms[0].control("new_password")
    assert (box["aria-invalid"], box["value"]) == ("true", "")
    assert why in page.root.only(id="field-new_password-error").text
    assert (await Person(server).give_password()).path == "/sign-in/code"


async def test_a_new_password_ends_every_other_session_and_every_known_browser(server: Server, bo: Person) -> None:
    other = await elsewhere(bo)
    known = bo.cookies["twofold-known"]
    await change_password(bo, bo.fresh_code())
    assert await bo.is_signed_in()
    assert "No browser is known" in bo.page.text
    assert not await other.is_signed_in()
    account = await server.deployment.store.load("bo")
    assert account is not None
    assert not account.known_browsers
    assert known


async def test_passwords_are_not_guessed_without_end_from_a_stolen_session(server: Server, bo: Person) -> None:
    page = await bo.open("/security/password")
    for _ in range(120):
        page = await bo.send(password="not my password", new_password=NEW_PASSWORD, code="000000")
        if page.status == 429:
            break
    assert "Too many attempts" in page.alert
    assert int(page.headers["retry-after"]) >= 1


async def test_nist_4_1_2_1_a_second_authenticator_is_asked_for_until_there_is_one(server: Server, bo: Person) -> None:
    page = await bo.open("/security")
    assert "/enroll" in page.links
    assert page.root.all(class_="health-fair")
    await add_app(server, "bo", TABLET, "Tablet")
    page = await bo.open("/security")
    assert page.root.all(class_="health-good")


async def test_the_page_says_of_each_thing_since_when_it_is(server: Server, bo: Person) -> None:
    server.clock.pass_s(40 * 60)
    page = await bo.open("/security")
    assert "added on January 1, 2026" in page.text
    assert "last used 40 minutes ago" in page.text
    times = page.root.all("time")
    assert any(time["title"] == "2026-01-01 00:00:30 UTC" for time in times)


async def test_only_a_full_session_gets_here(server: Server) -> None:
    await add_person(server)
    pending = Person(server)
    await pending.give_password()
    for path in ("/security", "/security/password", "/security/recovery-codes", "/security/test", "/security/activity"):
        assert (await pending.open(path)).path == "/sign-in/code"
        assert (await Person(server).open(path)).path == "/sign-in"


async def test_a_recovery_code_beside_a_password_is_hashed_within_the_limits_of_the_password_only(
    server: Server, bo: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed = await server.deployment.verifier.renew_recovery_codes("bo", caller=ADMIN)
    hashes: list[str] = []
    pool = server.deployment.verifier._engine.pool
    run = pool.run

    async def count(work: Callable[[], object], **options: Any) -> object:
        hashes.append(options["account_id"])
        return await run(work, **options)

    monkeypatch.setattr(pool, "run", count)
    await bo.open("/security/password")
    for _ in range(NAME_NETWORK_PER_WINDOW):
        page = await bo.send(password="wrong " * 3, new_password=NEW_PASSWORD, code=renewed.recovery_codes[0])
        assert page.status == 422
    assert len(hashes) == NAME_NETWORK_PER_WINDOW, "one for each password, and none for the code"
    page = await bo.send(password=bo.password, new_password=NEW_PASSWORD, code=renewed.recovery_codes[0])
    assert (page.status, len(hashes)) == (429, NAME_NETWORK_PER_WINDOW)
    server.clock.pass_s(WINDOW_S)
    page = await bo.send(password=bo.password, new_password=NEW_PASSWORD, code=renewed.recovery_codes[0])
    assert (page.status, page.path) == (200, "/security")
    assert len(hashes) == NAME_NETWORK_PER_WINDOW + 3, "the old password, the code, the new password"
