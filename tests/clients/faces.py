"""Both faces of the Python client behind one: whoever plays a story waits, whichever face it is played with."""

import asyncio
import inspect
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Self

import httpx

from twofold.client import AsyncClient, Client

Result = Any


class Waited:
    """`AsyncClient` with an event loop of its own, so that it reads like `Client`."""

    def __init__(self, url: str, key: str, *, transport: httpx.AsyncBaseTransport | None = None, **more: Any) -> None:
        self._runner = asyncio.Runner()
        http = transport and httpx.AsyncClient(transport=transport)
        self._client = self._runner.run(self._open(url, key, http=http, **more))

    async def _open(self, *arguments: Any, **more: Any) -> AsyncClient:
        return AsyncClient(*arguments, **more)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)
        return lambda *arguments, **more: self._runner.run(method(*arguments, **more))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


def waiting(url: str, key: str, *, transport: httpx.BaseTransport | None = None, **more: Any) -> Client:
    """`Client`, over another transport where one is given."""
    return Client(url, key, http=transport and httpx.Client(transport=transport), **more)


#: By name, what opens each face.
FACES: dict[str, Any] = {"waiting": waiting, "asyncio": Waited}


def names_of(face: type) -> set[str]:
    """The calls that a face has."""
    return {name for name, _ in inspect.getmembers(face, callable) if not name.startswith("_")} - {"close", "aclose"}


class Cutter:
    """A line to a server. The answers to as many requests as `cuts` says never arrive: the line is cut instead."""

    def __init__(self, target: int, cuts: int) -> None:
        self._target = target
        self.cuts = cuts
        self.keys: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                with near, socket.create_connection(("127.0.0.1", self._target)) as far:
                    self._carry(near, far)

    def _carry(self, near: socket.socket, far: socket.socket) -> None:
        """One request and its answer, then the line is closed: each request comes over a line of its own."""
        request = b""
        while b"\r\n\r\n" not in request or len(request) < _length(request):
            request += near.recv(65536)
        head = request.lower()
        self.keys += [line.split(b": ")[1] for line in head.split(b"\r\n") if line.startswith(b"idempotency-key")]
        request = request.replace(b":%d\r\n" % self.port, b":%d\r\n" % self._target, 1)
        far.sendall(request.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        answer = b""
        while read := far.recv(65536):
            answer += read
        if self.cuts:
            self.cuts -= 1
        else:
            near.sendall(answer)


def _length(request: bytes) -> int:
    head = request[: request.index(b"\r\n\r\n") + 4]
    lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length")]
    return len(head) + sum(map(int, lengths))


@contextmanager
def cutting(target: int, *, cuts: int) -> Iterator[Cutter]:
    cutter = Cutter(target, cuts)
    try:
        yield cutter
    finally:
        cutter.close()
