"""Tickets as text: sealed under the ticket keys, with a fresh salt and so a fresh key for each.

A derived key for each ticket means that strangers, who can ask for as many tickets as they like, cannot wear out the
nonces of one key (HKDF, RFC 5869).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from twofold.core.ticket import Ticket
from twofold.errors import InvalidInput

SALT_BYTES = 32
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Ticket).decode


def issue_ticket(ticket: Ticket, *, key_id: str, key: bytes, salt: bytes) -> str:
    """`key id.base64url(salt | ciphertext)`; `salt` is 32 fresh random bytes."""
    # The key is used once, so a constant nonce is safe.
    ciphertext = AESGCM(_derive(key, salt)).encrypt(bytes(12), _encode(ticket), key_id.encode())
    return f"{key_id}.{_spell(salt + ciphertext)}"


def read_ticket(text: str, keys: Mapping[str, bytes]) -> Ticket:
    """The ticket, if one of our keys made it; raises `InvalidInput("challenge")` for anything else."""
    key_id, _, body = text.partition(".")
    try:
        raw = base64.urlsafe_b64decode(body.encode("ascii") + b"=" * (-len(body) % 4))
        if _spell(raw) != body:
            raise ValueError("one ticket has one spelling")
        salt, ciphertext = raw[:SALT_BYTES], raw[SALT_BYTES:]
        return _decode(AESGCM(_derive(keys[key_id], salt)).decrypt(bytes(12), ciphertext, key_id.encode()))
    except (KeyError, ValueError, UnicodeEncodeError, binascii.Error, InvalidTag, msgspec.MsgspecError):
        raise InvalidInput("challenge", "a challenge that was made here within the last minutes") from None


def _spell(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _derive(key: bytes, salt: bytes) -> bytes:
    return HKDF(SHA256(), 32, salt, b"twofold/1|ticket").derive(key)
