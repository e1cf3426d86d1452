"""Recovery codes: ten one-time secrets for the day the phone is lost.

A code is 20 characters of Crockford's Base32: 4 are a random locator kept in clear, 16 are 80 bits of secret kept as
an Argon2id digest with a salt of its own. The locator says which digest to compute, so that a try costs one slow hash
at most; nothing that is wrong elsewhere ever stops a recovery code.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable

import msgspec

from twofold.core.account import Authenticator
from twofold.core.clock import MICROS_PER_S
from twofold.core.factor import CROCKFORD, Answer, Factor, Finding, Held, Right, StaleProof, Unseal, Used, Wrong
from twofold.core.throttle import DELAY_MAX_S
from twofold.crypto.argon2 import Argon2

CODES = 10
LOCATOR_LENGTH = 4
SALT_BYTES = 16
FREE_FAILURES = 5


class RecoveryCode(msgspec.Struct, frozen=True, array_like=True):
    """One code: `digest` is Argon2id over the 16 secret characters. `used_at` 0 while it is good."""

    locator: str
    salt: bytes
    digest: bytes
    used_at: int = 0
    failures: int = 0
    failed_at: int = 0

    def wait_s(self, now: int) -> int:
        """Seconds for which this code is not judged: none for the first five wrong secrets, then 1, 2, 4 ... 60."""
        elapsed = now - self.failed_at
        if self.failures < FREE_FAILURES or elapsed < 0:
            return 0
        delay_s = min(DELAY_MAX_S, 1 << min(self.failures - FREE_FAILURES, 6))
        return max(0, -(-(delay_s * MICROS_PER_S - elapsed) // MICROS_PER_S))


class RecoveryCodesCredential(msgspec.Struct, frozen=True, array_like=True):
    """A set of codes, all hashed with the same parameters."""

    codes: tuple[RecoveryCode, ...]
    argon2: Argon2


_decode = msgspec.msgpack.Decoder(RecoveryCodesCredential).decode
_encode = msgspec.msgpack.Encoder().encode


class RecoveryCodes:
    """The `recovery_codes` factor."""

    name = "recovery_codes"
    # No value is registered for look-up secrets; "otp" is what a one-time secret is usually reported as.
    amr: tuple[str, ...] = ("otp",)

    def new_credential(self, codes: Iterable[RecoveryCode], *, argon2: Argon2) -> bytes:
        """The credential of a fresh set."""
        return _encode(RecoveryCodesCredential(tuple(codes), argon2))

    def read_credential(self, credential: bytes) -> RecoveryCodesCredential:
        """The credential as data."""
        return _decode(credential)

    def reads(self, answer: Answer) -> bool:
        """One recovery code, by its shape."""
        return answer.kind == "recovery"

    def cost_ppm(self, credential: bytes, answer: Answer) -> int:
        """Nothing: 80 bits are not guessed, so a lane neither stops a recovery code nor is charged for one."""
        return 0

    def find(self, credential: bytes, answer: Answer) -> RecoveryCode | None:
        """The code that the answer's locator names; None costs no hash."""
        locator = answer.codes[0][:LOCATOR_LENGTH]
        return next((code for code in _decode(credential).codes if code.locator == locator), None)

    def check_answer(self, authenticator: Authenticator, answer: Answer, *, unseal: Unseal, now: int) -> Finding:
        """Compare the proof with the digest under the answer's locator."""
        found = self.find(authenticator.credential, answer)
        if found is None:
            return Wrong()
        if wait_s := found.wait_s(now):
            return Held(wait_s)
        proof = answer.proof
        if proof is None or (proof.credential_id, proof.credential_version) != (
            authenticator.id,
            authenticator.credential_version,
        ):
            return StaleProof()
        if not hmac.compare_digest(proof.digest, found.digest):
            failed = msgspec.structs.replace(found, failures=found.failures + 1, failed_at=now)
            return Wrong(_exchange(authenticator.credential, failed))
        if found.used_at:
            return Used()
        spent = msgspec.structs.replace(found, used_at=now, failures=0)
        changed = _exchange(authenticator.credential, spent)
        return Right(changed, left=codes_left(changed))


def codes_left(credential: bytes) -> int:
    """How many codes of the set are still good."""
    return sum(not code.used_at for code in _decode(credential).codes)


def spell(secret: bytes) -> str:
    """20 characters of Crockford's Base32 in five groups, from 100 of the bits of `secret` (at least 13 bytes)."""
    number = int.from_bytes(secret)
    text = "".join(CROCKFORD[number >> 5 * place & 31] for place in range(20))
    return "-".join(text[i : i + 4] for i in range(0, 20, 4))


def _exchange(credential: bytes, changed: RecoveryCode) -> bytes:
    read = _decode(credential)
    codes = tuple(changed if code.locator == changed.locator else code for code in read.codes)
    return _encode(msgspec.structs.replace(read, codes=codes))


_: Factor = RecoveryCodes()
