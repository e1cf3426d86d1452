"""What the calls of a Twofold server give, as types to match on and to read; the endings are those of `twofold`.

Values that a newer server may add to (reasons, ways, factors, states) are plain text here, and members that are not
known are passed over: an application need not be updated before its server. Times are aware and in UTC.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar
from uuid import UUID

import msgspec

from twofold.core.discreet import Discreet

#: An object of JSON, as the browser's own is for passkeys.
Json = dict[str, Any]


class Verified(Discreet, frozen=True, kw_only=True):
    """The answer was right and is used up now.

    `browser` is opaque: keep it in an HttpOnly cookie and send it with the next answer; it skips nothing. `receipt` is
    there when a purpose or a binding was sent. `account_id`, with the answer to a challenge or a prompt only: whom it
    was asked for; compare it with whom you mean to let in. `is_user_verified`: a passkey made sure who its user is, so
    that this was two factors in one. `is_enrolled`, with a prompt: the authenticator was set up in it. `reenroll_by`:
    this authenticator stops then, and a new one has to be set up before.
    """

    hidden: ClassVar[tuple[str, ...]] = ("browser", "receipt")

    factor: str
    authenticator_id: str
    browser: str | None = None
    receipt: str | None = None
    recovery_codes_left: int | None = None
    is_user_verified: bool = msgspec.field(default=False, name="user_verified")
    account_id: str | None = None
    is_enrolled: bool = msgspec.field(default=False, name="enrolled")
    reenroll_by: datetime | None = None


class Rejected(msgspec.Struct, frozen=True):
    """The answer was judged and is not right. `retry_after_s`: when the next code comes, where that helps."""

    reason: str
    retry_after_s: int | None = msgspec.field(default=None, name="retry_after")
    clock_offset_s: int | None = None


class Throttled(msgspec.Struct, frozen=True):
    """The answer was not judged. `ways` are the ways in that stay open meanwhile."""

    retry_after_s: int
    ways: tuple[str, ...] = ()


class Passkey(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a passkey. `is_synced`: there is a copy of it besides this device. `is_attested`: somebody whom
    the operator trusts stands behind its `aaguid`, which is a claim of the browser otherwise."""

    is_synced: bool = msgspec.field(name="synced")
    transports: tuple[str, ...]
    aaguid: UUID
    is_attested: bool = msgspec.field(name="attested")


class Authenticator(msgspec.Struct, frozen=True, kw_only=True):
    """One enrolled thing. `state` is `pending`, `active`, `disabled` or `unavailable`; `passkey` is there for a
    confirmed one of the factor `webauthn`. `stops_at`: it counts only until then, after a reset."""

    id: str
    factor: str
    label: str
    state: str
    created_at: datetime
    last_used_at: datetime | None
    passkey: Passkey | None = msgspec.field(default=None, name="webauthn")
    stops_at: datetime | None = None


class Throttle(msgspec.Struct, frozen=True, kw_only=True):
    """How new browsers are throttled: `open`, `delayed` or `empty`."""

    state: str
    retry_after_s: int | None = msgspec.field(name="retry_after")


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """An account; never a secret. `state` is `empty`, `active`, `disabled` or `unavailable`. `epoch` is that of its
    receipts: under another one, whatever was in force before is void."""

    id: str
    display_name: str
    state: str
    authenticators: tuple[Authenticator, ...]
    recovery_codes_left: int
    throttle: Throttle
    epoch: str


class AccountPage(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts in order of id. `next_cursor` asks for the page after this one; None on the last."""

    accounts: tuple[Account, ...]
    next_cursor: str | None


class PendingEnrollment(Discreet, frozen=True, kw_only=True):
    """An enrollment to show to the person: `secret` in Base32, `uri` for the phone, and its QR code as an inline SVG
    element and as a `data:` URI. It waits for its first code until `expires_at`."""

    hidden: ClassVar[tuple[str, ...]] = ("secret", "uri", "qr_svg", "qr_png")

    id: str
    factor: str
    expires_at: datetime
    secret: str
    uri: str
    qr_svg: str
    qr_png: str


class PendingPasskey(msgspec.Struct, frozen=True, kw_only=True):
    """A registration that is open. `public_key` is the browser's PublicKeyCredentialCreationOptionsJSON."""

    id: str
    expires_at: datetime
    public_key: Json


class Challenge(msgspec.Struct, frozen=True, kw_only=True):
    """An open question. `id` comes back with the answer; `public_key` is PublicKeyCredentialRequestOptionsJSON."""

    id: str
    expires_at: datetime
    public_key: Json


class HostedPrompt(Discreet, frozen=True, kw_only=True):
    """A prompt on Twofold's own pages. Send the person's browser to `url` before `expires_at`, and keep `code_verifier`
    in its session: only with it the code counts that the browser brings back."""

    hidden: ClassVar[tuple[str, ...]] = ("url", "code_verifier")

    url: str
    expires_at: datetime
    code_verifier: str


class Confirmed(Discreet, frozen=True, kw_only=True):
    """The authenticator is active. `recovery_codes` only with the first one, and only this once."""

    hidden: ClassVar[tuple[str, ...]] = ("recovery_codes",)

    id: str
    recovery_codes: tuple[str, ...] = ()


class Renewed(Discreet, frozen=True, kw_only=True):
    """New recovery codes, shown only this once; the old ones are dead."""

    hidden: ClassVar[tuple[str, ...]] = ("recovery_codes",)

    recovery_codes: tuple[str, ...]


class Redeemed(msgspec.Struct, frozen=True, kw_only=True):
    """What the receipt stated; it is used up now. `amr` as in RFC 8176, `acr` an assurance level of NIST."""

    account_id: str
    amr: tuple[str, ...]
    acr: str
    auth_time: datetime
    purpose: str | None
    binding: str | None
