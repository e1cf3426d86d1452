import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_in_memory
from tests.kit import PlainProvider, SetClock

from twofold.bootstrap import Deployment
from twofold.core.account import DEPLOYMENT, KEY_TRACE
from twofold.errors import KeyRefused, ProviderAway, Unavailable
from twofold.key_audit import USES_IN_EVENT_MAX, KeyAudit
from twofold.keys.trace import KeyUse


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def deployment(clock: SetClock) -> AsyncIterator[Deployment]:
    opened = await open_in_memory(clock, data_keys="per-seed")
    # What the start has used is another test's.
    await opened.key_audit.record_uses()
    yield opened
    await opened.close()


async def told(deployment: Deployment, account_id: str = KEY_TRACE, *, skip: int = 0) -> list[dict[str, Any]]:
    events = await deployment.store.events(account_id)
    return [
        {"kind": event.kind, "at": event.at, **msgspec.json.decode(event.payload or b"{}")} for event in events[skip:]
    ]


def use(at: int, **more: Any) -> KeyUse:
    return KeyUse(**{"at": at, "operation": "unwrapped", "key_id": "seed-1", "master": "m", "reason": "seed", **more})


async def test_the_uses_of_a_start_are_told_with_who_when_and_why(clock: SetClock) -> None:
    deployment = await open_in_memory(clock)
    keyring = deployment.keyring
    await deployment.key_audit.record_uses()
    events = await told(deployment)
    assert {event["kind"] for event in events} == {"key.wrapped", "key.unwrapped"}
    opened = [key for event in events if event["kind"] == "key.unwrapped" for key in event["keys"]]
    assert set(opened) == {row.id for row in keyring.rows()}
    for event in events:
        assert (event["caller"], event["node"], event["at"]) == ("embedded", deployment.node.id, clock.now())
        assert len(event["requests"]) == len(event["keys"])
        assert "lost_before" not in event or event["lost_before"] is None
    await deployment.close()


async def test_every_unwrap_for_a_seed_is_told_with_its_account(deployment: Deployment, clock: SetClock) -> None:
    skip = len(await told(deployment))
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    await deployment.verifier.verify("alice", code=phone.code(clock.now()))
    await deployment.key_audit.record_uses()
    events = [event for event in await told(deployment, skip=skip) if event.get("subject")]
    assert {event["subject"] for event in events} == {"alice"}
    assert [event["reason"] for event in events if event["kind"] == "key.wrapped"] == ["new seed"]
    opened = [key for event in events if event["reason"] == "seed" for key in event["keys"]]
    # Shown, confirmed and verified: each time the provider was asked.
    assert len(opened) >= 2
    assert len(set(opened)) == 1
    assert opened[0].startswith("seed-")


async def test_the_trace_has_a_chain_of_its_own_that_is_checked_with_the_others(
    deployment: Deployment, clock: SetClock
) -> None:
    before = await told(deployment, DEPLOYMENT)
    await add_phone(deployment.verifier, "alice", clock)
    await deployment.key_audit.record_uses()
    assert await told(deployment, DEPLOYMENT) == before
    assert (await deployment.inspection.verify_audit()).ok
    deployment.store._events[KEY_TRACE].pop(0)  # type: ignore[union-attr]
    report = await deployment.inspection.verify_audit()
    assert not report.ok
    assert report.broken is not None
    assert report.broken.account_id == KEY_TRACE


async def test_a_change_of_the_keyring_is_told_in_the_deployment_s_own_chain(deployment: Deployment) -> None:
    fresh = await deployment.rotation.make_data_key("because")
    event = (await told(deployment, DEPLOYMENT))[-1]
    assert (event["kind"], event["key"], event["reason"]) == ("key.rotated", fresh.id, "because")
    assert (event["caller"], event["node"]) == ("embedded", deployment.node.id)


async def test_uses_alike_are_told_together_up_to_so_many(deployment: Deployment) -> None:
    skip = len(await told(deployment))
    for number in range(USES_IN_EVENT_MAX + 5):
        deployment.keyring.masters.trace.note(use(1_000 + number, key_id=f"seed-{number}", request_id=f"r-{number}"))
    deployment.keyring.masters.trace.note(use(5_000, subject="bob"))
    await deployment.key_audit.record_uses()
    events = await told(deployment, skip=skip)
    assert [len(event["keys"]) for event in events] == [USES_IN_EVENT_MAX, 5, 1]
    assert events[0]["requests"][:2] == ["r-0", "r-1"]
    assert events[-1]["subject"] == "bob"
    assert events[-1].get("requests") is None


