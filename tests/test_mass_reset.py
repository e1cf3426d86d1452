"""A reset of many people, over both stores: whom it finds, what it counts, and how it goes on after an interruption."""

import json
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_for_test, open_in_memory
from tests.kit import Phone, SetClock

from twofold import mass_reset
from twofold.bootstrap import Deployment
from twofold.core.account import DEPLOYMENT
from twofold.core.clock import MICROS_PER_S, in_seconds, rfc3339
from twofold.core.codec import StoredAccount
from twofold.core.decision import Verified
from twofold.directory import ProfileInput
from twofold.engine import Caller
from twofold.errors import InvalidInput, Refused, TamperedRecord, Unavailable
from twofold.key_ports import WrappedKey
from twofold.mass_reset import AT_ONCE, GRACE_DAYS_MAX, RESUMED_WITHIN_S, MassReset, Report, Target

PASSWORD = "violet harbour 1926"
ADMIN = Caller(is_admin=True)
DAY_S = 86_400
ALL = Target()


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, clock: SetClock, tmp_path: Path) -> AsyncIterator[Deployment]:
    opened = await (open_in_memory(clock) if request.param == "memory" else open_for_test(tmp_path / "data", clock))
    yield opened
    await opened.close()


async def add(deployment: Deployment, clock: SetClock, name: str, *groups: str, password: bool = True) -> Phone:
    accounts = deployment.verifier.accounts
    await accounts.put(name, ProfileInput(groups=groups))
    if password:
        await accounts.set_password(name, PASSWORD)
    phone, _ = await add_phone(deployment.verifier, name, clock)
    return phone


async def run(deployment: Deployment, target: Target = ALL, days: int = 0, reason: str = "") -> Report:
    return await deployment.mass_reset.run(target, grace_days=days, reason=reason, caller=ADMIN)


async def stopping(deployment: Deployment) -> list[str]:
    return [view.id async for view in deployment.mass_reset.waiting()]


async def factors(deployment: Deployment, name: str) -> list[str]:
    return [a.factor for a in (await deployment.verifier.accounts.get(name)).authenticators]


async def events(deployment: Deployment, name: str = DEPLOYMENT) -> list[dict[str, Any]]:
    rows = await deployment.verifier.accounts.events(name)
    return [{"kind": row.kind, **json.loads(row.payload or b"{}")} for row in rows]


async def refusal(attempt: Awaitable[Any]) -> str:
    with pytest.raises(Refused) as refused:
        await attempt
    return str(refused.value)


# Whom.


async def test_everybody_who_has_something_is_reset_and_counted(deployment: Deployment, clock: SetClock) -> None:
    for name in ("ann", "bo"):
        await add(deployment, clock, name)
    await add(deployment, clock, "key", password=False)
    await deployment.administration.invite("new", caller=ADMIN)
    report = await run(deployment, reason="the disk was sold")
    assert (report.people, report.need_link, report.is_resumed, report.untrusted) == (3, 1, False, ())
    assert report.stops_at == report.begun_at
    assert await factors(deployment, "ann") == ["password"]
    assert (await deployment.verifier.accounts.get("new")).invited_until, "an invitation is not a second factor"
    begun, ended = (await events(deployment))[-2:]
    assert (begun["kind"], begun["all"], begun["reason"]) == ("accounts.reset_begun", True, "the disk was sold")
    assert (ended["kind"], ended["people"], ended["all"]) == ("accounts.reset", 3, True)
    assert (await events(deployment, "ann"))[-1]["reason"] == "the disk was sold"


async def test_a_group_is_reset_once_whatever_else_its_people_are_in(deployment: Deployment, clock: SetClock) -> None:
    await add(deployment, clock, "ann", "staff", "board")
    await add(deployment, clock, "bo", "board")
    await add(deployment, clock, "cy")
    report = await run(deployment, Target(group="board"), days=2)
    assert report.people == 2
    assert await stopping(deployment) == ["ann", "bo"]
    report = await run(deployment, Target(group="staff"), days=2)
    assert (report.people, report.is_resumed) == (0, False)
    assert [e["kind"] for e in await events(deployment, "ann")].count("account.reset_begun") == 1


async def test_a_group_or_key_that_is_not_there_is_one_line_and_nothing_happens(
    deployment: Deployment, clock: SetClock
) -> None:
    await add(deployment, clock, "ann", "staff")
    before = await events(deployment)
    assert await refusal(run(deployment, Target(group="stuff"))) == "nobody is in the group stuff"
    assert "there is no data key data-0" in await refusal(run(deployment, Target(data_key="data-0")))
    other = next(row.id for row in deployment.keyring.rows() if row.purpose == "integrity")
    assert "no data key" in await refusal(run(deployment, Target(data_key=other)))
    for days, reason in ((-1, ""), (GRACE_DAYS_MAX + 1, ""), (1, "\n"), (1, "x" * 201)):
        with pytest.raises(InvalidInput):
            await run(deployment, Target(group="staff"), days, reason or "")
    assert await events(deployment) == before
    assert await stopping(deployment) == []
    assert (await run(deployment, Target(group="staff"), GRACE_DAYS_MAX)).people == 1


