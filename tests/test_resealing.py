import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_in_memory
from tests.kit import Phone, PlainProvider, SetClock

from twofold import resealing
from twofold.bootstrap import Deployment, open_keyring
from twofold.core.account import Account
from twofold.core.decision import Verified
from twofold.core.idempotency import IdempotencyKey
from twofold.credentials import find_seed
from twofold.crypto.seal import read_key_id
from twofold.directory import ProfileInput
from twofold.engine import Caller
from twofold.errors import KeyRefused, Unavailable
from twofold.resealing import Progress

ADMIN = Caller(is_admin=True)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def deployment(clock: SetClock) -> AsyncIterator[Deployment]:
    opened = await open_in_memory(clock)
    yield opened
    await opened.close()


async def add_people(deployment: Deployment, clock: SetClock, count: int = 3) -> dict[str, Phone]:
    """People with a phone, a profile and an answer that is kept for a repeated call: all that lies under a seal."""
    phones = {}
    for number in range(count):
        name = f"p{number:03}"
        await deployment.verifier.accounts.put(name, ProfileInput(display_name=name))
        phones[name], _ = await add_phone(deployment.verifier, name, clock)
        kept = Caller(idempotency=IdempotencyKey(b"k" * 16, b"b" * 16, b"secret"))
        code = phones[name].code(clock.now())
        assert isinstance(await deployment.verifier.verify(name, code=code, caller=kept), Verified)
    clock.advance(30)
    return phones


async def keys_in_use(deployment: Deployment) -> set[str]:
    """The ids of all keys under which anything lies; the code of the document with its own."""
    found, unreadable = await deployment.resealing.count()
    assert unreadable == 0
    return {key_id for key_id in found if found[key_id]}


async def check_phones(deployment: Deployment, clock: SetClock, phones: dict[str, Phone]) -> None:
    clock.advance(30)
    for name, phone in phones.items():
        assert isinstance(await deployment.verifier.verify(name, code=phone.code(clock.now())), Verified)
        view = await deployment.verifier.accounts.get(name)
        assert view.display_name == name


async def test_everything_of_everybody_comes_under_the_new_keys_and_still_opens(
    deployment: Deployment, clock: SetClock
) -> None:
    phones = await add_people(deployment, clock)
    rotation = deployment.rotation
    old = await keys_in_use(deployment)
    fresh = await rotation.make_data_key("test")
    await rotation.replace_signing_keys("test")
    progress = await deployment.resealing.run(rest=0)
    assert progress.failed == []
    # The deployment's own account has told of the new keys under the new code already.
    assert (progress.changed, progress.seen) == (len(phones), len(phones))
    signing, master = deployment.keyring.mac_keys().signing_id(), deployment.keyring.masters.active
    assert await keys_in_use(deployment) == {fresh.id, signing, master}
    assert old & {fresh.id, signing} == set()
    await check_phones(deployment, clock, phones)
    assert (await deployment.inspection.verify_audit()).ok


