"""For the tests of applications that use Twofold: a clock that they set, codes without a phone, passkeys without a
browser, and what would have been sent.

    from twofold.testing import open_kit

    with open_kit() as kit:
        kit.enroll("alice")
        assert twofold.verify("alice", code=kit.current_code("alice"))

`twofold.testing.pytest_plugin` has it all as fixtures. Nothing here runs where PUBLIC_URL is a public address.
"""

from __future__ import annotations

from twofold.testing.codes import NoCode
from twofold.testing.fixed_clock import FixedClock
from twofold.testing.kit import LOCALHOST, Enrolled, Kit, open_kit
from twofold.testing.outbox import Notice, Outbox
from twofold.testing.software_authenticator import NotAllowed, SoftwareAuthenticator

__all__ = [
    "LOCALHOST",
    "Enrolled",
    "FixedClock",
    "Kit",
    "NoCode",
    "NotAllowed",
    "Notice",
    "Outbox",
    "SoftwareAuthenticator",
    "open_kit",
]
