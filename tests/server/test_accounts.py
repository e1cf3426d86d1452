"""Accounts over the API: created, shown, listed, told what happened, deleted; and what is refused of each."""

import re
from typing import Any
from unittest.mock import ANY

import pytest
from tests.server.conftest import SECRET, Server, assert_problem

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


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
        "epoch": ANY,
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
