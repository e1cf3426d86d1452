"""Receipts: what they state, who can check them, that each is used once, and the management calls that take one."""

import asyncio
import base64
import json
import warnings
from typing import Any

import pytest
from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import KeySet
from tests.server.conftest import START_S, URL, OpenServer, Server, assert_problem


async def read_receipt(server: Server, receipt: str) -> dict[str, Any]:
    """The claims, checked by a library that is not Twofold's own."""
    keys = KeySet.import_key_set((await server.get("/.well-known/jwks.json")).json())
    with warnings.catch_warnings():
        # RFC 9864 has newer names for it; `EdDSA` is what the libraries of applications know.
        warnings.simplefilter("ignore", SecurityWarning)
        token = jwt.decode(receipt, keys, algorithms=["EdDSA"])
    assert token.header["typ"] == "twofold-receipt+jwt"
    return dict(token.claims)


async def test_a_receipt_states_who_when_and_for_what(server: Server) -> None:
    await server.add()
    body = {"code": server.code(), "purpose": "transfer", "binding": "c2Vzc2lvbg"}
    answer = (await server.post("accounts/alice/verify", body)).json()
    claims = await read_receipt(server, answer["receipt"])
    assert len(claims.pop("jti")) >= 20
    assert claims.pop("epoch")
    assert claims.pop("via") == answer["authenticator_id"]
    assert claims == {
        "iss": URL,
        "aud": server.key.split("_")[1],
        "sub": "alice",
        "iat": START_S,
        "exp": START_S + 120,
        "auth_time": START_S,
        "amr": ["otp"],
        "acr": "urn:nist:aal1",
        "purpose": "transfer",
        "bnd": "c2Vzc2lvbg",
    }


async def test_a_receipt_for_management_lasts_five_minutes(server: Server) -> None:
    await server.add()
    claims = await read_receipt(server, await server.step_up())
    assert claims["exp"] - claims["iat"] == 300


