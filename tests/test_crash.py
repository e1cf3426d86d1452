"""A store that is cut off at any moment: whatever it has acknowledged is still so when it is opened again."""

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.deployments import open_for_test, open_in_memory, phone_of
from tests.kit import Phone, SetClock, wrong_code

from twofold.bootstrap import Deployment
from twofold.core.decision import Confirmed, Rejected, Throttled, Verified
from twofold.engine import Caller
from twofold.errors import Busy, Refused

ACCOUNTS = ("alice", "bob", "carol")
ADMIN = Caller(is_admin=True)


class CrashMachine(RuleBasedStateMachine):
    """Attempts at several accounts, alone and many at once; the machine is switched off in between and in the midst."""

    is_durable = True

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.home = TemporaryDirectory()
        self.folders = (Path(self.home.name) / str(number) for number in itertools.count())
        self.folder = next(self.folders)
        self.clock = SetClock()
        self.phones: dict[str, Phone] = {}
        self.used: list[tuple[str, str]] = []
        self.removed: list[tuple[str, str]] = []
        self.events = 0
        self.deployment = self.run(self.open())
        for account_id in ACCOUNTS:
            self.run(self.add_phone(account_id))

    async def open(self) -> Deployment:
        if not self.is_durable:
            return await open_in_memory(self.clock)
        return await open_for_test(self.folder, self.clock, seed=int(self.folder.name))

    def run(self, attempt: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(attempt)

    def teardown(self) -> None:
        if hasattr(self, "deployment"):
            self.run(self.what_was_acknowledged_holds())
            self.run(self.deployment.close())
            self.loop.close()
            self.home.cleanup()

    async def add_phone(self, account_id: str) -> None:
        verifier = self.deployment.verifier
        phone = phone_of(await verifier.enroll(account_id, "hotp", caller=ADMIN))
        confirmed = await verifier.confirm(account_id, phone.id, code=phone.press(), caller=ADMIN)
        assert isinstance(confirmed, Confirmed)
        self.phones[account_id] = phone
        self.used.append((account_id, phone.code_of(0)))

    async def sign_in(self, account_id: str) -> None:
        phone = self.phones[account_id]
        code = phone.press()
        try:
            outcome = await self.deployment.verifier.verify(account_id, code=code, authenticator_id=phone.id)
        except Busy:
            return
        if isinstance(outcome, Verified):
            self.used.append((account_id, code))

    async def guess(self, account_id: str) -> None:
        phone = self.phones[account_id]
        wrong = wrong_code(phone, self.clock.now())
        try:
            outcome = await self.deployment.verifier.verify(account_id, code=wrong, authenticator_id=phone.id)
        except Busy:
            return
        assert not isinstance(outcome, Verified)

    async def exchange_phone(self, account_id: str) -> None:
        old = self.phones[account_id]
        await self.add_phone(account_id)
        await self.deployment.verifier.revoke(account_id, old.id, caller=ADMIN)
        self.used = [(owner, code) for owner, code in self.used if owner != account_id]
        self.removed.append((account_id, old.id))

    # Steps.

    @rule(account_id=st.sampled_from(ACCOUNTS), what=st.sampled_from(["sign_in", "guess", "exchange_phone"]))
    def one(self, account_id: str, what: str) -> None:
        attempt: Callable[[str], Awaitable[None]] = getattr(self, what)
        self.run(attempt(account_id))

    @rule(attempts=st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(["sign_in", "guess"])), max_size=12))
    def many_at_once(self, attempts: list[tuple[str, str]]) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(*(getattr(self, what)(account_id) for account_id, what in attempts))

        self.run(all_of_them())

    @rule(seconds=st.sampled_from([1, 60, 86_400, 30 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @precondition(lambda self: self.is_durable)
    @rule()
    def crash(self) -> None:
        """The files as they are at this moment are all that is left."""
        self.run(self.cut_off(self.files_now()))

    @precondition(lambda self: self.is_durable)
    @rule(
        attempts=st.lists(
            st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(["sign_in", "guess"])), min_size=2, max_size=12
        ),
        answered=st.integers(0, 6),
    )
    def crash_in_the_midst(self, attempts: list[tuple[str, str]], answered: int) -> None:
        """Cut off when so many have been answered, while the others are under way."""

        async def some_of_them() -> None:
            tasks = [asyncio.ensure_future(getattr(self, what)(account_id)) for account_id, what in attempts]
            for done in itertools.islice(asyncio.as_completed(tasks), answered):
                await done
            used = list(self.used)
            copy = self.files_now()
            await asyncio.gather(*tasks)
            # What was answered after the copy was made is lost with the machine.
            self.used = used
            await self.cut_off(copy)

        self.run(some_of_them())

    def files_now(self) -> Path:
        """A copy of the files as a power cut would leave them: the reader keeps a checkpoint from changing them while
        they are copied, and commits under way may be in it or not."""
        copy = next(self.folders)
        with contextlib.closing(sqlite3.connect(self.folder / "twofold.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM accounts").fetchone()
            return shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns("*-shm"))

    async def cut_off(self, copy: Path) -> None:
        await self.deployment.close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.deployment = await self.open()
        await self.what_was_acknowledged_holds()

    async def what_was_acknowledged_holds(self) -> None:
        verifier, inspection = self.deployment.verifier, self.deployment.inspection
        report = await inspection.verify_audit()
        assert report.ok, report.broken
        assert report.events >= self.events
        self.events = report.events
        assert [account_id async for account_id, _ in inspection.unopenable()] == []
        for account_id, authenticator_id in self.removed:
            view = await verifier.accounts.get(account_id)
            assert authenticator_id not in [a.id for a in view.authenticators]
        for account_id, code in self.used[-5:]:
            self.clock.advance(60)
            phone = self.phones[account_id]
            try:
                outcome = await verifier.verify(account_id, code=code, authenticator_id=phone.id)
            except Refused as refused:
                if refused.code == "disabled":
                    continue
                raise
            assert not isinstance(outcome, Verified), "an accepted code was accepted again"
            if isinstance(outcome, Rejected):
                assert outcome.reason == "code_already_used"
            else:
                assert isinstance(outcome, Throttled)


class MemoryMachine(CrashMachine):
    """The same over the store in memory, which outlives nothing."""

    is_durable = False


QUICK = settings(settings.get_profile("repeatable"), max_examples=12, stateful_step_count=15)
TestCrash = CrashMachine.TestCase
TestCrash.settings = QUICK
TestMemory = MemoryMachine.TestCase
TestMemory.settings = QUICK


@pytest.mark.soak
class TestCrashForLong(CrashMachine.TestCase):  # type: ignore[name-defined,misc]
    """Many more of the same."""

    settings = settings(settings.get_profile("soak"), max_examples=300, stateful_step_count=40)
