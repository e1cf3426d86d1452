"""A second factor inside the application's own process: every public name of `twofold`, as a type checker reads it."""

from collections.abc import Mapping
from typing import Any, assert_never, assert_type

from twofold import (
    BlockingVerifier,
    Busy,
    Caller,
    Challenge,
    ConfigurationError,
    Confirmed,
    Context,
    InvalidInput,
    PendingEnrollment,
    PendingPasskey,
    Redeemed,
    Refused,
    Rejected,
    RelyingParty,
    Renewed,
    Throttled,
    TwofoldError,
    Unavailable,
    Verified,
    Verifier,
)

HERE = RelyingParty("shop.example", ("https://shop.example",))


def tell(outcome: Verified | Rejected | Throttled) -> str:
    """Every ending of an answer, and no other."""
    match outcome:
        case Verified(factor, authenticator_id) as ok:
            assert_type(ok.browser, str | None)
            assert_type(ok.is_user_verified, bool)
            return f"{factor} {authenticator_id}"
        case Rejected(reason, retry_after_s):
            assert_type(retry_after_s, int | None)
            return reason
        case Throttled(retry_after_s, ways):
            assert_type(retry_after_s, int)
            return " ".join(ways)
        case _:
            assert_never(outcome)


def explain(error: TwofoldError) -> str:
    """Every exception that an application tells from the others."""
    match error:
        case Refused():
            return f"{error.code}: {error.detail}"
        case InvalidInput():
            return f"{error.field}: {error.expected}"
        case Busy():
            return str(error.retry_after_s + 1)
        case Unavailable() | ConfigurationError():
            return str(error)
        case _:
            return "?"


def wait() -> None:
    """The verbs for code that waits."""
    with BlockingVerifier.open("sqlite:///twofold.db", issuer="Acme") as twofold:
        pending = twofold.enroll("alice", "totp", label="phone")
        assert_type(pending, PendingEnrollment)
        assert_type((pending.secret, pending.uri, pending.qr_svg, pending.qr_png), tuple[str, str, str, str])
        confirmed = twofold.confirm("alice", pending.id, code="492039")
        if isinstance(confirmed, Confirmed):
            assert_type(confirmed.recovery_codes, tuple[str, ...])
        outcome = twofold.verify("alice", code="287082", browser=None, ip="203.0.113.7", purpose="pay")
        tell(outcome)
        if isinstance(outcome, Verified) and outcome.receipt is not None:
            assert_type(twofold.redeem(outcome.receipt, purpose="pay"), Redeemed)
        assert_type(twofold.renew_recovery_codes("alice", step_up="…"), Renewed)
        twofold.rename("alice", pending.id, "old phone")
        twofold.revoke("alice", pending.id)
        assert_type(twofold.account("alice").recovery_codes_left, int)
        twofold.record_event("alice", "password_changed")
        twofold.delete_account("alice")
        passkey = twofold.passkeys.enroll("alice", HERE)
        assert_type(passkey, PendingPasskey)
        assert_type(passkey.public_key, Mapping[str, Any])
        twofold.passkeys.confirm("alice", passkey.id, "{}", HERE)
        challenge = twofold.passkeys.challenge("alice", HERE, user_verification="required")
        assert_type(challenge, Challenge)
        tell(twofold.passkeys.answer(challenge.id, {"id": "…"}, HERE, ip="203.0.113.7"))


async def run() -> None:
    """The same to be awaited."""
    verifier = await Verifier.open("sqlite:///twofold.db", issuer="Acme")
    pending = await verifier.enroll("alice")
    await verifier.confirm("alice", pending.id, code="492039")
    tell(await verifier.verify("alice", codes=["1", "2", "3"]))
    caller = Caller(context=Context("203.0.113.7", "Firefox", None))
    challenge = await verifier.passkeys.challenge("alice", HERE)
    tell(await verifier.passkeys.answer(challenge.id, "{}", HERE, caller=caller))
    await verifier.close()
