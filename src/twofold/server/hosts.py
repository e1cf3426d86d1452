"""Which `Host` this server answers to. Nothing is ever made out of that header: it is compared, and that is all."""

from __future__ import annotations

import re
from typing import Literal
from urllib.parse import urlsplit

from starlette.types import Scope

from twofold.config import is_loopback
from twofold.server.problems import Problem

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SHAPE = re.compile(rb"(?:[a-z0-9._~-]{1,255}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?")

Standing = Literal["own", "alias", "foreign"]


class Hosts:
    """The names of one PUBLIC_URL. While it is a loopback name, all three of them with its port are one host."""

    def __init__(self, public_url: str) -> None:
        parts = urlsplit(public_url)
        host, _, _ = parts.netloc.lower().partition(f":{parts.port}" if parts.port is not None else "\0")
        default = _DEFAULT_PORTS[parts.scheme]
        port = parts.port or default
        aliases = LOOPBACK_NAMES if is_loopback(parts.hostname) else ()
        self._own = _spellings(host, port, is_default=port == default)
        self._known = self._own.union(*(_spellings(name, port, is_default=port == default) for name in aliases))

    def find(self, scope: Scope) -> Standing:
        """Whether the name is PUBLIC_URL's own, another name of the same host, or foreign; raises `Problem` 400."""
        given: list[bytes] = [value for name, value in scope["headers"] if name == b"host"]
        host = given[0].lower() if len(given) == 1 else b""
        if host in self._own:
            return "own"
        if _SHAPE.fullmatch(host) is None:
            raise Problem(400, "bad_request", "the Host header is missing, malformed or there twice")
        return "alias" if host in self._known else "foreign"


def _spellings(name: str, port: int, *, is_default: bool) -> frozenset[bytes]:
    spelled = {f"{name}:{port}", name} if is_default else {f"{name}:{port}"}
    return frozenset(host.encode() for host in spelled)
