"""The address without a path: on to where the person is."""

from __future__ import annotations

from starlette.responses import Response

from twofold.server.pages.visit import Visit

HOME = "/security"


async def show_home(visit: Visit) -> Response:
    """To one's own security, or to signing in."""
    if visit.bearer is None:
        return visit.go("/sign-in")
    return visit.go({"pending": "/sign-in/code", "enrolling": "/enroll", "full": HOME}[visit.session.level])
