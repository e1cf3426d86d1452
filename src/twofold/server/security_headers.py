"""The headers that go out with every answer, errors included: what a browser may do with it, which is little."""

from __future__ import annotations

HSTS_S = 2 * 365 * 86_400

_ALWAYS = {
    # Nothing from anywhere: no page needs more yet, and an answer of the API opened as a page runs nothing.
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    # Secrets are shown once: no cache, shared or the browser's own, may show them again.
    "cache-control": "no-store",
}


def security_headers(public_url: str) -> list[tuple[bytes, bytes]]:
    """Names and values as ASGI wants them; HSTS only where people come over https."""
    headers = dict(_ALWAYS)
    if public_url.startswith("https:"):
        headers["strict-transport-security"] = f"max-age={HSTS_S}; includeSubDomains"
    return [(name.encode(), value.encode()) for name, value in headers.items()]
