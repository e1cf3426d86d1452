"""What the security page warns of, and what it says of a code that was tested."""

import pytest
from tests.server.conftest import Server
from tests.server.visitors import ADMIN, PASSWORD, Person, add_app, add_person

from twofold.core.account import Account
from twofold.core.activity import RefusedCodes
from twofold.core.attempt import Call
from twofold.core.decision import Decision, Done
from twofold.credentials import OtpParameters
from twofold.crypto.otp import code_at
from twofold.engine import Caller
from twofold.server.pages.security import EVENTS_LOOKED_AT, EVENTS_LOOKED_AT_MAX
from twofold.server.pages.security_words import explain_warnings
from twofold.server.words import Words


@pytest.fixture
async def bo(server: Server) -> Person:
    """Somebody signed in."""
    await add_person(server)
    person = Person(server)
    await person.sign_in()
    return person


async def spent_by(server: Server) -> list[int]:
    """What each known browser of the account has used up of its budget."""
    account = await server.deployment.store.load("bo")
    assert account is not None
    return [browser.lane.spent for browser in account.known_browsers]


async def test_a_tested_code_that_fits_is_no_sign_in_and_is_used_up(server: Server, bo: Person) -> None:
    page = await bo.open("/security/test")
    assert "5 tests a day" in page.text
    code = bo.fresh_code()
    page = await bo.send(code=code)
    assert (page.status, "The code fits" in page.main.text) == (200, True)
    await bo.open("/security/recovery-codes")
    page = await bo.send(code=code)
    assert (page.status, "already used" in page.alert) == (422, True)
    assert len((await bo.send(code=bo.fresh_code())).recovery_codes) == 10


async def test_a_tested_code_that_was_used_is_said_to_be(server: Server, bo: Person) -> None:
    await bo.open("/security/test")
    page = await bo.send(code=bo.code())
    assert (page.status, "already used" in page.alert) == (422, True)
    assert "The code fits" in (await bo.send(code=bo.fresh_code())).main.text


async def test_a_tested_code_of_the_past_tells_how_far_the_clock_is_behind(server: Server, bo: Person) -> None:
    server.clock.pass_s(86_400)
    await bo.sign_in()
    await bo.open("/security/test")
    page = await bo.send(code=bo.code(steps=-60))
    assert (page.status, "30 minutes behind" in page.alert) == (422, True)
    assert "fits none" in (await bo.send(code=bo.wrong_code())).alert


async def test_a_code_that_will_be_right_later_is_not_told_from_a_wrong_one_by_testing_it(
    server: Server, bo: Person
) -> None:
    thief = Person(server, address="198.51.100.66")
    thief.http.cookies.set("twofold-session", bo.token, domain="localhost.local", path="/")
    await thief.open("/security/test")
    alerts = [(await thief.send(code=code)).alert for code in (bo.code(steps=30), bo.wrong_code())]
    assert alerts[0] == alerts[1]
    assert "fits none" in alerts[0]
    # One of the next ten minutes is burnt as well: it is never right again.
    server.clock.pass_s(60)
    soon = bo.code(steps=8)
    assert (await thief.send(code=soon)).alert == alerts[0]
    server.clock.pass_s(8 * 30)
    await thief.open("/security/recovery-codes")
    assert (await thief.send(code=soon)).status == 422
    assert len((await thief.send(code=bo.fresh_code())).recovery_codes) == 10


async def test_a_clock_that_is_ahead_is_named_by_a_second_code_as_everywhere(server: Server, bo: Person) -> None:
    await bo.open("/security/test")
    assert "fits none" in (await bo.send(code=bo.code(steps=8))).alert
    server.clock.pass_s(30)
    assert "4 minutes ahead" in (await bo.send(code=bo.code(steps=8))).alert


async def test_a_wrong_code_costs_the_same_tested_as_anywhere_else(server: Server, bo: Person) -> None:
    assert await spent_by(server) == [0]
    await bo.open("/security/recovery-codes")
    await bo.send(code=bo.wrong_code())
    (cost,) = await spent_by(server)
    assert cost
    await bo.open("/security/test")
    await bo.send(code=bo.wrong_code())
    assert await spent_by(server) == [2 * cost]
    await bo.send(code=bo.wrong_code())
    page = await bo.send(code=bo.fresh_code()[::-1])
    assert page.status == 422
    page = await bo.send(code=bo.wrong_code())
    assert page.status == 429, "it waits like any other"
    assert int(page.headers["retry-after"]) >= 1


async def test_the_code_of_a_token_is_tested_and_used_up(server: Server, bo: Person) -> None:
    token = OtpParameters(b"a token in a drawer!")
    await server.deployment.verifier.accounts.import_authenticator("bo", "hotp", token, caller=ADMIN)
    await bo.open("/security/test")
    assert "fits none" in (await bo.send(code=code_at(token.secret, 500))).alert
    assert "The code fits" in (await bo.send(code=code_at(token.secret, 3))).main.text
    assert "already used" in (await bo.send(code=code_at(token.secret, 3))).alert


def test_refused_codes_without_an_address_are_told_too() -> None:
    refused = RefusedCodes(1, (), 1_767_225_600_000_000)
    (note,) = explain_warnings(refused, has_used_recovery_code=False, codes_left=10, is_guessed_at=False)
    assert Words().choose("en").say(note.title) == "A code was refused since 2026-01-01 00:00:00 UTC"


@pytest.mark.parametrize(
    ("left", "kind", "text"),
    [
        (9, "info", "9 are left"),
        (3, "warning", "3 are left"),
        (1, "warning", "One is left"),
        (0, "warning", "the last one"),
    ],
)
def test_few_recovery_codes_are_a_reason_to_make_new_ones(left: int, kind: str, text: str) -> None:
    (note,) = explain_warnings(None, has_used_recovery_code=True, codes_left=left, is_guessed_at=False)
    assert note.kind == kind
    assert [href for _, href in note.links] == ["/enroll"] + ["/security/recovery-codes"] * (left <= 3)
    assert text in Words().choose("en").say(note.text)


