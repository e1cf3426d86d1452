"""Where one is signed in and what happened to one's account: seen, ended, forgotten, and told in sentences."""

from typing import get_args

import pytest
from tests.core.test_activity import event
from tests.server.conftest import Server
from tests.server.visitors import IPHONE, Person, add_person

from twofold.core.account import new_account
from twofold.core.audit import EventKind
from twofold.core.entropy import Seed
from twofold.directory import ProfileInput
from twofold.server.pages.activity_words import ALARMING, tell
from twofold.server.words import Words

PHONE_ADDRESS = "198.51.100.7"
ACCOUNT = new_account("bo", Seed(bytes(32)), 0)


@pytest.fixture
async def bo(server: Server) -> Person:
    """Somebody signed in at a computer."""
    await add_person(server)
    person = Person(server)
    await person.sign_in()
    return person


@pytest.fixture
async def phone(server: Server, bo: Person) -> Person:
    """The same person, signed in at a phone."""
    person = Person(server, user_agent=IPHONE, address=PHONE_ADDRESS)
    await person.sign_in()
    return person


def endings(person: Person) -> list[str]:
    """Where the page's forms that end one session lead."""
    return [form.action for form in person.page.forms if "/security/sessions/" in form.action]


async def test_asvs_7_5_2_a_person_sees_her_sessions_and_a_session_just_ended_is_refused_at_once(
    server: Server, bo: Person, phone: Person
) -> None:
    page = await bo.open("/security")
    section = page.root.only("section", id="sessions")
    rows = section.all("li")
    assert len(rows) == 2
    assert ["This session" in row.text for row in rows].count(True) == 1
    there = next(row.text for row in rows if "Safari on iPhone" in row.text)
    assert PHONE_ADDRESS in there
    assert "This session" not in there
    (ending,) = endings(bo)
    page = await bo.send(to=ending.partition(":8000")[2])
    assert "The session is ended" in page.text
    assert (await phone.open("/security/password")).status == 401
    assert not phone.token
    assert await bo.is_signed_in()
    assert not endings(bo)


async def test_five_sessions_are_shown_with_this_one_first_and_all_others_end_above_them(
    server: Server, bo: Person
) -> None:
    for number in range(5):
        server.clock.pass_s(60)
        await Person(server, user_agent=IPHONE, address=f"198.51.100.{number}").sign_in()
    section = (await bo.open("/security")).root.only("section", id="sessions")
    lists = section.all("ul", class_="rows")
    assert [len(each.all("li")) for each in lists] == [5, 1]
    assert "This session" in lists[0].all("li")[0].text
    assert section.text.index("End all other sessions") < section.text.index("This session")


async def test_buttons_of_equal_browsers_are_told_apart_by_what_a_screen_reader_says(
    server: Server, bo: Person
) -> None:
    for _ in range(2):
        server.clock.pass_s(600)
        await Person(server, user_agent=IPHONE).sign_in()
    page = await bo.open("/security")
    for section, path in (("sessions", "/security/sessions/"), ("browsers", "/security/browsers/")):
        forms = [form for form in page.root.only("section", id=section).all("form") if path in form["action"]]
        said = [form.only("button").text for form in forms]
        assert len(said) >= 2
        assert len(set(said)) == len(said)
        assert all("last seen" in text for text in said)


async def test_a_session_that_has_ended_already_is_told_so(bo: Person, phone: Person) -> None:
    before = await bo.open("/security")
    (ending,) = [path.partition(":8000")[2] for path in endings(bo)]
    await phone.sign_out()
    page = await bo.send(before, to=ending)
    assert (page.status, "/security" in page.links) == (404, True)


async def test_all_other_sessions_end_at_once(server: Server, bo: Person, phone: Person) -> None:
    other = Person(server, address="198.51.100.8")
    await other.sign_in()
    await bo.open("/security")
    page = await bo.send(to="/security/sessions")
    assert "All other sessions are ended" in page.text
    assert await bo.is_signed_in()
    assert not [each for each in (phone, other) if await each.is_signed_in()]
    # Once more, as by the back button: there is nothing left to end, and nothing goes wrong.
    assert not [form for form in bo.page.forms if form.action.endswith("/security/sessions")]


async def test_whoever_knows_the_password_and_stopped_at_the_code_is_seen_and_can_be_turned_out(
    server: Server, bo: Person
) -> None:
    thief = Person(server, address="192.0.2.66")
    await thief.give_password()
    await bo.open("/security")
    row = next(row.text for row in bo.page.root.all("li") if "192.0.2.66" in row.text and "End" in row.text)
    assert "Password only, no code yet" in row
    await bo.send(to=endings(bo)[0].partition(":8000")[2])
    page = await thief.send(code=bo.fresh_code())
    assert page.status == 401


