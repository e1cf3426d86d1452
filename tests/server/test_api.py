"""Every call of the API: what it answers when it succeeds, and next to it what it refuses."""

import base64
import hashlib
import re
import struct
import zlib
from typing import Any

import pyotp
import pytest
from tests.server.conftest import SECRET, Server, assert_problem

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
RECOVERY_CODE = re.compile(r"([0-9A-HJKMNP-TV-Z]{4}-){4}[0-9A-HJKMNP-TV-Z]{4}")


async def test_put_creates_an_account_and_then_changes_it(server: Server) -> None:
    created = await server.call("PUT", "accounts/alice", {"display_name": "Alice", "email": "alice@example.com"})
    changed = await server.call("PUT", "accounts/alice", {"groups": ["staff"]})
    assert (created.status_code, changed.status_code) == (201, 200)
    assert changed.json() == {
        "id": "alice",
        "display_name": "Alice",
        "state": "empty",
        "authenticators": [],
        "recovery_codes_left": 0,
        "throttle": {"state": "open", "retry_after": None},
    }


async def test_put_needs_no_body_for_an_account_of_which_nothing_is_said(server: Server) -> None:
    assert (await server.call("PUT", "accounts/alice")).status_code == 201


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("a%20b", "a b"),
        ("j%C3%B6rg", "jörg"),
        ("mail@example.com", "mail@example.com"),
        ("100%25", "100%"),
        ("a+b", "a+b"),
    ],
)
async def test_an_id_is_whatever_the_application_chose(server: Server, path: str, id_: str) -> None:
    assert (await server.call("PUT", f"accounts/{path}", {})).json()["id"] == id_
    assert (await server.get(f"accounts/{path}")).json()["id"] == id_


@pytest.mark.parametrize("path", ["x" * 129, "a%2Fb", "a%00b", "jo%CC%88rg", "%20alice", "a%E2%80%8Bb", "a%0Ab", "%FF"])
async def test_an_id_out_of_bounds_is_refused_everywhere(server: Server, path: str) -> None:
    for method, below in (("PUT", ""), ("GET", ""), ("DELETE", ""), ("POST", "/verify"), ("POST", "/authenticators")):
        answer = await server.call(method, f"accounts/{path}{below}", {"code": "123456"} if below else {})
        assert answer.status_code in (400, 422), (method, answer.text)


async def test_the_longest_id_is_taken(server: Server) -> None:
    assert (await server.call("PUT", f"accounts/{'x' * 128}", {})).status_code == 201


@pytest.mark.parametrize(
    "path", ["accounts/", "accounts//verify", "accounts/alice/", "accounts/alice/verify/", "nothing", ""]
)
async def test_what_is_not_in_the_table_is_not_found(server: Server, path: str) -> None:
    for method in ("GET", "DELETE", "POST"):
        assert_problem(await server.call(method, path), 404, "not_found")


async def test_the_account_without_an_id_is_out_of_reach(server: Server) -> None:
    before = await server.deployment.verifier.accounts.events("")
    assert_problem(await server.call("DELETE", "accounts/"), 404, "not_found")
    assert await server.deployment.verifier.accounts.events("") == before != []


async def test_a_wrong_method_is_told_the_right_ones(server: Server) -> None:
    answer = await server.call("POST", "accounts/alice", {})
    assert_problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == "DELETE, GET, PUT"


@pytest.mark.parametrize(
    "body", [{"email": "no address"}, {"phone": "0151"}, {"groups": [""]}, {"display_name": "a\u0000"}]
)
async def test_a_profile_that_cannot_be_is_refused(server: Server, body: dict[str, Any]) -> None:
    problem = assert_problem(await server.call("PUT", "accounts/alice", body), 422, "invalid")
    assert problem["field"] == next(iter(body))
    assert_problem(await server.get("accounts/alice"), 404, "not_found")


async def test_an_account_is_shown_without_any_secret(server: Server) -> None:
    authenticator_id = await server.add()
    server.clock.pass_s(30)
    await server.post("accounts/alice/verify", {"code": server.code()})
    answer = await server.get("accounts/alice")
    (authenticator,) = answer.json()["authenticators"]
    assert set(authenticator) == {"id", "factor", "label", "state", "created_at", "last_used_at"}
    assert authenticator["id"] == authenticator_id
    assert TIME.fullmatch(authenticator["created_at"])
    assert TIME.fullmatch(authenticator["last_used_at"])
    assert answer.json()["state"] == "active"
    assert SECRET not in answer.text


