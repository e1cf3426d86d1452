"""Passkeys over the API: enrolled, confirmed, asked for, answered, shown; on an application's origin or Twofold's."""

import json
import re
from typing import Any

import pytest
from tests.lying_authenticator import LyingAuthenticator
from tests.server.conftest import SECRET, URL, OpenServer, Server, assert_problem
from tests.server.shops import Shop

from twofold.testing.software_authenticator import BE, BS, UV, decode

HEADERS = {"idempotency-key": "9a1b"}


@pytest.fixture
async def shop(server: Server) -> Shop:
    return await Shop.open(server)


async def test_a_passkey_goes_from_pending_to_active_by_what_the_browser_made(shop: Shop) -> None:
    pending = await shop.enroll(label="Key")
    assert (pending["factor"], pending["state"]) == ("webauthn", "pending")
    assert re.fullmatch(r"2026-.*Z", pending["expires_at"])
    options = pending["public_key"]
    assert options["rp"] == {"id": "shop.example", "name": "Twofold"}
    assert (options["user"]["name"], options["user"]["displayName"]) == ("alice", "Alice")
    assert len(decode(options["user"]["id"])) == 32
    assert {"type": "public-key", "alg": -7} in options["pubKeyCredParams"]

    path = f"accounts/alice/authenticators/{pending['id']}/confirm"
    of_elsewhere = await shop.confirm(pending, shop.register(pending, origin="https://shop.example.evil"))
    problem = assert_problem(of_elsewhere, 422, "wrong_origin")
    assert "stays pending" in problem["detail"]
    assert (await shop.server.get("accounts/alice")).json()["state"] == "empty"
    confirmed = await shop.post(path, {"credential": shop.register(pending)})
    assert confirmed.status_code == 200
    assert confirmed.json()["state"] == "active"
    assert len(set(confirmed.json()["recovery_codes"])) == 10
    (shown,) = (await shop.server.get("accounts/alice")).json()["authenticators"]
    assert (shown["id"], shown["factor"], shown["label"], shown["state"]) == (
        pending["id"],
        "webauthn",
        "Key",
        "active",
    )


async def test_a_passkey_lets_in_and_tells_that_it_was_two_factors_in_one(shop: Shop) -> None:
    authenticator_id = await shop.add()
    challenge = await shop.ask()
    assert set(challenge) == {"id", "expires_at", "prompt"}
    options = challenge["prompt"]["public_key"]
    assert (options["rpId"], options["userVerification"]) == ("shop.example", "preferred")
    (allowed,) = options["allowCredentials"]
    assert allowed["transports"] == ["hybrid", "internal"]
    answer = await shop.answer(challenge, shop.touch(challenge))
    assert answer == {
        "verified": True,
        "factor": "webauthn",
        "authenticator_id": authenticator_id,
        "receipt": None,
        "browser": answer["browser"],
        "user_verified": True,
        "account_id": "alice",
    }
    assert answer["browser"]


async def test_without_origins_of_its_own_an_application_has_twofolds(server: Server) -> None:
    shop = Shop(server, server.key)
    pending = await shop.enroll()
    assert pending["public_key"]["rp"]["id"] == "localhost"
    assert (await shop.confirm(pending, shop.register(pending))).status_code == 200
    challenge = await shop.ask()
    of_elsewhere = await shop.answer(challenge, shop.touch(challenge, origin="http://localhost:8001"))
    assert of_elsewhere == {"verified": False, "reason": "wrong_origin"}
    assert (await shop.answer(challenge, shop.touch(challenge, origin=URL)))["verified"] is True


async def test_where_browsers_make_no_passkeys_the_refusal_says_why(open_server: OpenServer) -> None:
    server = await open_server(public_url="http://127.0.0.1:8000")
    await server.call("PUT", "accounts/alice", {}, base_url="http://127.0.0.1:8000")
    for path, body in (
        ("accounts/alice/authenticators", {"factor": "webauthn"}),
        ("accounts/alice/challenges", {"factor": "webauthn"}),
    ):
        problem = assert_problem(await server.post(path, body, base_url="http://127.0.0.1:8000"), 422, "invalid")
        assert "browsers make none for an address such as 127.0.0.1" in problem["detail"]
    shop = await Shop.open(server)
    await shop.add()
    assert (await shop.sign_in())["verified"] is True