async def test_ending_the_own_session_is_signing_out(server: Server, bo: Person, phone: Person) -> None:
    page = await bo.open("/security")
    assert "/sign-out" in page.links
    session = next(s for s in await server.deployment.store.list_sessions("bo") if s.ip != PHONE_ADDRESS)
    token = page.forms[0].control("csrf")["value"]
    page = await bo.post(f"/security/sessions/{session.id}", [("csrf", token)])
    assert page.path == "/sign-out"
    assert await bo.is_signed_in()


async def test_a_form_without_its_token_ends_and_forgets_nothing(server: Server, bo: Person, phone: Person) -> None:
    await bo.open("/security")
    for form in bo.page.forms:
        assert (await bo.post(form.action, [])).status == 403
    assert await phone.is_signed_in()
    assert "Safari on iPhone" in (await bo.open("/security")).root.only("section", id="browsers").text


async def test_a_known_browser_is_seen_and_forgotten(server: Server, bo: Person, phone: Person) -> None:
    page = await bo.open("/security")
    rows = page.root.only("section", id="browsers").all("li")
    mine = next(row for row in rows if "Firefox on Linux" in row.text)
    assert "This browser" in mine.text
    theirs = next(row for row in rows if "Safari on iPhone" in row.text)
    assert "This browser" not in theirs.text
    path = theirs.only("form")["action"]
    page = await bo.send(to=path)
    assert "The browser is forgotten" in page.text
    assert "Safari" not in page.root.only("section", id="browsers").text
    # It stays signed in: to be known is no sign-in.
    assert await phone.is_signed_in()
    assert "This browser" not in phone.page.text


async def test_forgetting_twice_by_one_form_ends_alike(bo: Person, phone: Person) -> None:
    before = await bo.open("/security")
    path = next(form.action for form in before.forms if "/security/browsers/" in form.action).partition(":8000")[2]
    first = await bo.send(before, to=path)
    again = await bo.send(before, to=path)
    assert (first.status, again.status, again.path) == (200, 200, "/security")
    await bo.open("/security")
    token = bo.page.forms[0].control("csrf")["value"]
    assert (await bo.post(path, [("csrf", token)])).status == 404


async def test_a_browser_that_was_not_seen_for_half_a_year_is_not_known_any_more(server: Server, bo: Person) -> None:
    server.clock.pass_s(181 * 86_400)
    other = Person(server, user_agent=IPHONE, address=PHONE_ADDRESS)
    page = await other.sign_in()
    assert "Firefox" not in page.root.only("section", id="browsers").text


async def test_nist_4_1_what_happened_is_told_with_when_and_where(bo: Person, phone: Person) -> None:
    page = await bo.open("/security/activity")
    row = page.main.all("li")[0]
    assert "Signed in with a code" in row.text
    assert f"Safari on iPhone , {PHONE_ADDRESS}" in row.text
    assert row.only("time")["title"].endswith(" UTC")
    assert "This was not me" in page.text


async def test_the_overview_shows_ten_events_and_each_page_of_the_activity_fifty(server: Server, bo: Person) -> None:
    for number in range(60):
        await server.deployment.verifier.accounts.put("bo", ProfileInput(groups=(str(number),)))
    assert len((await bo.open("/security")).root.only("section", id="activity").only("ul").all("li")) == 10
    page = await bo.open("/security/activity")
    assert len(page.main.only("ul", class_="rows").all("li")) == 50
    older = next(link for link in page.links if "before=" in link)
    page = await bo.open(older)
    left = len(page.main.only("ul", class_="rows").all("li"))
    account = await server.deployment.store.load("bo")
    assert account is not None
    assert left == account.head.seq - 50
    assert "Older" not in page.main.text
    assert "/security/activity" in page.links
    assert "The account was made" in page.text


@pytest.mark.parametrize("before", ["1", "0", "-1", "x", "٣", "9" * 40])
async def test_asvs_2_2_1_a_page_of_the_activity_that_is_none_is_the_first_or_empty(bo: Person, before: str) -> None:
    page = await bo.open(f"/security/activity?before={before}")
    assert page.status == 200
    assert ("Nothing older" in page.text) == (before in ("0", "1"))


async def test_trap_83_what_happened_to_a_deleted_account_of_that_name_is_not_shown(server: Server, bo: Person) -> None:
    await server.deployment.verifier.accounts.delete("bo")
    await add_person(server)
    await bo.sign_in()
    page = await bo.open("/security/activity")
    assert page.main.only("ul", class_="rows").all("li")[-1].text.startswith("The account was made")
    assert "deleted" not in page.text


