"""A reset of many people on suspicion: whom it is about, carried out in small steps beside a server that serves, and
who has not set up a new authenticator since.

What it means for one account is decided in `twofold.core.mass_reset`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime

import msgspec

from twofold.administration import Administration, check_reason
from twofold.core.account import (
    DEPLOYMENT,
    FIRST_FACTOR,
    FIRST_PERSON,
    RECOVERY,
    Account,
    Authenticator,
    new_deployment,
)
from twofold.core.activity import Activity
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S, in_seconds, rfc3339
from twofold.core.codec import Codec, Tombstone
from twofold.core.decision import Decision, Done
from twofold.core.mass_reset import Grace, IsSuspected, begin_reset, is_affected, needs_link
from twofold.credentials import find_seed
from twofold.crypto.seal import read_key_id
from twofold.directory import AccountView, Directory
from twofold.engine import Caller, Engine
from twofold.errors import InvalidInput, Refused, TamperedRecord
from twofold.key_ports import WrappedKey

DAY_S = 86_400
GRACE_DAYS_MAX = 90
#: So many accounts are written at once: a server beside it writes its own in between.
AT_ONCE = 16
#: A reset that was interrupted goes on when it is run again so soon; later it is another one.
RESUMED_WITHIN_S = DAY_S
_PAGE = 200
_EVER = 2**63 - 1


class Target(msgspec.Struct, frozen=True):
    """Whom a reset is about: the people of a `group`, whoever has a seed that `data_key` ever sealed, or all."""

    group: str = ""
    data_key: str = ""

    @property
    def fields(self) -> dict[str, str | bool | None]:
        """The target as events have it."""
        everybody = not (self.group or self.data_key)
        return {"group": self.group or None, "data_key": self.data_key or None, "all": everybody or None}

    def is_of(self, activity: Activity) -> bool:
        """Whether the event is about the same people."""
        return (activity.text("group"), activity.text("data_key")) == (self.group, self.data_key)


class Report(msgspec.Struct, frozen=True):
    """What a reset did: to how many `people`, how many of whom `need_link`s to come in again on Twofold's own pages,
    and which accounts cannot be trusted and were left alone. Times in microseconds."""

    begun_at: int
    stops_at: int
    is_resumed: bool
    people: int
    need_link: int
    untrusted: tuple[str, ...]


class Reset(msgspec.Struct, frozen=True):
    """A reset whose grace goes on. `people` is None for one that was interrupted."""

    target: Target
    begun_at: str
    stops_at: str
    people: int | None


class MassReset:
    """The resets of one deployment."""

    def __init__(
        self,
        engine: Engine,
        directory: Directory,
        people: Administration,
        codec: Codec,
        rows: Callable[[], Sequence[WrappedKey]],
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._people = people
        self._codec = codec
        self._key_rows = rows

    def find_key(self, key_id: str) -> WrappedKey:
        """The data key of that id; raises `Refused("not_found")`."""
        for row in self._key_rows():
            if row.id == key_id and row.purpose == "data":
                return row
        raise Refused("not_found", f"there is no data key {key_id}: twofold keys status lists them")

    async def run(
        self,
        target: Target,
        *,
        grace_days: int = 0,
        reason: str = "",
        caller: Caller,
        note: Callable[[], None] = lambda: None,
    ) -> Report:
        """Reset them: sessions end at once, and what they have stops `grace_days` after the beginning. Interrupted and
        run again, it goes on. `note` is called for each account that was looked at. Raises `Refused("not_found")` for a
        group or key that is not there, `InvalidInput`; then nothing has happened."""
        reason = check_reason(reason) if reason else ""
        if not 0 <= grace_days <= GRACE_DAYS_MAX:
            raise InvalidInput("grace", f"0 to {GRACE_DAYS_MAX} days")
        is_suspected = self._find_suspicion(target)
        if target.group and not await self._has_member(target.group):
            raise Refused("not_found", f"nobody is in the group {target.group}")
        interrupted = await self._find_interrupted(target)
        begun_at = interrupted or await self._begin(target, reason, caller)
        stops_at = begun_at + in_seconds(grace_days * DAY_S)
        # People read it: no fractions of a second.
        grace = Grace(begun_at, stops_at - stops_at % MICROS_PER_S if grace_days else stops_at)
        run = _Run(self._engine, grace, is_suspected, reason, caller, is_resumed=interrupted is not None)
        async for account in self._scan(run.untrusted, note):
            if not target.group or target.group in account.groups:
                await run.take(account)
        await run.finish()
        report = Report(
            begun_at, grace.stops_at, interrupted is not None, run.people, run.need_link, tuple(run.untrusted)
        )
        await self._end(target, report, reason, caller)
        return report

    async def waiting(self) -> AsyncIterator[AccountView]:
        """Who still has something that will stop, in order of id."""
        after = ""
        while views := await self._people.page(stops_by=_EVER, after=after, limit=_PAGE):
            after = views[-1].id
            for view in views:
                # It may have stopped by now, or be an account that cannot be read.
                if view.stops_at:
                    yield view

    async def find_open(self) -> list[Reset]:
        """The resets whose grace goes on, and those that were interrupted within the last day, newest first."""
        now, found, ended = self._engine.clock.now(), [], list[Target]()
        async for event in self._look_back(now - in_seconds(GRACE_DAYS_MAX * DAY_S)):
            target = Target(event.text("group"), event.text("data_key"))
            if event.kind == "accounts.reset":
                ended.append(target)
                if datetime.fromisoformat(event.text("stops_at")) > datetime.fromisoformat(rfc3339(now)):
                    found.append(Reset(target, event.text("begun_at"), event.text("stops_at"), event.number("people")))
            elif target in ended:
                ended.remove(target)
            elif event.at > now - in_seconds(RESUMED_WITHIN_S):
                found.append(Reset(target, rfc3339(event.at), "", None))
        return found

    def _find_suspicion(self, target: Target) -> IsSuspected:
        if not target.data_key:
            return lambda authenticator: authenticator.factor not in (FIRST_FACTOR, RECOVERY)
        key = self.find_key(target.data_key)

        def was_sealed(authenticator: Authenticator) -> bool:
            # Seeds are sealed anew under newer keys: what there was before it was retired may have been under this one.
            seed = find_seed(authenticator)
            is_old = not key.retired_at or authenticator.created_at <= key.retired_at
            return seed is not None and (is_old or read_key_id(seed) == key.id)

        return was_sealed

    async def _has_member(self, group: str) -> bool:
        async for account in self._scan([], lambda: None):
            if group in account.groups:
                return True
        return False

    async def _scan(self, untrusted: list[str], note: Callable[[], None]) -> AsyncIterator[Account]:
        """Every account of a person that can be trusted; the others are named."""
        # Tombstones too: the column that says so could be changed, the code in the row cannot.
        async for row in self._engine.accounts.scan(tombstones=True):
            if row.account_id < FIRST_PERSON:
                continue
            note()
            try:
                account = self._codec.load(row)
            except TamperedRecord as tampered:
                untrusted.append(row.account_id)
                await self._engine.raise_alarm(row.account_id, tampered)
                continue
            if not isinstance(account, Tombstone):
                yield account
        untrusted += await self._engine.accounts.orphans()

    async def _find_interrupted(self, target: Target) -> int | None:
        """When a reset of the same people was begun that did not come to its end, if that was lately."""
        async for event in self._look_back(self._engine.clock.now() - in_seconds(RESUMED_WITHIN_S)):
            if target.is_of(event):
                return event.at if event.kind == "accounts.reset_begun" else None
        return None

    async def _look_back(self, since: int) -> AsyncIterator[Activity]:
        """The beginnings and ends of resets, newest first."""
        deployment = await self._engine.load(DEPLOYMENT)
        before: int | None = None
        while deployment is not None:
            events = await self._directory.latest_activity(deployment, count=_PAGE, before_seq=before)
            for event in events:
                if event.at < since:
                    return
                if event.kind in ("accounts.reset_begun", "accounts.reset"):
                    yield event
            if len(events) < _PAGE:
                return
            before = events[-1].seq

    async def _begin(self, target: Target, reason: str, caller: Caller) -> int:
        begun_at = 0

        def decide(account: Account | None, call: Call) -> Decision:
            nonlocal begun_at
            begun_at = call.now
            deployment = account or new_deployment(call.seed, call.now)
            return Decision(
                Done(), deployment, (call.event("accounts.reset_begun", **target.fields, reason=reason or None),)
            )

        await self._engine.record(decide, caller)
        return begun_at

    async def _end(self, target: Target, report: Report, reason: str, caller: Caller) -> None:
        def decide(account: Account | None, call: Call) -> Decision:
            deployment = account or new_deployment(call.seed, call.now)
            event = call.event(
                "accounts.reset",
                **target.fields,
                people=report.people,
                begun_at=rfc3339(report.begun_at),
                stops_at=rfc3339(report.stops_at),
                reason=reason or None,
            )
            return Decision(Done(), deployment, (event,))

        await self._engine.record(decide, caller)


class _Run:
    """One reset on its way through the accounts, a few at once."""

    def __init__(
        self,
        engine: Engine,
        grace: Grace,
        is_suspected: IsSuspected,
        reason: str,
        caller: Caller,
        *,
        is_resumed: bool,
    ) -> None:
        self._engine = engine
        self._grace = grace
        self._is_suspected = is_suspected
        self._reason = reason
        self._caller = caller
        self._is_resumed = is_resumed
        self._gathered: list[str] = []
        self.people = 0
        self.need_link = 0
        self.untrusted: list[str] = []

    async def take(self, account: Account) -> None:
        """The next account; whoever was reset before this run was interrupted is counted, too."""
        if is_affected(account, self._grace, self._is_suspected):
            self._gathered.append(account.id)
            if len(self._gathered) == AT_ONCE:
                await self.finish()
        elif self._is_resumed and any(a.stops_at == self._grace.stops_at for a in account.authenticators):
            self._count(account)

    async def finish(self) -> None:
        """Write what is gathered."""
        gathered, self._gathered = self._gathered, []
        for result in await asyncio.gather(*map(self._reset, gathered)):
            if result is not None:
                self._count(result)

    def _count(self, account: Account) -> None:
        self.people += 1
        self.need_link += needs_link(account)

    async def _reset(self, account_id: str) -> Account | None:
        """The account as it is now; None if there is nothing to reset any more."""
        changed: Account | None = None

        def decide(account: Account | None, call: Call) -> Decision:
            nonlocal changed
            decision = begin_reset(
                account, call, grace=self._grace, is_suspected=self._is_suspected, reason=self._reason
            )
            changed = None if isinstance(decision.account, str) else decision.account
            return decision

        try:
            await self._engine.decide(account_id, decide, self._caller)
        except TamperedRecord:
            self.untrusted.append(account_id)
            return None
        except Refused:
            return None  # deleted since it was looked at
        return changed
