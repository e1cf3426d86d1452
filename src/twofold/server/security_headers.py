"""The headers that go out with every answer, errors included: what a browser may do with it, which is little.

No header here or elsewhere opens anything to pages of other origins (CORS).
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from twofold.config import is_loopback

HSTS_S = 2 * 365 * 86_400

Headers = list[tuple[bytes, bytes]]

#: A page takes its scripts, styles and pictures from here, talks to here, and is shown in nobody's frame.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "object-src 'none'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
#: Everything else, opened as if it were a page, does nothing at all.
_POLICY = "default-src 'none'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
_NEEDED = ("publickey-credentials-get", "publickey-credentials-create", "clipboard-write")
_NOT_NEEDED = (
    *("accelerometer", "autoplay", "camera", "clipboard-read", "display-capture", "encrypted-media"),
    *("fullscreen", "gamepad", "geolocation", "gyroscope", "hid", "identity-credentials-get", "idle-detection"),
    *("local-fonts", "magnetometer", "microphone", "midi", "otp-credentials", "payment", "picture-in-picture"),
    *("screen-wake-lock", "serial", "storage-access", "sync-xhr", "usb", "window-management"),
    "xr-spatial-tracking",
)
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": ", ".join([*(f"{name}=(self)" for name in _NEEDED), *(f"{name}=()" for name in _NOT_NEEDED)]),
}


#: Inside another application's layout its own scripts and styles are on the page: what they may do, it says itself.
_LAYOUT_POLICY = "object-src 'none'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"


class SecurityHeaders:
    """The headers for the answers of a server with this public URL, as ASGI wants them. `has_layout`: the pages are
    shown inside another application's layout."""

    def __init__(self, public_url: str, *, has_layout: bool = False) -> None:
        headers = dict(_ALWAYS)
        parts = urlsplit(public_url)
        # Only where people come over https; and for `localhost` it would bind every other program of the machine, as
        # `includeSubDomains` would bind neighbors that are not ours to decide for.
        if parts.scheme == "https" and not is_loopback(parts.hostname):
            headers["strict-transport-security"] = f"max-age={HSTS_S}"
        common = [(name.encode(), value.encode()) for name, value in headers.items()]
        self._for_pages = [
            *common,
            (b"content-security-policy", (_LAYOUT_POLICY if has_layout else _PAGE_POLICY).encode()),
            # Not "no-referrer": under it browsers send the forms of our own pages with `Origin: null`.
            (b"referrer-policy", b"same-origin"),
        ]
        self._for_the_rest = [
            *common,
            (b"content-security-policy", _POLICY.encode()),
            (b"referrer-policy", b"no-referrer"),
        ]

    def complete(self, headers: Sequence[tuple[bytes, bytes]]) -> Headers:
        """The answer's own headers and the rest. Only those of a page let the browser load and send anything."""
        own = dict(headers)
        is_page = own.get(b"content-type", b"").startswith(b"text/html")
        completed = [*headers, *(self._for_pages if is_page else self._for_the_rest)]
        if b"cache-control" not in own:
            # Secrets are shown once: no cache, shared or the browser's own, may show them again.
            completed.append((b"cache-control", b"no-store"))
        return completed
