"""Networks that are refused, by a limit or by an administrator: behind a proxy that is trusted to name addresses."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.forms import FormVisitor, OpenForms
from tests.people import NewPerson, Person
from tests.servers import Clock, Server, running

WRONG_PASSWORD = "violet harbour 1927"
From = Callable[[str], FormVisitor]


@pytest.fixture(scope="module")
def server(folder: Path, clock: Clock) -> Iterator[Server]:
    with running(folder / "data", test_clock=str(clock.path), trusted_proxies="127.0.0.1/32") as started:
        yield started


@pytest.fixture
def visitor_from(server: Server, open_forms: OpenForms) -> From:
    """Give a function from an address to a person there."""
    url = f"http://localhost:{server.port}"
    return lambda address: open_forms(url, **{"x-forwarded-for": f"192.0.2.99, {address}"})


def test_a_network_that_tries_too_many_passwords_is_refused_shown_and_let_in_again(
    ada: Person, new_person: NewPerson, visitor_from: From, clock: Clock
) -> None:
    inside = new_person(visitor_from("198.51.100.7"))
    inside.sign_in()
    known = new_person(visitor_from("198.51.100.7"))
    known.sign_in()
    known.sign_out()
    stranger = visitor_from("198.51.100.7")
    answers = []
    while len(answers) < 120 and 429 not in answers:
        stranger.open("/sign-in")
        answers.append(stranger.send(name=f"nobody{len(answers) // 5}", password=WRONG_PASSWORD).status)
    assert answers[-1] == 429
    assert 90 <= len(answers) <= 101
    assert_refused(stranger)
    assert_refused(visitor_from("198.51.100.7"))
    # Not for everybody else, for whoever is signed in, or for a browser that was here before.
    assert visitor_from("198.51.100.8").open("/sign-in").status == 200
    inside.assert_signed_in()
    known.sign_in()

    ada.visitor.open("/admin/networks")
    assert "198.51.100.7" in ada.page.root.only("table").text
    ada.visitor.send(to="/admin/networks/lift")
    assert stranger.open("/sign-in").status == 200


def test_a_network_is_refused_by_hand_with_a_fresh_code_until_its_time_is_over(
    ada: Person, new_person: NewPerson, visitor_from: From, clock: Clock
) -> None:
    new_person(visitor_from("198.51.100.1"))
    stranger = visitor_from("203.0.113.9")
    ada.visitor.open("/admin/networks")
    ada.visitor.send(to="/admin/networks", network="203.0.113.0/24", hours="1", code=ada.wrong_code())
    assert ada.page.alert
    assert stranger.open("/sign-in").status == 200
    ada.visitor.send(to="/admin/networks", network="203.0.113.0/24", hours="1", code=ada.fresh_code())
    assert "203.0.113.0/24" in ada.page.root.only("table").text
    clock.advance(4)
    assert_refused(stranger)
    clock.advance(3600)
    assert stranger.open("/sign-in").status == 200


def assert_refused(visitor: FormVisitor) -> None:
    """Every page that is open to strangers says so, and for how long."""
    for path in ("/", "/sign-in", "/sign-in/help", "/setup?token=x", "/link?token=x"):
        assert visitor.open(path).status == 429
        assert int(visitor.page.headers["retry-after"]) > 14 * 60
