import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import add_phone, open_for_test, open_in_memory, phone_of
from tests.kit import Phone, SetClock, wrong_code

from twofold.bootstrap import Deployment
from twofold.core.attempt import Context
from twofold.core.decision import Confirmed, Rejected, Throttled, Verified
from twofold.core.idempotency import IdempotencyKey
from twofold.engine import Caller
from twofold.errors import InvalidInput, Refused
from twofold.verifier import Verifier


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> AsyncIterator[Deployment]:
    is_memory = request.param == "memory"
    opened = await (open_in_memory(clock) if is_memory else open_for_test(tmp_path / "data", clock))
    yield opened
    await opened.close()


@pytest.fixture
def verifier(deployment: Deployment) -> Verifier:
    return deployment.verifier


async def refusal(attempt: Any) -> str:
    with pytest.raises(Refused) as refused:
        await attempt
    return refused.value.code


# Receipts and step-up.


async def managing(verifier: Verifier, phone: Phone, clock: SetClock, **options: Any) -> str:
    clock.advance(30)
    verified = await verifier.verify("alice", code=phone.code(clock.now()), purpose="manage", **options)
    assert isinstance(verified, Verified)
    assert verified.receipt is not None
    return verified.receipt


async def test_managing_takes_a_receipt_each_time(verifier: Verifier, clock: SetClock) -> None:
    phone, confirmed = await add_phone(verifier, "alice", clock)
    assert await refusal(verifier.enroll("alice")) == "step_up_required"
    assert await refusal(verifier.renew_recovery_codes("alice")) == "step_up_required"
    assert await refusal(verifier.revoke("alice", phone.id)) == "step_up_required"
    receipt = await managing(verifier, phone, clock)
    renewed = await verifier.renew_recovery_codes("alice", step_up=receipt)
    assert not set(renewed.recovery_codes) & set(confirmed.recovery_codes)
    assert await refusal(verifier.enroll("alice", step_up=receipt)) == "step_up_required"
    second = phone_of(await verifier.enroll("alice", step_up=await managing(verifier, phone, clock)))
    assert isinstance(await verifier.confirm("alice", second.id, code=second.code(clock.now())), Confirmed)
    await verifier.revoke("alice", phone.id, step_up=await managing(verifier, second, clock))
    await verifier.rename("alice", second.id, "new phone")
    view = await verifier.accounts.get("alice")
    assert [(a.factor, a.label) for a in view.authenticators] == [("recovery_codes", ""), ("totp", "new phone")]


@pytest.mark.parametrize("step_up", ["", "x", "a.b.c"])
async def test_what_is_no_receipt_is_invalid_input(verifier: Verifier, clock: SetClock, step_up: str) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    for attempt in (
        verifier.enroll("alice", step_up=step_up),
        verifier.confirm("alice", phone.id, code="123456", step_up=step_up),
        verifier.renew_recovery_codes("alice", step_up=step_up),
        verifier.revoke("alice", phone.id, step_up=step_up),
    ):
        with pytest.raises(InvalidInput) as invalid:
            await attempt
        assert invalid.value.field == "step_up"
    with pytest.raises(InvalidInput):
        await verifier.redeem(step_up)


async def test_a_receipt_is_redeemed_by_its_application_for_its_purpose_and_binding(
    verifier: Verifier, clock: SetClock
) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    shop = Caller("shop")
    verified = await verifier.verify(
        "alice", code=phone.code(clock.now()), purpose="pay", binding="order 7", caller=shop
    )
    assert isinstance(verified, Verified)
    assert verified.receipt is not None
    wrong = [
        verifier.redeem(verified.receipt, purpose="pay", binding="order 7"),
        verifier.redeem(verified.receipt, purpose="pay", binding="order 8", caller=shop),
        verifier.redeem(verified.receipt, purpose="refund", binding="order 7", caller=shop),
        verifier.redeem(verified.receipt, purpose="pay", caller=shop),
    ]
    assert [await refusal(attempt) for attempt in wrong] == ["receipt_mismatch"] * 4
    redeemed = await verifier.redeem(verified.receipt, purpose="pay", binding="order 7", caller=shop)
    assert (redeemed.claims.sub, redeemed.claims.aud) == ("alice", "shop")
    assert (
        await refusal(verifier.redeem(verified.receipt, purpose="pay", binding="order 7", caller=shop))
        == "receipt_used"
    )


