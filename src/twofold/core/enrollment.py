"""How an authenticator comes, changes and goes: begin, confirm, import, rename, revoke, new recovery codes.

Pending never counts. The same caller who begins again gets the same pending enrollment with the same secret; another
caller never does, or somebody who began first could wait for the owner to scan a secret that he knows.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from twofold.core.account import (
    AUTHENTICATORS_MAX,
    FIRST_FACTOR,
    PENDING_MAX,
    PENDING_TTL_S,
    RECOVERY,
    Account,
    Authenticator,
    Enrollment,
    with_authenticator,
    without_expired,
    without_lone_codes,
)
from twofold.core.attempt import Call
from twofold.core.audit import Event
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import (
    Confirmed,
    Decision,
    Done,
    NeedsRecoveryCodes,
    Reason,
    ReceiptClaims,
    Rejected,
    Renewed,
    Stale,
    Throttled,
)
from twofold.core.discreet import Discreet
from twofold.core.factor import Answer, Factors, Finding, Right, Seals, StaleProof, Used, Wrong
from twofold.core.session import Strength
from twofold.core.step_up import check_step_up, find_allowance, is_active, may_see_again
from twofold.core.throttle import delay_s
from twofold.core.verification import SEED_FIELD, check_usable
from twofold.errors import Refused


class NewCredential(Discreet, frozen=True):
    """A credential made outside the decision, under the id that its seal is bound to.

    `sealed_with` is the data key of that seal, or None where nothing is sealed; `plain_codes` are recovery codes in
    clear, to be shown once.
    """

    hidden: ClassVar[tuple[str, ...]] = ("credential", "plain_codes")

    authenticator_id: str
    factor: str
    credential: bytes
    sealed_with: str | None = None
    plain_codes: tuple[str, ...] = ()


def begin_enrollment(
    account: Account | None,
    fresh: NewCredential,
    call: Call,
    *,
    label: str = "",
    replaces: str | None = None,
    step_up: ReceiptClaims | None = None,
) -> tuple[Decision, Authenticator]:
    """A pending authenticator: the caller's own one of this factor if it is still open, else `fresh`.

    Raises `Refused`: `not_found`, `disabled`, `step_up_required`, `too_many`, `conflict`.
    """
    account = without_expired(check_usable(account), call.now)
    begun_by = call.application
    replaced = account.find(replaces) if replaces is not None else None
    if replaced is not None and replaced.factor in (FIRST_FACTOR, RECOVERY):
        raise Refused("conflict", "only an authenticator that gives codes can be replaced by another one")
    begun = _find_begun(account, fresh.factor, replaces, begun_by)
    if begun is not None and may_see_again(account, begun, step_up, call):
        return Decision(Done()), begun
    account = check_step_up(account, step_up, call, may_be_by_grant=True)
    begun_with, begun_via = find_allowance(account, step_up, call)
    if begun is not None and begun.enrollment is not None and begun.enrollment.begun_via is not None:
        proven = msgspec.structs.replace(begun.enrollment, begun_with=begun_with, begun_via=begun_via)
        begun = msgspec.structs.replace(begun, enrollment=proven)
        return Decision(Done(), with_authenticator(account, begun)), begun
    # One that was begun without proof makes room for a secret that nobody can have seen.
    others = tuple(a for a in account.authenticators if a is not begun)
    pending = [a for a in others if a.state == "pending"]
    kept = tuple(a for a in others if len(pending) < PENDING_MAX or a is not pending[0])
    # The first one takes a second place, for the recovery codes that come with it.
    if len(kept) + (not _has_recovery_codes(account)) >= AUTHENTICATORS_MAX:
        raise Refused("too_many", f"an account has at most {AUTHENTICATORS_MAX} authenticators")
    authenticator = Authenticator(
        fresh.authenticator_id,
        fresh.factor,
        label,
        "pending",
        fresh.credential,
        call.now,
        enrollment=Enrollment(
            call.now + PENDING_TTL_S * MICROS_PER_S,
            begun_by,
            not account.is_bound,
            replaces,
            begun_with=begun_with,
            begun_via=begun_via,
        ),
    )
    account = msgspec.structs.replace(account, authenticators=(*kept, authenticator))
    event = call.event("enrollment.begun", factor=fresh.factor, authenticator=authenticator.id, replaces=replaces)
    sealed_with = (fresh.sealed_with,) if fresh.sealed_with else ()
    return Decision(Done(), account, (event,), sealed_with=sealed_with), authenticator


def confirm_enrollment(
    account: Account | None,
    authenticator_id: str,
    answer: Answer,
    call: Call,
    *,
    factors: Factors,
    seals: Seals,
    label: str | None = None,
    recovery: NewCredential | None = None,
    step_up: ReceiptClaims | None = None,
) -> Decision:
    """Pending becomes active by its first code, which is used up with it; what it replaces goes, and so does all that
    would stop after a reset. `label` is the one it gets instead of that of the beginning.

    Ends as `Confirmed`, `Rejected`, `Throttled`, or as `NeedsRecoveryCodes` or `Stale` when something must be prepared
    first.
    Raises `Refused`: `not_found`, `disabled`, `conflict` (not pending any more), `step_up_required`.
    """
    account = without_expired(check_usable(account), call.now)
    pending = account.find(authenticator_id)
    enrollment = pending.enrollment
    if enrollment is None:
        raise Refused("conflict", "this authenticator is not waiting for its first code")
    # A person is only ever offered what her own session began, also when a link lets her in as an administrator would.
    if enrollment.begun_by != call.application and (call.session is not None or not call.is_admin):
        raise Refused("not_found", "this enrollment was begun by another application")
    if enrollment.begun_via is not None and not is_active(account, enrollment.begun_via):
        raise Refused("conflict", "the authenticator that allowed this enrollment is gone: begin again")
    wait = delay_s(enrollment.failures) * MICROS_PER_S - (call.now - enrollment.failed_at)
    if call.now >= enrollment.failed_at and wait > 0:
        return Decision(Throttled(-(-wait // MICROS_PER_S)))
    owner, factor = account.id, factors[pending.factor]

    def unseal(sealed: bytes) -> bytes:
        return seals.open_seal(sealed, field=SEED_FIELD, account_id=owner, authenticator_id=pending.id)

    reads = len(answer.codes) <= 1 and factor.reads(answer)
    finding = factor.check_answer(pending, answer, unseal=unseal, now=call.now) if reads else Wrong()
    if not isinstance(finding, Right | StaleProof):
        return _refuse_confirmation(account, pending, enrollment, finding, call)
    # Begun with a step-up, that one counts; begun on an empty account, one is needed if it is not empty any more.
    if enrollment.begun_while_empty:
        account = check_step_up(account, step_up, call, may_be_by_grant=True)
    if isinstance(finding, StaleProof):
        # Only now: what would be refused anyway prepares nothing.
        return Decision(Stale())
    if recovery is None and not _has_recovery_codes(account):
        return Decision(NeedsRecoveryCodes())
    if label is not None:
        pending = msgspec.structs.replace(pending, label=label)
    strength = Strength(finding.amr or factor.amr, finding.acr)
    activated = _activate(account, pending, enrollment, finding, recovery=recovery, call=call)
    return msgspec.structs.replace(activated, strength=strength)


def import_authenticator(account: Account | None, fresh: NewCredential, call: Call, *, label: str = "") -> Decision:
    """An authenticator whose secret is already in the person's hands: active at once, without recovery codes."""
    account = without_expired(check_usable(account), call.now)
    if not call.is_admin:
        raise Refused("forbidden", "importing a secret needs the scope admin")
    if len(account.authenticators) >= AUTHENTICATORS_MAX:
        raise Refused("too_many", f"an account has at most {AUTHENTICATORS_MAX} authenticators")
    added = Authenticator(fresh.authenticator_id, fresh.factor, label, "active", fresh.credential, call.now)
    account = msgspec.structs.replace(account, authenticators=(*account.authenticators, added))
    event = call.event("authenticator.imported", factor=added.factor, authenticator=added.id, label=label)
    message = call.message("authenticator.added", {"factor": added.factor, "label": label})
    sealed_with = (fresh.sealed_with,) if fresh.sealed_with else ()
    return Decision(Confirmed(added.id, added.factor), account, (event,), (message,), sealed_with)


