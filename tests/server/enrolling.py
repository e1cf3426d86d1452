"""Somebody on the way to another authenticator: the steps that the tests of those pages are made of."""

import httpx
from tests.pages import Page, Value
from tests.server.conftest import URL, Server
from tests.server.visitors import FIREFOX, PASSWORD, Person

from twofold.core.attempt import Context
from twofold.engine import Caller
from twofold.sign_in import Guest

NAME = "ada"
SOMEBODY_ELSE = Caller("somebody else", is_admin=True)
GUEST = Guest(Context(user_agent=FIREFOX))


class Enrolling(Person):
    """`secret` is the key that was typed into the phone last; `urls` are all addresses that were asked for."""

    def __init__(self, server: Server, *, secret: str = "", user_agent: str = FIREFOX) -> None:
        super().__init__(server, NAME, secret=secret, user_agent=user_agent)
        self.urls: list[str] = []
        self.http.event_hooks["request"].append(self._note)

    async def begin(self) -> Page:
        """Choose an app on the page that is shown, and type its key into a phone."""
        page = await self.send(press="factor=totp")
        assert page.path == "/enroll/totp", page
        self.secret = page.secret
        return page

    async def enroll(self) -> Page:
        """Choose an app and prove it."""
        await self.begin()
        return await self.send(code=self.code())

    async def prove_who(self, path: str = "/enroll") -> Page:
        """Open the page, and confirm who it is by a fresh code of the phone."""
        await self.open(path)
        return await self.send(code=self.fresh_code())

    def take_session(self, token: str | None) -> None:
        """Hold a session that did not come from a page."""
        assert token is not None
        self.http.cookies.set("twofold-session", token, domain="localhost.local")

    async def _note(self, request: httpx.Request) -> None:
        self.urls.append(str(request.url))


async def new_ada(server: Server) -> Enrolling:
    """Somebody who gave the password of an account without a second factor."""
    await server.deployment.verifier.accounts.put(NAME)
    await server.deployment.verifier.accounts.set_password(NAME, PASSWORD)
    ada = Enrolling(server)
    assert (await ada.give_password()).path == "/enroll"
    return ada


async def enrolled(ada: Enrolling) -> Enrolling:
    """The same person with an app, ten recovery codes and a full session."""
    await ada.enroll()
    assert (await ada.send(saved=True)).path == "/enroll/done"
    return ada


async def labels(server: Server, state: str = "active") -> list[str]:
    """The labels of the account's apps in this state."""
    view = await server.deployment.verifier.accounts.get(NAME)
    return [a.label for a in view.authenticators if a.factor == "totp" and a.state == state]


async def id_of(server: Server, factor: str = "totp") -> str:
    """The id of the account's first authenticator of this factor."""
    view = await server.deployment.verifier.accounts.get(NAME)
    return next(a.id for a in view.authenticators if a.factor == factor)


def pairs_of(page: Page, action: str, *, without: str = "", **fields: Value) -> list[tuple[str, str]]:
    """What the page's form to this address would send, but for one field."""
    form = page.form(to=action, fields=fields)
    button = form.find_button(None)
    assert button is not None
    return [pair for pair in form.filled(fields, button) if pair[0] != without]


def hidden(page: Page, name: str) -> str:
    """A value that goes with the page's first form that has it."""
    return page.root.all("input", type="hidden", name=name)[0]["value"]


async def refused_posts(person: Enrolling, action: str, pairs: list[tuple[str, str]]) -> list[int]:
    """The statuses of this form when browsers say that it comes from elsewhere."""
    kind = {"content-type": "application/x-www-form-urlencoded"}
    content = str(httpx.QueryParams(tuple(pairs)))
    return [
        (await person.http.post(action, content=content, headers={**kind, **said})).status_code
        for said in (
            {"origin": "https://evil.example"},
            {"origin": "null"},
            {"origin": URL, "sec-fetch-site": "cross-site"},
            {"origin": URL, "sec-fetch-site": "same-site"},
        )
    ]
