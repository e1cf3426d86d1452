"""The rules of WebAuthn Level 3 section 7.2, each with an assertion that breaks it and is signed correctly, next to the
same assertion as it should be."""

from collections.abc import Callable
from typing import Any

import pytest
from tests.ceremonies import EXAMPLE, HANDLE, ORIGIN, STRANGE_ORIGINS, broken, by, refuse_sign_in, registered, spelled
from tests.lying_authenticator import ABSENT, RESERVED

from twofold.core.factor import Right
from twofold.factors.webauthn_json import RelyingParty
from twofold.testing.software_authenticator import AT, BE, BS, ED, UP, UV, decode, encode

Json = dict[str, Any]


# Whose credential it is: steps 5 and 6.


def test_webauthn_7_2_step_05_d12_a_credential_that_was_not_asked_for_is_refused() -> None:
    ceremonies = registered()
    assert isinstance(ceremonies.sign_in(asked={"allowed": ("au_0", "au_1")}), Right)
    assert broken(ceremonies.sign_in(asked={"allowed": ("au_0", "au_2")})) == by("7.2 step 5", "unknown_credential")
    assert isinstance(ceremonies.sign_in(asked={"allowed": ()}), Right)


@pytest.mark.parametrize("change", [lambda raw: raw + b"\0", lambda raw: raw[:-1], lambda raw: b""])
def test_webauthn_7_2_step_06_d12_another_credential_id_is_unknown(change: Callable[[bytes], bytes]) -> None:
    ceremonies = registered()
    credential_id = change(ceremonies.authenticator.credentials[0].id)
    assert refuse_sign_in(ceremonies, credential_id=credential_id) == by("7.2 step 6", "unknown_credential")


def test_webauthn_7_2_step_06_a_credential_of_another_relying_party_is_unknown() -> None:
    ceremonies = registered()
    response = ceremonies.authenticator.answer(ceremonies.request(ceremonies.ticket()), ORIGIN)
    ceremonies.rp = RelyingParty("example.org", EXAMPLE.origins)
    assert broken(ceremonies.judge_assertion(response, ceremonies.ticket())) == by("7.2 step 6", "unknown_credential")
    ceremonies.rp = EXAMPLE
    assert isinstance(ceremonies.judge_assertion(response, ceremonies.ticket()), Right)


@pytest.mark.parametrize("handle", [b"\0", HANDLE[:-1], HANDLE + b"\0", bytes(32)])
def test_webauthn_7_2_step_06_d12_the_user_handle_is_that_of_the_account(handle: bytes) -> None:
    assert refuse_sign_in(registered(), user_handle=handle) == by("7.2 step 6", "unknown_credential")


def test_webauthn_7_2_step_06_d18_whoever_was_not_named_is_found_by_the_handle_only() -> None:
    ceremonies = registered()
    nobody = {"account_id": "", "epoch": ""}
    assert broken(ceremonies.sign_in(asked=nobody, user_handle=None)) == by("7.2 step 6", "unknown_credential")
    assert broken(ceremonies.sign_in(asked=nobody, user_handle=bytes(32))) == by("7.2 step 6", "unknown_credential")
    assert isinstance(ceremonies.sign_in(asked=nobody), Right)
    assert isinstance(ceremonies.sign_in(user_handle=None), Right), "who was named needs no handle"


def test_webauthn_7_2_step_06_the_empty_handle_that_some_browsers_make_up_is_none() -> None:
    ceremonies = registered()
    assert isinstance(ceremonies.sign_in(user_handle=b""), Right)
    nobody = {"account_id": "", "epoch": ""}
    assert broken(ceremonies.sign_in(asked=nobody, user_handle=b"")) == by("7.2 step 6", "unknown_credential")


# Client data: steps 8 to 14.


@pytest.mark.parametrize(
    "said",
    [
        spelled(lambda text: text.encode("utf-16")),
        spelled(lambda text: text[:-1]),
        spelled(lambda text: f"[{text}]"),
        spelled(lambda text: "\ufeff\ufeff" + text),
        spelled(lambda _: ""),
        spelled(lambda text: text[:-1] + ', "deep": ' + "[" * 10_000 + "]" * 10_000 + "}"),
        {"client": {"type": ABSENT}},
        {"client": {"challenge": ABSENT}},
        {"client": {"origin": ABSENT}},
        {"client": {"origin": [ORIGIN]}},
        {"client": {"crossOrigin": "false"}},
        {"client": {"topOrigin": 0}},
    ],
)
def test_webauthn_7_2_step_09_client_data_is_json_of_the_right_shape(said: Json) -> None:
    assert refuse_sign_in(registered(), **said) == by("7.2 step 9")


@pytest.mark.parametrize(
    "said",
    [
        spelled(lambda text: "\ufeff" + text),
        spelled(lambda text: f" {text}\n"),
        {"client": {"crossOrigin": ABSENT}},
        {"client": {"other_keys_can_be_added_here": "do not compare clientDataJSON against a template"}},
        {"client": {"tokenBinding": {"status": "present", "id": "x"}, "androidPackageName": "com.android.chrome"}},
    ],
)
def test_webauthn_d17_what_client_data_says_besides_is_ignored(said: Json) -> None:
    assert isinstance(registered().sign_in(**said), Right)


@pytest.mark.parametrize("kind", ["webauthn.create", "webauthn.Get", "webauthn.get ", "payment.get", ""])
def test_webauthn_7_2_step_10_d1_the_type_is_exactly_that_of_a_sign_in(kind: str) -> None:
    assert refuse_sign_in(registered(), client={"type": kind}) == by("7.2 step 10")


