"""The test vectors of WebAuthn Level 3 itself, judged by our rules. Those from a frame of another origin show that such
a ceremony is refused for that alone."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from tests.ceremonies import Ceremonies, broken, by

from twofold.core.clock import in_seconds
from twofold.core.factor import Right
from twofold.factors import webauthn
from twofold.factors.attestation import Trust
from twofold.factors.webauthn import ClientData, PendingCredential, Policy
from twofold.factors.webauthn_json import RelyingParty
from twofold.testing.software_authenticator import decode

Json = dict[str, Any]
FILE = json.loads((Path(__file__).parent.parent / "vectors" / "webauthn_l3.json").read_text())
VECTORS: list[Json] = FILE["vectors"]
ROOT = x509.load_der_x509_certificate(decode(FILE["attestation_root"]["cert_der_b64url"]))
IN_2026 = in_seconds(1_780_000_000)


def response_of(ceremony: Json) -> Json:
    """A ceremony of the file as the browser's JSON."""
    members = ("clientDataJSON", "attestationObject", "authenticatorData", "signature")
    return {
        "id": ceremony["credentialId"],
        "type": "public-key",
        "response": {member: ceremony[member] for member in members if member in ceremony},
    }


@pytest.fixture
def vector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Json:
    """A vector; the challenge of its registration is the one that we issued."""
    given: Json = request.param
    challenge = decode(given["registration"]["challenge"])
    monkeypatch.setattr(webauthn, "_challenge_of", lambda pending, minute: challenge)
    return given


def ceremonies_of(vector: Json) -> Ceremonies:
    rp_id = vector["rp_id"]
    return Ceremonies(
        rp=RelyingParty(rp_id, (vector["origin"],)),
        policy=Policy(trust=Trust((ROOT,))),
        pending=PendingCredential(rp_id, b"h" * 32, b"n" * 32),
        now=IN_2026,
    )


def is_vouched_for(vector: Json) -> bool:
    """Whether a maker stands behind it; of the Android key no hardware says that it is there."""
    return vector["attestation_type"] not in ("None", "Self") and vector["fmt"] != "android-key"


def forget_frames(monkeypatch: pytest.MonkeyPatch, *members: str) -> None:
    """Read client data as if these members were not there."""
    read = webauthn._decode_client_data

    def read_without(raw: bytes) -> ClientData:
        return msgspec.structs.replace(read(raw), **dict.fromkeys(members))

    monkeypatch.setattr(webauthn, "_decode_client_data", read_without)


def check_all(ceremonies: Ceremonies, vector: Json) -> None:
    """Both ceremonies succeed, and what is kept is what the vector expects."""
    registration, authentication = vector["registration"], vector["authentication"]
    finding = ceremonies.judge_registration(response_of(registration))
    assert isinstance(finding, Right)
    expected, kept = registration["expected"], ceremonies.credential
    assert kept is not None
    assert kept.id == decode(registration["credentialId"])
    assert kept.public_key == decode(expected["credential_public_key_cose"])
    assert kept.aaguid.hex() == vector["aaguid"].replace("-", "")
    assert kept.sign_count == expected["sign_count"]
    flags = (kept.is_user_verifying, kept.is_backup_eligible, kept.is_backed_up)
    assert flags == tuple(expected["flags"][name] for name in ("UV", "BE", "BS"))
    assert kept.is_attested is is_vouched_for(vector)

    ticket = ceremonies.ticket(challenge=decode(authentication["challenge"]))
    finding = ceremonies.judge_assertion(response_of(authentication), ticket)
    assert isinstance(finding, Right)
    assert finding.is_user_verified == authentication["expected"]["flags"]["UV"]
    assert ceremonies.credential is not None
    assert ceremonies.credential.is_backed_up == authentication["expected"]["flags"]["BS"]


IN_ONE_PAGE = [vector for vector in VECTORS if not vector["registration"]["expected"]["cross_origin"]]
IN_A_FRAME = [vector for vector in VECTORS if vector not in IN_ONE_PAGE]


def test_the_file_has_all_vectors() -> None:
    assert (len(IN_ONE_PAGE), len(IN_A_FRAME)) == (13, 2)


@pytest.mark.parametrize("vector", IN_ONE_PAGE, ids=lambda vector: vector["id"], indirect=True)
def test_webauthn_16_a_vector_is_registered_and_signs_in(vector: Json) -> None:
    check_all(ceremonies_of(vector), vector)


@pytest.mark.parametrize("vector", IN_A_FRAME, ids=lambda vector: vector["id"], indirect=True)
def test_webauthn_7_1_step_10_d4_a_vector_from_a_frame_is_refused_for_that_alone(
    vector: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceremonies = ceremonies_of(vector)
    response = response_of(vector["registration"])
    assert broken(ceremonies.judge_registration(response)) == by("7.1 step 10", "wrong_origin")
    forget_frames(monkeypatch, "is_cross_origin")
    if vector["registration"]["expected"]["top_origin"] is not None:
        assert broken(ceremonies.judge_registration(response)) == by("7.1 step 11", "wrong_origin")
        forget_frames(monkeypatch, "top_origin")
    check_all(ceremonies, vector)


@pytest.mark.parametrize("vector", IN_A_FRAME, ids=lambda vector: vector["id"], indirect=True)
def test_webauthn_7_2_step_13_d4_a_vector_from_a_frame_does_not_sign_in(
    vector: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    ceremonies = ceremonies_of(vector)
    with monkeypatch.context() as elsewhere:
        forget_frames(elsewhere, "is_cross_origin", "top_origin")
        assert isinstance(ceremonies.judge_registration(response_of(vector["registration"])), Right)
    response = response_of(vector["authentication"])
    ticket = ceremonies.ticket(challenge=decode(vector["authentication"]["challenge"]))
    assert broken(ceremonies.judge_assertion(response, ticket)) == by("7.2 step 13", "wrong_origin")
    forget_frames(monkeypatch, "is_cross_origin")
    if vector["authentication"]["expected"]["top_origin"] is not None:
        assert broken(ceremonies.judge_assertion(response, ticket)) == by("7.2 step 14", "wrong_origin")
        forget_frames(monkeypatch, "top_origin")
    assert isinstance(ceremonies.judge_assertion(response, ticket), Right)


@pytest.mark.parametrize("vector", IN_ONE_PAGE, ids=lambda vector: vector["id"], indirect=True)
def test_webauthn_7_1_step_24_without_the_root_nothing_is_trusted(vector: Json) -> None:
    ceremonies = ceremonies_of(vector)
    ceremonies.policy = Policy(trust=Trust((ROOT,)), needs_trust=True)
    finding = ceremonies.judge_registration(response_of(vector["registration"]))
    if is_vouched_for(vector):
        assert isinstance(finding, Right)
    else:
        assert broken(finding) == by("7.1 step 24", "attestation_refused")
    ceremonies.policy = Policy(needs_trust=True)
    finding = ceremonies.judge_registration(response_of(vector["registration"]))
    assert broken(finding) == by("7.1 step 24", "attestation_refused")
