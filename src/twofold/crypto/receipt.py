"""Receipts: signed statements for the application, as JSON Web Tokens (RFC 7519) signed with Ed25519 (RFC 8037).

Only this one form is ever written or read: the header is compared as a whole, so there is no algorithm to choose and
nothing in a token that could name its own key. The signature is deterministic: the same claims under the same key are
the same receipt, so a repeated call needs no stored token.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from twofold.core.decision import ReceiptClaims
from twofold.errors import InvalidInput


class _Claims(ReceiptClaims, frozen=True, omit_defaults=True):
    """What a receipt carries besides the claims that a decision makes: who issued it."""

    iss: str = ""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Claims).decode


class ReceiptKey:
    """One Ed25519 key, from its 32 private bytes, under the name that its receipts carry as `kid`."""

    def __init__(self, key_id: str, private_bytes: bytes) -> None:
        self.key_id = key_id
        self._private = Ed25519PrivateKey.from_private_bytes(private_bytes)
        self._public = self._private.public_key()
        self._header = _base64url(_encode({"alg": "EdDSA", "typ": "twofold-receipt+jwt", "kid": key_id}))

    def issue(self, claims: ReceiptClaims, *, issuer: str) -> str:
        """The signed receipt."""
        body = _base64url(_encode(_Claims(**msgspec.structs.asdict(claims), iss=issuer)))
        signature = self._private.sign(self._header + b"." + body)
        return b".".join((self._header, body, _base64url(signature))).decode()

    def check(self, receipt: str, *, issuer: str) -> ReceiptClaims | None:
        """The claims of a receipt that this key signed for this issuer; None for anything else. Times, purpose and
        single use are the decision's to check."""
        try:
            header, body, signature = receipt.encode("ascii").split(b".")
            if header != self._header:
                return None
            self._public.verify(_from_base64url(signature), header + b"." + body)
            claims = _decode(_from_base64url(body))
        except (ValueError, InvalidSignature, msgspec.MsgspecError):
            return None
        if claims.iss != issuer:
            return None
        return ReceiptClaims(**{name: getattr(claims, name) for name in ReceiptClaims.__struct_fields__})

    def public_jwk(self) -> dict[str, str]:
        """The public half as a JSON Web Key (RFC 7517, RFC 8037 section 2)."""
        x = _base64url(self._public.public_bytes_raw()).decode()
        return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": self.key_id, "use": "sig", "alg": "EdDSA"}


def check_receipt(receipt: str, keys: Iterable[ReceiptKey], *, issuer: str, field: str = "receipt") -> ReceiptClaims:
    """The claims of a receipt of ours; raises `InvalidInput` for what is none."""
    for key in keys:
        claims = key.check(receipt, issuer=issuer)
        if claims is not None:
            return claims
    raise InvalidInput(field, "a receipt that was issued here")


def _base64url(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def _from_base64url(text: bytes) -> bytes:
    # Strict: other alphabets, padding or stray characters would make two spellings of one signature.
    raw = base64.b64decode(text.translate(_URLSAFE) + b"=" * (-len(text) % 4), validate=True)
    if _base64url(raw) != text:
        raise ValueError("not canonical base64url")
    return raw


_URLSAFE = bytes.maketrans(b"-_", b"+/")
