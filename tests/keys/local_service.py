"""A key service on this machine, for tests: what every one of them shares, and how an answer goes wrong."""

import json
import ssl
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from tests.certificates import Files


class Reply(NamedTuple):
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Call(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


Plan = Callable[["_Handler"], None]


def say(status: int, body: object, **headers: str) -> Reply:
    return Reply(status, json.dumps(body).encode(), tuple(headers.items()))


class Service(ABC):
    """A server on a free port. `plans` come first, one for each call; `calls` is what was asked.

    It takes part as a proxy to itself, so that a test sees who would go through one. Paths that have `unplanned` in
    them are answered whatever is planned.
    """

    unplanned = "/never"

    def __init__(self, tls: Files | None = None) -> None:
        self.plans: list[Plan] = []
        self.calls: list[Call] = []
        self.connections = 0
        self.ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"service": self}))
        self._server.daemon_threads = True
        if tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(tls.cert, tls.key)
            # The handshake belongs to the connection's own thread, or one that breaks off would hold up all others.
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
        self.origin = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            self.ended.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    @abstractmethod
    def answer(self, call: Call) -> Reply:
        """What the service says to one call."""

    def plan(self, *plans: Plan) -> None:
        self.plans += plans

    def asked(self, path: str) -> list[Call]:
        return [call for call in self.calls if path in call.path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65_536  # head and body in one packet, or each answer takes 40 ms
    service: Service

    def setup(self) -> None:
        super().setup()
        self.service.connections += 1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        call = Call(self.command, self.path, {name.lower(): text for name, text in self.headers.items()}, body)
        self.service.calls.append(call)
        if self.service.plans and self.service.unplanned not in self.path:
            self.service.plans.pop(0)(self)
        else:
            self.reply(self.service.answer(call._replace(path=self.path.removeprefix(self.service.origin))))

    do_GET = do_POST  # noqa: N815 - the name that http.server looks for

    def reply(self, reply: Reply) -> None:
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/json")
        for name, text in reply.headers:
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, *_: object) -> None:
        """Nothing: the calls are kept."""


def saying(status: int, body: object = None, **headers: str) -> Plan:
    """Answer with this, as JSON unless it is bytes."""
    reply = Reply(status, body, tuple(headers.items())) if isinstance(body, bytes) else say(status, body, **headers)
    return lambda handler: handler.reply(reply)


def changing(change: Callable[[Any], None]) -> Plan:
    """The right answer, changed on its way."""

    def plan(handler: _Handler) -> None:
        reply = handler.service.answer(handler.service.calls[-1])
        body = json.loads(reply.body)
        change(body)
        handler.reply(say(reply.status, body))

    return plan


def padding(size: int) -> Plan:
    """The right answer with so many spaces behind it."""

    def plan(handler: _Handler) -> None:
        reply = handler.service.answer(handler.service.calls[-1])
        handler.reply(reply._replace(body=reply.body + b" " * size))

    return plan


def silence(handler: _Handler) -> None:
    """No answer, until the test is over."""
    handler.service.ended.wait(10)
    handler.close_connection = True


def half_an_answer(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "500")
    handler.end_headers()
    handler.wfile.write(b'{"data": {"ciph')
    handler.close_connection = True


def no_end(handler: _Handler) -> None:
    """More than anybody would read."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65_536)
    except OSError:
        handler.close_connection = True
