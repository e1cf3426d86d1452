"""A master key that is 32 bytes in our hands: its line of text and how it wraps, the same wherever the line is kept.

Where that is, a file or an environment variable, is the business of `file.py` and `env.py`: a key may be moved from one
to the other and opens the same database.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.crypto.digest import length_prefixed
from twofold.errors import KeyRefused

HEADER = "twofold-master-key-1 "
KEY_BYTES = 32
NONCE_BYTES = 12


def write_line(master_key: bytes) -> str:
    """The line of a master key that nothing protects."""
    return f"{HEADER}{base64.b64encode(master_key).decode()}\n"


def read_base64(text: str, length: int) -> bytes:
    """So many bytes in standard base64 (RFC 4648 §4); raises `ValueError` for anything else."""
    value = base64.b64decode(text, validate=True)
    if len(value) != length:
        raise binascii.Error(f"{len(value)} bytes instead of {length}")
    return value


def wrap_locally(master_key: bytes | bytearray, key: bytes, *, key_id: str, nonce: bytes) -> bytes:
    """Nonce and ciphertext, bound to the key's id: AES-256-GCM."""
    return nonce + AESGCM(master_key).encrypt(nonce, key, _additional_data(key_id))


def unwrap_locally(master_key: bytes | bytearray, wrapped: bytes, *, key_id: str) -> bytes:
    """The key; raises `KeyRefused` when it was wrapped by another master key or under another id, or changed."""
    try:
        return AESGCM(master_key).decrypt(wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _additional_data(key_id))
    except (InvalidTag, ValueError):
        raise KeyRefused(f"key {key_id} was wrapped by another master key, or changed") from None


def _additional_data(key_id: str) -> bytes:
    return length_prefixed(b"twofold/1", b"keyring.wrapped", key_id.encode())
