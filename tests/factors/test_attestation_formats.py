"""The rules of WebAuthn Level 3 section 8, one by one: each refusal stands beside the success that it differs from."""

import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519
from cryptography.x509.oid import NameOID, ObjectIdentifier
from tests.factors.attestations import (
    AAGUID,
    ALL_APPLICATIONS,
    ANDROID_OID,
    CA,
    CLIENT_DATA_HASH,
    NOT_CA,
    OTHER_AAGUID,
    PACKED_SUBJECT,
    RS1,
    TPM_NAMES,
    Issuer,
    Leaf,
    NewCredential,
    Statement,
    aaguid_extension,
    der,
    key_description,
    number,
    origin,
    p256,
    public_area,
    purposes,
    rsa_key,
    tpm_certified,
    tpm_extensions,
)

from twofold.factors.attestation import BadAttestation

ROOT = Issuer()
#: Certificate policies with a qualifier that is none: real certificates have such, and no strict parser takes them.
BROKEN_POLICIES = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.32"), b"\x30\x03\x02\x01")


def assert_trusted(statement: Statement) -> None:
    attested = statement.check(ROOT.certificate)
    assert (attested.is_trusted, attested.why_untrusted) == (True, "")


def assert_untrusted(statement: Statement, why: str) -> None:
    attested = statement.check(ROOT.certificate)
    assert not attested.is_trusted
    assert why in attested.why_untrusted
    assert (attested.kind, attested.is_aaguid_proven, attested.is_hardware) == ("unknown", False, False)


def assert_refused(statement: Statement, why: str) -> None:
    with pytest.raises(BadAttestation, match=why):
        statement.check(ROOT.certificate)


# 8.7 none


def test_8_7_no_attestation_is_no_attestation_and_nothing_else() -> None:
    credential = NewCredential()
    attested = Statement("none", {}, credential.data).check(ROOT.certificate)
    assert (attested.kind, attested.is_trusted, attested.why_untrusted) == ("none", False, "nobody vouches for it")
    assert_refused(Statement("none", {"sig": b""}, credential.data), "empty")


# 8.2 packed


@pytest.mark.parametrize("algorithm", [-7, -8, -35, -36, -53, -257])
def test_8_2_self_attestation_is_signed_by_the_new_key_and_proves_no_more(algorithm: int) -> None:
    credential = NewCredential(algorithm)
    attested = credential.self_attested().check(ROOT.certificate)
    assert (attested.kind, attested.is_trusted, attested.is_aaguid_proven) == ("self", False, False)
    forged = credential.self_attested()
    forged.members["sig"] = NewCredential(algorithm, key=None).self_attested().members["sig"]
    forged.client_data_hash = bytes(32)
    assert_refused(forged, "signature")


def test_8_2_self_attestation_names_the_algorithm_of_the_key() -> None:
    statement = NewCredential().self_attested()
    statement.members["alg"] = -35
    assert_refused(statement, "algorithm")


@pytest.mark.parametrize("algorithm", [-7, -8, -35, -36, -53, -257, -258])
def test_8_2_packed_is_verified_by_the_key_of_its_certificate(algorithm: int) -> None:
    key = {-7: p256(), -35: ec.generate_private_key(ec.SECP384R1()), -36: ec.generate_private_key(ec.SECP521R1())}.get(
        algorithm
    ) or {-8: ed25519.Ed25519PrivateKey.generate(), -53: ed448.Ed448PrivateKey.generate()}.get(algorithm, rsa_key())
    credential = NewCredential()
    assert_trusted(credential.packed(ROOT, key=key, algorithm=algorithm))
    attested = credential.packed(ROOT, key=key, algorithm=algorithm).check(ROOT.certificate)
    assert (attested.kind, attested.is_aaguid_proven, attested.is_hardware) == ("basic", True, True)
    other = credential.packed(ROOT, key=key, algorithm=algorithm)
    other.client_data_hash = bytes(32)
    assert_refused(other, "signature")


@pytest.mark.parametrize("algorithm", [-8, -53, -257, RS1])
def test_8_2_packed_names_the_algorithm_of_the_certificates_key(algorithm: int) -> None:
    statement = NewCredential().packed(ROOT)
    statement.members["alg"] = algorithm
    assert_refused(statement, "algorithm")


