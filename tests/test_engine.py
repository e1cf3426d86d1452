import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_in_memory
from tests.kit import SetClock, wrong_code

from twofold.bootstrap import Deployment
from twofold.core.account import Account
from twofold.core.attempt import Call
from twofold.core.decision import Decision, Done, Rejected, Stale, Throttled, Verified
from twofold.core.idempotency import IdempotencyKey
from twofold.engine import LOCAL, TRIES_MAX, Caller, Engine
from twofold.errors import Busy, DataKeyMissing, KeyRetired, Refused, TamperedRecord, Unavailable

ADMIN = Caller(is_admin=True)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def deployment(clock: SetClock) -> AsyncIterator[Deployment]:
    opened = await open_in_memory(clock)
    yield opened
    await opened.close()


def engine_of(deployment: Deployment) -> Engine:
    return deployment.verifier._engine


def unchanged(_account: Account | None, _call: Call) -> Decision:
    return Decision(Done())


def failing(*errors: Exception) -> Callable[[Account | None, Call], Decision]:
    """Raises each of them once, then decides."""
    left = list(errors)

    def decide(account: Account | None, call: Call) -> Decision:
        if left:
            raise left.pop(0)
        return unchanged(account, call)

    return decide


async def rotate_data_key(deployment: Deployment, clock: SetClock) -> str:
    """Another process makes a new data key and retires the one in use; this one has not read them yet."""
    clock.advance(1)
    keyring = deployment.keyring
    fresh, old = await keyring.make("data", "test"), keyring.row(keyring.active_key_id)
    assert old is not None
    retired = msgspec.structs.replace(old, state="decrypt_only", retired_at=clock.now())
    assert await deployment.store.change_keys([(None, fresh), (old, retired)])
    return fresh.id


async def test_each_try_has_the_time_and_randomness_of_its_own(deployment: Deployment, clock: SetClock) -> None:
    calls: list[Call] = []

    def decide(_account: Account | None, call: Call) -> Decision:
        calls.append(call)
        clock.advance(1)
        return Decision(Stale() if len(calls) < 3 else Done())

    assert await engine_of(deployment).decide("alice", decide, Caller("shop")) == Done()
    assert len({call.now for call in calls}) == len({call.seed for call in calls}) == 3
    assert {call.application for call in calls} == {"shop"}


async def test_slow_work_is_done_first_and_again_whenever_it_turns_out_stale(deployment: Deployment) -> None:
    asked: list[Any] = []

    async def prepare(outcome: Any) -> None:
        asked.append(outcome)

    def decide(_account: Account | None, _call: Call) -> Decision:
        return Decision(Stale() if len(asked) < 3 else Done())

    assert await engine_of(deployment).decide("alice", decide, LOCAL, prepare=prepare) == Done()
    assert asked == [None, Stale(), Stale()]


async def test_work_that_is_stale_each_time_ends_as_busy_and_nothing_is_charged(deployment: Deployment) -> None:
    tries = 0

    def decide(_account: Account | None, _call: Call) -> Decision:
        nonlocal tries
        tries += 1
        return Decision(Stale())

    with pytest.raises(Busy) as busy:
        await engine_of(deployment).decide("alice", decide, LOCAL)
    assert (tries, busy.value.per_account) == (TRIES_MAX, True)


async def test_a_data_key_of_another_process_is_fetched_and_the_attempt_goes_on(
    deployment: Deployment, clock: SetClock
) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    fresh = await rotate_data_key(deployment, clock)
    # What this process seals with is not active any more: the commit refuses it, and it is sealed again.
    second, _ = await add_phone(deployment.verifier, "alice", clock, caller=ADMIN)
    assert deployment.keyring.active_key_id == fresh
    for its in (phone, second):
        assert isinstance(
            await deployment.verifier.verify("alice", code=its.code(clock.now()), authenticator_id=its.id), Verified
        )


async def test_a_key_that_is_not_in_memory_is_fetched(deployment: Deployment, clock: SetClock) -> None:
    phone, _ = await add_phone(deployment.verifier, "alice", clock)
    deployment.keyring._opened.clear()
    assert isinstance(await deployment.verifier.verify("alice", code=phone.code(clock.now())), Verified)


async def test_a_key_that_is_gone_fails_closed(deployment: Deployment, clock: SetClock) -> None:
    phone, confirmed = await add_phone(deployment.verifier, "alice", clock)
    old = deployment.keyring.active_key_id
    await rotate_data_key(deployment, clock)
    deployment.store._keys[old] = msgspec.structs.replace(deployment.store._keys[old], state="destroyed")  # type: ignore[union-attr]
    await deployment.keyring.refresh()
    with pytest.raises(Unavailable):
        await deployment.verifier.verify("alice", code=phone.code(clock.now()))
    view = await deployment.verifier.accounts.get("alice")
    assert view.state == "unavailable"
    assert [a.state for a in view.authenticators] == ["unavailable", "active"]
    assert isinstance(await deployment.verifier.verify("alice", code=confirmed.recovery_codes[0]), Verified)


@pytest.mark.parametrize("error", [DataKeyMissing("data-9"), KeyRetired("data-9")])
async def test_keys_are_asked_for_a_few_times_and_then_it_is_busy(deployment: Deployment, error: Exception) -> None:
    assert await engine_of(deployment).decide("alice", failing(*[error] * (TRIES_MAX - 1)), LOCAL) == Done()
    with pytest.raises(Busy):
        await engine_of(deployment).decide("alice", failing(*[error] * TRIES_MAX), LOCAL)


