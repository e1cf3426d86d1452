"""Looking after one's own account, phones, codes, password, sessions: as plain forms, and by keyboard alone."""

from tests.people import NewPerson, NewVisitor, leads_to
from tests.servers import Clock


def test_a_new_phone_takes_over_when_it_is_proven_and_the_old_one_works_until_then(
    new_person: NewPerson, new_visitor: NewVisitor, plain_visitor: NewVisitor
) -> None:
    bo = new_person(new_visitor())
    bo.sign_in()
    old = bo.phone
    bo.replace_phone()
    new, bo.phone = bo.phone, old
    # Not proven yet: the old one still signs in elsewhere.
    bo.at(plain_visitor()).sign_in()
    bo.phone = new
    bo.clock.advance()
    assert bo.prove_app(label="new phone").path == "/enroll/done"
    bo.visitor.open("/security")
    assert "new phone" in bo.page.text
    bo.sign_out()
    bo.phone = old
    bo.give_password()
    assert bo.give_code().path == "/sign-in/code"
    bo.phone = new
    assert bo.give_code().path == "/security"


def test_a_second_app_asks_who_one_is_and_gives_no_new_recovery_codes(
    new_person: NewPerson, new_visitor: NewVisitor
) -> None:
    bo = new_person(new_visitor())
    bo.sign_in()
    first = bo.phone
    assert "factor=totp" not in bo.visitor.open("/enroll").buttons
    wrong = bo.visitor.send(code=bo.wrong_code())
    assert (wrong.path, bool(wrong.alert)) == ("/enroll", True)
    bo.visitor.send(code=bo.fresh_code())
    bo.begin_app()
    assert bo.phone.secret != first.secret
    bo.clock.advance()
    assert bo.prove_app(label="tablet").path == "/enroll/done"
    second = bo.phone
    bo.sign_out()
    for phone in (first, second):
        bo.phone = phone
        bo.sign_in()
        bo.sign_out()


def test_enrollment_that_is_canceled_leaves_nothing(new_person: NewPerson, plain_visitor: NewVisitor) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    first = bo.phone
    bo.visitor.open("/enroll")
    bo.visitor.send(code=bo.fresh_code())
    shown = bo.begin_app()
    bo.visitor.send(to="/enroll/cancel")
    bo.assert_signed_in()
    bo.visitor.open("/enroll")
    if "code" in bo.page.fields:
        bo.phone = first
        bo.visitor.send(code=bo.fresh_code())
    assert bo.begin_app().secret != shown.secret


def test_recovery_codes_are_renewed_with_a_fresh_code_and_the_old_ones_are_dead(
    new_person: NewPerson, new_visitor: NewVisitor
) -> None:
    bo = new_person(new_visitor())
    bo.sign_in()
    old = bo.recovery_codes
    bo.visitor.open("/security/recovery-codes")
    assert not bo.page.recovery_codes
    bo.visitor.send(code=bo.wrong_code())
    assert not bo.page.recovery_codes
    bo.visitor.send(code=bo.fresh_code())
    new = bo.page.recovery_codes
    assert len(new) == 10
    assert not set(new) & set(old)
    # They are shown once.
    bo.visitor.open("/security/recovery-codes")
    assert not bo.page.recovery_codes
    bo.sign_out()
    bo.give_password()
    assert bo.give_code(old[0]).path == "/sign-in/code"
    bo.give_code(new[0])
    bo.assert_signed_in()


def test_an_authenticator_is_renamed_and_the_last_one_cannot_be_removed(
    new_person: NewPerson, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    mine = bo.authenticator_paths()[0]
    bo.visitor.open(mine)
    bo.visitor.send(label="Bo's <b>phone</b>")
    assert "Bo's <b>phone</b>" in bo.visitor.open("/security").text
    # Without it the second factor would be off: there is a way to replace it instead.
    asked = bo.visitor.open(f"{mine}/remove")
    assert "code" not in asked.fields
    assert leads_to(asked, "/enroll")


def test_one_of_two_authenticators_is_removed_with_a_fresh_code(
    new_person: NewPerson, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    first, (path,) = bo.phone, bo.authenticator_paths()
    bo.visitor.open("/enroll")
    bo.visitor.send(code=bo.fresh_code())
    bo.begin_app()
    bo.clock.advance()
    bo.prove_app(label="tablet")
    bo.visitor.open(f"{path}/remove")
    bo.visitor.send(code=bo.wrong_code())
    assert bo.page.alert
    bo.visitor.open(f"{path}/remove")
    bo.visitor.send(code=bo.fresh_code())
    assert path not in bo.authenticator_paths()
    bo.sign_out()
    bo.give_password()
    second, bo.phone = bo.phone, first
    assert bo.give_code().path == "/sign-in/code"
    bo.phone = second
    assert bo.give_code().path == "/security"


def test_a_new_password_needs_the_old_one_and_ends_other_sessions(
    new_person: NewPerson, new_visitor: NewVisitor, plain_visitor: NewVisitor
) -> None:
    bo = new_person(new_visitor())
    bo.sign_in()
    elsewhere = bo.at(plain_visitor())
    elsewhere.sign_in()
    new = "amber lighthouse 2031"
    bo.visitor.open("/security/password")
    bo.visitor.send(password="not my password 1", new_password=new, code=bo.fresh_code())
    assert bo.page.alert
    bo.visitor.send(password=bo.password, new_password="password", code=bo.fresh_code())
    assert bo.page.alert
    bo.visitor.send(password=bo.password, new_password=new, code=bo.fresh_code())
    assert not bo.page.alert
    bo.assert_signed_in()
    elsewhere.assert_signed_out()
    bo.sign_out()
    assert bo.give_password().path == "/sign-in"
    bo.password = new
    bo.sign_in()


def test_sessions_are_seen_and_ended_one_by_one_and_all_at_once(
    new_person: NewPerson, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    others = [bo.at(plain_visitor()) for _ in range(2)]
    for other in others:
        other.sign_in()
    page = bo.visitor.open("/security")
    endings = sorted({form.action for form in page.forms if "/security/sessions/" in form.action})
    assert len(endings) >= 2
    bo.visitor.send(to=endings[0].removeprefix(bo.visitor.url))
    bo.visitor.open("/security")
    bo.visitor.send(to="/security/sessions")
    bo.assert_signed_in()
    for other in others:
        other.assert_signed_out()


def test_a_code_that_is_tested_is_no_sign_in_and_is_used_up(new_person: NewPerson, plain_visitor: NewVisitor) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    bo.clock.advance()
    page = bo.visitor.open("/security/test")
    code = bo.code()
    good = bo.visitor.send(code=code).main.text
    assert good != page.main.text
    bo.visitor.open("/security/test")
    bad = bo.visitor.send(code=bo.wrong_code()).main.text
    assert bad != good
    bo.sign_out()
    bo.give_password()
    assert bo.give_code(code).path != "/security"
    bo.clock.advance()
    assert bo.give_code(bo.code()).path == "/security"


def test_a_session_that_nobody_used_for_an_hour_has_ended(
    new_person: NewPerson, plain_visitor: NewVisitor, clock: Clock
) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    clock.advance(59 * 60)
    bo.assert_signed_in()
    clock.advance(61 * 60)
    bo.assert_signed_out()
    bo.sign_in()
