"""Signing in, and every way in which a code can be wrong: as plain forms, and by keyboard alone."""

import pytest
from tests.forms import FormVisitor, OpenForms
from tests.pages import Page
from tests.people import NewPerson, NewVisitor, Person, leads_to, waiting_seconds
from tests.servers import STEP_S, Clock, Server


def test_a_wrong_code_stays_on_the_page_and_the_right_one_is_taken(
    new_person: NewPerson, new_visitor: NewVisitor
) -> None:
    bo = new_person(new_visitor())
    assert bo.give_password().path == "/sign-in/code"
    assert bo.page.fields >= {"code"}
    assert not bo.page.alert
    refused = bo.give_code(bo.wrong_code())
    assert refused.path == "/sign-in/code"
    assert refused.alert
    assert refused.title.startswith("Error: ")
    box = refused.form(fields={"code": ""}).control("code")
    assert (box["aria-invalid"], box["value"]) == ("true", "")
    assert bo.give_code().path == "/security"
    bo.sign_out()


def test_a_code_with_a_space_is_the_same_code(new_person: NewPerson, plain_visitor: NewVisitor) -> None:
    bo = new_person(plain_visitor())
    bo.give_password()
    code = bo.fresh_code()
    assert bo.give_code(f" {code[:3]} {code[3:]} ").path == "/security"


def test_a_used_code_is_called_used_and_the_page_says_when_the_next_one_comes(
    new_person: NewPerson, new_visitor: NewVisitor, clock: Clock
) -> None:
    bo = new_person(new_visitor())
    bo.sign_in()
    bo.sign_out()
    bo.give_password()
    clock.advance(12)
    refused = bo.give_code(bo.code())
    assert refused.path == "/sign-in/code"
    assert is_about(waiting_seconds(refused), STEP_S - 12)
    assert bo.give_code().path == "/security"


def test_a_code_of_the_step_before_is_in_time_and_an_older_one_is_late(
    new_person: NewPerson, plain_visitor: NewVisitor, clock: Clock
) -> None:
    bo = new_person(plain_visitor())
    clock.advance(5 * STEP_S)
    bo.give_password()
    late = bo.give_code(bo.code(-2))
    assert late.path == "/sign-in/code"
    assert late.alert
    clock.advance(STEP_S)
    assert bo.give_code(bo.code(-1)).path == "/security"


def test_a_phone_whose_clock_is_off_is_told_by_how_much_after_two_of_its_codes(
    new_person: NewPerson, new_visitor: NewVisitor
) -> None:
    bo = new_person(new_visitor())
    # What it shows now comes after the code of enrollment, and so was never used.
    bo.clock.advance(10 * 60)
    bo.phone_behind_s = 4 * 60
    bo.give_password()
    first = bo.give_code()
    assert "4 minutes" not in first.text
    second = bo.give_code()
    assert second.path == "/sign-in/code"
    assert "4 minutes" in second.alert
    # The phone's clock was set right.
    bo.phone_behind_s = 0
    assert bo.give_code().path == "/security"


def test_two_wrong_codes_are_free_and_after_the_third_the_page_says_how_long_to_wait(
    new_person: NewPerson, plain_visitor: NewVisitor, clock: Clock
) -> None:
    bo = new_person(plain_visitor())
    bo.give_password()
    for waited_s in (0, 0, 0, 1, 2, 4):
        clock.advance(waited_s)
        assert bo.give_code(bo.wrong_code()).status == 401
    # It is not the code that is wrong now.
    throttled = bo.give_code(bo.code())
    assert (throttled.path, throttled.status) == ("/sign-in/code", 429)
    assert throttled.headers["retry-after"] == "8"
    assert is_about(waiting_seconds(throttled), 8)
    # Three codes in a row would take longer than that.
    assert ("code" in throttled.fields, "codes" in throttled.fields) == (True, False)
    clock.advance(8)
    assert bo.give_code().path == "/security"


def is_about(shown_s: int, seconds: int) -> bool:
    """Whether a page says so; in a browser it counts down, perhaps before the test looks."""
    return seconds - 4 < shown_s <= seconds


def test_a_recovery_code_goes_into_the_same_box_once_however_it_is_spelled(
    new_person: NewPerson, new_visitor: NewVisitor
) -> None:
    bo = new_person(new_visitor())
    code = bo.recovery_codes[0]
    bo.give_password()
    after = bo.give_code(code.lower().replace("-", " "))
    assert after.path in ("/security", "/sign-in/done")
    assert "9" in bo.assert_signed_in().text
    bo.sign_out()
    bo.give_password()
    refused = bo.give_code(code)
    assert refused.path == "/sign-in/code"
    assert refused.alert
    assert bo.give_code(bo.recovery_codes[1]).path == after.path


