import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_in_memory
from tests.kit import PlainProvider, SetClock

from twofold.bootstrap import Deployment
from twofold.core.decision import Verified
from twofold.core.session import SESSION_TTL_S
from twofold.errors import KeyRefused, ProviderAway, Unavailable
from twofold.keys.keyring import USES_MAX
from twofold.keys.opened import LEASE_S
from twofold.keys.rotation import DATA_KEY_DAYS, GRACE_DAYS
from twofold.upkeep import RENEW_EVERY_S, KeyUpkeep, _repeat

DAY_S = 86_400


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def deployment(clock: SetClock) -> AsyncIterator[Deployment]:
    opened = await open_in_memory(clock)
    yield opened
    await opened.close()


@pytest.fixture
def upkeep(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> KeyUpkeep:
    run = deployment.resealing.run

    async def without_rest(**options: Any) -> Any:
        return await run(**{**options, "rest": 0})

    monkeypatch.setattr(deployment.resealing, "run", without_rest)
    return upkeep_of(deployment)


def upkeep_of(deployment: Deployment) -> KeyUpkeep:
    return KeyUpkeep(
        deployment.keyring,
        deployment.node,
        deployment.key_audit,
        deployment.rotation,
        deployment.resealing,
        limits=deployment.store,
    )


def provider_of(deployment: Deployment) -> PlainProvider:
    provider = deployment.keyring.masters._configured
    assert isinstance(provider, PlainProvider)
    return provider


async def states(deployment: Deployment, purpose: str) -> list[str]:
    return [row.state for row in await deployment.store.load_keys() if row.purpose == purpose]


async def kinds(deployment: Deployment, account_id: str) -> list[str]:
    return [event.kind for event in await deployment.store.events(account_id)]


async def test_each_check_writes_down_the_uses_of_the_master_key_also_when_it_fails(
    deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep
) -> None:
    await upkeep.check()
    assert deployment.keyring.masters.trace.take() == ([], 0)
    for fault, kind in ((KeyRefused("access denied"), "key.refused"), (ProviderAway("timed out"), "key.away")):
        clock.advance(LEASE_S)
        provider_of(deployment).fault = fault
        with pytest.raises(type(fault)):
            await upkeep.check()
        assert (await kinds(deployment, " keys"))[-1] == kind
    provider_of(deployment).fault = None
    await upkeep.check()


async def test_this_process_is_a_node_from_its_report_until_it_leaves(
    deployment: Deployment, upkeep: KeyUpkeep
) -> None:
    await upkeep.follow()
    assert [node.id for node in await deployment.store.list_nodes()] == [deployment.node.id]
    await upkeep.leave()
    assert await deployment.store.list_nodes() == []


async def test_new_keys_are_made_where_they_are_due_and_not_before(
    deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep
) -> None:
    clock.advance(RENEW_EVERY_S)
    await upkeep.renew()
    assert await states(deployment, "ticket") == await states(deployment, "data") == ["active"]
    clock.advance(DAY_S)
    await upkeep.renew()
    assert await states(deployment, "ticket") == ["decrypt_only", "active"]
    assert await states(deployment, "data") == ["active"]
    clock.advance(DATA_KEY_DAYS * DAY_S)
    await upkeep.renew()
    assert await states(deployment, "data") == ["decrypt_only", "active"]


async def test_a_data_key_that_is_nearly_used_up_is_replaced(
    deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep
) -> None:
    key_id = deployment.keyring.active_key_id
    row = deployment.store._keys[key_id]  # type: ignore[union-attr]
    deployment.store._keys[key_id] = msgspec.structs.replace(row, uses=USES_MAX - 1)  # type: ignore[union-attr]
    await upkeep.renew()
    assert await states(deployment, "data") == ["decrypt_only", "active"]


async def test_of_all_nodes_one_renews_in_an_hour(deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep) -> None:
    clock.advance(DATA_KEY_DAYS * DAY_S)
    for _ in range(3):
        await upkeep.renew()
        clock.advance(1)
    assert await states(deployment, "data") == ["decrypt_only", "active"]
    clock.advance(RENEW_EVERY_S)
    await upkeep.renew()
    assert await states(deployment, "data") == ["decrypt_only", "active"]


async def test_what_is_under_a_retired_key_moves_and_the_key_is_destroyed_after_its_grace(
    deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    await deployment.rotation.make_data_key("test")
    await deployment.rotation.replace_signing_keys("test")
    for day in range(GRACE_DAYS + 2):
        await upkeep.renew()
        for purpose in ("data", "integrity", "receipt"):
            gone = "destroyed" if day >= GRACE_DAYS else "decrypt_only"
            assert await states(deployment, purpose) == [gone, "active"], (day, purpose)
        clock.advance(DAY_S)
    await deployment.keyring.check()
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)
    assert [found async for found in deployment.inspection.unopenable()] == []
    assert (await kinds(deployment, "")).count("key.destroyed") == 3


async def test_master_keys_are_ended_by_hand_alone(deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep) -> None:
    deployment.keyring.masters._open = lambda *_: PlainProvider("vault")
    rotation = deployment.rotation
    await rotation.move(await rotation.join_master("plain:vault"), "test")
    for _ in range(3):
        clock.advance(GRACE_DAYS * DAY_S)
        await upkeep.renew()
    assert await states(deployment, "master") == ["decrypt_only", "active"]


async def test_while_an_account_cannot_be_read_no_key_is_destroyed(
    deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep
) -> None:
    await add_phone(deployment.verifier, "alice", clock)
    await deployment.rotation.make_data_key("test")
    row = deployment.store._rows["alice"]  # type: ignore[union-attr]
    deployment.store._rows["alice"] = msgspec.structs.replace(row, version=row.version + 1)  # type: ignore[union-attr]
    for _ in range(3):
        clock.advance(GRACE_DAYS * DAY_S)
        await upkeep.renew()
    assert "destroyed" not in await states(deployment, "data")
    deployment.store._rows["alice"] = row  # type: ignore[union-attr]
    for _ in range(3):
        clock.advance(GRACE_DAYS * DAY_S)
        await upkeep.renew()
    assert "destroyed" in await states(deployment, "data")


async def test_a_receipt_is_good_for_its_life_although_its_key_was_replaced(
    deployment: Deployment, clock: SetClock, upkeep: KeyUpkeep
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    outcome = await deployment.verifier.verify("alice", code=phone.code(clock.now()), purpose="pay")
    assert isinstance(outcome, Verified)
    assert outcome.receipt is not None
    await deployment.rotation.replace_signing_keys("test")
    await upkeep.renew()
    assert deployment.receipts.check(outcome.receipt, field="receipt").purpose == "pay"


def test_no_session_is_older_than_the_grace_of_the_key_that_it_was_signed_with() -> None:
    assert SESSION_TTL_S < GRACE_DAYS * DAY_S


async def test_what_fails_is_logged_once_and_tried_again(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tries, is_done = 0, asyncio.Event()

    async def work() -> None:
        nonlocal tries
        tries += 1
        if tries == 4:
            is_done.set()
            await asyncio.Event().wait()
        if tries != 3:
            raise Unavailable("the provider is away")

    with caplog.at_level(logging.WARNING):
        task = asyncio.create_task(_repeat(work, 0))
        await is_done.wait()
        task.cancel()
    assert [record.message for record in caplog.records] == ["not done, tried again every 0 s: the provider is away"]
    assert tries == 4


async def test_a_server_that_ends_is_no_node_any_more_and_has_written_its_trace(clock: SetClock) -> None:
    deployment = await open_in_memory(clock)
    await deployment.begin_upkeep()
    await deployment.node.report()
    deployment.keyring._opened.clear()
    await deployment.keyring.check()
    await deployment.close()
    assert await deployment.store.list_nodes() == []
    assert deployment.keyring.masters.trace.take() == ([], 0)


async def test_a_server_is_known_to_the_others_before_it_serves(clock: SetClock) -> None:
    """Else a rotation that begins now would not wait for it, and it would take new signatures for tampering."""
    deployment = await open_in_memory(clock)
    await deployment.begin_upkeep()
    assert [node.id for node in await deployment.store.list_nodes()] == [deployment.node.id]
    await deployment.close()
