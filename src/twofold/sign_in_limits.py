"""The limits of the password step, counted before any hash is computed, and the one log line of each refusal.

Counted are attempts of one name from one network, and those of one network; never those of a name alone, or anybody
could lock its owner out. Whether somebody has the name changes nothing: not what is counted, not how much work it is.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable
from typing import ClassVar, Literal

import msgspec

from twofold.core.account import Account, new_deployment
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Decision, Done
from twofold.core.discreet import Discreet
from twofold.core.factor import read_answer
from twofold.core.network import neighborhood_of, read_address
from twofold.engine import Engine
from twofold.errors import Busy
from twofold.hash_pool import PER_ADDRESS_MAX
from twofold.networks import Networks

WINDOW_S = 900
NAME_NETWORK_PER_WINDOW = 10
NETWORK_PER_WINDOW = 100
KNOWN_PER_WINDOW = 100
NETWORKS_PER_NAME_ALARM = 10
CODE_WINDOW_S = 3600
ACCOUNTS_PER_CODE_ALARM = 50
#: Many names can be sprayed at once; so many alarms say it all, and more would only fill the disk.
ALARMS_PER_WINDOW = 20
WARNED_EVERY_S = 60

#: Why somebody was refused, as the log tells it; `docs/howto/fail2ban.md` explains each. Never renamed.
RefusalReason = Literal[
    "wrong_password",
    "wrong_code",
    "wrong_passkey",
    "wrong_link",
    "throttled",
    "disabled",
    "limit_name",
    "limit_network",
    "blocked",
]

log: logging.Logger = logging.getLogger("twofold.sign_in")


class Admitted(Discreet, frozen=True):
    """An attempt that may be judged. It ends with `settle`, however it ends. `name` is what was typed, which may be a
    password by mistake; `by_name` and `by_network` are what was counted."""

    hidden: ClassVar[tuple[str, ...]] = ("name",)

    name: str
    network: str
    window: int
    by_name: bytes
    by_network: bytes | None = None


class TooMany(msgspec.Struct, frozen=True):
    """An attempt that is not judged: its name from its network, or its whole network, has had too many."""

    retry_after_s: int
    over: Literal["name", "network"]


class SignInLimits:
    """The limits of one deployment. Belongs to one event loop."""

    def __init__(self, engine: Engine, networks: Networks) -> None:
        self._engine = engine
        self._limits = engine.limits
        self._networks = networks
        self._under_way: Counter[str] = Counter()
        self._warned_at: int | None = None
        # Alarms share a counter and an audit chain, each of which takes few at a time: none is lost in a rush.
        self._turn_of_alarms = asyncio.Lock()

    async def admit(
        self, name: str, ip: str | None, *, is_known: bool, is_behind_unknown_proxy: bool = False
    ) -> Admitted | TooMany:
        """Count one attempt, then say whether it may be judged. Known browsers of this account have a count of their
        own, which strangers around them cannot use up. Where everybody shares the address of a proxy, the limit of the
        network only warns.

        Raises `Busy`, with nothing counted, when as many as may hash at once are under way from this network: a crowd
        that signs in at nine is told to come back in a second, not taken for an attack.
        """
        network = _network_of(ip)
        if is_known:
            return await self._count_known(name, network)
        if network and not is_behind_unknown_proxy and self._under_way[network] >= PER_ADDRESS_MAX:
            raise Busy(1, per_account=True)
        self._under_way[network] += 1
        judged = None
        try:
            judged = await self._count(name, ip, network, only_warn=is_behind_unknown_proxy)
        finally:
            if not isinstance(judged, Admitted):
                self._leave(network)
        return judged

    async def settle(
        self, admitted: Admitted, *, is_right: bool, is_account: bool = False, unfinished: Iterable[str] = ()
    ) -> None:
        """The attempt is over. Right, or never judged (`Busy`): it counts no more. Wrong: an alarm if many networks
        fail on this name, which is told only if it is one, `is_account`.

        `unfinished` are the addresses of the account's sign-ins that still wait for their second factor. If one of them
        is of this network, a right password goes on counting for the name: whoever has the password alone completes
        none, and must not begin so many that the owner's make room.
        """
        self._leave(admitted.network)
        if is_right:
            if admitted.by_network is not None:
                await self._limits.take_back(admitted.by_network, admitted.window)
            if all(_network_of(ip) != admitted.network for ip in unfinished):
                await self._limits.take_back(admitted.by_name, admitted.window)
            return
        name, network = _encode(admitted.name), admitted.network.encode()
        if await self._is_spread("names", name, network, admitted.window, NETWORKS_PER_NAME_ALARM):
            who = repr(admitted.name) if is_account else "a name that is no account's"
            log.error("ALARM more than %d networks fail on the password of %s", NETWORKS_PER_NAME_ALARM, who)
            await self._record("networks", admitted.name if is_account else None)

    async def note_wrong_code(self, account_id: str, code: str) -> None:
        """A wrong second factor code, as typed: an alarm if the same one is tried on many accounts."""
        _, window = self._window(CODE_WINDOW_S)
        (read,) = read_answer([code]).codes
        if await self._is_spread("codes", _encode(read), _encode(account_id), window, ACCOUNTS_PER_CODE_ALARM):
            log.error("ALARM one and the same code was tried on more than %d accounts", ACCOUNTS_PER_CODE_ALARM)
            await self._record("accounts", None)

    async def _count(self, name: str, ip: str | None, network: str, *, only_warn: bool) -> Admitted | TooMany:
        now_s, window = self._window(WINDOW_S)
        by_network = self._engine.keys.index_digest(b"sign_in.network", network.encode())
        is_within = await self._limits.hit(by_network, window, NETWORK_PER_WINDOW)
        if not is_within and not only_warn:
            block = await self._networks.strike(ip)
            until_s = block.until // MICROS_PER_S if block and block.until else window + WINDOW_S
            return TooMany(until_s - now_s, "network")
        if not is_within:
            self._warn(network)
        by_name = self._engine.keys.index_digest(b"sign_in.name", _encode(name), network.encode())
        if not await self._limits.hit(by_name, window, NAME_NETWORK_PER_WINDOW):
            return TooMany(window + WINDOW_S - now_s, "name")
        return Admitted(name, network, window, by_name, by_network if is_within else None)

    async def _count_known(self, name: str, network: str) -> Admitted | TooMany:
        now_s, window = self._window(WINDOW_S)
        by_name = self._engine.keys.index_digest(b"sign_in.known", _encode(name), network.encode())
        if not await self._limits.hit(by_name, window, KNOWN_PER_WINDOW):
            return TooMany(window + WINDOW_S - now_s, "name")
        self._under_way[network] += 1
        return Admitted(name, network, window, by_name)

    def _window(self, length_s: int) -> tuple[int, int]:
        """The time, and when the window that it is in began; both in seconds."""
        now_s = self._engine.clock.now() // MICROS_PER_S
        return now_s, now_s - now_s % length_s

    async def _is_spread(self, kind: str, target: bytes, source: bytes, window: int, sources_max: int) -> bool:
        """Whether by this failure more than `sources_max` sources failed on one target; said once a window."""

        async def is_below(cap: int, *parts: bytes) -> bool:
            return await self._limits.hit(self._engine.keys.index_digest(b"spread", kind.encode(), *parts), window, cap)

        if not await is_below(1, target, source):
            return False
        if await is_below(sources_max, target):
            return False
        async with self._turn_of_alarms:
            return await is_below(1, b"told", b"", target) and await is_below(ALARMS_PER_WINDOW)

    async def _record(self, across: Literal["networks", "accounts"], account_id: str | None) -> None:
        def decide(account: Account | None, call: Call) -> Decision:
            deployment = account or new_deployment(call.seed, call.now)
            return Decision(Done(), deployment, (call.event("sign_in.sprayed", across=across, account=account_id),))

        async with self._turn_of_alarms:
            await self._engine.record(decide)

    def _leave(self, network: str) -> None:
        self._under_way[network] -= 1
        if not self._under_way[network]:
            del self._under_way[network]

    def _warn(self, network: str) -> None:
        now = self._engine.clock.now()
        if self._warned_at is None or not 0 <= now - self._warned_at < WARNED_EVERY_S * MICROS_PER_S:
            self._warned_at = now
            log.warning(
                "more than %d sign-ins in %d minutes failed behind the proxy %s, and nobody can be refused for it: only"
                " with TRUSTED_PROXIES are they told apart",
                *(NETWORK_PER_WINDOW, WINDOW_S // 60, network.partition("/")[0]),
            )


def log_refusal(ip: str | None, reason: RefusalReason) -> None:
    """One line for whoever watches the log, such as fail2ban: the address, or `-` without one, and the reason.

    Nothing else that a stranger sends: people type passwords into the field for the name, and attackers type log lines.
    """
    log.info("refused sign-in from %s: %s", read_address(ip) or "-", reason)


def _network_of(ip: str | None) -> str:
    """Whoever has no address, such as the peer of a local socket, is of one network, the empty one."""
    address = read_address(ip)
    return "" if address is None else str(neighborhood_of(address))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "replace")