async def test_an_unused_authenticator_was_last_used_never(server: Server) -> None:
    await server.add()
    assert (await server.get("accounts/alice")).json()["authenticators"][0]["last_used_at"] is None


async def test_an_unknown_account_is_not_found_by_any_call(server: Server) -> None:
    calls: list[tuple[str, str, Any]] = [
        ("GET", "accounts/nobody", None),
        ("DELETE", "accounts/nobody", None),
        ("POST", "accounts/nobody/verify", {"code": "123456"}),
        ("POST", "accounts/nobody/events", {"type": "compromised"}),
        ("POST", "accounts/nobody/authenticators", {"factor": "totp"}),
        ("POST", "accounts/nobody/authenticators", {"factor": "totp", "secret": SECRET, "confirmed": True}),
        ("POST", "accounts/nobody/recovery-codes", {}),
        ("POST", "accounts/nobody/authenticators/au_1/confirm", {"code": "123456"}),
        ("PATCH", "accounts/nobody/authenticators/au_1", {"label": "x"}),
        ("DELETE", "accounts/nobody/authenticators/au_1", None),
    ]
    for method, path, body in calls:
        assert_problem(await server.call(method, path, body), 404, "not_found")


async def test_lists_go_on_where_the_page_before_ended(server: Server) -> None:
    ids = [f"user{number:03}" for number in range(103)]
    for account_id in ids:
        await server.call("PUT", f"accounts/{account_id}", {})
    first = (await server.get("accounts")).json()
    second = (await server.get(f"accounts?cursor={first['next_cursor']}")).json()
    assert [account["id"] for account in first["accounts"] + second["accounts"]] == ids
    assert second["next_cursor"] is None


async def test_lists_can_be_narrowed_to_a_factor_and_a_state(server: Server) -> None:
    await server.add("alice")
    await server.call("PUT", "accounts/bob", {})

    async def listed(query: str) -> list[str]:
        return [account["id"] for account in (await server.get(f"accounts?{query}")).json()["accounts"]]

    assert await listed("factor=totp") == ["alice"]
    assert await listed("state=empty") == ["bob"]
    assert await listed("factor=totp&state=empty") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("cursor=%21", "cursor"),
        ("cursor=a", "cursor"),
        ("cursor=_w", "cursor"),
        ("state=odd", "state"),
        ("state=", "state"),
        ("factor=sms", "factor"),
        ("x=1", "x"),
    ],
)
async def test_a_list_that_cannot_be_is_refused(server: Server, query: str, field: str) -> None:
    problem = assert_problem(await server.get(f"accounts?{query}"), 422, "invalid")
    assert problem["field"] == field


async def test_a_query_that_says_one_thing_twice_or_is_not_text_is_refused(server: Server) -> None:
    for query in ("state=empty&state=active", "state=%FF"):
        assert_problem(await server.get(f"accounts?{query}"), 400, "bad_request")


async def test_a_deleted_account_is_gone_and_its_name_begins_anew(server: Server) -> None:
    await server.add()
    assert (await server.call("DELETE", "accounts/alice")).status_code == 204
    assert_problem(await server.get("accounts/alice"), 404, "not_found")
    assert (await server.call("PUT", "accounts/alice", {})).json()["state"] == "empty"
    assert_problem(await server.post("accounts/alice/verify", {"code": server.code()}), 409, "no_factor")


@pytest.mark.parametrize("event", ["password_changed", "signed_out_everywhere", "compromised"])
async def test_an_event_voids_the_receipts_in_force(server: Server, event: str) -> None:
    await server.add()
    receipt = await server.step_up()
    answer = await server.post("accounts/alice/events", {"type": event})
    assert (answer.status_code, answer.content) == (204, b"")
    body = {"receipt": receipt, "purpose": "manage"}
    assert_problem(await server.post("receipts/redeem", body), 403, "receipt_mismatch")


async def test_a_disabled_account_is_refused_until_it_is_enabled(server: Server) -> None:
    await server.add()
    await server.post("accounts/alice/events", {"type": "disabled"})
    assert (await server.get("accounts/alice")).json()["state"] == "disabled"
    assert_problem(await server.post("accounts/alice/verify", {"code": server.code()}), 409, "disabled")
    await server.post("accounts/alice/events", {"type": "enabled"})
    assert (await server.post("accounts/alice/verify", {"code": server.code()})).json()["verified"] is True


async def test_an_unknown_event_is_refused_with_the_known_ones(server: Server) -> None:
    await server.add()
    problem = assert_problem(await server.post("accounts/alice/events", {"type": "moved"}), 422, "invalid")
    assert problem["field"] == "type"
    assert "password_changed" in problem["detail"]


