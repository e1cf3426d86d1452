"""Whose word counts for a new credential: the W3C vectors, paths to roots, broken certificates, the metadata."""

import base64
import datetime as dt
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier
from tests.factors.attestations import (
    AAGUID,
    CA,
    DAY,
    NOT_CA,
    NOW,
    OTHER_AAGUID,
    SINCE,
    UNTIL,
    Issuer,
    NewCredential,
    Statement,
    p256,
    rsa_key,
)

from twofold.core.clock import in_seconds
from twofold.factors import cbor
from twofold.factors.attestation import Attested, BadAttestation, check_attestation
from twofold.factors.attestation_trust import DISTRUSTED, Metadata, Model, Report, Trust, find_path_fault
from twofold.factors.authenticator_data import read_authenticator_data

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "webauthn_l3.json").read_text(encoding="utf-8"))
W3C_NOW = in_seconds(dt.datetime(2026, 1, 1, tzinfo=dt.UTC).timestamp())
ROOT = Issuer()


def decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


W3C_ROOT = x509.load_der_x509_certificate(decode(VECTORS["attestation_root"]["cert_der_b64url"]))


def w3c_statement(vector: dict[str, Any]) -> Statement:
    read = cbor.decode(decode(vector["registration"]["attestationObject"]))
    client_data_hash = hashlib.sha256(decode(vector["registration"]["clientDataJSON"])).digest()
    return Statement(read["fmt"], read["attStmt"], read["authData"], client_data_hash)


def flipped(raw: bytes, at: int) -> bytes:
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def why(statement: Statement, *roots: x509.Certificate, now: int = NOW, trust: Trust | None = None) -> str:
    """Why it is not trusted; empty if it is."""
    attested = statement.check(*roots, now=now, trust=trust)
    assert attested.is_trusted == (attested.why_untrusted == "")
    return attested.why_untrusted


# The vectors of the W3C (section 16)

_VOUCHED = {"packed": "basic", "tpm": "attestation_ca", "apple": "anonymous", "fido-u2f": "basic"}


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
def test_16_vectors_are_verified_and_lead_to_their_root(vector: dict[str, Any]) -> None:
    statement = w3c_statement(vector)
    attested = statement.check(W3C_ROOT, now=W3C_NOW)
    match vector["attestation_type"], statement.fmt:
        case "None" | "Self" as kind, _:
            expected = (kind.lower(), "nobody vouches for it")
        case _, "android-key":
            # Its lists say nothing of where the key was generated and what it is for: section 8.4 asks for both.
            expected = ("unknown", "no secure hardware says that it generated the key")
        case _, fmt:
            expected = (_VOUCHED[fmt], "")
    assert (attested.kind, attested.why_untrusted) == expected
    assert not statement.check(ROOT.certificate, now=W3C_NOW).is_trusted


def is_believed(statement: Statement) -> bool:
    try:
        return statement.check(W3C_ROOT, now=W3C_NOW).is_trusted
    except BadAttestation:
        return False


@pytest.mark.parametrize("vector", VECTORS["vectors"], ids=lambda vector: vector["id"])
def test_16_vectors_with_one_bit_turned_are_never_trusted(vector: dict[str, Any]) -> None:
    statement = w3c_statement(vector)
    if statement.fmt == "none":
        statement.members["sig"] = b""
    else:
        statement.client_data_hash = flipped(statement.client_data_hash, 31)
    with pytest.raises(BadAttestation):
        statement.check(W3C_ROOT, now=W3C_NOW)
    for member in ("sig", "certInfo", "pubArea"):
        for at in range(len(statement.members.get(member, b""))):
            turned = w3c_statement(vector)
            turned.members[member] = flipped(turned.members[member], at)
            assert not is_believed(turned), (member, at)
    for der in statement.members.get("x5c", []):
        # What is signed in it; its signature is the last thing there, behind a byte that tells how it is written.
        signed = der.index(x509.load_der_x509_certificate(der).tbs_certificate_bytes)
        for at in range(signed, len(der) - 80, 2):
            turned = w3c_statement(vector)
            turned.members["x5c"] = [flipped(der, at)]
            assert not is_believed(turned), at


