"""What administrators do, from the console or from a shell: find people, invite them, and help them back in.

No second factor is ever shown or set here. What each act does to an account is in `twofold.core.administration`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import cast

from twofold.core import administration
from twofold.core.account import DEPLOYMENT, Account, Role, new_deployment
from twofold.core.activity import Activity
from twofold.core.attempt import Call
from twofold.core.clock import in_seconds
from twofold.core.decision import Decision, Done
from twofold.core.idempotency import is_kept
from twofold.core.mass_reset import remove_stopped
from twofold.directory import AccountView, Directory
from twofold.engine import LOCAL, Caller, Engine
from twofold.errors import InvalidInput, Refused, TamperedRecord
from twofold.ports import AccountCounts, AccountPages, Claims
from twofold.sign_in import make_name

PAGE_PEOPLE = 50
REASON_MAX = 200
#: So far back alarms are looked for.
ALARMS_S = 30 * 86_400
ALARMS_LOOKED_AT = 200


class Administration:
    """The people of one deployment, as its administrators see them."""

    def __init__(self, engine: Engine, directory: Directory, pages: AccountPages, claims: Claims) -> None:
        self._engine = engine
        self._directory = directory
        self._pages = pages
        self._claims = claims

    async def count(self) -> AccountCounts:
        """How many people there are, by state, role and factor."""
        return await self._pages.count_accounts_by()

    async def has_administrator(self) -> bool:
        """Whether somebody administers this deployment already, with a second factor."""
        for row in await self._pages.page_accounts(role="administrator", state="active", limit=PAGE_PEOPLE):
            account = await self._engine.load(row.account_id)
            if account is not None and account.role == "administrator" and account.has_second_factor:
                return True
        return False

    async def complete_setup(self, account_id: str, link: bytes, *, caller: Caller) -> None:
        """The first administrator has a second factor. Whoever began with the same set-up link and did not come so far,
        by a mistyped name or with a stolen link, is none; nor is the later one of two who came so far at once, which
        raises `Refused`."""
        ours = Caller(caller.application, context=caller.context)
        if await self._claims.claim("setup", link, account_id, self._engine.clock.now()) != account_id:
            await self._engine.decide(
                account_id, lambda account, call: administration.set_role(account, "", call), ours
            )
            raise Refused("conflict", "somebody else completed the set-up with this link a moment ago")
        after = ""
        while rows := await self._pages.page_accounts(role="administrator", after=after, limit=PAGE_PEOPLE):
            after = rows[-1].account_id
            for row in rows:
                account = await self._engine.load(row.account_id)
                if account is not None and account.id != account_id and not account.is_bound:
                    with suppress(Refused):
                        await self.set_role(account.id, "", caller=caller)

        def decide(account: Account | None, call: Call) -> Decision:
            deployment = account or new_deployment(call.seed, call.now)
            return Decision(Done(), deployment, (call.event("setup.completed", account=account_id),))

        await self._engine.record(decide, ours)

    async def page(
        self,
        *,
        after: str = "",
        limit: int = PAGE_PEOPLE + 1,
        search: str | None = None,
        state: str | None = None,
        role: str | None = None,
        factor: str | None = None,
        stops_by: int | None = None,
    ) -> Sequence[AccountView]:
        """The next people in order of name: one more than a page if there are more."""
        rows = await self._pages.page_accounts(
            after=after, search=search, state=state, role=role, factor=factor, stops_by=stops_by, limit=limit
        )
        views = []
        for row in rows:
            with suppress(Refused):  # deleted a moment ago
                views.append(await self._directory.get(row.account_id))
        return views

    async def find(self, account_id: str) -> tuple[AccountView, Account | None]:
        """A person as she may be shown, and her account: None where that cannot be trusted. Raises `Refused`."""
        view = await self._directory.get(account_id)
        try:
            return view, await self._engine.load(account_id)
        except TamperedRecord:
            return view, None  # looking at it has raised the alarm

    async def latest_alarms(self) -> Sequence[Activity]:
        """What happened to the deployment in the last 30 days that should be looked into, newest first."""
        deployment = await self._engine.load(DEPLOYMENT)
        if deployment is None:
            return ()
        newest = await self._directory.latest_activity(deployment, count=ALARMS_LOOKED_AT)
        return administration.pick_alarms(newest, since=self._engine.clock.now() - in_seconds(ALARMS_S))

    async def prove(self, caller: Caller) -> Done:
        """Judge the fresh second factor that comes with the call, for an act on somebody else. Raises `NotProven`, and
        `Refused("forbidden")` for whoever is no administrator any more."""
        assert caller.session is not None  # noqa: S101 - whoever has no session cannot prove who he is
        administrator = caller.session.session.account_id
        return cast(Done, await self._engine.decide(administrator, administration.check_administrator, caller))

    async def is_taken(self, name: str, *, caller: Caller) -> bool:
        """Whether there is a person of that name, unless it is by this very call, which is repeated. Raises
        `InvalidInput`."""
        account = await self._engine.load(make_name(name))
        return account is not None and not is_kept(account, caller.idempotency, self._engine.clock.now())

    async def invite(self, name: str, *, role: Role = "", caller: Caller) -> tuple[str, str]:
        """A new person: the name as kept, and the token of the one-time link. Raises `Refused`, `InvalidInput`."""
        account_id = make_name(name)

        def decide(account: Account | None, call: Call) -> Decision:
            return administration.invite(account, account_id, role, call)

        return account_id, await self._link(account_id, decide, caller)

    async def invite_again(self, account_id: str, *, caller: Caller) -> str:
        """The token of another link for a person who never came; the one before is void. Raises `Refused`."""
        return await self._link(account_id, administration.invite_again, caller)

    async def unlock(self, account_id: str, *, caller: Caller) -> None:
        """A full budget for new browsers, no delays, nothing disabled by failures. Raises `Refused`."""
        await self._do(account_id, lambda account, call: administration.unlock(account, call, has_link=False), caller)

    async def reset(self, account_id: str, *, reason: str, caller: Caller) -> str | None:
        """No second factor any more: the next sign-in ends in enrolling one. Who has no password to sign in with is
        invited again by the token given back. Raises `Refused`, `InvalidInput`."""
        reason = check_reason(reason)

        def decide(account: Account | None, call: Call) -> Decision:
            return administration.reset(account, call, has_link=False, reason=reason)

        return (await self._do(account_id, decide, caller)).link

    async def unlock_with_link(self, account_id: str, *, caller: Caller = LOCAL) -> str:
        """The same with the token of a one-time link that signs in and ends in enrollment: for the shell only."""
        return await self._link(account_id, lambda a, call: administration.unlock(a, call, has_link=True), caller)

    async def reset_with_link(self, account_id: str, *, caller: Caller = LOCAL) -> str:
        """The same with the token of a one-time link that signs in and ends in enrollment: for the shell only."""
        return await self._link(account_id, lambda a, call: administration.reset(a, call, has_link=True), caller)

    async def set_role(self, account_id: str, role: Role, *, caller: Caller) -> None:
        """Make somebody an administrator, or not one any more; never oneself. Raises `Refused`."""
        await self._do(account_id, lambda account, call: administration.set_role(account, role, call), caller)

    async def sign_out(self, account_id: str, *, caller: Caller) -> None:
        """Every session of the person ends, with all else that her epoch holds. Raises `Refused`."""
        self._check_other(account_id, caller)
        await self._directory.record_event(account_id, "signed_out_everywhere", caller=caller)

    async def set_disabled(self, account_id: str, *, is_disabled: bool, caller: Caller) -> None:
        """Nobody signs in to a disabled account, and whoever is signed in is not any more. Raises `Refused`."""
        self._check_other(account_id, caller)
        await self._directory.record_event(account_id, "disabled" if is_disabled else "enabled", caller=caller)

    async def remove_stopped(self) -> None:
        """Write down what every decision goes by already: what stopped at the end of a grace is not there any more.
        Lists and counts go by what is written."""
        after = ""
        now = self._engine.clock.now()
        while rows := await self._pages.page_accounts(after=after, stops_by=now, limit=PAGE_PEOPLE):
            after = rows[-1].account_id
            for row in rows:
                with suppress(Refused, TamperedRecord):  # deleted a moment ago; looking at it has raised the alarm
                    await self._engine.decide(row.account_id, remove_stopped, LOCAL)

    async def _do(self, account_id: str, decide: administration.Decide, caller: Caller) -> Done:
        self._check_other(account_id, caller)
        return cast(Done, await self._engine.decide(account_id, decide, caller))

    async def _link(self, account_id: str, decide: administration.Decide, caller: Caller) -> str:
        token = (await self._do(account_id, decide, caller)).link
        assert token is not None  # noqa: S101 - each of these decisions makes one
        return token

    def _check_other(self, account_id: str, caller: Caller) -> None:
        if caller.by == account_id:
            raise Refused("conflict", "administrators cannot do this to themselves: ask another one, or use the shell")


def check_reason(reason: str) -> str:
    """Why something is done to somebody, as it is kept in the audit log. Raises `InvalidInput`."""
    reason = reason.strip()
    if not 1 <= len(reason) <= REASON_MAX or not reason.isprintable():
        raise InvalidInput("reason", f"1 to {REASON_MAX} printable characters")
    return reason
