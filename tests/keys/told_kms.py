"""A KMS that answers as a test tells it: what moto never says, and what no KMS should."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar, NamedTuple

from tests.keys.aws import REGION

KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:{REGION}:111122223333:key/{KEY_ID}"
FRESH_KEY = b"fresh key, made by KMS for ours."


class Reply(NamedTuple):
    """What the KMS of these tests answers."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = (("x-amzn-RequestId", "request-1"),)


class Request(NamedTuple):
    """What it was asked."""

    headers: dict[str, str]
    body: bytes


class ToldKms(ThreadingHTTPServer):
    """Answers `replies` one after the other, the last one again and again; None: not until it is closed."""

    daemon_threads: ClassVar = True
    block_on_close: ClassVar = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.endpoint = f"http://127.0.0.1:{self.server_port}"
        self.replies: list[Reply | None] = []
        self.requests: list[Request] = []
        self.is_asked = threading.Event()
        self.is_over = threading.Event()

    def handle_error(self, *_: object) -> None:
        """A client that does not wait for the end is no fault."""


class _Handler(BaseHTTPRequestHandler):
    server: ToldKms

    def do_POST(self) -> None:
        headers = {name.lower(): text for name, text in self.headers.items()}
        self.server.requests.append(Request(headers, self.rfile.read(int(headers.get("content-length", 0)))))
        self.server.is_asked.set()
        reply = self.server.replies.pop(0) if len(self.server.replies) > 1 else self.server.replies[0]
        if reply is None:
            self.server.is_over.wait()
            return
        self.send_response(reply.status)
        for name, text in reply.headers:
            self.send_header(name, text)
        self.end_headers()
        self.wfile.write(reply.body)

    do_GET = do_POST  # noqa: N815 - a redirect that was followed would come as one

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering() -> Iterator[ToldKms]:
    """One that listens."""
    with ToldKms() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.is_over.set()
            server.shutdown()
            thread.join()


def fresh_key(**changes: object) -> Reply:
    """The answer to either call."""
    plain, blob = base64.b64encode(FRESH_KEY).decode(), base64.b64encode(b"encrypted").decode()
    return Reply(json.dumps({"KeyId": ARN, "Plaintext": plain, "CiphertextBlob": blob} | changes).encode())


def failing(code: str, status: int = 400) -> Reply:
    return Reply(json.dumps({"__type": f"com.amazonaws.kms#{code}", "message": "a\nb"}).encode(), status)
