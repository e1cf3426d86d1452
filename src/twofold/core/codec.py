"""Documents as bytes: encoding with a schema number, upgrading older ones, and the code that proves who wrote them.

Whoever can write the database still cannot swap a public key, reset a counter or add a browser: a document counts only
with the authentication code over account id, version, schema and bytes.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from twofold.core.account import Account, AuditHead
from twofold.core.session import Session, StoredSession
from twofold.errors import Refused, TamperedRecord

SCHEMA = 1
DOCUMENT_MAX = 16 * 1024


class Signer(Protocol):
    """Makes and checks authentication codes under the integrity keys (`twofold.crypto.digest.MacKeys`)."""

    def sign(self, *parts: bytes) -> bytes:
        """The code over the length-prefixed parts, with the id of its key in front."""
        ...

    def is_signed(self, mac: bytes, *parts: bytes) -> bool:
        """Whether `mac` is the code over these parts under a key that we still hold."""
        ...


class StoredAccount(msgspec.Struct, frozen=True):
    """One row of the table `accounts`. A tombstone has an empty document and keeps version, head and code."""

    account_id: str
    version: int
    schema: int
    document: bytes
    mac: bytes


class Tombstone(msgspec.Struct, frozen=True, array_like=True):
    """What stays of a deleted account: where its audit chain ended."""

    head: AuditHead


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Account).decode
_decode_tombstone = msgspec.msgpack.Decoder(Tombstone).decode
_decode_session = msgspec.msgpack.Decoder(Session).decode
_TOMBSTONE = 0


class Codec:
    """Turns accounts into rows and back."""

    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def dump(self, account: Account, version: int, *, may_exceed: bool = False) -> StoredAccount:
        """The row of an account; raises `Refused("too_many")` over 16 KiB unless it `may_exceed` them."""
        document = _encode(account)
        if len(document) > DOCUMENT_MAX and not may_exceed:
            raise Refused("too_many", f"this account's document would exceed {DOCUMENT_MAX} bytes")
        return self._sign(account.id, version, SCHEMA, document)

    def dump_tombstone(self, account_id: str, head: AuditHead, version: int) -> StoredAccount:
        """The row that stays of a deleted account."""
        return self._sign(account_id, version, _TOMBSTONE, _encode(Tombstone(head)))

    def load(self, row: StoredAccount) -> Account | Tombstone:
        """The account of a row; raises `TamperedRecord` when its code is wrong."""
        try:
            parts = _signed_parts(row.account_id, row.version, row.schema, row.document)
            is_signed = self._signer.is_signed(row.mac, *parts)
        except (AttributeError, TypeError, ValueError, OverflowError):
            # A column of another type, which only somebody else's tools can have put there.
            is_signed = False
        if not is_signed:
            raise TamperedRecord(f"account {row.account_id}")
        if row.schema == _TOMBSTONE:
            return _decode_tombstone(row.document)
        if row.schema != SCHEMA:
            raise TamperedRecord(f"account {row.account_id} (schema {row.schema}: written by a newer program?)")
        return _decode(row.document)

    def dump_session(self, session: Session, token_digest: bytes) -> StoredSession:
        """The row of a session."""
        document = _encode(session)
        mac = self._signer.sign(b"twofold/1|session", token_digest, document)
        return StoredSession(
            token_digest,
            session.id,
            session.account_id,
            session.level,
            session.begun_at,
            session.expires_at,
            document,
            mac,
        )

    def load_session(self, row: StoredSession) -> Session:
        """The session of a row; raises `TamperedRecord` when its code is wrong: no row is forged, moved or widened."""
        try:
            is_signed = self._signer.is_signed(row.mac, b"twofold/1|session", row.token_digest, row.document)
        except (AttributeError, TypeError):
            is_signed = False
        session = _decode_session(row.document) if is_signed else None
        # The columns repeat the document for lists; what they say must be what it says.
        if session is None or (session.id, session.account_id) != (row.id, row.account_id):
            raise TamperedRecord(f"session {row.id}")
        return session

    def _sign(self, account_id: str, version: int, schema: int, document: bytes) -> StoredAccount:
        mac = self._signer.sign(*_signed_parts(account_id, version, schema, document))
        return StoredAccount(account_id, version, schema, document, mac)


def signer_of(row: StoredAccount) -> str:
    """The id of the key that the row's code is under, as the row itself says."""
    return row.mac.partition(b"\0")[0].decode("ascii", "replace")


def measure(account: Account) -> int:
    """The bytes that the document of this account takes."""
    return len(_encode(account))


def _signed_parts(account_id: str, version: int, schema: int, document: bytes) -> tuple[bytes, ...]:
    # Signed numbers of 64 bits, because that is what a database can hold: whatever stands there is checked, not raised.
    numbers = (number.to_bytes(8, signed=True) for number in (version, schema))
    return (b"twofold/1|document", account_id.encode(), *numbers, document)
