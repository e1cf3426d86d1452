"""Two-factor authentication that people can run, embed and prove.

    from twofold import BlockingVerifier, Rejected, Throttled, Verified

    twofold = BlockingVerifier.open("sqlite:///twofold.db", issuer="Acme")

`Verifier` is the same for asyncio. The names below are the public ones; everything else may change.
"""

from __future__ import annotations

from twofold.blocking import BlockingVerifier
from twofold.core.attempt import Context
from twofold.core.decision import Confirmed, Redeemed, Rejected, Renewed, Throttled, Verified
from twofold.engine import Caller
from twofold.errors import Busy, ConfigurationError, InvalidInput, Refused, TwofoldError, Unavailable
from twofold.factors.webauthn_json import RelyingParty
from twofold.passkeys import Challenge, PendingPasskey
from twofold.verifier import PendingEnrollment, Verifier

__version__ = "0.1.0"
__all__ = [
    "BlockingVerifier",
    "Busy",
    "Caller",
    "Challenge",
    "ConfigurationError",
    "Confirmed",
    "Context",
    "InvalidInput",
    "PendingEnrollment",
    "PendingPasskey",
    "Redeemed",
    "Refused",
    "Rejected",
    "RelyingParty",
    "Renewed",
    "Throttled",
    "TwofoldError",
    "Unavailable",
    "Verified",
    "Verifier",
]