def test_8_2_packed_by_an_algorithm_or_a_key_that_is_not_known_is_not_believed() -> None:
    statement = NewCredential().packed(ROOT)
    statement.members["alg"] = -37
    assert_untrusted(statement, "not known")


@pytest.mark.parametrize(
    "members",
    [
        {"sig": None},
        {"sig": "text"},
        {"alg": None},
        {"alg": True},
        {"alg": "-7"},
        {"x5c": None},
        {"x5c": []},
        {"x5c": b""},
        {"x5c": {}},
        {"x5c": ["text"]},
        {"x5c": [[]]},
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [NewCredential.packed, NewCredential.tpm, NewCredential.android_key])
def test_8_2_8_3_8_4_a_statement_that_is_not_of_its_form_is_refused(make: object, members: dict[str, object]) -> None:
    statement: Statement = make(NewCredential(), ROOT)  # type: ignore[operator]
    assert_trusted(statement)
    statement.members |= members
    with pytest.raises(BadAttestation, match=r"not of its type|not a list"):
        statement.check(ROOT.certificate)


def test_8_2_1_the_certificate_names_this_model_or_none() -> None:
    credential = NewCredential()
    assert_trusted(credential.packed(ROOT, extensions=[(NOT_CA, True), (aaguid_extension(AAGUID), False)]))
    assert_refused(
        credential.packed(ROOT, extensions=[(NOT_CA, True), (aaguid_extension(OTHER_AAGUID), False)]), "another model"
    )


@pytest.mark.parametrize("wrapped", [b"", AAGUID, b"\x04\x10" + AAGUID[:15], b"\x05\x10" + AAGUID])
def test_8_2_1_a_model_in_another_form_or_critical_is_not_believed(wrapped: bytes) -> None:
    extensions = [(NOT_CA, True), (aaguid_extension(AAGUID, wrapped=wrapped), False)]
    assert_untrusted(NewCredential().packed(ROOT, extensions=extensions), "another form")
    extensions = [(NOT_CA, True), (aaguid_extension(AAGUID), True)]
    assert_untrusted(NewCredential().packed(ROOT, extensions=extensions), "critical AAGUID")


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        (NameOID.COUNTRY_NAME, "country"),
        (NameOID.ORGANIZATION_NAME, "vendor"),
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "authenticator attestation"),
        (NameOID.COMMON_NAME, "common name"),
    ],
)
def test_8_2_1_a_certificate_without_one_of_the_names_is_not_believed(missing: ObjectIdentifier, why: str) -> None:
    subject = [attribute for attribute in PACKED_SUBJECT if attribute[0] != missing]
    assert_trusted(NewCredential().packed(ROOT))
    assert_untrusted(NewCredential().packed(ROOT, subject=subject), why)


def test_8_2_1_a_certificate_for_something_else_is_not_believed() -> None:
    subject = [(oid, "Web Server" if oid == NameOID.ORGANIZATIONAL_UNIT_NAME else text) for oid, text in PACKED_SUBJECT]
    assert_untrusted(NewCredential().packed(ROOT, subject=subject), "authenticator attestation")
    twice = [*PACKED_SUBJECT, (NameOID.ORGANIZATIONAL_UNIT_NAME, "Web Server")]
    assert_untrusted(NewCredential().packed(ROOT, subject=twice), "authenticator attestation")


def test_8_2_1_8_3_1_a_certificate_of_version_1_is_not_believed() -> None:
    def of_version_1(contents: bytes) -> bytes:
        _, _, inner = contents.partition(bytes.fromhex("a003020102"))
        return der(b"\x30", inner)

    assert_untrusted(NewCredential().packed(ROOT, extensions=[], edit=of_version_1), "version 3")
    assert_untrusted(NewCredential().tpm(ROOT, extensions=[], edit=of_version_1), "version 3")


@pytest.mark.parametrize("extensions", [[], [(CA, True)]], ids=["missing", "true"])
def test_8_2_1_a_certificate_that_may_issue_others_is_not_believed(
    extensions: list[tuple[x509.ExtensionType, bool]],
) -> None:
    assert_untrusted(NewCredential().packed(ROOT, extensions=extensions), "end of its path")


