"""The load client, a process of its own: sends prepared requests over kept connections and times each answer.

`Load` is the side of the benchmark that starts it. Every answer is checked; codes are right ones, each sent once, or
wrong ones where that is asked for.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import quantiles
from typing import NamedTuple, Self, cast

from bench.population import Phones, account_id


class Result(NamedTuple):
    """Answers a second, and the time in milliseconds within which half and 99 of a hundred of them came."""

    rate: float
    p50_ms: float
    p99_ms: float


class Load:
    """The client process for one server. `kind` names the requests that this server understands (`REQUESTS`)."""

    def __init__(self, kind: str, port: int, *, accounts: int, key: str = "-", stride: int = 1) -> None:
        self._port = port
        command = [sys.executable, "-m", "bench.load", kind, str(accounts), key, str(stride)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=60)

    def run(self, *, count: int, in_flight: int, per_s: int = 0, port: int | None = None) -> Result:
        """Send that many requests, each connection one at a time; at most so many `per_s`, 0 for as fast as it goes.
        `port` is that of another server over the same accounts."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{count} {in_flight} {per_s} {port or self._port}\n")
        stdin.flush()
        return Result(*json.loads(stdout.readline()))


def _spell(port: int, path: str, body: dict[str, str], key: str) -> bytes:
    raw = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAuthorization: Bearer {key}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw


def _twofold(number: int, code: str) -> tuple[str, dict[str, str]]:
    return f"/api/v1/accounts/{account_id(number)}/verify", {"code": code}


def _other(number: int, code: str) -> tuple[str, dict[str, str]]:
    return "/verify", {"account": account_id(number), "code": code}


def _wrong(number: int, code: str) -> tuple[str, dict[str, str]]:
    return _other(number, f"{(int(code) + 1) % 10**6:06}")


def _privacyidea(number: int, code: str) -> tuple[str, dict[str, str]]:
    return "/validate/check", {"serial": account_id(number), "pass": code}


REQUESTS: dict[str, Callable[[int, str], tuple[str, dict[str, str]]]] = {
    "twofold": _twofold,
    "other": _other,
    "wrong": _wrong,
    "privacyidea": _privacyidea,
}
#: What an answer says if the code was judged as it should be.
ACCEPTED = (b'"verified":true', b'"status":true,"value":true')
REFUSED = (b'"verified":false',)


class Connection(asyncio.Protocol):
    """Sends the next request when the answer to the one before is complete and says what it should.

    `requests` come with the time at which each is due: whoever is late because the answer before was late began to wait
    then. Where the server closes the connection after each answer, the next request has another one.
    """

    def __init__(
        self, port: int, requests: Iterator[tuple[float, bytes]], times: list[float], signs: Sequence[bytes]
    ) -> None:
        self._port = port
        self._requests = requests
        self._times = times
        self._signs = signs
        self._is_last = False
        self._received = b""
        self._began = 0.0
        self._loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send_next(self) -> None:
        """Send one request when it is due, or end when there is none left."""
        due_at, request = next(self._requests, (0.0, b""))
        if not request:
            self.done.set_result(None)
            self._transport.close()
        elif due_at:
            self._began = due_at
            self._loop.call_later(due_at - time.perf_counter(), self._transport.write, request)
        else:
            self._began = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _content_length(head):
            return
        self._times.append(time.perf_counter() - self._began)
        if not any(sign in body.replace(b" ", b"") for sign in self._signs):
            self.done.set_exception(AssertionError(self._received.decode()))
            return
        self._received = b""
        self._is_last = b"\r\nconnection: close\r\n" in head.lower() + b"\r\n"
        if not self._is_last:
            self.send_next()

    def connection_lost(self, error: Exception | None) -> None:
        if self._is_last and not self.done.done():
            self._is_last = False
            self._reopening = self._loop.create_task(self._open_another())
        elif not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed a connection"))

    async def _open_another(self) -> None:
        await self._loop.create_connection(lambda: self, "127.0.0.1", self._port)
        self.send_next()


def _content_length(head: bytes) -> int:
    start = head.lower().index(b"\r\ncontent-length:") + len(b"\r\ncontent-length:")
    return int(head[start:].partition(b"\r\n")[0])


def _when_due(prepared: list[bytes], per_s: int) -> Iterator[tuple[float, bytes]]:
    began = time.perf_counter()
    for n, request in enumerate(prepared):
        yield (began + n / per_s if per_s else 0.0), request


async def _run(
    port: int, prepared: list[bytes], in_flight: int, per_s: int, signs: Sequence[bytes]
) -> tuple[float, list[float]]:
    loop, times = asyncio.get_running_loop(), list[float]()
    requests = _when_due(prepared, per_s)
    connections = [
        (await loop.create_connection(lambda: Connection(port, requests, times, signs), "127.0.0.1", port))[1]
        for _ in range(in_flight)
    ]
    began = time.perf_counter()
    for connection in connections:
        connection.send_next()
    await asyncio.gather(*(connection.done for connection in connections))
    return time.perf_counter() - began, times


def main(kind: str, accounts: int, key: str, stride: int) -> None:
    """Answer each line `COUNT IN_FLIGHT PER_S PORT` of standard input with a line of figures."""
    import uvloop

    phones = Phones(accounts, stride=stride)
    for line in sys.stdin:
        count, in_flight, per_s, port = map(int, line.split())
        answers = [phones.next_code(time.time()) for _ in range(count)]
        prepared = [_spell(port, *REQUESTS[kind](*answer), key) for answer in answers]
        signs = REFUSED if kind == "wrong" else ACCEPTED
        seconds, times = uvloop.run(_run(port, prepared, in_flight, per_s, signs))
        percentiles = [1000 * value for value in quantiles(times, n=100)]
        print(json.dumps(Result(count / seconds, percentiles[49], percentiles[98])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