async def test_a_repeated_call_ends_as_the_first_one_did_also_after_a_rotation(
    deployment: Deployment, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    kept = Caller(idempotency=IdempotencyKey(b"k" * 16, b"b" * 16, b"secret"))
    code = phone.code(clock.now())
    first = await deployment.verifier.verify("alice", code=code, caller=kept)
    await deployment.rotation.make_data_key("test")
    await deployment.resealing.run(rest=0)
    assert await deployment.verifier.verify("alice", code=code, caller=kept) == first


async def test_a_second_walk_changes_nothing(deployment: Deployment, clock: SetClock) -> None:
    await add_people(deployment, clock)
    await deployment.rotation.make_data_key("test")
    await deployment.resealing.run(rest=0)
    rows = [row async for row in deployment.store.scan(tombstones=True)]
    again = await deployment.resealing.run(rest=0)
    assert (again.changed, again.failed) == (0, [])
    # That each account was walked is no news of it; only the count of them is.
    assert [row async for row in deployment.store.scan(tombstones=True)] == rows


async def test_it_leaves_no_event_in_the_accounts(deployment: Deployment, clock: SetClock) -> None:
    await add_people(deployment, clock, 1)
    before = await deployment.verifier.accounts.events("p000")
    await deployment.rotation.make_data_key("test")
    await deployment.rotation.replace_signing_keys("test")
    await deployment.resealing.run(rest=0)
    assert await deployment.verifier.accounts.events("p000") == before


async def test_tombstones_come_under_the_new_code_and_stay_tombstones(deployment: Deployment, clock: SetClock) -> None:
    await add_people(deployment, clock)
    await deployment.verifier.accounts.delete("p001")
    events = await deployment.verifier.accounts.events("p001")
    await deployment.rotation.replace_signing_keys("test")
    progress = await deployment.resealing.run(rest=0)
    assert progress.failed == []
    assert deployment.keyring.mac_keys().signing_id() in await keys_in_use(deployment)
    assert await deployment.store.load("p001") is None
    assert await deployment.verifier.accounts.events("p001") == events
    assert (await deployment.inspection.verify_audit()).ok
    assert (await deployment.administration.count()).total == 2


async def test_it_works_in_small_groups_rests_after_each_and_says_how_far_it_is(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "AT_ONCE", 2)
    await add_people(deployment, clock, 5)
    await deployment.rotation.make_data_key("test")
    told: list[tuple[int, int]] = []
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    def on_progress(progress: Progress) -> None:
        told.append((progress.changed, progress.seen))

    progress = await deployment.resealing.run(on_progress=on_progress, sleep=sleep)
    assert [changed for changed, _ in told] == [2, 4, 5]
    assert told[-1] == (progress.changed, progress.seen)
    assert len(rests) == 2
    assert all(seconds > 0 for seconds in rests)


async def test_stopped_in_the_middle_it_goes_on_where_it_was(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resealing, "AT_ONCE", 2)
    phones = await add_people(deployment, clock, 5)
    await deployment.rotation.make_data_key("test")

    async def stop(_: float) -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await deployment.resealing.run(sleep=stop)
    data_keys = {row.id for row in deployment.keyring.rows() if row.purpose == "data"}
    assert await keys_in_use(deployment) >= data_keys
    progress = await deployment.resealing.run(rest=0)
    assert (progress.changed, progress.failed) == (3, [])
    await check_phones(deployment, clock, phones)


async def test_an_account_that_was_changed_from_outside_is_named_and_left_as_it_is(
    deployment: Deployment, clock: SetClock
) -> None:
    phones = await add_people(deployment, clock)
    row = deployment.store._rows["p001"]  # type: ignore[union-attr]
    deployment.store._rows["p001"] = tampered = msgspec.structs.replace(row, version=row.version + 1)  # type: ignore[union-attr]
    await deployment.rotation.make_data_key("test")
    progress = await deployment.resealing.run(rest=0)
    assert progress.failed == [("p001", "account p001 was changed by something else than Twofold")]
    assert progress.changed == 2
    assert deployment.store._rows["p001"] == tampered  # type: ignore[union-attr]
    assert (await deployment.resealing.count())[1] == 1
    del phones["p001"]
    await check_phones(deployment, clock, phones)


async def test_what_the_provider_does_not_open_is_named_and_done_the_next_time(
    deployment: Deployment, clock: SetClock
) -> None:
    phones = await add_people(deployment, clock)
    old = deployment.keyring.active_key_id
    await deployment.rotation.make_data_key("test")
    provider = deployment.keyring.masters._configured
    assert isinstance(provider, PlainProvider)
    provider.fault = KeyRefused("access denied")
    del deployment.keyring._opened[old]
    progress = await deployment.resealing.run(rest=0)
    assert progress.failed == [(name, "access denied") for name in phones]
    assert progress.changed == 0
    provider.fault = None
    progress = await deployment.resealing.run(rest=0)
    assert (progress.changed, progress.failed) == (3, [])
    await check_phones(deployment, clock, phones)


async def test_a_sign_in_in_the_middle_of_it_is_not_lost(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    phones = await add_people(deployment, clock, 1)
    await deployment.rotation.make_data_key("test")
    transact, was_used = deployment.store.transact, False

    async def verify_first(account_id: str, decide: Any) -> Any:
        nonlocal was_used
        if not was_used:
            was_used = True
            assert isinstance(await deployment.verifier.verify("p000", code=phones["p000"].code(clock.now())), Verified)
        return await transact(account_id, decide)

    monkeypatch.setattr(deployment.store, "transact", verify_first)
    assert await deployment.resealing.reseal("p000")
    account = await deployment.store.load("p000")
    assert account is not None
    seeds = [seed for a in account.authenticators if (seed := find_seed(a))]
    assert [read_key_id(seed) for seed in seeds] == [deployment.keyring.active_key_id]
    # The code that was shown meanwhile is used up.
    again = await deployment.verifier.verify("p000", code=phones["p000"].code(clock.now()))
    assert not isinstance(again, Verified)


async def test_what_is_enrolled_in_the_middle_of_it_is_sealed_with_the_rest(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_people(deployment, clock, 1)
    load, was_used = deployment.store.load, False
    keyring = deployment.keyring

    async def enroll_after(account_id: str) -> Account | None:
        nonlocal was_used
        account = await load(account_id)
        if not was_used:
            was_used = True
            await add_phone(deployment.verifier, account_id, clock, caller=ADMIN)
            await deployment.rotation.make_data_key("test")
        return account

    await deployment.rotation.make_data_key("test")
    monkeypatch.setattr(deployment.store, "load", enroll_after)
    assert await deployment.resealing.reseal("p000")
    account = await load("p000")
    assert account is not None
    assert {read_key_id(seed) for a in account.authenticators if (seed := find_seed(a))} == {keyring.active_key_id}


@pytest.mark.parametrize("mode", ["shared", "per-seed"])
async def test_keys_that_are_retired_again_in_the_middle_of_it_are_not_committed(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    await add_people(deployment, clock, 1)
    deployment.keyring.mode = mode  # type: ignore[assignment]
    deployment.keyring.masters._open = lambda *_: PlainProvider("vault")
    rotation, transact, was_used = deployment.rotation, deployment.store.transact, False
    await rotation.make_data_key("test")

    async def rotate_first(account_id: str, decide: Any) -> Any:
        nonlocal was_used
        if account_id == "p000" and not was_used:
            was_used = True
            await rotation.make_data_key("again")
            await rotation.move(await rotation.join_master("plain:vault"), "again")
        return await transact(account_id, decide)

    monkeypatch.setattr(deployment.store, "transact", rotate_first)
    assert await deployment.resealing.reseal("p000")
    keyring = deployment.keyring
    signing = keyring.mac_keys().signing_id()
    assert await keys_in_use(deployment) == {keyring.active_key_id, keyring.masters.active, signing}
    assert not keyring._seeds._held


async def test_an_account_that_is_deleted_in_the_middle_of_it_stays_deleted(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_people(deployment, clock, 1)
    await deployment.rotation.make_data_key("test")
    transact, was_used = deployment.store.transact, False

    async def delete_first(account_id: str, decide: Any) -> Any:
        nonlocal was_used
        if not was_used:
            was_used = True
            await deployment.verifier.accounts.delete("p000")
        return await transact(account_id, decide)

    monkeypatch.setattr(deployment.store, "transact", delete_first)
    assert not await deployment.resealing.reseal("p000")
    assert await deployment.store.load("p000") is None
    assert not await deployment.resealing.reseal("nobody")
    assert [row.account_id async for row in deployment.store.scan(tombstones=True)].count("nobody") == 0


async def test_all_values_are_counted_by_the_key_without_which_they_are_lost(
    deployment: Deployment, clock: SetClock
) -> None:
    await add_people(deployment, clock, 2)
    keyring = deployment.keyring
    found, unreadable = await deployment.resealing.count()
    data, signing, master = keyring.active_key_id, keyring.mac_keys().signing_id(), keyring.masters.active
    rows = [row async for row in deployment.store.scan(tombstones=True)]
    # A seed, a profile and a kept answer each; a code for each row; the five keys of the keyring.
    assert (found[data], found[signing], found[master], unreadable) == (6, len(rows), 5, 0)
    keyring.mode = "per-seed"
    await deployment.resealing.run(rest=0)
    found, _ = await deployment.resealing.count()
    assert (found[data], found[master]) == (4, 7)


async def test_a_full_disk_stops_nothing_but_that_account(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_people(deployment, clock, 2)
    await deployment.rotation.make_data_key("test")
    transact = deployment.store.transact

    async def fail(account_id: str, decide: Any) -> Any:
        if account_id == "p000":
            raise Unavailable("the disk is full")
        return await transact(account_id, decide)

    monkeypatch.setattr(deployment.store, "transact", fail)
    progress = await deployment.resealing.run(rest=0)
    assert (progress.failed, progress.changed) == ([("p000", "the disk is full")], 1)


async def test_another_process_that_does_not_know_the_new_signing_key_yet_sees_no_tampering(
    deployment: Deployment, clock: SetClock
) -> None:
    """One that was paused, just began, or does not report, as a long command does not."""
    phones = await add_people(deployment, clock, 1)
    provider = deployment.keyring.masters._configured
    others = await open_keyring(
        deployment.settings, deployment.store, provider, clock=clock, entropy=deployment.entropy
    )
    await deployment.rotation.replace_signing_keys("test")
    await deployment.resealing.run(rest=0)
    other = Deployment(
        deployment.settings,
        deployment.store,
        others,
        clock=clock,
        entropy=deployment.entropy,
        argon2=deployment.verifier._credentials._argon2,
    )
    code = phones["p000"].code(clock.now())
    assert isinstance(await other.verifier.verify("p000", code=code), Verified)
    kinds = [event.kind for event in await deployment.verifier.accounts.events("")]
    assert "account.tampered" not in kinds
