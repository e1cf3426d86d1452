"""The authenticator of the test kit before another judge than ours, and its CBOR beside that of another library."""

import json
from typing import Any

import pytest
from fido2 import cbor as other_cbor
from fido2.server import Fido2Server
from fido2.utils import websafe_decode
from fido2.webauthn import (
    AuthenticatorData,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    UserVerificationRequirement,
)
from hypothesis import given
from hypothesis import strategies as st

from twofold.factors.cbor import decode
from twofold.factors.cose import OFFERED
from twofold.testing import NotAllowed, SoftwareAuthenticator
from twofold.testing.cbor import encode

ORIGIN = "https://example.com"
PASSKEY = PublicKeyCredentialType.PUBLIC_KEY
_NUMBERS = st.integers(-(2**64), 2**64 - 1)
_KEYS = st.one_of(_NUMBERS, st.binary(max_size=30), st.text(max_size=30))
ITEMS = st.recursive(
    st.one_of(st.booleans(), _KEYS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=30),
    max_leaves=40,
)


def options_of(challenge: Any) -> dict[str, Any]:
    """What a page would hand to its browser."""
    return json.loads(json.dumps(dict(challenge)))["publicKey"]


@pytest.mark.parametrize("algorithm", OFFERED)
@pytest.mark.parametrize("attests", [False, True])
def test_another_server_takes_its_keys_and_its_signatures(algorithm: int, attests: bool) -> None:
    server = Fido2Server(PublicKeyCredentialRpEntity(name="Example", id="example.com"), attestation="direct")
    server.allowed_algorithms = [PublicKeyCredentialParameters(type=PASSKEY, alg=algorithm)]
    authenticator = SoftwareAuthenticator(attests=attests, counts=1, is_backup_eligible=True)
    asked, state = server.register_begin(
        PublicKeyCredentialUserEntity(name="alice", id=b"handle", display_name="Alice"),
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    made = server.register_complete(state, authenticator.register(options_of(asked), ORIGIN))
    assert made.credential_data is not None
    asked, state = server.authenticate_begin([made.credential_data])
    shown = authenticator.answer(options_of(asked), ORIGIN)
    assert server.authenticate_complete(state, [made.credential_data], shown) == made.credential_data
    said = AuthenticatorData(websafe_decode(shown["response"]["authenticatorData"]))
    assert (said.counter, said.is_backup_eligible(), said.is_user_verified()) == (2, True, True)


CREATION = {
    "rp": {"name": "Example"},
    "user": {"id": "aGFuZGxl", "name": "alice", "displayName": "Alice"},
    "challenge": "Y2hhbGxlbmdl",
    "pubKeyCredParams": [{"type": "public-key", "alg": -7}],
}
REQUEST = {"challenge": "Y2hhbGxlbmdl"}


def test_what_options_leave_out_is_as_browsers_have_it() -> None:
    authenticator = SoftwareAuthenticator()
    made = authenticator.register(CREATION, ORIGIN)
    assert authenticator.credentials[0].rp_id == "example.com"
    assert authenticator.answer(REQUEST, ORIGIN)["id"] == made["id"]
    with pytest.raises(NotAllowed, match="none of the credentials"):
        authenticator.answer(REQUEST, "https://example.org")


def test_it_makes_no_second_key_where_one_is_excluded() -> None:
    authenticator = SoftwareAuthenticator()
    made = authenticator.register(CREATION, ORIGIN)
    excluding = {**CREATION, "excludeCredentials": [{"type": "public-key", "id": made["id"]}]}
    with pytest.raises(NotAllowed, match="excluded"):
        authenticator.register(excluding, ORIGIN)
    assert SoftwareAuthenticator().register(excluding, ORIGIN)["id"] != made["id"]


def test_it_makes_only_keys_that_were_offered() -> None:
    with pytest.raises(NotAllowed, match="-8 was not offered"):
        SoftwareAuthenticator(algorithm=-8).register(CREATION, ORIGIN)
    assert SoftwareAuthenticator(algorithm=-7).register(CREATION, ORIGIN)


def test_a_security_key_without_a_pin_answers_only_by_name_and_never_verifies_its_user() -> None:
    key = SoftwareAuthenticator(verifies_user=False, is_resident=False, transports=("usb",))
    made = key.register(CREATION, ORIGIN)
    assert made["authenticatorAttachment"] == "cross-platform"
    named = {**REQUEST, "allowCredentials": [{"type": "public-key", "id": made["id"]}]}
    assert "userHandle" not in key.answer(named, ORIGIN)["response"]
    with pytest.raises(NotAllowed, match="none of the credentials"):
        key.answer(REQUEST, ORIGIN)
    with pytest.raises(NotAllowed, match="cannot verify its user"):
        key.answer({**named, "userVerification": "required"}, ORIGIN)


def test_its_private_keys_are_not_printed() -> None:
    authenticator = SoftwareAuthenticator()
    authenticator.register(CREATION, ORIGIN)
    assert "private_key" not in repr(authenticator)


@given(ITEMS)
def test_cbor_is_written_as_another_library_writes_it(item: Any) -> None:
    assert encode(item) == other_cbor.encode(item)


@given(st.dictionaries(_KEYS, _KEYS, max_size=30))
def test_cbor_that_is_written_here_is_read_by_the_server(item: dict[Any, Any]) -> None:
    assert decode(encode(item)) == item


def test_numbers_beyond_64_bits_are_no_cbor() -> None:
    with pytest.raises(OverflowError):
        encode(2**64)
    assert encode(2**64 - 1) == b"\x1b" + b"\xff" * 8
