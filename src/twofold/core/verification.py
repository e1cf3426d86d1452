"""The one decision that lets somebody in: `verify_answer`, a pure function over one immutable Account.

No I/O, no clock, no randomness: they are arguments. Whatever it decides is data that is committed as a whole; what that
data is, for each verdict, is in `twofold.core.verdict`.
"""

from __future__ import annotations

import msgspec

from twofold.core import throttle
from twofold.core.account import RECOVERY, Account, Authenticator, find_known_browser, without_expired
from twofold.core.attempt import Call
from twofold.core.decision import Decision, Reason, Rejected, Stale, Throttled, Verified, Way
from twofold.core.factor import Answer, Factors, Finding, Held, Right, Seals, StaleProof, Used
from twofold.core.ticket import find_fault
from twofold.core.verdict import Case, Question, accept, is_unguessable, refuse_unguessable, refuse_used, refuse_wrong
from twofold.errors import DataKeyMissing, InvalidInput, Refused, TamperedRecord, Unavailable

SEED_FIELD = "accounts.seed"


def verify_answer(
    account: Account | None, question: Question, call: Call, *, factors: Factors, seals: Seals
) -> Decision:
    """Judge one answer.

    Ends as `Verified`, `Rejected`, `Throttled` or `Stale`. Raises `Refused` (`not_found`, `disabled`, `no_factor`),
    `Unavailable` when nothing that could judge the answer can be opened, `DataKeyMissing` to be called again.
    """
    case = _read_case(without_expired(check_usable(account), call.now), question, call, factors)
    decision = _decide(case, seals)
    # A password is a first factor: what is counted are second ones.
    if question.answer.kind == "password" or not isinstance(decision.outcome, Verified | Rejected | Throttled):
        return decision
    return msgspec.structs.replace(decision, answered=(question.factor or "any", decision.outcome))


def _decide(case: Case, seals: Seals) -> Decision:
    question = case.question
    if question.needs_passkey and question.answer.issued is None:
        return refuse_unguessable(case, case.account, Rejected("passkey_required"))
    if (fault := _find_fault(case)) is not None:
        return refuse_unguessable(case, case.account, Rejected(fault))
    # Bindingly, and before any seal is opened: what may not be judged is not looked at.
    if case.cost and (wait := throttle.find_wait(case.lane, case.cost, case.call.now)):
        return Decision(Throttled(wait.retry_after_s, _find_ways(case)))
    findings = _judge(case, seals)
    if any(isinstance(f, StaleProof) for _, f in findings):
        return Decision(Stale())
    # Equal seeds on two authenticators must not make one code good twice, so "used" outweighs "right".
    if used := next(((a, f) for a, f in findings if isinstance(f, Used)), None):
        return refuse_used(case, *used)
    if right := [(a, f) for a, f in findings if isinstance(f, Right)]:
        if question.needs_passkey and not all(finding.is_user_verified for _, finding in right):
            return refuse_unguessable(case, case.account, Rejected("passkey_required"))
        return accept(case, right)
    if held := next((f for _, f in findings if isinstance(f, Held)), None):
        return Decision(Throttled(held.retry_after_s, _find_ways(case)))
    return refuse_wrong(case, findings)


def check_usable(account: Account | None) -> Account:
    """The account, if it exists and is not disabled as a whole; raises `Refused`."""
    if account is None:
        raise Refused("not_found", "there is no account of that id")
    if account.is_disabled:
        raise Refused("disabled", "this account is disabled")
    return account


def _read_case(account: Account, question: Question, call: Call, factors: Factors) -> Case:
    answer = question.answer
    if len(answer.codes) == 3 and question.is_strict:
        raise InvalidInput("codes", "one code: this profile takes no three-code answers")
    tried = _find_tried(account, question, factors)
    cost = sum(factors[a.factor].cost_ppm(a.credential, answer) for a in tried)
    if not tried and not is_unguessable(answer):
        cost = throttle.COST_MIN_PPM
    browser = find_known_browser(account, call.context.browser, call.now)
    # A known browser whose own budget is used up counts as new again.
    in_own_lane = browser is not None and not (cost and throttle.is_empty(browser.lane, cost))
    lane = browser.lane if browser is not None and in_own_lane else throttle.refill(account.lane, call.now)
    return Case(account, question, call, factors, tried, cost, browser, in_own_lane, lane)


def _find_fault(case: Case) -> Reason | None:
    """What is wrong with the ticket of the answer, if it has one."""
    issued, question = case.question.answer.issued, case.question
    if issued is None:
        return None
    if question.needs_passkey and not issued.wants_user_verification:
        return "challenge_mismatch"
    return find_fault(
        issued,
        case.account,
        ceremony=question.ceremony,
        application=case.call.application,
        purpose=question.purpose or "",
        binding=question.binding or "",
        now=case.call.now,
    )


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


def _find_ways(case: Case) -> tuple[Way, ...]:
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


def _judge(case: Case, seals: Seals) -> list[tuple[Authenticator, Finding]]:
    findings: list[tuple[Authenticator, Finding]] = []
    for authenticator in case.tried:
        # The owner is bound as a default: each opener stays with its own authenticator.
        def unseal(sealed: bytes, owner: str = authenticator.id) -> bytes:
            return seals.open_seal(sealed, field=SEED_FIELD, account_id=case.account.id, authenticator_id=owner)

        factor = case.factors[authenticator.factor]
        try:
            finding = factor.check_answer(authenticator, case.question.answer, unseal=unseal, now=case.call.now)
        except (DataKeyMissing, TamperedRecord):
            # A seal at a wrong place under a right code: whoever wrote it has the integrity key. Nothing here counts.
            raise
        except Unavailable:
            continue
        findings.append((authenticator, finding))
    if case.tried and not findings:
        raise Unavailable("what this account's authenticators keep cannot be opened")
    return findings