@pytest.mark.parametrize(
    "spell",
    [
        lambda challenge: encode(b"x" * 32),
        lambda challenge: challenge + "=",
        lambda challenge: challenge[:-1],
        lambda challenge: challenge + "A",
        lambda challenge: challenge[:-1] + chr(ord(challenge[-1]) + 1),
        lambda challenge: challenge.lower(),
        lambda challenge: decode(challenge).hex(),
        lambda challenge: "",
    ],
    ids=["another", "padded", "cut", "longer", "other last bits", "lower case", "hexadecimal", "empty"],
)
def test_webauthn_7_2_step_11_d2_the_challenge_is_exactly_the_one_that_was_issued(spell: Callable[[str], str]) -> None:
    ceremonies = registered()
    challenge = spell(encode(ceremonies.ticket().challenge))
    assert refuse_sign_in(ceremonies, client={"challenge": challenge}) == by("7.2 step 11", "challenge_mismatch")


@pytest.mark.parametrize("origin", STRANGE_ORIGINS)
def test_webauthn_7_2_step_12_d3_the_origin_is_exactly_one_of_ours(origin: str) -> None:
    assert refuse_sign_in(registered(), origin=origin) == by("7.2 step 12", "wrong_origin")


@pytest.mark.parametrize("origin", EXAMPLE.origins)
def test_webauthn_7_2_step_12_d3_each_of_our_origins_will_do(origin: str) -> None:
    assert isinstance(registered().sign_in(origin=origin), Right)


def test_webauthn_7_2_step_13_d4_a_frame_of_another_origin_is_refused() -> None:
    assert refuse_sign_in(registered(), client={"crossOrigin": True}) == by("7.2 step 13", "wrong_origin")


@pytest.mark.parametrize("top_origin", [ORIGIN, "https://evil.example", ""])
def test_webauthn_7_2_step_14_d4_a_page_around_the_frame_is_refused(top_origin: str) -> None:
    assert refuse_sign_in(registered(), client={"topOrigin": top_origin}) == by("7.2 step 14", "wrong_origin")


# Authenticator data: steps 15 to 19.


@pytest.mark.parametrize(
    "said",
    [
        {"data": lambda data: b""},
        {"data": lambda data: data[:36]},
        {"data": lambda data: data + b"\0"},
        {"data": lambda data: data + data},
        {"on": ED},
        {"extensions": ["not a map"]},
        {"extensions": {"credProtect": 2}, "off": ED},
        {"extensions": {"long": bytes(16 * 1024)}},
        {"on": ED, "data": lambda data: data + b"\x5b" + b"\xff" * 8},
        {"on": AT, "data": lambda data: data[:37] + bytes(16) + b"\xff\xff"},
    ],
    ids=[
        "nothing",
        "cut in the counter",
        "a byte after it",
        "twice",
        "extensions missing",
        "extensions are a list",
        "extensions not announced",
        "extensions too long",
        "extensions of a giant length",
        "a credential that is cut off",
    ],
)
def test_webauthn_6_1_d16_authenticator_data_is_read_strictly(said: Json) -> None:
    assert refuse_sign_in(registered(), **said) == by("6.1")


@pytest.mark.parametrize(
    "said",
    [{"on": RESERVED}, {"extensions": {}}, {"extensions": {"example.unknown": [1, {"a": True}]}}, {"on": AT}],
    ids=["reserved flags", "no extension", "an unknown extension", "the credential once more"],
)
def test_webauthn_6_1_d16_d17_what_nobody_asked_for_is_tolerated(said: Json) -> None:
    assert isinstance(registered().sign_in(**said), Right)


@pytest.mark.parametrize("rp_id", ["example.org", "login.example.com", "com", "EXAMPLE.COM", "https://example.com", ""])
def test_webauthn_7_2_step_15_d5_the_assertion_is_for_our_relying_party(rp_id: str) -> None:
    assert refuse_sign_in(registered(), rp_id=rp_id) == by("7.2 step 15")


def test_webauthn_7_2_step_16_d6_somebody_was_there() -> None:
    assert refuse_sign_in(registered(), off=UP) == by("7.2 step 16")


def test_webauthn_7_2_step_17_d7_trap_58_who_was_to_be_verified_was() -> None:
    ceremonies = registered()
    asked = {"wants_user_verification": True}
    assert broken(ceremonies.sign_in(asked=asked, off=UV)) == by("7.2 step 17", "uv_required")
    verified = ceremonies.sign_in(asked=asked)
    assert isinstance(verified, Right)
    assert verified.is_user_verified
    unverified = ceremonies.sign_in(off=UV)
    assert isinstance(unverified, Right)
    assert not unverified.is_user_verified, "it counts for what it is"


def test_webauthn_7_2_step_18_d8_what_may_not_be_backed_up_is_not() -> None:
    assert refuse_sign_in(registered(), on=BS) == by("7.2 step 18")


def test_webauthn_7_2_step_19_d13_a_credential_that_may_be_backed_up_stays_one() -> None:
    assert refuse_sign_in(registered(is_backup_eligible=True), off=BE) == by("7.2 step 19")


def test_webauthn_7_2_step_19_d13_a_credential_that_may_not_be_backed_up_never_becomes_one() -> None:
    assert refuse_sign_in(registered(), on=BE) == by("7.2 step 19")
    assert refuse_sign_in(registered(), on=BE | BS) == by("7.2 step 19")


def test_webauthn_7_2_step_24_d13_whether_it_is_backed_up_is_kept_as_it_was_last() -> None:
    ceremonies = registered(is_backup_eligible=True)
    for is_backed_up in (True, True, False, True):
        assert isinstance(ceremonies.sign_in(on=BS * is_backed_up), Right)
        assert ceremonies.credential is not None
        assert ceremonies.credential.is_backed_up is is_backed_up
        assert ceremonies.credential.is_backup_eligible
