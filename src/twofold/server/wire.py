"""The bodies and answers of the API as types: they decode, validate and describe themselves for OpenAPI.

Members that may be left out are None in a body and absent in an answer. What a value means is judged by the engine.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from msgspec import UNSET, Meta, Struct, UnsetType

from twofold.core.account import FIRST_FACTOR, RECOVERY
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Reason, Redeemed, Rejected, Verified
from twofold.core.management import AccountEvent
from twofold.directory import AccountView, AuthenticatorView
from twofold.factors.webauthn_json import UserVerification
from twofold.server.browser_json import AuthenticationJson, CreationOptionsJson, RegistrationJson, RequestOptionsJson

EnrolledFactor = Literal["totp", "hotp", "webauthn"]
AnsweringFactor = Literal["totp", "hotp", "yubico_otp", "recovery_codes"]
ChallengedFactor = Literal["webauthn"]
Time = Annotated[datetime, Meta(tz=True)]

StepUp = Annotated[
    str | None,
    Meta(description='A receipt made with purpose "manage"; needed where the account has an active authenticator.'),
]


class Body(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The root of everything that is sent to the API."""


class AccountBody(Body, frozen=True):
    """What may be said of a person; what is left out stays as it is."""

    display_name: str | None = None
    email: str | None = None
    phone: Annotated[str | None, Meta(description="International, such as +4915112345678.")] = None
    groups: list[str] | None = None


class EventBody(Body, frozen=True):
    """Something that happened to the account elsewhere."""

    type: AccountEvent


class AuthenticatorBody(Body, frozen=True):
    """An enrollment to begin or, with `secret` and `"confirmed": true` (scope admin), an authenticator to import."""

    factor: EnrolledFactor
    label: str | None = None
    replaces: Annotated[
        str | None, Meta(description="An authenticator that stays valid until this one is confirmed.")
    ] = None
    step_up: StepUp = None
    confirmed: bool = False
    secret: Annotated[str | None, Meta(description="Base32.")] = None
    algorithm: Literal["SHA1", "SHA256", "SHA512"] | None = None
    digits: int | None = None
    period: Annotated[int | None, Meta(description="Seconds; TOTP only.")] = None
    counter: Annotated[int | None, Meta(description="The next counter; HOTP only.")] = None


class ConfirmBody(Body, frozen=True):
    """The first `code` of a pending authenticator, or the `credential` that the browser made for it."""

    code: str | None = None
    credential: RegistrationJson | None = None
    step_up: StepUp = None


class LabelBody(Body, frozen=True):
    """Another label."""

    label: str


class RecoveryCodesBody(Body, frozen=True):
    """A step-up, where the account has an active authenticator."""

    step_up: StepUp = None


class ContextBody(Body, frozen=True):
    """What the application knows of the person's side. `browser` is the value of this browser's last success."""

    ip: str | None = None
    user_agent: str | None = None
    browser: str | None = None


class VerifyBody(Body, frozen=True):
    """One answer: either `code`, or `codes` (three consecutive ones; two to find a HOTP token again)."""

    code: str | None = None
    codes: Annotated[list[str], Meta(min_length=2, max_length=3)] | None = None
    factor: AnsweringFactor | None = None
    authenticator_id: str | None = None
    purpose: str | None = None
    binding: str | None = None
    context: ContextBody = ContextBody()


class ChallengeBody(Body, frozen=True):
    """A question that is about to be put to somebody. `detail` is for factors that can show it; a passkey cannot."""

    factor: ChallengedFactor
    purpose: str | None = None
    binding: str | None = None
    detail: str | None = None
    user_verification: UserVerification = "preferred"
    context: ContextBody = ContextBody()


class ChallengeAnswerBody(Body, frozen=True):
    """The answer to a challenge, by its id, with the binding that it was made for."""

    challenge: str
    credential: AuthenticationJson
    binding: str | None = None
    context: ContextBody = ContextBody()


class RedeemBody(Body, frozen=True):
    """A receipt with the purpose and the binding that it must have been made for."""

    receipt: str
    purpose: str | None = None
    binding: str | None = None


