"""What administrators do to others, over both stores: who may, what it leaves behind, and what a repeated call does."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import add_phone, open_for_test, open_in_memory
from tests.kit import Phone, SetClock, wrong_code

from twofold.administration import PAGE_PEOPLE, REASON_MAX, Administration, check_reason
from twofold.bootstrap import Deployment
from twofold.core.account import DEPLOYMENT
from twofold.core.administration import INVITATION_TTL_S
from twofold.core.attempt import Context
from twofold.core.clock import MICROS_PER_S, in_seconds
from twofold.core.decision import Verified
from twofold.core.factor import read_answer
from twofold.core.idempotency import IdempotencyKey
from twofold.core.sign_in import Bearer
from twofold.core.verdict import Question
from twofold.engine import Caller, NotProven
from twofold.errors import InvalidInput, Refused, SessionEnded
from twofold.sign_in import Guest

PASSWORD = "violet harbour 1926"
ROOT = Caller("pages:se_1", is_admin=True, by="root")


def once(name: str) -> Caller:
    """The administrator's form of that name, as often as it is sent."""
    key = IdempotencyKey(name.encode().ljust(16), b"body".ljust(16), b"secret")
    return Caller("pages:se_1", is_admin=True, by="root", idempotency=key)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, clock: SetClock, tmp_path: Path) -> AsyncIterator[Deployment]:
    opened = await (open_in_memory(clock) if request.param == "memory" else open_for_test(tmp_path / "data", clock))
    yield opened
    await opened.close()


@pytest.fixture
def people(deployment: Deployment) -> Administration:
    return deployment.administration


async def add_person(deployment: Deployment, clock: SetClock, name: str = "bo") -> Phone:
    """Somebody with a password and an app."""
    await deployment.verifier.accounts.put(name)
    await deployment.verifier.accounts.set_password(name, PASSWORD)
    phone, _ = await add_phone(deployment.verifier, name, clock)
    return phone


async def sign_in(deployment: Deployment, clock: SetClock, name: str, phone: Phone) -> Bearer:
    """Both steps, and the full session of them."""
    begun = await deployment.sign_in.begin(name, PASSWORD, Guest())
    assert isinstance(begun, Verified)
    pending = await find(deployment, begun.session)
    clock.advance(30)
    shown = await deployment.verifier.verify(name, code=phone.code(clock.now()), caller=Caller(session=pending))
    assert isinstance(shown, Verified)
    return await find(deployment, shown.session)


async def find(deployment: Deployment, token: str | None) -> Bearer:
    found = await deployment.sign_in.find(token or "", None)
    assert isinstance(found, tuple), found
    return found[0]


async def refusal(attempt: Awaitable[Any]) -> str:
    with pytest.raises(Refused) as refused:
        await attempt
    return refused.value.code


async def events_of(deployment: Deployment, name: str) -> list[dict[str, Any]]:
    """What was recorded of an account, the payload with its kind."""
    rows = await deployment.verifier.accounts.events(name)
    return [{"kind": row.kind, **json.loads(row.payload or b"{}")} for row in rows]


# Inviting.


