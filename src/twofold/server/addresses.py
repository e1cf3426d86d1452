"""The address that a request comes from, through the proxies that are trusted to name it.

`X-Forwarded-For` is a list that each proxy adds to at its right end, and whose left end anybody can write. It is read
from the right, past the trusted proxies; the first address that is none of them is the sender's. Nothing else of what a
proxy says is believed: scheme and host come from PUBLIC_URL, and RFC 7239's `Forwarded` is not read, because a proxy
that writes one of the two headers passes on the other as the sender wrote it.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Iterator, Sequence

import msgspec
from starlette.types import Scope

from twofold.core.network import Address, Network, read_address

#: Room for more proxies than anybody has. Only what lies further left is dropped, and strangers wrote that.
FORWARDED_BYTES_MAX = 2048
WARNED_PEERS_MAX = 100

_FORWARDED_FOR = b"x-forwarded-for"
_MARKS_OF_A_PROXY = frozenset({_FORWARDED_FOR, b"forwarded"})
#: Where a proxy of one's own is: this machine, private networks, those of containers and providers (RFC 6598).
_NEARBY = tuple(
    map(
        ipaddress.ip_network,
        (
            *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10"),
            *("::1/128", "fc00::/7", "fe80::/10"),
        ),
    )
)

log: logging.Logger = logging.getLogger("twofold")


class Sender(msgspec.Struct, frozen=True):
    """Who sent a request. `address` is None where the connection has none.

    `is_behind_unknown_proxy`: the address is that of a proxy, so everybody may have it: whoever limits by network warns
    instead of refusing. `suggestion` is the setting that mends it, as far as that is known.
    """

    address: str | None
    is_behind_unknown_proxy: bool = False
    suggestion: str | None = None


class Addresses:
    """Finds senders. `trusted_proxies` is None when nothing is said about proxies, empty when there is none.

    `suggestion` is the last one that was made.
    """

    def __init__(self, trusted_proxies: Sequence[Network] | None) -> None:
        self._trusted = tuple(trusted_proxies or ())
        self._is_told = trusted_proxies is not None
        self._warned: set[Address] = set()
        self.suggestion: str | None = None

    def find(self, scope: Scope) -> Sender:
        """The sender of this request; whatever the headers hold, an answer and never an error."""
        peer = _read_address(scope["client"][0]) if scope.get("client") else None
        if peer is None:
            return Sender(None)
        if _lies_in(peer, self._trusted):
            address = self._walk(peer, scope)
            # A trusted proxy that names nobody stands for everybody behind it.
            return Sender(str(address), is_behind_unknown_proxy=_lies_in(address, self._trusted))
        if _lies_in(peer, _NEARBY) and any(name in _MARKS_OF_A_PROXY for name, _ in scope["headers"]):
            # Once the proxies are named, nobody gets around a limit by such a header.
            return Sender(str(peer), is_behind_unknown_proxy=not self._is_told, suggestion=self._suggest(peer))
        return Sender(str(peer))

    def _walk(self, peer: Address, scope: Scope) -> Address:
        """From the peer to the left, up to the first address that is not trusted or the last that is one."""
        address = peer
        for hop in _read_hops(scope):
            if hop is None:
                break
            address = hop
            if not _lies_in(hop, self._trusted):
                break
        return address

    def _suggest(self, peer: Address) -> str:
        proxies = (*self._trusted, ipaddress.ip_network(peer))
        self.suggestion = f"TWOFOLD_TRUSTED_PROXIES={','.join(map(str, proxies))}"
        if peer not in self._warned and len(self._warned) < WARNED_PEERS_MAX:
            self._warned.add(peer)
            log.warning(
                "%s sends X-Forwarded-For or Forwarded and is not trusted, so all behind it share its address; if it is"
                " your proxy, set %s",
                peer,
                self.suggestion,
            )
        return self.suggestion


def _read_hops(scope: Scope) -> Iterator[Address | None]:
    """The addresses of X-Forwarded-For from right to left, None for what is none. Several lines are one list."""
    forwarded = b",".join(value for name, value in scope["headers"] if name == _FORWARDED_FOR)
    hops = forwarded[-FORWARDED_BYTES_MAX:].decode("latin-1").split(",")
    if len(forwarded) > FORWARDED_BYTES_MAX:
        del hops[0]  # half an address may look like another one
    return (_read_address(hop.strip()) for hop in reversed(hops))


def _read_address(text: str) -> Address | None:
    """The address in `192.0.2.1`, `192.0.2.1:443`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:443`."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    # A socket for both kinds shows IPv4 inside IPv6; it is one address and counts as one.
    return read_address(text)


def _lies_in(address: Address, networks: Sequence[Network]) -> bool:
    return any(address in network for network in networks)
