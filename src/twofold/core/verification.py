"""The one decision that lets somebody in: `verify_answer`, a pure function over one immutable Account.

No I/O, no clock, no randomness: they are arguments. Whatever it decides is data that is committed as a whole.
"""

from __future__ import annotations

import msgspec

from twofold.core import throttle
from twofold.core.account import (
    FIRST_FACTOR,
    RECOVERY,
    Account,
    Authenticator,
    AuthenticatorState,
    KnownBrowser,
    charge_known_browser,
    epoch_claim,
    find_known_browser,
    remember_browser,
    with_authenticator,
    without_expired,
)
from twofold.core.attempt import Call
from twofold.core.audit import Event, EventKind
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import (
    Decision,
    Effect,
    Reason,
    ReceiptClaims,
    Rejected,
    Stale,
    Throttled,
    Verified,
    Way,
)
from twofold.core.entropy import derive_token
from twofold.core.factor import Answer, Factors, Finding, Held, Right, Seals, StaleProof, Used, Wrong
from twofold.core.throttle import Lane
from twofold.core.user_agent import describe_browser
from twofold.errors import DataKeyMissing, InvalidInput, Refused, Unavailable

SEED_FIELD = "accounts.seed"
RECEIPT_TTL_S = 120
MANAGE_TTL_S = 300
MANAGE = "manage"
ALERT_FAILURES = 5
QUIET_S = 60


class Question(msgspec.Struct, frozen=True):
    """What is asked of `verify_answer`. `factor` and `authenticator_id` narrow who may judge the answer; `purpose` or
    `binding` ask for a receipt; `is_strict` takes no three-code answers."""

    answer: Answer
    factor: str | None = None
    authenticator_id: str | None = None
    purpose: str | None = None
    binding: str | None = None
    is_strict: bool = False


class _Case(msgspec.Struct, frozen=True):
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


def verify_answer(
    account: Account | None, question: Question, call: Call, *, factors: Factors, seals: Seals
) -> Decision:
    """Judge one answer.

    Ends as `Verified`, `Rejected`, `Throttled` or `Stale`. Raises `Refused` (`not_found`, `disabled`, `no_factor`),
    `Unavailable` when nothing that could judge the answer can be opened, `DataKeyMissing` to be called again.
    """
    case = _read_case(without_expired(check_usable(account), call.now), question, call, factors)
    # Bindingly, and before any seal is opened: what may not be judged is not looked at.
    if case.cost and (wait := throttle.find_wait(case.lane, case.cost, call.now)):
        return Decision(Throttled(wait.retry_after_s, _find_ways(case)))
    findings = _judge(case, seals)
    if any(isinstance(f, StaleProof) for _, f in findings):
        return Decision(Stale())
    # Equal seeds on two authenticators must not make one code good twice, so "used" outweighs "right".
    if used := next(((a, f) for a, f in findings if isinstance(f, Used)), None):
        return _refuse_used(case, *used)
    if right := [(a, f) for a, f in findings if isinstance(f, Right)]:
        return _accept(case, right)
    if held := next((f for _, f in findings if isinstance(f, Held)), None):
        return Decision(Throttled(held.retry_after_s, _find_ways(case)))
    return _refuse_wrong(case, findings)


def check_usable(account: Account | None) -> Account:
    """The account, if it exists and is not disabled as a whole; raises `Refused`."""
    if account is None:
        raise Refused("not_found", "there is no account of that id")
    if account.is_disabled:
        raise Refused("disabled", "this account is disabled")
    return account


def _read_case(account: Account, question: Question, call: Call, factors: Factors) -> _Case:
    answer = question.answer
    if len(answer.codes) == 3 and question.is_strict:
        raise InvalidInput("codes", "one code: this profile takes no three-code answers")
    tried = _find_tried(account, question, factors)
    cost = sum(factors[a.factor].cost_ppm(a.credential, answer) for a in tried)
    if not tried and not _is_unguessable(answer):
        cost = throttle.COST_MIN_PPM
    browser = find_known_browser(account, call.context.browser, call.now)
    # A known browser whose own budget is used up counts as new again.
    in_own_lane = browser is not None and not (cost and throttle.is_empty(browser.lane, cost))
    lane = browser.lane if browser is not None and in_own_lane else throttle.refill(account.lane, call.now)
    return _Case(account, question, call, factors, tried, cost, browser, in_own_lane, lane)


def _is_unguessable(answer: Answer) -> bool:
    return answer.kind != "otp" or len(answer.codes) == 3


def _find_tried(account: Account, question: Question, factors: Factors) -> list[Authenticator]:
    """The active authenticators that can be meant; raises `Refused` when the account or the choice has none."""
    named = question.authenticator_id
    if named is not None and account.find(named).state == "disabled":
        raise Refused("disabled", "this authenticator was disabled after too many wrong codes; enroll it again")
    meant = [
        a
        for a in account.authenticators
        if a.state == "active"
        and (named is None or a.id == named)
        and (question.factor is None or a.factor == question.factor)
        and a.factor in factors
    ]
    tried = [a for a in meant if factors[a.factor].reads(question.answer)]
    if not tried and (not meant or not account.has_second_factor):
        if account.state == "disabled":
            raise Refused("disabled", "every authenticator was disabled after too many wrong codes; enroll again")
        raise Refused("no_factor", "this account has no active second factor of that kind")
    return tried


