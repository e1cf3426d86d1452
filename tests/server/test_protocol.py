import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from twofold.server.problems import Problem
from twofold.server.protocol import FAREWELL_S, HEAD_BYTES_MAX, HEAD_S, BoundedProtocol
from twofold.server.reading import read_body

HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


class Wire(asyncio.Transport):
    """The other end of a connection: knows whether it was closed and what was answered."""

    def __init__(self) -> None:
        super().__init__()
        self.is_closed = False
        self.is_aborted = False
        self.is_sending = False
        self.written = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_aborted = True

    def get_write_buffer_size(self) -> int:
        return int(self.is_sending)


class Waiting:
    """A timer that goes off when the test says so."""

    def __init__(self, delay_s: float, action: Callable[[], None]) -> None:
        self.delay_s, self.action, self.is_canceled = delay_s, action, False

    def cancel(self) -> None:
        self.is_canceled = True


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
async def timers() -> list[Waiting]:
    return []


@pytest.fixture
async def wire() -> Wire:
    return Wire()


@pytest.fixture
async def protocol(wire: Wire, timers: list[Waiting], monkeypatch: pytest.MonkeyPatch) -> BoundedProtocol:
    config = uvicorn.Config(answer, http=BoundedProtocol, lifespan="off", log_config=None, access_log=False)
    config.load()
    loop = asyncio.get_running_loop()
    connection = BoundedProtocol(config=config, server_state=ServerState(), app_state={}, _loop=loop)

    def call_later(delay_s: float, action: Callable[[], None], *_: object) -> Waiting:
        timers.append(Waiting(delay_s, action))
        return timers[-1]

    monkeypatch.setattr(loop, "call_later", call_later)
    connection.connection_made(wire)
    return connection


async def test_a_request_is_answered_and_its_timer_stopped(
    protocol: BoundedProtocol, wire: Wire, timers: list[Waiting]
) -> None:
    protocol.data_received(HEAD + b"\r\n")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wire.written.endswith(b"ok")
    assert all(timer.is_canceled for timer in timers if timer.delay_s == HEAD_S)
    assert not wire.is_closed


async def test_a_head_that_does_not_end_in_time_ends_the_connection(
    protocol: BoundedProtocol, wire: Wire, timers: list[Waiting]
) -> None:
    protocol.data_received(HEAD)
    (deadline,) = [timer for timer in timers if not timer.is_canceled]
    assert deadline.delay_s == HEAD_S
    deadline.action()
    assert wire.is_closed


@pytest.mark.parametrize("piece", [b"a" * 4096, b"x: y\r\n" * 600], ids=["one header", "many headers"])
async def test_a_head_that_grows_without_end_ends_the_connection(
    protocol: BoundedProtocol, wire: Wire, piece: bytes
) -> None:
    protocol.data_received(HEAD + b"X: ")
    sent = 0
    while not wire.is_closed:
        protocol.data_received(piece)
        sent += len(piece)
        assert sent <= HEAD_BYTES_MAX + len(piece)


async def test_a_connection_that_ends_leaves_no_timer(protocol: BoundedProtocol, timers: list[Waiting]) -> None:
    protocol.data_received(HEAD)
    protocol.connection_lost(None)
    assert all(timer.is_canceled for timer in timers)


@pytest.mark.parametrize("is_sending", [False, True])
async def test_at_the_end_nobody_waits_for_an_answer_to_the_farewell_but_what_is_being_sent_is(
    protocol: BoundedProtocol, wire: Wire, timers: list[Waiting], is_sending: bool
) -> None:
    wire.is_sending = is_sending
    protocol.shutdown()
    assert (wire.is_closed, wire.is_aborted) == (True, False)
    (farewell,) = [timer for timer in timers if timer.delay_s == FAREWELL_S]
    farewell.action()
    assert wire.is_aborted != is_sending


async def test_at_the_end_a_request_under_way_is_answered(
    protocol: BoundedProtocol, wire: Wire, timers: list[Waiting]
) -> None:
    protocol.data_received(HEAD + b"\r\n")
    protocol.shutdown()
    (farewell,) = [timer for timer in timers if timer.delay_s == FAREWELL_S]
    farewell.action()
    assert not wire.is_aborted
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert wire.written.endswith(b"ok")
    assert wire.is_closed


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.server.reading.BODY_S", 0)

    async def never() -> Any:
        await asyncio.Event().wait()

    with pytest.raises(Problem) as problem:
        await read_body(never, {b"content-length": b"5"})
    assert (problem.value.status, problem.value.code) == (400, "bad_request")

    async def at_once() -> Any:
        return {"type": "http.request", "body": b"hello", "more_body": False}

    monkeypatch.setattr("twofold.server.reading.BODY_S", 30)
    assert await read_body(at_once, {b"content-length": b"5"}) == b"hello"