async def test_an_account_shows_what_is_known_of_its_passkeys_and_no_more(shop: Shop) -> None:
    aaguid = bytes.fromhex("ea9b8d664d011d213ce4b6b48cb575d4")
    shop.authenticators["alice"] = LyingAuthenticator(aaguid, is_backup_eligible=True, is_backed_up=True)
    await shop.add()
    pending = await shop.enroll(step_up=(await shop.sign_in(purpose="manage"))["receipt"])
    account = await shop.server.get("accounts/alice")
    active, waiting = account.json()["authenticators"]
    assert (active["label"], active["webauthn"]) == (
        "Google Password Manager",
        {
            "synced": True,
            "transports": ["hybrid", "internal"],
            "aaguid": "ea9b8d66-4d01-1d21-3ce4-b6b48cb575d4",
            "attested": False,
        },
    )
    assert (waiting["state"], "webauthn" in waiting) == ("pending", False)
    (credential,) = shop.authenticators["alice"].credentials
    assert pending["public_key"]["user"]["id"] not in account.text
    assert credential.cose.hex() not in account.text


async def test_accounts_are_listed_by_their_factor(shop: Shop) -> None:
    await shop.add("alice")
    await shop.server.add("bob")
    for factor, ids in (("webauthn", ["alice"]), ("totp", ["bob"]), ("yubico_otp", [])):
        page = (await shop.server.get(f"accounts?factor={factor}")).json()
        assert [account["id"] for account in page["accounts"]] == ids
    assert_problem(await shop.server.get("accounts?factor=passkey"), 422, "invalid")


@pytest.mark.parametrize(
    ("user_verification", "off", "outcome"),
    [
        ("required", 0, {"verified": True, "user_verified": True}),
        ("required", UV, {"verified": False, "reason": "uv_required"}),
        ("preferred", UV, {"verified": True, "user_verified": False}),
        ("discouraged", 0, {"verified": True, "user_verified": False}),
    ],
)
async def test_whether_the_user_must_be_verified_is_the_applications_choice(
    shop: Shop, user_verification: str, off: int, outcome: dict[str, Any]
) -> None:
    await shop.add()
    challenge = await shop.ask(user_verification=user_verification)
    assert challenge["prompt"]["public_key"]["userVerification"] == user_verification
    answer = await shop.answer(challenge, shop.touch(challenge, off=off))
    assert {name: answer[name] for name in outcome} == outcome


@pytest.mark.parametrize(
    ("flags", "off", "amr", "acr"),
    [
        (0, 0, ["hwk", "user", "mfa"], "urn:nist:aal2"),
        (0, UV, ["hwk", "user"], "urn:nist:aal1"),
        (BE, 0, ["swk", "user", "mfa"], "urn:nist:aal2"),
        (BE | BS, UV, ["swk", "user"], "urn:nist:aal1"),
    ],
)
async def test_a_receipt_says_what_the_passkey_counted_for(
    shop: Shop, flags: int, off: int, amr: list[str], acr: str
) -> None:
    shop.authenticators["alice"] = LyingAuthenticator(is_backup_eligible=bool(flags & BE))
    await shop.add()
    challenge = await shop.ask(purpose="transfer", binding="4711")
    answer = await shop.answer(challenge, shop.touch(challenge, on=flags, off=off), binding="4711")
    redeem = {"receipt": answer["receipt"], "purpose": "transfer", "binding": "4711"}
    redeemed = (await shop.post("receipts/redeem", redeem)).json()
    assert (redeemed["account_id"], redeemed["amr"], redeemed["acr"]) == ("alice", amr, acr)


async def test_a_passkey_is_the_step_up_for_the_next_one_and_for_removing_one(shop: Shop) -> None:
    first = await shop.add()
    begin = {"factor": "webauthn"}
    assert_problem(await shop.post("accounts/alice/authenticators", begin), 403, "step_up_required")
    second = await shop.enroll(step_up=(await shop.sign_in(purpose="manage"))["receipt"])
    assert [c["id"] for c in second["public_key"]["excludeCredentials"]]
    shop.authenticators["alice"] = LyingAuthenticator()
    confirmed = await shop.confirm(second, shop.register(second))
    assert confirmed.json() == {"id": second["id"], "state": "active"}
    path = f"accounts/alice/authenticators/{first}"
    assert_problem(await shop.server.call("DELETE", path, key=shop.key), 403, "step_up_required")
    headers = {"twofold-step-up": (await shop.sign_in(purpose="manage"))["receipt"]}
    assert (await shop.server.call("DELETE", path, key=shop.key, headers=headers)).status_code == 204
    assert [a["id"] for a in (await shop.server.get("accounts/alice")).json()["authenticators"]] == [second["id"]]


