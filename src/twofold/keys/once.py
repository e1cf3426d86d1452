"""Several who need the same thing at the same time: one does it, the others wait for him and end as he does."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Once:
    """What is under way now, by name."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Future[None]] = {}

    async def do(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do the work unless somebody does it already. Who waits may be canceled without stopping it; another event
        loop waits for nobody and does it himself."""
        running = self._running.get(name)
        if running is None or running.get_loop() is not asyncio.get_running_loop():
            running = asyncio.ensure_future(work())
            self._running[name] = running
            running.add_done_callback(lambda done: self._forget(name, done))
        await asyncio.shield(running)

    def _forget(self, name: str, done: asyncio.Future[None]) -> None:
        if self._running.get(name) is done:
            del self._running[name]
        if not done.cancelled():
            done.exception()  # whoever waited has it; if nobody did, it is no news