def rename_authenticator(account: Account | None, authenticator_id: str, label: str, call: Call) -> Decision:
    """The same authenticator under another label."""
    account = without_expired(check_usable(account), call.now)
    renamed = msgspec.structs.replace(account.find(authenticator_id), label=label)
    event = call.event("authenticator.renamed", authenticator=authenticator_id, label=label)
    message = call.message("authenticator.renamed", {"factor": renamed.factor, "label": label})
    return Decision(Done(), with_authenticator(account, renamed), (event,), (message,))


def revoke_authenticator(
    account: Account | None,
    authenticator_id: str,
    call: Call,
    *,
    step_up: ReceiptClaims | None = None,
    keeps_last: bool = False,
    useless: frozenset[str] = frozenset(),
) -> Decision:
    """Remove an authenticator; one that is pending goes without a step-up. With the last one go the recovery codes;
    `keeps_last` refuses to remove that one, and `useless` are those that are no way in where the caller is."""
    account = without_expired(check_usable(account), call.now)
    removed = account.find(authenticator_id)
    if removed.factor == FIRST_FACTOR:
        raise Refused("conflict", "a password is changed, not removed")
    if keeps_last and account.is_last_factor(authenticator_id, useless=useless):
        raise Refused("conflict", "the last authenticator is replaced by another one, not removed")
    if removed.state != "pending":
        account = check_step_up(account, step_up, call)
    account = without_lone_codes(_without(account, authenticator_id))
    event = call.event("authenticator.removed", factor=removed.factor, authenticator=removed.id)
    if removed.state == "pending":
        return Decision(Done(), account, (event,))
    message = call.message("authenticator.removed", {"factor": removed.factor, "label": removed.label})
    return Decision(Done(), account, (event,), (message,))


