"""Receipts under the keys of the keyring, issued in the name of this deployment's public address."""

from __future__ import annotations

from twofold.core.decision import ReceiptClaims
from twofold.crypto.receipt import check_receipt
from twofold.keys.keyring import Keyring


class KeyringReceipts:
    """Signs with the active receipt key; reads what any receipt key signed."""

    def __init__(self, keyring: Keyring, issuer: str) -> None:
        self._keyring = keyring
        self._issuer = issuer

    def issue(self, claims: ReceiptClaims) -> str:
        """The signed receipt."""
        return self._keyring.receipt_key().issue(claims, issuer=self._issuer)

    def check(self, receipt: str, *, field: str) -> ReceiptClaims:
        """The claims of a receipt that was issued here; raises `InvalidInput` naming `field`."""
        return check_receipt(receipt, self._keyring.receipt_keys(), issuer=self._issuer, field=field)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys as a JSON Web Key Set."""
        return {"keys": [key.public_jwk() for key in self._keyring.receipt_keys()]}