async def test_a_receipt_is_issued_in_the_name_of_the_public_url(open_server: OpenServer) -> None:
    server = await open_server(public_url="https://login.example.com")
    host = {"base_url": "https://login.example.com"}
    await server.call("PUT", "accounts/alice", {}, **host)
    body = {"factor": "totp", "secret": "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "confirmed": True}
    await server.post("accounts/alice/authenticators", body, **host)
    answer = await server.post("accounts/alice/verify", {"code": server.code(), "purpose": "x"}, **host)
    _, claims, _ = answer.json()["receipt"].split(".")
    assert json.loads(base64.urlsafe_b64decode(claims + "=="))["iss"] == "https://login.example.com"


async def test_a_receipt_is_redeemed_once(server: Server) -> None:
    await server.add()
    body = {"code": server.code(), "purpose": "transfer", "binding": "abc"}
    receipt = (await server.post("accounts/alice/verify", body)).json()["receipt"]
    redeem = {"receipt": receipt, "purpose": "transfer", "binding": "abc"}
    first = await server.post("receipts/redeem", redeem)
    assert first.status_code == 200
    assert first.json() == {
        "account_id": "alice",
        "amr": ["otp"],
        "acr": "urn:nist:aal1",
        "auth_time": "2026-01-01T00:00:00Z",
        "purpose": "transfer",
        "binding": "abc",
    }
    assert_problem(await server.post("receipts/redeem", redeem), 409, "receipt_used")


async def test_of_many_redemptions_at_once_one_succeeds(server: Server) -> None:
    await server.add()
    redeem = {"receipt": await server.step_up(), "purpose": "manage"}
    answers = await asyncio.gather(*(server.post("receipts/redeem", redeem) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]


@pytest.mark.parametrize(
    "change",
    [
        {"purpose": "other"},
        {"purpose": None},
        {"binding": "other"},
        {"binding": None},
        {"receipt": "x"},
        {"receipt": ""},
    ],
)
async def test_a_mismatch_is_refused_and_consumes_nothing(server: Server, change: dict[str, str | None]) -> None:
    await server.add()
    body = {"code": server.code(), "purpose": "transfer", "binding": "abc"}
    receipt = (await server.post("accounts/alice/verify", body)).json()["receipt"]
    redeem = {"receipt": receipt, "purpose": "transfer", "binding": "abc"}
    assert_problem(await server.post("receipts/redeem", {**redeem, **change}), 403, "receipt_mismatch")
    assert (await server.post("receipts/redeem", redeem)).status_code == 200


async def test_a_changed_receipt_is_none(server: Server) -> None:
    await server.add()
    receipt = await server.step_up()
    header, claims, signature = receipt.split(".")
    flipped = ("A" if signature[9] != "A" else "B").join((signature[:9], signature[10:]))
    for forged in (f"{header}.{claims}.{flipped}", f"{header}.{claims}.", f"{header}.{claims}", receipt + "A"):
        body = {"receipt": forged, "purpose": "manage"}
        assert_problem(await server.post("receipts/redeem", body), 403, "receipt_mismatch")


async def test_an_expired_receipt_is_refused(server: Server) -> None:
    await server.add()
    receipt = await server.step_up()
    server.clock.pass_s(300)
    assert_problem(
        await server.post("receipts/redeem", {"receipt": receipt, "purpose": "manage"}), 403, "receipt_mismatch"
    )


MANAGEMENT = ["add", "remove", "renew"]


async def manage(server: Server, call: str, key: str, authenticator_id: str, step_up: str | None) -> Any:
    if call == "remove":
        headers = {} if step_up is None else {"twofold-step-up": step_up}
        path = f"accounts/alice/authenticators/{authenticator_id}"
        return await server.call("DELETE", path, key=key, headers=headers)
    body: dict[str, Any] = {} if step_up is None else {"step_up": step_up}
    if call == "renew":
        return await server.post("accounts/alice/recovery-codes", body, key=key)
    return await server.post("accounts/alice/authenticators", {"factor": "totp", **body}, key=key)


@pytest.mark.parametrize("call", MANAGEMENT)
async def test_management_of_a_protected_account_takes_a_fresh_receipt_once(server: Server, call: str) -> None:
    authenticator_id = await server.add()
    key = await server.new_key("verify", "enroll")
    assert_problem(await manage(server, call, key, authenticator_id, None), 403, "step_up_required")
    assert_problem(await manage(server, call, key, authenticator_id, "nonsense"), 403, "step_up_required")
    receipt = await server.step_up(key=key)
    assert (await manage(server, call, key, authenticator_id, receipt)).status_code < 300
    redeem = {"receipt": receipt, "purpose": "manage"}
    # It was used up by the call. With the last authenticator gone it still is.
    assert_problem(await server.post("receipts/redeem", redeem, key=key), 409, "receipt_used")


@pytest.mark.parametrize("call", MANAGEMENT)
async def test_receipts_of_others_for_others_or_too_old_are_no_step_up(server: Server, call: str) -> None:
    authenticator_id = await server.add()
    await server.add("bob")
    key, other_key = [await server.new_key("verify", "enroll") for _ in range(2)]
    of_bob = await server.step_up("bob", key=key)
    of_another_application = await server.step_up(key=other_key)
    server.clock.pass_s(30)
    verified = await server.post("accounts/alice/verify", {"code": server.code(), "purpose": "sign-in"}, key=key)
    too_old = await server.step_up(key=key)
    server.clock.pass_s(300)
    for receipt in (of_bob, of_another_application, verified.json()["receipt"], too_old):
        assert_problem(await manage(server, call, key, authenticator_id, receipt), 403, "step_up_required")
    fresh = await server.step_up(key=key)
    assert (await manage(server, call, key, authenticator_id, fresh)).status_code < 300


@pytest.mark.parametrize("call", MANAGEMENT)
async def test_the_scope_admin_may_do_without_and_the_audit_log_says_who(server: Server, call: str) -> None:
    authenticator_id = await server.add()
    key = await server.new_key("admin")
    assert (await manage(server, call, key, authenticator_id, None)).status_code < 300
    *_, last = await server.deployment.verifier.accounts.events("alice")
    assert json.loads(last.payload or b"")["application"] == key.split("_")[1]


async def test_confirming_needs_a_step_up_only_if_the_enrollment_began_on_an_empty_account(server: Server) -> None:
    key = await server.new_key("verify", "enroll")
    await server.call("PUT", "accounts/alice", {})
    pending = (await server.post("accounts/alice/authenticators", {"factor": "totp"}, key=key)).json()
    await server.add()
    confirm = f"accounts/alice/authenticators/{pending['id']}/confirm"
    code = {"code": server.code(pending["totp"]["secret"], steps=1)}
    assert_problem(await server.post(confirm, code, key=key), 403, "step_up_required")
    step_up = await server.step_up(key=key)
    assert (await server.post(confirm, {**code, "step_up": step_up}, key=key)).status_code == 200


async def test_of_many_confirmations_at_once_one_succeeds(server: Server) -> None:
    await server.call("PUT", "accounts/alice", {})
    pending = (await server.post("accounts/alice/authenticators", {"factor": "totp"})).json()
    confirm = f"accounts/alice/authenticators/{pending['id']}/confirm"
    body = {"code": server.code(pending["totp"]["secret"])}
    answers = await asyncio.gather(*(server.post(confirm, body) for _ in range(8)))
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.status_code for answer in answers} <= {200, 409, 429}


async def test_of_many_copies_of_one_code_at_once_one_is_verified(server: Server) -> None:
    await server.add()
    answers = await asyncio.gather(*(server.post("accounts/alice/verify", {"code": server.code()}) for _ in range(16)))
    judged = [answer.json()["verified"] for answer in answers if answer.status_code == 200]
    assert judged.count(True) == 1
    assert {answer.status_code for answer in answers} <= {200, 429}
    for answer in answers:
        assert answer.status_code == 200 or answer.json()["retry_after"] >= 1
