"""CBOR as authenticators write it (RFC 8949, CTAP 2.1 section 8); `twofold.factors.cbor` reads it.

Servers write none, so this is for the authenticator of tests alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FALSE, _TRUE = b"\xf4", b"\xf5"


def encode(item: Any) -> bytes:
    """The bytes of a number, a string, a boolean, a list or a dictionary, whose keys are in canonical order."""
    match item:
        case bool():
            return _TRUE if item else _FALSE
        case int():
            return _head(0, item) if item >= 0 else _head(1, -1 - item)
        case bytes():
            return _head(2, len(item)) + item
        case str():
            text = item.encode()
            return _head(3, len(text)) + text
        case Mapping():
            members = sorted((encode(key), encode(value)) for key, value in item.items())
            # By type, then the shorter key first, which is the order of the bytes: each begins with type and length.
            return _head(5, len(members)) + b"".join(key + value for key, value in members)
        case _:
            return _head(4, len(item)) + b"".join(encode(one) for one in item)


def _head(kind: int, value: int) -> bytes:
    """The major type and its argument, as short as it can be (RFC 8949 section 3)."""
    if value < 24:
        return bytes([kind << 5 | value])
    size = next((size for size in range(3) if value < 1 << (8 << size)), 3)
    return bytes([kind << 5 | 24 + size]) + value.to_bytes(1 << size, "big")
