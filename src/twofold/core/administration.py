"""What an administrator, or whoever has the shell, does to another person's account: invite, unlock, reset, a role.

None of it ever shows or sets a second factor: every way back in ends in enrolling a new one. A one-time link is kept in
the account itself, as a digest, in its epoch; a newer one takes its place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import Counter
from collections.abc import Callable, Iterable

import msgspec

from twofold.core.account import (
    FIRST_FACTOR,
    Account,
    LinkPurpose,
    OneTimeLink,
    Role,
    begin_epoch,
    new_account,
    without_expired,
)
from twofold.core.activity import Activity
from twofold.core.attempt import Call
from twofold.core.audit import Event
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Decision, Done, EndSessions
from twofold.core.enrollment import NewCredential
from twofold.core.entropy import derive_token
from twofold.core.management import set_password
from twofold.core.sign_in import begin_session
from twofold.core.throttle import Lane
from twofold.core.verification import check_usable
from twofold.errors import InvalidInput, Refused

Decide = Callable[[Account | None, Call], Decision]

LINK_TTL_S = 900
INVITATION_TTL_S = 3 * 86_400

#: What an administrator should look into, in the chain of the deployment itself.
ALARMS = frozenset({"account.tampered", "sign_in.sprayed", "network.blocked"})
ALARMS_OF_A_KIND = 4


def check_administrator(account: Account | None, call: Call) -> Decision:
    """Nothing is done but to see, in the decision that judges a fresh code, that whoever acts on others still may."""
    if account is None or account.role != "administrator":
        raise Refused("forbidden", "this account is not an administrator's any more")
    return Decision(Done())


def invite(account: Account | None, account_id: str, role: Role, call: Call) -> Decision:
    """A new person, and the link with which she chooses a password and enrolls."""
    if account is not None:
        raise Refused("conflict", "there is a person of that name already")
    account = msgspec.structs.replace(new_account(account_id, call.seed, call.now), role=role)
    account, token, made = _make_link(account, "invitation", call)
    return Decision(Done(True, link=token), account, (call.event("account.added", role=role or None), made))


def invite_again(account: Account | None, call: Call) -> Decision:
    """Another link for somebody who never came; the one before is void."""
    account = without_expired(check_usable(account), call.now)
    if account.is_bound or _has_password(account):
        raise Refused("conflict", "this person has a way in already: a reset takes it away")
    account, token, made = _make_link(account, "invitation", call)
    return Decision(Done(link=token), account, (made,))


def unlock(account: Account | None, call: Call, *, has_link: bool) -> Decision:
    """A full budget for new browsers, no delays, and what too many failures disabled is active again."""
    account = without_expired(check_usable(account), call.now)
    enabled = tuple(
        msgspec.structs.replace(a, state="active", failures=0) if a.state == "disabled" else a
        for a in account.authenticators
    )
    account = msgspec.structs.replace(account, authenticators=enabled, lane=Lane())
    return _hand_over(account, call.event("account.unlocked"), call, "unlock" if has_link else None)


def reset(account: Account | None, call: Call, *, has_link: bool, reason: str = "") -> Decision:
    """Every authenticator goes but the password, and everything in force with them: the person enrolls anew. Without
    a link that takes a password; who has none is invited again."""
    account = without_expired(check_usable(account), call.now)
    kept = tuple(a for a in account.authenticators if a.factor == FIRST_FACTOR)
    account = begin_epoch(msgspec.structs.replace(account, authenticators=kept, lane=Lane()), call.seed)
    link: LinkPurpose | None = "reset" if has_link else None if kept else "invitation"
    return _hand_over(account, call.event("account.reset", reason=reason or None), call, link)


def set_role(account: Account | None, role: Role, call: Call) -> Decision:
    """What the person may do here from now on; sessions of the role before end."""
    account = without_expired(check_usable(account), call.now)
    if account.role == role:
        return Decision(Done())
    account = msgspec.structs.replace(account, role=role)
    message = call.message("account.role_changed", {"role": role, "by": call.by})
    return Decision(Done(), account, (call.event("account.role_changed", role=role),), (message, EndSessions()))


def make_first_administrator(account: Account | None, account_id: str, fresh: NewCredential, call: Call) -> Decision:
    """Whoever holds the set-up link becomes the administrator, under a new password, and is led to enroll."""
    is_new = account is None
    account = account or new_account(account_id, call.seed, call.now)
    if account.is_bound:
        raise Refused("conflict", "there is an account of that name with a second factor already: choose another name")
    decision = set_password(msgspec.structs.replace(account, role="administrator"), fresh, call)
    changed = _changed(decision)
    events = (call.event("account.added", role="administrator"),) if is_new else ()
    decision = msgspec.structs.replace(decision, events=(*events, *decision.events))
    return begin_session(decision, Done(is_new), changed, call, is_by_link=True)


def use_link(account: Account | None, token: str, fresh: NewCredential | None, call: Call) -> Decision:
    """The link is used up, the password is set if one was chosen, and a session begins that leads to enrollment."""
    link = find_link(account, token, call.now)
    account = without_expired(check_usable(account), call.now)
    used = call.event("link.used", purpose=link.purpose)
    if fresh is not None:
        decision = set_password(account, fresh, call)
        account, events = _changed(decision), (used, *decision.events)
    elif _has_password(account):
        account, events = msgspec.structs.replace(account, link=None), (used,)
    else:
        raise InvalidInput("new_password", "a password: this account has none yet")
    return begin_session(Decision(Done(), account, events), Done(), account, call, is_by_link=True)


def find_link(account: Account | None, token: str, now: int) -> OneTimeLink:
    """The open link of this token; raises `Refused("not_found")` for any other, and late ones."""
    link = account.link if account is not None else None
    if link is None or not hmac.compare_digest(link.digest, _digest(token)) or now >= link.expires_at:
        raise Refused("not_found", "this link was used already, is too old, or a newer one was made")
    return link


def read_link_owner(token: str) -> str | None:
    """The account that a token names; None for what cannot be one. It proves nothing yet."""
    owner, _, secret = token.partition(".")
    try:
        return base64.b64decode(owner + "=" * (-len(owner) % 4), b"-_", validate=True).decode() if secret else None
    except (binascii.Error, ValueError):
        return None


def pick_alarms(newest_first: Iterable[Activity], *, since: int) -> list[Activity]:
    """The alarms among the deployment's events; a few of each kind, so that no kind buries the others. A network that
    an administrator refused is none."""
    picked: list[Activity] = []
    counted: Counter[str] = Counter()
    for activity in newest_first:
        if activity.kind not in ALARMS or activity.at < since or activity.text("by"):
            continue
        counted[activity.kind] += 1
        if counted[activity.kind] <= ALARMS_OF_A_KIND:
            picked.append(activity)
    return picked


def _has_password(account: Account) -> bool:
    return any(a.factor == FIRST_FACTOR for a in account.authenticators)


def _hand_over(account: Account, event: Event, call: Call, link: LinkPurpose | None) -> Decision:
    message = call.message(event.kind, {"by": call.by, "ip": call.context.ip})
    if link is None:
        return Decision(Done(), account, (event,), (message,))
    account, token, made = _make_link(account, link, call)
    return Decision(Done(link=token), account, (event, made), (message,))


def _make_link(account: Account, purpose: LinkPurpose, call: Call) -> tuple[Account, str, Event]:
    owner = base64.urlsafe_b64encode(account.id.encode()).rstrip(b"=").decode()
    token = f"{owner}.{derive_token(call.seed, 'link')}"
    ttl_s = INVITATION_TTL_S if purpose == "invitation" else LINK_TTL_S
    link = OneTimeLink(_digest(token), purpose, call.now + ttl_s * MICROS_PER_S)
    return msgspec.structs.replace(account, link=link), token, call.event("link.made", purpose=purpose)


def _digest(token: str) -> bytes:
    # 256 random bits are in it, so a plain digest gives nothing away.
    return hashlib.sha256(b"twofold/1|link|" + token.encode("utf-8", "replace")).digest()


def _changed(decision: Decision) -> Account:
    assert isinstance(decision.account, Account)  # noqa: S101 - `set_password` always writes
    return decision.account
