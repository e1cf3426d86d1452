import asyncio
import itertools
from collections.abc import AsyncIterator

import pytest
from tests.deployments import add_phone, open_in_memory
from tests.kit import SetClock

from twofold.bootstrap import Deployment
from twofold.core.decision import Message
from twofold.delivery import BATCH, LEASE_S, RETRY_MAX_S, Delivery
from twofold.errors import Unavailable


class Mailbox:
    """A sender that keeps what it is given; `is_down` stands for one that cannot be reached."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.is_down = False
        self.tries = 0

    async def send(self, message: Message, account_id: str) -> None:
        self.tries += 1
        if self.is_down:
            raise Unavailable("the mail server is down")
        self.sent.append((account_id, message.kind))


class Choosy(Mailbox):
    """A sender that breaks on one kind of message."""

    async def send(self, message: Message, account_id: str) -> None:
        if message.kind == "authenticator.added":
            raise ValueError("no template")
        await super().send(message, account_id)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def deployment(clock: SetClock) -> AsyncIterator[Deployment]:
    opened = await open_in_memory(clock)
    yield opened
    await opened.close()


async def test_what_was_decided_is_sent_once_in_order(deployment: Deployment, clock: SetClock) -> None:
    mailbox = Mailbox()
    delivery = Delivery(deployment.store, mailbox, clock)
    await add_phone(deployment.verifier, "alice", clock)
    await deployment.verifier.accounts.record_event("alice", "compromised")
    assert await delivery.run() == 2
    assert mailbox.sent == [("alice", "authenticator.added"), ("alice", "account.compromised")]
    assert await delivery.run() == 0


async def test_what_could_not_be_sent_is_tried_again_later_and_later(deployment: Deployment, clock: SetClock) -> None:
    mailbox = Mailbox()
    delivery = Delivery(deployment.store, mailbox, clock)
    await deployment.verifier.accounts.put("alice")
    await deployment.verifier.accounts.record_event("alice", "compromised")
    mailbox.is_down = True
    tried_at: list[float] = []
    for _ in range(60_000):
        before = mailbox.tries
        await delivery.run()
        if mailbox.tries > before:
            tried_at.append(clock.now_s)
        if len(tried_at) == 14:
            break
        clock.advance(1)
    waits = [round(later - earlier) for earlier, later in itertools.pairwise(tried_at)]
    assert waits == sorted(waits)
    assert waits[:3] == [2, 4, 8]
    assert waits[-1] == RETRY_MAX_S
    mailbox.is_down = False
    clock.advance(RETRY_MAX_S)
    assert await delivery.run() == 1
    assert mailbox.sent == [("alice", "account.compromised")]


async def test_one_message_that_cannot_be_sent_stops_no_other(deployment: Deployment, clock: SetClock) -> None:
    class Choosy(Mailbox):
        async def send(self, message: Message, account_id: str) -> None:
            self.is_down = account_id == "alice"
            await super().send(message, account_id)

    mailbox = Choosy()
    for account_id in ("alice", "bob"):
        await deployment.verifier.accounts.put(account_id)
        await deployment.verifier.accounts.record_event(account_id, "compromised")
    assert await Delivery(deployment.store, mailbox, clock).run() == 1
    assert mailbox.sent == [("bob", "account.compromised")]


async def test_two_workers_send_nothing_twice_and_a_lost_one_is_taken_over(
    deployment: Deployment, clock: SetClock
) -> None:
    await deployment.verifier.accounts.put("alice")
    await deployment.verifier.accounts.record_event("alice", "compromised")
    assert len(await deployment.store.take(10, clock.now(), LEASE_S)) == 1
    mailbox = Mailbox()
    assert await Delivery(deployment.store, mailbox, clock).run() == 0, "somebody else has it"
    clock.advance(LEASE_S)
    assert await Delivery(deployment.store, mailbox, clock).run() == 1


async def test_a_slow_worker_leaves_to_others_what_it_has_not_sent_before_its_lease_is_over(
    deployment: Deployment, clock: SetClock
) -> None:
    class Slow(Mailbox):
        async def send(self, message: Message, account_id: str) -> None:
            await super().send(message, account_id)
            clock.advance(LEASE_S / 2)

    others, slow = Mailbox(), Slow()
    await deployment.verifier.accounts.put("alice")
    for _ in range(3):
        await deployment.verifier.accounts.record_event("alice", "compromised")
    take = deployment.store.take
    batches = iter([await take(BATCH, clock.now(), LEASE_S), []])
    deployment.store.take = lambda *_: asyncio.sleep(0, next(batches))  # type: ignore[method-assign,assignment,union-attr]
    assert await Delivery(deployment.store, slow, clock).run() == 2
    deployment.store.take = take  # type: ignore[method-assign,union-attr]
    assert await Delivery(deployment.store, others, clock).run() == 1


async def test_more_than_one_batch_is_sent_in_one_run(deployment: Deployment, clock: SetClock) -> None:
    await deployment.verifier.accounts.put("alice")
    for _ in range(BATCH + 7):
        await deployment.verifier.accounts.record_event("alice", "compromised")
    assert await Delivery(deployment.store, Mailbox(), clock).run() == BATCH + 7


async def test_a_message_of_a_deleted_account_is_not_sent(deployment: Deployment, clock: SetClock) -> None:
    await deployment.verifier.accounts.put("alice")
    await deployment.verifier.accounts.record_event("alice", "compromised")
    await deployment.verifier.accounts.delete("alice")
    assert await Delivery(deployment.store, Mailbox(), clock).run() == 0


async def test_one_message_that_cannot_be_sent_holds_up_no_other(deployment: Deployment, clock: SetClock) -> None:
    await add_phone(deployment.verifier, "alice", clock)
    await deployment.verifier.accounts.record_event("alice", "compromised")
    choosy = Choosy()
    assert await Delivery(deployment.store, choosy, clock).run() == 1
    assert choosy.sent == [("alice", "account.compromised")]
