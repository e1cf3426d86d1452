"""Lost answers: the same key with the same body ends as the first time, for five minutes."""

import asyncio
from typing import Any

import pytest
from tests.server.conftest import SECRET, Server, assert_problem

KEY = {"idempotency-key": "3f0c-1"}


async def test_a_repeated_call_gets_the_same_answer_receipt_and_browser_too(server: Server) -> None:
    await server.add()
    body = {"code": server.code(), "purpose": "sign-in", "binding": "session"}
    first = await server.post("accounts/alice/verify", body, headers=KEY)
    server.clock.pass_s(200)
    second = await server.post("accounts/alice/verify", body, headers=KEY)
    assert first.json()["verified"] is True
    assert (second.status_code, second.content) == (first.status_code, first.content)
    without = await server.post("accounts/alice/verify", body)
    assert without.json()["verified"] is False


async def test_after_five_minutes_the_key_is_forgotten(server: Server) -> None:
    await server.add()
    body = {"code": server.code()}
    await server.post("accounts/alice/verify", body, headers=KEY)
    server.clock.pass_s(301)
    assert (await server.post("accounts/alice/verify", body, headers=KEY)).json()["verified"] is False


async def test_another_body_under_the_same_key_is_refused_and_not_judged(server: Server) -> None:
    await server.add()
    await server.post("accounts/alice/verify", {"code": "000000"}, headers=KEY)
    other = await server.post("accounts/alice/verify", {"code": server.code()}, headers=KEY)
    assert_problem(other, 422, "idempotency_mismatch")
    assert (await server.post("accounts/alice/verify", {"code": server.code()})).json()["verified"] is True


async def test_a_key_counts_for_one_application_and_one_path(server: Server) -> None:
    await server.add("alice")
    await server.add("bob")
    body = {"code": server.code()}
    other = await server.new_key("verify")
    first = await server.post("accounts/alice/verify", body, headers=KEY)
    elsewhere = await server.post("accounts/bob/verify", body, headers=KEY)
    other_application = await server.post("accounts/alice/verify", body, headers=KEY, key=other)
    assert first.json()["verified"] is True
    assert elsewhere.json()["verified"] is True
    assert other_application.json()["verified"] is False


async def test_a_refusal_is_kept_too(server: Server) -> None:
    await server.add()
    body = {"factor": "totp"}
    key = await server.new_key("enroll")
    refused = await server.post("accounts/alice/authenticators", body, headers=KEY, key=key)
    assert_problem(refused, 403, "step_up_required")
    again = await server.post("accounts/alice/authenticators", body, headers=KEY, key=key)
    assert (again.status_code, again.content) == (refused.status_code, refused.content)


async def test_a_throttled_answer_is_not_kept(server: Server) -> None:
    await server.add()
    for _ in range(3):
        await server.post("accounts/alice/verify", {"code": "000000"})
    body = {"code": server.code(steps=1)}
    throttled = await server.post("accounts/alice/verify", body, headers=KEY)
    assert_problem(throttled, 429, "throttled")
    server.clock.pass_s(throttled.json()["retry_after"])
    assert (await server.post("accounts/alice/verify", body, headers=KEY)).json()["verified"] is True


async def test_secrets_that_are_shown_once_are_shown_again_to_the_same_call_only(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    begun = [await server.post("accounts/alice/authenticators", {"factor": "totp"}, headers=KEY) for _ in range(2)]
    assert begun[0].content == begun[1].content
    pending = begun[0].json()
    confirm = f"accounts/alice/authenticators/{pending['id']}/confirm"
    body = {"code": server.code(pending["totp"]["secret"])}
    confirmed = [await server.post(confirm, body, headers=KEY) for _ in range(2)]
    assert len(confirmed[0].json()["recovery_codes"]) == 10
    assert confirmed[0].content == confirmed[1].content
    assert_problem(await server.post(confirm, body), 409, "conflict")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("recovery-codes", {}),
        ("events", {"type": "signed_out_everywhere"}),
        ("authenticators", {"factor": "hotp", "secret": SECRET[::-1], "confirmed": True}),
    ],
)
async def test_a_repeated_management_call_happens_once(server: Server, path: str, body: Any) -> None:
    await server.add()
    first, second = [await server.post(f"accounts/alice/{path}", body, headers=KEY) for _ in range(2)]
    assert first.status_code < 300
    assert (second.status_code, second.content) == (first.status_code, first.content)
    kinds = [event.kind for event in await server.deployment.verifier.accounts.events("alice")]
    assert len(kinds) == len(set(kinds)) + (path == "authenticators")


async def test_a_repeated_redemption_is_the_same_redemption(server: Server) -> None:
    await server.add()
    body = {"receipt": await server.step_up(), "purpose": "manage"}
    first, second = [await server.post("receipts/redeem", body, headers=KEY) for _ in range(2)]
    assert (first.status_code, second.content) == (200, first.content)
    assert_problem(await server.post("receipts/redeem", body), 409, "receipt_used")


async def test_calls_under_one_key_at_once_are_one_call(server: Server) -> None:
    await server.add()
    recovery_code = (await server.post("accounts/alice/recovery-codes", {})).json()["recovery_codes"][0]
    body = {"code": recovery_code}
    answers = await asyncio.gather(*(server.post("accounts/alice/verify", body, headers=KEY) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert answers[0].json()["verified"] is True


@pytest.mark.parametrize("value", ["", " ", "a b", "x" * 256, "sch\u00f6n", "a\tb"])
async def test_a_key_that_is_none_is_refused(server: Server, value: str) -> None:
    await server.add()
    headers: Any = {"idempotency-key": value.encode("latin-1")}
    answer = await server.post("accounts/alice/verify", {"code": server.code()}, headers=headers)
    assert_problem(answer, 422, "invalid")
    assert answer.json()["field"] == "Idempotency-Key"
    headers = {"idempotency-key": "~" * 255}
    answer = await server.post("accounts/alice/verify", {"code": server.code()}, headers=headers)
    assert answer.json()["verified"] is True
