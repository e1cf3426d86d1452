"""What a decision is: the next account, how it ended, what to record, and what else to write with it.

A decision is data. The store writes all of it in one transaction or none of it; nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import msgspec

from twofold.core.account import Account
from twofold.core.audit import Event
from twofold.core.discreet import Discreet
from twofold.core.session import Session, Strength
from twofold.errors import RefusalCode

Reason = Literal[
    "wrong_code",
    "code_already_used",
    "clock_off",
    "wrong_password",
    "passkey_required",
    # of ceremonies, which answer a challenge
    "challenge_expired",
    "challenge_used",
    "challenge_mismatch",
    "wrong_origin",
    "unknown_credential",
    "uv_required",
    "sign_count_went_back",
    "wrong_credential",
    # of a credential that is to be registered
    "already_registered",
    "key_refused",
    "attestation_refused",
]
Way = Literal["known_browser", "webauthn", "recovery_codes", "three_codes"]


class ReceiptClaims(msgspec.Struct, frozen=True):
    """What a receipt states; signed after the commit (`twofold.crypto.receipt`). Times in seconds, as in a JWT.

    `via` is the authenticator that earned it: the receipt is void without it.
    """

    jti: str
    sub: str
    aud: str
    epoch: str
    iat: int
    exp: int
    auth_time: int
    amr: tuple[str, ...]
    acr: str
    via: str
    purpose: str | None = None
    bnd: str | None = None


class Verified(Discreet, frozen=True, tag=True):
    """The answer was right and is used up now.

    `browser` is opaque: keep it for this browser and send it with the next call; it skips nothing. `claims` are there
    when a purpose or a binding was asked for, and `receipt` is their signed form. `session` is the new token of the
    session that the answer opened or went on, where the caller has one; so in the other endings. `is_user_verified`:
    the authenticator made sure who its user is, so that this was two factors in one. `reenroll_by`, in microseconds:
    after a reset this authenticator stops then, and a new one has to be set up before; 0 for never.
    """

    hidden: ClassVar[tuple[str, ...]] = ("browser", "receipt", "session")

    factor: str
    authenticator_id: str
    browser: str | None = None
    receipt: str | None = None
    recovery_codes_left: int | None = None
    claims: ReceiptClaims | None = None
    session: str | None = None
    is_user_verified: bool = False
    reenroll_by: int = 0


class Rejected(msgspec.Struct, frozen=True, tag=True):
    """The answer was judged and is not right. `retry_after_s`: when the next code comes, where that helps."""

    reason: Reason
    retry_after_s: int | None = None
    clock_offset_s: int | None = None


class Throttled(msgspec.Struct, frozen=True, tag=True):
    """The answer was not judged. `ways` are the ways in that stay open meanwhile."""

    retry_after_s: int
    ways: tuple[Way, ...] = ()


class Pending(Discreet, frozen=True, tag=True):
    """An enrollment that waits for its first answer. `secret` (Base32, no padding) and `uri` are shown to the person;
    `credential` is what a ceremony is made of."""

    hidden: ClassVar[tuple[str, ...]] = ("secret", "uri", "credential")

    id: str
    factor: str
    expires_at: int
    secret: str = ""
    uri: str = ""
    credential: bytes = b""


class Asked(msgspec.Struct, frozen=True, tag=True):
    """A question was opened; `challenge` is its ticket."""

    challenge: str


class Confirmed(Discreet, frozen=True, tag=True):
    """The authenticator is active. `recovery_codes` only with the first one, and only this once."""

    hidden: ClassVar[tuple[str, ...]] = ("recovery_codes", "session", "browser")

    id: str
    factor: str
    recovery_codes: tuple[str, ...] = ()
    session: str | None = None
    browser: str | None = None
    is_user_verified: bool = False


class Renewed(Discreet, frozen=True, tag=True):
    """New recovery codes, shown only this once; the old ones are dead."""

    hidden: ClassVar[tuple[str, ...]] = ("recovery_codes", "session", "browser")

    recovery_codes: tuple[str, ...]
    session: str | None = None
    browser: str | None = None


class Redeemed(msgspec.Struct, frozen=True, tag=True):
    """The receipt was good and is used up now."""

    claims: ReceiptClaims


class Done(Discreet, frozen=True, tag=True):
    """The change was made. `is_new` where the call may create or change; `link` is a one-time link's token."""

    hidden: ClassVar[tuple[str, ...]] = ("session", "browser", "link")

    is_new: bool = False
    session: str | None = None
    browser: str | None = None
    link: str | None = None


class Refusal(msgspec.Struct, frozen=True, tag=True):
    """A refusal as data, so that a repeated call with the same idempotency key is refused alike."""

    code: RefusalCode
    detail: str


class Tried(msgspec.Struct, frozen=True, tag=True):
    """What a test of a code found; never a sign-in. `steps` counts steps or presses, negative behind; `clock_offset_s`
    are the seconds that these are."""

    finding: Literal["fits", "fits_with_clock_off", "fits_with_other_parameters", "fits_nothing"]
    authenticator_id: str | None = None
    steps: int = 0
    parameters: str | None = None
    clock_offset_s: int | None = None


class Stale(msgspec.Struct, frozen=True, tag=True):
    """The work prepared outside the transaction belongs to another version of the credential: prepare again."""


class NeedsRecoveryCodes(msgspec.Struct, frozen=True, tag=True):
    """The code is right and recovery codes are to be made with it: prepare them and decide again."""


Outcome = (
    Verified
    | Rejected
    | Throttled
    | Pending
    | Asked
    | Confirmed
    | Renewed
    | Redeemed
    | Done
    | Refusal
    | Tried
    | Stale
    | NeedsRecoveryCodes
)

#: Endings after which the same call must be judged anew, even when it carries the same idempotency key.
UNDECIDED = (Throttled, Stale, NeedsRecoveryCodes)


class Message(msgspec.Struct, frozen=True):
    """An effect: something to tell a person or a machine, sent after the commit. Never carries a secret."""

    id: str
    kind: str
    payload: Mapping[str, str | int | bool | None]


class ContactIndex(msgspec.Struct, frozen=True):
    """An effect: the account is found by exactly these keyed digests of its addresses from now on."""

    entries: tuple[tuple[str, bytes], ...]


class OpenSession(msgspec.Struct, frozen=True):
    """An effect: a session of this account, found by the digest of its token.

    `replaces` is the digest of the token before, whose row goes; if there is none any more, because the session was
    ended in between, nothing is opened.
    """

    session: Session
    token_digest: bytes
    replaces: bytes | None = None


class EndSessions(msgspec.Struct, frozen=True):
    """An effect: the sessions of the account with these ids end, or all of them but one."""

    ids: tuple[str, ...] | None = None
    but: str | None = None


Effect = Message | ContactIndex | OpenSession | EndSessions


class Decision(msgspec.Struct, frozen=True):
    """The whole of what one attempt writes.

    `account` is the next document, `"unchanged"` (nothing is written) or `"deleted"` (a tombstone stays).
    `sealed_with` names the data keys that new ciphertexts use: the commit checks that they are still active.
    `answered` is for whoever counts: the factor that was asked for, or `any`, and how its answer ended, whatever the
    outcome of the rest. `strength` is that of the answer that was right in it, if one was.
    """

    outcome: Outcome
    account: Account | Literal["unchanged", "deleted"] = "unchanged"
    events: tuple[Event, ...] = ()
    effects: tuple[Effect, ...] = ()
    sealed_with: tuple[str, ...] = ()
    answered: tuple[str, Verified | Rejected | Throttled] | None = None
    strength: Strength = Strength()
