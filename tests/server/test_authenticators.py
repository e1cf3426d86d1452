"""Authenticators over the API: enrolled, confirmed, imported, renamed, removed; and what is refused of each."""

import base64
import hashlib
import re
import struct
import zlib
from string import ascii_uppercase
from typing import Any

import pyotp
import pytest
from tests.server.conftest import SECRET, Server, assert_problem

TIME = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
RECOVERY_CODE = re.compile(r"([0-9A-HJKMNP-TV-Z]{4}-){4}[0-9A-HJKMNP-TV-Z]{4}")


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


@pytest.mark.parametrize("factor", ["sms", "email", "push", "yubico_otp", "password", "recovery_codes", ""])
async def test_a_factor_that_cannot_be_enrolled_is_refused_with_those_that_can(server: Server, factor: str) -> None:
    await server.call("PUT", "accounts/alice", {})
    problem = assert_problem(await server.post("accounts/alice/authenticators", {"factor": factor}), 422, "invalid")
    assert problem["field"] == "factor"
    assert "totp, hotp, webauthn" in problem["detail"]


async def test_factors_of_later_versions_have_no_paths_yet(server: Server) -> None:
    for path in ("challenges/resend", "challenges/state"):
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
    bodies = [{"factor": "hotp", "secret": 4 * f"{letter}BCDEFGH", "confirmed": True} for letter in ascii_uppercase]
    for body in bodies[:20]:
        assert (await server.post("accounts/alice/authenticators", body)).status_code == 201
    assert_problem(await server.post("accounts/alice/authenticators", bodies[20]), 409, "too_many")


async def test_an_authenticator_gets_another_label(server: Server) -> None:
    authenticator_id = await server.add()
    path = f"accounts/alice/authenticators/{authenticator_id}"
    answer = await server.call("PATCH", path, {"label": "Old phone"})
    assert (answer.status_code, answer.json()["label"]) == (200, "Old phone")
    assert_problem(await server.call("PATCH", path, {"label": "x" * 65}), 422, "invalid")
    assert_problem(await server.call("PATCH", path, {}), 422, "invalid")
    assert_problem(await server.call("PATCH", "accounts/alice/authenticators/au_x", {"label": "x"}), 404, "not_found")
    assert (await server.get("accounts/alice")).json()["authenticators"][0]["label"] == "Old phone"