class PromptBody(Body, frozen=True):
    """A person to be asked on Twofold's own pages, by her browser. `return_to` is exactly one of the addresses that the
    application was registered with; `code_challenge` (RFC 7636) and `binding` belong to one session of that browser."""

    account: str
    return_to: str
    binding: str
    code_challenge: Annotated[str, Meta(description="base64url(SHA-256(code_verifier)), without padding.")]
    code_challenge_method: Literal["S256"] = "S256"
    state: Annotated[str | None, Meta(description="Comes back with the answer as it is.")] = None
    purpose: str | None = None
    enroll: Annotated[
        bool, Meta(description="Whoever has no second factor may set one up (needs the scope enroll, too).")
    ] = False


class RedeemPromptBody(Body, frozen=True):
    """The code with which somebody came back from a prompt, with what only this application and that browser's session
    have."""

    code: str
    code_verifier: str
    binding: str


class PasskeyAnswer(Struct, frozen=True):
    """What is known of a passkey. `synced`: there is a copy of it besides this device. `attested`: somebody whom the
    operator trusts stands behind its `aaguid`, which is a claim of the browser otherwise."""

    synced: bool
    transports: tuple[str, ...]
    aaguid: UUID
    attested: bool


class AuthenticatorAnswer(Struct, frozen=True):
    """An authenticator; never a secret. `webauthn` is there for a confirmed one of that factor. `stops_at` is there for
    one that counts only until then, after a reset: have a new one set up before."""

    id: str
    factor: str
    label: str
    state: str
    created_at: Time
    last_used_at: Time | None
    webauthn: PasskeyAnswer | UnsetType = UNSET
    stops_at: Time | UnsetType = UNSET


class ThrottleAnswer(Struct, frozen=True):
    """How new browsers are throttled: `open`, `delayed` or `empty`."""

    state: str
    retry_after: int | None


class AccountAnswer(Struct, frozen=True):
    """An account; never a secret. `state` is `empty`, `active`, `disabled` or `unavailable`. `epoch` is that of its
    receipts: when it is another one, whatever was in force before is void."""

    id: str
    display_name: str
    state: str
    authenticators: list[AuthenticatorAnswer]
    recovery_codes_left: int
    throttle: ThrottleAnswer
    epoch: str


class AccountPageAnswer(Struct, frozen=True):
    """A page of accounts in order of id; `next_cursor` is null on the last one."""

    accounts: list[AccountAnswer]
    next_cursor: str | None


class SecretAnswer(Struct, frozen=True):
    """What the person's app needs: `secret` in Base32 without padding, `qr_png` a `data:` URI."""

    secret: str
    uri: str
    qr_svg: str
    qr_png: str


class EnrollmentAnswer(Struct, frozen=True, kw_only=True):
    """A pending authenticator, with what is shown to the person under the name of its factor; or an imported one."""

    id: str
    factor: EnrolledFactor
    state: Literal["pending", "active"]
    expires_at: Time | UnsetType = UNSET
    totp: SecretAnswer | UnsetType = UNSET
    hotp: SecretAnswer | UnsetType = UNSET
    public_key: CreationOptionsJson | UnsetType = UNSET


class ConfirmedAnswer(Struct, frozen=True, kw_only=True):
    """The authenticator is active. Recovery codes come with the first one, and are shown this once."""

    id: str
    state: Literal["active"] = "active"
    recovery_codes: tuple[str, ...] | UnsetType = UNSET


class RecoveryCodesAnswer(Struct, frozen=True):
    """Ten new recovery codes, shown this once."""

    recovery_codes: tuple[str, ...]


class Prompt(Struct, frozen=True):
    """What the application puts to the person, under the name of who takes it: `public_key` is for the browser."""

    public_key: RequestOptionsJson


class ChallengeAnswer(Struct, frozen=True):
    """An open question, good for one right answer until it expires; `id` comes back with the answer."""

    id: str
    expires_at: Time
    prompt: Prompt


class PromptAnswer(Struct, frozen=True):
    """Send the person's browser to `url`, before `expires_at`. The first browser that opens it gets the prompt."""

    url: str
    expires_at: Time


