"""JSON over HTTPS to a key service: one request, one answer, and as little trust as can be.

No redirects, no proxy from the environment, no retries, TLS always verified, nothing of a refusal is repeated but words
that are known. What is asked and what an answer means is in `vault`, `gcp_kms` and `azure_kv`.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import msgspec

from twofold.config import is_loopback
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway

if TYPE_CHECKING:
    import httpx

Answer = TypeVar("Answer", bound=msgspec.Struct)

ANSWER_BYTES_MAX = 65_536
CONNECT_S = 2.0
READ_S = 3.0
# Beside all of 5xx: too slow, not yet caught up (Vault Enterprise), too early, too many, a standby of Vault.
_PASSING = frozenset({408, 412, 425, 429, 472, 473})


def require(kind: str, extra: str, *modules: str) -> None:
    """Raise `ConfigurationError` unless what a provider needs beside Twofold itself is installed."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            package = module.replace(".", "-")
            raise ConfigurationError(f"KEY_PROVIDER {kind}: needs {package}: pip install 'twofold[{extra}]'") from None


def read_address(kind: str, text: str) -> tuple[str, str]:
    """Origin and path of a service's address.

    Raises `ConfigurationError`, which does not repeat the address, unless it is https, or http to this very machine.
    """
    expected = ConfigurationError(f"KEY_PROVIDER {kind}: expected https://host[:port]/… without a user or a fragment")
    try:
        url = urlsplit(text)
        host, port = url.hostname or "", url.port
    except ValueError:
        raise expected from None
    if url.scheme not in ("https", "http") or not host or "@" in url.netloc or url.query or url.fragment:
        raise expected
    if url.scheme == "http" and not is_loopback(host):
        raise ConfigurationError(f"KEY_PROVIDER {kind}: http is only for this machine: expected https://{host}/…")
    shown_host = f"[{host}]" if ":" in host else host
    return f"{url.scheme}://{shown_host}" + (f":{port}" if port else ""), url.path


class JsonService:
    """A key service. `name` says in messages which key where.

    `authorize(anew)` gives the headers that let us in; it may block, so it has a thread of its own. `anew` asks for
    others than the last, which were not accepted. `needs` says which right we need there. `known_words` are what may be
    quoted of a refusal: the rest could be anything, and would land in logs.
    """

    def __init__(
        self,
        name: str,
        origin: str,
        authorize: Callable[[bool], Mapping[str, str]],
        *,
        needs: str,
        known_words: Sequence[str],
        ca_file: str = "",
        request_id_header: str = "",
    ) -> None:
        self.name = name
        self._origin = origin
        self._authorize = authorize
        self._needs = needs
        self._known_words = known_words
        self._request_id_header = request_id_header
        try:
            self._tls = ssl.create_default_context(cafile=ca_file or None)
        except OSError:
            raise ConfigurationError(f"{name}: {ca_file} is no file of PEM certificates") from None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="twofold-token")
        self._clients: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}

    async def ask(self, path: str, question: msgspec.Struct, kind: type[Answer]) -> tuple[Answer, str]:
        """The answer to a question, and how the service calls it in its log.

        Raises `ProviderAway` for what may pass (not reached, too slow, broken off, throttled, failing, or what such a
        service does not say) and `KeyRefused` for a refusal. A 401 is one if new headers are not accepted either.
        """
        status, body, request_id = await self._post(path, question, anew=False)
        if status == 401:
            status, body, request_id = await self._post(path, question, anew=True)
        if status != 200:
            words = ", ".join(word for word in self._known_words if word.encode() in body)
            text = f"{self.name}: it answered {status}" + (f" ({words})" if words else "")
            if status in (401, 403):
                text += f"; this takes {self._needs}"
            if status < 400 or status >= 500 or status in _PASSING:
                raise ProviderAway(text)
            raise KeyRefused(text, request_id)
        try:
            return msgspec.json.decode(body, type=kind), request_id
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise self.unreadable() from None

    def unreadable(self) -> ProviderAway:
        """What to raise for an answer that such a service does not give: something else stands in between."""
        return ProviderAway(f"{self.name}: the answer is not one of such a service")

    async def close(self) -> None:
        """Let the connections of the running loop go; another one goes on."""
        if client := self._clients.pop(asyncio.get_running_loop(), None):
            await client.aclose()

    async def _post(self, path: str, question: msgspec.Struct, *, anew: bool) -> tuple[int, bytes, str]:
        import httpx  # noqa: PLC0415 - comes with an extra

        headers = await asyncio.get_running_loop().run_in_executor(self._thread, self._authorize, anew)
        # Nothing that unpacks: an answer takes no more memory than what was sent.
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity", **headers}
        content = msgspec.json.encode(question)
        body = bytearray()
        try:
            async with self._client().stream("POST", path, content=content, headers=headers) as answer:
                async for piece in answer.aiter_raw():
                    body += piece
                    if len(body) > ANSWER_BYTES_MAX:
                        raise self.unreadable()
        except httpx.TimeoutException:
            raise ProviderAway(f"{self.name}: no answer in time") from None
        except httpx.ConnectError as error:
            raise ProviderAway(f"{self.name}: cannot be reached ({error})") from None
        except httpx.HTTPError as error:
            raise ProviderAway(f"{self.name}: the answer broke off ({type(error).__name__})") from None
        return answer.status_code, bytes(body), answer.headers.get(self._request_id_header, "")

    def _client(self) -> httpx.AsyncClient:
        """The client of the running loop: connections live and die with the loop that they were made in."""
        import httpx  # noqa: PLC0415 - as above

        loop = asyncio.get_running_loop()
        if loop not in self._clients:
            self._clients = {other: client for other, client in self._clients.items() if not other.is_closed()}
            self._clients[loop] = httpx.AsyncClient(
                base_url=self._origin,
                verify=self._tls,
                trust_env=False,
                follow_redirects=False,
                timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            )
        return self._clients[loop]
