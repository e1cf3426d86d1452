"""What happens to an account as a whole: added, changed, disabled, compromised, its password set, deleted, a receipt
redeemed, a code tested."""

from __future__ import annotations

from typing import Literal

import msgspec

from twofold.core.account import (
    AUTHENTICATORS_MAX,
    FIRST_FACTOR,
    Account,
    Authenticator,
    begin_epoch,
    new_account,
    without_expired,
)
from twofold.core.attempt import Call
from twofold.core.audit import EventKind
from twofold.core.decision import ContactIndex, Decision, Done, ReceiptClaims, Redeemed
from twofold.core.enrollment import NewCredential
from twofold.core.step_up import is_receipt_good, spend_receipt
from twofold.core.throttle import Lane
from twofold.core.verification import check_usable
from twofold.errors import Refused

PROFILE_FIELD = "accounts.profile"
AccountEvent = Literal["password_changed", "signed_out_everywhere", "compromised", "disabled", "enabled"]

_EVENT_KINDS: dict[AccountEvent, EventKind] = {
    "password_changed": "password.changed",
    "signed_out_everywhere": "sessions.ended",
    "compromised": "account.compromised",
    "disabled": "account.disabled",
    "enabled": "account.enabled",
}


class ProfileChange(msgspec.Struct, frozen=True):
    """A profile sealed outside the decision, and the keyed digests under which its addresses are found."""

    sealed_profile: bytes
    sealed_with: str
    contacts: tuple[tuple[str, bytes], ...] = ()


def put_account(
    account: Account | None,
    account_id: str,
    call: Call,
    *,
    profile: ProfileChange | None = None,
    groups: tuple[str, ...] | None = None,
) -> Decision:
    """Create the account, or change what is sent of it."""
    is_new = account is None
    if account is None:
        account = new_account(account_id, call.seed, call.now)
    if profile is not None:
        account = msgspec.structs.replace(account, sealed_profile=profile.sealed_profile)
    if groups is not None:
        account = msgspec.structs.replace(account, groups=groups)
    event = call.event("account.added" if is_new else "account.changed", groups=groups)
    told = () if is_new else (call.message("account.changed", {"ip": call.context.ip}),)
    return Decision(
        Done(is_new),
        account,
        (event,),
        (ContactIndex(profile.contacts), *told) if profile else (),
        (profile.sealed_with,) if profile else (),
    )


def record_event(account: Account | None, event: AccountEvent, call: Call) -> Decision:
    """What the application tells of the account. Each is a new epoch: whatever was in force before is void."""
    if account is None:
        raise Refused("not_found", "there is no account of that id")
    account = begin_epoch(without_expired(account, call.now), call.seed)
    if event == "password_changed":
        account = msgspec.structs.replace(account, lane=Lane())
    if event in ("disabled", "enabled"):
        account = msgspec.structs.replace(account, is_disabled=event == "disabled")
    message = call.message(_EVENT_KINDS[event], {"ip": call.context.ip})
    return Decision(Done(), account, (call.event(_EVENT_KINDS[event]),), (message,))


def delete_account(account: Account | None, call: Call) -> Decision:
    """The account's rows go; a tombstone keeps the audit chain unbroken."""
    if account is None:
        raise Refused("not_found", "there is no account of that id")
    return Decision(Done(), "deleted", (call.event("account.deleted"),))


def set_password(account: Account | None, fresh: NewCredential, call: Call) -> Decision:
    """A new password: a new epoch, and a full budget for new browsers."""
    account = without_expired(check_usable(account), call.now)
    kept = tuple(a for a in account.authenticators if a.factor != FIRST_FACTOR)
    if len(kept) >= AUTHENTICATORS_MAX:
        raise Refused("too_many", f"an account has at most {AUTHENTICATORS_MAX} authenticators")
    is_first = len(kept) == len(account.authenticators)
    added = Authenticator(fresh.authenticator_id, FIRST_FACTOR, "", "active", fresh.credential, call.now)
    account = begin_epoch(msgspec.structs.replace(account, authenticators=(*kept, added), lane=Lane()), call.seed)
    event = call.event("password.set" if is_first else "password.changed")
    return Decision(Done(), account, (event,), (call.message("password.changed", {}),) if not is_first else ())


def forget_browser(account: Account | None, browser_id: str, call: Call) -> Decision:
    """A known browser is unknown from now on. Raises `Refused("not_found")`."""
    account = without_expired(check_usable(account), call.now)
    kept = tuple(b for b in account.known_browsers if b.id != browser_id)
    if len(kept) == len(account.known_browsers):
        raise Refused("not_found", "this browser is not known here any more")
    account = msgspec.structs.replace(account, known_browsers=kept)
    return Decision(Done(), account, (call.event("browser.forgotten", browser=browser_id),))


def redeem_receipt(
    account: Account | None, claims: ReceiptClaims, call: Call, *, purpose: str | None, binding: str | None
) -> Decision:
    """Use a receipt up, once. Raises `Refused`: `receipt_mismatch` (nothing is consumed), `receipt_used`."""
    spent = None
    account = account and without_expired(account, call.now)
    if account is not None and claims.aud == call.application:
        # Before anything else: whoever repeats a call whose answer was lost is told that it was done.
        spent = spend_receipt(account, claims)
        if spent is None:
            raise Refused("receipt_used", "this receipt was used already")
    if account is None or spent is None or not is_receipt_good(account, claims, call):
        raise Refused("receipt_mismatch", "this receipt is not in force for this application and account")
    if (claims.purpose, claims.bnd) != (purpose, binding):
        raise Refused("receipt_mismatch", "this receipt was made for another purpose or binding")
    check_usable(account)
    return Decision(Redeemed(claims), spent, (call.event("receipt.redeemed", purpose=purpose),))
