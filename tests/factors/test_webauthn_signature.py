"""The rules of WebAuthn Level 3 section 7.2, continued: the signature, the counter, and what they are good for."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.ceremonies import HANDLE, ORIGIN, Ceremonies, broken, by, refuse_sign_in, registered

from twofold.core.clock import in_seconds
from twofold.core.factor import AAL1, AAL2, AAL3, Answer, Finding, Right, Wrong
from twofold.factors.attestation_trust import Metadata, Model, Report, Trust
from twofold.factors.cose import OFFERED
from twofold.factors.webauthn import ANY_CREDENTIAL, Policy, Webauthn, describe
from twofold.factors.webauthn_json import Descriptor
from twofold.testing.software_authenticator import UP, UV, SoftwareCredential, decode, encode, new_key

MINUTE = in_seconds(60)
AMR = json.loads((Path(__file__).parent.parent / "vectors" / "amr_acr.json").read_text())


# The signature: step 21.


@pytest.mark.parametrize("algorithm", OFFERED)
def test_webauthn_7_2_step_21_d14_the_key_that_was_registered_signed_it(algorithm: int) -> None:
    ceremonies = registered(algorithm=algorithm)
    own = ceremonies.authenticator.credentials[0]
    forged = replace(own, private_key=new_key(algorithm))
    assert refuse_sign_in(ceremonies, credential=forged) == by("7.2 step 21")


def test_webauthn_7_2_step_21_d14_the_algorithm_is_the_one_that_was_registered() -> None:
    ceremonies = registered(algorithm=-7)
    own = ceremonies.authenticator.credentials[0]
    for algorithm in OFFERED:
        forged = SoftwareCredential(own.id, own.rp_id, own.user_handle, algorithm, new_key(algorithm))
        assert broken(ceremonies.sign_in(credential=forged)) == by("7.2 step 21")
    assert isinstance(ceremonies.sign_in(), Right)


@pytest.mark.parametrize("algorithm", OFFERED)
@pytest.mark.parametrize("member", ["clientDataJSON", "authenticatorData", "signature"])
def test_webauthn_7_2_step_21_d14_what_was_changed_after_it_was_signed_is_refused(algorithm: int, member: str) -> None:
    ceremonies = registered(algorithm=algorithm)
    ticket = ceremonies.ticket()
    response = ceremonies.authenticator.answer(ceremonies.request(ticket), ORIGIN)
    raw = decode(response["response"][member])
    # In client data a space more; in authenticator data and signature the last bit, which is in the counter.
    changed = raw.replace(b",", b", ") if member == "clientDataJSON" else raw[:-1] + bytes([raw[-1] ^ 1])
    other = {**response, "response": {**response["response"], member: encode(changed)}}
    assert broken(ceremonies.judge_assertion(other, ticket)) == by("7.2 step 21")
    assert isinstance(ceremonies.judge_assertion(response, ticket), Right)


@pytest.mark.parametrize("algorithm", OFFERED)
@pytest.mark.parametrize("signature", [b"", b"\0" * 64, bytes.fromhex("3006020100020100"), b"\xff" * 256], ids=len)
def test_webauthn_7_2_step_21_d14_what_is_no_signature_is_refused(algorithm: int, signature: bytes) -> None:
    ceremonies = registered(algorithm=algorithm)
    ticket = ceremonies.ticket()
    response = ceremonies.authenticator.answer(ceremonies.request(ticket), ORIGIN)
    other = {**response, "response": {**response["response"], "signature": encode(signature)}}
    assert broken(ceremonies.judge_assertion(other, ticket)) == by("7.2 step 21")
    assert isinstance(ceremonies.judge_assertion(response, ticket), Right)


# The counter: step 22.


def counting(sign_count: int) -> Ceremonies:
    ceremonies = registered()
    assert ceremonies.credential is not None
    ceremonies.credential = msgspec.structs.replace(ceremonies.credential, sign_count=sign_count)
    return ceremonies


@pytest.mark.parametrize(("kept", "sent"), [(0, 0), (0, 1), (4, 5), (0, 2**32 - 1), (2**32 - 2, 2**32 - 1)])
def test_webauthn_7_2_step_22_d15_trap_61_a_counter_that_grows_or_does_not_count_is_good(kept: int, sent: int) -> None:
    ceremonies = counting(kept)
    assert isinstance(ceremonies.sign_in(sign_count=sent), Right)
    assert ceremonies.credential is not None
    assert ceremonies.credential.sign_count == sent


@pytest.mark.parametrize(("kept", "sent"), [(5, 5), (5, 4), (1, 0), (2**32 - 1, 0), (2**32 - 1, 2**32 - 1)])
def test_webauthn_7_2_step_22_d15_trap_61_a_counter_that_does_not_grow_is_that_of_a_copy(kept: int, sent: int) -> None:
    ceremonies = counting(kept)
    finding = ceremonies.sign_in(sign_count=sent)
    assert broken(finding) == by("7.2 step 22", "sign_count_went_back")
    assert isinstance(finding, Wrong)
    assert finding.is_cloned
    assert ceremonies.credential is not None
    assert (ceremonies.credential.sign_count, ceremonies.credential.cloned_at) == (kept, ceremonies.now)
    if kept < 2**32 - 1:
        assert isinstance(ceremonies.sign_in(sign_count=kept + 1), Right)


def test_webauthn_7_2_step_22_a_copy_is_told_once_a_minute() -> None:
    ceremonies = counting(5)
    told = []
    for _ in range(5):
        finding = ceremonies.sign_in(sign_count=5)
        assert broken(finding) == by("7.2 step 22", "sign_count_went_back")
        assert isinstance(finding, Wrong)
        told.append(finding.is_cloned)
        ceremonies.now += MINUTE // 2
    assert told == [True, False, True, False, True]


def test_webauthn_7_2_step_22_a_copy_is_told_even_if_the_clock_went_back() -> None:
    ceremonies = counting(5)
    for _ in range(2):
        finding = ceremonies.sign_in(sign_count=5)
        assert isinstance(finding, Wrong)
        assert finding.is_cloned
        ceremonies.now -= 1


def test_webauthn_7_2_step_22_the_counter_is_believed_only_when_it_was_signed() -> None:
    ceremonies = counting(5)
    forged = replace(ceremonies.authenticator.credentials[0], private_key=new_key(-7))
    assert broken(ceremonies.sign_in(sign_count=1, credential=forged)) == by("7.2 step 21")
    assert broken(ceremonies.sign_in(sign_count=9, off=UP)) == by("7.2 step 16")
    assert isinstance(ceremonies.sign_in(sign_count=6), Right)


# What it counts for.


def test_webauthn_7_2_step_24_that_it_can_verify_its_user_is_kept() -> None:
    ceremonies = registered(verifies_user=False)
    for verifies in (False, True, False):
        assert ceremonies.credential is not None
        before = ceremonies.credential.is_user_verifying
        ceremonies.authenticator.verifies_user = verifies
        assert isinstance(ceremonies.sign_in(), Right)
        assert ceremonies.credential.is_user_verifying is (before or verifies)


def listed(aaguid: bytes, *reports: Report, is_hardware: bool = True) -> Policy:
    """Metadata with this one model."""
    model = Model("A key", is_hardware=is_hardware, reports=reports)
    return Policy(trust=Trust(metadata=Metadata({aaguid: model}, {})))


def found(*, is_synced: bool, is_verified: bool, is_attested: bool = False) -> Right:
    ceremonies = registered(is_backup_eligible=is_synced)
    assert ceremonies.credential is not None
    ceremonies.credential = msgspec.structs.replace(ceremonies.credential, is_attested=is_attested)
    ceremonies.policy = listed(ceremonies.credential.aaguid)
    finding: Finding = ceremonies.sign_in(off=0 if is_verified else UV)
    assert isinstance(finding, Right)
    return finding


@pytest.mark.parametrize(
    ("event", "is_synced", "is_verified"),
    [
        ("security key, UV=0, with password", False, False),
        ("security key, UV=1, alone", False, True),
        ("synced passkey, UV=1", True, True),
        ("synced passkey, UV=0", True, False),
    ],
)
def test_rfc8176_amr_says_what_was_shown_and_nothing_more(event: str, *, is_synced: bool, is_verified: bool) -> None:
    [expected] = [row["amr"] for row in AMR["map"] if row["event"] == event]
    # The password is the application's to add, and with it that there were two; of a PIN there is no proof.
    of_others = {"pwd", "pin"} | ({"mfa"} if "pwd" in expected else set())
    finding = found(is_synced=is_synced, is_verified=is_verified)
    assert finding.amr == tuple(name for name in expected if name not in of_others)
    assert set(finding.amr) <= set(AMR["registered"])
    assert ("mfa" in finding.amr) is is_verified is finding.is_user_verified


@pytest.mark.parametrize(
    ("is_synced", "is_verified", "is_attested", "acr"),
    [
        (False, False, False, AAL1),
        (False, False, True, AAL1),
        (True, False, True, AAL1),
        (False, True, False, AAL2),
        (True, True, False, AAL2),
        (True, True, True, AAL2),
        (False, True, True, AAL3),
    ],
)
def test_nist_2_3_only_attested_hardware_that_verified_its_user_is_of_the_highest_level(
    *, is_synced: bool, is_verified: bool, is_attested: bool, acr: str
) -> None:
    assert found(is_synced=is_synced, is_verified=is_verified, is_attested=is_attested).acr == acr


# The factor.


def test_an_assertion_without_its_ticket_or_without_evidence_is_wrong() -> None:
    ceremonies = registered()
    ticket = ceremonies.ticket()
    response = ceremonies.authenticator.answer(ceremonies.request(ticket), ORIGIN)
    assert ceremonies.judge_assertion(response, None) == Wrong(reason="wrong_credential")
    nothing = Answer("webauthn", issued=ticket)
    finding = Webauthn().check_answer(ceremonies.active(), nothing, unseal=bytes, now=ceremonies.now)
    assert finding == Wrong(reason="wrong_credential")
    assert isinstance(ceremonies.judge_assertion(response, ticket), Right)


def test_the_factor_reads_only_what_a_ceremony_gave_and_it_cannot_be_guessed() -> None:
    factor = Webauthn()
    assert factor.reads(Answer("webauthn"))
    assert not any(factor.reads(Answer(kind)) for kind in ("otp", "recovery", "password", "yubico_otp"))
    assert factor.cost_ppm(b"", Answer("webauthn")) == 0


def test_an_open_registration_is_read_back_as_it_was_made() -> None:
    factor = Webauthn()
    made: Any = {"rp_id": "example.com", "user_handle": HANDLE, "nonce": b"n" * 32, "application": "shop"}
    pending = factor.read_pending(factor.new_pending(**made))
    assert (pending.rp_id, pending.user_handle, pending.nonce) == ("example.com", HANDLE, b"n" * 32)


def test_options_name_a_credential_by_its_id_and_its_transports() -> None:
    ceremonies = registered(transports=("usb", "nfc"))
    assert ceremonies.credential is not None
    assert describe(ceremonies.credential) == Descriptor(ceremonies.authenticator.credentials[0].id, ("usb", "nfc"))


# Whom the maker's word still helps, and where a passkey was made.


def test_nist_2_3_a_model_that_is_not_trusted_any_more_or_not_listed_falls_a_level() -> None:
    ceremonies = registered()
    assert ceremonies.credential is not None
    aaguid = ceremonies.credential.aaguid
    ceremonies.credential = msgspec.structs.replace(ceremonies.credential, is_attested=True)

    def level(policy: Policy) -> str:
        ceremonies.policy = policy
        finding = ceremonies.sign_in()
        assert isinstance(finding, Right)
        return finding.acr

    assert level(listed(aaguid)) == AAL3
    assert level(listed(aaguid, Report("USER_VERIFICATION_BYPASS"))) == AAL2
    assert level(listed(aaguid, is_hardware=False)) == AAL2
    assert level(listed(b"another" + bytes(9))) == AAL2
    assert level(ANY_CREDENTIAL) == AAL2


@pytest.mark.parametrize(("made_by", "asked_by"), [("pages", "shop"), ("shop", "pages"), ("", "pages")])
def test_a_question_to_nobody_is_answered_only_where_the_passkey_was_made(made_by: str, asked_by: str) -> None:
    ceremonies = registered()

    def sign_in(application: str) -> Finding:
        assert ceremonies.credential is not None
        ceremonies.credential = msgspec.structs.replace(ceremonies.credential, application=application)
        return ceremonies.sign_in(asked={"account_id": "", "application": asked_by})

    assert broken(sign_in(made_by)) == by("7.2 step 6", "unknown_credential")
    assert isinstance(sign_in(asked_by), Right)


@pytest.mark.parametrize(
    ("made_by", "asked_by", "is_believed"),
    [("shop", "pages:se_1", False), ("pages", "pages:se_1", True), ("shop", "shop", True), ("pages", "shop", True)],
)
def test_the_pages_believe_the_user_verification_of_their_own_passkeys_only(
    made_by: str, asked_by: str, *, is_believed: bool
) -> None:
    ceremonies = registered()
    assert ceremonies.credential is not None
    ceremonies.credential = msgspec.structs.replace(ceremonies.credential, application=made_by)
    finding = ceremonies.sign_in(asked={"application": asked_by})
    assert isinstance(finding, Right)
    assert finding.is_user_verified is is_believed
