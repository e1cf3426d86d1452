"""What a verdict on an answer writes: the next account, the events, the notices; right, used before, or wrong.

`twofold.core.verification` comes to the verdict; nothing here judges.
"""

from __future__ import annotations

import msgspec

from twofold.core import throttle
from twofold.core.account import (
    FIRST_FACTOR,
    Account,
    Authenticator,
    AuthenticatorState,
    KnownBrowser,
    charge_known_browser,
    epoch_claim,
    remember_browser,
    with_authenticator,
)
from twofold.core.attempt import Call
from twofold.core.audit import Event, EventKind
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Decision, Effect, Reason, ReceiptClaims, Rejected, Verified
from twofold.core.entropy import derive_token
from twofold.core.factor import Answer, Factors, Finding, Right, Used, Wrong
from twofold.core.session import Strength
from twofold.core.throttle import Lane
from twofold.core.ticket import spend_ticket
from twofold.core.user_agent import describe_browser
from twofold.errors import InvalidInput

RECEIPT_TTL_S = 120
MANAGE_TTL_S = 300
MANAGE = "manage"
PURPOSE_MAX = 128
ALERT_FAILURES = 5
QUIET_S = 60


class Question(msgspec.Struct, frozen=True):
    """What is asked of `verify_answer`. `factor` and `authenticator_id` narrow who may judge the answer; `purpose` or
    `binding` ask for a receipt; `is_strict` takes no three-code answers; `ceremony` is what the ticket of an answer
    that has one must have been issued for; `needs_passkey` takes nothing but a passkey that verifies its user."""

    answer: Answer
    factor: str | None = None
    authenticator_id: str | None = None
    purpose: str | None = None
    binding: str | None = None
    is_strict: bool = False
    ceremony: str = ""
    needs_passkey: bool = False


def check_purpose(purpose: str | None, binding: str | None) -> None:
    """Raises `InvalidInput` for what a receipt cannot be made for."""
    for name, value in (("purpose", purpose), ("binding", binding)):
        if value is not None and not (0 < len(value) <= PURPOSE_MAX and value.isprintable()):
            raise InvalidInput(name, f"1 to {PURPOSE_MAX} printable characters")


class Case(msgspec.Struct, frozen=True):
    """One answer on its way to a verdict.

    `browser` is the known one that sent it; `cost` is drawn on `lane`, which is the browser's own if `in_own_lane`,
    else that of all new browsers.
    """

    account: Account
    question: Question
    call: Call
    factors: Factors
    tried: list[Authenticator]
    cost: int
    browser: KnownBrowser | None
    in_own_lane: bool
    lane: Lane


def accept(case: Case, right: list[tuple[Authenticator, Right]]) -> Decision:
    """Right: the answer and its ticket are used up, and the browser is known from now on."""
    call, account, issued = case.call, case.account, case.question.answer.issued
    if issued is not None:
        account = spend_ticket(issued, account)
    # The same code may be right for several authenticators of equal seed: it is used up in all of them.
    for authenticator, finding in right:
        renewed = msgspec.structs.replace(
            authenticator,
            credential=finding.credential,
            credential_version=authenticator.credential_version + 1,
            last_used_at=call.now,
            failures=0,
        )
        account = with_authenticator(account, renewed)
    authenticator, finding = right[0]
    browser = None
    if authenticator.factor != FIRST_FACTOR:
        if not case.in_own_lane:
            account = msgspec.structs.replace(account, lane=throttle.end_delay(case.lane))
        name = describe_browser(call.context.user_agent)
        account, browser = remember_browser(account, case.browser, call.seed, call.now, name=name)
    # Of what Twofold saw; what an application saw before it is the application's to add.
    strength = Strength(finding.amr or case.factors[authenticator.factor].amr, finding.acr)
    effects: tuple[Effect, ...] = ()
    if finding.left is not None:
        effects = (call.message("recovery_code.used", {"left": finding.left, "ip": call.context.ip}),)
    if call.session is not None and case.browser is None:
        effects += (call.message("browser.added", {"browser": call.session.browser, "ip": call.context.ip}),)
    outcome = Verified(
        authenticator.factor,
        authenticator.id,
        browser,
        recovery_codes_left=finding.left,
        claims=_claims(case, authenticator, strength),
        is_user_verified=finding.is_user_verified,
        reenroll_by=authenticator.stops_at,
    )
    kind: EventKind = "password.accepted" if authenticator.factor == FIRST_FACTOR else "code.accepted"
    return Decision(outcome, account, (_event(case, kind, authenticator),), effects, strength=strength)


