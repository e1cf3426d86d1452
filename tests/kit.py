"""What tests stand on: a clock that they set, repeatable randomness, seals in memory, phones, and a ledger.

The ledger holds one account and commits real decisions to it, the way a store does: each one goes through `settle`
and the codec, so that every test also shows that documents can be written and read back.
"""

import base64
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings
from twofold.core.account import Account, Authenticator
from twofold.core.attempt import LOCAL_APPLICATION, Call, Context
from twofold.core.audit import EventRow
from twofold.core.clock import MICROS_PER_S, in_seconds
from twofold.core.codec import Codec
from twofold.core.decision import (
    Confirmed,
    Decision,
    Effect,
    Message,
    NeedsRecoveryCodes,
    Outcome,
    Pending,
    ReceiptClaims,
    Rejected,
    Verified,
)
from twofold.core.enrollment import NewCredential, begin_enrollment, confirm_enrollment, import_authenticator
from twofold.core.entropy import Seed
from twofold.core.factor import Answer, Factors, Proof, read_answer
from twofold.core.management import AccountEvent, put_account, record_event, set_password
from twofold.core.settlement import Settlement, Standing, settle
from twofold.core.verification import MANAGE, SEED_FIELD, Question, verify_answer
from twofold.crypto import seal as sealing
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.crypto.digest import MacKeys
from twofold.crypto.otp import Algorithm, code_at, step_at
from twofold.errors import DataKeyMissing, Unavailable
from twofold.factors import FACTORS
from twofold.factors.hotp import Hotp, HotpCredential
from twofold.factors.password import Password, prepare_password
from twofold.factors.recovery_codes import RecoveryCode, RecoveryCodes, spell
from twofold.factors.totp import Totp, TotpCredential
from twofold.keys.keyring import Keyring
from twofold.stores.memory import MemoryStore
from twofold.verifier import Verifier

START_S = 1_700_000_010
RFC_SECRET = b"12345678901234567890"


class SetClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, at_s: float = START_S) -> None:
        self._now = in_seconds(at_s)

    def now(self) -> int:
        return self._now

    def set(self, at_s: float) -> None:
        self._now = in_seconds(at_s)

    def advance(self, seconds: float) -> None:
        self._now += in_seconds(seconds)

    @property
    def now_s(self) -> float:
        return self._now / MICROS_PER_S


class RepeatableEntropy:
    """The same bytes in each run."""

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed)

    def bytes(self, length: int) -> bytes:
        return self._random.randbytes(length)


class MemorySeals:
    """`Seals` under data keys in memory, which a test can add, take out (`missing`) or destroy (`gone`)."""

    def __init__(self) -> None:
        self.ciphers = {"data-1": AESGCM(b"1" * 32)}
        self.missing: set[str] = set()
        self.gone: set[str] = set()
        self.active_key_id = "data-1"

    def rotate(self) -> None:
        self.active_key_id = f"data-{len(self.ciphers) + 1}"
        self.ciphers[self.active_key_id] = AESGCM(bytes([len(self.ciphers)]) * 32)

    def open_seal(self, sealed: bytes, *, field: str, account_id: str, authenticator_id: str = "") -> bytes:
        key_id = sealing.read_key_id(sealed)
        if key_id in self.missing:
            raise DataKeyMissing(key_id)
        if key_id in self.gone:
            raise Unavailable(f"data key {key_id} was destroyed")
        return sealing.unseal(
            self.ciphers[key_id], sealed, field=field, account_id=account_id, authenticator_id=authenticator_id
        )

    def seal(self, plaintext: bytes, *, field: str, account_id: str, authenticator_id: str = "", nonce: bytes) -> bytes:
        return sealing.seal(
            self.ciphers[self.active_key_id],
            plaintext,
            key_id=self.active_key_id,
            nonce=nonce,
            field=field,
            account_id=account_id,
            authenticator_id=authenticator_id,
        )


class PlainProvider:
    """A key provider that hides nothing; `is_down` stands for one that cannot be reached."""

    def __init__(self) -> None:
        self.is_down = False

    async def wrap(self, key: bytes, *, key_id: str) -> bytes:
        return key_id.encode() + key

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> bytes:
        if self.is_down or not wrapped.startswith(key_id.encode()):
            raise Unavailable("the provider is down")
        return wrapped.removeprefix(key_id.encode())

    def describe(self) -> str:
        return "the plain provider"


