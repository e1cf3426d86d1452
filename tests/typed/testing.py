"""The tests of an application: every public name of `twofold.testing`, as a type checker reads it."""

from typing import assert_type

from twofold import BlockingVerifier
from twofold.testing import (
    LOCALHOST,
    Enrolled,
    FixedClock,
    Kit,
    NoCode,
    NotAllowed,
    Notice,
    Outbox,
    SoftwareAuthenticator,
    open_kit,
)


def use(kit: Kit) -> None:
    """What a test has at hand."""
    assert_type(kit.clock, FixedClock)
    assert_type(kit.outbox, Outbox)
    assert_type(kit.verifier, BlockingVerifier)
    enrolled = kit.enroll("alice", "totp")
    assert_type(enrolled, Enrolled)
    assert_type(enrolled.recovery_codes, tuple[str, ...])
    try:
        assert_type(kit.current_code("alice"), str)
    except NoCode:
        kit.clock.advance(30)
    try:
        kit.enroll_passkey("alice", SoftwareAuthenticator(), LOCALHOST)
    except NotAllowed:
        return
    assert_type(kit.outbox.to("alice"), list[Notice])


with open_kit(at_s=1_800_000_000) as opened:
    use(opened)
