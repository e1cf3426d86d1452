"""DATA_KEYS=per-seed: each seed under a key of its own, which the provider opens for one attempt and no longer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from tests.deployments import add_phone, open_in_memory, phone_of
from tests.kit import Phone, PlainProvider, SetClock, wrong_code
from tests.yubikeys import Yubikey

from twofold.bootstrap import Deployment
from twofold.core.account import Authenticator
from twofold.core.decision import Confirmed, Rejected, Tried, Verified
from twofold.credentials import OtpParameters, find_seed
from twofold.crypto.seal import OwnKey, read_own_key
from twofold.directory import ProfileInput
from twofold.engine import Caller
from twofold.errors import KeyRefused, ProviderAway, Refused, Unavailable
from twofold.keys.seed_keys import SeedKeys
from twofold.server.app import create_app

ADMIN = Caller(is_admin=True)
SEED = b"a seed of twenty by."


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def deployment(clock: SetClock) -> AsyncIterator[Deployment]:
    opened = await open_in_memory(clock, data_keys="per-seed")
    yield opened
    # Whatever a test did: no key of a seed stays in memory.
    assert held(opened) == []
    await opened.close()


def held(deployment: Deployment) -> list[str]:
    seeds: SeedKeys = deployment.keyring._seeds
    assert set(seeds._held) == set(seeds._holders)
    return sorted(seeds._held)


def provider_of(deployment: Deployment) -> PlainProvider:
    provider = deployment.keyring.masters._configured
    assert isinstance(provider, PlainProvider)
    return provider


class Asked:
    """What was asked of the provider while the block ran; keys of seeds alone."""

    def __init__(self, deployment: Deployment) -> None:
        self._asked = provider_of(deployment).asked

    def __enter__(self) -> list[str]:
        self._before, self.calls = len(self._asked), list[str]()
        return self.calls

    def __exit__(self, *_: object) -> None:
        self.calls += [call for call, key_id in self._asked[self._before :] if key_id.startswith("seed-")]


async def authenticators_of(deployment: Deployment, account_id: str = "alice") -> list[Authenticator]:
    account = await deployment.store.load(account_id)
    assert account is not None
    return [a for a in account.authenticators if find_seed(a) is not None]


async def own_keys(deployment: Deployment, account_id: str = "alice") -> list[OwnKey | None]:
    return [read_own_key(find_seed(a) or b"") for a in await authenticators_of(deployment, account_id)]


def unwraps(calls: list[str]) -> int:
    return calls.count("unwrap")


async def test_a_seed_gets_a_key_at_its_enrollment_and_the_provider_opens_it_for_each_attempt(
    deployment: Deployment, clock: SetClock
) -> None:
    verifier = deployment.verifier
    with Asked(deployment) as asked:
        pending = await verifier.enroll("alice")
    assert asked.count("wrap") == 1
    (own,) = await own_keys(deployment)
    assert own is not None
    assert own.key_id.startswith("seed-")
    phone = phone_of(pending)
    for attempt in (
        lambda: verifier.confirm("alice", phone.id, code=phone.code(clock.now())),
        lambda: verifier.verify("alice", code=phone.code(clock.now())),
        lambda: verifier.verify("alice", code=phone.code(clock.now())),
    ):
        with Asked(deployment) as asked:
            assert isinstance(await attempt(), Confirmed | Verified)
        assert asked == ["unwrap"]
        assert held(deployment) == []
        clock.advance(30)
    assert await own_keys(deployment) == [own]


async def test_an_enrollment_shown_again_is_the_same(deployment: Deployment, clock: SetClock) -> None:
    verifier = deployment.verifier
    first = await verifier.enroll("alice")
    again = await verifier.enroll("alice")
    seen = await verifier.see_again("alice", first.id)
    assert {first.secret, again.secret, seen.secret} == {first.secret}
    phone = phone_of(seen)
    assert isinstance(await verifier.confirm("alice", phone.id, code=phone.code(clock.now())), Confirmed)


async def test_a_wrong_code_is_judged_and_nothing_is_kept(deployment: Deployment, clock: SetClock) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    with Asked(deployment) as asked:
        assert await deployment.verifier.verify("alice", code=wrong_code(phone, clock.now())) == Rejected("wrong_code")
    assert unwraps(asked) == 1
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)


async def test_a_recovery_code_opens_no_seed(deployment: Deployment, clock: SetClock) -> None:
    _, confirmed = await add_phone(deployment.verifier, "alice", clock)
    with Asked(deployment) as asked:
        assert isinstance(await deployment.verifier.verify("alice", code=confirmed.recovery_codes[0]), Verified)
    assert asked == []


async def test_several_authenticators_have_a_key_each_and_each_is_opened_once(
    deployment: Deployment, clock: SetClock
) -> None:
    phones = [(await add_phone(deployment.verifier, "alice", clock, caller=ADMIN))[0] for _ in range(5)]
    keys = await own_keys(deployment)
    assert len({own.key_id for own in keys if own}) == len(phones)
    for phone in phones:
        with Asked(deployment) as asked:
            assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)
        assert unwraps(asked) <= len(phones)
    with Asked(deployment) as asked:
        outcome = await deployment.verifier.verify(
            "alice", code=phones[2].code(clock.now(), ahead=1), authenticator_id=phones[2].id
        )
    assert isinstance(outcome, Verified)
    assert asked == ["unwrap"]


async def test_as_many_authenticators_as_an_account_may_have_are_judged_in_one_attempt(
    deployment: Deployment, clock: SetClock
) -> None:
    phones: list[Phone] = []
    while True:
        try:
            phones.append((await add_phone(deployment.verifier, "alice", clock, caller=ADMIN))[0])
        except Refused:
            break
    assert len(phones) > 5
    assert isinstance(await deployment.verifier.verify("alice", code=phones[-1].code(clock.now())), Verified)
    assert await deployment.verifier.verify("alice", code=wrong_code(phones[0], clock.now())) == Rejected("wrong_code")


async def test_counters_are_found_again_by_two_codes_and_clocks_by_three(
    deployment: Deployment, clock: SetClock
) -> None:
    token, _ = await add_phone(deployment.verifier, "alice", clock, factor="hotp")
    codes = [token.code_of(60), token.code_of(61)]
    assert isinstance(await deployment.verifier.verify("alice", codes=codes), Verified)
    phone, _ = await add_phone(deployment.verifier, "bob", clock)
    clock.advance(120)
    assert isinstance(await deployment.verifier.verify("bob", codes=phone.three(clock.now())), Verified)


async def test_an_imported_seed_has_a_key_of_its_own_and_is_recognized(deployment: Deployment, clock: SetClock) -> None:
    accounts, otp = deployment.verifier.accounts, OtpParameters(SEED)
    await accounts.put("alice")
    assert isinstance(await accounts.import_authenticator("alice", "totp", otp, caller=ADMIN), Confirmed)
    assert None not in await own_keys(deployment)
    with pytest.raises(Refused, match="already"):
        await accounts.import_authenticator("alice", "totp", otp, caller=ADMIN)
    assert isinstance(await deployment.verifier.verify("alice", code=Phone("", SEED).code(clock.now())), Verified)


async def test_a_yubikey_is_imported_and_judged(deployment: Deployment) -> None:
    accounts, key = deployment.verifier.accounts, Yubikey()
    await accounts.put("alice")
    rehearsed = await accounts.import_yubikey("alice", key.key, is_rehearsal=True, caller=ADMIN)
    assert isinstance(rehearsed, Confirmed)
    assert await authenticators_of(deployment) == []
    await accounts.import_yubikey("alice", key.key, caller=ADMIN)
    assert None not in await own_keys(deployment)
    assert isinstance(await deployment.verifier.verify("alice", code=key.touch()), Verified)


async def test_an_operator_tests_a_code(deployment: Deployment, clock: SetClock) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    tried = await deployment.verifier.accounts.test_code("alice", phone.code(clock.now()), caller=ADMIN)
    assert tried == Tried("fits", phone.id)
    late = await deployment.verifier.accounts.find_late_clock("alice", phone.code(clock.now(), ahead=-20), ADMIN)
    assert late.finding == "fits_with_clock_off"


async def test_every_seed_is_opened_and_dropped_when_all_are_checked(deployment: Deployment, clock: SetClock) -> None:
    for name in ("alice", "bob"):
        await add_phone(deployment.verifier, name, clock)
    with Asked(deployment) as asked:
        assert [found async for found in deployment.inspection.unopenable()] == []
    assert asked == ["unwrap"] * 2
    provider_of(deployment).fault = KeyRefused("access denied")
    assert [found async for found in deployment.inspection.unopenable()] == [
        ("alice", "access denied"),
        ("bob", "access denied"),
    ]


@pytest.mark.parametrize("fault", [KeyRefused("access denied"), ProviderAway("timed out")])
async def test_without_the_provider_nobody_gets_in_and_nothing_is_charged(
    deployment: Deployment, clock: SetClock, fault: Unavailable
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    events = await deployment.verifier.accounts.events("alice")
    provider_of(deployment).fault = fault
    for code in (phone.code(clock.now()), wrong_code(phone, clock.now())):
        with pytest.raises(type(fault)):
            await deployment.verifier.verify("alice", code=code)
        assert held(deployment) == []
    assert await deployment.verifier.accounts.events("alice") == events
    provider_of(deployment).fault = None
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)


async def test_a_key_is_dropped_when_the_decision_or_the_commit_fails(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    write = deployment.store._write  # type: ignore[union-attr]

    def fail(_: object) -> None:
        # Here it is in use.
        assert held(deployment) != []
        raise Unavailable("the disk is full")

    monkeypatch.setattr(deployment.store, "_write", fail)
    with pytest.raises(Unavailable, match="disk"):
        await deployment.verifier.verify("alice", code=phone.code(clock.now()))
    assert held(deployment) == []
    monkeypatch.setattr(deployment.store, "_write", write)
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)


async def test_a_key_is_dropped_when_its_attempt_is_given_up(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    transact, is_waiting = deployment.store.transact, asyncio.Event()

    async def wait_once_held(*arguments: Any) -> Any:
        if held(deployment):
            is_waiting.set()
            await asyncio.Event().wait()
        return await transact(*arguments)

    monkeypatch.setattr(deployment.store, "transact", wait_once_held)
    attempt = asyncio.create_task(deployment.verifier.verify("alice", code=phone.code(clock.now())))
    await is_waiting.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert held(deployment) == []
    monkeypatch.setattr(deployment.store, "transact", transact)
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)


async def test_of_twenty_at_once_with_the_same_code_one_gets_in_and_nothing_is_kept(
    deployment: Deployment, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    code = phone.code(clock.now())
    outcomes = await asyncio.gather(*(deployment.verifier.verify("alice", code=code) for _ in range(20)))
    assert sum(isinstance(outcome, Verified) for outcome in outcomes) == 1
    assert held(deployment) == []


async def test_twenty_people_at_once_get_in(deployment: Deployment, clock: SetClock) -> None:
    phones = {f"p{n}": (await add_phone(deployment.verifier, f"p{n}", clock))[0] for n in range(20)}
    now = clock.now()
    outcomes = await asyncio.gather(*(deployment.verifier.verify(i, code=p.code(now)) for i, p in phones.items()))
    assert all(isinstance(outcome, Verified) for outcome in outcomes)


async def test_what_one_attempt_holds_another_may_use_and_neither_takes_it_from_the_other(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    transact, gate, is_waiting = deployment.store.transact, asyncio.Event(), asyncio.Event()

    async def wait_once_held(*arguments: Any) -> Any:
        if held(deployment) and not is_waiting.is_set():
            is_waiting.set()
            await gate.wait()
        return await transact(*arguments)

    monkeypatch.setattr(deployment.store, "transact", wait_once_held)
    first = asyncio.create_task(deployment.verifier.verify("alice", code=wrong_code(phone, clock.now())))
    await is_waiting.wait()
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)
    assert held(deployment) != []
    gate.set()
    assert await first == Rejected("wrong_code")


# Views.


async def test_views_and_the_administrator_s_api_open_nothing(deployment: Deployment, clock: SetClock) -> None:
    await deployment.verifier.accounts.put("alice", ProfileInput(display_name="Alice"))
    await add_phone(deployment.verifier, "alice", clock)
    _, key = await deployment.applications.create("test", scopes=("admin", "verify"))
    administration = deployment.administration
    provider_of(deployment).fault = KeyRefused("an administrator opens nothing")
    with Asked(deployment) as asked:
        view = await deployment.verifier.accounts.get("alice")
        assert [a.state for a in view.authenticators] == ["active", "active"]
        await administration.page()
        assert (await administration.find("alice"))[0].state == "active"
        assert (await administration.count()).total == 1
        app = create_app(deployment)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 4000))
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000", trust_env=False) as client:
            for path in ("accounts/alice", "accounts/alice/authenticators", "accounts/alice/events", "accounts"):
                answer = await client.get(f"/api/v1/{path}", headers=headers)
                assert answer.status_code in (200, 404, 405), (path, answer.text)
            answer = await client.get("/api/v1/accounts/alice", headers=headers)
            assert answer.json()["state"] == "active"
    assert asked == []


# From one mode to the other.


async def reopened(deployment: Deployment, mode: str) -> None:
    deployment.keyring.mode = mode  # type: ignore[assignment]


async def test_rotated_after_a_change_of_the_mode_every_seed_is_under_the_keys_of_that_mode(
    deployment: Deployment, clock: SetClock
) -> None:
    phones = {name: (await add_phone(deployment.verifier, name, clock))[0] for name in ("alice", "bob")}
    for mode in ("shared", "per-seed"):
        await reopened(deployment, mode)
        for name, phone in phones.items():
            assert isinstance(await deployment.verifier.verify(name, code=phone.code(clock.now())), Verified)
        progress = await deployment.resealing.run(rest=0)
        assert (progress.changed, progress.failed) == (2, [])
        for name, phone in phones.items():
            (own,) = await own_keys(deployment, name)
            assert (own is not None) == (mode == "per-seed")
            clock.advance(30)
            assert isinstance(await deployment.verifier.verify(name, code=phone.code(clock.now())), Verified)
        again = await deployment.resealing.run(rest=0)
        assert (again.changed, again.failed) == (0, [])
        clock.advance(30)


async def test_sealed_again_under_another_master_key_each_seed_gets_a_new_key(
    deployment: Deployment, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    (before,) = await own_keys(deployment)
    deployment.keyring.masters._open = lambda *_: PlainProvider("vault")
    rotation = deployment.rotation
    await rotation.move(await rotation.join_master("plain:vault"), "test")
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)
    progress = await deployment.resealing.run(rest=0)
    assert (progress.changed, progress.failed) == (1, [])
    (after,) = await own_keys(deployment)
    assert before is not None
    assert after is not None
    assert after.key_id != before.key_id
    assert after.master == deployment.keyring.masters.active != before.master
    provider_of(deployment).fault = KeyRefused("the old master key is gone")
    clock.advance(30)
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)


async def test_a_seed_made_under_a_master_key_that_was_retired_meanwhile_is_not_committed(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was paused between the provider and the commit."""
    deployment.keyring.masters._open = lambda *_: PlainProvider("vault")
    rotation, transact = deployment.rotation, deployment.store.transact
    moved = False

    async def moves_first(account_id: str, decide: Any) -> Any:
        nonlocal moved
        if account_id == "alice" and held(deployment) and not moved:
            moved = True
            await rotation.move(await rotation.join_master("plain:vault"), "test")
        return await transact(account_id, decide)

    monkeypatch.setattr(deployment.store, "transact", moves_first)
    pending = await deployment.verifier.enroll("alice")
    (own,) = await own_keys(deployment)
    assert own is not None
    assert own.master == deployment.keyring.masters.active
    phone = phone_of(pending)
    assert isinstance(await deployment.verifier.confirm("alice", phone.id, code=phone.code(clock.now())), Confirmed)


@pytest.mark.parametrize("fault", [ProviderAway("gone for lunch"), KeyRefused("taken away")])
async def test_after_a_code_that_could_not_be_judged_it_is_not_ready_until_the_provider_opens_keys_again(
    deployment: Deployment, clock: SetClock, fault: Unavailable
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    provider = provider_of(deployment)
    provider.fault = fault
    with pytest.raises(type(fault)):
        await deployment.verifier.verify("alice", code=phone.code(clock.now()))
    with pytest.raises(type(fault)):
        await deployment.keyring.check()
    assert str(fault) in deployment.keyring.fault
    provider.fault = None
    await deployment.keyring.check()
    assert deployment.keyring.fault == ""
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)