async def test_an_invited_person_is_there_and_can_follow_her_link(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    name, token = await people.invite(" Bo ", role="administrator", caller=ROOT)
    view = (await people.find(name))[0]
    assert (name, view.role, view.has_password, view.state) == ("bo", "administrator", False, "empty")
    assert view.invited_until == clock.now() + INVITATION_TTL_S * MICROS_PER_S
    session = (await deployment.sign_in.use_link(token, PASSWORD, Guest())).session
    assert (await find(deployment, session)).session.level == "enrolling"
    view = (await people.find(name))[0]
    assert (view.has_password, view.invited_until) == (True, 0)


async def test_the_same_form_sent_twice_makes_one_person_and_one_link(people: Administration) -> None:
    first = await people.invite("bo", caller=once("form"))
    assert not await people.is_taken("bo", caller=once("form"))
    assert await people.invite("bo", caller=once("form")) == first
    assert await people.is_taken("Bo", caller=once("another"))
    assert await refusal(people.invite("bo", caller=once("another"))) == "conflict"


@pytest.mark.parametrize("name", ["", " ", "a/b", "x" * 129, "a\nb"])
async def test_a_name_that_is_none_is_refused_at_its_field(people: Administration, name: str) -> None:
    for attempt in (people.is_taken(name, caller=ROOT), people.invite(name, caller=ROOT)):
        with pytest.raises(InvalidInput, match="name"):
            await attempt
    assert not await people.is_taken("bo", caller=ROOT)


async def test_an_open_invitation_ends_and_is_made_again(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    _, first = await people.invite("bo", caller=ROOT)
    clock.advance(INVITATION_TTL_S)
    assert (await people.find("bo"))[0].invited_until == 0
    second = await people.invite_again("bo", caller=ROOT)
    assert await refusal(deployment.sign_in.use_link(first, PASSWORD, Guest())) == "not_found"
    await deployment.sign_in.use_link(second, PASSWORD, Guest())
    assert await refusal(people.invite_again("bo", caller=ROOT)) == "conflict"


# Who may.


ACTS: dict[str, Callable[[Administration, str, Caller], Awaitable[Any]]] = {
    "unlock": lambda people, name, caller: people.unlock(name, caller=caller),
    "reset": lambda people, name, caller: people.reset(name, reason="lost phone", caller=caller),
    "make administrator": lambda people, name, caller: people.set_role(name, "administrator", caller=caller),
    "disable": lambda people, name, caller: people.set_disabled(name, is_disabled=True, caller=caller),
    "enable": lambda people, name, caller: people.set_disabled(name, is_disabled=False, caller=caller),
}
EVENTS = {
    "unlock": "account.unlocked",
    "reset": "account.reset",
    "make administrator": "account.role_changed",
    "disable": "account.disabled",
    "enable": "account.enabled",
}


@pytest.mark.parametrize("act", ACTS)
async def test_trap_77_nobody_acts_on_the_own_account_and_each_act_on_another_tells_who_it_was(
    deployment: Deployment, people: Administration, clock: SetClock, act: str
) -> None:
    await add_person(deployment, clock)
    before = await events_of(deployment, "bo")
    assert await refusal(ACTS[act](people, "bo", Caller(is_admin=True, by="bo"))) == "conflict"
    assert await events_of(deployment, "bo") == before
    await ACTS[act](people, "bo", ROOT)
    last = (await events_of(deployment, "bo"))[-1]
    assert (last["kind"], last["by"]) == (EVENTS[act], "root")
    assert await refusal(ACTS[act](people, "nobody", ROOT)) == "not_found"


async def test_only_an_administrator_of_this_moment_proves_to_be_one(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    phone = await add_person(deployment, clock, "root")
    await people.set_role("root", "administrator", caller=Caller(is_admin=True))
    bearer = await sign_in(deployment, clock, "root", phone)

    async def prove(code: str) -> str | None:
        caller = Caller(session=bearer, proof=Question(read_answer([code]), purpose="reset:bo"))
        return (await people.prove(caller)).session

    with pytest.raises(NotProven):
        await prove(wrong_code(phone, clock.now()))
    clock.advance(30)
    bearer = await find(deployment, await prove(phone.code(clock.now())))
    clock.advance(30)
    await people.set_role("root", "", caller=Caller(is_admin=True, by="another"))
    # A request that was let through a moment before: its session is looked at again, and so is the role.
    assert await refusal(prove(phone.code(clock.now()))) == "forbidden"


# Resetting.


@pytest.mark.parametrize("reason", ["", "  ", "x" * (REASON_MAX + 1), "lost\nphone"])
async def test_a_reset_needs_a_reason(
    deployment: Deployment, people: Administration, clock: SetClock, reason: str
) -> None:
    await add_person(deployment, clock)
    with pytest.raises(InvalidInput, match="reason"):
        await people.reset("bo", reason=reason, caller=ROOT)
    assert (await people.find("bo"))[0].second_factors
    assert check_reason(f" {'x' * REASON_MAX} ") == "x" * REASON_MAX
    assert await people.reset("bo", reason=" lost phone ", caller=ROOT) is None
    assert not (await people.find("bo"))[0].second_factors
    assert (await events_of(deployment, "bo"))[-1]["reason"] == "lost phone"


async def test_trap_76_a_reset_ends_every_session_and_leads_to_nothing_but_enrollment(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    phone = await add_person(deployment, clock)
    full = await sign_in(deployment, clock, "bo", phone)
    pending = await deployment.sign_in.begin("bo", PASSWORD, Guest())
    assert isinstance(pending, Verified)
    half = await find(deployment, pending.session)
    await people.reset("bo", reason="lost phone", caller=ROOT)
    clock.advance(30)
    for bearer in (full, half):
        with pytest.raises(SessionEnded):
            await deployment.verifier.verify("bo", code=phone.code(clock.now()), caller=Caller(session=bearer))
    assert await deployment.sign_in.find(pending.session or "", None) == "ended"
    anew = await deployment.sign_in.begin("bo", PASSWORD, Guest())
    assert isinstance(anew, Verified)
    assert (await find(deployment, anew.session)).session.level == "enrolling"


async def test_who_has_no_password_is_invited_again_by_a_reset(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    await deployment.verifier.accounts.put("bo")
    await add_phone(deployment.verifier, "bo", clock)
    token = await people.reset("bo", reason="lost phone", caller=once("form"))
    assert token is not None
    assert await people.reset("bo", reason="lost phone", caller=once("form")) == token
    assert (await people.find("bo"))[0].invited_until
    await deployment.sign_in.use_link(token, PASSWORD, Guest())


async def test_an_unlocked_person_needs_one_code_again(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    phone = await add_person(deployment, clock)
    for _ in range(10):
        clock.advance(120)
        await deployment.verifier.verify("bo", code=wrong_code(phone, clock.now()))
    assert (await people.find("bo"))[0].throttle == "empty"
    await people.unlock("bo", caller=ROOT)
    assert (await people.find("bo"))[0].throttle == "open"
    assert isinstance(await deployment.verifier.verify("bo", code=phone.code(clock.now())), Verified)


# Roles, and accounts that are disabled.


async def test_a_demoted_administrator_is_signed_out(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    phone = await add_person(deployment, clock)
    await people.set_role("bo", "administrator", caller=ROOT)
    await sign_in(deployment, clock, "bo", phone)
    account = (await people.find("bo"))[1]
    assert account is not None
    assert len(await deployment.sign_in.list_sessions(account)) == 1
    await people.set_role("bo", "", caller=ROOT)
    assert await deployment.sign_in.list_sessions(account) == []
    assert (await people.find("bo"))[0].role == ""


async def test_a_disabled_account_is_shown_as_such_until_it_is_enabled(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    await add_person(deployment, clock)
    await people.set_disabled("bo", is_disabled=True, caller=ROOT)
    view = (await people.find("bo"))[0]
    assert (view.is_disabled, view.state) == (True, "disabled")
    assert await refusal(people.reset("bo", reason="lost phone", caller=ROOT)) == "disabled"
    await people.set_disabled("bo", is_disabled=False, caller=ROOT)
    view = (await people.find("bo"))[0]
    assert (view.is_disabled, view.state) == (False, "active")


async def test_there_is_an_administrator_once_one_has_a_second_factor(
    deployment: Deployment, people: Administration, clock: SetClock
) -> None:
    await people.invite("root", role="administrator", caller=Caller(is_admin=True))
    assert not await people.has_administrator()
    await add_phone(deployment.verifier, "root", clock)
    assert await people.has_administrator()


# Lists, and what is wrong.


async def test_people_come_in_order_of_name_a_page_at_a_time_and_one_more(people: Administration) -> None:
    for number in range(PAGE_PEOPLE + 2):
        await people.invite(f"person{number:03}", caller=ROOT)
    first = await people.page()
    assert len(first) == PAGE_PEOPLE + 1
    rest = await people.page(after=first[PAGE_PEOPLE - 1].id)
    assert [view.id for view in rest] == [f"person{number:03}" for number in (PAGE_PEOPLE, PAGE_PEOPLE + 1)]
    assert [view.id for view in await people.page(search="ON04", limit=3)] == ["person040", "person041", "person042"]
    assert (await people.count()).total == PAGE_PEOPLE + 2


async def test_somebody_deleted_while_the_list_is_made_is_left_out(
    deployment: Deployment, people: Administration, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("bo", "cy"):
        await people.invite(name, caller=ROOT)
    rows = await deployment.store.page_accounts()

    async def an_old_page(**_: Any) -> Any:
        return rows

    monkeypatch.setattr(deployment.store, "page_accounts", an_old_page)
    assert [view.id for view in await people.page()] == ["bo", "cy"]
    await deployment.verifier.accounts.delete("bo")
    assert [view.id for view in await people.page()] == ["cy"]


async def test_alarms_are_told_for_thirty_days(deployment: Deployment, people: Administration, clock: SetClock) -> None:
    assert list(await people.latest_alarms()) == []
    await deployment.networks.add("192.0.2.0/24", caller=ROOT)
    assert list(await people.latest_alarms()) == [], "what an administrator does himself is no alarm"
    struck = clock.now()
    await deployment.networks.strike("203.0.113.9")
    (alarm,) = await people.latest_alarms()
    assert (alarm.kind, alarm.text("network"), alarm.at) == ("network.blocked", "203.0.113.9/32", struck)
    clock.advance(30 * 86_400)
    assert len(await people.latest_alarms()) == 1
    clock.advance(1)
    assert list(await people.latest_alarms()) == []


async def test_an_account_that_was_tampered_with_is_shown_as_unavailable_and_as_an_alarm(
    clock: SetClock, tmp_path: Path
) -> None:
    deployment = await open_for_test(tmp_path / "data", clock)
    people = deployment.administration
    try:
        await people.invite("bo", caller=Caller(is_admin=True, context=Context(ip="192.0.2.1")))
        await deployment.store._execute("UPDATE accounts SET mac = x'00' WHERE id = 'bo'")  # type: ignore[union-attr]
        view, account = await people.find("bo")
        assert (view.state, account) == ("unavailable", None)
        (alarm,) = await people.latest_alarms()
        assert (alarm.kind, alarm.text("account")) == ("account.tampered", "bo")
        assert in_seconds(1) > alarm.at - clock.now() >= 0
        assert await deployment.verifier.accounts.events(DEPLOYMENT)
    finally:
        await deployment.close()