def test_the_credential_and_its_key_are_looked_at_first() -> None:
    statement = NewCredential().packed(ROOT)
    without = read_authenticator_data(statement.data[:32] + b"\x01" + statement.data[33:37])
    with pytest.raises(BadAttestation, match="no credential"):
        check_attestation("none", {}, without, bytes(32), trust=Trust(), now=NOW)
    statement.data = statement.data[:-32] + bytes(32)
    with pytest.raises(BadAttestation, match="not on its curve"):
        statement.check(ROOT.certificate)


# Paths (section 7.1 step 24)


def a_path(*, above: dict[str, Any] | None = None, between: dict[str, Any] | None = None) -> tuple[Issuer, Issuer]:
    """Somebody between the root and the leaf, and the root."""
    root = Issuer(**(above or {}))
    return Issuer(**{"common_name": "Between", "above": root, **(between or {})}), root


def test_7_1_step_24_a_path_leads_to_a_root_that_is_trusted() -> None:
    between, root = a_path()
    statement = NewCredential().packed(between, root)
    assert why(statement, root.certificate) == ""
    assert why(statement, between.certificate) == "", "whoever stands between may be a root too"
    assert why(statement, ROOT.certificate, root.certificate) == ""
    assert why(statement) == why(statement, ROOT.certificate) == "its certificates lead to no root that is trusted"


def test_7_1_step_24_a_root_of_the_same_name_is_another_root() -> None:
    statement = NewCredential().packed(ROOT)
    assert why(statement, Issuer().certificate) != ""
    assert why(statement, Issuer().certificate, ROOT.certificate) == ""


def test_7_1_step_24_the_path_may_bring_its_root_and_more_that_nobody_needs() -> None:
    between, root = a_path()
    statement = NewCredential().packed(between, root, Issuer())
    assert len(statement.members["x5c"]) == 3
    assert why(statement, root.certificate) == ""
    # What it brings itself is no root because of that.
    assert why(statement, ROOT.certificate) != ""


def test_7_1_step_24_a_leaf_may_itself_be_what_is_trusted() -> None:
    statement = NewCredential().packed(ROOT)
    leaf = x509.load_der_x509_certificate(statement.members["x5c"][0])
    assert why(statement, leaf) == ""
    other = NewCredential().packed(ROOT)
    assert why(other, leaf) != "", "but it vouches for nobody else"


def test_7_1_step_24_certificates_in_another_order_are_no_path() -> None:
    between, root = a_path()
    statement = NewCredential().packed(between, root)
    statement.members["x5c"].insert(1, ROOT.der)
    assert why(statement, root.certificate) != ""


@pytest.mark.parametrize("length", [0, 1, 4])
def test_7_1_step_24_a_path_is_long_enough(length: int) -> None:
    issuers = [Issuer()]
    for n in range(length):
        issuers.insert(0, Issuer(f"Between {n}", above=issuers[0]))
    assert why(NewCredential().packed(*issuers), issuers[-1].certificate) == ""


def test_7_1_step_24_a_path_is_not_endless() -> None:
    issuers = [Issuer()]
    for n in range(6):
        issuers.insert(0, Issuer(f"Between {n}", above=issuers[0]))
    assert why(NewCredential().packed(*issuers), issuers[-1].certificate) != ""
    assert find_path_fault([], [ROOT.certificate], now=NOW) == "its certificates lead to no root that is trusted"


