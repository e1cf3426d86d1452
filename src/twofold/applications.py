"""API keys: made, checked, counted, revoked. A key is `tf_<id>_<43 characters>`; only a keyed digest of it is stored.

The digest covers the scopes and every other field too, so a row in a stolen or edited database cannot be forged into
a key, and a key cannot be widened.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import parse_qsl

import msgspec

from twofold.config import is_loopback
from twofold.core.account import Account, new_deployment
from twofold.core.attempt import Call
from twofold.core.audit import EventKind
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Decision, Done
from twofold.engine import Engine
from twofold.errors import InvalidInput
from twofold.ports import Application, Applications, SealingKeys
from twofold.relying_party import read_relying_party

SCOPES = ("verify", "enroll", "admin")
DEFAULT_SCOPES = ("verify", "enroll")
#: A rate is counted in so many parts: a server that has one asks nobody until it is used up.
PARTS_OF_RATE = 20
RETURN_TO_MAX = 512
#: What a prompt's answer adds to the address.
RESERVED = frozenset({"code", "state", "error"})
_PCHAR = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})"
_RETURN_TO = re.compile(
    rf"(?P<scheme>https?)://(?P<host>[a-z0-9.-]+|\[[0-9a-f:.]+\])(?::[0-9]{{1,5}})?"
    rf"(?P<path>/{_PCHAR}*)(?:\?(?P<query>{_PCHAR}*))?"
)
_KEY = re.compile(r"tf_([a-z2-7]{8})_([A-Za-z0-9_-]{43})", re.ASCII)


class _Part(msgspec.Struct):
    """What this server has of a key's calls in one second of time, and whether the others have the rest."""

    turn: asyncio.Lock
    second: int = 0
    left: int = 0
    is_last: bool = False


class ApplicationKeys:
    """The API keys of one deployment. Belongs to one event loop."""

    def __init__(self, store: Applications, keys: SealingKeys, engine: Engine) -> None:
        self._store = store
        self._keys = keys
        self._engine = engine
        self._parts: dict[str, _Part] = {}

    async def create(
        self,
        name: str,
        *,
        scopes: Sequence[str] = DEFAULT_SCOPES,
        origins: Sequence[str] = (),
        rp_id: str | None = None,
        rate_per_s: int | None = None,
        networks: Sequence[str] = (),
        return_to: Sequence[str] = (),
    ) -> tuple[Application, str]:
        """A new application and its key, which is never shown again. Raises `InvalidInput`.

        `origins` and `rp_id` are its WebAuthn relying party (`read_relying_party`); without them Twofold's own.
        `return_to` are the addresses to which people come back from its prompts.
        """
        entropy = self._engine.entropy
        party = read_relying_party(origins, rp_id)
        application = Application(
            base64.b32encode(entropy.bytes(5)).decode().lower(),
            _check_name(name),
            _check_scopes(scopes),
            self._engine.clock.now(),
            party.origins if party else (),
            party.id if party else None,
            _check_rate(rate_per_s),
            tuple(_check_network(network) for network in networks),
            return_to=tuple(dict.fromkeys(_check_return_to(url) for url in return_to)),
        )
        secret = base64.urlsafe_b64encode(entropy.bytes(32)).rstrip(b"=").decode()
        application = msgspec.structs.replace(application, mac=self._digest(application, secret))
        await self._store.add_application(application)
        await self._record("application.added", application)
        return application, f"tf_{application.id}_{secret}"

    async def authenticate(self, key: str) -> Application | None:
        """The application of a key; None when there is none, it was revoked, or its row was changed."""
        match = _KEY.fullmatch(key)
        if match is None:
            return None
        application = await self._store.find_application(match[1])
        if application is None or not hmac.compare_digest(application.mac, self._digest(application, match[2])):
            return None
        return application

    async def spend(self, application: Application, rate_per_s: int) -> bool:
        """Count one call; False when as many were made in this second, through all servers together, as may be."""
        part = self._parts.setdefault(application.id, _Part(asyncio.Lock()))
        async with part.turn:
            second = self._engine.clock.now() // MICROS_PER_S
            if part.second != second:
                part.second, part.left, part.is_last = second, 0, False
            if not part.left and not part.is_last:
                size = max(1, rate_per_s // PARTS_OF_RATE)
                key = self._keys.index_digest(b"application.rate", application.id.encode())
                part.is_last = not await self._engine.limits.hit(key, second, rate_per_s // size)
                part.left = 0 if part.is_last else size
            is_within = part.left > 0
            part.left -= is_within
            return is_within

    async def list(self) -> Sequence[Application]:
        """All that are not revoked."""
        return await self._store.list_applications()

    async def revoke(self, application_id: str) -> bool:
        """Whether there was one to revoke; running servers obey within a second."""
        application = await self._store.find_application(application_id)
        if application is None or not await self._store.revoke_application(application_id):
            return False
        await self._record("application.revoked", application)
        return True

    def _digest(self, application: Application, secret: str) -> bytes:
        fields = msgspec.structs.asdict(msgspec.structs.replace(application, mac=b""))
        if not application.return_to:
            # Keys from before there were prompts go on as they are.
            del fields["return_to"]
        document = msgspec.json.encode(fields)
        return self._keys.index_digest(b"application", secret.encode(), document)

    async def _record(self, kind: EventKind, application: Application) -> None:
        def decide(account: Account | None, call: Call) -> Decision:
            deployment = account or new_deployment(call.seed, call.now)
            event = call.event(kind, id=application.id, name=application.name, scopes=application.scopes)
            return Decision(Done(), deployment, (event,))

        await self._engine.record(decide)


def _check_name(name: str) -> str:
    if not (1 <= len(name) <= 64 and name.isprintable()):
        raise InvalidInput("name", "1 to 64 printable characters")
    return name


def _check_scopes(scopes: Sequence[str]) -> tuple[str, ...]:
    if not scopes or not set(scopes) <= set(SCOPES):
        raise InvalidInput("scope", f"one or more of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in scopes)


def _check_return_to(url: str) -> str:
    """The address as it is. Whatever two programs could read in two ways is refused."""
    parts = _RETURN_TO.fullmatch(url) if len(url) <= RETURN_TO_MAX else None
    if parts is None or {".", ".."} & set(parts["path"].lower().replace("%2e", ".").split("/")):
        expected = "such as https://app.example.com/2fa/back, in ASCII, without a user name, dot segments and fragment"
        raise InvalidInput("return_to", expected)
    if parts["scheme"] == "http" and not is_loopback(parts["host"].strip("[]")):
        raise InvalidInput("return_to", "https, or http on this machine (localhost, 127.0.0.1)")
    if {name for name, _ in parse_qsl(parts["query"] or "", keep_blank_values=True)} & RESERVED:
        raise InvalidInput("return_to", f"a query without {', '.join(sorted(RESERVED))}: they come with the answer")
    return url


def _check_rate(rate_per_s: int | None) -> int | None:
    if rate_per_s is not None and not 1 <= rate_per_s <= 1_000_000:
        raise InvalidInput("rate", "1 to 1000000 calls a second")
    return rate_per_s


def _check_network(network: str) -> str:
    try:
        return str(ipaddress.ip_network(network))
    except ValueError:
        raise InvalidInput("cidr", "a network such as 10.0.0.0/8") from None
