"""Who may call: keys, scopes, rates, networks. Each refusal stands next to the same call's success."""

import logging
from typing import Any

import pytest
from tests.server.conftest import SECRET, Server, assert_problem

# Each call with the scopes that open it, written down apart from the program's own table.
Call = tuple[str, str, Any, set[str]]
CALLS: list[Call] = [
    ("PUT", "accounts/alice", {}, {"enroll", "admin"}),
    ("GET", "accounts/alice", None, {"verify", "admin"}),
    ("GET", "accounts", None, {"admin"}),
    ("DELETE", "accounts/alice", None, {"admin"}),
    ("POST", "accounts/alice/events", {"type": "signed_out_everywhere"}, {"enroll", "admin"}),
    ("POST", "accounts/alice/authenticators", {"factor": "totp"}, {"enroll", "admin"}),
    ("POST", "accounts/alice/authenticators", {"factor": "totp", "secret": SECRET, "confirmed": True}, {"admin"}),
    ("POST", "accounts/alice/authenticators/au_x/confirm", {"code": "123456"}, {"enroll", "admin"}),
    ("PATCH", "accounts/alice/authenticators/au_x", {"label": "x"}, {"enroll", "admin"}),
    ("DELETE", "accounts/alice/authenticators/au_x", None, {"enroll", "admin"}),
    ("POST", "accounts/alice/recovery-codes", {}, {"enroll", "admin"}),
    ("POST", "accounts/alice/verify", {"code": "123456"}, {"verify"}),
    ("POST", "receipts/redeem", {"receipt": "x"}, {"verify"}),
]


@pytest.mark.parametrize("scope", ["verify", "enroll", "admin"])
@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call[0]} {call[1]}")
async def test_a_call_is_open_to_its_scopes_and_to_no_other(server: Server, call: Call, scope: str) -> None:
    method, path, body, scopes = call
    await server.call("PUT", "accounts/alice", {})
    answer = await server.call(method, path, body, key=await server.new_key(scope))
    is_allowed = answer.status_code != 403 or answer.json()["code"] != "forbidden"
    assert is_allowed == (scope in scopes), answer.text
    if not is_allowed:
        assert_problem(answer, 403, "forbidden")


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer tf_aaaaaaaa_" + "A" * 43,
        "Basic YTpi",
        "tf_aaaaaaaa_" + "A" * 43,
        "Bearer " + "x" * 5000,
        "Bearer tf_aaaaaaaa_" + "\u00e9" * 43,
    ],
)
async def test_without_a_key_that_counts_nothing_is_told(server: Server, authorization: str | None) -> None:
    await server.add()
    headers = {} if authorization is None else {"authorization": authorization.encode("latin-1")}
    for method, path, body, _ in CALLS:
        answer = await server.call(method, f"/api/v1/{path}", body, headers=headers)  # type: ignore[arg-type]
        assert_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    assert (await server.get("accounts/alice")).status_code == 200


async def test_the_scheme_is_read_in_any_case(server: Server) -> None:
    answer = await server.get("/api/v1/accounts", headers={"authorization": f"bearer {server.key}"})
    assert answer.status_code == 200


async def test_a_changed_key_does_not_count(server: Server) -> None:
    changed = server.key[:-1] + ("A" if server.key[-1] != "A" else "B")
    assert_problem(await server.get("accounts", key=changed), 401, "unauthorized")
    assert (await server.get("accounts", key=server.key)).status_code == 200


async def test_two_keys_in_one_request_are_refused(server: Server) -> None:
    key = f"Bearer {server.key}".encode()
    headers: Any = [(b"authorization", key), (b"authorization", key)]
    assert_problem(await server.get("/api/v1/accounts", headers=headers), 400, "bad_request")
    assert (await server.get("/api/v1/accounts", headers=headers[:1])).status_code == 200


async def test_a_revoked_key_is_refused_within_a_second(server: Server) -> None:
    key = await server.new_key("admin")
    assert (await server.get("accounts", key=key)).status_code == 200
    assert await server.deployment.applications.revoke(key.split("_")[1])
    server.clock.pass_s(1)
    assert_problem(await server.get("accounts", key=key), 401, "unauthorized")


async def test_a_key_makes_as_many_calls_a_second_as_it_may(server: Server) -> None:
    key = await server.new_key("admin", rate_per_s=3)
    assert [(await server.get("accounts", key=key)).status_code for _ in range(3)] == [200] * 3
    answer = await server.get("accounts", key=key)
    problem = assert_problem(answer, 429, "throttled")
    assert (problem["retry_after"], problem["ways"], answer.headers["retry-after"]) == (1, [], "1")
    assert (await server.get("accounts")).status_code == 200, "the rate is one key's, not everybody's"
    server.clock.pass_s(1)
    assert [(await server.get("accounts", key=key)).status_code for _ in range(4)] == [200, 200, 200, 429]


async def test_a_rate_is_not_saved_up(server: Server) -> None:
    key = await server.new_key("admin", rate_per_s=2)
    server.clock.pass_s(3600)
    assert [(await server.get("accounts", key=key)).status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["10.0.0.0/8"], "10.1.2.3", "11.1.2.3"),
        (["10.0.0.0/8", "192.0.2.7"], "192.0.2.7", "192.0.2.8"),
        (["10.0.0.0/8"], "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        (["2001:db8::/32"], "2001:db8::1", "2001:db9::1"),
        (["2001:db8::/32"], "2001:db8::1", "10.1.2.3"),
    ],
)
async def test_a_key_counts_only_in_its_networks(
    server: Server, networks: list[str], inside: str, outside: str, caplog: pytest.LogCaptureFixture
) -> None:
    key = await server.new_key("admin", networks=networks)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            assert_problem(await server.get("accounts", key=key, peer=(outside, 4000)), 401, "unauthorized")
    warnings = [record.getMessage() for record in caplog.records if "networks" in record.getMessage()]
    assert len(warnings) == 1, "the operator is told once a minute, not at every try"
    assert outside.removeprefix("::ffff:") in warnings[0]
    assert key not in caplog.text
    assert (await server.get("accounts", key=key, peer=(inside, 4000))).status_code == 200


async def test_an_address_in_a_header_is_none(server: Server) -> None:
    key = await server.new_key("admin", networks=["10.0.0.0/8"])
    headers = {"x-forwarded-for": "10.1.2.3", "forwarded": "for=10.1.2.3"}
    assert_problem(await server.get("accounts", key=key, headers=headers), 401, "unauthorized")


async def test_one_application_cannot_use_the_receipts_of_another(server: Server) -> None:
    await server.add()
    theirs = await server.new_key("verify", "enroll")
    receipt = await server.step_up(key=theirs)
    body = {"receipt": receipt, "purpose": "manage"}
    assert_problem(await server.post("receipts/redeem", body), 403, "receipt_mismatch")
    assert (await server.post("receipts/redeem", body, key=theirs)).status_code == 200
