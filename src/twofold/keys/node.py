"""This process among those that serve the same database: what it tells them, how it waits until all know a change."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import socket
from collections.abc import Awaitable, Callable

from twofold.errors import Unavailable
from twofold.key_ports import Node, Nodes
from twofold.keys.keyring import Keyring

#: So often a server looks whether the keyring changed, and reports that it is there. One that has not reported for so
#: long, which is longer than patience with a provider, is not waited for.
FOLLOW_EVERY_S = 0.5
REPORT_EVERY_S = 3
ALIVE_S = 30
FORGOTTEN_AFTER_S = 86_400
WAIT_MAX_S = 60
#: Longer than a commit takes that began with the keys of before: PostgreSQL ends its statement after 3 s.
COMMITS_END_S = 4
#: Servers whose clocks are so close agree on every limit and expiry.
CLOCK_OFF_MAX_S = 2
_MICROS = 1_000_000

log: logging.Logger = logging.getLogger("twofold")


class ThisNode:
    """What this process says of itself."""

    def __init__(self, keyring: Keyring, nodes: Nodes, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep):
        self._keyring = keyring
        self._nodes = nodes
        self._sleep = sleep
        self._started_at = keyring.clock.now()
        self._host = socket.gethostname()[:60]
        self.id: str = f"{self._host}-{keyring.entropy.bytes(8).hex()}"
        #: How far our clock is from the one of the database, in words; empty while they agree.
        self.clock_fault: str = ""
        self._told: Node | None = None

    async def follow(self) -> None:
        """Read the stored keyring again. What changed is told at once, and that we are here every few seconds."""
        await self._keyring.refresh()
        told, now = self._told, self._keyring.clock.now()
        is_fresh = told is not None and 0 <= now - told.seen_at < REPORT_EVERY_S * _MICROS
        if told is None or not is_fresh or told.stamp != keyring_stamp(self._keyring):
            await self._tell()

    async def report(self) -> None:
        """Read the stored keyring again, and tell the others what is known here."""
        await self._keyring.refresh()
        await self._tell()

    async def leave(self) -> None:
        """This process serves no more."""
        await self._nodes.drop_node(self.id)

    async def wait_for_all(self, master: str = "") -> None:
        """Return when every node works with the keyring as it is here, and can use `master`.

        Raises `Unavailable` that names the node and its reason when one does not within a minute.
        """
        behind = await self._find_behind(master)
        for _ in range(WAIT_MAX_S * 2):
            # One that has looked and cannot use the master key is not waited for: a minute would change nothing.
            if not behind or any(node.fault and node.stamp == keyring_stamp(self._keyring) for node in behind):
                break
            await self._sleep(0.5)
            behind = await self._find_behind(master)
        if not behind:
            return
        why = behind[0].fault or "it does not follow the keyring"
        raise Unavailable(
            f"the server on {behind[0].host} cannot go along: {why}; what it would not understand is not in use"
        )

    async def let_commits_end(self) -> None:
        """Return when nothing is on its way any more that was signed or sealed with a key of before: what begins now,
        the store refuses. Also nodes are waited for that look dead by a clock that was moved."""
        if any(node.id != self.id for node in await self._nodes.list_nodes()):
            await self._sleep(COMMITS_END_S)

    async def find_others(self) -> list[Node]:
        """The other processes that serve this database now."""
        now = self._keyring.clock.now()
        nodes = await self._nodes.list_nodes()
        return [node for node in nodes if node.id != self.id and abs(now - node.seen_at) < ALIVE_S * _MICROS]

    async def _tell(self) -> None:
        masters, clock = self._keyring.masters, self._keyring.clock
        await masters.try_others()
        now, stamp = clock.now(), keyring_stamp(self._keyring)
        node = Node(self.id, self._host, self._started_at, now, masters.usable, masters.fault, stamp)
        theirs = await self._nodes.put_node(node, forget_before=now - FORGOTTEN_AFTER_S * _MICROS)
        self._told = node
        if theirs is not None:
            # It looked at its clock at some time between these two looks at ours.
            self._compare(max(now - theirs, 0) or min(clock.now() - theirs, 0))

    def _compare(self, ahead: int) -> None:
        """Once, not every few seconds: a clock may be wrong for months. `ahead` in microseconds."""
        was_off = bool(self.clock_fault)
        off_s = abs(ahead) / _MICROS
        where = "ahead of" if ahead > 0 else "behind"
        self.clock_fault = f"{off_s:.1f} s {where} the database's" if off_s > CLOCK_OFF_MAX_S else ""
        if self.clock_fault and not was_off:
            log.warning("the clock of this machine is %s: codes, sessions and limits go by it", self.clock_fault)

    async def _find_behind(self, master: str) -> list[Node]:
        stamp = keyring_stamp(self._keyring)
        others = await self.find_others()
        return [node for node in others if node.stamp != stamp or (master and master not in node.masters)]


def keyring_stamp(keyring: Keyring) -> str:
    """A digest of which keys there are, in which state and under which master key."""
    rows = sorted((row.id, row.state, row.master) for row in keyring.rows())
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