@pytest.mark.parametrize("factor", ["totp", "hotp"])
async def test_an_enrollment_goes_from_pending_to_active_by_its_first_code(server: Server, factor: str) -> None:
    await server.call("PUT", "accounts/alice", {})
    begun = await server.post("accounts/alice/authenticators", {"factor": factor, "label": "Phone"})
    assert begun.status_code == 201
    pending = begun.json()
    assert (pending["factor"], pending["state"]) == (factor, "pending")
    assert TIME.fullmatch(pending["expires_at"])
    shown = pending[factor]
    assert set(shown) == {"secret", "uri", "qr_svg", "qr_png"}
    assert re.fullmatch("[A-Z2-7]{32}", shown["secret"])
    phone = pyotp.parse_uri(shown["uri"])
    assert phone.secret == shown["secret"]
    code = server.code(shown["secret"]) if factor == "totp" else pyotp.HOTP(shown["secret"]).at(0)

    confirm = f"accounts/alice/authenticators/{pending['id']}/confirm"
    refused = await server.post(confirm, {"code": "000000" if code != "000000" else "111111"})
    assert_problem(refused, 422, "wrong_code")
    assert (await server.get("accounts/alice")).json()["state"] == "empty"
    confirmed = await server.post(confirm, {"code": code})
    assert confirmed.status_code == 200
    answer = confirmed.json()
    assert (answer["id"], answer["state"]) == (pending["id"], "active")
    assert len(set(answer["recovery_codes"])) == 10
    assert all(RECOVERY_CODE.fullmatch(recovery_code) for recovery_code in answer["recovery_codes"])
    assert (await server.get("accounts/alice")).json()["recovery_codes_left"] == 10
    assert (await server.post("accounts/alice/verify", {"code": code})).json()["reason"] == "code_already_used"
    assert_problem(await server.post(confirm, {"code": code}), 409, "conflict")


