"""Passkeys from the first to the last page, in Chromium with authenticators of its own, by mouse and by keyboard."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.browsers import PHONE, Authenticator, BrowserVisitor, OpenBrowser
from tests.forms import OpenForms
from tests.people import NewPerson, Person, setup_link
from tests.servers import Clock, Server, running

ACTIVITY = "/security/activity"
#: The kinds of authenticators that Chromium can be, with what each can do.
KINDS = {
    "a laptop with a fingerprint": {},
    "a synced passkey": {"defaultBackupEligibility": True, "defaultBackupState": True},
    "one that could be synced": {"defaultBackupEligibility": True},
    "a key with a PIN": {"transport": "usb"},
    "a key with a PIN that keeps nothing": {"transport": "usb", "hasResidentKey": False},
    "a key that only takes a touch": {"transport": "usb", "hasResidentKey": False, "hasUserVerification": False},
    "an old key": {"protocol": "u2f", "transport": "usb", "hasResidentKey": False, "hasUserVerification": False},
    "a card": {"transport": "nfc"},
    "a key by Bluetooth": {"transport": "ble"},
    "the phone beside it": {"transport": "hybrid"},
}


@pytest.fixture(params=["mouse", "keyboard"])
def visitor(request: pytest.FixtureRequest, server: Server, open_browser: OpenBrowser) -> BrowserVisitor:
    return open_browser(f"http://localhost:{server.port}", keyboard=request.param == "keyboard")


@pytest.fixture
def new_browser(server: Server, open_browser: OpenBrowser) -> Callable[..., BrowserVisitor]:
    return lambda **options: open_browser(f"http://localhost:{server.port}", **options)


def add_passkey(person: Person, **fields: str) -> None:
    """Add a passkey from where a way is chosen; ends at its end."""
    assert person.visitor.send(press="factor=webauthn").path == "/enroll/webauthn"
    visitor = person.visitor
    assert isinstance(visitor, BrowserVisitor)
    if visitor.show_passkey(**fields).recovery_codes:
        person.keep_codes()
    assert visitor.path == "/enroll/done", visitor.page


def choose_in_name_box(visitor: BrowserVisitor, aim: str, *, query: str = "") -> None:
    """Choose the passkey that the browser offers in the name box; where that leads. An authenticator that is touched
    from the start is taken at once."""
    visitor.tab.goto(f"{visitor.url}/sign-in{query}")
    visitor.tab.wait_for_url(f"**{aim}")


def add_to(visitor: BrowserVisitor, new_person: NewPerson, **options: Any) -> tuple[Authenticator, Person]:
    """Somebody with an app who adds a passkey after signing in with a code; ends at its end."""
    authenticator = Authenticator(visitor, **options)
    authenticator.be_touched(False)
    person = new_person(visitor)
    person.give_password()
    person.give_code()
    visitor.open("/enroll")
    visitor.send(code=person.fresh_code())
    authenticator.be_touched()
    add_passkey(person)
    return authenticator, person


def remove_passkey(person: Person) -> None:
    """Remove what was added last."""
    person.visitor.open(f"{person.authenticator_paths()[-1]}/remove")
    person.visitor.send(code=person.fresh_code())


def test_a_passkey_is_all_that_the_first_administrator_needs(
    tmp_path_factory: pytest.TempPathFactory, open_browser: OpenBrowser
) -> None:
    folder = tmp_path_factory.mktemp("first run")
    clock = Clock(folder / "clock")
    with running(folder / "data", test_clock=str(clock.path)) as server:
        visitor = open_browser(f"http://localhost:{server.port}", keyboard=True)
        authenticator = Authenticator(visitor)
        ada = Person("ada", visitor, clock)
        page = ada.set_up(setup_link(server))
        assert page.text.index("Passkey or security key") < page.text.index("Authenticator app")
        add_passkey(ada)
        ada.assert_signed_in()
        authenticator.be_touched(False)
        ada.sign_out()
        authenticator.be_touched()
        assert visitor.show_passkey().path == "/security"


def test_with_an_app_there_already_a_passkey_is_added_and_then_asked_for(
    visitor: BrowserVisitor, new_person: NewPerson
) -> None:
    bo = new_person(visitor)
    bo.sign_in()
    bo.sign_out()
    authenticator = Authenticator(visitor)
    authenticator.be_touched(False)
    bo.give_password()
    # This browser is known, could do without a code, and says so.
    assert bo.give_code().path == "/enroll/offer"
    authenticator.be_touched()
    add_passkey(bo, label="Laptop")
    authenticator.be_touched(False)
    bo.sign_out()
    page = bo.give_password()
    assert page.heading == "Use your passkey"
    authenticator.be_touched()
    assert visitor.show_passkey().path == "/security"


def test_the_offer_can_wait(visitor: BrowserVisitor, new_person: NewPerson) -> None:
    Authenticator(visitor, automaticPresenceSimulation=False)
    bo = new_person(visitor)
    visitor.open(f"/sign-in?next={ACTIVITY}")
    visitor.send(name=bo.name, password=bo.password)
    assert bo.give_code().path == "/enroll/offer"
    assert visitor.follow(ACTIVITY).path == ACTIVITY
    bo.sign_out()
    assert bo.sign_in().path == "/security"


def test_a_browser_that_cannot_is_offered_nothing(visitor: BrowserVisitor, new_person: NewPerson) -> None:
    Authenticator(visitor, transport="usb", automaticPresenceSimulation=False)
    assert new_person(visitor).sign_in().path == "/security"


def test_the_name_box_offers_the_passkey_and_nothing_is_typed(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson
) -> None:
    visitor = new_browser(size=PHONE)
    authenticator, bo = add_to(visitor, new_person)
    authenticator.be_touched(False)
    bo.sign_out()
    authenticator.be_touched()
    choose_in_name_box(visitor, ACTIVITY, query=f"?next={ACTIVITY}")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_authenticator_is_the_second_step(
    kind: str, new_browser: Callable[..., BrowserVisitor], new_person: NewPerson
) -> None:
    """And alone, what knows its user and keeps who that is."""
    visitor = new_browser()
    authenticator, bo = add_to(visitor, new_person, **KINDS[kind])
    assert len(authenticator.credentials) == 1
    authenticator.be_touched(False)
    bo.sign_out()
    bo.give_password()
    authenticator.be_touched()
    assert visitor.show_passkey().path == "/security"
    authenticator.be_touched(False)
    bo.sign_out()
    authenticator.be_touched()
    if authenticator.credentials[0]["isResidentCredential"]:
        assert visitor.show_passkey().path == "/security"
    else:
        assert visitor.show_passkey_in_vain()


def test_a_key_without_a_pin_is_no_way_in_alone(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson
) -> None:
    visitor = new_browser()
    _, bo = add_to(visitor, new_person, **KINDS["a key that only takes a touch"])
    bo.sign_out()
    assert visitor.show_passkey_in_vain()
    assert visitor.path == "/sign-in"
    bo.give_password()
    assert visitor.show_passkey().path == "/security"


def test_the_wrong_finger_is_told_and_the_right_one_lets_in(visitor: BrowserVisitor, new_person: NewPerson) -> None:
    authenticator, bo = add_to(visitor, new_person)
    authenticator.know_user(False)
    bo.sign_out()
    assert visitor.show_passkey_in_vain() == "It was canceled, or it took too long. Nothing was changed."
    assert "Try again" in visitor.page.text
    authenticator.know_user()
    assert visitor.show_passkey().path == "/security"


def test_a_device_that_is_registered_already_is_told_so_and_another_one_can_be_added(
    visitor: BrowserVisitor, new_person: NewPerson
) -> None:
    authenticator, _ = add_to(visitor, new_person)
    visitor.open("/enroll")
    visitor.show_passkey()
    visitor.send(press="factor=webauthn")
    assert "registered for you already" in visitor.show_passkey_in_vain()
    authenticator.take_away()
    Authenticator(visitor, transport="usb")
    assert visitor.show_passkey().path == "/enroll/done"


def test_a_passkey_that_was_removed_here_is_forgotten_by_the_browser(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson
) -> None:
    visitor = new_browser()
    authenticator, bo = add_to(visitor, new_person)
    remove_passkey(bo)
    authenticator.wait_until_empty()


def test_a_passkey_that_was_removed_elsewhere_is_refused_and_forgotten_by_the_browser(
    new_browser: Callable[..., BrowserVisitor], new_person: NewPerson, open_forms: OpenForms
) -> None:
    visitor = new_browser()
    authenticator, bo = add_to(visitor, new_person)
    authenticator.be_touched(False)
    bo.sign_out()
    elsewhere = bo.at(open_forms(visitor.url))
    elsewhere.sign_in()
    remove_passkey(elsewhere)
    authenticator.be_touched()
    choose_in_name_box(visitor, "/sign-in/passkey")
    assert "not known here" in visitor.tab.locator(".problem").inner_text()
    authenticator.wait_until_empty()
