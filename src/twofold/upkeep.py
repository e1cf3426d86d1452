"""What runs beside the calls of a deployment: messages go out soon after their commit, and keys follow the keyring."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Protocol

from twofold.core.clock import MICROS_PER_S
from twofold.delivery import Delivery
from twofold.errors import TwofoldError, Unavailable
from twofold.key_audit import KeyAudit
from twofold.keys.keyring import Keyring
from twofold.keys.node import FOLLOW_EVERY_S, ThisNode
from twofold.keys.rotation import Rotation, end_of_grace
from twofold.ports import Limits
from twofold.resealing import Resealing

DELIVERY_EVERY_S = 1
CHECK_EVERY_S = 1
RECORD_EVERY_S = 5
RENEW_EVERY_S = 3600
REMOVE_EVERY_S = 60
#: In the background there is time: it rests so much longer than it works.
BACKGROUND_REST = 9.0

log: logging.Logger = logging.getLogger("twofold")


class KeyUpkeep:
    """What keys need while a server runs."""

    def __init__(
        self,
        keyring: Keyring,
        node: ThisNode,
        audit: KeyAudit,
        rotation: Rotation,
        resealing: Resealing,
        *,
        limits: Limits,
    ) -> None:
        self._keyring = keyring
        self._node = node
        self._audit = audit
        self._rotation = rotation
        self._resealing = resealing
        self._limits = limits

    async def check(self) -> None:
        """Raises `Unavailable` when the provider does not open the keys any more; until it does, neither do we."""
        try:
            await self._keyring.check()
        finally:
            await self._audit.record_uses()

    async def follow(self) -> None:
        """Follow the stored keyring, and tell the other nodes."""
        await self._node.follow()

    async def leave(self) -> None:
        """This process serves no more."""
        await self._node.leave()

    async def renew(self) -> None:
        """Once an hour, on one node: new keys where they are due, everything under the keys in use, and an end of those
        that nothing has been under for long enough. Master keys are ended by hand alone."""
        if self._node.clock_fault:
            return  # by a clock that is ahead, the grace of a key is over too soon
        hour = self._keyring.clock.now() // MICROS_PER_S // RENEW_EVERY_S * RENEW_EVERY_S
        if not await self._limits.hit(self._keyring.index_digest(b"renew"), hour, 1):
            return
        if await self._rotation.is_data_key_due():
            await self._rotation.make_data_key("due")
        await self._end_retired()
        # Last: it waits for every node, and fails while one of them does not follow.
        await self._rotation.rotate_ticket_key()

    async def _end_retired(self) -> None:
        """Put everything under the keys in use; destroy those that nothing has been under for long enough."""
        ends = ("data", "integrity", "receipt")
        retired = [row for row in self._keyring.rows() if row.purpose in ends and row.state == "decrypt_only"]
        # Those that were seen empty are looked at again when their time has come, not each hour.
        if all(row.empty_since and self._keyring.clock.now() < end_of_grace(row) for row in retired):
            return
        await self._resealing.run(rest=BACKGROUND_REST)
        found, unreadable = await self._resealing.count()
        for row in retired:
            # What cannot be read may lie under any of them.
            if await self._rotation.note_scan(row.id, found[row.id] + unreadable) is None:
                await self._rotation.destroy(row.id, "grace is over")


class RefusedPasswords(Protocol):
    """The password step as upkeep sees it."""

    async def record_refused(self) -> None:
        """Write down the wrong passwords of the last minute."""
        ...


class Stopped(Protocol):
    """The people as upkeep sees them."""

    async def remove_stopped(self) -> None:
        """Write down which authenticators stopped at the end of a grace."""
        ...


@asynccontextmanager
async def upkeep(
    delivery: Delivery, keys: KeyUpkeep, sign_in: RefusedPasswords, people: Stopped
) -> AsyncIterator[None]:
    """Runs it while the block runs."""
    # Before the first call is served: whoever changes keys now waits for this process, too.
    with suppress(Unavailable):
        await keys.follow()
    tasks = [
        asyncio.create_task(_repeat(delivery.run, DELIVERY_EVERY_S)),
        asyncio.create_task(_repeat(keys.check, CHECK_EVERY_S)),
        asyncio.create_task(_repeat(keys.follow, FOLLOW_EVERY_S)),
        asyncio.create_task(_repeat(keys.renew, RENEW_EVERY_S)),
        asyncio.create_task(_repeat(sign_in.record_refused, RECORD_EVERY_S)),
        asyncio.create_task(_repeat(people.remove_stopped, REMOVE_EVERY_S)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(TwofoldError):
            await keys.leave()


async def _repeat(work: Callable[[], Awaitable[object]], every_s: float) -> None:
    was_done = True
    while True:
        try:
            await work()
            was_done = True
        except Unavailable as error:
            # Once, not every second: a provider may be away for hours.
            if was_done:
                log.warning("not done, tried again every %g s: %s", every_s, error)
            was_done = False
        except Exception:
            if not threading.main_thread().is_alive():
                return  # the process ends, and its threads with it
            # It is tried again: one bad round must not end the deliveries of a server that runs for months.
            log.exception("not done, tried again in %g s", every_s)
        await asyncio.sleep(every_s)
