"""The two faces of the client, one that waits and one to await: each has every call of `calls.py`, over httpx."""

from __future__ import annotations

import asyncio
import time
from typing import Self, TypeVar
from urllib.parse import urlsplit

import httpx

from twofold import __version__
from twofold.client.attempts import Again, Attempts, Server
from twofold.client.call import Awaiting, Blocking, Call
from twofold.client.calls import Calls
from twofold.errors import ConfigurationError

T = TypeVar("T")

TIMEOUT_S = 10.0
#: The server lets go of a connection that is quiet for 5 s. Ours ends first: a call may be sent into that, and lost.
_LIMITS = httpx.Limits(keepalive_expiry=2.0)


class Client(Calls, Blocking):
    """A Twofold server's API for code that waits. Safe to call from many threads; end it with `close`, or use `with`.

    `url` is where the server is, `key` an API key of it. Nothing is waited for longer than `timeout_s`, and nothing is
    sent again later. `http` is an `httpx.Client` of your own, where a proxy or certificates are needed; closing it is
    yours, too.

    Raises `ConfigurationError` for what can be no address or no key.
    """

    def __init__(self, url: str, key: str, *, timeout_s: float = TIMEOUT_S, http: httpx.Client | None = None) -> None:
        self._server = _server(url, key, timeout_s)
        self._http = http or httpx.Client(limits=_LIMITS)
        self._is_ours = http is None

    def close(self) -> None:
        """Let go of the connections."""
        if self._is_ours:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _send(self, call: Call[T]) -> T:
        attempts = Attempts(call, self._server)
        while True:
            try:
                response = self._http.request(**attempts.next_request())
            except httpx.TransportError as error:
                ended: T | Again = attempts.lose(error)
            else:
                ended = attempts.judge(response)
            if not isinstance(ended, Again):
                return ended
            time.sleep(ended.pause_s)


class AsyncClient(Calls, Awaiting):
    """The same for asyncio: every call is awaited, `aclose` ends it, and `http` is an `httpx.AsyncClient`. It belongs
    to one event loop, and many tasks may call it at once."""

    def __init__(
        self, url: str, key: str, *, timeout_s: float = TIMEOUT_S, http: httpx.AsyncClient | None = None
    ) -> None:
        self._server = _server(url, key, timeout_s)
        self._http = http or httpx.AsyncClient(limits=_LIMITS)
        self._is_ours = http is None

    async def aclose(self) -> None:
        """Let go of the connections."""
        if self._is_ours:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _send(self, call: Call[T]) -> T:
        attempts = Attempts(call, self._server)
        while True:
            try:
                response = await self._http.request(**attempts.next_request())
            except httpx.TransportError as error:
                ended: T | Again = attempts.lose(error)
            else:
                ended = attempts.judge(response)
            if not isinstance(ended, Again):
                return ended
            await asyncio.sleep(ended.pause_s)


def _server(url: str, key: str, timeout_s: float) -> Server:
    if not _is_address(url):
        raise ConfigurationError("url: expected the address of a Twofold server, such as https://2fa.example.com")
    if not key or not all("!" <= character <= "~" for character in key):
        raise ConfigurationError("key: expected an API key, as `twofold apikey create` prints it")
    headers = {"Authorization": f"Bearer {key}", "User-Agent": f"twofold/{__version__}", "Accept": "application/json"}
    return Server(url.rstrip("/"), headers, timeout_s)


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
    return is_whole and not (parts.username or parts.password or parts.query or parts.fragment)