async def test_what_a_decision_raises_reaches_the_caller(deployment: Deployment) -> None:
    for error in (Refused("conflict", "no"), Unavailable("down"), ValueError("a mistake")):
        with pytest.raises(type(error)):
            await engine_of(deployment).decide("alice", failing(error), LOCAL)


async def test_a_refusal_that_was_kept_is_raised_again(deployment: Deployment) -> None:
    await deployment.verifier.accounts.put("alice")
    keyed = Caller(idempotency=IdempotencyKey(b"k" * 16, b"b" * 16, b"secret"))
    decide = failing(Refused("conflict", "no"))
    await deployment.keyring.fetch(DataKeyMissing(deployment.keyring.active_key_id))
    for _ in range(2):
        with pytest.raises(Refused) as refused:
            await engine_of(deployment).decide("alice", decide, keyed)
        assert (refused.value.code, refused.value.detail) == ("conflict", "no")
    assert await engine_of(deployment).decide("alice", decide, LOCAL) == Done()


# Alarms.


def tamper(deployment: Deployment, account_id: str = "alice") -> None:
    row = deployment.store._rows[account_id]  # type: ignore[union-attr]
    deployment.store._rows[account_id] = msgspec.structs.replace(row, version=row.version + 1)  # type: ignore[union-attr]


async def kinds(deployment: Deployment, account_id: str = "") -> list[str]:
    return [event.kind for event in await deployment.verifier.accounts.events(account_id)]


@pytest.mark.parametrize("what", ["code", "recovery code", "password", "get"])
async def test_trap_74_a_tampered_account_is_unavailable_and_raises_an_alarm(
    deployment: Deployment, clock: SetClock, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    phone, confirmed = await add_phone(deployment.verifier, "alice", clock)
    tamper(deployment)
    verifier = deployment.verifier
    with caplog.at_level(logging.ERROR):
        if what == "get":
            assert (await verifier.accounts.get("alice")).state == "unavailable"
        else:
            attempts = {
                "code": lambda: verifier.verify("alice", code=phone.code(clock.now())),
                "recovery code": lambda: verifier.verify("alice", code=confirmed.recovery_codes[0]),
                "password": lambda: verifier.check_password("alice", "correct horse battery"),
            }
            with pytest.raises(TamperedRecord):
                await attempts[what]()
    assert await kinds(deployment) == ["account.tampered"]
    assert "ALARM" in caplog.text


async def test_an_alarm_is_recorded_once_a_minute_for_each_account(deployment: Deployment, clock: SetClock) -> None:
    for account_id in ("alice", "bob"):
        await add_phone(deployment.verifier, account_id, clock)
        tamper(deployment, account_id)
    for _ in range(3):
        for account_id in ("alice", "bob"):
            with pytest.raises(TamperedRecord):
                await deployment.verifier.verify(account_id, code="123456")
    assert len(await kinds(deployment)) == 2
    clock.advance(60)
    with pytest.raises(TamperedRecord):
        await deployment.verifier.verify("alice", code="123456")
    assert len(await kinds(deployment)) == 3


async def test_a_tampered_deployment_account_does_not_alarm_about_itself_for_ever(
    deployment: Deployment, clock: SetClock
) -> None:
    await deployment.applications.create("shop")
    await add_phone(deployment.verifier, "alice", clock)
    tamper(deployment, "")
    with pytest.raises(TamperedRecord):
        await deployment.applications.create("blog")
    tamper(deployment, "alice")
    with pytest.raises(TamperedRecord):
        await deployment.verifier.verify("alice", code="123456")


# Answers that left no event.


async def test_answers_that_left_no_event_are_counted_until_one_tells_of_them(
    deployment: Deployment, clock: SetClock
) -> None:
    engine, verifier = engine_of(deployment), deployment.verifier
    phone, _ = await add_phone(verifier, "alice", clock)
    await engine.decide("alice", lambda _account, _call: Decision(Throttled(1)), LOCAL)
    await engine.decide("alice", lambda _account, _call: Decision(Rejected("wrong_code")), LOCAL)
    await engine.decide("bob", lambda _account, _call: Decision(Throttled(1)), LOCAL)
    assert engine.begin("alice", LOCAL).unrecorded_before == 2
    await verifier.verify("alice", code=wrong_code(phone, clock.now()))
    last = (await verifier.accounts.events("alice"))[-1]
    assert b'"unrecorded_before":2' in (last.payload or b"")
    assert engine.begin("alice", LOCAL).unrecorded_before == 0
    assert engine.begin("bob", LOCAL).unrecorded_before == 1


async def test_an_event_of_another_kind_does_not_lose_the_count(deployment: Deployment, clock: SetClock) -> None:
    engine, verifier = engine_of(deployment), deployment.verifier
    phone, _ = await add_phone(verifier, "alice", clock)
    await engine.decide("alice", lambda _account, _call: Decision(Throttled(1)), LOCAL)
    await verifier.rename("alice", phone.id, "my phone")
    await verifier.verify("alice", code=phone.code(clock.now()))
    told = [b'"unrecorded_before":1' in (event.payload or b"") for event in await verifier.accounts.events("alice")]
    assert sum(told) == 1


async def test_the_counts_of_strangers_cannot_fill_the_memory(deployment: Deployment) -> None:
    engine = engine_of(deployment)
    for number in range(10_050):
        await engine.decide(f"a{number}", lambda _account, _call: Decision(Throttled(1)), LOCAL)
    assert len(engine._unrecorded) == 10_000
