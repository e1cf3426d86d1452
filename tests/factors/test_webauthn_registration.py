"""The rules of WebAuthn Level 3 section 7.1, each with a registration that breaks it and is signed correctly, next to
the same registration as it should be."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from fido2 import cbor
from tests.ceremonies import (
    EXAMPLE,
    HANDLE,
    NOW,
    OPEN,
    ORIGIN,
    STRANGE_ORIGINS,
    Ceremonies,
    broken,
    by,
    keep_registration,
    refuse_registration,
    spelled,
    with_attestation,
)
from tests.lying_authenticator import ABSENT, RESERVED, LyingAuthenticator

from twofold.core.clock import in_seconds
from twofold.core.factor import AAL1, AAL2, Answer, Right, Wrong
from twofold.factors.cose import OFFERED
from twofold.factors.webauthn import (
    Assertion,
    PendingCredential,
    Webauthn,
    WebauthnCredential,
    find_new_credential,
    registration_challenge,
)
from twofold.factors.webauthn_json import RegistrationResponse, read_authentication
from twofold.testing.software_authenticator import AT, BE, BS, ED, UP, decode, encode

Json = dict[str, Any]
AAGUID = bytes.fromhex("cb69481e8ff7403993ec0a2729a154a8")


# Client data: steps 5 to 11.


@pytest.mark.parametrize("algorithm", OFFERED)
def test_webauthn_7_1_every_algorithm_that_is_offered_can_be_registered(algorithm: int) -> None:
    ceremonies = Ceremonies(LyingAuthenticator(algorithm=algorithm))
    assert isinstance(ceremonies.register(), Right)


@pytest.mark.parametrize(
    "said",
    [
        spelled(lambda text: text.encode("utf-16")),
        spelled(lambda text: text.replace("example", "ex\xe4mple").encode("latin-1")),
        spelled(lambda text: text[:-1]),
        spelled(lambda text: text + "}"),
        spelled(lambda text: f"[{text}]"),
        spelled(lambda text: "\ufeff\ufeff" + text),
        spelled(lambda _: ""),
        spelled(lambda text: text[:-1] + ', "deep": ' + "[" * 10_000 + "]" * 10_000 + "}"),
        {"client": {"type": ABSENT}},
        {"client": {"challenge": ABSENT}},
        {"client": {"origin": ABSENT}},
        {"client": {"origin": [ORIGIN]}},
        {"client": {"challenge": 1}},
        {"client": {"crossOrigin": "false"}},
        {"client": {"crossOrigin": 0}},
        {"client": {"topOrigin": True}},
    ],
)
def test_webauthn_7_1_step_06_client_data_is_json_of_the_right_shape(said: Json) -> None:
    assert refuse_registration(Ceremonies(), **said) == by("7.1 step 6")


@pytest.mark.parametrize(
    "said",
    [
        spelled(lambda text: "\ufeff" + text),
        spelled(lambda text: f"\n {text}\t"),
        {"client": {"crossOrigin": ABSENT}},
        {"client": {"tokenBinding": {"status": "supported"}, "extraData": [1, None, {"type": "webauthn.get"}]}},
        {"client": {"": "do not compare clientDataJSON against a template", "Type": "webauthn.get"}},
    ],
)
def test_webauthn_d17_what_client_data_says_besides_is_ignored(said: Json) -> None:
    assert keep_registration(**said).rp_id == "example.com"


@pytest.mark.parametrize(
    "kind", ["webauthn.get", "webauthn.Create", " webauthn.create", "webauthn.create\0", "payment.create", ""]
)
def test_webauthn_7_1_step_07_d1_the_type_is_exactly_that_of_a_registration(kind: str) -> None:
    assert refuse_registration(Ceremonies(), client={"type": kind}) == by("7.1 step 7")


@pytest.mark.parametrize(
    "spell",
    [
        lambda challenge: encode(b"x" * 32),
        lambda challenge: challenge + "=",
        lambda challenge: challenge[:-1],
        lambda challenge: challenge + "A",
        lambda challenge: challenge[:-1] + chr(ord(challenge[-1]) + 1),
        lambda challenge: decode(challenge).hex(),
        lambda challenge: "",
    ],
    ids=["another", "padded", "cut", "longer", "other last bits", "hexadecimal", "empty"],
)
def test_webauthn_7_1_step_08_d2_the_challenge_is_exactly_the_one_that_was_issued(spell: Callable[[str], str]) -> None:
    ceremonies = Ceremonies()
    challenge = spell(ceremonies.creation()["challenge"])
    assert refuse_registration(ceremonies, client={"challenge": challenge}) == by("7.1 step 8", "challenge_expired")


def test_webauthn_7_1_step_08_d2_the_challenge_of_another_registration_does_not_count() -> None:
    ceremonies = Ceremonies()
    other = registration_challenge(PendingCredential("example.com", HANDLE, b"o" * 32), NOW)
    assert refuse_registration(ceremonies, client={"challenge": encode(other)}) == by("7.1 step 8", "challenge_expired")


@pytest.mark.parametrize("asked_after_s", [0, 9.9], ids=["asked early", "asked just before it is renewed"])
@pytest.mark.parametrize("age_s", [0, 60, 240, 289, 290])
def test_webauthn_7_1_step_08_d2_a_challenge_is_good_for_290_seconds_at_least(age_s: int, asked_after_s: float) -> None:
    ceremonies = Ceremonies()
    ceremonies.now = NOW - NOW % in_seconds(10) + in_seconds(asked_after_s)
    response = ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)
    ceremonies.now += in_seconds(age_s)
    assert isinstance(ceremonies.judge_registration(response), Right)


@pytest.mark.parametrize("late", [-1, *map(in_seconds, (300, 360, 86_400))])
def test_webauthn_7_1_step_08_d2_a_challenge_is_over_after_five_minutes_and_not_good_before_its_time(late: int) -> None:
    ceremonies = Ceremonies()
    ceremonies.now = NOW - NOW % in_seconds(10)
    response = ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)
    ceremonies.now += late
    assert broken(ceremonies.judge_registration(response)) == by("7.1 step 8", "challenge_expired")
    assert isinstance(ceremonies.register(), Right), "a fresh one is good at any time"


@pytest.mark.parametrize("origin", STRANGE_ORIGINS)
def test_webauthn_7_1_step_09_d3_the_origin_is_exactly_one_of_ours(origin: str) -> None:
    assert refuse_registration(Ceremonies(), origin=origin) == by("7.1 step 9", "wrong_origin")


@pytest.mark.parametrize("origin", EXAMPLE.origins)
def test_webauthn_7_1_step_09_d3_each_of_our_origins_will_do(origin: str) -> None:
    assert isinstance(Ceremonies().register(origin=origin), Right)


def test_webauthn_7_1_step_09_a_registration_that_was_begun_for_another_relying_party_is_not_ended_here() -> None:
    ceremonies = Ceremonies()
    ceremonies.pending = PendingCredential("example.org", HANDLE, b"n" * 32)
    assert broken(ceremonies.register()) == by("7.1 step 9", "wrong_origin")
    ceremonies.pending = OPEN
    assert isinstance(ceremonies.register(), Right)


def test_webauthn_7_1_step_10_d4_a_frame_of_another_origin_is_refused() -> None:
    assert refuse_registration(Ceremonies(), client={"crossOrigin": True}) == by("7.1 step 10", "wrong_origin")


@pytest.mark.parametrize("top_origin", [ORIGIN, "https://evil.example", ""])
def test_webauthn_7_1_step_11_d4_a_page_around_the_frame_is_refused(top_origin: str) -> None:
    assert refuse_registration(Ceremonies(), client={"topOrigin": top_origin}) == by("7.1 step 11", "wrong_origin")


# Attestation object and authenticator data: steps 13 to 19.


ATTESTATION_OBJECTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda raw: b"",
    "cut off": lambda raw: raw[:-1],
    "something after it": lambda raw: raw + b"\0",
    "an array": lambda raw: cbor.encode([cbor.decode(raw)]),
    "without data": lambda raw: cbor.encode({"fmt": "none", "attStmt": {}}),
    "without statement": lambda raw: cbor.encode({"fmt": "none", "authData": cbor.decode(raw)["authData"]}),
    "without format": lambda raw: cbor.encode({"attStmt": {}, "authData": cbor.decode(raw)["authData"]}),
    "format is a number": lambda raw: cbor.encode({**cbor.decode(raw), "fmt": 1}),
    "statement is a list": lambda raw: cbor.encode({**cbor.decode(raw), "attStmt": []}),
    "statement with numbers as keys": lambda raw: cbor.encode({**cbor.decode(raw), "attStmt": {1: 2}}),
    "data is text": lambda raw: cbor.encode({**cbor.decode(raw), "authData": "text"}),
    "numbers as keys": lambda raw: cbor.encode({**cbor.decode(raw), 1: 2}),
    "of indefinite length": lambda raw: b"\xbf" + raw[1:] + b"\xff",
    "a key twice": lambda raw: b"\xa4" + raw[1:] + cbor.encode("fmt") + cbor.encode("none"),
    "too deep": lambda raw: cbor.encode({**cbor.decode(raw), "deep": [[[[[[1]]]]]]}),
    "too long": lambda raw: cbor.encode({**cbor.decode(raw), "long": bytes(16 * 1024)}),
    "a giant length": lambda raw: b"\x5b" + b"\xff" * 8,
}


@pytest.mark.parametrize("change", ATTESTATION_OBJECTS.values(), ids=ATTESTATION_OBJECTS)
def test_webauthn_7_1_step_13_the_attestation_object_is_read_strictly(change: Callable[[bytes], bytes]) -> None:
    ceremonies = Ceremonies()
    response = ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)
    raw = decode(response["response"]["attestationObject"])
    changed = with_attestation(response, change(raw))
    assert broken(ceremonies.judge_registration(changed)) == by("7.1 step 13")
    assert broken(ceremonies.judge_registration(changed, held_by="unasked")) == by("7.1 step 13"), "nothing to claim"
    assert isinstance(ceremonies.judge_registration(response), Right)


@pytest.mark.parametrize(
    "said",
    [
        {"off": AT},
        {"data": lambda data: b""},
        {"data": lambda data: data[:36]},
        {"data": lambda data: data[:54]},
        {"data": lambda data: data[:-1]},
        {"data": lambda data: data[:55] + data[87:]},
        {"data": lambda data: data + b"\0"},
        {"data": lambda data: data + data},
        {"on": ED},
        {"extensions": ["not a map"]},
        {"extensions": {"credProtect": 2}, "off": ED},
        {"data": lambda data: data[:53] + b"\xff\xff" + data[55:]},
    ],
    ids=[
        "no credential",
        "nothing",
        "cut in the counter",
        "cut in the length",
        "cut in the key",
        "no credential id",
        "a byte after it",
        "twice",
        "extensions missing",
        "extensions are a list",
        "extensions not announced",
        "a credential id longer than all",
    ],
)
def test_webauthn_7_1_step_13_d16_authenticator_data_is_read_strictly(said: Json) -> None:
    assert refuse_registration(Ceremonies(), **said) == by("7.1 step 13")


def test_webauthn_6_1_d17_reserved_flags_are_ignored() -> None:
    assert keep_registration(on=RESERVED) is not None


@pytest.mark.parametrize("extensions", [{}, {"credProtect": 2}, {"example.unknown": {"a": [1, True]}}])
def test_webauthn_6_1_d16_extensions_that_nobody_asked_for_are_tolerated(extensions: Json) -> None:
    assert keep_registration(extensions=extensions) is not None


@pytest.mark.parametrize("rp_id", ["example.org", "login.example.com", "com", "EXAMPLE.COM", "https://example.com"])
def test_webauthn_7_1_step_14_d5_the_credential_is_for_our_relying_party(rp_id: str) -> None:
    assert refuse_registration(Ceremonies(), rp_id=rp_id) == by("7.1 step 14")


def test_webauthn_7_1_step_15_d6_somebody_was_there() -> None:
    assert refuse_registration(Ceremonies(), off=UP) == by("7.1 step 15")


def test_webauthn_7_1_step_16_d7_user_verification_is_preferred_and_what_it_was_is_kept() -> None:
    for verifies, acr, amr in ((True, AAL2, ("hwk", "user", "mfa")), (False, AAL1, ("hwk", "user"))):
        ceremonies = Ceremonies(LyingAuthenticator(algorithm=-7, verifies_user=verifies))
        assert ceremonies.creation()["authenticatorSelection"]["userVerification"] == "preferred"
        finding = ceremonies.register()
        assert isinstance(finding, Right)
        assert (finding.is_user_verified, finding.acr, finding.amr) == (verifies, acr, amr)
        assert ceremonies.credential is not None
        assert ceremonies.credential.is_user_verifying is verifies


def test_webauthn_7_1_step_17_d8_what_may_not_be_backed_up_is_not() -> None:
    assert refuse_registration(Ceremonies(), on=BS) == by("7.1 step 17")


@pytest.mark.parametrize(
    ("flags", "is_eligible", "is_backed_up"), [(0, False, False), (BE, True, False), (BE | BS, True, True)]
)
def test_webauthn_7_1_steps_18_and_19_d8_synced_credentials_are_welcome_and_known_as_such(
    flags: int, is_eligible: bool, is_backed_up: bool
) -> None:
    kept = keep_registration(on=flags)
    assert (kept.is_backup_eligible, kept.is_backed_up) == (is_eligible, is_backed_up)


# What is kept, and what is not a registration.


def test_webauthn_7_1_step_27_the_record_says_what_was_registered() -> None:
    authenticator = LyingAuthenticator(
        algorithm=-7,
        aaguid=AAGUID,
        counts=7,
        is_backup_eligible=True,
        is_backed_up=True,
        is_resident=False,
        transports=("usb", "nfc", "usb", "telepathy"),
    )
    ceremonies = Ceremonies(authenticator)
    finding = ceremonies.register()
    assert isinstance(finding, Right)
    [made] = authenticator.credentials
    assert ceremonies.credential == WebauthnCredential(
        "example.com",
        HANDLE,
        made.id,
        made.cose,
        7,
        ("usb", "nfc"),
        AAGUID,
        is_backup_eligible=True,
        is_backed_up=True,
        is_user_verifying=True,
        is_discoverable=False,
        attestation="none",
        is_attested=False,
        application="local",
    )


def test_the_new_credential_is_found_before_it_is_judged() -> None:
    ceremonies = Ceremonies()
    response = ceremonies.authenticator.register(ceremonies.creation(), ORIGIN, client={"type": "webauthn.get"})
    registration = ceremonies.registration(response)
    found = find_new_credential(registration)
    assert found is not None
    assert found.id == ceremonies.authenticator.credentials[0].id
    unreadable = RegistrationResponse(b"", b"", (), None)
    assert find_new_credential(msgspec.structs.replace(registration, response=unreadable)) is None


def test_an_enrollment_that_is_open_is_not_confirmed_by_a_sign_in() -> None:
    ceremonies = Ceremonies()
    assert isinstance(ceremonies.register(), Right)
    ticket = ceremonies.ticket()
    response = ceremonies.authenticator.answer(ceremonies.request(ticket), ORIGIN)
    answer = Answer("webauthn", evidence=Assertion(read_authentication(response), EXAMPLE), issued=ticket)
    open_enrollment = ceremonies.enrollment()
    finding = Webauthn().check_answer(open_enrollment, answer, unseal=bytes, now=NOW)
    assert finding == Wrong(reason="wrong_credential")


def test_a_credential_that_is_active_is_not_answered_by_a_registration() -> None:
    ceremonies = Ceremonies()
    response = ceremonies.authenticator.register(ceremonies.creation(), ORIGIN)
    answer = Answer("webauthn", evidence=ceremonies.registration(response), issued=ceremonies.ticket())
    active = msgspec.structs.replace(ceremonies.enrollment(), state="active")
    assert Webauthn().check_answer(active, answer, unseal=bytes, now=NOW) == Wrong(reason="wrong_credential")
