"""Twofold's pages inside another application: the same table of pages without what belongs to a site of its own.

The application says who signed in (`Vouched`); everything after that is as on Twofold's own pages. A request comes as
an ASGI scope whose path is already without the prefix, and the answer goes back whole: nothing here streams.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response
from starlette.types import ASGIApp, Message, Scope

from twofold.bootstrap import Deployment
from twofold.core.sign_in import Vouched
from twofold.errors import TwofoldError
from twofold.relying_party import find_own
from twofold.server.addresses import Addresses
from twofold.server.app import build_house
from twofold.server.host import OUTSIDE, Host
from twofold.server.pages import ANYBODY, FULL, PAGES
from twofold.server.pages.door import door_routes
from twofold.server.pages.failures import Failures
from twofold.server.pages.gate import Page, page_route, stranger, tell_error
from twofold.server.pages.home import HOME
from twofold.server.pages.house import House
from twofold.server.pages.step_up import FRESH, show_fresh, take_fresh
from twofold.server.pages.visit import NAME, VOUCHED, Visit, spell_query
from twofold.server.security_headers import SecurityHeaders
from twofold.server.static import static_routes
from twofold.server.templates import Templates
from twofold.server.words import Sentence

#: What only a site of its own has: set-up, passwords, other people.
_NOT_HERE = ("/setup", "/link", "/sign-in", "/sign-in/passkey", "/sign-out", "/security/password", "/admin")


log: logging.Logger = logging.getLogger("twofold")


class Whole(msgspec.Struct, frozen=True):
    """An answer as a whole."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


class EmbeddedPages:
    """The pages of one deployment under one prefix of the application at `public_url`."""

    def __init__(
        self, deployment: Deployment, host: Host, public_url: str, *, logo: str | None = None, has_layout: bool = False
    ) -> None:
        house = build_house(deployment, public_url, Addresses(deployment.settings.proxy_networks))
        site = msgspec.structs.replace(
            house.site,
            home=OUTSIDE + "/",
            sign_out=None if host.sign_out_url is None else "/sign-out",
            logo=None if logo is None else OUTSIDE + logo,
            has_passwords=False,
        )
        house = msgspec.structs.replace(
            house,
            relying_party=find_own(public_url),
            templates=Templates(is_embedded=has_layout),
            site=site,
            host=host,
        )
        self.house: House = house
        failures = Failures(house)
        self._headers = SecurityHeaders(public_url, has_layout=has_layout)
        self._app = Starlette(
            routes=[*static_routes(), *door_routes(house), *(page_route(house, page) for page in _PAGES)],
            exception_handlers={HTTPException: failures.show_refusal, Exception: failures.show_fault},
        )
        self._app.router.redirect_slashes = False

    async def answer(self, scope: Scope, body: bytes, vouched: Vouched | None, name: str = "", **more: object) -> Whole:
        """The answer to one request. `more` are members of the scope that nobody outside can set."""
        inside: dict[str, Any] = {**scope, **more, NAME: name}
        if vouched is not None:
            inside[VOUCHED] = vouched
        return await _collect(self._app, inside, body, self._headers)

    async def tell_error(self, scope: Scope, error: TwofoldError) -> Whole:
        """The page that says why nobody is let in just now."""

        async def show(request: Request) -> Response:
            return tell_error(stranger(self.house, request), error)

        return await _collect(request_response(show), {**scope, "method": "GET"}, b"", self._headers)


async def _collect(app: ASGIApp, scope: MutableMapping[str, Any], body: bytes, headers: SecurityHeaders) -> Whole:
    sent: list[Message] = []
    parts = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await _run(app, scope, receive, send)
    start = sent[0]
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return Whole(start["status"], tuple(headers.complete(start["headers"])), content)


async def _run(
    app: ASGIApp,
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    answered = False

    async def note(message: Message) -> None:
        nonlocal answered
        answered = True
        await send(message)

    try:
        await app(scope, receive, note)
    except Exception:
        # The page that says so was sent; the fault itself is in the log of whoever runs the application.
        if not answered:
            raise
        log.exception("a page failed")


async def _lead_in(visit: Visit) -> Response:
    """Somebody who is nobody yet signs in to the application; who is somebody goes on here."""
    host = visit.house.host
    assert host is not None  # noqa: S101 - these pages are inside an application
    if visit.bearer is None:
        aim = host.at(visit.next_path or HOME)
        beside = "&" if "?" in host.login_url else "?"
        return visit.go(OUTSIDE + host.login_url + spell_query({"next": aim}).replace("?", beside, 1))
    steps = {"pending": "/sign-in/code", "enrolling": "/enroll", "full": HOME}
    return visit.go(steps[visit.session.level] + spell_query({"next": visit.next_path}))


async def _lead_out(visit: Visit) -> Response:
    """Signing out is the application's; where no link does that, it is told."""
    host = visit.house.host
    if host is not None and host.sign_out_url is not None:
        return visit.go(OUTSIDE + host.sign_out_url)
    return visit.tell(
        Sentence("Sign out where you signed in"),
        Sentence(
            "These pages are part of %(name)s. Signing out there ends this as well.", {"name": visit.house.site.name}
        ),
        status=200,
        links=((Sentence("Back"), OUTSIDE + "/"),),
    )


async def _tell_of_password(visit: Visit) -> Response:
    return visit.tell(
        Sentence("Your password is kept elsewhere"),
        Sentence("You change it where you signed in, at %(name)s.", {"name": visit.house.site.name}),
        status=200,
        links=((Sentence("Back"), OUTSIDE + "/"),),
    )


_PAGES = (
    *(page for page in PAGES if page.path not in _NOT_HERE and not page.path.startswith("/admin/")),
    Page("/sign-in", _lead_in, None, ANYBODY),
    Page("/sign-out", _lead_out, None, ANYBODY),
    Page("/security/password", _tell_of_password, None, FULL),
    Page(FRESH, show_fresh, take_fresh, FULL),
)
