"""An enrollment that is still open, as whoever began it comes back to it: find it, see it again, cancel it.

Beginning and confirming are in `twofold.core.enrollment`. Nothing here reaches what another caller began, or what is
active.
"""

from __future__ import annotations

import msgspec

from twofold.core.account import Account, Authenticator, without_expired
from twofold.core.attempt import Call
from twofold.core.decision import Decision, Done
from twofold.core.step_up import may_see_again
from twofold.core.verification import check_usable
from twofold.errors import Refused


def find_open(account: Account, begun_by: str, now: int, *, factor: str) -> Authenticator | None:
    """The newest enrollment of this factor that the caller `begun_by` began and that is open at `now`."""
    own = [a for a in account.authenticators if a.factor == factor and _is_open(a, begun_by, now)]
    return max(own, key=lambda a: a.created_at, default=None)


def see_again(account: Account | None, authenticator_id: str, call: Call) -> Authenticator:
    """The caller's own open enrollment, to be shown once more; nothing changes.

    Raises `Refused`: `not_found`, `disabled`, `step_up_required` (as where it is begun again).
    """
    account = without_expired(check_usable(account), call.now)
    begun = _find_own(account, authenticator_id, call)
    if not may_see_again(account, begun, None, call):
        raise Refused("step_up_required", "this enrollment is shown to whoever proved a moment ago who it is")
    return begun


def cancel_enrollment(account: Account | None, authenticator_id: str, call: Call) -> Decision:
    """The caller's own open enrollment is no more. Raises `Refused`: `not_found`, `disabled`."""
    account = without_expired(check_usable(account), call.now)
    canceled = _find_own(account, authenticator_id, call)
    kept = tuple(a for a in account.authenticators if a is not canceled)
    event = call.event("authenticator.removed", factor=canceled.factor, authenticator=canceled.id)
    return Decision(Done(), msgspec.structs.replace(account, authenticators=kept), (event,))


def _find_own(account: Account, authenticator_id: str, call: Call) -> Authenticator:
    found = account.find(authenticator_id)
    if not _is_open(found, call.application, call.now):
        raise Refused("not_found", "you have no open enrollment of that id")
    return found


def _is_open(authenticator: Authenticator, begun_by: str, now: int) -> bool:
    enrollment = authenticator.enrollment
    return enrollment is not None and enrollment.begun_by == begun_by and now < enrollment.expires_at