def renew_recovery_codes(
    account: Account | None, recovery: NewCredential | None, call: Call, *, step_up: ReceiptClaims | None = None
) -> Decision:
    """A fresh set of recovery codes; every old one is dead. Ends as `Renewed`, or `NeedsRecoveryCodes` when `recovery`
    must be prepared first. Raises `Refused("no_factor")` where there is nothing that they could stand in for."""
    account = without_expired(check_usable(account), call.now)
    if not account.has_second_factor:
        raise Refused("no_factor", "recovery codes stand in for a second factor, and this account has none")
    account = check_step_up(account, step_up, call)
    if recovery is None:
        return Decision(NeedsRecoveryCodes())
    old = next((a.id for a in account.authenticators if a.factor == RECOVERY), None)
    kept = tuple(a for a in account.authenticators if a.factor != RECOVERY)
    account = msgspec.structs.replace(account, authenticators=kept)
    account, event = _with_recovery_codes(account, recovery, call, replaces=old)
    message = call.message("recovery_codes.made", {"ip": call.context.ip})
    return Decision(Renewed(recovery.plain_codes), account, (event,), (message,))


def _refuse_confirmation(
    account: Account, pending: Authenticator, enrollment: Enrollment, finding: Finding, call: Call
) -> Decision:
    wrong = finding if isinstance(finding, Wrong) else Wrong(is_overtaken=isinstance(finding, Used))
    offset_s = wrong.clock_offset_s
    is_used, is_clock_off = wrong.is_overtaken, offset_s is not None
    reason: Reason = "code_already_used" if is_used else "clock_off" if is_clock_off else wrong.reason or "wrong_code"
    failed = msgspec.structs.replace(enrollment, failures=enrollment.failures + 1, failed_at=call.now)
    # By what the first code leaves in the credential, the second one names a clock that is off, as at any sign-in.
    credential = wrong.credential or pending.credential
    account = with_authenticator(account, msgspec.structs.replace(pending, credential=credential, enrollment=failed))
    names = {"factor": pending.factor, "authenticator": pending.id, "reason": reason, "rule": wrong.rule}
    event = call.event("enrollment.refused", **names)
    return Decision(Rejected(reason, clock_offset_s=offset_s), account, (event,))


def _activate(
    account: Account,
    pending: Authenticator,
    enrollment: Enrollment,
    finding: Right,
    *,
    recovery: NewCredential | None,
    call: Call,
) -> Decision:
    active = msgspec.structs.replace(
        pending,
        state="active",
        credential=finding.credential,
        credential_version=pending.credential_version + 1,
        last_used_at=call.now,
        enrollment=None,
    )
    account = with_authenticator(account, active)
    events = [call.event("authenticator.added", factor=active.factor, authenticator=active.id, label=active.label)]
    message = call.message("authenticator.added", {"factor": active.factor, "label": active.label})
    for replaced in [a.id for a in account.authenticators if a.stops_at or a.id == enrollment.replaces]:
        account = _without(account, replaced)
        events.append(call.event("authenticator.removed", authenticator=replaced, replaced_by=active.id))
    plain: tuple[str, ...] = ()
    if recovery is not None and not _has_recovery_codes(account):
        account, made = _with_recovery_codes(account, recovery, call)
        events.append(made)
        plain = recovery.plain_codes
    confirmed = Confirmed(active.id, active.factor, plain, is_user_verified=finding.is_user_verified)
    return Decision(confirmed, account, tuple(events), (message,))


def _has_recovery_codes(account: Account) -> bool:
    """Whether it has some that do not stop."""
    return any(a.factor == RECOVERY and not a.stops_at for a in account.authenticators)


def _find_begun(account: Account, factor: str, replaces: str | None, begun_by: str) -> Authenticator | None:
    """The open enrollment that this caller began for this factor and this replacement."""
    for authenticator in account.authenticators:
        enrollment = authenticator.enrollment
        if (
            enrollment is not None
            and authenticator.factor == factor
            and (enrollment.begun_by, enrollment.replaces) == (begun_by, replaces)
        ):
            return authenticator
    return None


def _without(account: Account, authenticator_id: str) -> Account:
    kept = tuple(a for a in account.authenticators if a.id != authenticator_id)
    return msgspec.structs.replace(account, authenticators=kept)


def _with_recovery_codes(
    account: Account, recovery: NewCredential, call: Call, *, replaces: str | None = None
) -> tuple[Account, Event]:
    if len(account.authenticators) >= AUTHENTICATORS_MAX:
        raise Refused("too_many", f"an account has at most {AUTHENTICATORS_MAX} authenticators")
    added = Authenticator(recovery.authenticator_id, RECOVERY, "", "active", recovery.credential, call.now)
    account = msgspec.structs.replace(account, authenticators=(*account.authenticators, added))
    codes = len(recovery.plain_codes)
    return account, call.event("recovery_codes.made", authenticator=added.id, codes=codes, replaces=replaces)
