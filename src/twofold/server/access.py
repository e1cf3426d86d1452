"""Who calls: the API key of a request, the networks it may come from, its rate. Scopes are the table's (`api.py`).

A key that was just checked is remembered for half a second, so that revoking one is obeyed within a second.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
from collections.abc import Callable
from time import monotonic

import msgspec
from starlette.types import Scope

from twofold.applications import ApplicationKeys
from twofold.core.network import Network
from twofold.ports import Application
from twofold.server.addresses import Addresses
from twofold.server.problems import Problem

REMEMBERED_S = 0.5
REMEMBERED_MAX = 1024
WARNED_EVERY_S = 60

log: logging.Logger = logging.getLogger("twofold")


class _Checked(msgspec.Struct, frozen=True):
    application: Application
    networks: tuple[Network, ...]
    until: float


class Access:
    """Checks API keys. Belongs to one event loop; `clock` counts seconds from anywhere and never goes back."""

    def __init__(
        self, applications: ApplicationKeys, addresses: Addresses, *, clock: Callable[[], float] = monotonic
    ) -> None:
        self._applications = applications
        self._addresses = addresses
        self._clock = clock
        self._checked: dict[bytes, _Checked] = {}
        self._warned: dict[str, float] = {}

    async def admit(self, authorization: bytes | None, scope: Scope) -> Application:
        """The application whose key came with this request; raises `Problem`: 401, or 429 for too many a second."""
        now = self._clock()
        # The digest, not the key itself: what lies about in memory should open nothing.
        name = hashlib.sha256(authorization or b"").digest()
        checked = self._checked.get(name)
        if checked is None or checked.until <= now:
            checked = await self._check(authorization, now)
            if len(self._checked) >= REMEMBERED_MAX:
                self._checked.clear()
            self._checked[name] = checked
        if checked.networks:
            address = self._addresses.find(scope).address
            if not _is_within(address, checked.networks):
                # Alike for a wrong key: whoever tries a stolen one does not learn that it is good.
                self._warn(checked.application, address, now)
                raise unauthorized()
        rate_per_s = checked.application.rate_per_s
        if rate_per_s is not None and not await self._applications.spend(checked.application, rate_per_s):
            detail = f"this key may make {rate_per_s} calls a second"
            raise Problem(429, "throttled", detail, retry_after_s=1, ways=())
        return checked.application

    async def _check(self, authorization: bytes | None, now: float) -> _Checked:
        scheme, _, key = (authorization or b"").partition(b" ")
        application = None
        if scheme.lower() == b"bearer":
            application = await self._applications.authenticate(key.strip().decode("latin-1"))
        if application is None:
            raise unauthorized()
        return _Checked(application, tuple(map(ipaddress.ip_network, application.networks)), now + REMEMBERED_S)

    def _warn(self, application: Application, address: str | None, now: float) -> None:
        if now - self._warned.get(application.id, -WARNED_EVERY_S) >= WARNED_EVERY_S:
            self._warned[application.id] = now
            log.warning("the key of application %s was used from %s, outside its networks", application.id, address)


def unauthorized() -> Problem:
    """The one answer to every key that does not count here."""
    detail = "this needs an API key: Authorization: Bearer tf_…"
    return Problem(401, "unauthorized", detail, headers=[(b"www-authenticate", b'Bearer realm="twofold"')])


def _is_within(address: str | None, networks: tuple[Network, ...]) -> bool:
    return address is not None and any(ipaddress.ip_address(address) in network for network in networks)
