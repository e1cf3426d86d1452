"""People on the pages: what they know and hold, and the steps that every journey is made of, whatever they browse with.

A step says where it must end and nothing about wording, so that sentences can be polished without touching a journey.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Self

import pyotp
import pytest
from tests.browsers import BrowserVisitor, OpenBrowser
from tests.forms import FormVisitor, OpenForms
from tests.pages import Page
from tests.servers import STEP_S, Clock, Phone, Server

Visitor = FormVisitor | BrowserVisitor

PASSWORD = "violet harbour 1926"
RECOVERY_CODE = re.compile(r"[0-9A-HJKMNP-TV-Z]{4}(?:-[0-9A-HJKMNP-TV-Z]{4}){4}")
LINK = re.compile(r"http://localhost:\d+(/(?:setup|link)\?token=[\w.~-]*[\w-])")


@dataclass
class Person:
    """Somebody at a browser. `clock` is the server's; `phone_behind_s` is how far the phone's own is behind it."""

    name: str
    visitor: Visitor
    clock: Clock
    password: str = PASSWORD
    phone: Phone | None = None
    recovery_codes: list[str] = field(default_factory=list)
    phone_behind_s: int = 0

    @property
    def page(self) -> Page:
        """What the browser shows now."""
        return self.visitor.page

    def at(self, visitor: Visitor) -> Self:
        """The same person at another browser."""
        return replace(self, visitor=visitor)

    # What the phone shows.

    def code(self, steps: int = 0) -> str:
        """The code of now, or of `steps` steps from now."""
        assert self.phone is not None
        return self.phone.code(self.clock.now_s - self.phone_behind_s + steps * STEP_S)

    def fresh_code(self) -> str:
        """The code of the next step: waits for it, as nobody can use a code twice."""
        self.clock.advance(STEP_S)
        return self.code()

    def three_codes(self) -> str:
        """Three codes in a row, none of them used before."""
        self.clock.advance(3 * STEP_S)
        return " ".join(self.code(steps) for steps in (-2, -1, 0))

    def wrong_code(self) -> str:
        """A code that the phone shows at no time within an hour."""
        near = {self.code(steps) for steps in range(-120, 121)}
        return next(code for number in range(10**6) if (code := f"{number:06d}") not in near)

    # Enrollment.

    def set_up(self, link: str) -> Page:
        """First run: become the administrator; ends where a first way is chosen."""
        self.visitor.open(link)
        page = self.visitor.send(name=self.name, new_password=self.password)
        assert page.path == "/enroll", page
        return page

    def accept(self, link: str, *, new_password: bool = True) -> Page:
        """Follow a one-time link; ends where a way is chosen."""
        self.visitor.open(link)
        page = self.visitor.send(**({"new_password": self.password} if new_password else {}))
        assert page.path == "/enroll", page
        return page

    def begin_app(self) -> Page:
        """Choose an authenticator app, and type the key that the page shows into a phone."""
        page = self.visitor.send(press="factor=totp")
        assert page.path == "/enroll/totp", page
        self.phone = Phone(self.name, page.secret)
        return page

    def prove_app(self, **fields: str) -> Page:
        """Type the code that the new phone shows; ends at recovery codes if there were none before, or at the end."""
        return self.visitor.send(code=self.code(), **fields)

    def keep_codes(self) -> Page:
        """Write down the recovery codes that the page shows, and say so; ends at the end of enrollment."""
        self.recovery_codes = self.page.recovery_codes
        assert len(self.recovery_codes) == 10, self.page
        assert all(RECOVERY_CODE.fullmatch(code) for code in self.recovery_codes)
        page = self.visitor.send(saved=True)
        assert page.path == "/enroll/done", page
        return page

    def enroll(self) -> Page:
        """The whole of a first enrollment; ends at its end, signed in."""
        self.begin_app()
        self.prove_app()
        return self.keep_codes()

    def replace_phone(self) -> Page:
        """ "I have a new phone", from the security page: up to the key that the new phone is given."""
        page = self.visitor.open("/security")
        link = next((link for link in page.links if "replaces=" in link), None)
        self.visitor.open(link) if link else self.visitor.send(press="replaces")
        if "code" in self.page.fields:
            self.visitor.send(code=self.fresh_code())
        return self.begin_app()

    # Signing in and out.

    def give_password(self, password: str | None = None) -> Page:
        """The first step of signing in, from wherever the browser is."""
        if self.visitor.path != "/sign-in" or "password" not in self.page.fields:
            self.visitor.open("/sign-in")
        return self.visitor.send(name=self.name, password=password or self.password)

    def give_code(self, code: str | None = None) -> Page:
        """The second step, by an app code (a fresh one unless told) or a recovery code."""
        return self.visitor.send(code=self.fresh_code() if code is None else code)

    def give_three_codes(self, codes: str | None = None) -> Page:
        """The second step while somebody is guessing: three codes in a row, as one answer."""
        return self.visitor.send(codes=codes or self.three_codes())

    def sign_in(self) -> Page:
        """Both steps; ends at the security page."""
        assert self.give_password().path == "/sign-in/code", self.page
        page = self.give_code()
        assert page.path == "/security", page
        return page

    def sign_out(self) -> Page:
        """End the session, and see that it has ended."""
        self.visitor.open("/sign-out")
        self.visitor.send(to="/sign-out")
        return self.assert_signed_out()

    def authenticator_paths(self) -> list[str]:
        """The pages of one's authenticators, one each."""
        links = self.visitor.open("/security").links
        return list(dict.fromkeys(link for link in links if re.fullmatch(r"/security/authenticators/[^/?]+", link)))

    def guess(self) -> None:
        """What somebody does who knows the password and has no phone: guess until nothing is left of the budget."""
        for _ in range(2):
            self.visitor.open("/sign-in")
            self.give_password()
            for _ in range(5):
                self.give_code(self.wrong_code())
                self.clock.advance(60)

    # As an administrator.

    def invite(self, name: str) -> str:
        """Invite somebody; path and query of the link that the page shows."""
        if self.visitor.open("/admin/invite").path != "/admin/invite":
            self.sign_in()
            self.visitor.open("/admin/invite")
        return shown_link(self.visitor.send(name=name, code=self.fresh_code()))

    def act_on(self, name: str, action: str) -> Page:
        """Unlock, reset, disable or enable somebody; what the page says then."""
        path = f"/admin/people/{name}"
        if self.visitor.open(path).path != path:
            self.sign_in()
        why = {"reason": "called back"} if "reason" in self.visitor.open(f"{path}/{action}").fields else {}
        return self.visitor.send(to=f"{path}/{action}", code=self.fresh_code(), **why)

    # Where somebody stands.

    def assert_signed_in(self) -> Page:
        page = self.visitor.open("/security")
        assert (page.path, page.status) == ("/security", 200), page
        return page

    def assert_signed_out(self) -> Page:
        """Led to sign in; or told, once, that the session is over, with the way to sign in."""
        page = self.visitor.open("/security")
        assert page.path == "/sign-in" or (page.status == 401 and leads_to(page, "/sign-in")), page
        return page


