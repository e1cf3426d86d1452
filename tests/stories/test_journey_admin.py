"""What an administrator does for somebody, and how that person gets in: as plain forms, and by keyboard alone."""

from tests.people import NewPerson, NewVisitor, Person, leads_to, new_name, reset_link
from tests.servers import Server


def test_an_invited_person_chooses_a_password_and_ends_signed_in(
    ada: Person, new_visitor: NewVisitor, plain_visitor: NewVisitor
) -> None:
    cy = Person(new_name(), new_visitor(), ada.clock)
    link = ada.invite(cy.name)
    assert "new_password" in cy.visitor.open(link).fields
    cy.visitor.send(new_password="short")
    assert cy.page.alert
    cy.visitor.send(new_password=cy.password)
    assert cy.page.path == "/enroll"
    assert cy.visitor.open("/security").path == "/enroll"
    cy.enroll()
    cy.assert_signed_in()
    assert "new_password" not in plain_visitor().open(link, expect={403, 404, 410}).fields
    cy.sign_out()
    cy.sign_in()
    # No administrator: the console is not there.
    cy.visitor.open("/admin", expect={403, 404})


def test_a_reset_by_the_administrator_ends_in_enrollment_and_kills_what_was_before(
    ada: Person, new_person: NewPerson, new_visitor: NewVisitor, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    old_phone, old_codes = bo.phone, bo.recovery_codes
    ada.act_on(bo.name, "reset")
    bo.assert_signed_out()
    back = bo.at(new_visitor())
    assert back.give_password().path == "/enroll"
    back.enroll()
    assert not set(back.recovery_codes) & set(old_codes)
    back.assert_signed_in()
    back.sign_out()
    back.give_password()
    new_phone, back.phone = back.phone, old_phone
    assert back.give_code().path == "/sign-in/code"
    assert back.give_code(old_codes[1]).path == "/sign-in/code"
    back.phone = new_phone
    assert back.give_code().path == "/security"


def test_the_only_administrator_gets_back_in_from_the_shell(
    ada: Person, server: Server, new_person: NewPerson, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    lost = bo.at(plain_visitor())
    lost.accept(reset_link(server, bo.name), new_password=False)
    lost.enroll()
    lost.sign_out()
    lost.sign_in()


def test_a_disabled_person_is_out_at_once_and_back_when_enabled(
    ada: Person, new_person: NewPerson, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    bo.sign_in()
    ada.act_on(bo.name, "disable")
    bo.assert_signed_out()
    bo.visitor.open("/sign-in")
    refused = bo.visitor.send(name=bo.name, password=bo.password, expect={403})
    assert leads_to(refused, "/sign-in/help")
    ada.act_on(bo.name, "enable")
    bo.sign_in()


def test_an_unlocked_person_who_was_under_attack_needs_one_code_again(
    ada: Person, new_person: NewPerson, plain_visitor: NewVisitor
) -> None:
    bo = new_person(plain_visitor())
    guesser = bo.at(plain_visitor())
    guesser.give_password()
    for _ in range(4):
        guesser.give_code(guesser.wrong_code())
    bo.give_password()
    assert bo.give_code(bo.code()).alert
    ada.act_on(bo.name, "unlock")
    bo.give_code()
    bo.assert_signed_in()
