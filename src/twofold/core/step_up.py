"""Who may manage an account that has a second factor: by a fresh receipt, by an answer that came with the call, by
the quarter of an hour after one, or as an administrator.
"""

from __future__ import annotations

import hashlib
import hmac

from twofold.core.account import Account, Authenticator, epoch_claim, spend
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import ReceiptClaims
from twofold.core.verdict import MANAGE
from twofold.errors import Refused


def check_step_up(
    account: Account, step_up: ReceiptClaims | None, call: Call, *, may_be_by_grant: bool = False
) -> Account:
    """The account after a management call was allowed: on one with a second factor, be it disabled, it takes an answer
    that came with this very call, or a fresh receipt, spent here, made for this purpose by this application. To enroll
    a session will do that was asked for an answer for just that. Raises `Refused("step_up_required")`."""
    if not account.is_bound or call.proven_by is not None or (call.is_admin and step_up is None):
        return account
    if may_be_by_grant and call.may_enroll:
        return account
    detail = f'this needs a fresh receipt of this account: verify with purpose "{MANAGE}" and send it as step_up'
    if step_up is None or not is_receipt_good(account, step_up, call) or step_up.purpose != MANAGE:
        raise Refused("step_up_required", detail)
    spent = spend_receipt(account, step_up)
    if spent is None:
        raise Refused("step_up_required", "this receipt was used already; " + detail)
    return spent


def may_see_again(account: Account, begun: Authenticator, step_up: ReceiptClaims | None, call: Call) -> bool:
    """Whether the secret of an open enrollment may be shown again without another proof.

    On a bound account only with the receipt that began it: an application is many people's sessions, and one that was
    stolen must not get to a secret that its owner is about to scan.
    """
    if not account.is_bound or (call.is_admin and step_up is None):
        return True
    enrollment = begun.enrollment
    if call.may_enroll:
        # The caller is one session, whose token was new when it was allowed to enroll.
        return enrollment is not None and enrollment.begun_via is not None
    return (
        step_up is not None
        and enrollment is not None
        and enrollment.begun_with is not None
        and hmac.compare_digest(enrollment.begun_with, _receipt_digest(step_up))
        and is_receipt_good(account, step_up, call)
    )


def find_allowance(account: Account, step_up: ReceiptClaims | None, call: Call) -> tuple[bytes | None, str | None]:
    """What allowed an enrollment on a bound account: the digest of the receipt, and the authenticator behind it."""
    if not account.is_bound:
        return None, None
    if step_up is not None:
        return _receipt_digest(step_up), step_up.via
    return None, call.proven_by or (call.session.via if call.session is not None and call.may_enroll else None)


def is_receipt_good(account: Account, claims: ReceiptClaims, call: Call) -> bool:
    """Whether a receipt, its signature already checked, is in force for this account, application and epoch, and the
    authenticator that earned it is still there."""
    return (
        claims.sub == account.id
        and claims.aud == call.application
        and claims.epoch == epoch_claim(account)
        and claims.exp * MICROS_PER_S > max(call.now, account.forgotten_until)
        and is_active(account, claims.via)
    )


def spend_receipt(account: Account, claims: ReceiptClaims) -> Account | None:
    """The account in which the receipt is used up, or None when it was before."""
    return spend(account, _receipt_digest(claims), claims.exp * MICROS_PER_S)


def is_active(account: Account, authenticator_id: str) -> bool:
    """Whether the account has this authenticator, and it counts."""
    return any(a.id == authenticator_id and a.state == "active" for a in account.authenticators)


def _receipt_digest(claims: ReceiptClaims) -> bytes:
    return hashlib.sha256(b"twofold/1|receipt|" + claims.jti.encode()).digest()[:16]
