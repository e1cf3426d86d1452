"""A parcel: what a passphrase alone opens, of any length, sealed and opened piece by piece. Backups are parcels.

It is `mark | Argon2id parameters | salt | code over all that`, then chunks of 64 KiB under AES-256-GCM. The nonce of a
chunk is its number and whether it is the last one (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár),
and no two parcels have the same key: so nothing in it can be changed, left out, added, moved or taken from another one.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from struct import Struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.crypto.argon2 import SALT_BYTES, Argon2
from twofold.crypto.digest import HmacKey
from twofold.errors import TwofoldError

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
#: RFC 9106 section 4, its second recommendation: three passes over 64 MiB in four lanes. Whoever steals a parcel may
#: guess for years, and the owner waits for a quarter of a second.
STRONG = Argon2(3, 64 * 1024, 4)
_MARK = b"twofold backup 1"
_FRONT = Struct(f">{len(_MARK)}sIII{SALT_BYTES}s")
HEADER_BYTES = _FRONT.size + 32
# What a stranger's file may ask of us before its passphrase is known to be right.
PASSES_MAX = 16
MEMORY_KIB_MAX = 256 * 1024
LANES_MAX = 16


class ParcelUnreadable(TwofoldError):
    """The bytes are no parcel, were changed, or belong to another passphrase; nothing of them may be used."""


class Parcel:
    """The keys of one parcel. `header` is how it begins."""

    def __init__(self, passphrase: bytes, argon2: Argon2, salt: bytes) -> None:
        front = _FRONT.pack(_MARK, argon2.time_cost, argon2.memory_kib, argon2.parallelism, salt)
        root = HmacKey(argon2.digest(passphrase, salt))
        self.header: bytes = front + root.digest(b"twofold/1|parcel.header", front)
        self._cipher = AESGCM(root.digest(b"twofold/1|parcel.chunks", front))

    @classmethod
    def read(cls, header: bytes, passphrase: bytes) -> Parcel:
        """The parcel that begins with these `HEADER_BYTES`; raises `ParcelUnreadable`. Takes 256 MiB at most, whatever
        the header says, and is as slow as it says within bounds: some seconds at the worst."""
        if len(header) != HEADER_BYTES or not header.startswith(_MARK[:-1]):
            raise ParcelUnreadable("this is no backup of Twofold")
        mark, passes, memory_kib, lanes, salt = _FRONT.unpack(header[: _FRONT.size])
        if mark != _MARK:
            raise ParcelUnreadable("this backup has a form that this program does not know: use a newer Twofold")
        is_sane = 1 <= passes <= PASSES_MAX and 1 <= lanes <= LANES_MAX and 8 * lanes <= memory_kib <= MEMORY_KIB_MAX
        if not is_sane:
            raise ParcelUnreadable("the backup is damaged: its header makes no sense")
        parcel = cls(passphrase, Argon2(passes, memory_kib, lanes), salt)
        if not hmac.compare_digest(parcel.header, header):
            raise ParcelUnreadable("the passphrase is wrong (or the first bytes of the backup were changed)")
        return parcel

    def seal(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The chunks behind the header, for plaintext that comes in pieces of any length. Once for each parcel."""
        for number, chunk, is_last in _cut(pieces, CHUNK_BYTES):
            yield self._cipher.encrypt(_nonce(number, is_last=is_last), chunk, self.header)

    def unseal(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """The plaintext of what is behind the header. Raises `ParcelUnreadable`; only when it ends without that, it was
        all there."""
        for number, chunk, is_last in _cut(pieces, CHUNK_BYTES + TAG_BYTES):
            try:
                yield self._cipher.decrypt(_nonce(number, is_last=is_last), chunk, self.header)
            except (InvalidTag, ValueError):
                place = HEADER_BYTES + number * (CHUNK_BYTES + TAG_BYTES)
                problem = f"changed or cut off behind byte {place}"
                raise ParcelUnreadable(f"the backup is damaged: it was {problem}") from None


def _cut(pieces: Iterable[bytes], length: int) -> Iterator[tuple[int, bytes, bool]]:
    """The same bytes in pieces of `length`, numbered from 0, and whether each is the last one, which may be shorter."""
    number, waiting = 0, bytearray()
    for piece in pieces:
        waiting += piece
        # Only what something follows is not the last one.
        while len(waiting) > length:
            yield number, bytes(waiting[:length]), False
            del waiting[:length]
            number += 1
    yield number, bytes(waiting), True


def _nonce(number: int, *, is_last: bool) -> bytes:
    return number.to_bytes(11) + bytes((is_last,))
