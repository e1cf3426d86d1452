"""Slow hashes run here: few at a time, bounded in number, and never two for one account.

Argon2 takes tens of milliseconds and megabytes; without bounds, asking for it would be the cheapest way to stop a
server. Known browsers wait in a line of their own, and the two lines take turns: strangers do not keep out the owner,
and people inside do not keep out those who sign in elsewhere.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from twofold.errors import Busy

#: In each of the two lines.
WAITING_MAX = 64
PER_ADDRESS_MAX = 4
T = TypeVar("T")


class HashPool:
    """A pool of threads with two bounded lines before it. Belongs to one event loop."""

    def __init__(self, workers: int | None = None) -> None:
        self._workers = workers or max(1, (os.cpu_count() or 2) - 1)
        self._executor = ThreadPoolExecutor(self._workers, thread_name_prefix="twofold-hash")
        self._free = self._workers
        #: By `is_known`.
        self._lines: dict[bool, deque[asyncio.Future[None]]] = {True: deque(), False: deque()}
        self._is_turn_of_known = True
        self._accounts: set[tuple[str, bool]] = set()
        self._addresses: Counter[str] = Counter()

    async def run(self, work: Callable[[], T], *, account_id: str, address: str | None, is_known: bool = False) -> T:
        """The result of `work`. Raises `Busy`: at once, before anything is computed."""
        # Strangers who keep an account's place taken do not keep out its owner, in a browser that is known.
        account = (account_id, is_known)
        if account in self._accounts or (address is not None and self._addresses[address] >= PER_ADDRESS_MAX):
            raise Busy(1, per_account=True)
        if len(self._lines[is_known]) >= WAITING_MAX:
            raise Busy(1)
        self._accounts.add(account)
        if address is not None:
            self._addresses[address] += 1
        try:
            await self._enter(is_known)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._executor, work)
            finally:
                self._leave()
        finally:
            self._accounts.discard(account)
            if address is not None:
                self._addresses[address] -= 1
                self._addresses += Counter()

    def close(self) -> None:
        """End the threads."""
        self._executor.shutdown(wait=True, cancel_futures=True)

    async def _enter(self, is_known: bool) -> None:
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line = self._lines[is_known]
        line.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._leave()
            elif turn in line:  # else it was passed over in between
                line.remove(turn)
            raise

    def _leave(self) -> None:
        """Hand the worker to the next in line, or keep it free."""
        for is_known in (self._is_turn_of_known, not self._is_turn_of_known):
            line = self._lines[is_known]
            while line:
                turn = line.popleft()
                if not turn.done():
                    turn.set_result(None)
                    self._is_turn_of_known = not is_known
                    return
        self._free += 1
