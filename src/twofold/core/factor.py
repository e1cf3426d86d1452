"""The one face of every factor, and the answer that it judges.

No factor knows another one, and the core knows none of them by name: it asks each authenticator's factor whether it
reads the answer, what a wrong one would cost, and what it finds.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal, Protocol

import msgspec

from twofold.core.account import Authenticator
from twofold.core.decision import Reason
from twofold.core.discreet import Discreet
from twofold.core.ticket import Ticket
from twofold.errors import InvalidInput

#: How sure one factor is, as receipts say it (NIST SP 800-63B-4).
AAL1, AAL2, AAL3 = "urn:nist:aal1", "urn:nist:aal2", "urn:nist:aal3"
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
RECOVERY_CODE_LENGTH = 20
_CROCKFORD_READING = str.maketrans("OIL" + string.ascii_lowercase, "011" + "ABCDEFGH1JK1MN0PQRSTUVWXYZ")
MODHEX = "cbdefghijklnrtuv"
YUBICO_OTP_LENGTH = 44
_IGNORED = str.maketrans("", "", " -\t\r\n")

AnswerKind = Literal["otp", "recovery", "password", "webauthn", "yubico_otp"]


class Proof(Discreet, frozen=True):
    """Slow work done before the decision: the answer's digest under one version of one credential.

    `rehashed` is the credential under today's parameters, to be stored when the digest turns out right.
    """

    hidden: ClassVar[tuple[str, ...]] = ("digest", "rehashed")

    credential_id: str
    credential_version: int
    digest: bytes
    rehashed: bytes | None = None


class Answer(Discreet, frozen=True):
    """What the person sent, in the one form in which factors read it: `codes` without spaces, hyphens and case.

    A factor with a ceremony reads `evidence`, a struct of its own, and the ticket that was `issued` for it.
    """

    hidden: ClassVar[tuple[str, ...]] = ("codes", "evidence")

    kind: AnswerKind
    codes: tuple[str, ...] = ()
    proof: Proof | None = None
    evidence: msgspec.Struct | None = None
    issued: Ticket | None = None


def read_answer(codes: Sequence[str]) -> Answer:
    """The answer that these codes are, by their shape: 20 letters and digits are a recovery code, 44 characters of
    modhex a Yubico OTP, all else one-time codes.

    What is neither still is an answer, and a wrong one: it is judged and counted once like any other.
    Raises `InvalidInput` for a number of codes that no factor takes, and for what is no text: a number has lost its
    leading zeros.
    """
    if not 1 <= len(codes) <= 3:
        raise InvalidInput("codes", "one code, two (HOTP resynchronization) or three consecutive ones")
    if not all(isinstance(code, str) for code in codes):
        raise InvalidInput("code", 'text, such as "012345"')
    stripped = tuple(code.translate(_IGNORED) for code in codes)
    if len(stripped) == 1 and len(stripped[0]) == RECOVERY_CODE_LENGTH and stripped[0].isascii():
        read = stripped[0].translate(_CROCKFORD_READING)
        if all(c in CROCKFORD for c in read):
            return Answer("recovery", (read,))
    if len(stripped) == 1 and len(stripped[0]) == YUBICO_OTP_LENGTH and stripped[0].isascii():
        read = stripped[0].lower()
        if all(c in MODHEX for c in read):
            return Answer("yubico_otp", (read,))
    return Answer("otp", stripped)


class Right(msgspec.Struct, frozen=True):
    """The answer is right; `credential` is the next one, in which it is used up. `left`: one-time secrets left.

    What it counts for where that depends on the answer: `amr` (else the factor's), `acr`, and whether the authenticator
    made sure who its user is, so that it is two factors in one.
    """

    credential: bytes
    left: int | None = None
    amr: tuple[str, ...] | None = None
    acr: str = AAL1
    is_user_verified: bool = False


class Used(msgspec.Struct, frozen=True):
    """The answer is one that was accepted, or passed over, before."""

    retry_after_s: int | None = None


class Wrong(msgspec.Struct, frozen=True):
    """The answer is wrong. `credential` when the factor keeps something of it, `clock_offset_s` when it is sure.

    `is_overtaken`: it was right once, but a later one was accepted first; it is charged, for it was not used. `reason`
    where the factor knows a better one than "wrong code", with the `rule` of its standard that was broken;
    `is_for_another`: the answer itself names another authenticator; `is_cloned`: its own secret is in other hands, too.
    """

    credential: bytes | None = None
    clock_offset_s: int | None = None
    is_overtaken: bool = False
    retry_after_s: int | None = None
    reason: Reason | None = None
    rule: str | None = None
    is_for_another: bool = False
    is_cloned: bool = False


class Held(msgspec.Struct, frozen=True):
    """Not judged: this one secret is being guessed at and waits."""

    retry_after_s: int


class StaleProof(msgspec.Struct, frozen=True):
    """Not judged: the proof is missing or belongs to another version of the credential."""


Finding = Right | Used | Wrong | Held | StaleProof

#: Opens what the factor sealed in its own credential; bound to the account and the authenticator it belongs to.
Unseal = Callable[[bytes], bytes]


class Factor(Protocol):
    """A kind of proof. A factor is one module; this is all that the core knows of it."""

    @property
    def name(self) -> str:
        """The name in the API and in documents."""
        ...

    @property
    def amr(self) -> tuple[str, ...]:
        """Authentication method references of a success (RFC 8176)."""
        ...

    def reads(self, answer: Answer) -> bool:
        """Whether an answer of this shape can be meant for this factor."""
        ...

    def cost_ppm(self, credential: bytes, answer: Answer) -> int:
        """The odds of a blind guess, in ppm; 0 for an answer that cannot be guessed and never meets a lane."""
        ...

    def check_answer(self, authenticator: Authenticator, answer: Answer, *, unseal: Unseal, now: int) -> Finding:
        """Judge the answer (pure: time and keys are arguments; `now` in microseconds)."""
        ...


Factors = Mapping[str, Factor]


class Seals(Protocol):
    """What a decision may do with data keys; raises `DataKeyMissing` or `Unavailable`."""

    def open_seal(self, sealed: bytes, *, field: str, account_id: str, authenticator_id: str = "") -> bytes:
        """The plaintext of `sealed`, if it was made for exactly this place."""
        ...

    def seal(self, plaintext: bytes, *, field: str, account_id: str, authenticator_id: str = "", nonce: bytes) -> bytes:
        """Ciphertext for exactly this place under the active data key; `nonce` 12 bytes, never used before."""
        ...

    @property
    def active_key_id(self) -> str:
        """The data key that `seal` uses."""
        ...