def refuse_used(case: Case, authenticator: Authenticator, used: Used) -> Decision:
    """Used before: nothing is charged, and one event a minute is written."""
    rejected = Rejected("code_already_used", retry_after_s=used.retry_after_s)
    if _is_quiet(case.account.replayed_at, case.call):
        return Decision(rejected)
    account = msgspec.structs.replace(case.account, replayed_at=case.call.now)
    return Decision(rejected, account, (_event(case, "code.refused", authenticator, reason=rejected.reason),))


def refuse_wrong(case: Case, findings: list[tuple[Authenticator, Finding]]) -> Decision:
    """Wrong: charged to the lane and counted towards an authenticator, where it could have been guessed."""
    call = case.call
    account, offset_s = _keep_traces(case.account, findings)
    # A failure counts towards the named or only one, else towards the one used last; in the strict profile towards
    # all that were tried (NIST SP 800-63B-4 section 3.2.2).
    counted = sorted((a for a, _ in findings), key=lambda a: -a.last_used_at)
    if not case.question.is_strict:
        counted = counted[:1]
    is_password = case.question.answer.kind == "password"
    overtaken = next((f for _, f in findings if isinstance(f, Wrong) and f.is_overtaken), None)
    reason: Reason = "wrong_password" if is_password else "clock_off" if offset_s is not None else "wrong_code"
    rejected = Rejected(reason, clock_offset_s=offset_s)
    if overtaken is not None:
        rejected = Rejected("code_already_used", retry_after_s=overtaken.retry_after_s)
    if is_unguessable(case.question.answer):
        return refuse_unguessable(
            case, account, rejected, _find_told(findings) or (counted[0] if counted else None, Wrong())
        )
    event = _event(case, "password.refused" if is_password else "code.refused", *counted[:1], reason=rejected.reason)

    lane = throttle.charge(case.lane, case.cost, call.now)
    events: list[Event] = [event]
    effects: list[Effect] = []
    if case.browser is not None and case.in_own_lane:
        account = charge_known_browser(account, case.browser, lane)
    else:
        account = msgspec.structs.replace(account, lane=lane)
        if throttle.is_empty(lane):
            events.append(call.event("browsers.guessing", failures=lane.failures))
            effects.append(call.message("browsers.guessing", {"ip": call.context.ip}))
    if lane.failures == ALERT_FAILURES:
        effects.append(call.message("codes.refused", {"failures": lane.failures, "ip": call.context.ip}))
    for authenticator in counted:
        account, disabled = _count_failure(account, authenticator.id)
        if disabled is not None:
            names = {"authenticator": disabled.id, "factor": disabled.factor}
            events.append(call.event("authenticator.disabled", **names))
            effects.append(call.message("authenticator.disabled", names))
    return Decision(rejected, account, tuple(events), tuple(effects))


def _find_told(findings: list[tuple[Authenticator, Finding]]) -> tuple[Authenticator, Wrong] | None:
    """Of those who say why the answer is wrong, the one that it was for."""
    told = [(a, f) for a, f in findings if isinstance(f, Wrong) and f.reason is not None]
    return min(told, key=lambda pair: pair[1].is_for_another, default=None)


