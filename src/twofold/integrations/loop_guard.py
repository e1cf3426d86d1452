"""The guard for frameworks with an event loop: opened in the loop that asks for it."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from twofold.errors import ConfigurationError
from twofold.integrations.arrival import Options
from twofold.integrations.guard import Administrators, Guard, Listener, Rule
from twofold.verifier import Verifier


class LoopGuard:
    """A `Guard` that begins with the application. A server has one event loop; the requests of a test may each have
    one of their own, and find a guard in each."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._required: list[tuple[Rule, Administrators]] = []
        self._listeners: list[tuple[str, Listener]] = []
        self._opening: asyncio.Task[Guard] | None = None

    @property
    def verifier(self) -> Verifier:
        """The verifier; raises `ConfigurationError` before the application has begun."""
        if self._opening is None or not self._opening.done():
            raise ConfigurationError("the application has not begun yet, and its verifier begins with it")
        return self._opening.result().verifier

    def require(self, rule: Rule, administrators: Administrators) -> None:
        """See `Guard.require`; what it raises is raised when the application begins."""
        self._required.append((rule, administrators))

    def on(self, kind: str, listener: Listener) -> None:
        """See `Guard.on`."""
        self._listeners.append((kind, listener))

    async def find_guard(self) -> Guard:
        """The guard of this event loop; raises `ConfigurationError` where it cannot be opened."""
        before, loop = self._opening, asyncio.get_running_loop()
        if before is None or before.get_loop() is not loop or _has_failed(before):
            self._opening = before = loop.create_task(self._open(before))
        return before.result() if before.done() else await asyncio.shield(before)

    async def close(self) -> None:
        """See `Guard.close`."""
        opening, self._opening = self._opening, None
        if opening is not None:
            await (await opening).close()

    async def _open(self, before: asyncio.Task[Guard] | None) -> Guard:
        if before is not None and before.get_loop().is_closed():
            # Its loop ended without telling the application; what it held has to be let go all the same.
            with suppress(Exception):
                await before.result().close()
        guard = await Guard.open(self.options)
        try:
            for rule, administrators in self._required:
                await guard.require(rule, administrators)
        except BaseException:
            await guard.close()
            raise
        for kind, listener in self._listeners:
            guard.on(kind, listener)
        return guard


def _has_failed(opening: asyncio.Task[Guard]) -> bool:
    return opening.done() and (opening.cancelled() or opening.exception() is not None)
