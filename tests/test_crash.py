"""A store that is cut off at any moment: whatever it has acknowledged is still so when it is opened again."""

import asyncio
import contextlib
import itertools
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.deployments import open_for_test, open_in_memory, phone_of
from tests.kit import Phone, SetClock, wrong_code
from tests.postgres import PostgresServer

from twofold.bootstrap import Deployment
from twofold.core.decision import Confirmed, Rejected, Throttled, Verified
from twofold.engine import Caller
from twofold.errors import Busy, OutcomeUnknown, Refused

ACCOUNTS = ("alice", "bob", "carol")
ADMIN = Caller(is_admin=True)


class CrashMachine(RuleBasedStateMachine):
    """Attempts at several accounts, alone and many at once; the machine is switched off in between and in the midst."""

    is_durable = True
    nodes = 1

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.home = TemporaryDirectory()
        self.numbers = itertools.count()
        self.folder = self.next_folder()
        self.clock = SetClock()
        self.phones: dict[str, Phone] = {}
        self.used: list[tuple[str, str]] = []
        self.removed: list[tuple[str, str]] = []
        self.events = 0
        self.deployments = [self.run(self.open()) for _ in range(self.nodes)]
        for account_id in ACCOUNTS:
            self.run(self.add_phone(account_id))

    @property
    def deployment(self) -> Deployment:
        """One of the nodes, in turns."""
        self.deployments.append(self.deployments.pop(0))
        return self.deployments[-1]

    async def open(self) -> Deployment:
        if not self.is_durable:
            return await open_in_memory(self.clock)
        return await open_for_test(self.folder, self.clock, seed=next(self.numbers))

    def next_folder(self) -> Path:
        return Path(self.home.name) / str(next(self.numbers))

    def run(self, attempt: Awaitable[Any]) -> Any:
        return self.loop.run_until_complete(attempt)

    def teardown(self) -> None:
        if hasattr(self, "deployments"):
            self.run(self.what_was_acknowledged_holds())
            for deployment in self.deployments:
                self.run(deployment.close())
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
        except (Busy, OutcomeUnknown):
            return
        if isinstance(outcome, Verified):
            self.used.append((account_id, code))

    async def guess(self, account_id: str) -> None:
        phone = self.phones[account_id]
        wrong = wrong_code(phone, self.clock.now())
        try:
            outcome = await self.deployment.verifier.verify(account_id, code=wrong, authenticator_id=phone.id)
        except (Busy, OutcomeUnknown):
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
        self.run(self.cut_off([]))

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
            await self.cut_off(tasks)

        self.run(some_of_them())

    async def cut_off(self, under_way: Sequence["asyncio.Future[None]"]) -> None:
        """The files as they are at this moment are all that is left."""
        used = list(self.used)
        copy = self.files_now()
        await asyncio.gather(*under_way)
        # What was answered after the copy was made is lost with the machine.
        self.used = used
        await self.deployments.pop().close()
        shutil.rmtree(self.folder)
        self.folder = copy
        self.deployments.append(await self.open())
        await self.what_was_acknowledged_holds()

    def files_now(self) -> Path:
        """A copy of the files as a power cut would leave them: the reader keeps a checkpoint from changing them while
        they are copied, and commits under way may be in it or not."""
        copy = self.next_folder()
        with contextlib.closing(sqlite3.connect(self.folder / "twofold.db")) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM accounts").fetchone()
            return shutil.copytree(self.folder, copy, ignore=shutil.ignore_patterns("*-shm"))

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


class NodesMachine(CrashMachine):
    """The same over two nodes on one PostgreSQL database. Each step may be another one's, all their connections are cut
    at any moment, and one of them is replaced."""

    nodes = 2
    server: ClassVar[PostgresServer]

    @initialize()
    def begin(self) -> None:
        self.database = self.server.create_database()
        super().begin()

    def teardown(self) -> None:
        super().teardown()
        self.server.drop_database(self.database)

    async def open(self) -> Deployment:
        url = self.server.url(self.database)
        return await open_for_test(self.folder, self.clock, seed=next(self.numbers), database_url=url)

    async def cut_off(self, under_way: Sequence["asyncio.Future[None]"]) -> None:
        """Whatever is answered holds, before and after."""
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"
        await asyncio.to_thread(self.server.sql, cut, self.database)
        await asyncio.gather(*under_way)
        await self.deployments.pop().close()
        self.deployments.append(await self.open())
        await self.what_was_acknowledged_holds()


QUICK = settings(settings.get_profile("repeatable"), max_examples=12, stateful_step_count=15)
TestCrash = CrashMachine.TestCase
TestCrash.settings = QUICK
TestMemory = MemoryMachine.TestCase
TestMemory.settings = QUICK


class TestNodes(NodesMachine.TestCase):  # type: ignore[name-defined,misc]
    settings = settings(QUICK, max_examples=6)

    @pytest.fixture(autouse=True)
    def use_server(self, postgres_server: PostgresServer) -> None:
        NodesMachine.server = postgres_server


@pytest.mark.soak
class TestCrashForLong(CrashMachine.TestCase):  # type: ignore[name-defined,misc]
    """Many more of the same."""

    settings = settings(settings.get_profile("soak"), max_examples=300, stateful_step_count=40)


@pytest.mark.soak
class TestNodesForLong(TestNodes):
    """As above."""

    settings = TestCrashForLong.settings
