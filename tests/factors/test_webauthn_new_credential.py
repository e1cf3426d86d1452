"""The rules of WebAuthn Level 3 section 7.1, continued: the key, who vouches for it, and its name."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fido2 import cbor
from tests.ceremonies import (
    ORIGIN,
    Ceremonies,
    attestation_of,
    broken,
    by,
    keep_registration,
    refuse_registration,
    with_attestation,
)
from tests.lying_authenticator import ABSENT, LyingAuthenticator

from twofold.core.factor import Right, StaleProof
from twofold.factors.cose import OFFERED
from twofold.factors.webauthn import Policy
from twofold.testing.software_authenticator import cose_of, decode, new_key

Json = dict[str, Any]
AAGUID = bytes.fromhex("cb69481e8ff7403993ec0a2729a154a8")


# The key: step 20.


def p256(**changes: Any) -> Json:
    """The members of a good ES256 key, changed."""
    names = {"kty": 1, "alg": 3, "crv": -1, "x": -2, "y": -3}
    members = cose_of(-7, new_key(-7)) | {names[name]: value for name, value in changes.items()}
    return {number: value for number, value in members.items() if value is not ABSENT}


def rsa_key(n: int, e: int) -> Json:
    return {1: 3, 3: -257, -1: n.to_bytes((n.bit_length() + 7) // 8, "big"), -2: e.to_bytes(8, "big").lstrip(b"\0")}


def a_modulus(bits: int) -> int:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits).public_key().public_numbers().n


P384 = cose_of(-35, new_key(-35))
MODULUS = a_modulus(2048)
BAD_KEYS: dict[str, Json] = {
    "without algorithm": p256(alg=ABSENT),
    "of an algorithm that is not offered": p256(alg=-47),
    "of an algorithm that is a text": p256(alg="ES256"),
    "of another type": p256(kty=1),
    "on the curve of another algorithm": {**P384, 3: -7},
    "ES384 on P-256": p256(alg=-35),
    "off its curve": p256(y=b"\x01" * 32),
    "at infinity": p256(x=bytes(32), y=bytes(32)),
    "compressed": p256(y=True),
    "without y": p256(y=ABSENT),
    "a coordinate too short": p256(x=b"\x01" * 31),
    "a coordinate that is a number": p256(x=1),
    "EdDSA off its curve": {1: 1, 3: -8, -1: 6, -2: (2).to_bytes(32, "little")},
    "EdDSA of small order": {1: 1, 3: -8, -1: 6, -2: (1).to_bytes(32, "little")},
    "EdDSA too short": {1: 1, 3: -8, -1: 6, -2: b"\x09" * 31},
    "RSA of 512 bits": rsa_key(2**512 - 569, 65537),
    "RSA of 1024 bits": rsa_key(a_modulus(1024), 65537),
    "RSA with exponent 1": rsa_key(MODULUS, 1),
    "RSA with an even exponent": rsa_key(MODULUS, 65536),
    "RSA with an even modulus": rsa_key(MODULUS - 1, 65537),
    "no map": [1, 2],  # type: ignore[dict-item]
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_webauthn_7_1_step_20_d9_a_key_is_sane_for_its_algorithm(key: Json) -> None:
    assert refuse_registration(Ceremonies(), public_key=cbor.encode(key)) == by("7.1 step 20", "key_refused")


@pytest.mark.parametrize("algorithm", OFFERED)
def test_webauthn_7_1_step_20_d9_a_sane_key_of_an_algorithm_that_was_not_offered_is_refused(algorithm: int) -> None:
    ceremonies = Ceremonies()
    ceremonies.policy = Policy(algorithms=tuple(offered for offered in OFFERED if offered != algorithm))
    public_key = cbor.encode(cose_of(algorithm, new_key(algorithm)))
    assert broken(ceremonies.register(public_key=public_key)) == by("7.1 step 20", "key_refused")
    ceremonies.policy = Policy()
    assert isinstance(ceremonies.register(public_key=public_key), Right)


def test_webauthn_7_1_step_20_a_point_of_p256_is_read_as_it_is() -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    assert keep_registration(public_key=cbor.encode(cose_of(-7, key))).public_key == cbor.encode(cose_of(-7, key))


# Attestation: steps 21 to 24.


def attesting(**policy: Any) -> Ceremonies:
    authenticator = LyingAuthenticator(algorithm=-7, attests=True, aaguid=AAGUID)
    return Ceremonies(authenticator, policy=Policy(conveyance="direct", **policy))


def test_webauthn_7_1_step_21_d10_no_attestation_is_fine_and_so_is_one_that_nobody_knows() -> None:
    assert keep_registration().attestation == "none"
    unknown = keep_registration(fmt="example-unknown", statement={"sig": b"x"})
    assert not unknown.is_attested


def test_webauthn_7_1_step_22_d10_self_attestation_is_verified_and_proves_nothing() -> None:
    ceremonies = attesting()
    assert isinstance(ceremonies.register(), Right)
    assert ceremonies.credential is not None
    assert (ceremonies.credential.attestation, ceremonies.credential.is_attested) == ("self", False)


@pytest.mark.parametrize(
    "change",
    [
        lambda statement: {},
        lambda statement: {"alg": -7},
        lambda statement: {**statement, "alg": -35},
        lambda statement: {**statement, "sig": b"not a signature"},
        lambda statement: {**statement, "sig": statement["sig"].hex()},
    ],
    ids=["empty", "no signature", "another algorithm", "no signature but bytes", "a text"],
)
def test_webauthn_7_1_step_22_d10_a_statement_that_is_wrong_is_refused(change: Callable[[Json], Json]) -> None:
    ceremonies = attesting()
    response = ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)
    attestation = attestation_of(response)
    wrong = cbor.encode({**attestation, "attStmt": change(attestation["attStmt"])})
    assert broken(ceremonies.judge_registration(with_attestation(response, wrong))) == by(
        "7.1 step 22", "attestation_refused"
    )
    assert isinstance(ceremonies.judge_registration(response), Right)


def test_webauthn_7_1_step_22_d10_a_statement_that_is_empty_says_so() -> None:
    assert refuse_registration(Ceremonies(), statement={"sig": b""}) == by("7.1 step 22", "attestation_refused")


def test_webauthn_7_1_step_22_d10_the_statement_of_another_registration_is_refused() -> None:
    ceremonies = attesting()
    first, second = (ceremonies.authenticator.register(ceremonies.creation(), ORIGIN) for _ in range(2))
    mixed = cbor.encode({**attestation_of(first), "attStmt": attestation_of(second)["attStmt"]})
    assert broken(ceremonies.judge_registration(with_attestation(first, mixed))) == by(
        "7.1 step 22", "attestation_refused"
    )
    assert isinstance(ceremonies.judge_registration(first), Right)


@pytest.mark.parametrize(
    ("policy", "is_welcome"),
    [
        (Policy(), True),
        (Policy(needs_trust=True), False),
        (Policy(denied_aaguids=frozenset({AAGUID})), False),
        (Policy(denied_aaguids=frozenset({bytes(16)})), True),
        (Policy(allowed_aaguids=frozenset()), False),
        (Policy(allowed_aaguids=frozenset({bytes(16)})), False),
    ],
    ids=["any", "only trusted", "denied", "another is denied", "none allowed", "another is allowed"],
)
def test_webauthn_7_1_step_24_the_policy_says_which_authenticators_are_welcome(
    policy: Policy, *, is_welcome: bool
) -> None:
    ceremonies = attesting()
    ceremonies.policy = msgspec.structs.replace(policy, conveyance="direct")
    finding = ceremonies.register()
    if is_welcome:
        assert isinstance(finding, Right)
    else:
        assert broken(finding) == by("7.1 step 24", "attestation_refused")
        ceremonies.policy = Policy(conveyance="direct")
        assert isinstance(ceremonies.register(), Right)


# The credential id: steps 25 and 26.


@pytest.mark.parametrize("length", [0, 1, 16, 1023, 1024, 2000])
def test_webauthn_7_1_step_25_d11_a_credential_id_has_1_to_1023_bytes(length: int) -> None:
    ceremonies = Ceremonies()
    if 1 <= length <= 1023:
        assert isinstance(ceremonies.register(credential_id=b"i" * length), Right)
    else:
        assert refuse_registration(ceremonies, credential_id=b"i" * length) == by("7.1 step 25")


def test_webauthn_7_1_step_26_d11_a_credential_id_that_somebody_has_is_refused() -> None:
    ceremonies = Ceremonies()
    assert refuse_registration(ceremonies, held_by="other") == by("7.1 step 26", "already_registered")


def test_webauthn_7_1_step_26_who_holds_the_id_is_asked_only_when_all_else_is_right() -> None:
    assert isinstance(Ceremonies().register(held_by="unasked"), StaleProof)
    assert refuse_registration(Ceremonies(), held_by="unasked", client={"type": "webauthn.get"}) == by("7.1 step 7")
    assert refuse_registration(Ceremonies(), held_by="other", credential_id=bytes(1024)) == by("7.1 step 25")


def test_webauthn_d11_the_credential_is_the_one_that_was_signed_and_not_the_one_beside_it() -> None:
    ceremonies = Ceremonies()
    response = ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)
    assert isinstance(ceremonies.judge_registration({**response, "id": "AAAA", "rawId": "AAAA"}), Right)
    assert ceremonies.credential is not None
    assert ceremonies.credential.id == decode(response["id"])
