"""CBOR as authenticators write it (RFC 8949, CTAP 2.1 section 8): integers, strings, arrays, maps and booleans.

Read strictly: nothing cut off, no length padded, no key twice. Only the order of a map's keys is free, for programs in
between sort them as they like. The work is bounded by `BYTES_MAX`, for every item has a byte of its own.
"""

from __future__ import annotations

from typing import Any

#: A TPM's statement with its chain has about 6 KiB.
BYTES_MAX = 16 * 1024
#: An attestation object has three levels; extensions may nest a little more.
DEPTH_MAX = 4

_FALSE, _TRUE = 20, 21


def decode(raw: bytes) -> Any:
    """The one item that `raw` is; raises `ValueError` for anything else."""
    item, rest = decode_from(raw)
    if rest:
        raise ValueError("something follows the CBOR item")
    return item


def decode_from(raw: bytes) -> tuple[Any, bytes]:
    """The item at the start of `raw`, and what follows it; raises `ValueError`."""
    if len(raw) > BYTES_MAX:
        raise ValueError(f"more than {BYTES_MAX} bytes of CBOR")
    item, end = _read(raw, 0, 0)
    return item, raw[end:]


def _read(raw: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The item that starts at `at`, and where it ends."""
    if depth > DEPTH_MAX:
        raise ValueError(f"CBOR nested more than {DEPTH_MAX} levels deep")
    kind, value, at = _read_head(raw, at)
    match kind:
        case 0:
            return value, at
        case 1:
            return -1 - value, at
        case 2:
            return _take(raw, at, value), at + value
        case 3:
            return _take(raw, at, value).decode(), at + value
        case 4:
            return _read_array(raw, at, depth, value)
        case 5:
            return _read_map(raw, at, depth, value)
        case 7 if value in (_FALSE, _TRUE):
            return value == _TRUE, at
    raise ValueError("a tag, a float or another kind of CBOR that authenticators do not use")


def _read_head(raw: bytes, at: int) -> tuple[int, int, int]:
    """The major type, its argument, and where the head ends (RFC 8949 section 3)."""
    [head] = _take(raw, at, 1)
    kind, value = head >> 5, head & 0x1F
    if value < 24:
        return kind, value, at + 1
    if value > 27:
        raise ValueError("CBOR of indefinite length")
    size = 1 << value - 24
    value = int.from_bytes(_take(raw, at + 1, size), "big")
    if value < (24 if size == 1 else 1 << 4 * size):
        raise ValueError("a CBOR length or number is padded")
    return kind, value, at + 1 + size


def _read_array(raw: bytes, at: int, depth: int, length: int) -> tuple[list[Any], int]:
    items = []
    for _ in range(length):
        item, at = _read(raw, at, depth + 1)
        items.append(item)
    return items, at


def _read_map(raw: bytes, at: int, depth: int, length: int) -> tuple[dict[int | str | bytes, Any], int]:
    members: dict[int | str | bytes, Any] = {}
    for _ in range(length):
        key, at = _read(raw, at, depth + 1)
        # Not `isinstance`: for Python, true is the number 1.
        if type(key) not in (int, str, bytes) or key in members:
            raise ValueError("a CBOR map has a key twice, or a key that is neither a number nor a string")
        members[key], at = _read(raw, at, depth + 1)
    return members, at


def _take(raw: bytes, at: int, length: int) -> bytes:
    if at + length > len(raw):
        raise ValueError("the CBOR is cut off")
    return raw[at : at + length]