async def test_asvs_16_4_1_what_a_stranger_sends_is_shown_inert(server: Server, bo: Person) -> None:
    thief = Person(server, user_agent="<b>x</b>\x1b[31m", address="192.0.2.66")
    await thief.give_password()
    page = await bo.open("/security/activity")
    assert "From 192.0.2.66" in page.text
    assert not page.main.all("b")
    assert "Unknown browser" in (await bo.open("/security")).root.only("section", id="sessions").text


def words_of(kind: str, **fields: object) -> tuple[str, str]:
    """What the page says of an event, and where it was."""
    speech = Words().choose("en")
    told = tell(event(kind, **fields), ACCOUNT)
    return speech.say(told.what), speech.say(told.where)


@pytest.mark.parametrize("kind", get_args(EventKind))
def test_every_kind_of_event_has_a_sentence(kind: str) -> None:
    what, _ = words_of(kind)
    assert what
    assert "no words" not in what
    assert "%" not in what


def test_an_event_of_a_kind_that_is_not_known_is_told_as_what_it_is() -> None:
    assert words_of("door.painted")[0].endswith("no words for: door.painted")


def test_everything_alarming_is_a_kind_of_event() -> None:
    assert set(get_args(EventKind)) >= ALARMING


@pytest.mark.parametrize(
    ("kind", "fields", "what"),
    [
        ("code.accepted", {"factor": "totp"}, "Signed in with a code"),
        ("code.accepted", {"factor": "totp", "codes": 3}, "Signed in with three codes in a row"),
        ("code.accepted", {"factor": "recovery_codes"}, "Signed in with a recovery code"),
        ("code.accepted", {"factor": "totp", "purpose": "change_password"}, "A fresh code allowed a change"),
        ("code.refused", {"reason": "wrong_code"}, "A wrong code was refused"),
        (
            "code.refused",
            {"reason": "wrong_code", "unrecorded_before": 7},
            "A wrong code was refused. 7 more were not looked at",
        ),
        ("code.refused", {"reason": "code_already_used"}, "A code was refused because it had been used before"),
        ("code.refused", {"reason": "clock_off"}, "A code was refused because the phone's clock is off"),
        ("password.refused", {"failures": 12}, "12 wrong passwords were refused"),
        ("authenticator.added", {"factor": "totp", "label": "Phone"}, "Phone was added"),
        ("authenticator.added", {"factor": "hotp"}, "A code token was added"),
        ("authenticator.removed", {"factor": "totp"}, "An authenticator app was removed"),
        (
            "authenticator.removed",
            {"replaced_by": "au_2"},
            "The old authenticator was removed, as a new one took its place",
        ),
        ("enrollment.begun", {"replaces": "au_1"}, "Setting up a new phone was begun"),
        ("enrollment.begun", {}, "Setting up an authenticator was begun"),
        ("recovery_codes.made", {"codes": 10}, "10 recovery codes were made"),
        (
            "recovery_codes.made",
            {"codes": 10, "replaces": "au_1"},
            "10 recovery codes were made; older ones are dead",
        ),
        ("code.accepted", {"purpose": "test_code"}, "A code that was tested was used up"),
        ("code.tested", {"finding": "fits"}, "A code was tested, and it fits"),
        ("code.tested", {"finding": "fits_nothing"}, "A code was tested, and it does not fit"),
        ("account.role_changed", {"role": "administrator"}, "This account became an administrator's"),
        ("account.role_changed", {"role": ""}, "This account is not an administrator's any more"),
        ("link.made", {"purpose": "reset"}, "A link to sign in and set up a new authenticator was made"),
        (
            "network.blocked",
            {"network": "192.0.2.0/24", "until": "2026-01-01T00:00:00Z"},
            "The network 192.0.2.0/24 is refused until 2026-01-01 00:00:00 UTC",
        ),
        ("network.lifted", {"network": "192.0.2.0/24"}, "The network 192.0.2.0/24 is let in again"),
    ],
)
def test_an_event_is_told_by_what_is_in_it(kind: str, fields: dict[str, object], what: str) -> None:
    assert words_of(kind, **fields)[0] == what


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"ip": "192.0.2.1", "user_agent": IPHONE}, "Safari on iPhone, 192.0.2.1"),
        ({"ip": "192.0.2.1"}, "From 192.0.2.1"),
        ({"network": "192.0.2.1"}, "From 192.0.2.1"),
        ({"application": "local"}, "On the server itself"),
        ({"application": "pages:se_1"}, "On these pages"),
        ({"application": "pages"}, "On these pages"),
        ({"application": "k3y"}, "Through another application"),
        # Where an administrator sits is not the person's affair.
        ({"by": "ada", "ip": "192.0.2.1", "user_agent": IPHONE}, "By the administrator ada"),
    ],
)
def test_an_event_is_told_with_where_it_came_from(fields: dict[str, object], where: str) -> None:
    assert words_of("account.changed", **fields)[1] == where
