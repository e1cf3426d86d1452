"""Several processes on one socket: started together, each started again when it ends, and ended together.

What a worker does is in `run.py`. Here one is a program that is given a line on standard input, says `READY` when it
serves, and ends when standard input closes, which is what happens to all of them when this process is killed.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Sequence
from contextlib import suppress

from twofold.errors import ConfigurationError

READY = "ready"
BACKLOG = 2048
#: One that lived for so long did not fail at its start; one that fails there again and again waits for longer and
#: longer before the next try.
STEADY_S = 10.0
PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 5.0
FAILURES_MAX = 5

log: logging.Logger = logging.getLogger("twofold")


def share_out(listener: socket.socket, count: int) -> list[socket.socket]:
    """A listener for each of `count` workers, all on one address.

    On Linux they are sockets of their own, over which the kernel spreads connections evenly; each is opened by its
    worker. Where all accept from one, whoever wakes first takes most of a burst. The first was bound alone, so another
    server still finds the port taken.
    """
    if sys.platform != "linux":
        return [listener] * count
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listeners = [listener]
    listeners += (_bind_another(listener) for _ in range(count - 1))
    return listeners


def _bind_another(listener: socket.socket) -> socket.socket:
    """A socket on the same address; it takes nothing before somebody listens."""
    another = socket.socket(listener.family, listener.type, listener.proto)
    another.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    another.bind(listener.getsockname())
    return another


class Workers:
    """A process of `program` for each of `briefs`, its first line of input, and of `listeners`, which it inherits.

    They stay bound here. While a place has no worker that serves, its own listener takes nothing, and the kernel gives
    what comes to the others.
    """

    def __init__(
        self,
        program: Sequence[str],
        briefs: Sequence[bytes],
        listeners: Sequence[socket.socket],
        *,
        on_ready: Callable[[], None],
        end_s: float,
    ) -> None:
        """`on_ready` is called once, when all of them serve; `end_s` is the time they get to end."""
        self._program = program
        self._briefs = briefs
        self._listeners = listeners
        self._on_ready = on_ready
        self._end_s = end_s
        self._ending = asyncio.Event()
        self._serving: set[int] = set()
        self._was_ready = False
        self._has_failed = False

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises `ConfigurationError` when the workers do not stay up."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.end)
        for place in range(len(self._briefs)):
            self._take_nothing(place)
        await asyncio.gather(*map(self._keep, range(len(self._briefs))))
        if self._has_failed:
            raise ConfigurationError(f"the workers end at their start, {FAILURES_MAX + 1} times in a row")

    def end(self) -> None:
        # Closed here too, or callers would queue up at a socket that nobody accepts from any more.
        for listener in self._listeners:
            listener.close()
        self._ending.set()

    async def _keep(self, place: int) -> None:
        """See to it that there is a worker at this place until the end."""
        loop = asyncio.get_running_loop()
        failures = 0
        while not self._ending.is_set():
            began_at = loop.time()
            how = await self._run_one(place)
            if self._ending.is_set():
                return
            failures = 0 if loop.time() - began_at >= STEADY_S else failures + 1
            # While others serve, the trouble may pass, and they are better than none.
            if failures > FAILURES_MAX and not (self._was_ready and self._serving):
                self._has_failed = True
                self.end()
                return
            log.warning("worker %d ended (%s); it is started again", place + 1, how)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), find_pause_s(failures))

    async def _run_one(self, place: int) -> str:
        """One life of a worker, and how it ended."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._program,
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=[self._listeners[place].fileno()],
                # Ctrl-C goes to this process alone, which ends the others in order.
                start_new_session=True,
            )
        except OSError as error:
            return f"not started: {error.strerror}"
        assert process.stdin is not None  # noqa: S101 - it has pipes
        assert process.stdout is not None  # noqa: S101 - as above
        process.stdin.write(self._briefs[place])
        ending = asyncio.create_task(self._end_in_time(process, process.stdin))
        try:
            async for line in process.stdout:
                if line.decode().strip() == READY:
                    self._note_ready(place)
            return _describe(await process.wait())
        finally:
            self._serving.discard(place)
            self._take_nothing(place)
            ending.cancel()

    def _take_nothing(self, place: int) -> None:
        """Until the next worker there listens; whoever is in the line is told at once to try again."""
        listener = self._listeners[place]
        if sys.platform == "linux" and not self._ending.is_set():
            # A new socket under the old number, which the workers know.
            with _bind_another(listener) as another:
                os.dup2(another.fileno(), listener.fileno(), inheritable=False)

    def _note_ready(self, place: int) -> None:
        self._serving.add(place)
        if len(self._serving) == len(self._briefs) and not self._was_ready:
            self._was_ready = True
            self._on_ready()

    async def _end_in_time(self, process: Process, lifeline: asyncio.StreamWriter) -> None:
        await self._ending.wait()
        lifeline.close()
        await asyncio.sleep(self._end_s)
        log.warning("a worker does not end: killed")
        process.kill()


def find_pause_s(failures: int) -> float:
    """How long to wait after so many ends at the start, one after the other; the first may have been an accident."""
    return 0.0 if failures < 2 else min(PAUSE_FIRST_S * 2.0 ** min(failures - 2, 10), PAUSE_MAX_S)


def _describe(status: int) -> str:
    return f"exit {status}" if status >= 0 else signal.Signals(-status).name
