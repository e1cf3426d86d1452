"""Acting with a passkey in a real browser: on one's own security, and on other people as an administrator."""

import pytest
from tests.browsers import Authenticator, BrowserVisitor, OpenBrowser, assert_accessible
from tests.people import NewPerson, Person
from tests.servers import Clock, Server

NEW_PASSWORD = "amber lighthouse 2031"


@pytest.fixture(params=[False, True], ids=["mouse", "keyboard"])
def visitor(request: pytest.FixtureRequest, server: Server, open_browser: OpenBrowser) -> BrowserVisitor:
    """A new browser at the server, with a mouse or without one."""
    return open_browser(f"http://localhost:{server.port}", keyboard=request.param)


def add_passkey(person: Person, visitor: BrowserVisitor, label: str) -> Authenticator:
    """The browser's own authenticator, and a passkey that it made after a code of the app was shown. It asks nobody
    to touch it until told: else it would sign in by itself wherever that is offered."""
    authenticator = Authenticator(visitor, defaultBackupEligibility=True, defaultBackupState=True)
    visitor.open("/enroll")
    visitor.send(code=person.fresh_code())
    visitor.send(press="factor=webauthn")
    assert visitor.show_passkey(label=label).path == "/enroll/done"
    authenticator.be_touched(False)
    return authenticator


def test_everything_about_ones_security_is_done_with_a_passkey_alone(
    visitor: BrowserVisitor, new_person: NewPerson
) -> None:
    bo = new_person(visitor)
    bo.sign_in()
    authenticator = add_passkey(bo, visitor, "Laptop")
    authenticator.be_touched()
    phone, laptop = bo.authenticator_paths()
    visitor.open(f"{phone}/remove")
    assert_accessible(visitor.tab)
    assert visitor.show_passkey().path == "/security"
    # From here on nothing shows codes any more.
    page = visitor.open("/security/recovery-codes")
    assert "code" not in page.fields
    assert_accessible(visitor.tab)
    assert len(visitor.show_passkey().recovery_codes) == 10
    visitor.open("/security/password")
    page = visitor.show_passkey(password=bo.password, new_password=NEW_PASSWORD)
    assert (page.path, page.query) == ("/security", "done=password")
    visitor.open(laptop)
    page = visitor.send(label="Work laptop")
    assert "Work laptop" in page.text
    assert "Synced between your devices" in page.text
    assert visitor.open("/security/test").heading == "You have no codes to test"


def test_somebody_else_at_the_desk_cannot_act_without_the_person(
    visitor: BrowserVisitor, new_person: NewPerson
) -> None:
    bo = new_person(visitor)
    bo.sign_in()
    authenticator = add_passkey(bo, visitor, "Laptop")
    authenticator.take_away()
    phone, _ = bo.authenticator_paths()
    visitor.open(f"{phone}/remove")
    Authenticator(visitor)  # one that holds nothing of hers
    assert visitor.show_passkey_in_vain()
    assert phone in bo.authenticator_paths()
    visitor.open(f"{phone}/remove")
    assert visitor.send(code=bo.fresh_code()).path == "/security"
    assert phone not in bo.authenticator_paths()


def test_the_browser_is_told_of_removed_passkeys(
    server: Server, open_browser: OpenBrowser, new_person: NewPerson
) -> None:
    visitor = open_browser(f"http://localhost:{server.port}")
    visitor.tab.add_init_script(
        "window.told = []; for (const name of ['signalAllAcceptedCredentials', 'signalCurrentUserDetails'])"
        " PublicKeyCredential[name] = async (what) => { window.told.push([name, what]); };"
    )
    bo = new_person(visitor)
    bo.sign_in()
    authenticator = add_passkey(bo, visitor, "Laptop")
    (held,) = authenticator.credentials
    _, laptop = bo.authenticator_paths()

    def accepted() -> object:
        visitor.tab.wait_for_function("told.length === 2")
        told = dict(visitor.tab.evaluate("told"))
        assert told["signalCurrentUserDetails"]["name"] == bo.name
        assert told["signalAllAcceptedCredentials"]["rpId"] == "localhost"
        return told["signalAllAcceptedCredentials"]["allAcceptedCredentialIds"]

    visitor.open("/security")
    (told,) = accepted()  # type: ignore[misc]
    assert told.replace("-", "+").replace("_", "/") == held["credentialId"].rstrip("=")
    visitor.open(f"{laptop}/remove")
    visitor.send(code=bo.fresh_code())
    assert accepted() == []


def test_an_administrator_who_has_a_passkey_administers_with_it_and_gets_back_in_without(
    visitor: BrowserVisitor, clock: Clock, new_person: NewPerson, ada: Person
) -> None:
    cy = new_person(visitor)
    bo = new_person(visitor)
    ada.act_on(cy.name, "make-administrator")
    clock.advance(60)
    cy.sign_in()
    assert visitor.open("/admin").path == "/admin"
    authenticator = add_passkey(cy, visitor, "Key")
    cy.sign_out()
    cy.give_password()
    cy.give_code()
    # A code signs in, and administers nothing.
    assert visitor.open(f"/admin/people/{bo.name}/disable").path == "/admin/passkey"
    assert_accessible(visitor.tab)
    authenticator.be_touched()
    page = visitor.show_passkey()
    assert page.path == f"/admin/people/{bo.name}/disable"
    assert "code" not in page.fields
    assert_accessible(visitor.tab)
    page = visitor.show_passkey()
    assert (page.path, page.query) == (f"/admin/people/{bo.name}", "done=disable")
    visitor.open("/admin/invite")
    page = visitor.show_passkey(name=f"{cy.name}-friend")
    assert "Send this link" in page.heading
    # The key is lost.
    authenticator.take_away()
    cy.sign_out()
    cy.give_password()
    cy.give_code()
    assert "recovery code" in visitor.open("/admin").text
    key = cy.authenticator_paths()[1]
    visitor.open(f"{key}/remove?letters=1")
    assert visitor.send(code=cy.recovery_codes[0]).path == "/security"
    visitor.open(f"/admin/people/{bo.name}/enable")
    assert visitor.send(code=cy.fresh_code()).query == "done=enable"
