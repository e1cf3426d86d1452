"""Two servers over one database: what one of them does counts at the other, and no limit is there twice."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.deployments import add_phone
from tests.kit import Phone, RepeatableEntropy, SetClock, wrong_code

from twofold.bootstrap import Deployment, open_deployment
from twofold.clocks import SystemClock
from twofold.config import Settings
from twofold.core.attempt import Context
from twofold.core.clock import in_seconds
from twofold.core.codec import signer_of
from twofold.core.decision import Rejected, Verified
from twofold.core.idempotency import IdempotencyKey
from twofold.core.ticket import TICKET_TTL_S, Ticket
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.engine import Caller
from twofold.errors import Refused, Unavailable
from twofold.keys.node import CLOCK_OFF_MAX_S, keyring_stamp
from twofold.keys.rotation import TICKET_KEY_ROTATED_AFTER_S
from twofold.networks import READ_EVERY_MS
from twofold.server.access import REMEMBERED_S
from twofold.server.app import CLOCK_IS_OFF, create_app
from twofold.sign_in import Guest
from twofold.sign_in_limits import NAME_NETWORK_PER_WINDOW, TooMany
from twofold.stores.sqlite import SqliteStore
from twofold.upkeep import RENEW_EVERY_S, KeyUpkeep

PASSWORD = "correct horse battery"
BROWSER = "Mozilla/5.0 (X11; Linux) Firefox/140.0"
HERE = Guest(Context("192.0.2.7", BROWSER))
ATTACKER = "203.0.113.9"
ADMIN = Caller(is_admin=True)


class Node:
    """One of the servers, with the clock of its machine, and its API as an application reaches it."""

    def __init__(self, deployment: Deployment, clock: SetClock) -> None:
        self.deployment = deployment
        self.clock = clock
        self.verifier = deployment.verifier
        transport = httpx.ASGITransport(create_app(deployment, clock=lambda: clock.now_s), client=("127.0.0.1", 4000))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", trust_env=False)

    async def sign_in(self, phone: Phone) -> str:
        """The token of a full session of alice, by her password and the code that her phone shows."""
        begun = await self.deployment.sign_in.begin("alice", PASSWORD, HERE)
        assert isinstance(begun, Verified)
        found = await self.find(begun.session or "")
        assert isinstance(found, tuple), found
        bearer, _ = found
        caller = Caller(f"pages:{bearer.session.id}", context=HERE.context, session=bearer)
        outcome = await self.verifier.verify("alice", code=phone.code(self.clock.now()), caller=caller)
        assert isinstance(outcome, Verified), outcome
        return outcome.session or ""

    async def find(self, token: str) -> Any:
        return await self.deployment.sign_in.find(token, BROWSER)

    async def call(self, key: str) -> int:
        """The status of one call with an API key."""
        return (await self.http.get("/api/v1/accounts", headers={"authorization": f"Bearer {key}"})).status_code


class Nodes:
    """Two servers, whose clocks agree until a test moves one."""

    def __init__(self, one: Node, other: Node) -> None:
        self.one, self.other = one, other
        self.both = one, other

    def advance(self, seconds: float) -> None:
        for node in self.both:
            node.clock.advance(seconds)

    async def add_alice(self) -> Phone:
        """She has a password and a phone, whose next code is new."""
        directory = self.one.verifier.accounts
        await directory.put("alice")
        await directory.set_password("alice", PASSWORD)
        phone, _ = await add_phone(self.one.verifier, "alice", self.one.clock)
        self.other.clock.advance(30)
        return phone

    def let_other_follow(self) -> None:
        """While the one waits for the other, that looks at the keyring, as it does twice a second."""

        async def follow(_: float) -> None:
            await self.other.deployment.node.follow()

        self.one.deployment.node._sleep = follow


async def open_node(settings: Settings, seed: int) -> Node:
    clock = SetClock()
    entropy = RepeatableEntropy(seed)
    return Node(await open_deployment(settings, clock=clock, entropy=entropy, argon2=ONLY_FOR_TESTING), clock)


@pytest.fixture(params=["sqlite", "postgres"])
async def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Nodes]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else None
    settings = Settings(data_dir=tmp_path / "data", database_url=url, key_provider=f"file:{tmp_path / 'key'}")
    opened = [await open_node(settings, seed) for seed in (1, 2)]
    yield Nodes(*opened)
    for node in opened:
        await node.http.aclose()
        await node.deployment.close()


# One truth.


async def test_of_one_code_sent_to_both_at_once_one_is_accepted(nodes: Nodes) -> None:
    phone = await nodes.add_alice()
    for _ in range(5):
        code = phone.code(nodes.one.clock.now())
        tries = [node.verifier.verify("alice", code=code) for node in nodes.both for _ in range(3)]
        outcomes = await asyncio.gather(*tries)
        assert sum(isinstance(outcome, Verified) for outcome in outcomes) == 1, outcomes
        nodes.advance(30)


async def test_a_call_repeated_at_the_other_node_ends_as_it_did(nodes: Nodes) -> None:
    phone = await nodes.add_alice()
    key = IdempotencyKey(b"k" * 16, b"b" * 16, b"secret")
    code = phone.code(nodes.one.clock.now())
    tries = [node.verifier.verify("alice", code=code, caller=Caller(idempotency=key)) for node in nodes.both * 3]
    outcomes = await asyncio.gather(*tries)
    assert isinstance(outcomes[0], Verified)
    assert outcomes == [outcomes[0]] * 6
    events = await nodes.other.verifier.accounts.events("alice")
    assert [event.kind for event in events].count("code.accepted") == 1


async def test_a_session_of_one_node_is_one_at_the_other_until_either_ends_it(nodes: Nodes) -> None:
    phone = await nodes.add_alice()
    token = await nodes.one.sign_in(phone)
    assert isinstance(await nodes.other.find(token), tuple)
    await nodes.other.deployment.sign_in.end_sessions("alice", Caller())
    assert await nodes.one.find(token) is None


async def test_what_an_administrator_does_at_one_node_counts_at_the_next_request_to_the_other(nodes: Nodes) -> None:
    phone = await nodes.add_alice()
    administration = nodes.one.deployment.administration
    token = await nodes.other.sign_in(phone)
    await administration.set_role("alice", "administrator", caller=ADMIN)
    assert await nodes.other.find(token) is None, "sessions of the role before end"
    nodes.advance(30)
    token = await nodes.other.sign_in(phone)
    _, account = await nodes.other.find(token)
    assert account.role == "administrator"
    await administration.set_disabled("alice", is_disabled=True, caller=ADMIN)
    assert not isinstance(await nodes.other.find(token), tuple)
    with pytest.raises(Refused) as refused:
        await nodes.other.deployment.sign_in.begin("alice", PASSWORD, HERE)
    assert refused.value.code == "disabled"


async def test_a_key_revoked_at_one_node_is_refused_by_the_other_within_a_second(nodes: Nodes) -> None:
    application, key = await nodes.one.deployment.applications.create("shop", scopes=["admin"])
    assert [await node.call(key) for node in nodes.both] == [200, 200]
    await nodes.one.deployment.applications.revoke(application.id)
    nodes.advance(REMEMBERED_S)
    assert [await node.call(key) for node in nodes.both] == [401, 401]
    assert REMEMBERED_S < 1


async def test_a_network_is_refused_and_let_in_again_by_the_other_node_within_a_second(nodes: Nodes) -> None:
    mine, theirs = (node.deployment.networks for node in nodes.both)
    await theirs.refresh_if_old()
    block = await mine.add("203.0.113.0/24")
    nodes.advance(READ_EVERY_MS / 1000)
    await theirs.refresh_if_old()
    assert theirs.find_block(ATTACKER) == block
    await mine.lift(block.network)
    nodes.advance(READ_EVERY_MS / 1000)
    await theirs.refresh_if_old()
    assert theirs.find_block(ATTACKER) is None
    assert READ_EVERY_MS < 1000


# Limits.


@pytest.mark.parametrize("rate_per_s", [10, 200])
async def test_the_rate_of_a_key_is_one_whichever_nodes_it_calls(nodes: Nodes, rate_per_s: int) -> None:
    _, key = await nodes.one.deployment.applications.create("shop", scopes=["admin"], rate_per_s=rate_per_s)
    for _ in range(2):
        calls = itertools.islice(itertools.cycle(nodes.both), rate_per_s + 20)
        answers = await asyncio.gather(*(node.call(key) for node in calls))
        assert answers.count(200) == rate_per_s
        assert answers.count(429) == 20
        nodes.advance(1)


async def test_tries_at_a_password_are_counted_over_both_nodes(nodes: Nodes) -> None:
    await nodes.add_alice()
    turns = itertools.cycle(nodes.both)
    for _ in range(NAME_NETWORK_PER_WINDOW):
        assert isinstance(await next(turns).deployment.sign_in.begin("alice", "not this one", HERE), Rejected)
    for node in nodes.both:
        refused = await node.deployment.sign_in.begin("alice", PASSWORD, HERE)
        assert isinstance(refused, TooMany)
        assert refused.over == "name"


async def test_a_burst_of_guesses_at_both_nodes_costs_as_much_as_at_one(nodes: Nodes) -> None:
    phone = await nodes.add_alice()
    guesses = [node.verifier.verify("alice", code=wrong_code(phone, node.clock.now())) for node in nodes.both * 4]
    outcomes = await asyncio.gather(*guesses)
    # Two are free, the third begins a delay: nobody guesses more often by going from node to node.
    assert sum(isinstance(outcome, Rejected) for outcome in outcomes) == 3


# Keys.


async def test_a_ticket_of_either_node_counts_at_the_other_at_each_step_of_a_rotation(nodes: Nodes) -> None:
    one, other = (node.deployment for node in nodes.both)
    before = one.keyring.issue_ticket(a_ticket(nodes))
    nodes.advance(TICKET_KEY_ROTATED_AFTER_S + 1)
    await other.node.follow()
    nodes.let_other_follow()
    await one.rotation.rotate_ticket_key()
    fresh, late = one.keyring.issue_ticket(a_ticket(nodes)), other.keyring.issue_ticket(a_ticket(nodes))
    assert [text.partition(".")[0] for text in (before, late)] == [before.partition(".")[0]] * 2
    assert fresh.partition(".")[0] != before.partition(".")[0]
    for keyring in (one.keyring, other.keyring):
        assert keyring.read_ticket(fresh) == keyring.read_ticket(late) == a_ticket(nodes)
    await other.node.follow()
    assert other.keyring.issue_ticket(a_ticket(nodes)).partition(".")[0] == fresh.partition(".")[0]


async def test_a_ticket_key_that_a_node_does_not_come_to_know_is_not_used(nodes: Nodes) -> None:
    one, other = (node.deployment for node in nodes.both)
    nodes.advance(TICKET_KEY_ROTATED_AFTER_S + 1)
    await other.node.follow()

    async def wait(_: float) -> None:
        pass

    one.node._sleep = wait
    with pytest.raises(Unavailable, match="does not follow the keyring"):
        await one.rotation.rotate_ticket_key()
    assert other.keyring.read_ticket(one.keyring.issue_ticket(a_ticket(nodes))) == a_ticket(nodes)
    announced = [row for row in one.keyring.rows() if row.purpose == "ticket" and row.state == "decrypt_only"]
    nodes.let_other_follow()
    await one.rotation.rotate_ticket_key()
    assert one.keyring.issue_ticket(a_ticket(nodes)).partition(".")[0] == announced[0].id


async def test_nothing_is_written_under_a_signing_key_that_was_retired_at_the_other_node(nodes: Nodes) -> None:
    phone = await nodes.add_alice()
    one, other = (node.deployment for node in nodes.both)
    await other.node.follow()
    nodes.let_other_follow()
    retired = other.keyring.mac_keys().signing_id()
    await one.rotation.replace_signing_keys("test")
    # It knows the new key, and not yet that it is in use.
    assert other.keyring.mac_keys().signing_id() == retired
    assert isinstance(await other.verifier.verify("alice", code=phone.code(nodes.other.clock.now())), Verified)
    signers = {row.account_id: signer_of(row) async for row in one.store.scan()}
    assert signers["alice"] == one.keyring.mac_keys().signing_id() != retired


async def test_what_is_enrolled_at_a_node_that_missed_a_new_data_key_is_sealed_with_it(nodes: Nodes) -> None:
    one, other = (node.deployment for node in nodes.both)
    retired = one.keyring.active_key_id
    await one.rotation.make_data_key("test")
    assert other.keyring.active_key_id == retired
    phone, _ = await add_phone(other.verifier, "alice", nodes.other.clock)
    found, unreadable = await one.resealing.count()
    assert (found[retired], unreadable) == (0, 0)
    assert isinstance(await one.verifier.verify("alice", code=phone.code(nodes.other.clock.now())), Verified)


async def test_servers_follow_each_other_while_they_serve(nodes: Nodes) -> None:
    one, other = (node.deployment for node in nodes.both)
    for node in nodes.both:
        await node.deployment.begin_upkeep()
    await one.rotation.make_data_key("test")
    await one.rotation.replace_signing_keys("test")
    # Half a second, and what a busy machine adds to it.
    for _ in range(1000):
        if keyring_stamp(other.keyring) == keyring_stamp(one.keyring):
            break
        await asyncio.sleep(0.01)
    assert other.keyring.active_key_id == one.keyring.active_key_id
    assert len(await one.store.list_nodes()) == 2


async def test_a_node_that_stood_still_through_a_rotation_reads_what_was_written_since_and_raises_no_alarm(
    nodes: Nodes,
) -> None:
    phone = await nodes.add_alice()
    await nodes.one.deployment.rotation.replace_signing_keys("test")
    token = await nodes.one.sign_in(phone)
    assert isinstance(await nodes.other.find(token), tuple)
    assert (await nodes.other.verifier.accounts.get("alice")).state == "active"
    assert list(await nodes.one.deployment.administration.latest_alarms()) == []


# Jobs.


async def test_an_hour_whose_node_died_is_made_up_for_by_another_in_the_next(nodes: Nodes) -> None:
    one, other = (upkeep_of(node.deployment) for node in nodes.both)
    nodes.advance(TICKET_KEY_ROTATED_AFTER_S + 1)

    async def die() -> None:
        raise asyncio.CancelledError

    nodes.one.deployment.rotation.rotate_ticket_key = die  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        await one.renew()
    await other.renew()
    assert len([row for row in await nodes.other.deployment.store.load_keys() if row.purpose == "ticket"]) == 1
    nodes.advance(RENEW_EVERY_S)
    await other.renew()
    assert len([row for row in await nodes.other.deployment.store.load_keys() if row.purpose == "ticket"]) == 2


async def test_what_two_nodes_saw_refused_in_one_minute_is_all_in_the_log(nodes: Nodes) -> None:
    await nodes.add_alice()
    for node in nodes.both:
        for _ in range(2):
            await node.deployment.sign_in.begin("alice", "not this one", HERE)
    for node in nodes.both:
        await node.deployment.sign_in.record_refused()
    events = await nodes.one.verifier.accounts.events("alice")
    assert [event.kind for event in events].count("password.refused") == 2
    assert (await nodes.one.deployment.inspection.verify_audit()).ok


# Clocks.


@pytest.mark.parametrize("skew_s", [-1, 1])
async def test_clocks_that_differ_by_a_second_let_nothing_count_twice_and_refuse_nobody(
    nodes: Nodes, skew_s: float
) -> None:
    phone = await nodes.add_alice()
    nodes.other.clock.advance(skew_s)
    token = await nodes.one.sign_in(phone)
    assert isinstance(await nodes.other.find(token), tuple)
    nodes.advance(30)
    code = phone.code(nodes.one.clock.now())
    outcomes = [await node.verifier.verify("alice", code=code) for node in nodes.both]
    assert [type(outcome) for outcome in outcomes] == [Verified, Rejected]


async def test_a_receipt_that_one_node_has_forgotten_is_not_redeemed_by_one_whose_clock_is_behind(
    nodes: Nodes,
) -> None:
    phone = await nodes.add_alice()
    verified = await nodes.one.verifier.verify("alice", code=phone.code(nodes.one.clock.now()), purpose="pay")
    assert isinstance(verified, Verified)
    receipt = verified.receipt or ""
    nodes.other.clock.advance(-1)
    await nodes.other.verifier.redeem(receipt, purpose="pay")
    # It is over at the one, which forgets with the next decision that it was used; at the other it is not.
    claims = nodes.one.deployment.receipts.check(receipt, field="receipt")
    nodes.advance(claims.exp - nodes.one.clock.now_s)
    await nodes.one.verifier.accounts.record_event("alice", "enabled")
    with pytest.raises(Refused):
        await nodes.other.verifier.redeem(receipt, purpose="pay")


async def test_a_server_knows_how_far_its_clock_is_from_that_of_the_database(nodes: Nodes) -> None:
    node, store = nodes.one.deployment.node, nodes.one.deployment.store
    await node.report()
    has_clock = not isinstance(store, SqliteStore)
    # The clock of these tests stands still, long ago.
    assert node.clock_fault.endswith("s behind the database's") == has_clock
    (told,) = await store.list_nodes()
    theirs = await store.put_node(told, forget_before=0)
    assert (theirs is not None and abs(theirs - SystemClock().now()) < in_seconds(CLOCK_OFF_MAX_S)) == has_clock
    ready = (await nodes.one.http.get("/health/ready")).json()
    assert ready == {"status": "ready", **({"clock": CLOCK_IS_OFF} if has_clock else {})}


async def test_a_clock_that_is_off_by_ten_minutes_refuses_codes_and_is_said_once(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    phone = await nodes.add_alice()
    node, store, true = nodes.other.deployment.node, nodes.other.deployment.store, nodes.one.clock
    put_node = store.put_node

    async def told_by_database(*given: Any, **more: Any) -> int:
        await put_node(*given, **more)
        return true.now()

    store.put_node = told_by_database  # type: ignore[method-assign,assignment]
    nodes.other.clock.advance(CLOCK_OFF_MAX_S)
    await node.report()
    assert (node.clock_fault, caplog.text) == ("", "")
    nodes.other.clock.advance(600 - CLOCK_OFF_MAX_S)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await node.report()
    assert node.clock_fault == "600.0 s ahead of the database's"
    assert caplog.text.count("the clock of this machine is 600.0 s ahead") == 1
    assert isinstance(await nodes.other.verifier.verify("alice", code=phone.code(true.now())), Rejected)
    # By such a clock no key is ended: its grace would be over too soon.
    nodes.advance(TICKET_KEY_ROTATED_AFTER_S + 1)
    await upkeep_of(nodes.other.deployment).renew()
    assert len([row for row in await store.load_keys() if row.purpose == "ticket"]) == 1
    nodes.other.clock.advance(-1200)
    await node.report()
    assert node.clock_fault == "600.0 s behind the database's"
    nodes.other.clock.advance(600)
    await node.report()
    assert node.clock_fault == ""


def a_ticket(nodes: Nodes) -> Ticket:
    now_s = int(nodes.one.clock.now_s)
    return Ticket(
        ceremony="get",
        account_id="alice",
        epoch="",
        application="",
        factor="webauthn",
        purpose="",
        binding="",
        allowed=(),
        wants_user_verification=False,
        challenge=b"challenge",
        issued_at=now_s,
        expires_at=now_s + TICKET_TTL_S,
    )


def upkeep_of(deployment: Deployment) -> KeyUpkeep:
    return KeyUpkeep(
        deployment.keyring,
        deployment.node,
        deployment.key_audit,
        deployment.rotation,
        deployment.resealing,
        limits=deployment.store,
    )
