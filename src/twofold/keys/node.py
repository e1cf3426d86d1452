"""This process among those that serve the same database: what it tells them, how it waits until all know a change."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import Awaitable, Callable

from twofold.errors import Unavailable
from twofold.key_ports import Node, Nodes
from twofold.keys.keyring import Keyring

#: Servers report this often. One that has not for so long, which is longer than patience with a provider, is not waited
#: for.
REPORT_EVERY_S = 3
ALIVE_S = 30
FORGOTTEN_AFTER_S = 86_400
WAIT_MAX_S = 60
_MICROS = 1_000_000


class ThisNode:
    """What this process says of itself."""

    def __init__(self, keyring: Keyring, nodes: Nodes, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep):
        self._keyring = keyring
        self._nodes = nodes
        self._sleep = sleep
        self._started_at = keyring.clock.now()
        self._host = socket.gethostname()[:60]
        self.id = f"{self._host}-{keyring.entropy.bytes(2).hex()}"

    async def report(self) -> None:
        """Read the stored keyring again, and tell the others what is known here."""
        await self._keyring.refresh()
        await self._keyring.masters.try_others()
        now = self._keyring.clock.now()
        masters = self._keyring.masters
        node = Node(
            self.id, self._host, self._started_at, now, masters.usable, masters.fault, keyring_stamp(self._keyring)
        )
        await self._nodes.put_node(node, forget_before=now - FORGOTTEN_AFTER_S * _MICROS)

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

    async def let_all_follow(self) -> None:
        """Return when whoever serves has read the keyring as it is here, also one that looks dead by a clock that was
        moved. Raises `Unavailable` as `wait_for_all`."""
        await self.wait_for_all()
        if any(node.id != self.id for node in await self._nodes.list_nodes()):
            await self._sleep(REPORT_EVERY_S + 1)

    async def find_others(self) -> list[Node]:
        """The other processes that serve this database now."""
        now = self._keyring.clock.now()
        nodes = await self._nodes.list_nodes()
        return [node for node in nodes if node.id != self.id and abs(now - node.seen_at) < ALIVE_S * _MICROS]

    async def _find_behind(self, master: str) -> list[Node]:
        stamp = keyring_stamp(self._keyring)
        others = await self.find_others()
        return [node for node in others if node.stamp != stamp or (master and master not in node.masters)]


def keyring_stamp(keyring: Keyring) -> str:
    """A digest of which keys there are, in which state and under which master key."""
    rows = sorted((row.id, row.state, row.master) for row in keyring.rows())
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]