async def test_a_data_key_is_suspected_of_every_seed_that_it_may_have_sealed(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(deployment, clock, "old")
    key = next(row for row in deployment.keyring.rows() if row.purpose == "data")
    clock.advance(60)
    retired_at = clock.now()
    clock.advance(1)
    await add(deployment, clock, "young")

    def rows(retired: WrappedKey) -> MassReset:
        changed = MassReset(
            deployment.mass_reset._engine,
            deployment.verifier.accounts,
            deployment.administration,
            deployment.mass_reset._codec,
            lambda: (retired,),
        )
        monkeypatch.setattr(deployment, "mass_reset", changed)
        return changed

    # Another key seals today: what was there when this one was retired may have been sealed anew since.
    rows(msgspec.structs.replace(key, id="data-elsewhere", state="decrypt_only", retired_at=retired_at))
    assert (await run(deployment, Target(data_key="data-elsewhere"), 2)).people == 1
    assert await stopping(deployment) == ["old"]
    # What is still sealed under it counts, whenever it was made.
    rows(msgspec.structs.replace(key, state="decrypt_only", retired_at=retired_at))
    assert (await run(deployment, Target(data_key=key.id), 2)).people == 1
    assert await stopping(deployment) == ["old", "young"]


async def test_of_a_key_in_use_everything_until_now_is_suspected_and_no_recovery_codes_alone(
    deployment: Deployment, clock: SetClock
) -> None:
    await add(deployment, clock, "ann")
    key = next(row for row in deployment.keyring.rows() if row.purpose == "data")
    assert deployment.mass_reset.find_key(key.id).retired_at == 0
    await run(deployment, Target(data_key=key.id))
    assert await factors(deployment, "ann") == ["password"]
    assert (await events(deployment))[-1]["data_key"] == key.id


async def test_an_account_that_cannot_be_trusted_is_named_and_stops_nobody(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bo", "cy"):
        await add(deployment, clock, name)
    scan = deployment.store.scan

    async def tampered(**options: Any) -> AsyncIterator[StoredAccount]:
        async for row in scan(**options):
            yield msgspec.structs.replace(row, version=99) if row.account_id == "bo" else row

    async def orphans() -> list[str]:
        return ["dee"]

    monkeypatch.setattr(deployment.store, "scan", tampered)
    monkeypatch.setattr(deployment.store, "orphans", orphans)
    report = await run(deployment)
    assert (report.people, report.untrusted) == (2, ("bo", "dee"))
    assert "account.tampered" in [event["kind"] for event in await events(deployment)]


async def test_more_people_than_are_written_at_once_are_all_reset(deployment: Deployment, clock: SetClock) -> None:
    names = [f"p{number:03}" for number in range(2 * AT_ONCE + 1)]
    for name in names:
        await add(deployment, clock, name, password=False)
    looked_at = 0

    def note() -> None:
        nonlocal looked_at
        looked_at += 1

    report = await deployment.mass_reset.run(ALL, grace_days=1, caller=ADMIN, note=note)
    assert (report.people, report.need_link, looked_at) == (len(names), len(names), len(names))
    assert await stopping(deployment) == names


async def test_somebody_deleted_or_changed_from_outside_meanwhile_is_left_out(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bo", "cy"):
        await add(deployment, clock, name)
    decide = deployment.mass_reset._engine.decide

    async def late(account_id: str, *given: Any, **more: Any) -> Any:
        if account_id == "bo":
            raise Refused("not_found", "deleted a moment ago")
        if account_id == "cy":
            raise TamperedRecord("account cy")
        return await decide(account_id, *given, **more)

    monkeypatch.setattr(deployment.mass_reset._engine, "decide", late)
    report = await run(deployment)
    assert (report.people, report.untrusted) == (1, ("cy",))


# Interrupted, and run again.


async def interrupt(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, target: Target, days: int) -> None:
    """Reset the first people in order of id, and stop before the last one."""
    with monkeypatch.context() as patched:
        patched.setattr(mass_reset, "AT_ONCE", 1)
        written = 0
        decide = deployment.mass_reset._engine.decide

        async def some(account_id: str, *given: Any, **more: Any) -> Any:
            nonlocal written
            if account_id != DEPLOYMENT:
                written += 1
            if written > 1:
                raise Unavailable("the disk is full")
            return await decide(account_id, *given, **more)

        patched.setattr(deployment.mass_reset._engine, "decide", some)
        try:
            await run(deployment, target, days)
        except Unavailable:
            return
    raise AssertionError("it was not interrupted")


async def test_an_interrupted_reset_goes_on_and_leaves_alone_whoever_is_done(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bo"):
        await add(deployment, clock, name)
    began = clock.now()
    await interrupt(deployment, monkeypatch, ALL, 0)
    assert (await factors(deployment, "ann"), "totp" in await factors(deployment, "bo")) == (["password"], True)
    (half,) = await deployment.mass_reset.find_open()
    assert (half.people, half.begun_at) == (None, rfc3339(began))
    clock.advance(60)
    await add_phone(deployment.verifier, "ann", clock)
    report = await run(deployment)
    assert (report.is_resumed, report.begun_at, report.people) == (True, began, 1)
    assert "totp" in await factors(deployment, "ann"), "set up anew since it was begun"
    assert await factors(deployment, "bo") == ["password"]
    assert await deployment.mass_reset.find_open() == []
    clock.advance(1)
    again = await run(deployment)
    assert (again.is_resumed, again.people) == (False, 1)


async def test_a_reset_that_went_on_counts_the_people_of_before(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bo"):
        await add(deployment, clock, name, "staff", password=False)
    staff = Target(group="staff")
    await interrupt(deployment, monkeypatch, staff, 7)
    clock.advance(60)
    report = await run(deployment, staff, 7)
    assert (report.is_resumed, report.people, report.need_link) == (True, 2, 2)
    assert [e["kind"] for e in await events(deployment, "ann")].count("account.reset_begun") == 1


async def test_a_reset_of_others_or_of_long_ago_is_another_one(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bo"):
        await add(deployment, clock, name, "staff")
    await interrupt(deployment, monkeypatch, Target(group="staff"), 0)
    assert not (await run(deployment, ALL)).is_resumed
    clock.advance(RESUMED_WITHIN_S)
    assert (await run(deployment, Target(group="staff"))).is_resumed
    await add_phone(deployment.verifier, "ann", clock)
    await add_phone(deployment.verifier, "bo", clock)
    await interrupt(deployment, monkeypatch, Target(group="staff"), 0)
    clock.advance(RESUMED_WITHIN_S + 1)
    assert await deployment.mass_reset.find_open() == []
    assert not (await run(deployment, Target(group="staff"))).is_resumed


async def test_what_was_begun_is_found_behind_many_other_events(
    deployment: Deployment, clock: SetClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mass_reset, "_PAGE", 3)
    for name in ("ann", "bo"):
        await add(deployment, clock, name)
    await interrupt(deployment, monkeypatch, ALL, 1)
    for number in range(7):
        await deployment.networks.add(f"192.0.2.{number}", caller=ADMIN)
    assert (await run(deployment, ALL, 1)).is_resumed


# Progress, and the end.


async def test_progress_tells_the_resets_that_go_on_and_who_is_missing(deployment: Deployment, clock: SetClock) -> None:
    assert await deployment.mass_reset.find_open() == []
    phones = {name: await add(deployment, clock, name, "staff") for name in ("ann", "bo")}
    report = await run(deployment, Target(group="staff"), 3)
    (going_on,) = await deployment.mass_reset.find_open()
    assert (going_on.target, going_on.people) == (Target(group="staff"), 2)
    assert (going_on.begun_at, going_on.stops_at) == (rfc3339(report.begun_at), rfc3339(report.stops_at))
    assert report.stops_at % MICROS_PER_S == 0
    clock.advance(30)
    outcome = await deployment.verifier.verify("ann", code=phones["ann"].code(clock.now()))
    assert isinstance(outcome, Verified)
    assert outcome.reenroll_by == report.stops_at
    await add_phone(deployment.verifier, "ann", clock, caller=ADMIN)
    assert await stopping(deployment) == ["bo"]
    clock.advance(3 * DAY_S)
    assert await deployment.mass_reset.find_open() == []
    assert await stopping(deployment) == []


async def test_what_stopped_leaves_lists_counts_and_documents_within_a_minute(
    deployment: Deployment, clock: SetClock
) -> None:
    await add(deployment, clock, "ann")
    report = await run(deployment, ALL, 1)
    counts = await deployment.administration.count()
    assert (counts.stopping, counts.first_stops_at, counts.by_state) == (1, report.stops_at, {"active": 1})
    assert [view.stops_at for view in await deployment.administration.page(stops_by=report.stops_at)] == [
        report.stops_at
    ]
    clock.set(report.stops_at / MICROS_PER_S - 1)
    await deployment.administration.remove_stopped()
    assert (await deployment.administration.count()).stopping == 1
    clock.advance(1)
    view = await deployment.verifier.accounts.get("ann")
    assert (view.state, view.stops_at, view.recovery_codes_left) == ("empty", 0, 0), "at once, whatever is written"
    await deployment.administration.remove_stopped()
    counts = await deployment.administration.count()
    assert (counts.stopping, counts.first_stops_at, counts.by_state) == (0, 0, {"empty": 1})
    account = await deployment.store.load("ann")
    assert account is not None
    assert [a.factor for a in account.authenticators] == ["password"]


async def test_a_second_reset_with_an_earlier_end_brings_it_forward(deployment: Deployment, clock: SetClock) -> None:
    await add(deployment, clock, "ann")
    await run(deployment, ALL, 9)
    clock.advance(60)
    report = await run(deployment, ALL, 1)
    assert report.people == 1
    assert (await deployment.verifier.accounts.get("ann")).stops_at == report.stops_at
    clock.advance(60)
    assert (await run(deployment, ALL, 9)).people == 0
    assert report.stops_at < clock.now() + in_seconds(DAY_S)