async def test_the_same_enrollment_is_shown_again_with_the_same_secret(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    first, second = [(await server.post("accounts/alice/authenticators", {"factor": "totp"})).json() for _ in range(2)]
    assert first == second


async def test_the_qr_code_is_a_picture_in_both_forms(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    shown = (await server.post("accounts/alice/authenticators", {"factor": "totp"})).json()["totp"]
    assert shown["qr_svg"].startswith("<svg ")
    png = base64.b64decode(shown["qr_png"].removeprefix("data:image/png;base64,"))
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert width == height > 100
    assert zlib.crc32(png[12:29]) == struct.unpack(">I", png[29:33])[0]


@pytest.mark.parametrize("factor", ["webauthn", "sms", "email", "push", "password", "recovery_codes", ""])
async def test_a_factor_that_cannot_be_enrolled_is_refused_with_those_that_can(server: Server, factor: str) -> None:
    await server.call("PUT", "accounts/alice", {})
    problem = assert_problem(await server.post("accounts/alice/authenticators", {"factor": factor}), 422, "invalid")
    assert problem["field"] == "factor"
    assert "totp, hotp" in problem["detail"]


async def test_factors_of_later_versions_have_no_paths_yet(server: Server) -> None:
    for path in ("accounts/alice/challenges", "challenges/answer", "challenges/resend", "challenges/state"):
        assert_problem(await server.post(path, {"factor": "sms"}), 404, "not_found")


async def test_a_pending_authenticator_is_canceled_by_deleting_it(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    pending = (await server.post("accounts/alice/authenticators", {"factor": "totp"})).json()
    path = f"accounts/alice/authenticators/{pending['id']}"
    assert (await server.call("DELETE", path)).status_code == 204
    assert_problem(
        await server.post(f"{path}/confirm", {"code": server.code(pending["totp"]["secret"])}), 404, "not_found"
    )


async def test_what_an_enrollment_replaces_stays_valid_until_it_is_confirmed(server: Server) -> None:
    old = await server.add()
    body = {"factor": "totp", "replaces": old, "step_up": await server.step_up()}
    pending = (await server.post("accounts/alice/authenticators", body)).json()
    server.clock.pass_s(30)
    assert (await server.post("accounts/alice/verify", {"code": server.code()})).json()["verified"] is True
    confirm = f"accounts/alice/authenticators/{pending['id']}/confirm"
    assert (await server.post(confirm, {"code": server.code(pending["totp"]["secret"])})).status_code == 200
    assert [a["id"] for a in (await server.get("accounts/alice")).json()["authenticators"]] == [pending["id"]]


@pytest.mark.parametrize(
    "parameters",
    [
        {"factor": "totp"},
        {"factor": "totp", "algorithm": "SHA256", "digits": 8, "period": 60, "label": "Token"},
        {"factor": "totp", "algorithm": "SHA512", "digits": 7, "period": 15},
        {"factor": "hotp", "counter": 7},
    ],
)
async def test_an_import_is_active_at_once_and_brings_no_recovery_codes(
    server: Server, parameters: dict[str, Any]
) -> None:
    await server.call("PUT", "accounts/alice", {})
    body = {"secret": SECRET.lower(), "confirmed": True, **parameters}
    answer = await server.post("accounts/alice/authenticators", body)
    assert answer.status_code == 201
    assert answer.json() == {"id": answer.json()["id"], "factor": parameters["factor"], "state": "active"}
    digest = getattr(hashlib, parameters.get("algorithm", "SHA1").lower())
    if parameters["factor"] == "totp":
        phone = pyotp.TOTP(
            SECRET, digits=parameters.get("digits", 6), digest=digest, interval=parameters.get("period", 30)
        )
        code = phone.at(int(server.clock.now_s))
    else:
        code = pyotp.HOTP(SECRET).at(7)
    assert (await server.post("accounts/alice/verify", {"code": code})).json()["verified"] is True
    assert (await server.get("accounts/alice")).json()["recovery_codes_left"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"factor": "totp", "confirmed": True}, "secret"),
        ({"factor": "totp", "secret": SECRET}, "secret"),
        ({"factor": "totp", "digits": 8}, "digits"),
        ({"factor": "totp", "confirmed": True, "secret": "not base32!"}, "secret"),
        ({"factor": "totp", "confirmed": True, "secret": ""}, "secret"),
        ({"factor": "totp", "confirmed": True, "secret": SECRET, "algorithm": "MD5"}, "algorithm"),
        ({"factor": "totp", "confirmed": True, "secret": SECRET, "digits": 5}, "digits"),
        ({"factor": "totp", "confirmed": True, "secret": SECRET, "digits": 10**400}, "digits"),
        ({"factor": "totp", "confirmed": True, "secret": SECRET, "period": 14}, "period"),
        ({"factor": "totp", "confirmed": True, "secret": SECRET, "counter": 1}, "counter"),
        ({"factor": "hotp", "confirmed": True, "secret": SECRET, "period": 30}, "period"),
        ({"factor": "hotp", "confirmed": True, "secret": SECRET, "counter": -1}, "counter"),
        ({"factor": "hotp", "confirmed": True, "secret": SECRET, "counter": 2**63}, "counter"),
        ({"factor": "totp", "confirmed": True, "secret": SECRET, "replaces": "au_1"}, "replaces"),
        ({"factor": "totp", "label": "x" * 65}, "label"),
        ({"factor": "totp", "label": "a\nb"}, "label"),
        ({"factor": "totp", "confirmed": "yes"}, "confirmed"),
    ],
)
async def test_an_authenticator_that_cannot_be_is_refused(server: Server, body: dict[str, Any], field: str) -> None:
    await server.call("PUT", "accounts/alice", {})
    problem = assert_problem(await server.post("accounts/alice/authenticators", body), 422, "invalid")
    assert problem["field"] == field
    assert (await server.get("accounts/alice")).json()["authenticators"] == []


async def test_the_twenty_first_authenticator_is_too_many(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    body = {"factor": "hotp", "secret": SECRET, "confirmed": True}
    for _ in range(20):
        assert (await server.post("accounts/alice/authenticators", body)).status_code == 201
    assert_problem(await server.post("accounts/alice/authenticators", body), 409, "too_many")


async def test_an_authenticator_gets_another_label(server: Server) -> None:
    authenticator_id = await server.add()
    path = f"accounts/alice/authenticators/{authenticator_id}"
    answer = await server.call("PATCH", path, {"label": "Old phone"})
    assert (answer.status_code, answer.json()["label"]) == (200, "Old phone")
    assert_problem(await server.call("PATCH", path, {"label": "x" * 65}), 422, "invalid")
    assert_problem(await server.call("PATCH", path, {}), 422, "invalid")
    assert_problem(await server.call("PATCH", "accounts/alice/authenticators/au_x", {"label": "x"}), 404, "not_found")
    assert (await server.get("accounts/alice")).json()["authenticators"][0]["label"] == "Old phone"


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
