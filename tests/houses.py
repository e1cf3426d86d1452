"""A deployment in which people register passkeys and sign in with them, through `Verifier.passkeys`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from tests.deployments import open_for_test, open_in_memory
from tests.kit import SetClock
from tests.lying_authenticator import LyingAuthenticator

from twofold.bootstrap import Deployment
from twofold.core.account import Account
from twofold.core.decision import Confirmed, Outcome, Rejected
from twofold.engine import Caller
from twofold.factors.webauthn_json import RelyingParty
from twofold.passkeys import Challenge, Passkeys, PendingPasskey

ORIGIN = "https://example.com"
EXAMPLE = RelyingParty("example.com", (ORIGIN,))
ELSEWHERE = RelyingParty("example.org", ("https://example.org",))
ADMIN = Caller(is_admin=True)


def a_passkey(**options: Any) -> LyingAuthenticator:
    return LyingAuthenticator(**{"algorithm": -7, **options})


@dataclass
class House:
    """A deployment, and how people register and sign in there."""

    deployment: Deployment
    clock: SetClock

    @property
    def passkeys(self) -> Passkeys:
        return self.deployment.verifier.passkeys

    async def account(self, account_id: str = "alice") -> Account:
        account = await self.deployment.store.load(account_id)
        assert account is not None
        return account

    async def kinds(self, account_id: str = "alice") -> list[str]:
        return [event.kind for event in await self.deployment.verifier.accounts.events(account_id)]

    async def last_event(self, account_id: str = "alice") -> dict[str, Any]:
        event = (await self.deployment.verifier.accounts.events(account_id))[-1]
        assert event.payload is not None
        return {"kind": event.kind, **msgspec.json.decode(event.payload)}

    async def begin(self, account_id: str = "alice", rp: RelyingParty = EXAMPLE, **options: Any) -> PendingPasskey:
        return await self.passkeys.enroll(account_id, rp, **options)

    async def register(
        self,
        authenticator: LyingAuthenticator,
        account_id: str = "alice",
        rp: RelyingParty = EXAMPLE,
        **said: Any,
    ) -> Outcome:
        """Enroll and confirm; an account that has a second factor is managed as an administrator does."""
        pending = await self.begin(account_id, rp, caller=ADMIN)
        response = authenticator.register(dict(pending.public_key), rp.origins[0], **said)
        return await self.passkeys.confirm(account_id, pending.id, response, rp, caller=ADMIN)

    async def enrolled(self, account_id: str = "alice", **options: Any) -> LyingAuthenticator:
        """An authenticator that was registered; the account has no other."""
        authenticator = a_passkey(**options)
        assert isinstance(await self.register(authenticator, account_id), Confirmed)
        return authenticator

    async def ask(self, account_id: str = "alice", rp: RelyingParty = EXAMPLE, **options: Any) -> Challenge:
        return await self.passkeys.challenge(account_id, rp, **options)

    async def sign_in(self, authenticator: LyingAuthenticator, account_id: str = "alice", **said: Any) -> Outcome:
        asked = await self.ask(account_id)
        return await self.passkeys.answer(
            asked.id, authenticator.answer(dict(asked.public_key), ORIGIN, **said), EXAMPLE
        )

    async def refuses(self, attempt: Any, account_id: str = "alice") -> str:
        """Why; the account, what it has spent and its sessions are as they were."""
        before, sessions = await self.account(account_id), await self.deployment.store.list_sessions(account_id)
        rejected = await attempt
        assert isinstance(rejected, Rejected), rejected
        after = await self.account(account_id)
        marks = {"head": before.head, "unguessable_failed_at": before.unguessable_failed_at}
        assert msgspec.structs.replace(after, **marks) == before
        assert await self.deployment.store.list_sessions(account_id) == sessions
        return rejected.reason


@asynccontextmanager
async def open_house(store: str, folder: Path) -> AsyncIterator[House]:
    """A house over the store `memory` or `sqlite`."""
    clock = SetClock()
    opened = await (open_in_memory(clock) if store == "memory" else open_for_test(folder, clock))
    try:
        yield House(opened, clock)
    finally:
        await opened.close()
