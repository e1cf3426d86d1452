"""The steps of signing in as decisions: what each of them opens, and what a fresh second factor allows.

`begin_session` follows a right password or a one-time link. `in_session` wraps any other decision for a caller with a
session: it refuses under a session that ended, judges the code that came with the call, and hands out the next token.
All of it is written by the one decision, so no session appears after a concurrent "end all", and no code is used up
without what it was for.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import ClassVar

import msgspec

from twofold.core.account import FIRST_FACTOR, RECOVERY, Account, epoch_claim, find_known_browser, new_account, spend
from twofold.core.attempt import Call
from twofold.core.audit import Event
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import (
    Confirmed,
    Decision,
    Done,
    EndSessions,
    NeedsRecoveryCodes,
    OpenSession,
    Renewed,
    Stale,
    Verified,
)
from twofold.core.discreet import Discreet
from twofold.core.entropy import derive_id, derive_token
from twofold.core.factor import Factors, Seals
from twofold.core.session import (
    ENROLLING_TTL_S,
    ENROLLMENT_GRANT_TTL_S,
    PENDING_TTL_S,
    SESSION_IDLE_TTL_S,
    SESSION_TTL_S,
    STRICT_SESSION_IDLE_TTL_S,
    STRICT_SESSION_TTL_S,
    Level,
    Session,
    digest_token,
    find_ending,
)
from twofold.core.user_agent import describe_browser
from twofold.core.verdict import Question
from twofold.core.verification import verify_answer
from twofold.errors import Refused, SessionEnded

#: The purpose of a fresh second factor after which authenticators may be added for a quarter of an hour.
ENROLL = "enroll"

Decide = Callable[[Account | None, Call], Decision]


class Bearer(Discreet, frozen=True):
    """A caller with a session: the session, and the digest of the token that came with the request."""

    hidden: ClassVar[tuple[str, ...]] = ("token_digest",)

    session: Session
    token_digest: bytes


class Vouched(msgspec.Struct, frozen=True):
    """Who somebody else says this is; the session counts together with `bond` alone. `asker` is the application whose
    prompt it is: then the session has begun with the prompt, or there is none."""

    account_id: str
    bond: str
    asker: str = ""


class SessionLimits(msgspec.Struct, frozen=True):
    """How long a full session lives, and how long without a request."""

    ttl_s: int = SESSION_TTL_S
    idle_ttl_s: int = SESSION_IDLE_TTL_S


DEFAULT_LIMITS = SessionLimits()
STRICT_LIMITS = SessionLimits(STRICT_SESSION_TTL_S, STRICT_SESSION_IDLE_TTL_S)


def begin_session(
    decision: Decision,
    outcome: Verified | Done,
    account: Account,
    call: Call,
    *,
    next_path: str = "",
    is_by_link: bool = False,
    bond: str = "",
) -> Decision:
    """The decision with this outcome, and the session that it opens: pending if there is a second factor to ask for.

    Whoever comes by a one-time link is led to enroll, whatever the account has.
    """
    level: Level = "pending" if account.is_bound and not is_by_link else "enrolling"
    ttl_s = PENDING_TTL_S if level == "pending" else ENROLLING_TTL_S
    session = Session(
        derive_id(call.seed, "session", "se_"),
        account.id,
        epoch_claim(account),
        level,
        call.now,
        call.now,
        call.now + ttl_s * MICROS_PER_S,
        ttl_s,
        browser=describe_browser(call.context.user_agent),
        ip=call.context.ip or "",
        next=next_path,
        is_by_link=is_by_link,
        is_known=find_known_browser(account, call.context.browser, call.now) is not None,
        bond=bond,
    )
    return _open(msgspec.structs.replace(decision, account=account), outcome, session, call, replaces=None)


def begin_vouched(account: Account | None, vouched: Vouched, call: Call, *, next_path: str = "") -> Decision:
    """A session for somebody whose first factor another application has checked. It is the account's first sign of
    life where there is none yet. Raises `Refused("disabled")`."""
    events = [call.event("sign_in.vouched")]
    if account is None:
        account = new_account(vouched.account_id, call.seed, call.now)
        events.insert(0, call.event("account.added"))
    if account.is_disabled:
        raise Refused("disabled", "this account is disabled")
    decision = Decision(Done(), account, tuple(events))
    return begin_session(decision, Done(), account, call, next_path=next_path, bond=vouched.bond)


def begin_by_passkey(decision: Decision, call: Call, *, limits: SessionLimits, next_path: str = "") -> Decision:
    """The decision, and a full session if in it a passkey was shown that verifies its user: two factors in one."""
    outcome, account = decision.outcome, decision.account
    if not isinstance(outcome, Verified) or not outcome.is_user_verified or isinstance(account, str):
        return decision
    session = Session(
        derive_id(call.seed, "session", "se_"),
        account.id,
        epoch_claim(account),
        "full",
        call.now,
        call.now,
        _find_end(call.now + limits.ttl_s * MICROS_PER_S, outcome),
        limits.idle_ttl_s,
        browser=describe_browser(call.context.user_agent),
        ip=call.context.ip or "",
        next=next_path,
        via=outcome.authenticator_id,
        proved_at=call.now,
        is_known=find_known_browser(account, call.context.browser, call.now) is not None,
        is_user_verified=True,
    )
    return _open(decision, outcome, session, call, replaces=None)


def in_session(
    decide: Decide,
    bearer: Bearer,
    call: Call,
    *,
    proof: Question | None,
    ends_others: bool = False,
    may_enroll: bool = False,
    limits: SessionLimits,
    factors: Factors,
    seals: Seals,
) -> Callable[[Account | None], Decision]:
    """`decide` for a caller with a session, after judging `proof`, a fresh answer of a second factor, where one is
    asked for; with it, `ends_others` ends the account's other sessions. A wrong one is the decision; what it was for
    does not happen. Where a second factor is shown, `may_enroll` allows to add one as `ENROLL` does. Raises
    `SessionEnded`."""

    def decide_in_session(account: Account | None) -> Decision:
        if ending := find_ending(bearer.session, account, call.now):
            raise SessionEnded(ending)
        own = msgspec.structs.replace(call, session=bearer.session)
        if proof is None:
            decision = decide(account, own)
            return _go_on(decision, decision, bearer, own, limits=limits, may_enroll=may_enroll)
        proven = verify_answer(account, proof, own, factors=factors, seals=seals)
        if not isinstance(proven.outcome, Verified) or isinstance(proven.account, str):
            return proven
        decision = decide(proven.account, msgspec.structs.replace(own, proven_by=proven.outcome.authenticator_id))
        if isinstance(decision.outcome, Stale | NeedsRecoveryCodes):
            # Nothing is written, so the code is as good for the next try.
            return Decision(decision.outcome)
        joined = _join(proven, decision)
        if ends_others:
            event, effect = _end_sessions(own, None, bearer.session.id)
            joined = msgspec.structs.replace(joined, events=(*joined.events, event), effects=(*joined.effects, effect))
        granted = proof.purpose or ""
        return _go_on(joined, proven, bearer, own, limits=limits, may_enroll=granted == ENROLL, granted=granted)

    return decide_in_session


def use_grant(account: Account | None, session: Session, call: Call, *, ttl_s: int) -> Decision:
    """The proof that the session was granted something for is used up, by this one act; it counts for `ttl_s` and is
    remembered as long. Raises `SessionEnded`, and `Refused("step_up_required")` when another act was first."""
    if ending := find_ending(session, account, call.now):
        raise SessionEnded(ending)
    assert account is not None  # noqa: S101 - or the session would have ended
    act = f"{session.id}|{session.proved_at}|{session.granted}"
    digest = hashlib.sha256(b"twofold/1|grant|" + act.encode()).digest()[:16]
    spent = spend(account, digest, session.proved_at + ttl_s * MICROS_PER_S)
    if spent is None:
        raise Refused("step_up_required", "this proof was used already")
    return Decision(Done(), spent)


def end_sessions(account: Account | None, call: Call, *, ids: tuple[str, ...] | None, but: str | None) -> Decision:
    """The sessions with these ids end, or all but one; the account's other ones go on."""
    if account is None:
        raise SessionEnded("ended")
    event, effect = _end_sessions(call, ids, but)
    return Decision(Done(), account, (event,), (effect,))


