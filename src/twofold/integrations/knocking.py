"""One request to an application in this process, as a server would hand it over: who answers first, and how."""

from __future__ import annotations

import asyncio
import io
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

Headers = list[tuple[str, str]]

ANSWER_S = 10
_PORTS = {"http": 80, "https": 443}


def knock_wsgi(app: Any, path: str, url: str) -> tuple[str, Headers]:
    """Status and headers of the answer to a GET that comes for the origin `url`."""
    origin = urlsplit(url)
    said: list[tuple[str, Headers]] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "HTTP_HOST": origin.netloc,
        "SERVER_NAME": origin.hostname,
        "SERVER_PORT": str(origin.port or _PORTS[origin.scheme]),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": origin.scheme,
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False,
        "wsgi.multiprocess": False,
        "wsgi.run_once": True,
    }

    def start(status: str, headers: Headers, _: object = None) -> object:
        said.append((status, headers))
        return lambda _: None

    parts = app(environ, start)
    next(iter(parts), None)
    if hasattr(parts, "close"):
        parts.close()
    return said[-1]


async def knock_asgi(app: Any, path: str, url: str, *, is_socket: bool) -> tuple[str, Headers]:
    """The same for ASGI; of a web socket what becomes of it, and nothing more. Raises `TimeoutError`."""
    origin = urlsplit(url)
    scope = {
        "type": "websocket" if is_socket else "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": origin.scheme.replace("http", "ws") if is_socket else origin.scheme,
        "path": path,
        "raw_path": quote(path).encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", origin.netloc.encode())],
        "client": ("127.0.0.1", 1),
        "server": (origin.hostname, origin.port or _PORTS[origin.scheme]),
        "subprotocols": [],
    }
    said: asyncio.Queue[MutableMapping[str, Any]] = asyncio.Queue()
    asked: list[MutableMapping[str, Any]] = [
        {"type": "websocket.connect"} if is_socket else {"type": "http.request", "body": b"", "more_body": False}
    ]

    async def receive() -> MutableMapping[str, Any]:
        if not asked:
            await asyncio.Event().wait()
        return asked.pop()

    async def serve() -> None:
        await app(scope, receive, said.put)
        await said.put({"type": "nothing"})

    serving = asyncio.create_task(serve())
    hearing = asyncio.create_task(said.get())
    try:
        async with asyncio.timeout(ANSWER_S):
            await asyncio.wait({serving, hearing}, return_when=asyncio.FIRST_COMPLETED)
            if not hearing.done():
                await serving  # which raised something
            return _read(hearing.result())
    finally:
        for task in (serving, hearing):
            task.cancel()
        with suppress(Exception, asyncio.CancelledError):
            await serving


def _read(message: MutableMapping[str, Any]) -> tuple[str, Headers]:
    if message["type"] != "http.response.start":
        return message["type"], [("reason", message.get("reason", ""))]
    return str(message["status"]), [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]
    ]
