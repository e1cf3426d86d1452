"""From the set-up link to the first sign-in: as plain forms, and by keyboard alone."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.forms import FormVisitor, OpenForms
from tests.people import NewVisitor, Person, setup_link
from tests.servers import Clock, Server, running


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    return Clock(tmp_path / "clock")


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[Server]:
    """A server that nobody has set up."""
    with running(tmp_path / "data", test_clock=str(clock.path)) as started:
        yield started


@pytest.mark.parametrize("new_visitor", ["forms", "keyboard", "no script"], indirect=True)
def test_from_the_set_up_link_to_a_sign_in_with_two_factors(
    server: Server, clock: Clock, new_visitor: NewVisitor, plain_visitor: NewVisitor
) -> None:
    visitor = new_visitor()
    assert visitor.open("/").path == "/sign-in"
    assert {"name", "password"} <= visitor.page.fields

    ada = Person("ada", visitor, clock)
    link = setup_link(server)
    ada.set_up(link)
    # Nothing but enrollment is open to an administrator with one factor.
    assert visitor.open("/security").path == "/enroll"
    assert visitor.open("/admin").path == "/enroll"

    visitor.open("/enroll")
    ada.begin_app()
    shown = ada.page
    assert shown.root.all("svg", role="img")
    assert {"code", "label"} <= shown.fields
    # A reload, and a slip of the finger, change nothing about the key.
    assert visitor.reload().secret == shown.secret
    slip = visitor.send(code=ada.wrong_code(), label="my phone")
    assert (slip.path, slip.secret) == ("/enroll/totp", shown.secret)
    assert slip.alert
    assert slip.title.startswith("Error: ")
    # What was typed besides is still there.
    assert next(form for form in slip.forms if "label" in form.fields).control("label")["value"] == "my phone"

    ada.prove_app(label="my phone")
    done = ada.keep_codes()
    assert len(set(ada.recovery_codes)) == 10
    assert "/security" in done.links
    security = visitor.follow("/security")
    assert "my phone" in security.text
    assert "10" in security.text
    for code in ada.recovery_codes:
        assert code not in security.text

    ada.sign_out()
    assert ada.give_password().path == "/sign-in/code"
    assert visitor.open("/security").path == "/sign-in/code"
    visitor.open("/sign-in/code")
    assert ada.give_code().path == "/security"
    assert visitor.open("/admin").path == "/admin"
    # The link was spent.
    stranger = plain_visitor()
    assert not {"name", "new_password"} & stranger.open(link, expect={403, 404, 410}).fields


def test_a_set_up_that_was_left_in_the_middle_goes_on_by_signing_in(
    server: Server, clock: Clock, plain_visitor: NewVisitor
) -> None:
    ada = Person("ada", plain_visitor(), clock)
    ada.set_up(setup_link(server))
    ada.begin_app()

    elsewhere = ada.at(plain_visitor())
    assert elsewhere.give_password().path == "/enroll"
    elsewhere.begin_app()
    elsewhere.prove_app()
    elsewhere.keep_codes()
    elsewhere.assert_signed_in()


def test_names_and_passwords_that_cannot_be_taken_are_explained_beside_what_was_typed(
    server: Server, clock: Clock, plain_visitor: NewVisitor
) -> None:
    visitor = plain_visitor()
    visitor.open(setup_link(server))
    for name, password in (("ada", "short"), ("ada", "password1"), ("a/b", "violet harbour 1926")):
        page = visitor.send(name=name, new_password=password)
        assert page.path == "/setup", page
        assert page.alert
        form = page.form(fields={"name": "", "new_password": ""})
        assert form.control("name")["value"] == name
        # A password is never sent back.
        assert form.control("new_password")["value"] == ""
    assert visitor.send(name="ada", new_password="violet harbour 1926").path == "/enroll"


def test_the_set_up_link_is_needed_and_only_the_newest_one_works(server: Server, open_forms: OpenForms) -> None:
    old, new = setup_link(server), setup_link(server)
    visitor: FormVisitor = open_forms(f"http://localhost:{server.port}")
    for link in ("/setup", "/setup?token=", old):
        assert "new_password" not in visitor.open(link, expect={403}).fields
    assert "new_password" in visitor.open(new).fields