def setup_link(server: Server) -> str:
    """Path and query of a new set-up link; the one before is void."""
    return _link_in(server.command("setup-link").stdout)


def reset_link(server: Server, name: str) -> str:
    """Path and query of the link that the operator makes for somebody who lost everything."""
    made = server.command("account", "reset", name)
    assert made.returncode == 0, made.stderr
    return _link_in(made.stdout)


def shown_link(page: Page) -> str:
    """Path and query of the one-time link that a page shows to an administrator."""
    return _link_in(page.text + " ".join(control["value"] for control in page.root.all("input")))


def _link_in(text: str) -> str:
    found = LINK.search(text)
    assert found is not None, f"no link in: {text}"
    return found[1]


def leads_to(page: Page, path: str) -> bool:
    """Whether a link of the page goes there."""
    return any(link.partition("?")[0] == path for link in page.links)


def waiting_seconds(page: Page) -> int:
    """How long its warning says to wait, in seconds."""
    found = re.search(r"(\d+)\s*(?:s\b|sec)", page.alert)
    assert found is not None, f"it does not say how long: {page.alert}"
    return int(found[1])


def phone_of_uri(name: str, uri: str) -> Phone:
    """The phone that scanned a QR code."""
    scanned = pyotp.parse_uri(uri)
    assert isinstance(scanned, pyotp.TOTP)
    return Phone(name, scanned.secret)


NewVisitor = Callable[[], Visitor]
NewPerson = Callable[..., Person]


@pytest.fixture(params=["forms", "keyboard"])
def new_visitor(
    request: pytest.FixtureRequest, server: Server, open_forms: OpenForms, open_browser: OpenBrowser
) -> NewVisitor:
    """Give a function to a new browser at `server`. A test that asks for it is told twice: with plain forms, and in
    Chromium by keyboard alone. (By mouse all pages are walked in `screens.py`.)"""
    url = f"http://localhost:{server.port}"
    if request.param == "forms":
        return lambda: open_forms(url)
    return lambda: open_browser(url, keyboard=request.param == "keyboard", javascript=request.param != "no script")


@pytest.fixture
def plain_visitor(server: Server, open_forms: OpenForms) -> NewVisitor:
    """As `new_visitor`, told once, with plain forms: for the byways of a journey."""
    return lambda: open_forms(f"http://localhost:{server.port}")


@pytest.fixture(scope="module")
def ada(server: Server, clock: Clock) -> Iterator[Person]:
    """The administrator of the server of a file, signed in without JavaScript."""
    with closing(FormVisitor(f"http://localhost:{server.port}")) as visitor:
        person = Person("ada", visitor, clock)
        person.set_up(setup_link(server))
        person.enroll()
        yield person


@pytest.fixture
def new_person(ada: Person, server: Server, clock: Clock) -> Iterator[NewPerson]:
    """Give a function from a name and a visitor to an invited person with an app and recovery codes, whose visitor has
    never been at the server: enrollment was elsewhere. Limits of earlier tests are over, and a step has just begun."""
    clock.advance(15 * 60 + -clock.now_s % STEP_S)
    places: list[FormVisitor] = []

    def enroll_one(visitor: Visitor, name: str = "") -> Person:
        places.append(FormVisitor(f"http://localhost:{server.port}"))
        person = Person(name or new_name(), places[-1], clock)
        person.accept(ada.invite(person.name))
        person.enroll()
        return person.at(visitor)

    yield enroll_one
    for place in places:
        place.close()


def new_name() -> str:
    """A name that nobody has yet."""
    return f"person{next(_numbers)}"


_numbers = itertools.count(1)
