"""Addresses as limits see them: what is one address, and what counts as one neighbor."""

from __future__ import annotations

import ipaddress

from twofold.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def read_address(ip: str | None) -> Address | None:
    """The address, an IPv4 one where it is mapped into IPv6; None for what is none, such as a local socket's peer."""
    try:
        # A zone (`%eth0`) is a name on this machine, and may be any text at all.
        address = ipaddress.ip_address((ip or "").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return address if mapped is None else mapped


def neighborhood_of(address: Address) -> Network:
    """What counts as one neighbor: the address itself for IPv4, its /64 for IPv6, in which one machine has them all."""
    return ipaddress.ip_network((address, 32 if address.version == 4 else 64), strict=False)


def network_of(ip: str) -> str:
    """The network that counts as one neighbor, as text. Raises `InvalidInput`."""
    address = read_address(ip)
    if address is None:
        raise InvalidInput("context.ip", "an IPv4 or IPv6 address")
    return str(neighborhood_of(address))