def test_a_wrong_name_and_a_wrong_password_look_the_same(new_person: NewPerson, plain_visitor: NewVisitor) -> None:
    bo = new_person(plain_visitor())
    wrong = bo.give_password("violet harbour 1927")
    assert wrong.path == "/sign-in"
    assert wrong.title.startswith("Error: ")
    # The name need not be typed again; the password must.
    form = wrong.form(fields={"name": "", "password": ""})
    assert (form.control("name")["value"], form.control("password")["value"]) == (bo.name, "")
    nobody = Person("nobody", bo.visitor, bo.clock)
    assert nobody.give_password().alert == wrong.alert
    assert bo.give_password().path == "/sign-in/code"


def test_a_pending_sign_in_lasts_ten_minutes_and_says_so_when_it_ends(
    new_person: NewPerson, plain_visitor: NewVisitor, clock: Clock
) -> None:
    bo = new_person(plain_visitor())
    bo.give_password()
    clock.advance(9 * 60)
    bo.give_code(bo.wrong_code())
    clock.advance(61)
    ended = bo.give_code()
    assert ended.path == "/sign-in" or leads_to(ended, "/sign-in")
    assert "10 minutes" in ended.text
    bo.sign_in()


def test_where_somebody_wanted_to_go_survives_every_step(new_person: NewPerson, plain_visitor: NewVisitor) -> None:
    bo = new_person(plain_visitor())
    asked = bo.visitor.open("/security/activity")
    assert asked.path == "/sign-in"
    bo.give_password("violet harbour 1927")
    bo.give_password()
    bo.give_code(bo.wrong_code())
    assert bo.give_code().path == "/security/activity"


def test_where_somebody_wanted_to_go_survives_enrollment_too(
    ada: Person, new_person: NewPerson, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    ada.act_on(bo.name, "reset")
    bo.visitor.open("/security/activity")
    assert bo.give_password().path == "/enroll"
    assert leads_to(bo.enroll(), "/security/activity")


def test_each_step_has_a_new_cookie_and_the_old_one_is_dead(
    new_person: NewPerson, open_forms: OpenForms, server: Server
) -> None:
    url = f"http://localhost:{server.port}"
    bo = new_person(open_forms(url))
    bo.visitor.open("/sign-in")
    seen = []
    for step in (bo.give_password, bo.give_code):
        step()
        seen.append(bo.visitor.cookies["twofold-session"])
    assert len(set(seen)) == 2
    assert wearing(open_forms(url), seen[0]).status == 401
    assert wearing(open_forms(url), seen[1]).status == 200
    bo.sign_out()
    assert wearing(open_forms(url), seen[1]).status == 401


def wearing(thief: FormVisitor, session: str) -> Page:
    """What somebody sees who has the cookie of a session."""
    thief.http.cookies.set("twofold-session", session, domain="localhost.local")
    return thief.open("/security")


@pytest.fixture
def guesser(server: Server, open_forms: OpenForms) -> FormVisitor:
    """A browser in another network."""
    return open_forms(f"http://localhost:{server.port}", address="127.0.0.66")


def test_under_attack_three_codes_in_a_row_let_the_owner_in_at_a_new_browser(
    new_person: NewPerson, new_visitor: NewVisitor, guesser: FormVisitor
) -> None:
    bo = new_person(new_visitor())
    bo.at(guesser).guess()
    bo.give_password()
    refused = bo.give_code()
    assert refused.path == "/sign-in/code"
    assert refused.fields >= {"code", "codes"}
    assert bo.give_three_codes("000000 000000 000000").path == "/sign-in/code"
    let_in = bo.give_three_codes()
    # The guesser knows the password, so it wants to be changed.
    assert let_in.path == "/security/password" or leads_to(let_in, "/security/password")
    bo.assert_signed_in()


def test_under_attack_a_recovery_code_lets_the_owner_in(
    new_person: NewPerson, plain_visitor: NewVisitor, guesser: FormVisitor
) -> None:
    bo = new_person(plain_visitor())
    bo.at(guesser).guess()
    bo.give_password()
    bo.give_code(bo.recovery_codes[0])
    bo.assert_signed_in()


def test_under_attack_a_browser_that_was_here_before_needs_one_code(
    new_person: NewPerson, plain_visitor: NewVisitor, guesser: FormVisitor
) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    bo.sign_out()
    bo.at(guesser).guess()
    bo.sign_in()
