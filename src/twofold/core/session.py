"""A session: what a browser holds after a step of signing in, and how far it reaches.

A session is valid in its account's epoch alone, so whatever voids an epoch leaves none behind. Its token is new at
every step; the id stays, and names the sign-in in lists and in the audit log. The token itself is never stored.

    password right        +---------+  second factor right    +------+
    ----------------------| pending |------------------------>|      |  each fresh second factor: a new token
      has a second factor +---------+                         | full |
    ----------------------+-----------+  first one confirmed  |      |  idle, absolute limit, sign-out, new epoch
      has none, or a link | enrolling |---------------------->|      |------------------------------------------> gone
                          +-----------+                       +------+
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from twofold.core.account import Account, epoch_claim
from twofold.core.clock import CLOCK_SKEW_S, MICROS_PER_S

PENDING_TTL_S = 600
ENROLLING_TTL_S = 1800
SESSION_IDLE_TTL_S = 3600
SESSION_TTL_S = 86_400
STRICT_SESSION_IDLE_TTL_S = 900
STRICT_SESSION_TTL_S = 43_200
ENROLLMENT_GRANT_TTL_S = 900
#: Of one account and level; the oldest makes room, those of known browsers last.
SESSIONS_MAX = 100
#: How much later than the last look a new look is written down.
SEEN_EVERY_S = 60

Level = Literal["pending", "enrolling", "full"]
#: Why a session counts no more: its time is over, nobody used it for long, or it was ended with its epoch.
Ending = Literal["expired", "idle", "ended"]


class Strength(msgspec.Struct, frozen=True, array_like=True):
    """What a right answer counts for, as receipts say it."""

    amr: tuple[str, ...] = ()
    acr: str = ""


class Session(msgspec.Struct, frozen=True, array_like=True):
    """One signed-in, or half signed-in, browser. Times in microseconds.

    `via` is the authenticator that proved the person last, at `proved_at`; both are empty before the second factor.
    `may_enroll_until`: an authenticator may be added until then without another proof. `next` is where to go when the
    sign-in is done. `is_by_link`: begun by a one-time link, which allows to enroll on an account that is bound.
    `is_known`: begun in a known browser of the account. `is_user_verified`: in it a passkey was shown that verifies its
    user. `bond` ties it to what somebody else vouched for, such as a sign-in of the application that shows these pages:
    it counts together with that alone, and one without a bond on Twofold's own pages alone. `granted` is what the proof
    at `proved_at` was for, where it was for one act, and `strength` what that proof counts for; `has_enrolled`: it was
    the first code of a new authenticator, or its passkey.
    """

    id: str
    account_id: str
    epoch: str
    level: Level
    begun_at: int
    seen_at: int
    expires_at: int
    idle_ttl_s: int
    browser: str = ""
    ip: str = ""
    next: str = ""
    via: str = ""
    proved_at: int = 0
    may_enroll_until: int = 0
    is_by_link: bool = False
    is_known: bool = False
    is_user_verified: bool = False
    bond: str = ""
    granted: str = ""
    strength: Strength = Strength()
    has_enrolled: bool = False


class StoredSession(msgspec.Struct, frozen=True):
    """One row of the table `sessions`. `mac` covers the digest of the token and the document."""

    token_digest: bytes
    id: str
    account_id: str
    level: str
    begun_at: int
    expires_at: int
    document: bytes
    mac: bytes


def digest_token(token: str) -> bytes:
    """What a session is found by. A token has 256 bits, so a plain digest gives nothing away."""
    return hashlib.sha256(b"twofold/1|session|" + token.encode("utf-8", "replace")).digest()


def find_ending(session: Session, account: Account | None, now: int) -> Ending | None:
    """Why the session counts no more; None while it does."""
    if account is None or account.is_disabled or session.epoch != epoch_claim(account):
        return "ended"
    # Another node may have begun it a moment ago, by a clock that is a little ahead of ours.
    if not session.begun_at - CLOCK_SKEW_S * MICROS_PER_S <= now < session.expires_at:
        return "expired"
    return "idle" if now - session.seen_at >= session.idle_ttl_s * MICROS_PER_S else None
