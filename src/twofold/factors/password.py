"""The password: the first factor of Twofold's own pages and commands; an embedding application keeps its own.

8 to 128 characters, compared in NFC, with no rule but that it is not one of the well-known ones (NIST SP 800-63B-4
section 3.1.1). The Argon2id digest is computed outside the decision; a digest with outdated parameters is replaced in
the same decision that found it right.
"""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Container

import msgspec

from twofold.core.account import Authenticator
from twofold.core.factor import Answer, Factor, Finding, Right, StaleProof, Unseal, Wrong
from twofold.crypto.argon2 import Argon2
from twofold.errors import InvalidInput

LENGTH_MIN = 8
LENGTH_MAX = 128


class PasswordCredential(msgspec.Struct, frozen=True, array_like=True):
    """The Argon2id digest, its salt and the parameters that it was made with."""

    salt: bytes
    digest: bytes
    argon2: Argon2


_decode = msgspec.msgpack.Decoder(PasswordCredential).decode
_encode = msgspec.msgpack.Encoder().encode


class Password:
    """The `password` factor."""

    name = "password"
    amr: tuple[str, ...] = ("pwd",)

    def new_credential(self, salt: bytes, digest: bytes, *, argon2: Argon2) -> bytes:
        """The credential of a password with that digest."""
        return _encode(PasswordCredential(salt, digest, argon2))

    def read_credential(self, credential: bytes) -> PasswordCredential:
        """The credential as data."""
        return _decode(credential)

    def reads(self, answer: Answer) -> bool:
        """A password is never guessed from the shape of a code: the caller says that it is one."""
        return answer.kind == "password"

    def cost_ppm(self, credential: bytes, answer: Answer) -> int:
        """Nothing: passwords have limits of their own, outside the lanes of the second factors."""
        return 0

    def check_answer(self, authenticator: Authenticator, answer: Answer, *, unseal: Unseal, now: int) -> Finding:
        """Compare the proof with the digest; a rehash made for this very version is stored with the success."""
        proof = answer.proof
        if proof is None or (proof.credential_id, proof.credential_version) != (
            authenticator.id,
            authenticator.credential_version,
        ):
            return StaleProof()
        if hmac.compare_digest(proof.digest, _decode(authenticator.credential).digest):
            return Right(proof.rehashed or authenticator.credential)
        return Wrong()


def prepare_password(password: str) -> bytes:
    """The bytes that are hashed: NFC, UTF-8. Raises `InvalidInput` over 128 characters, before any work is done."""
    normal = unicodedata.normalize("NFC", password)
    if len(normal) > LENGTH_MAX:
        raise InvalidInput("password", f"at most {LENGTH_MAX} characters")
    try:
        return normal.encode()
    except UnicodeEncodeError:
        raise InvalidInput("password", "text that is valid Unicode") from None


def check_new_password(password: str, *, account_id: str, common: Container[str]) -> None:
    """Raises `InvalidInput` that says why a password cannot be chosen; `common` holds well-known ones in lower case."""
    normal = unicodedata.normalize("NFC", password)
    if not LENGTH_MIN <= len(normal) <= LENGTH_MAX:
        raise InvalidInput("password", f"{LENGTH_MIN} to {LENGTH_MAX} characters", why="length")
    if normal.casefold() in common:
        expected = "one that is not on the list of well-known passwords; this one is tried first"
        raise InvalidInput("password", expected, why="common")
    if normal.casefold() == account_id.casefold():
        raise InvalidInput("password", "something else than the name", why="name")


_: Factor = Password()
