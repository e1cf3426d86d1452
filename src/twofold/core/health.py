"""How safe an account is: what is weak about it, the most urgent first. The sentences for it are the pages' affair.

A finding is a fact about the account with a stable code; it judges nobody, and nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Literal

import msgspec

from twofold.core.account import FIRST_FACTOR, RECOVERY, Account
from twofold.core.clock import MICROS_PER_S

#: At so few recovery codes left it is time to make new ones.
CODES_LEFT_LOW = 3
#: For so long somebody may still be about to keep recovery codes that were made.
CODES_NEW_S = 900
#: Factors whose answer a page that looks like ours could ask for and pass on (NIST SP 800-63B-4 3.2.5).
PHISHABLE = frozenset({"totp", "hotp", "yubico_otp", "sms", "email"})

State = Literal["good", "fair", "weak"]
FindingCode = Literal[
    "no_second_factor",
    "disabled_authenticator",
    "stopping",
    "no_recovery_codes",
    "no_second_authenticator",
    "few_recovery_codes",
    "only_phishable",
    "no_passkey",
]


class Finding(msgspec.Struct, frozen=True):
    """Something weak. `left`: recovery codes; `authenticator_id` and `label`: the authenticator that it is about."""

    code: FindingCode
    left: int = 0
    authenticator_id: str = ""
    label: str = ""


class Health(msgspec.Struct, frozen=True):
    """`weak`: do something now, or the account is lost with one thing, or to somebody; `fair`: do something soon."""

    state: State
    findings: tuple[Finding, ...] = ()


def assess_health(
    account: Account, *, recovery_codes_left: int, useless: Container[str] = (), can_add_passkey: bool = False
) -> Health:
    """What is weak about an account, the most urgent first. `useless` are ids of authenticators that do not work where
    the person is; `can_add_passkey`: what stops phishing could be added there.

    That its codes can be phished is said and does not lower the state: the person may have no other way.
    """
    second = [
        a
        for a in account.authenticators
        if a.factor not in (FIRST_FACTOR, RECOVERY) and a.state != "pending" and a.id not in useless
    ]
    active = [a for a in second if a.state == "active"]
    weak = [Finding("disabled_authenticator", 0, a.id, a.label) for a in second if a.state == "disabled"]
    fair = [Finding("stopping")] if account.stops_at else []
    if not active:
        return Health("weak", (*weak, Finding("no_second_factor")))
    if not recovery_codes_left:
        # With another authenticator a lost phone is no lost account yet.
        (weak if len(active) == 1 else fair).append(Finding("no_recovery_codes"))
    if len(active) == 1:
        fair.append(Finding("no_second_authenticator"))
    if 0 < recovery_codes_left <= CODES_LEFT_LOW:
        fair.append(Finding("few_recovery_codes", recovery_codes_left))
    is_phishable = all(a.factor in PHISHABLE for a in active)
    good = [Finding("no_passkey" if can_add_passkey else "only_phishable")] if is_phishable else []
    return Health("weak" if weak else "fair" if fair else "good", (*weak, *fair, *good))


def has_new_codes(account: Account, now: int) -> bool:
    """Whether recovery codes were made within the last quarter of an hour before `now`, in microseconds."""
    made = (a.created_at for a in account.authenticators if a.factor == RECOVERY)
    return any(now - at < CODES_NEW_S * MICROS_PER_S for at in made)
