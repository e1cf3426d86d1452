"""What tests stand on: a clock that they set, repeatable randomness, seals in memory, and phones."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import (
    Outcome,
    Rejected,
)
from twofold.crypto import seal as sealing
from twofold.crypto.otp import Algorithm, code_at, step_at
from twofold.errors import DataKeyMissing, KeyRefused, Unavailable
from twofold.key_ports import Unwrapping, Wrapping
from twofold.testing.fixed_clock import FixedClock

START_S = 1_700_000_010
RFC_SECRET = b"12345678901234567890"


class SetClock(FixedClock):
    """The clock of the test kit; each test begins at the same time."""

    def __init__(self, at_s: float = START_S) -> None:
        super().__init__(at_s)


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
    """A key provider that hides nothing. While `fault` is set, every call raises it; `asked` lists the calls."""

    def __init__(self, name: str = "plain") -> None:
        self.name = name
        self.fault: Unavailable | None = None
        self.asked: list[tuple[str, str]] = []

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        self._note("wrap", key_id)
        return Wrapping(f"{self.name}|{key_id}|".encode() + key, f"{self.name}-{len(self.asked)}")

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        self._note("unwrap", key_id)
        head = f"{self.name}|{key_id}|".encode()
        if not wrapped.startswith(head):
            raise KeyRefused(f"{key_id} is not a key of the {self.name} provider")
        return Unwrapping(wrapped.removeprefix(head), f"{self.name}-{len(self.asked)}")

    async def watch(self) -> None:
        if isinstance(self.fault, KeyRefused):
            raise self.fault

    def describe(self) -> str:
        return f"the {self.name} provider"

    async def close(self) -> None:
        pass

    def _note(self, call: str, key_id: str) -> None:
        self.asked.append((call, key_id))
        if self.fault is not None:
            raise self.fault


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
