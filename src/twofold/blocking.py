"""The same verbs for Flask, Django and scripts: one event loop in one background thread, every call waits for it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, Self, TypeVar

from twofold.bootstrap import open_embedded
from twofold.core.attempt import Context
from twofold.core.decision import Confirmed, Redeemed, Rejected, Renewed, Throttled, Verified
from twofold.core.management import AccountEvent
from twofold.credentials import OtpFactor
from twofold.directory import AccountView
from twofold.engine import Caller
from twofold.factors.webauthn_json import RelyingParty, UserVerification
from twofold.passkeys import Challenge, Json, Passkeys, PendingPasskey
from twofold.portal import Kept
from twofold.verifier import PendingEnrollment, Verifier

T = TypeVar("T")


class Wait(Protocol):
    """Runs a coroutine elsewhere, and waits for it."""

    def __call__(self, coroutine: Coroutine[Any, Any, T], /) -> T: ...


class BlockingVerifier:
    """A `Verifier` for code without an event loop. Safe to call from many threads; end it with `close`."""

    def __init__(self, find: Callable[[], Verifier], wait: Wait, close: Callable[[], None]) -> None:
        self._find = find
        self._wait = wait
        self._close = close
        self.passkeys: BlockingPasskeys = BlockingPasskeys(lambda: find().passkeys, wait)

    @classmethod
    def open(cls, database_url: str = "sqlite:///twofold.db", *, issuer: str = "Twofold") -> Self:
        """A verifier over a database of its own; the key file is made beside the database on first use.
        `Verifier.open` says what holds over `postgresql://…`. A server may fork its workers with it.

        Raises `ConfigurationError` when the database or its key cannot be opened.
        """

        async def begin() -> Verifier:
            return (await open_embedded(database_url, issuer=issuer)).verifier

        kept = Kept(begin, Verifier.close)
        kept.open()
        return cls(lambda: kept.value, kept.wait, kept.close)

    @property
    def _verifier(self) -> Verifier:
        return self._find()

    def close(self) -> None:
        """Finish what is under way and let the database go. Closing twice does nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def enroll(
        self,
        account_id: str,
        factor: OtpFactor = "totp",
        *,
        label: str = "",
        replaces: str | None = None,
        step_up: str | None = None,
    ) -> PendingEnrollment:
        """See `Verifier.enroll`."""
        return self._wait(self._verifier.enroll(account_id, factor, label=label, replaces=replaces, step_up=step_up))

    def confirm(
        self, account_id: str, authenticator_id: str, *, code: str, step_up: str | None = None
    ) -> Confirmed | Rejected | Throttled:
        """See `Verifier.confirm`."""
        return self._wait(self._verifier.confirm(account_id, authenticator_id, code=code, step_up=step_up))

    def verify(
        self,
        account_id: str,
        *,
        code: str | None = None,
        codes: Sequence[str] | None = None,
        factor: str | None = None,
        authenticator_id: str | None = None,
        purpose: str | None = None,
        binding: str | None = None,
        browser: str | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
    ) -> Verified | Rejected | Throttled:
        """See `Verifier.verify`."""
        return self._wait(
            self._verifier.verify(
                account_id,
                code=code,
                codes=codes,
                factor=factor,
                authenticator_id=authenticator_id,
                purpose=purpose,
                binding=binding,
                browser=browser,
                ip=ip,
                user_agent=user_agent,
            )
        )

    def redeem(self, receipt: str, *, purpose: str | None = None, binding: str | None = None) -> Redeemed:
        """See `Verifier.redeem`."""
        return self._wait(self._verifier.redeem(receipt, purpose=purpose, binding=binding))

    def renew_recovery_codes(self, account_id: str, *, step_up: str | None = None) -> Renewed:
        """See `Verifier.renew_recovery_codes`."""
        return self._wait(self._verifier.renew_recovery_codes(account_id, step_up=step_up))

    def revoke(self, account_id: str, authenticator_id: str, *, step_up: str | None = None) -> None:
        """See `Verifier.revoke`."""
        self._wait(self._verifier.revoke(account_id, authenticator_id, step_up=step_up))

    def rename(self, account_id: str, authenticator_id: str, label: str) -> None:
        """See `Verifier.rename`."""
        self._wait(self._verifier.rename(account_id, authenticator_id, label))

    def account(self, account_id: str) -> AccountView:
        """See `Directory.get`."""
        return self._wait(self._verifier.accounts.get(account_id))

    def record_event(self, account_id: str, event: AccountEvent) -> None:
        """See `Directory.record_event`."""
        self._wait(self._verifier.accounts.record_event(account_id, event))

    def delete_account(self, account_id: str) -> None:
        """See `Directory.delete`."""
        self._wait(self._verifier.accounts.delete(account_id))


class BlockingPasskeys:
    """`Passkeys` for code without an event loop: `BlockingVerifier.passkeys`."""

    def __init__(self, find: Callable[[], Passkeys], wait: Wait) -> None:
        self._find = find
        self._wait = wait

    @property
    def _passkeys(self) -> Passkeys:
        return self._find()

    def enroll(
        self,
        account_id: str,
        rp: RelyingParty,
        *,
        label: str = "",
        replaces: str | None = None,
        step_up: str | None = None,
    ) -> PendingPasskey:
        """See `Passkeys.enroll`."""
        return self._wait(self._passkeys.enroll(account_id, rp, label=label, replaces=replaces, step_up=step_up))

    def confirm(
        self,
        account_id: str,
        authenticator_id: str,
        credential: str | Json,
        rp: RelyingParty,
        *,
        label: str | None = None,
        step_up: str | None = None,
    ) -> Confirmed | Rejected | Throttled:
        """See `Passkeys.confirm`."""
        return self._wait(
            self._passkeys.confirm(account_id, authenticator_id, credential, rp, label=label, step_up=step_up)
        )

    def challenge(
        self,
        account_id: str,
        rp: RelyingParty,
        *,
        purpose: str | None = None,
        binding: str | None = None,
        user_verification: UserVerification = "preferred",
    ) -> Challenge:
        """See `Passkeys.challenge`."""
        return self._wait(
            self._passkeys.challenge(
                account_id, rp, purpose=purpose, binding=binding, user_verification=user_verification
            )
        )

    def answer(
        self,
        challenge: str,
        credential: str | Json,
        rp: RelyingParty,
        *,
        binding: str | None = None,
        browser: str | None = None,
        ip: str | None = None,
        user_agent: str | None = None,
    ) -> Verified | Rejected | Throttled:
        """See `Passkeys.answer`; `browser`, `ip` and `user_agent` as in `Verifier.verify`."""
        caller = Caller(context=Context(ip, user_agent, browser))
        return self._wait(self._passkeys.answer(challenge, credential, rp, binding=binding, caller=caller))
