"""The cookies of Twofold's own pages: their names, and how they are set. None of them is readable by a script.

Over https each wears the prefix `__Host-`, so no other host and no path of this one can set it; over plain http, where
browsers refuse that prefix, it goes without.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from twofold.core.account import KNOWN_BROWSER_TTL_S

SESSION = "twofold-session"
#: The session of a prompt: beside that of whoever is signed in here, and never in its place.
PROMPT = "twofold-prompt"
CSRF = "twofold-csrf"
KNOWN = "twofold-known"
#: That a passkey was offered here after signing in with a code; it is not offered again while the browser keeps this.
OFFERED = "twofold-offered"
OFFERED_TTL_S = 30 * 86_400
#: Longer values are none of ours.
VALUE_MAX = 256
_TTL_S = {KNOWN: KNOWN_BROWSER_TTL_S, OFFERED: OFFERED_TTL_S}


class Cookies:
    """Reads and sets cookies for one PUBLIC_URL; `session` is what that of the session is called."""

    def __init__(self, public_url: str, *, session: str = SESSION) -> None:
        self._is_secure = public_url.startswith("https:")
        self._session = session

    def read(self, request: Request, name: str) -> str | None:
        """The value that came with the request."""
        value = request.cookies.get(self._spell(name))
        return value if value and len(value) <= VALUE_MAX else None

    def put(self, response: Response, name: str, value: str) -> None:
        """Have the browser keep a value: for its time if it has one, else until the browser is closed."""
        response.set_cookie(
            self._spell(name),
            value,
            max_age=_TTL_S.get(name),
            path="/",
            secure=self._is_secure,
            httponly=True,
            samesite="lax",
        )

    def drop(self, response: Response, name: str) -> None:
        """Have the browser forget a value."""
        response.delete_cookie(self._spell(name), path="/", secure=self._is_secure, httponly=True, samesite="lax")

    def _spell(self, name: str) -> str:
        name = self._session if name == SESSION else name
        return f"__Host-{name}" if self._is_secure else name
