"""The browser's JSON: what is asked looks as browsers expect it, and what comes back is read strictly."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.ceremonies import EXAMPLE, HANDLE, ORIGIN, Ceremonies
from tests.lying_authenticator import LyingAuthenticator

from twofold.errors import InvalidInput
from twofold.factors.webauthn_json import (
    AuthenticationResponse,
    Descriptor,
    RegistrationResponse,
    User,
    creation_options,
    encode,
    read_authentication,
    read_registration,
    request_options,
)
from twofold.testing.software_authenticator import decode

Json = dict[str, Any]
Reader = Callable[[Any], RegistrationResponse | AuthenticationResponse]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(max_size=8), values, max_size=3),
    max_leaves=8,
)


def a_registration() -> Json:
    ceremonies = Ceremonies(LyingAuthenticator(algorithm=-7))
    return ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)


def an_assertion() -> Json:
    ceremonies = Ceremonies(LyingAuthenticator(algorithm=-7))
    ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)
    return ceremonies.authenticator.answer(ceremonies.request(ceremonies.ticket()), ORIGIN)


REGISTRATION, ASSERTION = a_registration(), an_assertion()


def problem(read: Reader, credential: Any) -> InvalidInput:
    with pytest.raises(InvalidInput) as invalid:
        read(credential)
    return invalid.value


def within(credential: Json, **members: Any) -> Json:
    """The credential with other members in its response; those that are None are left out."""
    response = {**credential["response"], **members}
    return {**credential, "response": {name: value for name, value in response.items() if value is not None}}


# What comes back.


def test_a_registration_is_read() -> None:
    read = read_registration(REGISTRATION)
    assert read.client_data == decode(REGISTRATION["response"]["clientDataJSON"])
    assert read.attestation_object == decode(REGISTRATION["response"]["attestationObject"])
    assert read.transports == ("hybrid", "internal")
    assert read.is_discoverable is True


def test_an_assertion_is_read() -> None:
    read = read_authentication(ASSERTION)
    response = ASSERTION["response"]
    assert read == AuthenticationResponse(
        decode(ASSERTION["id"]),
        decode(response["clientDataJSON"]),
        decode(response["authenticatorData"]),
        decode(response["signature"]),
        HANDLE,
    )


@pytest.mark.parametrize(
    ("read", "credential"), [(read_registration, REGISTRATION), (read_authentication, ASSERTION)], ids=["create", "get"]
)
def test_text_is_read_like_what_was_decoded_already(read: Reader, credential: Json) -> None:
    assert read(json.dumps(credential)) == read(credential)


@pytest.mark.parametrize(
    ("read", "credential"), [(read_registration, REGISTRATION), (read_authentication, ASSERTION)], ids=["create", "get"]
)
def test_members_that_are_not_known_are_the_browsers_business(read: Reader, credential: Json) -> None:
    more = {**within(credential, publicKeyAlgorithm=-7, userAgent={}), "authenticatorAttachment": None, "new": [1]}
    assert read(more) == read(credential)


def test_what_a_browser_may_leave_out_is_not_missed() -> None:
    bare = {name: value for name, value in REGISTRATION.items() if name not in ("rawId", "clientExtensionResults")}
    read = read_registration(within(bare, transports=None))
    assert (read.transports, read.is_discoverable) == ((), None)
    assert read_registration({**REGISTRATION, "clientExtensionResults": {"credProps": {}}}).is_discoverable is None
    assert read_authentication(within(ASSERTION, userHandle=None)).user_handle is None
    for nothing in (None, ""):
        credential = {**ASSERTION, "response": {**ASSERTION["response"], "userHandle": nothing}}
        assert read_authentication(credential).user_handle is None


def test_of_the_transports_those_that_are_known_are_kept_in_their_order() -> None:
    read = read_registration(within(REGISTRATION, transports=["internal", "x" * 1000, "usb", "usb", "smart-card"]))
    assert read.transports == ("usb", "internal", "smart-card")


@pytest.mark.parametrize(
    ("read", "credential", "names"),
    [
        (read_registration, REGISTRATION, ("clientDataJSON", "attestationObject")),
        (read_authentication, ASSERTION, ("clientDataJSON", "authenticatorData", "signature", "userHandle")),
    ],
    ids=["create", "get"],
)
def test_what_is_no_base64url_is_named(read: Reader, credential: Json, names: tuple[str, ...]) -> None:
    for name in names:
        good = credential["response"][name]
        spellings = (
            good + "=",
            good + "==",
            good + "\n",
            " " + good,
            "A" * (len(good) // 4 * 4 + 1),
            good[:-4] + "+/AA",
        )
        for spelling in (*spellings, good[:-4] + "\u0661AAA", "AA\0A"):
            invalid = problem(read, within(credential, **{name: spelling}))
            assert (invalid.field, invalid.expected) == (
                f"credential.response.{name}",
                "base64url without padding",
            )
        assert read(credential)


def test_an_id_that_is_no_base64url_is_named() -> None:
    for spelling in (ASSERTION["id"] + "=", "A", "+/"):
        assert problem(read_authentication, {**ASSERTION, "id": spelling, "rawId": spelling}).field == "credential.id"


@pytest.mark.parametrize(
    ("read", "credential"), [(read_registration, REGISTRATION), (read_authentication, ASSERTION)], ids=["create", "get"]
)
def test_two_ids_that_differ_are_refused(read: Reader, credential: Json) -> None:
    invalid = problem(read, {**credential, "rawId": credential["id"] + "A"})
    assert (invalid.field, invalid.expected) == ("credential.rawId", "the same as id")


NO_ASSERTIONS: dict[str, tuple[Any, str]] = {
    "nothing": ({}, "credential.id"),
    "an id that is a number": ({**ASSERTION, "id": 1}, "credential.id"),
    "no id": ({**ASSERTION, "id": None}, "credential.id"),
    "another type": ({**ASSERTION, "type": "password"}, "credential.type"),
    "a raw id that is a list": ({**ASSERTION, "rawId": []}, "credential.rawId"),
    "no response": ({**ASSERTION, "response": None}, "credential.response"),
    "a response that is a list": ({**ASSERTION, "response": []}, "credential.response"),
    "no signature": (within(ASSERTION, signature=None), "credential.response.signature"),
    "a signature that is a number": (within(ASSERTION, signature=1), "credential.response.signature"),
    "data that is an object": (within(ASSERTION, authenticatorData={}), "credential.response.authenticatorData"),
    "a handle that is a number": (within(ASSERTION, userHandle=0), "credential.response.userHandle"),
    "a registration": (REGISTRATION, "credential.response.signature"),
    "a list": ([ASSERTION], "credential"),
    "null": (None, "credential"),
    "an empty text": ("", "credential"),
    "a text that ends early": ("{", "credential"),
    "a list as text": ("[]", "credential"),
    "half a character": ('{"id": "\ud800"}', "credential"),
    "very deep": ("[" * 100_000, "credential"),
    "something after it": (json.dumps(ASSERTION) + " x", "credential"),
}
NO_REGISTRATIONS: dict[str, tuple[Any, str]] = {
    "an assertion": (ASSERTION, "credential.response.attestationObject"),
    "a transport alone": (within(REGISTRATION, transports="usb"), "credential.response.transports"),
    "a transport that is a number": (within(REGISTRATION, transports=[1]), "credential.response.transports[0]"),
    "results that are a list": ({**REGISTRATION, "clientExtensionResults": []}, "credential.clientExtensionResults"),
    "rk is a text": (
        {**REGISTRATION, "clientExtensionResults": {"credProps": {"rk": "true"}}},
        "credential.clientExtensionResults.credProps.rk",
    ),
}


@pytest.mark.parametrize("case", NO_ASSERTIONS)
def test_what_is_no_assertion_is_refused_with_the_member_that_is_wrong(case: str) -> None:
    credential, field = NO_ASSERTIONS[case]
    invalid = problem(read_authentication, credential)
    assert invalid.field == field
    assert "as JSON" in invalid.expected


@pytest.mark.parametrize("case", NO_REGISTRATIONS)
def test_what_is_no_registration_is_refused_with_the_member_that_is_wrong(case: str) -> None:
    credential, field = NO_REGISTRATIONS[case]
    invalid = problem(read_registration, credential)
    assert invalid.field == field
    assert "as JSON" in invalid.expected


@pytest.mark.parametrize("read", [read_registration, read_authentication])
@given(credential=JSON_VALUES, member=st.sampled_from(["id", "rawId", "type", "response", "clientExtensionResults"]))
def test_whatever_the_browser_sends_is_read_or_refused(read: Reader, credential: Any, member: str) -> None:
    for sent in (credential, {**REGISTRATION, member: credential}, {**ASSERTION, member: credential}):
        for spelling in (sent, json.dumps(sent)):
            with suppress(InvalidInput):
                read(spelling)


# What is asked.


def test_creation_options_are_those_of_the_browser() -> None:
    options = creation_options(
        EXAMPLE,
        User(HANDLE, "alice", "Alice"),
        b"challenge",
        rp_name="Example",
        algorithms=(-8, -7),
        excluded=[Descriptor(b"one", ("usb", "nfc")), Descriptor(b"two")],
    )
    assert options == {
        "rp": {"id": "example.com", "name": "Example"},
        "user": {"id": encode(HANDLE), "name": "alice", "displayName": "Alice"},
        "challenge": "Y2hhbGxlbmdl",
        "pubKeyCredParams": [{"type": "public-key", "alg": -8}, {"type": "public-key", "alg": -7}],
        "timeout": 300_000,
        "excludeCredentials": [
            {"type": "public-key", "id": "b25l", "transports": ["usb", "nfc"]},
            {"type": "public-key", "id": "dHdv"},
        ],
        "authenticatorSelection": {
            "residentKey": "preferred",
            "requireResidentKey": False,
            "userVerification": "preferred",
        },
        "attestation": "none",
        "extensions": {"credProps": True},
    }


def test_request_options_are_those_of_the_browser() -> None:
    options = request_options(
        EXAMPLE, b"challenge", allowed=[Descriptor(b"one", ("internal",))], user_verification="required"
    )
    assert options == {
        "challenge": "Y2hhbGxlbmdl",
        "timeout": 300_000,
        "rpId": "example.com",
        "allowCredentials": [{"type": "public-key", "id": "b25l", "transports": ["internal"]}],
        "userVerification": "required",
    }


@given(st.binary(max_size=64))
def test_base64url_has_no_padding(data: bytes) -> None:
    assert decode(encode(data)) == data
    assert "=" not in encode(data)