# 8.3 tpm


@pytest.mark.parametrize("algorithm", [-7, -35, -36, -257])
def test_8_3_tpm_certifies_the_key_of_the_credential(algorithm: int) -> None:
    credential = NewCredential(algorithm)
    assert_trusted(credential.tpm(ROOT))
    assert credential.tpm(ROOT).check(ROOT.certificate).kind == "attestation_ca"
    other = NewCredential(algorithm, key=rsa_key(3072) if algorithm == -257 else None)
    assert other.key is not None
    assert_refused(credential.tpm(ROOT, area=public_area(other.key)), "not that of the credential")


def test_8_3_tpm_has_no_keys_on_other_curves() -> None:
    area = public_area(p256())
    assert_refused(NewCredential(-8).tpm(ROOT, area=area), "not that of the credential")
    assert_refused(NewCredential().tpm(ROOT, area=area.replace(b"\x00\x10\x00\x03", b"\x00\x10\x00\x10")), "curve")
    assert_refused(NewCredential().tpm(ROOT, area=b"\x00\x25" + area[2:]), "neither")


@pytest.mark.parametrize("algorithm", [-7, -257])
def test_8_3_tpm_may_bind_its_key_to_a_signature(algorithm: int) -> None:
    credential = NewCredential(algorithm)
    assert credential.key is not None
    assert_trusted(credential.tpm(ROOT, area=public_area(credential.key, scheme=b"\x00\x14\x00\x0b")))


def test_8_3_tpm_is_of_version_2_0() -> None:
    statement = NewCredential().tpm(ROOT)
    statement.members["ver"] = "1.2"
    assert_refused(statement, r"TPM 2\.0")


@pytest.mark.parametrize("member", ["certInfo", "pubArea"])
def test_8_3_tpm_structures_are_whole(member: str) -> None:
    statement = NewCredential().tpm(ROOT)
    statement.members[member] = None
    assert_refused(statement, member)


def test_8_3_tpm_signature_is_over_what_it_certified() -> None:
    statement = NewCredential().tpm(ROOT)
    statement.members["sig"] = NewCredential().tpm(ROOT).members["sig"]
    assert_refused(statement, "signature")


def test_8_3_tpm_signs_by_an_algorithm_with_a_hash() -> None:
    statement = NewCredential().tpm(ROOT)
    statement.members["alg"] = -8
    assert_refused(statement, "no TPM signs")


def test_8_3_tpm_made_it_for_this_registration() -> None:
    credential = NewCredential()
    assert_refused(credential.tpm(ROOT, extra_data=hashlib.sha256(b"another").digest()), "something else")


def test_8_3_tpm_says_magic_and_type() -> None:
    credential = NewCredential()
    assert_refused(credential.tpm(ROOT, certified=lambda raw: b"\xffTCX" + raw[4:]), "no TPM made")
    assert_refused(credential.tpm(ROOT, certified=lambda raw: raw[:4] + b"\x80\x18" + raw[6:]), "certified no key")
    assert_refused(credential.tpm(ROOT, certified=lambda raw: raw[:-1]), "cut off")
    assert_refused(credential.tpm(ROOT, certified=lambda raw: raw + b"\0"), "follows")


def test_8_3_tpm_certifies_this_key_by_its_name() -> None:
    credential = NewCredential()
    assert credential.key is not None
    area = public_area(credential.key)
    digest = hashlib.sha256(credential.signed).digest()
    name = b"\x00\x0b" + hashlib.sha256(area).digest()
    assert_trusted(credential.tpm(ROOT, certified=lambda _: tpm_certified(digest, name)))
    for other in (b"\x00\x0c" + name[2:], name[:-1] + b"\0", b""):
        assert_refused(
            credential.tpm(ROOT, certified=lambda _, other=other: tpm_certified(digest, other)),  # type: ignore[misc]
            "another key",
        )