async def test_a_receipt_does_not_survive_a_new_epoch(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    receipt = await managing(verifier, phone, clock)
    await verifier.accounts.record_event("alice", "signed_out_everywhere")
    assert await refusal(verifier.redeem(receipt, purpose="manage")) == "receipt_mismatch"
    assert await verifier.redeem(await managing(verifier, phone, clock), purpose="manage")


# Recovery codes and passwords.


async def test_recovery_codes_let_in_once_each(verifier: Verifier, clock: SetClock) -> None:
    _, confirmed = await add_phone(verifier, "alice", clock)
    first = await verifier.verify("alice", code=confirmed.recovery_codes[0].lower())
    assert isinstance(first, Verified)
    assert first.recovery_codes_left == 9
    assert await verifier.verify("alice", code=confirmed.recovery_codes[0]) == Rejected("code_already_used")
    assert await verifier.verify("alice", code="0000-0000-0000-0000-0000") == Rejected("wrong_code")


async def test_trap_25_a_locator_that_is_being_guessed_waits_and_the_others_do_not(
    verifier: Verifier, clock: SetClock
) -> None:
    _, confirmed = await add_phone(verifier, "alice", clock)
    locator = confirmed.recovery_codes[0][:4]
    for _ in range(5):
        assert await verifier.verify("alice", code=f"{locator}-0000-0000-0000-0000") == Rejected("wrong_code")
    assert isinstance(await verifier.verify("alice", code=confirmed.recovery_codes[0]), Throttled)
    assert isinstance(await verifier.verify("alice", code=confirmed.recovery_codes[1]), Verified)


async def test_a_password_is_set_and_checked(verifier: Verifier) -> None:
    await verifier.accounts.put("alice")
    assert await refusal(verifier.check_password("alice", "correct horse battery")) == "no_factor"
    await verifier.accounts.set_password("alice", "correct horse battery")
    assert isinstance(await verifier.check_password("alice", "correct horse battery"), Verified)
    assert await verifier.check_password("alice", "wrong horse battery") == Rejected("wrong_password")
    with pytest.raises(InvalidInput):
        await verifier.check_password("alice", "x" * 129)
    assert await refusal(verifier.check_password("nobody", "correct horse battery")) == "not_found"


@pytest.mark.parametrize("password", ["short", "password", "alice-smith", "x" * 129, "lone \ud800 surrogate"])
async def test_a_password_that_cannot_be_chosen_is_refused_and_changes_nothing(
    verifier: Verifier, password: str
) -> None:
    await verifier.accounts.put("alice-smith")
    with pytest.raises(InvalidInput) as invalid:
        await verifier.accounts.set_password("alice-smith", password)
    assert invalid.value.field == "password"
    assert (await verifier.accounts.get("alice-smith")).authenticators == ()


# Idempotency.


def with_key(name: str, body: str = "") -> Caller:
    key = IdempotencyKey(name.encode().ljust(16), body.encode().ljust(16), b"secret")
    return Caller(is_admin=True, idempotency=key)


async def test_a_repeated_call_has_the_same_answer_receipt_and_browser_too(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    code = phone.code(clock.now())
    first = await verifier.verify("alice", code=code, purpose="pay", caller=with_key("k"))
    again = await verifier.verify("alice", code=code, purpose="pay", caller=with_key("k"))
    assert isinstance(first, Verified)
    assert first.receipt is not None
    assert again == first
    assert (
        await refusal(verifier.verify("alice", code="000000", caller=with_key("k", "other"))) == "idempotency_mismatch"
    )


async def test_secrets_shown_once_are_shown_again_to_a_repeated_call(verifier: Verifier, clock: SetClock) -> None:
    await add_phone(verifier, "alice", clock)
    first = await verifier.renew_recovery_codes("alice", caller=with_key("k"))
    assert await verifier.renew_recovery_codes("alice", caller=with_key("k")) == first
    assert await verifier.renew_recovery_codes("alice", caller=with_key("l")) != first
    pending = await verifier.enroll("alice", caller=with_key("m"))
    await verifier.revoke("alice", pending.id)
    assert await verifier.enroll("alice", caller=with_key("m")) == pending


async def test_calls_with_one_key_that_run_at_once_end_alike(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    code = phone.code(clock.now())
    ends = await asyncio.gather(*(verifier.verify("alice", code=code, caller=with_key("k")) for _ in range(8)))
    assert isinstance(ends[0], Verified)
    assert set(map(repr, ends)) == {repr(ends[0])}
    assert len({end.browser for end in ends if isinstance(end, Verified)}) == 1


async def test_a_refusal_is_repeated_too(verifier: Verifier) -> None:
    await verifier.accounts.put("alice")
    assert await refusal(verifier.verify("alice", code="123456", caller=with_key("k"))) == "no_factor"
    assert await refusal(verifier.verify("alice", code="123456", caller=with_key("k"))) == "no_factor"


# What is told.


async def test_the_next_event_tells_how_many_answers_were_turned_away(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    for _ in range(8):
        await verifier.verify("alice", code=wrong_code(phone, clock.now()))
    clock.advance(60)
    await verifier.verify("alice", code=phone.code(clock.now()))
    last = (await verifier.accounts.events("alice"))[-1]
    assert last.kind == "code.accepted"
    assert b'"unrecorded_before":5' in (last.payload or b"")


async def test_where_an_answer_came_from_is_recorded(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    await verifier.verify("alice", code=phone.code(clock.now()), ip="192.0.2.7", user_agent="Browser 1.0")
    last = (await verifier.accounts.events("alice"))[-1]
    assert b'"ip":"192.0.2.7"' in (last.payload or b"")
    assert b'"user_agent":"Browser 1.0"' in (last.payload or b"")
    clock.advance(30)
    context = Context("192.0.2.8", "Browser 2.0")
    await verifier.verify("alice", code=phone.code(clock.now()), caller=Caller("shop", context=context))
    assert b'"ip":"192.0.2.8"' in ((await verifier.accounts.events("alice"))[-1].payload or b"")


async def test_a_known_browser_passes_where_new_ones_are_delayed(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    first = await verifier.verify("alice", code=phone.code(clock.now()))
    assert isinstance(first, Verified)
    for _ in range(3):
        await verifier.verify("alice", code=wrong_code(phone, clock.now()))
    code = phone.code(clock.now(), ahead=1)
    throttled = await verifier.verify("alice", code=code)
    assert throttled == Throttled(1, ("known_browser", "recovery_codes", "three_codes"))
    assert isinstance(await verifier.verify("alice", code=code, browser=first.browser), Verified)
