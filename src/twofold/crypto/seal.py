"""Sealing at rest: AES-256-GCM under a data key, bound to the place that the plaintext belongs to.

A sealed value is `version | suite | key id | nonce | ciphertext and tag`, and where the data key is the value's own,
the id of the master key and the wrapped key stand before the nonce. The additional data are length-prefixed and never
stored: moved to another account, authenticator or column, a sealed value does not open.
"""

from __future__ import annotations

from typing import NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.crypto.digest import length_prefixed
from twofold.errors import TamperedRecord

NONCE_BYTES = 12
KEY_BYTES = 32
_VERSION = 1
#: Under a data key that many values share, and under one that this value has for itself.
_SHARED, _OWN = 1, 2
_SUITE_NAMES = {_SHARED: b"AES-256-GCM", _OWN: b"AES-256-GCM, own key"}


class OwnKey(NamedTuple):
    """A data key that seals one value: `wrapped` by the master key `master` under the id `key_id`."""

    key_id: str
    master: str
    wrapped: bytes


def seal(
    cipher: AESGCM,
    plaintext: bytes,
    *,
    key_id: str,
    nonce: bytes,
    field: str,
    account_id: str,
    authenticator_id: str,
    own: OwnKey | None = None,
) -> bytes:
    """Ciphertext for exactly this place. `nonce`: 12 bytes, never used with this key before."""
    suite = _SHARED if own is None else _OWN
    head = bytes((_VERSION, suite)) + _prefixed(key_id.encode(), 1)
    if own is not None:
        head += _prefixed(own.master.encode(), 1) + _prefixed(own.wrapped, 2)
    bound = (key_id.encode(), _SUITE_NAMES[suite], *(() if own is None else (own.master.encode(), own.wrapped)))
    aad = _additional_data(field, account_id, authenticator_id, *bound)
    return head + nonce + cipher.encrypt(nonce, plaintext, aad)


def read_key_id(sealed: bytes) -> str:
    """The stored key without which the value is lost: its data key, or the master key of its own one. Raises
    `TamperedRecord` for what is no sealed value."""
    own = read_own_key(sealed)
    return _read_prefixed(sealed, 2, 1)[0].decode("utf-8", "replace") if own is None else own.master


def read_own_key(sealed: bytes) -> OwnKey | None:
    """The data key that this value has for itself; None under a shared one. Raises `TamperedRecord`."""
    if len(sealed) < 3 + NONCE_BYTES or sealed[0] != _VERSION or sealed[1] not in _SUITE_NAMES:
        raise TamperedRecord("a sealed value of an unknown form")
    if sealed[1] == _SHARED:
        return None
    key_id, end = _read_prefixed(sealed, 2, 1)
    master, end = _read_prefixed(sealed, end, 1)
    wrapped, _ = _read_prefixed(sealed, end, 2)
    return OwnKey(key_id.decode("utf-8", "replace"), master.decode("utf-8", "replace"), wrapped)


def unseal(cipher: AESGCM, sealed: bytes, *, field: str, account_id: str, authenticator_id: str) -> bytes:
    """The plaintext; raises `TamperedRecord` when it was changed, moved, or sealed under another key."""
    key_id, start = _read_prefixed(sealed, 2, 1)
    bound = [key_id, _SUITE_NAMES[sealed[1]]]
    if sealed[1] == _OWN:
        for length_bytes in (1, 2):
            part, start = _read_prefixed(sealed, start, length_bytes)
            bound.append(part)
    aad = _additional_data(field, account_id, authenticator_id, *bound)
    try:
        return cipher.decrypt(sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :], aad)
    except (InvalidTag, ValueError):
        raise TamperedRecord(f"{field} of account {account_id}") from None


def _additional_data(field: str, account_id: str, authenticator_id: str, *bound: bytes) -> bytes:
    return length_prefixed(b"twofold/1", field.encode(), account_id.encode(), authenticator_id.encode(), *bound)


def _prefixed(value: bytes, length_bytes: int) -> bytes:
    return len(value).to_bytes(length_bytes) + value


def _read_prefixed(data: bytes, start: int, length_bytes: int) -> tuple[bytes, int]:
    begin = start + length_bytes
    end = begin + int.from_bytes(data[start:begin])
    if end + NONCE_BYTES > len(data):
        raise TamperedRecord("a sealed value of an unknown form")
    return data[begin:end], end