@pytest.mark.parametrize(("number_", "hash_"), [(0x000B, "sha256"), (0x000C, "sha384"), (0x000D, "sha512")])
def test_8_3_tpm_names_keys_by_any_strong_hash(number_: int, hash_: str) -> None:
    credential = NewCredential()
    assert credential.key is not None
    assert_trusted(credential.tpm(ROOT, area=public_area(credential.key, name_algorithm=number_), name_hash=hash_))
    weak = public_area(credential.key, name_algorithm=0x0004)
    assert_untrusted(credential.tpm(ROOT, area=weak, name_hash="sha1"), "weak")


def test_8_3_tpm_that_signs_over_sha_1_is_verified_and_not_believed() -> None:
    credential = NewCredential()
    assert_trusted(credential.tpm(ROOT, key=rsa_key(), algorithm=-257))
    assert_untrusted(credential.tpm(ROOT, key=rsa_key(), algorithm=RS1), "SHA-1")
    forged = credential.tpm(ROOT, key=rsa_key(), algorithm=RS1)
    forged.members["sig"] = bytes(256)
    assert_refused(forged, "signature")


def test_8_3_tpm_certificate_is_for_this_model() -> None:
    credential = NewCredential()
    for aaguid, checked in ((AAGUID, True), (OTHER_AAGUID, False)):
        statement = credential.tpm(ROOT, extensions=[*tpm_extensions(), (aaguid_extension(aaguid), False)])
        if checked:
            assert_trusted(statement)
        else:
            assert_refused(statement, "another model")


def test_8_3_1_tpm_certificate_has_no_subject() -> None:
    assert_untrusted(NewCredential().tpm(ROOT, subject=[(NameOID.COMMON_NAME, "x")]), "subject")


@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        (tpm_extensions(names=None), "name the TPM"),
        (tpm_extensions(names=TPM_NAMES[:2]), "name the TPM"),
        (tpm_extensions(usage=None), "for attestation by a TPM"),
        (tpm_extensions(usage=ObjectIdentifier("1.3.6.1.5.5.7.3.1")), "for attestation by a TPM"),
        (tpm_extensions(limits=None), "end of its path"),
        (tpm_extensions(limits=CA), "end of its path"),
    ],
)
def test_8_3_1_a_tpm_certificate_that_is_not_as_it_should_be_is_not_believed(
    extensions: list[tuple[x509.ExtensionType, bool]], why: str
) -> None:
    assert_untrusted(NewCredential().tpm(ROOT, extensions=extensions), why)


# 8.4 android-key


def test_8_4_android_key_certifies_the_key_of_the_credential() -> None:
    credential = NewCredential()
    assert_trusted(credential.android_key(ROOT))
    attested = credential.android_key(ROOT).check(ROOT.certificate)
    assert (attested.kind, attested.is_aaguid_proven) == ("basic", False), "any program may sign with the new key"
    assert_refused(credential.android_key(ROOT, key=p256()), "another key")


def test_8_4_android_key_signs_by_the_new_key() -> None:
    statement = NewCredential().android_key(ROOT)
    statement.client_data_hash = bytes(32)
    assert_refused(statement, "signature")


def test_8_4_android_key_was_made_for_this_registration() -> None:
    assert_refused(NewCredential().android_key(ROOT, challenge=bytes(32)), "another registration")


@pytest.mark.parametrize("place", ["software", "hardware"])
def test_8_4_android_key_is_not_for_all_applications(place: str) -> None:
    lists = {"hardware": purposes(2) + origin(0), "software": b""}
    assert_trusted(NewCredential().android_key(ROOT, **lists))
    lists[place] += ALL_APPLICATIONS
    assert_refused(NewCredential().android_key(ROOT, **lists), "every application")


@pytest.mark.parametrize(
    ("software", "hardware", "why"),
    [
        (b"", purposes(2) + origin(2), "not generated"),
        (origin(1), purposes(2) + origin(0), "not generated"),
        (b"", purposes(2, 3) + origin(0), "more than signing"),
        (b"", purposes(0) + origin(0), "more than signing"),
        (purposes(2, 6), purposes(2) + origin(0), "more than signing"),
    ],
)
def test_8_4_android_key_was_generated_there_for_signing(software: bytes, hardware: bytes, why: str) -> None:
    assert_trusted(NewCredential().android_key(ROOT, software=purposes(2) + origin(0)))
    assert_refused(NewCredential().android_key(ROOT, software=software, hardware=hardware), why)