def _find_ways(case: _Case) -> tuple[Way, ...]:
    """The ways in that stay open while guessable codes are not judged."""
    active = {a.factor for a in case.account.authenticators if a.state == "active"}
    ways: list[Way] = []
    if case.account.known_browsers and not case.in_own_lane:
        ways.append("known_browser")
    if "webauthn" in active:
        ways.append("webauthn")
    if RECOVERY in active:
        ways.append("recovery_codes")
    three = Answer("otp", ("", "", ""))
    if not case.question.is_strict and any(case.factors[name].reads(three) for name in active & set(case.factors)):
        ways.append("three_codes")
    return tuple(ways)


def _judge(case: _Case, seals: Seals) -> list[tuple[Authenticator, Finding]]:
    findings: list[tuple[Authenticator, Finding]] = []
    for authenticator in case.tried:
        # The owner is bound as a default: each opener stays with its own authenticator.
        def unseal(sealed: bytes, owner: str = authenticator.id) -> bytes:
            return seals.open_seal(sealed, field=SEED_FIELD, account_id=case.account.id, authenticator_id=owner)

        factor = case.factors[authenticator.factor]
        try:
            finding = factor.check_answer(authenticator, case.question.answer, unseal=unseal, now=case.call.now)
        except DataKeyMissing:
            raise
        except Unavailable:
            continue
        findings.append((authenticator, finding))
    if case.tried and not findings:
        raise Unavailable("what this account's authenticators keep cannot be opened")
    return findings


def _accept(case: _Case, right: list[tuple[Authenticator, Right]]) -> Decision:
    call, account = case.call, case.account
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
    effects: tuple[Effect, ...] = ()
    if finding.left is not None:
        effects = (call.message("recovery_code.used", {"left": finding.left, "ip": call.context.ip}),)
    if call.session is not None and case.browser is None:
        effects += (call.message("browser.added", {"browser": call.session.browser, "ip": call.context.ip}),)
    claims = _claims(case, authenticator)
    outcome = Verified(authenticator.factor, authenticator.id, browser, recovery_codes_left=finding.left, claims=claims)
    kind: EventKind = "password.accepted" if authenticator.factor == FIRST_FACTOR else "code.accepted"
    return Decision(outcome, account, (_event(case, kind, authenticator),), effects)


def _refuse_used(case: _Case, authenticator: Authenticator, used: Used) -> Decision:
    rejected = Rejected("code_already_used", retry_after_s=used.retry_after_s)
    if _is_quiet(case.account.replayed_at, case.call):
        return Decision(rejected)
    account = msgspec.structs.replace(case.account, replayed_at=case.call.now)
    return Decision(rejected, account, (_event(case, "code.refused", authenticator, reason=rejected.reason),))


def _refuse_wrong(case: _Case, findings: list[tuple[Authenticator, Finding]]) -> Decision:
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
    event = _event(case, "password.refused" if is_password else "code.refused", *counted[:1], reason=rejected.reason)
    if _is_unguessable(case.question.answer):
        # Nobody can fill the disk with answers that cost nothing: one event a minute, and how many they were.
        if not _is_quiet(account.unguessable_failed_at, call):
            account = msgspec.structs.replace(account, unguessable_failed_at=call.now)
            return Decision(rejected, account, (event,))
        return Decision(rejected) if account is case.account else Decision(rejected, account)

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
    case: _Case, kind: EventKind, authenticator: Authenticator | None = None, *, reason: str | None = None
) -> Event:
    codes = len(case.question.answer.codes)
    return case.call.event(
        kind,
        factor=authenticator.factor if authenticator else None,
        authenticator=authenticator.id if authenticator else None,
        reason=reason,
        browser="known" if case.in_own_lane else "new",
        codes=codes if codes > 1 else None,
        purpose=case.question.purpose,
        unrecorded_before=case.call.unrecorded_before or None,
    )


def _claims(case: _Case, authenticator: Authenticator) -> ReceiptClaims | None:
    account, question, call = case.account, case.question, case.call
    if question.purpose is None and question.binding is None:
        return None
    now_s = call.now // MICROS_PER_S
    return ReceiptClaims(
        jti=derive_token(call.seed, "receipt")[:22],
        sub=account.id,
        aud=call.application,
        epoch=epoch_claim(account),
        iat=now_s,
        exp=now_s + (MANAGE_TTL_S if question.purpose == MANAGE else RECEIPT_TTL_S),
        auth_time=now_s,
        amr=case.factors[authenticator.factor].amr,
        # Twofold saw one factor; what the application saw before it is the application's to add.
        acr="urn:nist:aal1",
        via=authenticator.id,
        purpose=question.purpose,
        bnd=question.binding,
    )
