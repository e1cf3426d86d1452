"""The calls by which authenticators come, change and go."""

from __future__ import annotations

import asyncio

import msgspec

from twofold.core.decision import Confirmed, Rejected, Throttled
from twofold.credentials import OtpParameters
from twofold.errors import InvalidInput, Refused
from twofold.factors.otpauth import decode_secret
from twofold.server import wire
from twofold.server.calls import Reply, Request, Services, find_party
from twofold.server.problems import Problem, throttled
from twofold.verifier import PendingEnrollment


async def add_authenticator(services: Services, request: Request[wire.AuthenticatorBody]) -> Reply:
    """Begin an enrollment, or import an authenticator (scope admin)."""
    body = request.body
    if body.confirmed:
        return await _import_authenticator(services, request)
    for name in ("secret", "algorithm", "digits", "period", "counter"):
        if getattr(body, name) is not None:
            raise InvalidInput(name, 'nothing here: only an import ("confirmed": true) chooses it')
    if body.factor == "webauthn":
        return await _add_passkey(services, request)
    pending = await services.verifier.enroll(
        request.account_id,
        body.factor,
        label=body.label or "",
        replaces=body.replaces,
        step_up=body.step_up,
        caller=request.caller,
        may_add_account=False,
    )
    # Drawing takes milliseconds: in a thread, so that nobody's code waits for somebody's picture.
    secret = await asyncio.to_thread(_draw, pending)
    return 201, wire.EnrollmentAnswer(
        id=pending.id,
        factor=body.factor,
        state="pending",
        expires_at=wire.show_time(pending.expires_at),
        totp=secret if body.factor == "totp" else msgspec.UNSET,
        hotp=secret if body.factor == "hotp" else msgspec.UNSET,
    )


async def _add_passkey(services: Services, request: Request[wire.AuthenticatorBody]) -> Reply:
    body = request.body
    pending = await services.verifier.passkeys.enroll(
        request.account_id,
        find_party(services, request.application),
        label=body.label or "",
        replaces=body.replaces,
        step_up=body.step_up,
        caller=request.caller,
        may_add_account=False,
    )
    return 201, wire.EnrollmentAnswer(
        id=pending.id,
        factor="webauthn",
        state="pending",
        expires_at=wire.show_time(pending.expires_at),
        public_key=pending.public_key,
    )


async def _import_authenticator(services: Services, request: Request[wire.AuthenticatorBody]) -> Reply:
    body = request.body
    if not request.caller.is_admin:
        raise Refused("forbidden", "importing a secret needs the scope admin")
    if body.factor == "webauthn":
        raise InvalidInput("factor", "totp or hotp: the key of a passkey is made by a ceremony, not imported")
    if body.secret is None:
        raise InvalidInput("secret", "the secret in Base32")
    if body.replaces is not None:
        raise InvalidInput("replaces", "nothing here: an import adds an authenticator")
    for name, owner in (("period", "totp"), ("counter", "hotp")):
        if getattr(body, name) is not None and body.factor != owner:
            raise InvalidInput(name, f"nothing here: it belongs to {owner}")
    given = {"algorithm": body.algorithm, "digits": body.digits, "period_s": body.period, "counter": body.counter}
    otp = msgspec.convert(
        {"secret": decode_secret(body.secret), **{name: value for name, value in given.items() if value is not None}},
        OtpParameters,
    )
    confirmed = await services.verifier.accounts.import_authenticator(
        request.account_id, body.factor, otp, label=body.label or "", caller=request.caller
    )
    return 201, wire.EnrollmentAnswer(id=confirmed.id, factor=body.factor, state="active")


async def confirm_authenticator(services: Services, request: Request[wire.ConfirmBody]) -> Reply:
    """End an enrollment with its first code, or with the credential that the browser made."""
    body = request.body
    if body.code is not None and body.credential is None:
        outcome = await services.verifier.confirm(
            request.account_id, request.authenticator_id, code=body.code, step_up=body.step_up, caller=request.caller
        )
    elif body.credential is not None and body.code is None:
        outcome = await services.verifier.passkeys.confirm(
            request.account_id,
            request.authenticator_id,
            body.credential,
            find_party(services, request.application),
            step_up=body.step_up,
            caller=request.caller,
        )
    else:
        raise InvalidInput("code" if body.code is None else "credential", "either code or credential")
    match outcome:
        case Confirmed(id=authenticator_id, recovery_codes=codes):
            return 200, wire.ConfirmedAnswer(id=authenticator_id, recovery_codes=codes or msgspec.UNSET)
        case Rejected(reason=reason, retry_after_s=wait):
            detail = "this does not confirm the authenticator; it stays pending"
            raise Problem(422, reason, detail, retry_after_s=wait)
        case Throttled():
            raise throttled(outcome)


async def rename_authenticator(services: Services, request: Request[wire.LabelBody]) -> Reply:
    """Give an authenticator another label."""
    await services.verifier.rename(
        request.account_id, request.authenticator_id, request.body.label, caller=request.caller
    )
    account = wire.show_account(await services.verifier.accounts.get(request.account_id))
    for authenticator in account.authenticators:
        if authenticator.id == request.authenticator_id:
            return 200, authenticator
    raise Refused("not_found", "this account has no authenticator of that id")


async def delete_authenticator(services: Services, request: Request[None]) -> Reply:
    """Remove an authenticator, or cancel its enrollment."""
    await services.verifier.revoke(
        request.account_id, request.authenticator_id, step_up=request.step_up, caller=request.caller
    )
    return 204, None


async def renew_recovery_codes(services: Services, request: Request[wire.RecoveryCodesBody]) -> Reply:
    """Make ten new recovery codes; the old ones are dead."""
    renewed = await services.verifier.renew_recovery_codes(
        request.account_id, step_up=request.body.step_up, caller=request.caller
    )
    return 201, wire.RecoveryCodesAnswer(renewed.recovery_codes)


def _draw(pending: PendingEnrollment) -> wire.SecretAnswer:
    return wire.SecretAnswer(pending.secret, pending.uri, pending.qr_svg, pending.qr_png)