async def test_after_a_recovery_code_the_next_thing_to_do_is_to_set_up_the_new_phone(server: Server) -> None:
    codes = await add_person(server)
    bo = Person(server)
    await bo.give_password()
    page = await bo.send(code=codes[0])
    (phone,) = (await server.deployment.verifier.accounts.get("bo")).second_factors
    notice = page.root.all(class_="notice-info")[0]
    assert "Lost your phone? Set up the new one" in notice.text
    assert notice.only("a")["href"] == f"/enroll?replaces={phone.id}"
    page = await bo.open(notice.only("a")["href"])
    assert "factor=totp" in page.buttons
    assert "Step 1 of 2" in page.text


async def test_with_two_apps_nobody_guesses_which_one_was_lost(server: Server) -> None:
    codes = await add_person(server)
    await add_app(server, "bo", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "Tablet")
    bo = Person(server)
    await bo.give_password()
    page = await bo.send(code=codes[0])
    assert page.root.all(class_="notice-info")[0].only("a")["href"] == "/enroll"


async def test_the_sixth_test_of_a_day_is_not_made(server: Server, bo: Person) -> None:
    server.clock.pass_s(86_400)
    await bo.sign_in()
    await bo.open("/security/test")
    for _ in range(5):
        assert "The code fits" in (await bo.send(code=bo.fresh_code())).main.text
    code = bo.fresh_code()
    page = await bo.send(code=code)
    assert (page.status, "No more tests today" in page.text) == (429, True)
    await bo.open("/security/recovery-codes")
    assert (await bo.send(code=code)).recovery_codes, "it was not looked at"
    server.clock.pass_s(86_400)
    await bo.sign_in()
    await bo.open("/security/test")
    assert (await bo.send(code=bo.fresh_code())).status == 200


async def test_a_recovery_code_is_not_tested(server: Server) -> None:
    codes = await add_person(server)
    bo = Person(server)
    await bo.sign_in()
    await bo.open("/security/test")
    for typed in (codes[0], ""):
        page = await bo.send(code=typed)
        assert (page.status, "Recovery codes cannot be tested" in page.text) == (422, True)


async def test_asvs_6_3_5_codes_that_were_refused_elsewhere_are_told_at_the_next_sign_in(
    server: Server, bo: Person
) -> None:
    assert not bo.page.root.all(class_="notice-warning")
    thief = Person(server, address="192.0.2.66")
    await thief.give_password()
    for _ in range(2):
        await thief.send(code=thief.wrong_code())
    server.clock.pass_s(60)
    await bo.sign_out()
    page = await bo.sign_in()
    warning = page.root.all(class_="notice-warning")[0].text
    assert "2 codes from 192.0.2.66 were refused since" in warning
    assert "/security/password" in page.links
    # The next sign-in has nothing new to tell.
    await bo.sign_out()
    assert not (await bo.sign_in()).root.all(class_="notice-warning")


async def test_many_right_passwords_do_not_push_refused_codes_out_of_sight(server: Server, bo: Person) -> None:
    await bo.sign_out()
    thief = Person(server, address="192.0.2.66")
    await thief.give_password()
    await thief.send(code=thief.wrong_code())
    await fill_activity(server, 2 * EVENTS_LOOKED_AT)
    await bo.sign_in()
    assert "A code from 192.0.2.66 was refused since" in bo.page.root.all(class_="notice-warning")[0].text
    await bo.sign_out()
    await fill_activity(server, 2 * EVENTS_LOOKED_AT)
    assert not (await bo.sign_in()).root.all(class_="notice-warning")


async def test_more_events_than_can_be_looked_through_are_told_of(server: Server, bo: Person) -> None:
    await bo.sign_out()
    thief = Person(server, address="192.0.2.66")
    await thief.give_password()
    await thief.send(code=thief.wrong_code())
    await fill_activity(server, EVENTS_LOOKED_AT_MAX)
    await bo.sign_in()
    (warning,) = bo.page.root.all(class_="notice-warning")
    assert "The last 1,000 events do not reach back to your sign-in before" in warning.text
    await bo.sign_out()
    assert not (await bo.sign_in()).root.all(class_="notice-warning")


async def fill_activity(server: Server, events: int) -> None:
    """So many right passwords without a code after them."""

    def decide(account: Account | None, call: Call) -> Decision:
        assert account is not None
        return Decision(Done(), account, (call.event("password.accepted", factor="password"),) * events)

    await server.deployment.verifier._engine.decide("bo", decide, Caller("pages"))


async def test_ones_own_typing_errors_are_not_told_as_an_attack(server: Server, bo: Person) -> None:
    other = Person(server, address="198.51.100.7")
    await other.give_password()
    await other.send(code=other.wrong_code())
    page = await other.send(code=other.fresh_code())
    assert page.path == "/security"
    assert not page.root.all(class_="notice-warning")


async def test_somebody_who_guesses_is_told_of_with_what_to_do(server: Server, bo: Person) -> None:
    thief = Person(server, address="192.0.2.66")
    for _ in range(11):
        server.clock.pass_s(61)
        await thief.give_password()
        await thief.send(code=thief.wrong_code())
    page = await bo.open("/security")
    assert "Somebody is guessing your codes" in page.text
    await bo.open("/security/password")
    await bo.send(password=PASSWORD, new_password="amber lighthouse 2031", code=bo.fresh_code())
    assert "Your password is changed" in bo.page.text
    assert "Somebody is guessing your codes" not in bo.page.text