def refuse_unguessable(
    case: Case, account: Account, rejected: Rejected, told: tuple[Authenticator | None, Wrong] = (None, Wrong())
) -> Decision:
    """An answer that costs nothing, so that nobody can fill the disk with them: one event a minute, and how many they
    were. That a secret is in other hands, too, is always said."""
    call, (authenticator, wrong) = case.call, told
    rejected = rejected if wrong.reason is None else Rejected(wrong.reason)
    events: tuple[Event, ...] = ()
    effects: tuple[Effect, ...] = ()
    if not _is_quiet(account.unguessable_failed_at, call):
        account = msgspec.structs.replace(account, unguessable_failed_at=call.now)
        kind: EventKind = "password.refused" if case.question.answer.kind == "password" else "code.refused"
        events = (_event(case, kind, authenticator, reason=rejected.reason, rule=wrong.rule),)
    if authenticator is not None and wrong.is_cloned:
        names = {"authenticator": authenticator.id, "factor": authenticator.factor, "label": authenticator.label}
        events += (call.event("authenticator.cloned", **names),)
        effects = (call.message("authenticator.cloned", {**names, "ip": call.context.ip}),)
    return Decision(rejected, "unchanged" if account is case.account else account, events, effects)


def is_unguessable(answer: Answer) -> bool:
    """Whether no number of tries leads to a right answer of this shape."""
    return answer.kind != "otp" or len(answer.codes) == 3


def _is_quiet(recorded_at: int, call: Call) -> bool:
    """Whether a refusal that costs nothing was recorded within the last minute: strangers must not fill the disk. The
    next event tells how many there were."""
    return 0 <= call.now - recorded_at < QUIET_S * MICROS_PER_S


def _keep_traces(account: Account, findings: list[tuple[Authenticator, Finding]]) -> tuple[Account, int | None]:
    """What wrong answers leave in the credentials, and the clock offset if one of them is sure of it."""
    offset_s = None
    for authenticator, finding in findings:
        if isinstance(finding, Wrong) and finding.credential is not None:
            version = authenticator.credential_version + 1
            changed = msgspec.structs.replace(authenticator, credential=finding.credential, credential_version=version)
            account = with_authenticator(account, changed)
        if isinstance(finding, Wrong) and finding.clock_offset_s is not None:
            offset_s = finding.clock_offset_s
    return account, offset_s


def _count_failure(account: Account, authenticator_id: str) -> tuple[Account, Authenticator | None]:
    """The account with one failure more, and the authenticator if that was one too many for it."""
    authenticator = account.find(authenticator_id)
    failures = authenticator.failures + 1
    state: AuthenticatorState = "disabled" if failures >= throttle.FAILURES_MAX else authenticator.state
    changed = msgspec.structs.replace(authenticator, failures=failures, state=state)
    return with_authenticator(account, changed), changed if state == "disabled" else None


def _event(
    case: Case,
    kind: EventKind,
    authenticator: Authenticator | None = None,
    *,
    reason: str | None = None,
    rule: str | None = None,
) -> Event:
    codes = len(case.question.answer.codes)
    return case.call.event(
        kind,
        factor=authenticator.factor if authenticator else None,
        authenticator=authenticator.id if authenticator else None,
        reason=reason,
        rule=rule,
        browser="known" if case.in_own_lane else "new",
        codes=codes if codes > 1 else None,
        purpose=case.question.purpose,
        unrecorded_before=case.call.unrecorded_before or None,
    )


def _claims(case: Case, authenticator: Authenticator, strength: Strength) -> ReceiptClaims | None:
    account, question, call = case.account, case.question, case.call
    if question.purpose is None and question.binding is None:
        return None
    return new_claims(
        account,
        call,
        strength,
        via=authenticator.id,
        proved_at=call.now,
        purpose=question.purpose,
        binding=question.binding,
    )


def new_claims(
    account: Account,
    call: Call,
    strength: Strength,
    *,
    via: str,
    proved_at: int,
    purpose: str | None,
    binding: str | None,
) -> ReceiptClaims:
    """What the receipt for an answer that was right at `proved_at` (microseconds) states."""
    now_s = call.now // MICROS_PER_S
    return ReceiptClaims(
        jti=derive_token(call.seed, "receipt")[:22],
        sub=account.id,
        aud=call.application,
        epoch=epoch_claim(account),
        iat=now_s,
        exp=now_s + (MANAGE_TTL_S if purpose == MANAGE else RECEIPT_TTL_S),
        auth_time=proved_at // MICROS_PER_S,
        amr=strength.amr,
        acr=strength.acr,
        via=via,
        purpose=purpose,
        bnd=binding,
    )
