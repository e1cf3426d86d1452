"""Every call of the API, written once for both faces: what is sent, and what the answer to it is read as.

The names are those of the verifier inside a process (`BlockingVerifier`), so that an application may go from one to the
other. What each call means, and what it may answer: `docs/api.md`.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from twofold.client.call import Answer, Call, body_of, described, path_of
from twofold.client.reading import (
    read_as,
    read_challenge,
    read_confirmed,
    read_enrollment,
    read_nothing,
    read_prompt,
    read_text,
    read_verdict,
)
from twofold.client.results import (
    Account,
    AccountPage,
    Authenticator,
    Challenge,
    Confirmed,
    HostedPrompt,
    Json,
    PendingEnrollment,
    PendingPasskey,
    Redeemed,
    Rejected,
    Renewed,
    Throttled,
    Verified,
)
from twofold.errors import InvalidInput

T = TypeVar("T")

API = "/api/v1"
ACCOUNT = f"{API}/accounts/{{id}}"
AUTHENTICATOR = f"{ACCOUNT}/authenticators/{{aid}}"

Event = Literal["password_changed", "signed_out_everywhere", "compromised", "disabled", "enabled"]
UserVerification = Literal["required", "preferred", "discouraged"]


class Calls:
    """The calls of the API as methods. Each raises `ApiError` or `NoAnswer` where it gives nothing."""

    @described
    def verify(
        self,
        account_id: str,
        *,
        code: str | None = None,
        codes: Sequence[str] | None = None,
        factor: str | None = None,
        authenticator_id: str | None = None,
        purpose: str | None = None,
        binding: str | None = None,
        browser: str | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
    ) -> Call[Verified | Rejected | Throttled]:
        """Judge one answer: `code`, or `codes` (three consecutive ones; two find a HOTP token again). `purpose` or
        `binding` ask for a receipt; `browser`, `ip` and `user_agent` are the person's."""
        body = {
            "code": code,
            "codes": codes,
            "factor": factor,
            "authenticator_id": authenticator_id,
            "purpose": purpose,
            "binding": binding,
            "context": _context(browser, ip, user_agent),
        }
        return _post(path_of(f"{ACCOUNT}/verify", id=account_id), body, read_verdict)

    @described
    def enroll(
        self,
        account_id: str,
        factor: Literal["totp", "hotp"] = "totp",
        *,
        label: str | None = None,
        replaces: str | None = None,
        step_up: str | None = None,
    ) -> Call[PendingEnrollment]:
        """Begin an enrollment. `replaces`: an authenticator that stays valid until this one is confirmed. `step_up`: a
        receipt made with the purpose "manage", needed where the account has an active authenticator."""
        body = {"factor": factor, "label": label, "replaces": replaces, "step_up": step_up}
        return _post(path_of(f"{ACCOUNT}/authenticators", id=account_id), body, read_enrollment)

    @described
    def enroll_passkey(
        self, account_id: str, *, label: str | None = None, replaces: str | None = None, step_up: str | None = None
    ) -> Call[PendingPasskey]:
        """Begin the registration of a passkey or security key; otherwise as `enroll`."""
        body = {"factor": "webauthn", "label": label, "replaces": replaces, "step_up": step_up}
        return _post(path_of(f"{ACCOUNT}/authenticators", id=account_id), body, read_as(PendingPasskey))

    @described
    def import_authenticator(
        self,
        account_id: str,
        factor: Literal["totp", "hotp"],
        secret: str,
        *,
        label: str | None = None,
        algorithm: Literal["SHA1", "SHA256", "SHA512"] | None = None,
        digits: int | None = None,
        period: int | None = None,
        counter: int | None = None,
    ) -> Call[Confirmed]:
        """Add an authenticator whose secret (Base32) the person already has. `period` in seconds is of TOTP, `counter`,
        the next one, of HOTP. Needs the scope admin."""
        body = {
            "factor": factor,
            "secret": secret,
            "confirmed": True,
            "label": label,
            "algorithm": algorithm,
            "digits": digits,
            "period": period,
            "counter": counter,
        }
        return _post(path_of(f"{ACCOUNT}/authenticators", id=account_id), body, read_as(Confirmed))

    @described
    def confirm(
        self,
        account_id: str,
        authenticator_id: str,
        *,
        code: str | None = None,
        credential: str | Mapping[str, Any] | None = None,
        step_up: str | None = None,
    ) -> Call[Confirmed | Rejected | Throttled]:
        """End an enrollment with its first `code`, or with the `credential` that the browser made: its JSON, as text or
        decoded."""
        body = {"code": code, "credential": _decoded(credential), "step_up": step_up}
        return _post(path_of(f"{AUTHENTICATOR}/confirm", id=account_id, aid=authenticator_id), body, read_confirmed)

    @described
    def challenge(
        self,
        account_id: str,
        *,
        factor: Literal["webauthn"] = "webauthn",
        purpose: str | None = None,
        binding: str | None = None,
        detail: str | None = None,
        user_verification: UserVerification | None = None,
        browser: str | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
    ) -> Call[Challenge]:
        """Ask for one of the account's passkeys."""
        body = {
            "factor": factor,
            "purpose": purpose,
            "binding": binding,
            "detail": detail,
            "user_verification": user_verification,
            "context": _context(browser, ip, user_agent),
        }
        # Without a key: so opening one writes nothing, and a second one is only one that nobody answers.
        return _post(path_of(f"{ACCOUNT}/challenges", id=account_id), body, read_challenge, takes_key=False)

    @described
    def answer(
        self,
        challenge: str,
        credential: str | Mapping[str, Any],
        *,
        binding: str | None = None,
        browser: str | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
    ) -> Call[Verified | Rejected | Throttled]:
        """Judge the answer to a challenge, by its id, with the binding that it was made for."""
        body = {
            "challenge": challenge,
            "credential": _decoded(credential),
            "binding": binding,
            "context": _context(browser, ip, user_agent),
        }
        return _post(f"{API}/challenges/answer", body, read_verdict)

    @described
    def open_prompt(
        self,
        account_id: str,
        *,
        return_to: str,
        binding: str,
        state: str | None = None,
        purpose: str | None = None,
        enroll: bool | None = None,
    ) -> Call[HostedPrompt]:
        """Ask on Twofold's own pages: a link for the person's browser, which comes back to `return_to` with a code.
        `enroll`: whoever has no second factor may set one up there (needs the scope enroll, too)."""
        code_verifier = secrets.token_urlsafe(32)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(code_verifier.encode()).digest()).rstrip(b"=").decode()
        body = {
            "account": account_id,
            "return_to": return_to,
            "binding": binding,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "state": state,
            "purpose": purpose,
            "enroll": enroll,
        }
        # Without a key, as for a challenge: whoever knows a password may have many links made.
        return _post(f"{API}/prompts", body, read_prompt(code_verifier), takes_key=False)

    @described
    def redeem_prompt(self, code: str, *, code_verifier: str, binding: str) -> Call[Verified]:
        """Use the code of a prompt up, once, for what was shown in it."""
        body = {"code": code, "code_verifier": code_verifier, "binding": binding}
        return _post(f"{API}/prompts/redeem", body, read_as(Verified))

    @described
    def redeem(self, receipt: str, *, purpose: str | None = None, binding: str | None = None) -> Call[Redeemed]:
        """Use a receipt up, once, with the purpose and the binding that it was made for."""
        body = {"receipt": receipt, "purpose": purpose, "binding": binding}
        return _post(f"{API}/receipts/redeem", body, read_as(Redeemed))

    @described
    def renew_recovery_codes(self, account_id: str, *, step_up: str | None = None) -> Call[Renewed]:
        """Make ten new recovery codes; the old ones are dead."""
        return _post(path_of(f"{ACCOUNT}/recovery-codes", id=account_id), {"step_up": step_up}, read_as(Renewed))

    @described
    def rename(self, account_id: str, authenticator_id: str, label: str) -> Call[Authenticator]:
        """Give an authenticator another label."""
        path = path_of(AUTHENTICATOR, id=account_id, aid=authenticator_id)
        return Call(method="PATCH", path=path, body=body_of({"label": label}), read=read_as(Authenticator))

    @described
    def revoke(self, account_id: str, authenticator_id: str, *, step_up: str | None = None) -> Call[None]:
        """Remove an authenticator, or cancel its enrollment. Not repeated by itself: the receipt is used up."""
        headers = {} if step_up is None else {"Twofold-Step-Up": step_up}
        path = path_of(AUTHENTICATOR, id=account_id, aid=authenticator_id)
        return Call(method="DELETE", path=path, headers=headers, read=read_nothing, is_repeatable=False)

    @described
    def put_account(
        self,
        account_id: str,
        *,
        display_name: str | None = None,
        email: str | None = None,
        phone: str | None = None,
        groups: Sequence[str] | None = None,
    ) -> Call[Account]:
        """Create an account, or change what is passed of it."""
        body = {"display_name": display_name, "email": email, "phone": phone, "groups": groups}
        return Call(method="PUT", path=path_of(ACCOUNT, id=account_id), body=body_of(body), read=read_as(Account))

    @described
    def account(self, account_id: str) -> Call[Account]:
        """An account and its authenticators; never a secret."""
        return Call(method="GET", path=path_of(ACCOUNT, id=account_id), read=read_as(Account))

    @described
    def accounts(
        self, *, cursor: str | None = None, factor: str | None = None, state: str | None = None
    ) -> Call[AccountPage]:
        """A page of the accounts in order of id; `cursor` is the `next_cursor` of the page before. Scope admin."""
        given = {"cursor": cursor, "factor": factor, "state": state}
        query = {name: value for name, value in given.items() if value is not None}
        return Call(method="GET", path=f"{API}/accounts", query=query, read=read_as(AccountPage))

    @described
    def record_event(self, account_id: str, event: Event) -> Call[None]:
        """Tell what happened to the account elsewhere: everything in force before is void."""
        return _post(path_of(f"{ACCOUNT}/events", id=account_id), {"type": event}, read_nothing)

    @described
    def delete_account(self, account_id: str) -> Call[None]:
        """Delete an account and all its rows. Scope admin."""
        return Call(method="DELETE", path=path_of(ACCOUNT, id=account_id), read=read_nothing, is_repeatable=False)

    @described
    def alive(self) -> Call[None]:
        """Whether the process answers; raises where it does not."""
        return Call(method="GET", path="/health/live", read=read_nothing)

    @described
    def ready(self) -> Call[None]:
        """Whether the store and the keys can be used; raises `ApiError` with the reason where they cannot."""
        return Call(method="GET", path="/health/ready", read=read_nothing, is_repeatable=False)

    @described
    def receipt_keys(self) -> Call[Json]:
        """The public keys of receipts, as a JWK set."""
        return Call(method="GET", path="/.well-known/jwks.json", read=read_as(Json))

    @described
    def related_origins(self) -> Call[Json]:
        """What browsers are told of origins beyond the server's own domain."""
        return Call(method="GET", path="/.well-known/webauthn", read=read_as(Json))

    @described
    def metrics(self) -> Call[str]:
        """What the server counts, in the text format of Prometheus."""
        return Call(method="GET", path="/metrics", read=read_text)

    @described
    def openapi(self) -> Call[Json]:
        """The description of the API of this server."""
        return Call(method="GET", path=f"{API}/openapi.json", read=read_as(Json))


def _post(path: str, members: Mapping[str, object], read: Callable[[Answer], T], *, takes_key: bool = True) -> Call[T]:
    return Call(method="POST", path=path, body=body_of(members), read=read, takes_key=takes_key)


def _context(browser: str | None, ip: str | None, user_agent: str | None) -> Json | None:
    given = {"browser": browser, "ip": ip, "user_agent": user_agent}
    return {name: value for name, value in given.items() if value is not None} or None


def _decoded(credential: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """The browser's JSON as an object: as text it might bring members of its own into the body."""
    if not isinstance(credential, str):
        return credential
    try:
        return msgspec.json.decode(credential, type=Json)
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise InvalidInput("credential", "the browser's credential as JSON") from None