@pytest.mark.parametrize("hardware", [b"", purposes(2), origin(0), purposes() + origin(0)])
def test_8_4_a_key_that_only_software_describes_is_not_believed(hardware: bytes) -> None:
    statement = NewCredential().android_key(ROOT, software=purposes(2) + origin(0), hardware=hardware)
    assert_untrusted(statement, "no secure hardware")


@pytest.mark.parametrize(
    "description",
    [
        b"",
        b"\x30",
        b"\x30\x80",
        b"\x30\x00",
        der(b"\x31", key_description(CLIENT_DATA_HASH, b"", b"")[2:]),
        key_description(CLIENT_DATA_HASH, b"", b"") * 2,
        key_description(CLIENT_DATA_HASH, b"", b"\xa1\x02\x31"),
        key_description(CLIENT_DATA_HASH, b"", der(b"\xa1", der(b"\x31", der(b"\x04", b"\x02")))),
        key_description(CLIENT_DATA_HASH, b"\xbf\x84", b""),
    ],
    ids=lambda raw: raw.hex()[:12],
)
def test_8_4_a_description_that_cannot_be_read_is_not_believed(description: bytes) -> None:
    assert_untrusted(NewCredential().android_key(ROOT, description=description), "cannot be read")


def test_8_4_purposes_in_another_form_say_nothing() -> None:
    hardware = der(b"\xa1", der(b"\x30", number(2))) + origin(0)
    assert_untrusted(NewCredential().android_key(ROOT, hardware=hardware), "what the key is for")


def test_8_4_a_certificate_without_a_description_is_refused() -> None:
    credential = NewCredential()
    statement = credential.android_key(ROOT)
    assert credential.key is not None
    statement.members["x5c"] = [Leaf([(NameOID.COMMON_NAME, "x")], [(NOT_CA, True)]).issue(ROOT, credential.key)]
    assert_refused(statement, "says nothing")
    # The description is found by its name alone, wherever it stands.
    extensions = [(NOT_CA, True), (x509.UnrecognizedExtension(ANDROID_OID, b""), False)]
    statement.members["x5c"] = [Leaf([(NameOID.COMMON_NAME, "x")], extensions).issue(ROOT, credential.key)]
    assert_untrusted(statement, "cannot be read")


# 8.6 fido-u2f


def test_8_6_fido_u2f_signs_key_credential_and_relying_party() -> None:
    assert_trusted(NewCredential().fido_u2f(ROOT))
    attested = NewCredential().fido_u2f(ROOT).check(ROOT.certificate)
    assert (attested.kind, attested.is_aaguid_proven) == ("basic", False), "U2F signs no AAGUID"
    for at in (0, 58, 90):
        statement = NewCredential().fido_u2f(ROOT)
        statement.data = statement.data[:at] + bytes([statement.data[at] ^ 1]) + statement.data[at + 1 :]
        with pytest.raises(BadAttestation):
            statement.check(ROOT.certificate)


@pytest.mark.parametrize("flag", [0x04, 0x08])
def test_8_6_fido_u2f_says_nothing_of_verification_and_backup_which_nobody_signs(flag: int) -> None:
    statement = NewCredential().fido_u2f(ROOT)
    assert_trusted(statement)
    statement.data = statement.data[:32] + bytes([statement.data[32] | flag]) + statement.data[33:]
    assert_refused(statement, "verifies no user")


def test_8_6_fido_u2f_has_one_certificate() -> None:
    statement = NewCredential().fido_u2f(ROOT)
    statement.members["x5c"] = [*statement.members["x5c"], ROOT.der]
    assert_refused(statement, "more than one")


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()])
def test_8_6_fido_u2f_is_signed_on_p_256(key: ec.EllipticCurvePrivateKey) -> None:
    assert_refused(NewCredential().fido_u2f(ROOT, key=key), "P-256")


def test_8_6_fido_u2f_has_keys_for_es256_only() -> None:
    statement = NewCredential().fido_u2f(ROOT)
    statement.data = NewCredential(-8).data
    assert_refused(statement, "ES256")


