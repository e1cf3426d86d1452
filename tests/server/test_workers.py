"""Keeping processes up: small programs that serve nothing stand for the workers."""

import asyncio
import contextlib
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from twofold.errors import ConfigurationError
from twofold.server import workers
from twofold.server.workers import BACKLOG, FAILURES_MAX, PAUSE_FIRST_S, PAUSE_MAX_S, Workers, find_pause_s, share_out

#: Notes each start as a file named by its process; `broken` and `hurdle`, a named pipe, are in its way.
PROGRAM = """
import os, pathlib, signal, sys
place = pathlib.Path(sys.stdin.readline().strip())
(place / str(os.getpid())).touch()
if (place / "broken").exists():
    sys.exit(3)
if (place / "hurdle").exists():
    (place / "hurdle").read_text()
print("ready", flush=True)
(place / f"serving-{os.getpid()}").touch()
sys.stdin.read()
while (place / "deaf").exists():
    signal.pause()
"""
PATIENCE_S = 30


class Office:
    """Two places for workers, and what became of them."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.places = [folder / "0", folder / "1"]
        for place in self.places:
            place.mkdir()
        self.told = 0
        self.workers = Workers(
            (sys.executable, "-S", "-c", PROGRAM),
            [f"{place}\n".encode() for place in self.places],
            [listener, listener],
            on_ready=self._tell,
            end_s=0.1,
        )

    def _tell(self) -> None:
        self.told += 1

    def starts(self, place: int) -> set[int]:
        """The processes that were started at a place."""
        return {int(path.name) for path in self.places[place].iterdir() if path.name.isdecimal()}

    def serving(self, place: int) -> int:
        """The process that serves there now; 0 for none."""
        named = (path.name.removeprefix("serving-") for path in self.places[place].glob("serving-*"))
        return next((int(name) for name in named if is_alive(int(name))), 0)

    async def until(self, is_so: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(0.005)

    async def until_all_serve(self) -> list[int]:
        await self.until(lambda: self.told and self.serving(0) and self.serving(1))
        return [self.serving(0), self.serving(1)]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    with socket.socket() as listener:
        office = Office(tmp_path, listener)
        yield office
        office.workers.end()
        started = office.starts(0) | office.starts(1)
        await office.until(lambda: not any(map(is_alive, started)))


@contextlib.asynccontextmanager
async def running(office: Office) -> AsyncIterator["asyncio.Task[None]"]:
    """The workers while the block runs; they end with it."""
    task = asyncio.create_task(office.workers.run())
    yield task
    office.workers.end()
    await asyncio.wait_for(task, PATIENCE_S)


async def test_it_is_told_once_when_all_of_them_serve(office: Office) -> None:
    hurdle = office.places[1] / "hurdle"
    os.mkfifo(hurdle)
    async with running(office):
        await office.until(lambda: office.serving(0) and office.starts(1))
        assert office.told == 0
        await asyncio.to_thread(hurdle.write_text, "go on")
        await office.until_all_serve()
        hurdle.unlink()
        os.kill(office.serving(0), signal.SIGKILL)
        await office.until_all_serve()
    assert office.told == 1


async def test_one_that_was_killed_is_started_again_and_the_others_stay(
    office: Office, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(office):
        first, second = await office.until_all_serve()
        os.kill(first, signal.SIGKILL)
        await office.until(lambda: office.serving(0) not in (0, first))
        assert (office.serving(1), len(office.starts(0))) == (second, 2)
    assert [record.message for record in caplog.records] == ["worker 1 ended (SIGKILL); it is started again"]


async def test_those_that_end_at_their_start_are_given_up_after_a_few_tries(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PAUSE_FIRST_S", 0.001)
    (office.places[1] / "broken").touch()
    with pytest.raises(ConfigurationError, match=r"^the workers end at their start, \d+ times in a row$"):
        await asyncio.wait_for(office.workers.run(), PATIENCE_S)
    assert (len(office.starts(1)), office.told) == (FAILURES_MAX + 1, 0)
    assert not office.serving(0), "nobody is left behind"


async def test_one_that_does_not_come_up_again_is_tried_for_as_long_as_the_others_serve(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "PAUSE_FIRST_S", 0.0)
    async with running(office) as task:
        first, second = await office.until_all_serve()
        trouble = office.places[0] / "broken"
        trouble.touch()
        os.kill(first, signal.SIGKILL)
        await office.until(lambda: len(office.starts(0)) > FAILURES_MAX + 3)
        assert not task.done()
        trouble.unlink()
        await office.until(lambda: office.serving(0))
        assert office.serving(1) == second


async def test_when_none_comes_up_again_it_is_over(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "PAUSE_FIRST_S", 0.0)
    task = asyncio.create_task(office.workers.run())
    for pid, place in zip(await office.until_all_serve(), office.places, strict=True):
        (place / "broken").touch()
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(ConfigurationError):
        await asyncio.wait_for(task, PATIENCE_S)


async def test_one_that_does_not_end_in_time_is_killed(office: Office, caplog: pytest.LogCaptureFixture) -> None:
    async with running(office):
        await office.until_all_serve()
        (office.places[0] / "deaf").touch()
    assert [record.message for record in caplog.records] == ["a worker does not end: killed"]


async def test_a_program_that_cannot_be_started_is_no_endless_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "PAUSE_FIRST_S", 0.0)
    with socket.socket() as listener:
        gone = Workers([str(tmp_path / "gone")], [b"\n"], [listener], on_ready=lambda: None, end_s=0.1)
        with pytest.raises(ConfigurationError):
            await asyncio.wait_for(gone.run(), PATIENCE_S)
    assert "not started: No such file" in caplog.text


def test_the_first_new_try_comes_at_once_and_the_others_later_and_later() -> None:
    pauses = [find_pause_s(failures) for failures in range(40)]
    assert pauses[:4] == [0, 0, PAUSE_FIRST_S, 2 * PAUSE_FIRST_S]
    assert pauses == sorted(pauses)
    assert pauses[-1] == PAUSE_MAX_S


def bind(port: int = 0) -> socket.socket:
    listener = socket.socket()
    try:
        listener.bind(("127.0.0.1", port))
    except OSError:
        listener.close()
        raise
    listener.listen()
    return listener


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the kernel spreads nothing, and all accept from one")
def test_each_worker_gets_its_share_of_a_burst_of_connections() -> None:
    with bind() as first, contextlib.ExitStack() as opened:
        port = first.getsockname()[1]
        listeners = share_out(first, 2)
        for listener in listeners:
            listener.listen(BACKLOG)
        for _ in range(200):
            opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        shares = [_drain(listener) for listener in listeners]
        listeners[1].close()
    assert sum(shares) == 200
    # Half each, by chance: six standard deviations of it.
    assert min(shares) > 57


def _drain(listener: socket.socket) -> int:
    listener.setblocking(False)
    for count in range(1000):
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
    raise AssertionError


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all workers accept from one socket")
def test_a_place_without_a_worker_takes_nothing_until_the_next_one_listens() -> None:
    with bind() as first, contextlib.ExitStack() as opened:
        address = first.getsockname()
        listeners = share_out(first, 2)
        workers = Workers((), (b"", b""), listeners, on_ready=lambda: None, end_s=1)
        for listener in listeners:
            listener.listen(BACKLOG)
        workers._take_nothing(1)
        for _ in range(100):
            opened.enter_context(socket.create_connection(address))
        assert _drain(listeners[0]) == 100
        listeners[1].listen(BACKLOG)
        for _ in range(100):
            opened.enter_context(socket.create_connection(address))
        shares = [_drain(listener) for listener in listeners]
        listeners[1].close()
    assert sum(shares) == 100
    assert min(shares) > 0


def test_the_port_of_several_workers_is_taken_for_everybody_else() -> None:
    with bind() as first:
        listeners = share_out(first, 2)
        with pytest.raises(OSError, match="in use") as refused:
            bind(first.getsockname()[1])
        assert refused.value.errno == errno.EADDRINUSE
        listeners[1].close()