async def test_a_passkey_replaces_an_app_once_it_is_confirmed(shop: Shop) -> None:
    old = await shop.server.add()
    pending = await shop.enroll(replaces=old, step_up=await shop.server.step_up(key=shop.key), label="Key")
    assert len((await shop.server.get("accounts/alice")).json()["authenticators"]) == 2
    await shop.confirm(pending, shop.register(pending))
    (left,) = (await shop.server.get("accounts/alice")).json()["authenticators"]
    assert (left["id"], left["factor"], left["label"]) == (pending["id"], "webauthn", "Key")


async def test_an_open_enrollment_is_shown_again_with_a_challenge_that_is_good_for_five_minutes(shop: Shop) -> None:
    first = await shop.enroll()
    shop.server.clock.pass_s(400)
    too_late = await shop.confirm(first, shop.register(first))
    assert_problem(too_late, 422, "challenge_expired")
    second = await shop.enroll()
    assert (second["id"], second["public_key"]["user"]) == (first["id"], first["public_key"]["user"])
    assert second["public_key"]["challenge"] != first["public_key"]["challenge"]
    assert (await shop.confirm(second, shop.register(second))).status_code == 200


@pytest.mark.parametrize("given", [(), ("code", "credential")])
async def test_an_enrollment_is_confirmed_by_either_a_code_or_a_credential(shop: Shop, given: tuple[str, ...]) -> None:
    pending = await shop.enroll()
    whole = {"code": "123456", "credential": shop.register(pending)}
    path = f"accounts/alice/authenticators/{pending['id']}/confirm"
    problem = assert_problem(await shop.post(path, {name: whole[name] for name in given}), 422, "invalid")
    assert problem["field"] == ("credential" if given else "code")
    assert (await shop.post(path, {"credential": whole["credential"]})).status_code == 200


async def test_a_code_confirms_no_passkey_and_a_passkey_no_app(shop: Shop) -> None:
    pending, path = await shop.enroll(), "accounts/alice/authenticators"
    app = (await shop.post(path, {"factor": "totp"})).json()
    by_code = await shop.post(f"{path}/{pending['id']}/confirm", {"code": shop.server.code(app["totp"]["secret"])})
    assert_problem(by_code, 422, "wrong_code")
    assert_problem(await shop.confirm(app, shop.register(pending)), 422, "wrong_code")
    shop.server.clock.pass_s(2)
    assert (await shop.confirm(pending, shop.register(pending))).status_code == 200


@pytest.mark.parametrize(
    ("more", "field"),
    [
        ({"secret": SECRET}, "secret"),
        ({"digits": 6}, "digits"),
        ({"confirmed": True, "secret": SECRET}, "factor"),
        ({"label": "x" * 65}, "label"),
        ({"public_key": {}}, "public_key"),
    ],
)
async def test_a_passkey_that_cannot_be_begun_is_refused(server: Server, more: dict[str, Any], field: str) -> None:
    await server.call("PUT", "accounts/alice", {})
    answer = await server.post("accounts/alice/authenticators", {"factor": "webauthn", **more})
    assert assert_problem(answer, 422, "invalid")["field"] == field
    assert (await server.get("accounts/alice")).json()["authenticators"] == []


@pytest.mark.parametrize(
    ("body", "field", "expected"),
    [
        ({}, "factor", "required field"),
        ({"factor": "totp"}, "factor", "one of webauthn"),
        ({"factor": "sms"}, "factor", "one of webauthn"),
        ({"factor": "webauthn", "detail": "Pay 900 EUR"}, "detail", "shows no text"),
        (
            {"factor": "webauthn", "user_verification": "always"},
            "user_verification",
            "required, preferred, discouraged",
        ),
        ({"factor": "webauthn", "purpose": ""}, "purpose", "1 to 128 printable characters"),
        ({"factor": "webauthn", "purpose": "a\nb"}, "purpose", "1 to 128 printable characters"),
        ({"factor": "webauthn", "binding": "x" * 129}, "binding", "1 to 128 printable characters"),
        ({"factor": "webauthn", "context": {"ip": "here"}}, "context.ip", "IPv4 or IPv6"),
    ],
)
async def test_a_challenge_that_cannot_be_is_refused(
    shop: Shop, body: dict[str, Any], field: str, expected: str
) -> None:
    await shop.add()
    problem = assert_problem(await shop.post("accounts/alice/challenges", body), 422, "invalid")
    assert problem["field"] == field
    assert expected in problem["detail"]
    assert (await shop.sign_in())["verified"] is True


