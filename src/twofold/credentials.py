"""What factors keep, made and proven here: fresh seeds, recovery codes, password digests, and the slow half of a check.

Everything that needs randomness, a data key or the hash pool before a decision can be pure.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

import msgspec

from twofold.core.account import FIRST_FACTOR, RECOVERY, Account, Authenticator
from twofold.core.discreet import Discreet
from twofold.core.enrollment import NewCredential
from twofold.core.entropy import Seed, derive_id
from twofold.core.factor import Answer, Proof, Right
from twofold.core.verification import SEED_FIELD
from twofold.crypto.argon2 import RECOMMENDED, SALT_BYTES, Argon2
from twofold.crypto.otp import COUNTER_MAX, DIGITS_MAX, DIGITS_MIN, PERIOD_S_MAX, PERIOD_S_MIN, Algorithm
from twofold.crypto.seal import NONCE_BYTES, read_key_id
from twofold.errors import DataKeyMissing, InvalidInput, Unavailable
from twofold.factors import otpauth
from twofold.factors.hotp import Hotp
from twofold.factors.password import Password, prepare_password
from twofold.factors.recovery_codes import CODES, LOCATOR_LENGTH, RecoveryCode, RecoveryCodes, spell
from twofold.factors.totp import Totp
from twofold.factors.yubico_otp import YubicoKey, YubicoOtp
from twofold.hash_pool import HashPool
from twofold.ports import Entropy, SealingKeys

SEED_BYTES = 20
STRICT_SEED_BYTES_MIN = 14
OtpFactor = Literal["totp", "hotp"]

_TOTP = Totp()
_HOTP = Hotp()
_YUBICO_OTP = YubicoOtp()
_RECOVERY_CODES = RecoveryCodes()
_PASSWORD = Password()
_SEALING: Mapping[str, Totp | Hotp | YubicoOtp] = {f.name: f for f in (_TOTP, _HOTP, _YUBICO_OTP)}


class OtpParameters(Discreet, frozen=True):
    """How codes are computed. `secret` is raw; enrollment uses the defaults, because phones ignore anything else."""

    hidden: ClassVar[tuple[str, ...]] = ("secret",)

    secret: bytes
    algorithm: Algorithm = "SHA1"
    digits: int = 6
    period_s: int = 30
    counter: int = 0

    def check(self, *, is_strict: bool) -> OtpParameters:
        """Itself; raises `InvalidInput` that names what is out of bounds (RFC 4226, NIST SP 800-63B-4 3.1.4)."""
        if self.algorithm not in ("SHA1", "SHA256", "SHA512"):
            raise InvalidInput("algorithm", "SHA1, SHA256 or SHA512")
        if not DIGITS_MIN <= self.digits <= DIGITS_MAX:
            raise InvalidInput("digits", f"{DIGITS_MIN} to {DIGITS_MAX}")
        if not PERIOD_S_MIN <= self.period_s <= PERIOD_S_MAX:
            raise InvalidInput("period", f"{PERIOD_S_MIN} to {PERIOD_S_MAX} seconds")
        if not 0 <= self.counter < COUNTER_MAX:
            raise InvalidInput("counter", "0 to 2^63 - 2")
        if len(self.secret) < otpauth.SECRET_BYTES_MIN:
            raise InvalidInput("secret", f"at least {otpauth.SECRET_BYTES_MIN * 8} bits")
        if is_strict and len(self.secret) < STRICT_SEED_BYTES_MIN:
            raise InvalidInput("secret", f"at least {STRICT_SEED_BYTES_MIN * 8} bits in the strict profile")
        return self


class Credentials:
    """Makes credentials and proofs for one deployment."""

    def __init__(
        self, keys: SealingKeys, entropy: Entropy, pool: HashPool, *, issuer: str, argon2: Argon2 = RECOMMENDED
    ) -> None:
        self._keys = keys
        self._entropy = entropy
        self._pool = pool
        #: What authenticators call the deployment.
        self.issuer = issuer
        self._argon2 = argon2

    def new_id(self) -> str:
        """The id of a new authenticator; not a secret."""
        return derive_id(Seed(self._entropy.bytes(32)), "authenticator", "au_")

    def new_seed(self) -> OtpParameters:
        """A fresh seed of 160 bits with the parameters that every phone understands."""
        return OtpParameters(self._entropy.bytes(SEED_BYTES))

    def new_otp(self, account_id: str, authenticator_id: str, factor: OtpFactor, otp: OtpParameters) -> NewCredential:
        """The seed, sealed for this authenticator of this account."""
        sealed = self._seal_seed(otp.secret, account_id, authenticator_id)
        if factor == "totp":
            credential = _TOTP.new_credential(sealed, algorithm=otp.algorithm, digits=otp.digits, period_s=otp.period_s)
        else:
            credential = _HOTP.new_credential(sealed, algorithm=otp.algorithm, digits=otp.digits, counter=otp.counter)
        return NewCredential(authenticator_id, factor, credential, read_key_id(sealed))

    def new_yubico_otp(self, account_id: str, authenticator_id: str, key: YubicoKey) -> NewCredential:
        """A YubiKey's secrets, sealed for this authenticator of this account."""
        sealed = self._seal_seed(key.seed, account_id, authenticator_id)
        credential = _YUBICO_OTP.new_credential(key.public_id, sealed)
        return NewCredential(authenticator_id, _YUBICO_OTP.name, credential, read_key_id(sealed))

    def read_otp(self, account_id: str, authenticator: Authenticator) -> OtpParameters:
        """The seed and its parameters, for showing a pending enrollment again or testing a code."""
        if authenticator.factor == "totp":
            totp = _TOTP.read_credential(authenticator.credential)
            secret = self._open_seed(totp.sealed_seed, account_id, authenticator.id)
            return OtpParameters(secret, totp.algorithm, totp.digits, totp.period_s)
        hotp = _HOTP.read_credential(authenticator.credential)
        secret = self._open_seed(hotp.sealed_seed, account_id, authenticator.id)
        return OtpParameters(secret, hotp.algorithm, hotp.digits, counter=hotp.counter)

    def read_otps(self, account: Account) -> Iterator[tuple[Authenticator, OtpParameters]]:
        """The account's seeds and their parameters, without those that cannot be opened."""
        for authenticator in account.authenticators:
            if authenticator.factor not in ("totp", "hotp"):
                continue
            try:
                yield authenticator, self.read_otp(account.id, authenticator)
            except DataKeyMissing:
                raise
            except Unavailable:
                continue

    def has_seed(self, account: Account, secret: bytes) -> bool:
        """Whether one of the account's authenticators has this seed: each code would be good once for each of them."""
        return any(hmac.compare_digest(otp.secret, secret) for _, otp in self.read_otps(account))

    def is_available(self, authenticator: Authenticator) -> bool:
        """Whether the key under which its seed is sealed is still there; nothing is opened. Raises `DataKeyMissing` to
        be asked again."""
        sealed = find_seed(authenticator)
        try:
            if sealed is not None:
                self._keys.check_known(sealed)
        except DataKeyMissing:
            raise
        except Unavailable:
            return False
        return True

    def uri(self, account_id: str, factor: OtpFactor, otp: OtpParameters) -> str:
        """The `otpauth://` URI that the QR code carries."""
        return otpauth.dump(
            otpauth.OtpauthUri(
                type=factor,
                account=account_id,
                issuer=self.issuer,
                secret=otp.secret,
                algorithm=otp.algorithm,
                digits=otp.digits,
                period_s=otp.period_s if factor == "totp" else None,
                counter=otp.counter if factor == "hotp" else None,
            )
        )

    def spell_secret(self, otp: OtpParameters) -> str:
        """The seed as people type it: Base32 without padding."""
        return otpauth.encode_secret(otp.secret)

    async def new_recovery_codes(self, account_id: str, *, address: str | None) -> NewCredential:
        """Ten codes, their digests computed in the pool."""
        plain: dict[str, str] = {}
        while len(plain) < CODES:
            code = spell(self._entropy.bytes(16))
            plain.setdefault(code[:LOCATOR_LENGTH], code)
        salts = [self._entropy.bytes(SALT_BYTES) for _ in plain]

        def digest_all() -> list[RecoveryCode]:
            return [
                RecoveryCode(locator, salt, self._argon2.digest(_secret_of(code), salt))
                for (locator, code), salt in zip(plain.items(), salts, strict=True)
            ]

        codes = await self._pool.run(digest_all, account_id=account_id, address=address)
        credential = _RECOVERY_CODES.new_credential(codes, argon2=self._argon2)
        return NewCredential(self.new_id(), RECOVERY, credential, plain_codes=tuple(plain.values()))

    async def new_password(self, account_id: str, password: str) -> NewCredential:
        """The digest of a password that was checked to be a good one."""
        prepared = prepare_password(password)
        salt = self._entropy.bytes(SALT_BYTES)
        digest = await self._pool.run(lambda: self._argon2.digest(prepared, salt), account_id=account_id, address=None)
        credential = _PASSWORD.new_credential(salt, digest, argon2=self._argon2)
        return NewCredential(self.new_id(), FIRST_FACTOR, credential)

    async def prove(
        self,
        account: Account,
        answer: Answer,
        *,
        address: str | None,
        is_known: bool,
        now: int,
        name: str | None = None,
    ) -> Answer:
        """The answer with its proof, where it takes one: at most one slow hash, and none for an unknown locator. One at
        a time for each `name`, which is the account's id if none is given."""
        if answer.kind not in ("recovery", "password"):
            return answer
        factor = RECOVERY if answer.kind == "recovery" else FIRST_FACTOR
        owner = next((a for a in account.authenticators if a.factor == factor and a.state == "active"), None)
        if owner is None:
            return answer
        if factor == RECOVERY:
            code = _RECOVERY_CODES.find(owner.credential, answer)
            if code is None or code.wait_s(now):
                return answer
            kept = _RECOVERY_CODES.read_credential(owner.credential)
            parameters, salt, secret = kept.argon2, code.salt, _secret_of(answer.codes[0])
        else:
            password = _PASSWORD.read_credential(owner.credential)
            parameters, salt, secret = password.argon2, password.salt, prepare_password(answer.codes[0])
        fresh_salt = self._entropy.bytes(SALT_BYTES)

        def compute() -> Proof:
            digest = parameters.digest(secret, salt)
            rehashed = None
            # Only for the right one: else the work would tell apart who has an old digest and who has none.
            is_right = factor == FIRST_FACTOR and hmac.compare_digest(digest, password.digest)
            if is_right and parameters != self._argon2:
                rehashed = _PASSWORD.new_credential(
                    fresh_salt, self._argon2.digest(secret, fresh_salt), argon2=self._argon2
                )
            return Proof(owner.id, owner.credential_version, digest, rehashed)

        proof = await self._pool.run(compute, account_id=name or account.id, address=address, is_known=is_known)
        return msgspec.structs.replace(answer, proof=proof)

    async def check_password(
        self, account: Account | None, name: str, password: str, *, address: str | None, is_known: bool, now: int
    ) -> Answer | None:
        """The answer with its proof if this is the account's password, else None: after the same work for a wrong
        password, an account without one, and a name that nobody has. Hashes wait for each other by `name`, which is the
        typed one, folded: by the ids of accounts one could tell which of two spellings there is."""
        answer = Answer("password", (password,))
        owner = None
        if account is not None:
            owner = next((a for a in account.authenticators if a.factor == FIRST_FACTOR), None)
        if account is None or owner is None:
            secret, salt = prepare_password(password), self._entropy.bytes(SALT_BYTES)
            await self._pool.run(
                lambda: self._argon2.digest(secret, salt), account_id=name, address=address, is_known=is_known
            )
            return None
        answer = await self.prove(account, answer, address=address, is_known=is_known, now=now, name=name)
        finding = _PASSWORD.check_answer(owner, answer, unseal=_unsealed, now=now)
        return answer if isinstance(finding, Right) else None

    def _seal_seed(self, seed: bytes, account_id: str, authenticator_id: str) -> bytes:
        return self._keys.seal(
            seed,
            field=SEED_FIELD,
            account_id=account_id,
            authenticator_id=authenticator_id,
            nonce=self._entropy.bytes(NONCE_BYTES),
        )

    def _open_seed(self, sealed: bytes, account_id: str, authenticator_id: str) -> bytes:
        return self._keys.open_seal(sealed, field=SEED_FIELD, account_id=account_id, authenticator_id=authenticator_id)


def find_seed(authenticator: Authenticator) -> bytes | None:
    """The sealed seed that an authenticator keeps, or None where its factor keeps none."""
    factor = _SEALING.get(authenticator.factor)
    return None if factor is None else factor.read_credential(authenticator.credential).sealed_seed


def exchange_seed(authenticator: Authenticator, sealed: bytes) -> Authenticator:
    """The authenticator with its seed under another seal; the seed itself is the same."""
    kept = _SEALING[authenticator.factor].read_credential(authenticator.credential)
    credential = msgspec.msgpack.encode(msgspec.structs.replace(kept, sealed_seed=sealed))
    return msgspec.structs.replace(authenticator, credential=credential)


def yubikeys_of(account: Account) -> set[str]:
    """The public ids of the account's YubiKeys."""
    keys = (a for a in account.authenticators if a.factor == _YUBICO_OTP.name)
    return {_YUBICO_OTP.read_credential(a.credential).public_id for a in keys}


def _unsealed(sealed: bytes) -> bytes:
    """A password digest is not sealed."""
    return sealed


def _secret_of(code: str) -> bytes:
    """The 16 secret characters behind the locator, as they are hashed."""
    return code.replace("-", "")[LOCATOR_LENGTH:].encode()
