"""Networks that are refused on all pages open to strangers: those that went over a limit, and those that an
administrator names. Whoever is signed in already goes on; telling who that is, is the server's part.

A network that goes over its limit is refused for 15 minutes, then 30, 60 … up to 24 hours; a week after the last of
these blocks ended, it begins anew. The rows are in the database; each open request asks a copy in memory.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

from twofold.core.account import Account, new_deployment
from twofold.core.attempt import Call, Context
from twofold.core.audit import EventKind
from twofold.core.clock import in_seconds, rfc3339
from twofold.core.decision import Decision, Done
from twofold.core.network import Address, Network, neighborhood_of, read_address
from twofold.engine import LOCAL, Caller, Engine
from twofold.errors import InvalidInput
from twofold.ports import NetworkBlock, NetworkBlocks

BLOCK_S = 900
BLOCK_S_MAX = 86_400
STRIKES_KEPT_S = 604_800
HOURS_MAX = 8_760
REASON_MAX = 200
READ_EVERY_MS = 500

_LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1"))


class Networks:
    """The refused networks of one deployment. Belongs to one event loop."""

    def __init__(self, store: NetworkBlocks, engine: Engine) -> None:
        self._store = store
        self._engine = engine
        self._rows: dict[str, NetworkBlock] = {}
        self._wide: list[tuple[Network, NetworkBlock]] = []
        self._read_at: int | None = None
        # Whoever reads or changes rows does so alone, so that what was read never overwrites what was changed since.
        self._turn = asyncio.Lock()

    def find_block(self, ip: str | None, *, is_behind_unknown_proxy: bool = False) -> NetworkBlock | None:
        """The block that this address is refused by. From memory: `refresh_if_old` comes before.

        Where everybody may share the address of a proxy, what the limits refused is passed: they took one for all. What
        an administrator refused stays so, or a header that anybody can send would lift it.
        """
        address = read_address(ip) if self._rows else None
        if address is None:
            return None
        now = self._engine.clock.now()
        own = self._rows.get(str(neighborhood_of(address)))
        wide = (block for network, block in self._wide if address in network)
        for block in wide if own is None else (own, *wide):
            if _is_in_force(block, now) and (block.by or not is_behind_unknown_proxy):
                return block
        return None

    async def refresh_if_old(self) -> None:
        """Read the rows if that was a while ago: other processes on the same database change them too."""
        if not self._is_fresh():
            async with self._turn:
                if not self._is_fresh():
                    await self._read()

    async def refresh(self) -> None:
        """Read the rows now."""
        async with self._turn:
            await self._read()

    async def strike(self, ip: str | None) -> NetworkBlock | None:
        """This address went over a limit: its network is refused from now on, by the block given back.

        The machine itself never is: someone who mistypes there, or a proxy not yet set up, would shut everybody out.
        """
        address = read_address(ip)
        if address is None or address.is_loopback:
            return None
        network = str(neighborhood_of(address))
        async with self._turn:
            await self._read()
            if standing := self.find_block(ip):
                return standing  # A burst goes over the limit many times at once, and is one strike.
            now = self._engine.clock.now()
            strikes = self._rows[network].strikes + 1 if network in self._rows else 1
            seconds = min(BLOCK_S * 2 ** min(strikes - 1, 10), BLOCK_S_MAX)
            block = NetworkBlock(network, now + in_seconds(seconds), strikes, now, "over its limit")
            await self._put(block)
        await self._record("network.blocked", block, Caller(context=Context(ip=ip)))
        return block

    async def add(
        self, network: str, *, hours: int | None = None, reason: str = "", caller: Caller = LOCAL
    ) -> NetworkBlock:
        """Refuse a network, for some hours or until it is lifted.

        Raises `InvalidInput` naming `network` (none, loopback, or one with the caller's own address in it), `hours`
        or `reason`.
        """
        chosen = str(_check_network(network, read_address(caller.context.ip)))
        if hours is not None and not 1 <= hours <= HOURS_MAX:
            raise InvalidInput("hours", f"1 to {HOURS_MAX}")
        if len(reason) > REASON_MAX or not reason.isprintable():
            raise InvalidInput("reason", f"at most {REASON_MAX} printable characters")
        async with self._turn:
            await self._read()
            now = self._engine.clock.now()
            strikes = self._rows[chosen].strikes if chosen in self._rows else 0
            until = 0 if hours is None else now + in_seconds(hours * 3600)
            block = NetworkBlock(chosen, until, strikes, now, reason, caller.by or caller.application)
            await self._put(block)
        await self._record("network.blocked", block, caller)
        return block

    async def lift(self, network: str, *, caller: Caller = LOCAL) -> bool:
        """Whether it was refused until now; its strikes are forgotten too."""
        async with self._turn:
            await self._read()
            block = self._rows.get(network)
            if block is None or not _is_in_force(block, self._engine.clock.now()):
                return False
            await self._store.drop_block(network)
            self._remember([row for row in self._rows.values() if row is not block])
        await self._record("network.lifted", NetworkBlock(network, 0, 0, block.blocked_at), caller)
        return True

    async def list(self) -> Sequence[NetworkBlock]:
        """All networks that are refused now."""
        await self.refresh()
        now = self._engine.clock.now()
        return [block for block in self._rows.values() if _is_in_force(block, now)]

    def _is_fresh(self) -> bool:
        # A clock that was set back does not make rows fresh for hours.
        return self._read_at is not None and 0 <= self._engine.clock.now() - self._read_at < READ_EVERY_MS * 1000

    async def _read(self) -> None:
        now = self._engine.clock.now()
        kept = []
        for block in await self._store.list_blocks():
            if block.until and block.until + in_seconds(STRIKES_KEPT_S) <= now:
                await self._store.drop_block(block.network)
            else:
                kept.append(block)
        self._remember(kept)
        self._read_at = now

    async def _put(self, block: NetworkBlock) -> None:
        await self._store.put_block(block)
        self._remember([*(row for row in self._rows.values() if row.network != block.network), block])

    def _remember(self, rows: Sequence[NetworkBlock]) -> None:
        self._rows = {row.network: row for row in rows}
        networks = ((ipaddress.ip_network(row.network), row) for row in rows)
        # Those that are one neighborhood are found by their name.
        self._wide = [
            (network, row) for network, row in networks if network != neighborhood_of(network.network_address)
        ]

    async def _record(self, kind: EventKind, block: NetworkBlock, caller: Caller) -> None:
        def decide(account: Account | None, call: Call) -> Decision:
            deployment = account or new_deployment(call.seed, call.now)
            event = call.event(
                kind,
                network=block.network,
                until=rfc3339(block.until) if block.until else None,
                strikes=block.strikes or None,
                reason=block.reason or None,
            )
            return Decision(Done(), deployment, (event,))

        await self._engine.record(decide, caller)


def _is_in_force(block: NetworkBlock, now: int) -> bool:
    return block.until == 0 or now < block.until


def _check_network(text: str, own: Address | None) -> Network:
    try:
        network = ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        raise InvalidInput("network", "an address or a network such as 203.0.113.0/24 or 2001:db8::/48") from None
    first = network.network_address
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped is not None and network.prefixlen >= 96:
        network = ipaddress.ip_network((first.ipv4_mapped, network.prefixlen - 96))
    if any(network.overlaps(loopback) for loopback in _LOOPBACK):
        expected = "a network without 127.0.0.0/8 and ::1: that is this machine itself"
        raise InvalidInput("network", expected, why="loopback")
    if own is not None and own in network:
        expected = f"a network without your own address, {own}: it would shut you out"
        raise InvalidInput("network", expected, why="own")
    return network