# 8.8 apple


def test_8_8_apple_certifies_the_key_for_this_registration() -> None:
    credential = NewCredential()
    assert_trusted(credential.apple(ROOT))
    assert credential.apple(ROOT).check(ROOT.certificate).kind == "anonymous"
    assert_refused(credential.apple(ROOT, key=p256()), "another key")
    other = credential.apple(ROOT)
    other.client_data_hash = bytes(32)
    assert_refused(other, "another registration")


@pytest.mark.parametrize("extension", [b"", bytes.fromhex("3024a1220420") + bytes(32)])
def test_8_8_apple_names_the_registration_in_its_one_form(extension: bytes) -> None:
    credential = NewCredential()
    assert_refused(credential.apple(ROOT, extension=extension), "another registration")
    nonce = hashlib.sha256(credential.signed).digest()
    assert_refused(credential.apple(ROOT, extension=nonce), "another registration")


def test_8_8_apple_without_the_extension_is_refused() -> None:
    assert_refused(NewCredential().apple(ROOT, extensions=[(NOT_CA, True)]), "says nothing")


# Certificates that are broken, and formats that are not ours


MAKERS = [
    NewCredential.packed,
    NewCredential.tpm,
    NewCredential.android_key,
    NewCredential.apple,
    NewCredential.fido_u2f,
]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("broken", [b"", b"no certificate", b"\x30\x03\x02\x01\x01"])
def test_a_leaf_that_cannot_be_read_is_not_believed(make: object, broken: bytes) -> None:
    statement: Statement = make(NewCredential(), ROOT)  # type: ignore[operator]
    statement.members["x5c"] = [broken]
    assert_untrusted(statement, "cannot be read")


def test_a_leaf_whose_key_is_not_known_is_not_believed() -> None:
    statement = NewCredential().packed(ROOT)
    key = dsa.generate_private_key(2048)
    statement.members["x5c"] = [Leaf(PACKED_SUBJECT, [(NOT_CA, True)]).issue(ROOT, key)]  # type: ignore[arg-type]
    assert_refused(statement, "algorithm")
    statement.members["alg"] = -40
    assert_untrusted(statement, "not known")


def test_a_leaf_with_broken_policies_is_not_believed_but_its_signature_still_counts() -> None:
    extensions = [(NOT_CA, True), (BROKEN_POLICIES, False)]
    assert_untrusted(NewCredential().packed(ROOT, extensions=extensions), "cannot be read")
    forged = NewCredential().packed(ROOT, extensions=extensions)
    forged.client_data_hash = bytes(32)
    assert_refused(forged, "signature")
    assert_untrusted(NewCredential().apple(ROOT, extensions=extensions), "cannot be read")
    assert_untrusted(NewCredential().tpm(ROOT, extensions=[*tpm_extensions(), (BROKEN_POLICIES, False)]), "read")


def test_a_leaf_with_a_name_in_an_unknown_alphabet_is_not_believed() -> None:
    def rename(contents: bytes) -> bytes:
        return contents.replace(b"\x0c\x05Maker", b"\x0d\x05Maker")

    assert_untrusted(NewCredential().packed(ROOT, edit=rename), "cannot be read")


def test_a_leaf_that_says_something_twice_is_not_believed() -> None:
    def name_twice(contents: bytes) -> bytes:
        # One of the two extensions gets the name of the other.
        return contents.replace(bytes.fromhex("0603551d0f"), bytes.fromhex("0603551d13"))

    usage = x509.UnrecognizedExtension(ObjectIdentifier("2.5.29.15"), b"\x30\x00")
    statement = NewCredential().packed(ROOT, extensions=[(NOT_CA, True), (usage, False)], edit=name_twice)
    assert_untrusted(statement, "cannot be read (DuplicateExtension)")


@pytest.mark.parametrize("fmt", ["android-safetynet", "compound", "", "Packed"])
def test_a_format_that_is_not_known_proves_nothing(fmt: str) -> None:
    statement = NewCredential().packed(ROOT)
    statement.fmt = fmt
    assert_untrusted(statement, "format")
