"""Patience with a provider across a network: a time limit, a few tries with growing pauses, then a while of silence.

While it is silent, calls fail at once and nobody waits: a provider that is down is not asked by every sign-in. What it
refuses is passed on as it is, and not asked again for a second.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from twofold.errors import KeyRefused, ProviderAway
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping

TRIES = 3
TRY_S = 4.0
FIRST_PAUSE_S = 0.1
SILENCE_S = 1.0
SILENCE_MAX_S = 30.0
REFUSED_FOR_S = 1.0
_REFUSALS_MAX = 1000

T = TypeVar("T")


class PatientProvider:
    """Another provider, asked with patience. `now` counts seconds; `sleep` waits them."""

    def __init__(
        self,
        provider: KeyProvider,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._provider = provider
        self._now = now
        self._sleep = sleep
        self._silent_until = float("-inf")
        self._silence_s = SILENCE_S
        self._away: ProviderAway | None = None
        self._refusals: dict[tuple[str, bytes], tuple[float, KeyRefused]] = {}

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        return await self._ask(lambda: self._provider.wrap(key, key_id=key_id))

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        until, refused = self._refusals.get((key_id, wrapped), (float("-inf"), None))
        if refused is not None and self._now() < until:
            raise KeyRefused(str(refused), refused.request_id)
        try:
            opened = await self._ask(lambda: self._provider.unwrap(wrapped, key_id=key_id))
        except KeyRefused as refused:
            if len(self._refusals) >= _REFUSALS_MAX:
                self._refusals.clear()
            self._refusals[key_id, wrapped] = (self._now() + REFUSED_FOR_S, refused)
            raise
        self._refusals.pop((key_id, wrapped), None)
        return opened

    async def watch(self) -> None:
        try:
            await asyncio.wait_for(self._provider.watch(), TRY_S)
        except TimeoutError:
            raise ProviderAway(f"{self.describe()} did not answer within {TRY_S:g} s") from None

    def describe(self) -> str:
        return self._provider.describe()

    async def close(self) -> None:
        await self._provider.close()

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        if self._away is not None and self._now() < self._silent_until:
            raise ProviderAway(str(self._away))
        for tried in range(TRIES):
            if tried:
                await self._sleep(FIRST_PAUSE_S * 2 ** (tried - 1))
            try:
                answer = await asyncio.wait_for(ask(), TRY_S)
            except TimeoutError:
                self._away = ProviderAway(f"{self.describe()} did not answer within {TRY_S:g} s")
            except ProviderAway as away:
                self._away = away
            except KeyRefused:
                self._away, self._silence_s = None, SILENCE_S
                raise
            else:
                self._away, self._silence_s = None, SILENCE_S
                return answer
        assert self._away is not None  # noqa: S101 - or a try had returned
        # Of many who found out together, one makes the silence longer.
        if self._now() >= self._silent_until:
            self._silent_until = self._now() + self._silence_s
            self._silence_s = min(2 * self._silence_s, SILENCE_MAX_S)
        raise self._away


_: type[KeyProvider] = PatientProvider
