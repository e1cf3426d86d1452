"""Carries messages out after the commit that caused them: from the outbox to a sender, again until it worked."""

from __future__ import annotations

import logging

import msgspec

from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Message
from twofold.ports import Clock, Outbox, Sender

BATCH = 50
LEASE_S = 60
RETRY_MAX_S = 3600
log: logging.Logger = logging.getLogger("twofold")


class Delivery:
    """One worker; several may run at once, in several processes."""

    def __init__(self, outbox: Outbox, sender: Sender, clock: Clock) -> None:
        self._outbox = outbox
        self._sender = sender
        self._clock = clock

    async def run(self) -> int:
        """Send what is due now; how many were sent."""
        sent = 0
        while rows := await self._outbox.take(BATCH, now := self._clock.now(), LEASE_S):
            for row in rows:
                if self._clock.now() >= now + LEASE_S * MICROS_PER_S:
                    break  # the rest may be another worker's by now
                try:
                    message = Message(row.id, row.kind, msgspec.json.decode(row.payload))
                    await self._sender.send(message, row.account_id)
                except Exception as error:  # noqa: BLE001 - one message that fails holds up no other
                    wait_s = min(RETRY_MAX_S, 1 << min(row.attempts, 12))
                    log.warning("message %s not sent, again in %d s: %s", row.id, wait_s, error)
                    retry_at = self._clock.now() + wait_s * MICROS_PER_S
                    await self._outbox.settle(row.id, sent=False, retry_at=retry_at)
                    continue
                await self._outbox.settle(row.id, sent=True)
                sent += 1
        return sent
