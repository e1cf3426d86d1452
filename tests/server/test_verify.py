"""Answers over the API: let in, refused, throttled, and told why."""

import pyotp
import pytest
from tests.server.conftest import SECRET, Server, assert_problem


async def test_a_right_code_is_verified_once(server: Server) -> None:
    authenticator_id = await server.add()
    first = await server.post("accounts/alice/verify", {"code": server.code()})
    assert first.status_code == 200
    browser = first.json()["browser"]
    assert isinstance(browser, str)
    assert first.json() == {
        "verified": True,
        "factor": "totp",
        "authenticator_id": authenticator_id,
        "receipt": None,
        "browser": browser,
    }
    second = await server.post("accounts/alice/verify", {"code": server.code()})
    assert second.status_code == 200
    assert second.json()["verified"] is False
    assert second.json()["reason"] == "code_already_used"
    assert 1 <= second.json()["retry_after"] <= 60


@pytest.mark.parametrize("factor", ["totp", None])
@pytest.mark.parametrize("is_named", [True, False])
async def test_an_answer_may_name_who_is_to_judge_it(server: Server, factor: str | None, is_named: bool) -> None:
    authenticator_id = await server.add()
    body = {"code": server.code(), "factor": factor, "authenticator_id": authenticator_id if is_named else None}
    assert (await server.post("accounts/alice/verify", body)).json()["verified"] is True


async def test_a_code_for_another_factor_or_authenticator_is_not_accepted(server: Server) -> None:
    await server.add()
    other = {"code": server.code(), "factor": "hotp"}
    assert_problem(await server.post("accounts/alice/verify", other), 409, "no_factor")
    unknown = {"code": server.code(), "authenticator_id": "au_x"}
    assert_problem(await server.post("accounts/alice/verify", unknown), 404, "not_found")
    assert (await server.post("accounts/alice/verify", {"code": server.code()})).json()["verified"] is True


async def test_an_account_without_a_second_factor_has_nothing_to_verify(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    assert_problem(await server.post("accounts/alice/verify", {"code": "123456"}), 409, "no_factor")


async def test_a_recovery_code_is_verified_once_and_tells_how_many_are_left(server: Server) -> None:
    await server.add()
    codes = (await server.post("accounts/alice/recovery-codes", {})).json()["recovery_codes"]
    typed = codes[0].lower().replace("-", " ")
    answer = (await server.post("accounts/alice/verify", {"code": typed, "factor": "recovery_codes"})).json()
    assert (answer["verified"], answer["factor"], answer["recovery_codes_left"]) == (True, "recovery_codes", 9)
    again = (await server.post("accounts/alice/verify", {"code": codes[0]})).json()
    assert (again["verified"], again["reason"]) == (False, "code_already_used")


async def test_new_recovery_codes_are_made_and_the_old_ones_are_dead(server: Server) -> None:
    await server.add()
    old = (await server.post("accounts/alice/recovery-codes")).json()["recovery_codes"]
    renewed = await server.post("accounts/alice/recovery-codes", {})
    assert renewed.status_code == 201
    assert not set(old) & set(renewed.json()["recovery_codes"])
    assert (await server.post("accounts/alice/verify", {"code": old[0]})).json()["verified"] is False
    new = renewed.json()["recovery_codes"][0]
    assert (await server.post("accounts/alice/verify", {"code": new})).json()["verified"] is True


async def test_recovery_codes_need_something_to_stand_in_for(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    assert_problem(await server.post("accounts/alice/recovery-codes", {}), 409, "no_factor")


async def test_the_third_wrong_code_delays_and_says_which_ways_stay_open(server: Server) -> None:
    await server.add()
    await server.post("accounts/alice/recovery-codes", {})
    wrong = str(int(server.code(steps=100)) + 1)[-6:].zfill(6)
    for _ in range(3):
        answer = await server.post("accounts/alice/verify", {"code": wrong})
        assert answer.json() == {"verified": False, "reason": "wrong_code"}
    throttled = await server.post("accounts/alice/verify", {"code": wrong})
    problem = assert_problem(throttled, 429, "throttled")
    assert problem["retry_after"] >= 1
    assert throttled.headers["retry-after"] == str(problem["retry_after"])
    assert problem["ways"] == ["recovery_codes", "three_codes"]
    assert (await server.get("accounts/alice")).json()["throttle"]["state"] == "delayed"
    server.clock.pass_s(problem["retry_after"])
    assert (await server.post("accounts/alice/verify", {"code": server.code()})).json()["verified"] is True


async def test_three_consecutive_codes_are_let_in_during_a_delay(server: Server) -> None:
    await server.add()
    server.clock.pass_s(90)
    codes = [server.code(steps=steps) for steps in (-1, 0, 1)]
    for _ in range(3):
        await server.post("accounts/alice/verify", {"code": "000000" if "000000" not in codes else "111111"})
    assert_problem(await server.post("accounts/alice/verify", {"code": codes[1]}), 429, "throttled")
    wrong = await server.post("accounts/alice/verify", {"codes": codes[::-1]})
    assert wrong.json() == {"verified": False, "reason": "wrong_code"}
    assert (await server.post("accounts/alice/verify", {"codes": codes})).json()["verified"] is True


async def test_a_browser_that_has_been_let_in_has_a_guess_budget_of_its_own(server: Server) -> None:
    await server.add()
    browser = (await server.post("accounts/alice/verify", {"code": server.code()})).json()["browser"]
    for _ in range(4):
        answer = await server.post("accounts/alice/verify", {"code": "000000"})
    assert_problem(answer, 429, "throttled")
    server.clock.pass_s(30)
    body = {"code": server.code(), "context": {"browser": browser, "ip": "192.0.2.7", "user_agent": "Test"}}
    assert (await server.post("accounts/alice/verify", body)).json()["verified"] is True


@pytest.mark.parametrize("ip", ["localhost", "", "1.2.3", "fe80::1%" + "x" * 60, "192.0.2.1/24"])
async def test_an_address_that_is_none_is_refused(server: Server, ip: str) -> None:
    await server.add()
    problem = assert_problem(
        await server.post("accounts/alice/verify", {"code": server.code(), "context": {"ip": ip}}), 422, "invalid"
    )
    assert problem["field"] == "context.ip"
    good = {"code": server.code(), "context": {"ip": "2001:db8::1"}}
    assert (await server.post("accounts/alice/verify", good)).json()["verified"] is True


async def test_hotp_is_found_again_by_two_consecutive_codes(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    await server.post("accounts/alice/authenticators", {"factor": "hotp", "secret": SECRET, "confirmed": True})
    token = pyotp.HOTP(SECRET)
    assert (await server.post("accounts/alice/verify", {"code": token.at(50)})).json()["verified"] is False
    assert (await server.post("accounts/alice/verify", {"codes": [token.at(50), token.at(51)]})).json()["verified"]
    assert (await server.post("accounts/alice/verify", {"code": token.at(52)})).json()["verified"] is True
