"""What the security page warns of, and what it says of a code that was tested."""

import msgspec
import pytest
from tests.server.conftest import Server
from tests.server.visitors import PASSWORD, Person, add_person

from twofold.core.account import Authenticator, new_account
from twofold.core.activity import RefusedCodes
from twofold.core.decision import Tried
from twofold.core.entropy import Seed
from twofold.server.pages.security_words import explain_test, explain_warnings
from twofold.server.words import Words


@pytest.fixture
async def bo(server: Server) -> Person:
    """Somebody signed in."""
    await add_person(server)
    person = Person(server)
    await person.sign_in()
    return person


async def test_a_code_is_tested_and_lets_nobody_in(server: Server, bo: Person) -> None:
    server.clock.pass_s(30)
    page = await bo.open("/security/test")
    assert "5 tests a day" in page.text
    assert "The code fits" in (await bo.send(code=bo.code())).main.text
    page = await bo.send(code=bo.code(steps=-8))
    assert "8 steps away" in page.main.text
    assert "4 minutes behind" in page.main.text
    assert "4 minutes ahead" in (await bo.send(code=bo.code(steps=8))).main.text
    assert "fits none" in (await bo.send(code="12345678")).main.text
    # Not used up: it still proves who one is.
    await bo.open("/security/recovery-codes")
    assert len((await bo.send(code=bo.code())).recovery_codes) == 10


@pytest.mark.parametrize(
    ("tried", "title", "text"),
    [
        (Tried("fits_with_clock_off", "au_token", 12), "12 presses away", "three codes in a row"),
        (
            Tried("fits_with_other_parameters", "au_app", parameters="SHA256, 8 digits"),
            "another way",
            "SHA256, 8 digits",
        ),
    ],
)
def test_a_code_that_fits_otherwise_is_explained(tried: Tried, title: str, text: str) -> None:
    account = msgspec.structs.replace(
        new_account("bo", Seed(bytes(32)), 0),
        authenticators=tuple(
            Authenticator(id_, factor, "", "active", b"", 0)
            for id_, factor in (("au_token", "hotp"), ("au_app", "totp"))
        ),
    )
    note = explain_test(tried, account, 0)
    speech = Words().choose("en")
    assert title in speech.say(note.title)
    assert text in speech.say(note.text)


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
    assert (note.kind, note.action_href is not None) == (kind, left <= 3)
    assert text in Words().choose("en").say(note.text)


async def test_the_sixth_test_of_a_day_is_not_made(server: Server, bo: Person) -> None:
    await bo.open("/security/test")
    for _ in range(5):
        page = await bo.send(code=bo.wrong_code())
        assert page.status == 200
    page = await bo.send(code=bo.code())
    assert (page.status, "No more tests today" in page.text) == (429, True)
    server.clock.pass_s(86_400)
    await bo.sign_in()
    await bo.open("/security/test")
    assert (await bo.send(code=bo.code())).status == 200


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
