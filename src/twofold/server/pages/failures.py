"""Pages for what no page answers: an address that is none, a fault of ours, a Host that is not this site's."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from twofold.server.pages.gate import open_visit, stranger
from twofold.server.pages.house import House
from twofold.server.words import Sentence


class Failures:
    """The last resort of one deployment's pages."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def show_refusal(self, request: Request, error: Exception) -> Response:
        """There is no such page, or it does not take such a request."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        visit = await open_visit(self._house, request)
        response = visit.tell(
            Sentence("There is no such page") if status == 404 else Sentence("This page does not take that"),
            Sentence("The address may be mistyped, or what it led to is gone."),
            status=status,
            links=((Sentence("To the start"), "/"),),
        )
        response.headers.update(getattr(error, "headers", None) or {})
        return await visit.finish(response)

    async def show_fault(self, request: Request, _: Exception) -> Response:
        """Something went wrong here. Nobody looks for a session: that may be what went wrong."""
        return stranger(self._house, request).tell(
            Sentence("This does not work just now"),
            Sentence("Something went wrong on the server. It is in its log."),
            Sentence("Try again in a moment."),
            status=503,
            links=((Sentence("To the start"), "/"),),
        )

    @property
    def tell_foreign(self) -> ASGIApp:
        """To whoever came under another name: where this site is."""

        async def tell(scope: Scope, receive: Receive, send: Send) -> None:
            request, url = Request(scope, receive), self._house.public_url
            host = request.headers.get("host", "")
            response = stranger(self._house, request).show(
                "elsewhere.html",
                status=421,
                title=Sentence("This site has another address"),
                why=Sentence("You opened %(host)s; it answers to %(url)s alone.", {"host": host, "url": url}),
                what_to_do=Sentence(
                    "Open that address. If it is your server and should be another one, start it with %(setting)s,"
                    " spelled as your browser shows it.",
                    {"setting": f"TWOFOLD_PUBLIC_URL={request.url.scheme}://{host}"},
                ),
                links=((Sentence("Open the address of the site"), url),),
                failed=True,
            )
            await response(scope, receive, send)

        return tell
