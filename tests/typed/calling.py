"""A Twofold server that is called: every public name of `twofold.client`, as a type checker reads it."""

from datetime import datetime
from typing import Any, assert_never, assert_type
from uuid import UUID

import httpx

from twofold.client import (
    Account,
    AccountPage,
    ApiError,
    AsyncClient,
    Authenticator,
    Challenge,
    Client,
    Confirmed,
    HostedPrompt,
    NoAnswer,
    Passkey,
    PendingEnrollment,
    PendingPasskey,
    Redeemed,
    Rejected,
    Renewed,
    Throttle,
    Throttled,
    Verified,
)


def tell(outcome: Verified | Rejected | Throttled) -> str:
    """Every ending of an answer, and no other."""
    match outcome:
        case Verified() as ok:
            assert_type((ok.browser, ok.account_id), tuple[str | None, str | None])
            assert_type(ok.reenroll_by, datetime | None)
            return f"{ok.factor} {ok.authenticator_id} {ok.receipt} {ok.is_user_verified} {ok.is_enrolled}"
        case Rejected(reason, retry_after_s):
            assert_type(retry_after_s, int | None)
            return reason
        case Throttled(retry_after_s, ways):
            assert_type(retry_after_s, int)
            return " ".join(ways)
        case _:
            assert_never(outcome)


def show(account: Account) -> list[str]:
    """What is told of an account."""
    assert_type(account.throttle, Throttle)
    assert_type(account.authenticators, tuple[Authenticator, ...])
    lines = [account.display_name, account.state, account.throttle.state]
    for authenticator in account.authenticators:
        passkey = authenticator.passkey
        assert_type(passkey, Passkey | None)
        if passkey is not None:
            assert_type((passkey.aaguid, passkey.is_synced), tuple[UUID, bool])
        lines.append(f"{authenticator.label} {authenticator.created_at:%Y}")
    return lines


def wait(key: str) -> None:
    """The calls for code that waits."""
    with Client("https://2fa.example.com", key, timeout_s=5, http=httpx.Client()) as twofold:
        show(twofold.put_account("alice", display_name="Alice", groups=["staff"]))
        assert_type(twofold.account("alice"), Account)
        page = twofold.accounts(factor="totp")
        assert_type(page, AccountPage)
        assert_type(page.next_cursor, str | None)
        pending = twofold.enroll("alice", "totp", label="phone")
        assert_type(pending, PendingEnrollment)
        confirmed = twofold.confirm("alice", pending.id, code="492039")
        assert_type(confirmed, Confirmed | Rejected | Throttled)
        try:
            outcome = twofold.verify("alice", code="287082", browser=None, ip="203.0.113.7", purpose="pay")
        except ApiError as error:
            print(error.status, error.code, error.field, error.retry_after_s, error.ways)
            return
        except NoAnswer as error:
            print(error)
            return
        tell(outcome)
        assert_type(twofold.redeem("…", purpose="pay"), Redeemed)
        assert_type(twofold.renew_recovery_codes("alice"), Renewed)
        assert_type(twofold.rename("alice", pending.id, "old phone"), Authenticator)
        twofold.revoke("alice", pending.id, step_up="…")
        twofold.record_event("alice", "compromised")
        twofold.import_authenticator("alice", "hotp", "GEZDGNBVGY3TQOJQ", counter=7)
        passkey = twofold.enroll_passkey("alice")
        assert_type(passkey, PendingPasskey)
        challenge = twofold.challenge("alice", user_verification="required")
        assert_type(challenge, Challenge)
        assert_type(challenge.public_key, dict[str, Any])
        tell(twofold.answer(challenge.id, "{}"))
        prompt = twofold.open_prompt("alice", return_to="https://shop.example/back", binding="…", enroll=True)
        assert_type(prompt, HostedPrompt)
        tell(twofold.redeem_prompt("…", code_verifier=prompt.code_verifier, binding="…"))
        twofold.delete_account("alice")
        twofold.ready()
        assert_type(twofold.metrics(), str)


async def run(key: str) -> None:
    """The same to be awaited."""
    async with AsyncClient("https://2fa.example.com", key) as twofold:
        assert_type(await twofold.account("alice"), Account)
        outcome = await twofold.verify("alice", code="287082")
        assert_type(outcome, Verified | Rejected | Throttled)
        assert_type(await twofold.open_prompt("alice", return_to="…", binding="…"), HostedPrompt)
        tell(outcome)