@dataclass
class Phone:
    """An authenticator as the person holds it. `counter` is that of the next code of a HOTP token."""

    id: str
    secret: bytes = field(repr=False)
    factor: str = "totp"
    algorithm: Algorithm = "SHA1"
    digits: int = 6
    period_s: int = 30
    counter: int = 0

    def code(self, now: int, *, ahead: int = 0) -> str:
        """What the app shows at `now` (microseconds), or `ahead` steps later."""
        return self.code_of(step_at(now // MICROS_PER_S, self.period_s) + ahead)

    def code_of(self, counter: int) -> str:
        """The code of one step or counter."""
        return code_at(self.secret, counter, digits=self.digits, algorithm=self.algorithm)

    def press(self) -> str:
        """The token's next code."""
        self.counter += 1
        return self.code_of(self.counter - 1)

    def three(self, now: int) -> list[str]:
        """The codes of the two steps before, and of this one."""
        return [self.code(now, ahead=ahead) for ahead in (-2, -1, 0)]


class Ledger:
    """One account and all that was committed for it, in order."""

    def __init__(self, account_id: str = "alice", *, factors: Factors = FACTORS, seed: int = 0) -> None:
        self.clock = SetClock()
        self.entropy = RepeatableEntropy(seed)
        self.seals = MemorySeals()
        self.factors = factors
        self.codec = Codec(MacKeys({"mac-1": b"m" * 32}, signing="mac-1"))
        self.standing = Standing(account_id, 0, None)
        self.rows: list[EventRow] = []
        self.effects: list[Effect] = []
        self.last: Settlement | None = None
        self.recovery_codes: tuple[str, ...] = ()

    @classmethod
    def with_account(cls, account_id: str = "alice", **options: Any) -> "Ledger":
        """A ledger whose account exists and is empty."""
        ledger = cls(account_id, **options)
        ledger.commit(lambda account, call: put_account(account, account_id, call))
        return ledger

    @classmethod
    def with_totp(cls, account_id: str = "alice", **options: Any) -> tuple["Ledger", Phone]:
        """A ledger whose account has a confirmed TOTP and recovery codes, five minutes after the enrollment."""
        ledger = cls.with_account(account_id, **options)
        phone = ledger.add("totp")
        ledger.clock.advance(300)
        return ledger, phone

    # What the account is now.

    @property
    def account(self) -> Account:
        assert isinstance(self.standing.state, Account)
        return self.standing.state

    def authenticator(self, phone: Phone) -> Authenticator:
        return self.account.find(phone.id)

    def totp(self, phone: Phone) -> TotpCredential:
        return Totp().read_credential(self.authenticator(phone).credential)

    def hotp(self, phone: Phone) -> HotpCredential:
        return Hotp().read_credential(self.authenticator(phone).credential)

    @property
    def kinds(self) -> list[str]:
        return [row.kind for row in self.rows]

    @property
    def notices(self) -> list[str]:
        return [effect.kind for effect in self.effects if isinstance(effect, Message)]

    # Committing.

    def call(self, *, application: str = LOCAL_APPLICATION, is_admin: bool = False, **context: str | None) -> Call:
        return Call(self.clock.now(), Seed(self.entropy.bytes(32)), application, is_admin, Context(**context))

    def commit(self, decide: Callable[[Account | None, Call], Decision], **call: Any) -> Outcome:
        """Decide and write, as one step; what is read back is what was written."""
        made = self.call(**call)
        return self.write(lambda account: decide(account, made))

    def write(self, decide: Callable[[Account | None], Decision]) -> Outcome:
        settled = settle(self.standing, decide, self.codec)
        if settled.row is not None:
            assert self.codec.load(settled.row) == settled.standing.state
        self.last = settled
        self.standing = settled.standing
        self.rows += settled.events
        self.effects += settled.effects
        return settled.decision.outcome

    # Making things.

    def new_otp(self, phone: Phone) -> NewCredential:
        sealed = self.seals.seal(
            phone.secret,
            field=SEED_FIELD,
            account_id=self.standing.account_id,
            authenticator_id=phone.id,
            nonce=self.entropy.bytes(12),
        )
        if phone.factor == "totp":
            credential = Totp().new_credential(
                sealed, algorithm=phone.algorithm, digits=phone.digits, period_s=phone.period_s
            )
        else:
            credential = Hotp().new_credential(
                sealed, algorithm=phone.algorithm, digits=phone.digits, counter=phone.counter
            )
        return NewCredential(phone.id, phone.factor, credential, self.seals.active_key_id)

    def new_recovery_codes(self) -> NewCredential:
        plain: dict[str, str] = {}
        while len(plain) < 10:
            code = spell(self.entropy.bytes(16))
            plain.setdefault(code[:4], code)
        codes = []
        for locator, code in plain.items():
            salt = self.entropy.bytes(16)
            codes.append(RecoveryCode(locator, salt, ONLY_FOR_TESTING.digest(code.replace("-", "")[4:].encode(), salt)))
        credential = RecoveryCodes().new_credential(codes, argon2=ONLY_FOR_TESTING)
        return NewCredential(self.new_id(), "recovery_codes", credential, plain_codes=tuple(plain.values()))

    def new_id(self) -> str:
        return f"au_{self.entropy.bytes(10).hex()}"

    def new_phone(self, factor: str = "totp", **parameters: Any) -> Phone:
        return Phone(self.new_id(), parameters.pop("secret", self.entropy.bytes(20)), factor, **parameters)

    # The verbs, with the same names as the verifier's.

    def enroll(
        self,
        factor: str = "totp",
        *,
        secret: bytes | None = None,
        replaces: str | None = None,
        step_up: ReceiptClaims | None = None,
        **call: Any,
    ) -> Phone:
        """Begin an enrollment; the phone that has scanned what is shown."""
        fresh = self.new_phone(factor, **({"secret": secret} if secret else {}))
        shown: list[Authenticator] = []

        def decide(account: Account | None, made: Call) -> Decision:
            new = self.new_otp(fresh)
            decision, pending = begin_enrollment(account, new, made, replaces=replaces, step_up=step_up)
            shown.append(pending)
            return decision

        self.commit(decide, **call)
        pending = shown[-1]
        read = Totp().read_credential if pending.factor == "totp" else Hotp().read_credential
        opened = self.seals.open_seal(
            read(pending.credential).sealed_seed,
            field=SEED_FIELD,
            account_id=self.standing.account_id,
            authenticator_id=pending.id,
        )
        return Phone(pending.id, opened, pending.factor)

    def confirm(self, phone: Phone, code: str, *, step_up: ReceiptClaims | None = None, **call: Any) -> Outcome:
        recovery: NewCredential | None = None

        def decide(account: Account | None, made: Call) -> Decision:
            return confirm_enrollment(
                account,
                phone.id,
                read_answer([code]),
                made,
                factors=self.factors,
                seals=self.seals,
                recovery=recovery,
                step_up=step_up,
            )

        outcome = self.commit(decide, **call)
        if isinstance(outcome, NeedsRecoveryCodes):
            recovery = self.new_recovery_codes()
            outcome = self.commit(decide, **call)
        if isinstance(outcome, Confirmed) and outcome.recovery_codes:
            self.recovery_codes = outcome.recovery_codes
        return outcome

    def add(self, factor: str = "totp", *, step_up: ReceiptClaims | None = None, **call: Any) -> Phone:
        """Enroll and confirm."""
        phone = self.enroll(factor, step_up=step_up, **call)
        code = phone.code(self.clock.now()) if factor == "totp" else phone.press()
        assert isinstance(self.confirm(phone, code, **call), Confirmed)
        return phone

    def import_phone(self, phone: Phone) -> Phone:
        """The same secret in the account, active at once."""
        self.commit(lambda account, call: import_authenticator(account, self.new_otp(phone), call), is_admin=True)
        return phone

    def set_password(self, password: str) -> None:
        salt = self.entropy.bytes(16)
        digest = ONLY_FOR_TESTING.digest(prepare_password(password), salt)
        credential = Password().new_credential(salt, digest, argon2=ONLY_FOR_TESTING)
        fresh = NewCredential(self.new_id(), "password", credential)
        self.commit(lambda account, call: set_password(account, fresh, call))

    def record(self, event: AccountEvent) -> None:
        self.commit(lambda account, call: record_event(account, event, call))

    def verify(
        self,
        *codes: str,
        password: str | None = None,
        factor: str | None = None,
        authenticator_id: str | None = None,
        purpose: str | None = None,
        binding: str | None = None,
        allow_three_codes: bool = True,
        **call: Any,
    ) -> Outcome:
        """Judge the codes as one answer, with the slow half done before, as the verifier does it."""
        answer = Answer("password", (password,)) if password is not None else read_answer(codes)
        question = Question(self.prove(answer), factor, authenticator_id, purpose, binding, allow_three_codes)

        def decide(account: Account | None, made: Call) -> Decision:
            return verify_answer(account, question, made, factors=self.factors, seals=self.seals)

        return self.commit(decide, **call)

    def prove(self, answer: Answer) -> Answer:
        """The answer with the digest of its secret."""
        if answer.kind == "otp" or not isinstance(self.standing.state, Account):
            return answer
        factor = "recovery_codes" if answer.kind == "recovery" else "password"
        owner = next((a for a in self.account.authenticators if a.factor == factor), None)
        if owner is None:
            return answer
        if answer.kind == "recovery":
            found = RecoveryCodes().find(owner.credential, answer)
            if found is None:
                return answer
            digest = ONLY_FOR_TESTING.digest(answer.codes[0][4:].encode(), found.salt)
        else:
            salt = Password().read_credential(owner.credential).salt
            digest = ONLY_FOR_TESTING.digest(prepare_password(answer.codes[0]), salt)
        return Answer(answer.kind, answer.codes, Proof(owner.id, owner.credential_version, digest))

    def receipt(self, phone: Phone, *, purpose: str | None = MANAGE, **call: Any) -> ReceiptClaims:
        """The claims of a fresh success with this phone, moved to the next code first."""
        code = phone.press() if phone.factor == "hotp" else self.next_code(phone)
        outcome = self.verify(code, authenticator_id=phone.id, purpose=purpose, **call)
        assert isinstance(outcome, Verified)
        assert outcome.claims is not None
        return outcome.claims

    def next_code(self, phone: Phone) -> str:
        """Wait for a code that was not accepted yet."""
        while step_at(self.clock.now() // MICROS_PER_S, phone.period_s) <= self.totp(phone).last_step:
            self.clock.advance(1)
        return phone.code(self.clock.now())

    def wrong_code(self, phone: Phone) -> str:
        """A code that fits nowhere near now."""
        return wrong_code(phone, self.clock.now())


def wrong_code(phone: Phone, now: int) -> str:
    """A code that this phone shows at no time within an hour, nor within 200 presses."""
    center = step_at(now // MICROS_PER_S, phone.period_s) if phone.factor == "totp" else phone.counter
    reach = 3600 // phone.period_s if phone.factor == "totp" else 200
    near = {phone.code_of(counter) for counter in range(max(0, center - reach), center + reach + 1)}
    return next(code for number in range(10**phone.digits) if (code := f"{number:0{phone.digits}d}") not in near)


def reason_of(outcome: Outcome) -> str:
    """Why it was rejected."""
    assert isinstance(outcome, Rejected), outcome
    return outcome.reason


def reasons_of(outcomes: Sequence[Outcome]) -> list[str]:
    return [reason_of(outcome) for outcome in outcomes]


# Whole deployments, for what stands around the core.


async def open_for_test(folder: Path, clock: SetClock | None = None, *, seed: int = 0, **settings: Any) -> Deployment:
    """A deployment over SQLite in this folder, with a clock that the test sets and cheap hashes.

    Opened again it needs another `seed`: no randomness comes twice.
    """
    return await open_deployment(
        Settings(data_dir=folder, **settings),
        clock=clock or SetClock(),
        entropy=RepeatableEntropy(seed),
        argon2=ONLY_FOR_TESTING,
    )


async def open_in_memory(clock: SetClock | None = None, **settings: Any) -> Deployment:
    """The same over the store in memory."""
    store, entropy, clock = MemoryStore(), RepeatableEntropy(), clock or SetClock()
    keyring = await Keyring.open(store, PlainProvider(), clock, entropy)
    return Deployment(Settings(**settings), store, keyring, clock=clock, entropy=entropy, argon2=ONLY_FOR_TESTING)


def phone_of(pending: Pending) -> Phone:
    """The phone that has scanned the QR code of this enrollment."""
    secret = base64.b32decode(pending.secret + "=" * (-len(pending.secret) % 8))
    return Phone(pending.id, secret, pending.factor)


async def add_phone(verifier: Verifier, account_id: str, clock: SetClock, **options: Any) -> tuple[Phone, Confirmed]:
    """Enroll and confirm, and wait for the next code."""
    phone = phone_of(await verifier.enroll(account_id, **options))
    code = phone.press() if phone.factor == "hotp" else phone.code(clock.now())
    confirmed = await verifier.confirm(account_id, phone.id, code=code)
    assert isinstance(confirmed, Confirmed)
    clock.advance(30)
    return phone, confirmed
