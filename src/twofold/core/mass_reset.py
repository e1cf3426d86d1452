"""A reset of many people on suspicion, as it is decided for each of them: what stops, and when.

Sessions end at once; the old authenticators serve until the end of the grace, so that everybody can set up a new one
first. Without a grace that end is now. Who is reset at all, and where it is counted, is `twofold.mass_reset`'s affair.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from twofold.core.account import FIRST_FACTOR, RECOVERY, Account, Authenticator, begin_epoch, without_expired
from twofold.core.attempt import Call
from twofold.core.clock import rfc3339
from twofold.core.decision import Decision, Done
from twofold.core.throttle import Lane
from twofold.errors import Refused


class Grace(msgspec.Struct, frozen=True):
    """What was there when the reset was begun counts until `stops_at`; what came later was set up anew already. In
    microseconds."""

    begun_at: int
    stops_at: int


#: Whether a second factor is one of those that are suspected; recovery codes follow the last of them.
IsSuspected = Callable[[Authenticator], bool]


def begin_reset(
    account: Account | None, call: Call, *, grace: Grace, is_suspected: IsSuspected, reason: str = ""
) -> Decision:
    """What is suspected stops at the end of the grace, and a new epoch begins. Nothing happens where nothing changes:
    to whoever has nothing of it, or was reset before, to an end that is not later. Raises `Refused("not_found")`."""
    if account is None:
        raise Refused("not_found", "there is no account of that id")
    account = without_expired(account, call.now)
    if not is_affected(account, grace, is_suspected):
        return Decision(Done())
    stopping = find_stopping(account, grace, is_suspected)
    marked = tuple(
        msgspec.structs.replace(a, stops_at=grace.stops_at) if a in stopping else a for a in account.authenticators
    )
    account = begin_epoch(msgspec.structs.replace(account, authenticators=marked), call.seed)
    account = without_expired(account, call.now)
    if not account.is_bound:
        account = msgspec.structs.replace(account, lane=Lane())
    stops = rfc3339(grace.stops_at) if grace.stops_at > call.now else None
    event = call.event(
        "account.reset_begun", authenticators=[a.id for a in stopping], stops_at=stops, reason=reason or None
    )
    message = call.message("account.reset_begun", {"stops_at": stops, "by": call.by, "ip": call.context.ip})
    return Decision(Done(), account, (event,), (message,))


def is_affected(account: Account, grace: Grace, is_suspected: IsSuspected) -> bool:
    """Whether the reset changes anything; an enrollment that is open and suspected counts, for it ends."""
    pending = (a for a in account.authenticators if a.state == "pending" and is_suspected(a))
    return any(_is_to_stop(a, grace) for a in pending) or bool(find_stopping(account, grace, is_suspected))


def find_stopping(account: Account, grace: Grace, is_suspected: IsSuspected) -> list[Authenticator]:
    """What is to stop at the end of the grace and does not stop by then already."""
    factors = [a for a in account.authenticators if a.state != "pending" and a.factor not in (FIRST_FACTOR, RECOVERY)]
    stopping = [a for a in factors if is_suspected(a) and _is_to_stop(a, grace)]
    if not stopping or any(a not in stopping and not a.stops_at for a in factors):
        return stopping
    return stopping + [a for a in account.authenticators if a.factor == RECOVERY and _is_to_stop(a, grace)]


def needs_link(account: Account) -> bool:
    """Whether nothing is left at the end of the grace with which the person could sign in on Twofold's own pages."""
    return all(a.state == "pending" or a.factor == RECOVERY or a.stops_at for a in account.authenticators)


def remove_stopped(account: Account | None, call: Call) -> Decision:
    """The document without what stopped, as every decision takes it anyway: lists and counts go by the document."""
    if account is None:
        raise Refused("not_found", "there is no account of that id")
    return Decision(Done(), without_expired(account, call.now))


def _is_to_stop(authenticator: Authenticator, grace: Grace) -> bool:
    is_later = not authenticator.stops_at or authenticator.stops_at > grace.stops_at
    return authenticator.created_at <= grace.begun_at and is_later
