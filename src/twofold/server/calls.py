"""The calls of the API, one function each: from a request that was read and allowed to a status and an answer.

Who may call what, under which path, is the table's (`api.py`); what is decided, the verifier's.
"""

from __future__ import annotations

import asyncio
import base64
import ipaddress
from collections.abc import Mapping
from typing import Generic, TypeVar

import msgspec

from twofold.core.attempt import Context
from twofold.core.decision import Confirmed, Rejected, Throttled, Verified
from twofold.credentials import OtpParameters
from twofold.directory import ProfileInput
from twofold.engine import Caller
from twofold.errors import InvalidInput, Refused
from twofold.factors.otpauth import decode_secret
from twofold.ports import AccountPages
from twofold.server import wire
from twofold.server.metrics import Metrics
from twofold.server.problems import Problem, throttled
from twofold.verifier import PendingEnrollment, Verifier

PAGE_ACCOUNTS = 100
ADDRESS_MAX = 64
LISTED_STATES = ("empty", "active", "disabled", "unavailable")
LISTED_FACTORS = ("totp", "hotp", "recovery_codes")

B = TypeVar("B")


class Services(msgspec.Struct, frozen=True):
    """What the calls work with."""

    verifier: Verifier
    pages: AccountPages
    metrics: Metrics


class Request(msgspec.Struct, Generic[B], frozen=True):
    """A call that was read and allowed. `account_id` and `authenticator_id` are of the path, "" where it has none."""

    caller: Caller
    account_id: str
    authenticator_id: str
    body: B
    query: Mapping[str, str]
    step_up: str | None


Reply = tuple[int, object | None]


async def put_account(services: Services, request: Request[wire.AccountBody]) -> Reply:
    """Create an account, or change what is sent of it."""
    body = request.body
    groups = None if body.groups is None else tuple(body.groups)
    profile = ProfileInput(body.display_name, body.email, body.phone, groups)
    is_new = await services.verifier.accounts.put(request.account_id, profile, caller=request.caller)
    account = await services.verifier.accounts.get(request.account_id)
    return 201 if is_new else 200, wire.show_account(account)


async def get_account(services: Services, request: Request[None]) -> Reply:
    """An account and its authenticators; never a secret."""
    return 200, wire.show_account(await services.verifier.accounts.get(request.account_id))


async def list_accounts(services: Services, request: Request[None]) -> Reply:
    """A page of the accounts in order of id."""
    query = request.query
    for name, known in (("factor", LISTED_FACTORS), ("state", LISTED_STATES)):
        if name in query and query[name] not in known:
            raise InvalidInput(name, f"one of {', '.join(known)}")
    rows = await services.pages.page_accounts(
        after=_read_cursor(query.get("cursor")),
        limit=PAGE_ACCOUNTS + 1,
        factor=query.get("factor"),
        # No row says of itself that it cannot be opened: those are found by looking.
        state=None if query.get("state") == "unavailable" else query.get("state"),
    )
    shown = []
    for row in rows[:PAGE_ACCOUNTS]:
        try:
            account = await services.verifier.accounts.get(row.account_id)
        except Refused:
            continue  # deleted since the page was read
        if query.get("state") in (None, account.state):
            shown.append(wire.show_account(account))
    cursor = _write_cursor(rows[PAGE_ACCOUNTS - 1].account_id) if len(rows) > PAGE_ACCOUNTS else None
    return 200, wire.AccountPageAnswer(shown, cursor)


async def delete_account(services: Services, request: Request[None]) -> Reply:
    """Delete an account and all its rows."""
    await services.verifier.accounts.delete(request.account_id, caller=request.caller)
    return 204, None


async def record_event(services: Services, request: Request[wire.EventBody]) -> Reply:
    """Tell what happened to the account elsewhere: everything in force before is void."""
    await services.verifier.accounts.record_event(request.account_id, request.body.type, caller=request.caller)
    return 204, None


async def add_authenticator(services: Services, request: Request[wire.AuthenticatorBody]) -> Reply:
    """Begin an enrollment, or import an authenticator (scope admin)."""
    body = request.body
    if body.confirmed:
        return await _import_authenticator(services, request)
    for name in ("secret", "algorithm", "digits", "period", "counter"):
        if getattr(body, name) is not None:
            raise InvalidInput(name, 'nothing here: only an import ("confirmed": true) chooses it')
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


async def _import_authenticator(services: Services, request: Request[wire.AuthenticatorBody]) -> Reply:
    body = request.body
    if not request.caller.is_admin:
        raise Refused("forbidden", "importing a secret needs the scope admin")
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
    services.metrics.enrollments += 1
    return 201, wire.EnrollmentAnswer(id=confirmed.id, factor=body.factor, state="active")


async def confirm_authenticator(services: Services, request: Request[wire.ConfirmBody]) -> Reply:
    """End an enrollment with its first code."""
    outcome = await services.verifier.confirm(
        request.account_id,
        request.authenticator_id,
        code=request.body.code,
        step_up=request.body.step_up,
        caller=request.caller,
    )
    match outcome:
        case Confirmed(id=authenticator_id, recovery_codes=codes):
            services.metrics.enrollments += 1
            return 200, wire.ConfirmedAnswer(id=authenticator_id, recovery_codes=codes or msgspec.UNSET)
        case Rejected(reason=reason, retry_after_s=wait):
            detail = "this code does not confirm the authenticator; it stays pending"
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


async def verify(services: Services, request: Request[wire.VerifyBody]) -> Reply:
    """Judge one answer."""
    body, metrics = request.body, services.metrics
    context = body.context
    if context.ip is not None:
        _check_address(context.ip)
    outcome = await services.verifier.verify(
        request.account_id,
        code=body.code,
        codes=body.codes,
        factor=body.factor,
        authenticator_id=body.authenticator_id,
        purpose=body.purpose,
        binding=body.binding,
        caller=msgspec.structs.replace(
            request.caller, context=Context(context.ip, context.user_agent, context.browser)
        ),
    )
    match outcome:
        case Verified(factor=factor):
            metrics.count_verification(factor, "verified")
            metrics.recoveries += factor == "recovery_codes"
        case Rejected(reason=reason):
            metrics.count_verification(body.factor or "any", reason)
        case Throttled():
            metrics.count_verification(body.factor or "any", "throttled")
            raise throttled(outcome)
    return 200, wire.show_outcome(outcome)


async def redeem_receipt(services: Services, request: Request[wire.RedeemBody]) -> Reply:
    """Use a receipt up, once."""
    body = request.body
    redeemed = await services.verifier.redeem(
        body.receipt, purpose=body.purpose, binding=body.binding, caller=request.caller
    )
    return 200, wire.show_redeemed(redeemed)


def _draw(pending: PendingEnrollment) -> wire.SecretAnswer:
    return wire.SecretAnswer(pending.secret, pending.uri, pending.qr_svg, pending.qr_png)


def _check_address(address: str) -> None:
    try:
        # Short: an IPv6 address with a zone may be as long as somebody likes, and it goes into the audit log.
        ipaddress.ip_address(address[: ADDRESS_MAX + 1])
    except ValueError:
        raise InvalidInput("context.ip", "an IPv4 or IPv6 address") from None
    if len(address) > ADDRESS_MAX:
        raise InvalidInput("context.ip", f"an address of at most {ADDRESS_MAX} characters")


def _write_cursor(account_id: str) -> str:
    return base64.urlsafe_b64encode(account_id.encode()).rstrip(b"=").decode()


def _read_cursor(cursor: str | None) -> str:
    text = cursor or ""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidInput("cursor", "the next_cursor of the page before") from None
