"""Every door of an application, tried: whether the gate stands before it. `twofold check` prints what is found.

Each is asked for once, by a GET without cookies and in this process, while the gate refuses everybody and says so
(`PROBING`): whatever answers otherwise was reached without it. What was opened on purpose is not asked for.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterable
from typing import Any, Literal
from urllib.parse import urlsplit

import msgspec

from twofold.errors import ConfigurationError
from twofold.integrations.answers import CLOSED
from twofold.integrations.asgi import REASON
from twofold.integrations.guard import PROBING
from twofold.integrations.knocking import knock_asgi, knock_wsgi
from twofold.integrations.routes import Door, is_asgi, list_doors

State = Literal["gated", "open on purpose", "not gated"]

#: How the gate is known: by a header, or by why it closes a web socket.
_MARKS = {*CLOSED.headers[-1:], ("reason", REASON)}


class Finding(msgspec.Struct, frozen=True):
    """A door, and what stands before it; `detail` says what answered where the gate does not."""

    route: str
    methods: tuple[str, ...]
    state: State
    detail: str = ""


def examine(app: Any, doors: Iterable[Door] | None = None, *, url: str = "http://localhost") -> list[Finding]:
    """Try all doors of a WSGI or ASGI application, or those that are given; requests come for the origin `url`.

    Raises `ConfigurationError` where there is no gate at all; then no view was called.
    """
    known = list(list_doors(app) if doors is None else doors)
    token = PROBING.set(True)
    try:
        # Nothing is there, so without a gate nothing happens.
        nowhere = f"/{secrets.token_hex(8)}"
        if all(_ask(app, Door(place + nowhere, ""), url) for place in {"", *(door.place for door in known)}):
            raise ConfigurationError("there is no gate before this application: SecondFactor(app, person=…) is missing")
        return [_try(app, door, url) for door in known]
    finally:
        PROBING.reset(token)


def _try(app: Any, door: Door, url: str) -> Finding:
    methods = ("WEBSOCKET",) if door.is_socket else door.methods
    if door.is_open:
        return Finding(door.route, methods, "open on purpose")
    answered = _ask(app, door, url)
    return Finding(door.route, methods, "not gated" if answered else "gated", answered)


def _ask(app: Any, door: Door, url: str) -> str:
    """What answered in place of the gate; "" if it was the gate."""
    url = f"{urlsplit(url).scheme}://{door.host}" if door.host else url
    try:
        if is_asgi(app):
            status, headers = asyncio.run(knock_asgi(app, door.path, url, is_socket=door.is_socket))
        else:
            status, headers = knock_wsgi(app, door.path, url)
    except Exception as fault:  # noqa: BLE001 - whatever it is, it was not the gate
        return f"{type(fault).__name__}: {fault}".partition("\n")[0]
    is_gate = any((name.lower(), value) in _MARKS for name, value in headers)
    return "" if is_gate else status
