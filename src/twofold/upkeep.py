"""What runs beside the calls of a deployment: messages go out soon after their commit, and keys follow the keyring."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from twofold.delivery import Delivery
from twofold.errors import Unavailable

DELIVERY_EVERY_S = 1
CHECK_EVERY_S = 1
REFRESH_EVERY_S = 60
RECORD_EVERY_S = 60

log = logging.getLogger("twofold")


class Keys(Protocol):
    """The keyring as upkeep sees it."""

    async def check(self) -> None:
        """Raises `Unavailable` when the provider does not open the keys any more; until it does, neither do we."""
        ...

    async def refresh(self) -> None:
        """Read the stored keyring again."""
        ...

    async def rotate_ticket_key(self) -> None:
        """A new ticket key once a day."""
        ...


class RefusedPasswords(Protocol):
    """The password step as upkeep sees it."""

    async def record_refused(self) -> None:
        """Write down the wrong passwords of the last minute."""
        ...


@asynccontextmanager
async def upkeep(delivery: Delivery, keys: Keys, sign_in: RefusedPasswords) -> AsyncIterator[None]:
    """Runs it while the block runs."""

    async def follow_keys() -> None:
        await keys.rotate_ticket_key()
        await keys.refresh()

    tasks = [
        asyncio.create_task(_repeat(delivery.run, DELIVERY_EVERY_S)),
        asyncio.create_task(_repeat(keys.check, CHECK_EVERY_S)),
        asyncio.create_task(_repeat(follow_keys, REFRESH_EVERY_S)),
        asyncio.create_task(_repeat(sign_in.record_refused, RECORD_EVERY_S)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    was_done = True
    while True:
        try:
            await work()
            was_done = True
        except Unavailable as error:
            # Once, not every second: a provider may be away for hours.
            if was_done:
                log.warning("not done, tried again every %d s: %s", every_s, error)
            was_done = False
        except Exception:
            # It is tried again: one bad round must not end the deliveries of a server that runs for months.
            log.exception("not done, tried again in %d s", every_s)
        await asyncio.sleep(every_s)