async def test_a_refusal_is_told_with_the_provider_s_words(deployment: Deployment, clock: SetClock) -> None:
    skip = len(await told(deployment))
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    provider = deployment.keyring.masters._configured
    assert isinstance(provider, PlainProvider)
    for fault in (KeyRefused("access denied", "r-9"), ProviderAway("timed out")):
        provider.fault = fault
        with pytest.raises(type(fault)):
            await deployment.verifier.verify("alice", code=phone.code(clock.now()))
    await deployment.key_audit.record_uses()
    events = [event for event in await told(deployment, skip=skip) if event.get("why")]
    assert [(event["kind"], event["why"], event.get("requests"), event["subject"]) for event in events] == [
        ("key.refused", "access denied", ["r-9"], "alice"),
        ("key.away", "timed out", None, "alice"),
    ]
    provider.fault = None


async def test_while_no_key_opens_the_trace_is_written_all_the_same(deployment: Deployment) -> None:
    skip = len(await told(deployment))
    provider = deployment.keyring.masters._configured
    assert isinstance(provider, PlainProvider)
    provider.fault = KeyRefused("access denied")
    deployment.keyring._opened.clear()
    with pytest.raises(KeyRefused):
        await deployment.keyring.check()
    await deployment.key_audit.record_uses()
    assert [event["kind"] for event in await told(deployment, skip=skip)] == ["key.refused"]
    provider.fault = None


async def test_when_a_key_was_last_unwrapped_stands_beside_it(deployment: Deployment, clock: SetClock) -> None:
    clock.advance(1_000)
    keyring = deployment.keyring
    await keyring.check()
    await deployment.key_audit.record_uses()
    await keyring.refresh()
    active = keyring.row(keyring.active_key_id)
    assert active is not None
    assert active.unwrapped_at == clock.now()
    others = [row for row in keyring.rows() if row.purpose in ("index", "ticket")]
    assert all(row.unwrapped_at < clock.now() for row in others)


async def test_what_cannot_be_written_waits_for_the_next_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip = len(await told(deployment))
    trace, transact = deployment.keyring.masters.trace, deployment.store.transact

    async def fail(*_: object) -> None:
        raise Unavailable("the disk is full")

    trace.note(use(1_000, key_id="seed-1"))
    monkeypatch.setattr(deployment.store, "transact", fail)
    for _ in range(2):
        with pytest.raises(Unavailable):
            await deployment.key_audit.record_uses()
    monkeypatch.setattr(deployment.store, "transact", transact)
    trace.note(use(2_000, key_id="seed-2"))
    await deployment.key_audit.record_uses()
    assert [key for event in await told(deployment, skip=skip) for key in event["keys"]] == ["seed-1", "seed-2"]


async def test_what_is_cut_short_while_it_is_written_waits_for_the_next_time(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that ends stops its upkeep wherever that is, and writes the rest after it."""
    skip = len(await told(deployment))
    transact, is_writing = deployment.store.transact, asyncio.Event()

    async def hang(*_: object) -> None:
        is_writing.set()
        await asyncio.Event().wait()

    deployment.keyring.masters.trace.note(use(1_000))
    monkeypatch.setattr(deployment.store, "transact", hang)
    writing = asyncio.create_task(deployment.key_audit.record_uses())
    await is_writing.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    monkeypatch.setattr(deployment.store, "transact", transact)
    await deployment.key_audit.record_uses()
    assert [event["keys"] for event in await told(deployment, skip=skip)] == [["seed-1"]]


async def test_how_many_were_lost_is_told_once(deployment: Deployment) -> None:
    skip = len(await told(deployment))
    trace = deployment.keyring.masters.trace
    trace.lost = 7
    trace.note(use(1_000, key_id="seed-1"))
    trace.note(use(2_000, key_id="seed-2", subject="bob"))
    await deployment.key_audit.record_uses()
    assert [event.get("lost_before") for event in await told(deployment, skip=skip)] == [7, None]


async def test_without_uses_nothing_is_written(deployment: Deployment) -> None:
    rows = [row async for row in deployment.store.scan(tombstones=True)]
    await deployment.key_audit.record_uses()
    assert [row async for row in deployment.store.scan(tombstones=True)] == rows


async def test_what_this_process_does_is_its_role(deployment: Deployment) -> None:
    trace = deployment.keyring.masters.trace
    engine = deployment.verifier._engine
    audit = KeyAudit(engine, deployment.store, trace, role="twofold keys rotate", node="here-1")
    trace.note(use(1_000))
    await audit.record_uses()
    event = (await told(deployment))[-1]
    assert (event["caller"], event["node"]) == ("twofold keys rotate", "here-1")


async def test_no_key_stands_in_the_trace(deployment: Deployment, clock: SetClock) -> None:
    await add_phone(deployment.verifier, "alice", clock)
    await deployment.rotation.make_data_key("because")
    await deployment.key_audit.record_uses()
    keys = [row.wrapped[-32:] for row in await deployment.store.load_keys()]
    for account_id in (KEY_TRACE, DEPLOYMENT, "alice"):
        for event in await deployment.store.events(account_id):
            payload = event.payload or b""
            assert not any(key in payload or key.hex().encode() in payload for key in keys)
