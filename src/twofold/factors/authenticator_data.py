"""Authenticator data (WebAuthn Level 3 section 6.1): what an authenticator signs of itself, of its user, and of a key.

Read strictly: nothing may be missing, and nothing may follow. What it means is judged in `twofold.factors.webauthn`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from twofold.factors import cbor

_FIXED_BYTES = 37
_AAGUID_BYTES = 16

_UP, _UV, _BE, _BS, _AT, _ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80


class AttestedCredential(msgspec.Struct, frozen=True):
    """A new credential (section 6.5.1); `public_key` is its COSE key, still encoded."""

    aaguid: bytes
    id: bytes
    public_key: bytes


class AuthenticatorData(msgspec.Struct, frozen=True):
    """The data and its flags. `raw` is what was signed."""

    raw: bytes
    rp_id_hash: bytes
    flags: int
    sign_count: int
    attested: AttestedCredential | None = None

    @property
    def is_user_present(self) -> bool:
        """UP: somebody touched it."""
        return bool(self.flags & _UP)

    @property
    def is_user_verified(self) -> bool:
        """UV: it made sure who that was, by a finger, a face or a PIN."""
        return bool(self.flags & _UV)

    @property
    def is_backup_eligible(self) -> bool:
        """BE: the credential may be copied to other devices."""
        return bool(self.flags & _BE)

    @property
    def is_backed_up(self) -> bool:
        """BS: it was."""
        return bool(self.flags & _BS)


def read_authenticator_data(raw: bytes) -> AuthenticatorData:
    """The data; raises `ValueError`. Reserved flags and unsolicited extensions are ignored, as section 6.1 asks."""
    if len(raw) < _FIXED_BYTES:
        raise ValueError("authenticator data is at least 37 bytes long")
    flags, rest, attested = raw[32], raw[_FIXED_BYTES:], None
    if flags & _AT:
        attested, rest = _read_attested(rest)
    if flags & _ED:
        extensions, rest = cbor.decode_from(rest)
        if not isinstance(extensions, Mapping):
            raise ValueError("extensions are a map")
    if rest:
        raise ValueError("something follows the authenticator data")
    return AuthenticatorData(raw, raw[:32], flags, int.from_bytes(raw[33:_FIXED_BYTES], "big"), attested)


def _read_attested(raw: bytes) -> tuple[AttestedCredential, bytes]:
    start = _AAGUID_BYTES + 2
    end = start + int.from_bytes(raw[_AAGUID_BYTES:start], "big")
    if len(raw) <= end:
        raise ValueError("the credential id is cut off")
    _, rest = cbor.decode_from(raw[end:])
    public_key = raw[end : len(raw) - len(rest)]
    return AttestedCredential(raw[:_AAGUID_BYTES], raw[start:end], public_key), rest
