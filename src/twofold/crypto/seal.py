"""Sealing at rest: AES-256-GCM under a data key, bound to the place that the plaintext belongs to.

A sealed value is `version | suite | length of key id | key id | nonce | ciphertext and tag`. The additional data are
length-prefixed and never stored: moved to another account or authenticator, a sealed value does not open.
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.crypto.digest import length_prefixed
from twofold.errors import TamperedRecord

NONCE_BYTES = 12
KEY_BYTES = 32
_VERSION = 1
_SUITE = 1
_SUITE_NAME = b"AES-256-GCM"


def seal(
    cipher: AESGCM, plaintext: bytes, *, key_id: str, nonce: bytes, field: str, account_id: str, authenticator_id: str
) -> bytes:
    """Ciphertext for exactly this place. `nonce`: 12 bytes, never used with this key before."""
    identifier = key_id.encode()
    aad = _additional_data(field, account_id, authenticator_id, identifier)
    head = bytes((_VERSION, _SUITE, len(identifier))) + identifier
    return head + nonce + cipher.encrypt(nonce, plaintext, aad)


def read_key_id(sealed: bytes) -> str:
    """The data key that opens a sealed value; raises `TamperedRecord` for what is not one."""
    if len(sealed) < 3 + NONCE_BYTES or sealed[0] != _VERSION or sealed[1] != _SUITE:
        raise TamperedRecord("a sealed value of an unknown form")
    return sealed[3 : 3 + sealed[2]].decode("utf-8", "replace")


def unseal(cipher: AESGCM, sealed: bytes, *, field: str, account_id: str, authenticator_id: str) -> bytes:
    """The plaintext; raises `TamperedRecord` when it was changed, moved, or sealed under another key."""
    start = 3 + sealed[2]
    aad = _additional_data(field, account_id, authenticator_id, sealed[3:start])
    try:
        return cipher.decrypt(sealed[start : start + NONCE_BYTES], sealed[start + NONCE_BYTES :], aad)
    except (InvalidTag, ValueError):
        raise TamperedRecord(f"{field} of account {account_id}") from None


def _additional_data(field: str, account_id: str, authenticator_id: str, key_id: bytes) -> bytes:
    return length_prefixed(
        b"twofold/1", field.encode(), account_id.encode(), authenticator_id.encode(), key_id, _SUITE_NAME
    )