async def test_there_is_nothing_to_ask_for_without_a_passkey_of_this_application(shop: Shop) -> None:
    body = {"factor": "webauthn"}
    assert_problem(await shop.post("accounts/nobody/challenges", body), 404, "not_found")
    await shop.server.add()
    assert_problem(await shop.post("accounts/alice/challenges", body), 409, "no_factor")
    other = await Shop.open(shop.server, "https://elsewhere.example")
    await other.add("bob")
    assert_problem(await shop.post("accounts/bob/challenges", body), 409, "no_factor")
    assert (await other.sign_in("bob"))["verified"] is True
    await shop.server.post("accounts/bob/events", {"type": "disabled"})
    assert_problem(await other.post("accounts/bob/challenges", body), 409, "disabled")


async def test_the_scope_says_who_may_enroll_and_who_may_ask(server: Server) -> None:
    only = {scope: await server.new_key(scope, origins=["https://shop.example"]) for scope in ("verify", "enroll")}
    shop = Shop(server, only["enroll"], "https://shop.example")
    await shop.add()
    for path, body in (("accounts/alice/challenges", {"factor": "webauthn"}), ("challenges/answer", {})):
        assert_problem(await shop.post(path, body), 403, "forbidden")
    shop.key = only["verify"]
    assert_problem(await shop.post("accounts/alice/authenticators", {"factor": "webauthn"}), 403, "forbidden")
    assert (await shop.sign_in())["verified"] is True


async def test_a_browser_that_a_passkey_let_in_is_known(shop: Shop) -> None:
    await shop.add()
    browser = (await shop.sign_in())["browser"]
    challenge = await shop.ask()
    context = {"browser": browser, "ip": "192.0.2.7", "user_agent": "Test"}
    assert (await shop.answer(challenge, shop.touch(challenge), context=context))["verified"] is True
    *_, last = await shop.server.deployment.verifier.accounts.events("alice")
    payload = json.loads(last.payload or b"")
    assert (last.kind, payload["factor"], payload["browser"]) == ("code.accepted", "webauthn", "known")


async def test_passkeys_are_counted(shop: Shop) -> None:
    await shop.add()
    challenge = await shop.ask()
    await shop.answer(challenge, shop.touch(challenge, origin="https://evil.example"))
    await shop.answer(challenge, shop.touch(challenge))
    text = (await shop.server.get("/metrics")).text
    assert 'twofold_verifications_total{factor="webauthn",outcome="verified"} 1.0' in text
    assert 'twofold_verifications_total{factor="webauthn",outcome="wrong_origin"} 1.0' in text
    assert "twofold_enrollments_total 1.0" in text


async def test_lost_answers_of_a_registration_come_again_recovery_codes_too(shop: Shop) -> None:
    await shop.server.call("PUT", "accounts/alice", {})
    path, body = "accounts/alice/authenticators", {"factor": "webauthn"}
    first, second = [await shop.post(path, body, headers=HEADERS) for _ in range(2)]
    assert first.content == second.content
    other = await shop.post(path, {**body, "label": "x"}, headers=HEADERS)
    assert_problem(other, 422, "idempotency_mismatch")
    pending = first.json()
    credential = shop.register(pending)
    confirmed = [await shop.confirm(pending, credential, headers=HEADERS) for _ in range(2)]
    assert len(confirmed[0].json()["recovery_codes"]) == 10
    assert confirmed[0].content == confirmed[1].content
    assert_problem(await shop.confirm(pending, credential), 409, "conflict")


async def test_lost_answers_of_a_sign_in_come_again(shop: Shop) -> None:
    await shop.add()
    path, body = "accounts/alice/challenges", {"factor": "webauthn", "purpose": "sign-in"}
    opened = [await shop.post(path, body, headers=HEADERS) for _ in range(2)]
    assert opened[0].status_code == 201
    assert opened[0].content == opened[1].content
    assert_problem(await shop.post(path, {"factor": "webauthn"}, headers=HEADERS), 422, "idempotency_mismatch")
    challenge = opened[0].json()
    assert (await shop.ask())["id"] != challenge["id"]
    credential = shop.touch(challenge)
    answers = [await shop.send(challenge, credential, headers=HEADERS) for _ in range(2)]
    assert answers[0].json()["receipt"]
    assert answers[0].content == answers[1].content
    assert await shop.answer(challenge, credential) == {"verified": False, "reason": "challenge_used"}