@pytest.mark.parametrize(
    ("between", "fault"),
    [
        ({"limits": None}, "does not say that it may issue"),
        ({"limits": NOT_CA}, "may not issue"),
        ({"can_sign": False}, "may not sign"),
        ({"until": SINCE + dt.timedelta(days=1)}, "valid from 2023-01-01 to 2023-01-02 only"),
        ({"key": rsa_key(1024)}, "RSA key of 1024 bits"),
        ({"key": ec.generate_private_key(ec.SECP192R1())}, "key of 192 bits"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_7_1_step_24_whoever_issues_may_and_can(between: dict[str, Any], fault: str) -> None:
    issuer, root = a_path(between=between)
    assert fault in why(NewCredential().packed(issuer, root), root.certificate)


@pytest.mark.parametrize(
    "between", [{"can_sign": None}, {"key": rsa_key()}, {"key": ed25519.Ed25519PrivateKey.generate()}]
)
def test_7_1_step_24_issuers_without_a_usage_and_with_other_keys_are_fine(between: dict[str, Any]) -> None:
    issuer, root = a_path(between=between)
    assert why(NewCredential().packed(issuer, root), root.certificate) == ""


@pytest.mark.parametrize(
    ("above", "fault"),
    [
        ({"limits": None, "can_sign": None}, ""),
        ({"limits": NOT_CA}, "may not issue"),
        ({"can_sign": False}, "may not sign"),
        ({"until": SINCE + dt.timedelta(days=1)}, "valid from"),
        ({"key": rsa_key(1024)}, "RSA key of 1024 bits"),
    ],
    ids=str,
)
def test_7_1_step_24_roots_are_trusted_by_name_but_not_whatever_they_are(above: dict[str, Any], fault: str) -> None:
    root = Issuer(**above)
    found = why(NewCredential().packed(root), root.certificate)
    assert (fault in found) if fault else found == ""


def test_7_1_step_24_of_two_roots_with_one_key_one_that_is_good_is_enough() -> None:
    ended = Issuer(until=SINCE + dt.timedelta(days=1))
    renewed = Issuer(key=ended.key)
    statement = NewCredential().packed(renewed)
    assert why(statement, ended.certificate) != ""
    assert why(statement, ended.certificate, renewed.certificate) == ""
    assert why(statement, renewed.certificate, ended.certificate) == ""


@pytest.mark.parametrize(("length_max", "is_trusted"), [(0, False), (1, True)])
def test_7_1_step_24_a_root_may_limit_how_far_its_word_goes(length_max: int, is_trusted: bool) -> None:
    between, root = a_path(above={"limits": x509.BasicConstraints(ca=True, path_length=length_max)})
    found = why(NewCredential().packed(between, root), root.certificate)
    assert found == ("" if is_trusted else "an issuer stands too far from the leaf")
    assert why(NewCredential().packed(root), root.certificate) == ""


def test_7_1_step_24_dates_are_those_of_the_time_that_is_given() -> None:
    statement = NewCredential().packed(ROOT, since=SINCE + dt.timedelta(days=1), until=UNTIL - dt.timedelta(days=1))
    first, last = (in_seconds(moment.timestamp()) for moment in (SINCE, UNTIL))
    assert why(statement, ROOT.certificate, now=NOW) == ""
    assert why(statement, ROOT.certificate, now=first + DAY) == ""
    assert "valid from 2023-01-02 to 2032-12-31 only" in why(statement, ROOT.certificate, now=first + DAY - 1)
    assert why(statement, ROOT.certificate, now=last - DAY) == ""
    assert why(statement, ROOT.certificate, now=last - DAY + 1) != ""
    leaf = x509.load_der_x509_certificate(statement.members["x5c"][0])
    assert why(statement, leaf, now=last) != "", "even where it is trusted itself"


def test_7_1_step_24_a_weak_leaf_is_not_believed_though_its_signature_is_right() -> None:
    assert why(NewCredential().packed(ROOT, key=rsa_key(), algorithm=-257), ROOT.certificate) == ""
    weak = NewCredential().packed(ROOT, key=rsa_key(1024), algorithm=-257)
    assert why(weak, ROOT.certificate) == "a certificate has an RSA key of 1024 bits"
    assert weak.check(ROOT.certificate).kind == "basic"


def test_7_1_step_24_a_certificate_that_is_signed_over_sha_1_is_not_believed() -> None:
    for strong in (hashes.SHA256(), hashes.SHA384(), hashes.SHA512()):
        assert why(NewCredential().packed(ROOT, hash_algorithm=strong), ROOT.certificate) == ""
    statement = NewCredential().packed(ROOT)
    statement.members["x5c"] = [ROOT.reissue_over_sha_1(statement.members["x5c"][0])]
    assert why(statement, ROOT.certificate) == "a certificate is signed over a weak hash"
    leaf = x509.load_der_x509_certificate(statement.members["x5c"][0])
    assert why(statement, leaf) == "", "who signed it is no matter where it is trusted itself"


@pytest.mark.filterwarnings("ignore:Parsed a serial number:Warning")
@pytest.mark.parametrize("serial", ["ff01020304050607", "0000000000000000"])
def test_7_1_step_24_a_serial_number_that_is_not_positive_is_not_believed(serial: str) -> None:
    def renumber(contents: bytes) -> bytes:
        return contents.replace(bytes.fromhex("7f01020304050607"), bytes.fromhex(serial))

    statement = NewCredential().packed(ROOT, edit=renumber)
    # A strict parser refuses it, one that is lenient finds the number.
    assert why(statement, ROOT.certificate) in (
        "the serial number of a certificate is not positive",
        "its certificate cannot be read (ValueError)",
    )


def test_7_1_step_24_critical_extensions_are_understood_or_the_certificate_is_not_believed() -> None:
    unknown = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    for is_critical, is_trusted in ((False, True), (True, False)):
        statement = NewCredential().packed(ROOT, extensions=[(NOT_CA, True), (unknown, is_critical)])
        assert statement.check(ROOT.certificate).is_trusted == is_trusted


@pytest.mark.parametrize("broken", [b"", b"no certificate", b"\x30\x82\xff\xff"])
def test_7_1_step_24_a_certificate_further_up_that_cannot_be_read_is_not_believed(broken: bytes) -> None:
    between, root = a_path()
    statement = NewCredential().packed(between, root)
    statement.members["x5c"][1] = broken
    assert why(statement, root.certificate) == "a certificate cannot be read (ValueError)"


def test_7_1_step_24_an_issuer_with_broken_extensions_is_not_believed() -> None:
    root = Issuer()
    between = Issuer("Between", above=root)
    policies = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.32"), b"\x30\x03\x02\x01")
    certificate = root.issue(between.key, between.subject, [(CA, True), (policies, False)])
    statement = NewCredential().packed(between, root)
    statement.members["x5c"][1] = certificate.public_bytes(Encoding.DER)
    assert why(statement, root.certificate) == "a certificate cannot be read (ValueError)"


def test_7_1_step_24_self_attestation_is_never_trusted() -> None:
    metadata = Metadata({AAGUID: Model("Phone")}, {})
    attested = NewCredential().self_attested().check(trust=Trust((ROOT.certificate,), metadata))
    assert (attested.kind, attested.is_trusted, attested.description) == ("self", False, "Phone")


# The metadata (section 7.1 step 23)


def listed(*issuers: Issuer, aaguid: bytes = AAGUID, roots: tuple[x509.Certificate, ...] = (), **model: Any) -> Trust:
    return Trust(roots, Metadata({aaguid: Model("Key 5", tuple(issuer.der for issuer in issuers), **model)}, {}))


def test_7_1_step_23_the_metadata_names_the_model_and_its_roots() -> None:
    attested = NewCredential().packed(ROOT).check(trust=listed(ROOT))
    assert attested == Attested("basic", is_trusted=True, description="Key 5", is_aaguid_proven=True, is_hardware=True)
    assert why(NewCredential(aaguid=OTHER_AAGUID).packed(ROOT), trust=listed(ROOT)) != "", "another model is not listed"


def test_7_1_step_23_another_root_that_is_trusted_cannot_speak_for_a_model_that_is_listed() -> None:
    other = Issuer("Other")
    trust = listed(other, roots=(ROOT.certificate,))
    assert why(NewCredential().packed(other), trust=trust) == ""
    assert why(NewCredential().packed(ROOT), trust=trust) != ""
    assert why(NewCredential(aaguid=OTHER_AAGUID).packed(ROOT), trust=trust) == "", "for others it can"
    assert why(NewCredential().packed(ROOT), trust=listed(roots=(ROOT.certificate,))) == "", "and for one without roots"


def test_7_1_step_23_roots_that_cannot_be_read_are_no_roots() -> None:
    model = Model("Key 5", (b"broken",))
    trust = Trust((ROOT.certificate,), Metadata({AAGUID: model}, {}))
    assert why(NewCredential().packed(ROOT), trust=trust) != ""
    trust = Trust((), Metadata({AAGUID: Model("Key 5", (b"broken", ROOT.der))}, {}))
    assert why(NewCredential().packed(ROOT), trust=trust) == ""


@pytest.mark.parametrize("status", DISTRUSTED)
def test_7_1_step_23_a_model_with_a_bad_report_is_not_believed(status: str) -> None:
    attested = NewCredential().packed(ROOT).check(trust=listed(ROOT, reports=(Report(status),)))
    assert (attested.is_trusted, attested.distrust, attested.why_untrusted) == (False, status, status)
    assert attested.description == "Key 5"
    later = (Report(status), Report("UPDATE_AVAILABLE"), Report("FIDO_CERTIFIED_L1"))
    assert why(NewCredential().packed(ROOT), trust=listed(ROOT, reports=later)) == status


def test_7_1_step_23_a_good_report_changes_nothing() -> None:
    assert why(NewCredential().packed(ROOT), trust=listed(ROOT, reports=(Report("FIDO_CERTIFIED_L2"),))) == ""


def test_7_1_step_23_a_report_counts_from_its_day_on() -> None:
    trust = listed(ROOT, reports=(Report("REVOKED", dt.date(2023, 11, 16)),))
    assert why(NewCredential().packed(ROOT), trust=trust, now=NOW) == ""
    assert why(NewCredential().packed(ROOT), trust=trust, now=NOW + DAY) == ""
    assert why(NewCredential().packed(ROOT), trust=trust, now=NOW + 2 * DAY) == "REVOKED"


def test_7_1_step_23_a_report_about_one_certificate_is_about_that_one() -> None:
    statement = NewCredential().packed(ROOT)
    for certificate, expected in ((statement.members["x5c"][0], "ATTESTATION_KEY_COMPROMISE"), (ROOT.der, "")):
        reports = (Report("ATTESTATION_KEY_COMPROMISE", certificate=certificate),)
        assert why(statement, trust=listed(ROOT, reports=reports)) == expected


def test_7_1_step_23_a_model_that_keeps_keys_in_software_is_no_hardware() -> None:
    attested = NewCredential().packed(ROOT).check(trust=listed(ROOT, is_hardware=False))
    assert (attested.is_trusted, attested.is_hardware) == (True, False)


def test_7_1_step_23_u2f_keys_are_found_by_the_key_of_their_certificate() -> None:
    key = p256()
    statement = NewCredential().fido_u2f(ROOT, key=key)
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key()).digest
    trust = Trust((), Metadata({}, {key_id: Model("U2F key", (ROOT.der,))}))
    attested = statement.check(trust=trust)
    assert (attested.is_trusted, attested.description, attested.is_aaguid_proven) == (True, "U2F key", False)
    # It claims this AAGUID, and nobody signed that.
    assert why(statement, trust=listed(ROOT)) == "its certificates lead to no root that is trusted"
    statement.members["x5c"] = [b"broken"]
    assert statement.check(trust=trust).description == ""


def test_7_1_step_23_the_aaguid_of_an_android_key_is_proven_by_the_roots_of_the_metadata_alone() -> None:
    statement = NewCredential().android_key(ROOT)
    for trust, is_proven in (
        (listed(ROOT), True),
        (listed(roots=(ROOT.certificate,)), False),
        (Trust((ROOT.certificate,)), False),
    ):
        attested = statement.check(trust=trust)
        assert (attested.is_trusted, attested.is_aaguid_proven) == (True, is_proven)


def test_7_1_step_23_what_vouches_for_nothing_still_has_the_name_it_claims() -> None:
    statement = Statement("none", {}, NewCredential().data)
    attested = statement.check(trust=listed(ROOT, reports=(Report("REVOKED"),)))
    assert (attested.kind, attested.description, attested.distrust) == ("none", "Key 5", "REVOKED")
    assert statement.check().description == ""


def test_a_name_of_its_own_is_no_sign_of_a_maker() -> None:
    impostor = Issuer("Impostor")
    certificate = impostor.issue(p256(), [(NameOID.COMMON_NAME, "Root")], [(CA, True)])
    statement = NewCredential().packed(impostor)
    statement.members["x5c"].append(certificate.public_bytes(Encoding.DER))
    assert why(statement, ROOT.certificate) != ""