def _end_sessions(call: Call, ids: tuple[str, ...] | None, but: str | None) -> tuple[Event, EndSessions]:
    return call.event("session.ended", sessions=ids or ("all but this",)), EndSessions(ids, but)


def _join(first: Decision, second: Decision) -> Decision:
    """Both as one: the second was decided on the account that the first one left."""
    return Decision(
        second.outcome,
        first.account if isinstance(second.account, str) and second.account == "unchanged" else second.account,
        first.events + second.events,
        first.effects + second.effects,
        first.sealed_with + second.sealed_with,
        first.answered,
        first.strength,
    )


def _go_on(
    decision: Decision,
    shown: Decision,
    bearer: Bearer,
    call: Call,
    *,
    limits: SessionLimits,
    may_enroll: bool,
    granted: str = "",
) -> Decision:
    """The decision, and the session's next token if a second factor was shown or confirmed in it: it is full now."""
    session, account = bearer.session, decision.account
    match shown.outcome:
        case Verified(factor=factor, authenticator_id=via, is_user_verified=is_verified) if factor != FIRST_FACTOR:
            pass
        case Confirmed(id=via, is_user_verified=is_verified):
            pass
        case _:
            return decision
    outcome = decision.outcome
    if isinstance(account, str) or not isinstance(outcome, Verified | Confirmed | Renewed | Done):
        # Nobody would learn the next token.
        return decision
    if session.level != "full":
        expires_at = _find_end(call.now + limits.ttl_s * MICROS_PER_S, shown.outcome)
        session = msgspec.structs.replace(
            session, level="full", begun_at=call.now, expires_at=expires_at, idle_ttl_s=limits.idle_ttl_s
        )
    # Who signs in with a recovery code has lost the phone: it must not take another code to add the new one.
    is_lost = isinstance(outcome, Verified) and outcome.factor == RECOVERY
    may_enroll = may_enroll or is_lost
    session = msgspec.structs.replace(
        session,
        epoch=epoch_claim(account),
        seen_at=call.now,
        via=via,
        proved_at=call.now,
        may_enroll_until=call.now + ENROLLMENT_GRANT_TTL_S * MICROS_PER_S if may_enroll else 0,
        is_user_verified=session.is_user_verified or is_verified,
        granted=granted,
        strength=shown.strength,
        has_enrolled=isinstance(shown.outcome, Confirmed),
    )
    # A browser is known in one epoch only: its value of the one before would name nobody.
    is_same_epoch = session.epoch == bearer.session.epoch
    browser = shown.outcome.browser if isinstance(shown.outcome, Verified) and is_same_epoch else None
    outcome = msgspec.structs.replace(outcome, browser=browser)
    return _open(decision, outcome, session, call, replaces=bearer.token_digest)


def _find_end(expires_at: int, shown: Verified | Confirmed) -> int:
    """When the session ends: no later than the authenticator that opened it stops."""
    reenroll_by = shown.reenroll_by if isinstance(shown, Verified) else 0
    return min(expires_at, reenroll_by or expires_at)


def _open(
    decision: Decision,
    outcome: Verified | Confirmed | Renewed | Done,
    session: Session,
    call: Call,
    *,
    replaces: bytes | None,
) -> Decision:
    token = derive_token(call.seed, "session token")
    effect = OpenSession(session, digest_token(token), replaces)
    outcome = msgspec.structs.replace(outcome, session=token)
    return msgspec.structs.replace(decision, outcome=outcome, effects=(*decision.effects, effect))
