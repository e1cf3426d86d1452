"""Whether a form was sent from a page of ours: a token bound to this browser and session, and where it came from.

The browser holds a random value in a cookie; each form carries a keyed digest of it and of the session, which nobody
else can make. What browsers themselves say of the origin of a request is checked as well, and neither replaces the
other.
"""

from __future__ import annotations

import base64
import hmac
import secrets
from typing import Protocol

from starlette.requests import Request

FIELD = "csrf"
_SAME_SITE = ("same-origin", "none")


class Digests(Protocol):
    """Keyed digests (`twofold.ports.SealingKeys`)."""

    def index_digest(self, *parts: bytes) -> bytes:
        """A keyed digest over the parts."""
        ...


def new_value() -> str:
    """A fresh value for the cookie: 256 bits."""
    return secrets.token_urlsafe(32)


def make_token(keys: Digests, value: str, session_id: str) -> str:
    """The token of forms for the browser with this value and this session, "" before there is one."""
    digest = keys.index_digest(b"csrf", value.encode("utf-8", "replace"), session_id.encode())
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def is_own_form(request: Request, public_url: str) -> bool:
    """Whether the browser says that the request comes from a page of ours; one that says nothing is not doubted."""
    if request.headers.get("sec-fetch-site", "same-origin") not in _SAME_SITE:
        return False
    return request.headers.get("origin", public_url) == public_url


def is_good_token(keys: Digests, token: str, value: str | None, session_ids: tuple[str, ...]) -> bool:
    """Whether the token was made for this browser and one of these sessions."""
    return value is not None and any(
        hmac.compare_digest(token.encode("utf-8", "replace"), make_token(keys, value, session_id).encode())
        for session_id in session_ids
    )
