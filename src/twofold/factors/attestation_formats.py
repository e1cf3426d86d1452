"""The attestation formats of WebAuthn Level 3 section 8, each verified in the order of its section, one refusal a line.

What is wrong raises `BadAttestation`. What is merely not convincing, a certificate that breaks a rule of its format or
cannot be read, raises `Doubt` or one of `UNREADABLE` after the signature was verified: real authenticators have such
certificates, and their owners can sign in with them. Whether a path is trusted is not judged here.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.x509.oid import NameOID

from twofold.factors.attestation_structures import read_certified, read_key_description, read_public_area
from twofold.factors.attestation_trust import find_extension
from twofold.factors.authenticator_data import AttestedCredential, AuthenticatorData
from twofold.factors.cose import Key

#: The types of section 6.5.4; "unknown" where the format is not one of ours, or its certificate cannot be judged.
Kind = Literal["none", "self", "basic", "attestation_ca", "anonymous", "unknown"]

_ES256 = -7
_ECDSA: Mapping[int, hashes.HashAlgorithm] = {_ES256: hashes.SHA256(), -35: hashes.SHA384(), -36: hashes.SHA512()}
_RS1 = -65535
_RSA: Mapping[int, hashes.HashAlgorithm] = {
    -257: hashes.SHA256(),
    -258: hashes.SHA384(),
    -259: hashes.SHA512(),
    _RS1: hashes.SHA1(),  # noqa: S303 - older TPMs sign so: it is verified, and then not trusted
}
_HASHES = {**_ECDSA, **_RSA}
_ED25519, _ED448 = -8, -53

_AAGUID = x509.ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
_ANDROID_KEY = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.1.17")
_APPLE_NONCE = x509.ObjectIdentifier("1.2.840.113635.100.8.2")
_TPM_AIK = x509.ObjectIdentifier("2.23.133.8.3")
#: Who made the TPM, which model, which firmware (TCG EK profile section 3.2.9).
_TPM_NAMES = tuple(x509.ObjectIdentifier(f"2.23.133.2.{n}") for n in (1, 2, 3))
_TPM_NAME_HASHES = {0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
_ANDROID_GENERATED, _ANDROID_SIGN = frozenset({0}), frozenset({2})

T = TypeVar("T")


class BadAttestation(ValueError):
    """The statement is wrong: it does not belong to this credential, or not to this registration."""


class Doubt(Exception):
    """The statement is not wrong, and proves nothing either."""


class Inputs(NamedTuple):
    """The verification procedure inputs, with the new credential and its key, both out of `data`."""

    statement: Mapping[str, Any]
    data: AuthenticatorData
    client_data_hash: bytes
    credential: AttestedCredential
    key: Key

    @property
    def signed(self) -> bytes:
        """What the authenticator signs."""
        return self.data.raw + self.client_data_hash


class Proven(NamedTuple):
    """What a statement proves if its path (DER, the leaf first) leads to a root; self attestation has none."""

    kind: Kind
    path: tuple[bytes, ...] = ()


def verify_none(given: Inputs) -> Proven:
    """Section 8.7."""
    _refuse(bool(given.statement), "a statement of the format none is empty")
    return Proven("none")


def verify_packed(given: Inputs) -> Proven:
    """Section 8.2."""
    algorithm, signature = _member(given, "alg", int), _member(given, "sig", bytes)
    if "x5c" not in given.statement:
        _refuse(algorithm != given.key.algorithm, "the algorithm is not that of the credential's key")
        _verify(given.key.public_key, algorithm, signature, given.signed)
        return Proven("self")
    path, leaf, key = _read_path(given)
    _verify(key, algorithm, signature, given.signed)
    _check_aaguid(leaf, given.credential.aaguid)
    names = leaf.subject.get_attributes_for_oid
    _doubt(leaf.version is not x509.Version.v3, "its certificate is not of version 3")
    _doubt(not names(NameOID.COUNTRY_NAME), "its certificate names no country")
    _doubt(not names(NameOID.ORGANIZATION_NAME), "its certificate names no vendor")
    units = [name.value for name in names(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    _doubt(units != ["Authenticator Attestation"], "its certificate is not one for authenticator attestation")
    _doubt(not names(NameOID.COMMON_NAME), "its certificate has no common name")
    _check_is_no_ca(leaf)
    return Proven("basic", path)


def verify_tpm(given: Inputs) -> Proven:
    """Section 8.3."""
    _refuse(given.statement.get("ver") != "2.0", "it is not of TPM 2.0")
    algorithm, signature = _member(given, "alg", int), _member(given, "sig", bytes)
    raw_area, raw_certified = _member(given, "pubArea", bytes), _member(given, "certInfo", bytes)
    area = _read(read_public_area, raw_area)
    _refuse(not _is_key(given.key, area.numbers), "the TPM's key is not that of the credential")
    path, leaf, key = _read_path(given)
    _refuse(algorithm not in _HASHES, "no TPM signs by that algorithm")
    _verify(key, algorithm, signature, raw_certified)
    certified = _read(read_certified, raw_certified)
    digest = hashlib.new(_HASHES[algorithm].name, given.signed).digest()
    _refuse(not hmac.compare_digest(certified.extra_data, digest), "the TPM signed something else")
    _doubt(area.name_algorithm not in _TPM_NAME_HASHES, "the TPM's key is named by a hash that is weak or unknown")
    name_digest = hashlib.new(_TPM_NAME_HASHES[area.name_algorithm], raw_area).digest()
    name = area.name_algorithm.to_bytes(2, "big") + name_digest
    _refuse(certified.name != name, "the TPM certified another key")
    _check_aaguid(leaf, given.credential.aaguid)
    _doubt(algorithm == _RS1, "it is signed over SHA-1")
    _doubt(leaf.version is not x509.Version.v3, "its certificate is not of version 3")
    _doubt(bool(list(leaf.subject)), "its certificate has a subject")
    _doubt(not _names_tpm(leaf), "its certificate does not name the TPM")
    usage = find_extension(leaf, x509.ExtendedKeyUsage)
    _doubt(usage is None or _TPM_AIK not in usage, "its certificate is not one for attestation by a TPM")
    _check_is_no_ca(leaf)
    return Proven("attestation_ca", path)


def verify_android_key(given: Inputs) -> Proven:
    """Section 8.4."""
    algorithm, signature = _member(given, "alg", int), _member(given, "sig", bytes)
    path, leaf, key = _read_path(given)
    _verify(key, algorithm, signature, given.signed)
    _refuse(key != given.key.public_key, "the certificate is for another key")
    description = read_key_description(_read_extension(leaf, _ANDROID_KEY))
    _refuse(description.challenge != given.client_data_hash, "the key was made for another registration")
    for enforced in (description.by_software, description.by_hardware):
        _refuse(enforced.is_for_all_applications, "every application may use the key")
        _refuse(not enforced.origins <= _ANDROID_GENERATED, "the key was not generated there")
        _refuse(not enforced.purposes <= _ANDROID_SIGN, "the key is for more than signing")
    _doubt(not description.by_hardware.origins, "no secure hardware says that it generated the key")
    _doubt(not description.by_hardware.purposes, "no secure hardware says what the key is for")
    return Proven("basic", path)


def verify_fido_u2f(given: Inputs) -> Proven:
    """Section 8.6."""
    signature = _member(given, "sig", bytes)
    path, _, key = _read_path(given)
    _refuse(len(path) != 1, "it has more than one certificate")
    _refuse(not _is_p256(key), "the certificate's key is not of P-256")
    _refuse(given.key.algorithm != _ES256, "the credential's key is not one for ES256")
    point = given.key.public_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    # Nobody signs the flags, and the authenticators that speak U2F know neither PIN nor backup.
    _refuse(given.data.is_user_verified or given.data.is_backup_eligible, "U2F verifies no user and copies no key")
    signed = b"\0" + given.data.rp_id_hash + given.client_data_hash + given.credential.id + point
    _verify(key, _ES256, signature, signed)
    return Proven("basic", path)


def verify_apple(given: Inputs) -> Proven:
    """Section 8.8."""
    path, leaf, key = _read_path(given)
    nonce = hashlib.sha256(given.signed).digest()
    # A sequence of one [1] that is an octet string.
    wrapped = b"\x30\x24\xa1\x22\x04\x20" + nonce
    _refuse(_read_extension(leaf, _APPLE_NONCE) != wrapped, "the certificate is for another registration")
    _refuse(key != given.key.public_key, "the certificate is for another key")
    return Proven("anonymous", path)


FORMATS: Mapping[str, Callable[[Inputs], Proven]] = {
    "none": verify_none,
    "packed": verify_packed,
    "tpm": verify_tpm,
    "android-key": verify_android_key,
    "fido-u2f": verify_fido_u2f,
    "apple": verify_apple,
}


def _refuse(is_wrong: bool, why: str) -> None:
    if is_wrong:
        raise BadAttestation(why)


def _doubt(is_odd: bool, why: str) -> None:
    if is_odd:
        raise Doubt(why)


def _member(given: Inputs, name: str, kind: type[T]) -> T:
    value = given.statement.get(name)
    # Not `isinstance`: for Python, true is the number 1.
    if type(value) is not kind:
        raise BadAttestation(f"{name} is missing, or not of its type")
    return value


def _read(reader: Callable[[bytes], T], raw: bytes) -> T:
    try:
        return reader(raw)
    except ValueError as error:
        raise BadAttestation(f"the TPM's statement cannot be read: {error}") from None


def _read_path(given: Inputs) -> tuple[tuple[bytes, ...], x509.Certificate, PublicKeyTypes]:
    """The path, and its leaf with its key; raises one of `UNREADABLE` when the leaf cannot be read."""
    path = _member(given, "x5c", list)
    _refuse(not path or any(type(der) is not bytes for der in path), "x5c is not a list of certificates")
    leaf = x509.load_der_x509_certificate(path[0])
    return tuple(path), leaf, leaf.public_key()


def _verify(key: PublicKeyTypes, algorithm: int, signature: bytes, signed: bytes) -> None:
    """Verify by the COSE algorithm; the same for keys of credentials and of certificates."""
    try:
        match key:
            case ec.EllipticCurvePublicKey() if algorithm in _ECDSA:
                return key.verify(signature, signed, ec.ECDSA(_ECDSA[algorithm]))
            case rsa.RSAPublicKey() if algorithm in _RSA:
                return key.verify(signature, signed, padding.PKCS1v15(), _RSA[algorithm])
            case ed25519.Ed25519PublicKey() if algorithm == _ED25519:
                return key.verify(signature, signed)
            case ed448.Ed448PublicKey() if algorithm == _ED448:
                return key.verify(signature, signed)
    except InvalidSignature:
        raise BadAttestation("the signature does not verify") from None
    _refuse(algorithm in (*_HASHES, _ED25519, _ED448), "the algorithm is not that of the certificate's key")
    raise Doubt("it is signed by an algorithm that is not known here")


def _is_key(key: Key, numbers: object) -> bool:
    public_key = key.public_key
    if not isinstance(public_key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        return False
    return public_key.public_numbers() == numbers


def _is_p256(key: PublicKeyTypes) -> bool:
    return isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)


def _check_aaguid(leaf: x509.Certificate, aaguid: bytes) -> None:
    """The certificate may be for one model alone: section 8.2.1."""
    try:
        extension = leaf.extensions.get_extension_for_oid(_AAGUID)
    except x509.ExtensionNotFound:
        return
    wrapped = extension.value.public_bytes()
    _doubt(len(wrapped) != 18 or wrapped[:2] != b"\x04\x10", "its certificate names the model in another form")
    _refuse(wrapped[2:] != aaguid, "the certificate is for another model")
    _doubt(extension.critical, "its certificate has a critical AAGUID")


def _check_is_no_ca(leaf: x509.Certificate) -> None:
    limits = find_extension(leaf, x509.BasicConstraints)
    _doubt(limits is None or limits.ca, "its certificate does not say that it is the end of its path")


def _names_tpm(leaf: x509.Certificate) -> bool:
    names = find_extension(leaf, x509.SubjectAlternativeName)
    directory_names = [] if names is None else names.get_values_for_type(x509.DirectoryName)
    return any(all(name.get_attributes_for_oid(oid) for oid in _TPM_NAMES) for name in directory_names)


def _read_extension(leaf: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes:
    try:
        return leaf.extensions.get_extension_for_oid(oid).value.public_bytes()
    except x509.ExtensionNotFound:
        raise BadAttestation("the certificate says nothing about the key") from None
