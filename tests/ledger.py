"""A ledger holds one account and commits real decisions to it, the way a store does.

Each one goes through `settle` and the codec, so that every test also shows that documents can be written and read back.
"""

from collections.abc import Callable
from typing import Any

import pytest
from tests.kit import MemorySeals, Phone, RepeatableEntropy, SetClock, wrong_code

from twofold.core.account import Account, Authenticator
from twofold.core.attempt import LOCAL_APPLICATION, Call, Context
from twofold.core.audit import EventRow
from twofold.core.clock import MICROS_PER_S
from twofold.core.codec import Codec
from twofold.core.decision import (
    Confirmed,
    Decision,
    Effect,
    Message,
    NeedsRecoveryCodes,
    Outcome,
    ReceiptClaims,
    Throttled,
    Verified,
)
from twofold.core.enrollment import NewCredential, begin_enrollment, confirm_enrollment, import_authenticator
from twofold.core.entropy import Seed
from twofold.core.factor import Answer, Factors, Proof, read_answer
from twofold.core.management import AccountEvent, put_account, record_event, set_password
from twofold.core.settlement import Settlement, Standing, settle
from twofold.core.verdict import MANAGE, Question
from twofold.core.verification import SEED_FIELD, verify_answer
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.crypto.digest import MacKeys
from twofold.crypto.otp import step_at
from twofold.errors import Refused
from twofold.factors import FACTORS
from twofold.factors.hotp import Hotp, HotpCredential
from twofold.factors.password import Password, prepare_password
from twofold.factors.recovery_codes import RecoveryCode, RecoveryCodes, spell
from twofold.factors.totp import Totp, TotpCredential


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
        is_strict: bool = False,
        **call: Any,
    ) -> Outcome:
        """Judge the codes as one answer, with the slow half done before, as the verifier does it."""
        answer = Answer("password", (password,)) if password is not None else read_answer(codes)
        question = Question(self.prove(answer), factor, authenticator_id, purpose, binding, is_strict)

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


def an_import(factor: str, **parameters: Any) -> tuple[Ledger, Phone]:
    """An account with one authenticator that was imported, and never used."""
    ledger = Ledger.with_account()
    return ledger, ledger.import_phone(ledger.new_phone(factor, **parameters))


def refusal_of(ledger: Ledger, *codes: str, **options: Any) -> str:
    """Why an answer is refused altogether."""
    with pytest.raises(Refused) as refused:
        ledger.verify(*codes, **options)
    return refused.value.code


def sign_in(ledger: Ledger, phone: Phone, **options: Any) -> str:
    """A success with the next code; the value of the browser."""
    outcome = ledger.verify(ledger.next_code(phone), **options)
    assert isinstance(outcome, Verified)
    assert outcome.browser is not None
    return outcome.browser


def exhaust(ledger: Ledger, phone: Phone, **options: Any) -> Throttled:
    """Guess until the budget is gone, waiting out the delays."""
    for _ in range(40):
        outcome = ledger.verify(ledger.wrong_code(phone), authenticator_id=phone.id, **options)
        if isinstance(outcome, Throttled):
            if outcome.retry_after_s > 60:
                return outcome
            ledger.clock.advance(outcome.retry_after_s)
    raise AssertionError("the budget never ends")


def code_for_none(ledger: Ledger, *phones: Phone) -> str:
    """A code that fits none of these phones anywhere near."""
    now = ledger.clock.now()
    totps, hotps = ([p for p in phones if p.factor == factor] for factor in ("totp", "hotp"))
    near = {p.code(now, ahead=ahead) for p in totps for ahead in range(-21, 22)}
    near |= {p.code_of(counter) for p in hotps for counter in range(200)}
    return next(code for code in map(str, range(100_000, 999_999)) if code not in near)