class VerifiedAnswer(Struct, frozen=True, kw_only=True):
    """The answer was right. `receipt` is null unless a purpose or a binding was sent. `user_verified`, with a passkey
    only: it made sure by finger, face or PIN who its user is, and was two factors in one. `account_id`, with the answer
    to a challenge or a prompt only: whom it was asked for. Compare it with whom you mean to let in. `enrolled`, with a
    prompt only: whether the authenticator was set up in it. `reenroll_by`, after a reset: this authenticator stops
    then; lead the person to enroll a new one."""

    verified: Annotated[bool, Meta(extra_json_schema={"const": True})]
    factor: str
    authenticator_id: str
    receipt: str | None
    browser: str | None
    recovery_codes_left: int | UnsetType = UNSET
    user_verified: bool | UnsetType = UNSET
    account_id: str | UnsetType = UNSET
    enrolled: bool | UnsetType = UNSET
    reenroll_by: Time | UnsetType = UNSET


class RejectedAnswer(Struct, frozen=True, kw_only=True):
    """The answer was judged and is not right."""

    verified: Annotated[bool, Meta(extra_json_schema={"const": False})]
    reason: Reason
    retry_after: int | UnsetType = UNSET
    clock_offset_s: int | UnsetType = UNSET


class RedeemedAnswer(Struct, frozen=True, kw_only=True):
    """What the receipt stated; it is used up now."""

    account_id: str
    amr: tuple[str, ...]
    acr: str
    auth_time: Time
    purpose: str | None
    binding: str | None


def show_account(view: AccountView) -> AccountAnswer:
    """The account as the API shows it: a password is no second factor, and recovery codes are a number."""
    shown = [_show_authenticator(a) for a in view.authenticators if a.factor not in (FIRST_FACTOR, RECOVERY)]
    throttle = ThrottleAnswer(view.throttle, view.retry_after_s)
    return AccountAnswer(view.id, view.display_name, view.state, shown, view.recovery_codes_left, throttle, view.epoch)


def show_outcome(outcome: Verified | Rejected) -> VerifiedAnswer | RejectedAnswer:
    """How an answer was judged."""
    if isinstance(outcome, Verified):
        return VerifiedAnswer(
            verified=True,
            factor=outcome.factor,
            authenticator_id=outcome.authenticator_id,
            receipt=outcome.receipt,
            browser=outcome.browser,
            recovery_codes_left=_given(outcome.recovery_codes_left),
            user_verified=outcome.is_user_verified if outcome.factor == "webauthn" else UNSET,
            reenroll_by=show_time(outcome.reenroll_by) if outcome.reenroll_by else UNSET,
        )
    return RejectedAnswer(
        verified=False,
        reason=outcome.reason,
        retry_after=_given(outcome.retry_after_s),
        clock_offset_s=_given(outcome.clock_offset_s),
    )


def show_redeemed(outcome: Redeemed) -> RedeemedAnswer:
    """What the receipt stated."""
    claims = outcome.claims
    return RedeemedAnswer(
        account_id=claims.sub,
        amr=claims.amr,
        acr=claims.acr,
        auth_time=show_time(claims.auth_time * MICROS_PER_S),
        purpose=claims.purpose,
        binding=claims.bnd,
    )


def show_time(micros: int) -> datetime:
    """Microseconds as a time in UTC; encoded as RFC 3339."""
    seconds, rest = divmod(micros, MICROS_PER_S)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)


def show_time_or_never(micros: int) -> datetime | None:
    """As `show_time`; 0 is never."""
    return show_time(micros) if micros else None


def _show_authenticator(view: AuthenticatorView) -> AuthenticatorAnswer:
    passkey = view.passkey
    return AuthenticatorAnswer(
        view.id,
        view.factor,
        view.label,
        view.state,
        show_time(view.created_at),
        show_time_or_never(view.last_used_at),
        UNSET
        if passkey is None
        else PasskeyAnswer(passkey.is_backed_up, passkey.transports, UUID(bytes=passkey.aaguid), passkey.is_attested),
        show_time(view.stops_at) if view.stops_at else UNSET,
    )


def _given(value: int | None) -> int | UnsetType:
    return UNSET if value is None else value
