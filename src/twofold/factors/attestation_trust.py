"""Whose attestation is believed: configured roots, what the FIDO metadata says of each model, and the path from a
certificate to one of those roots.

Pure: the files are read in `twofold.fido_metadata`, the time is an argument.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TypeVar

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

#: How many certificates of a path are looked at; the root that they lead to may be one more.
PATH_LENGTH_MAX = 6
#: 112 bits of security (NIST SP 800-57 part 1, table 2); certificates signed by EdDSA name no hash of their own.
_RSA_BITS_MIN, _CURVE_BITS_MIN = 2048, 224
_STRONG_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512, type(None))

#: What the parser of certificates raises over those that are broken, or of a kind that it does not know: a name in an
#: unknown alphabet is a KeyError to some of its versions.
UNREADABLE = (
    LookupError,
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
#: Critical extensions whose meaning is looked after, here or where the leaf is judged (RFC 5280 section 4.2).
_UNDERSTOOD = (
    x509.BasicConstraints,
    x509.KeyUsage,
    x509.ExtendedKeyUsage,
    x509.SubjectAlternativeName,
    x509.CertificatePolicies,
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
E = TypeVar("E", bound=x509.ExtensionType)

#: Reports after which nothing that this model says of itself is worth anything (FIDO MDS 3 section 3.1.4).
DISTRUSTED = (
    "REVOKED",
    "ATTESTATION_KEY_COMPROMISE",
    "USER_KEY_REMOTE_COMPROMISE",
    "USER_KEY_PHYSICAL_COMPROMISE",
    "USER_VERIFICATION_BYPASS",
)


class Report(msgspec.Struct, frozen=True):
    """What was found out about a model, and from which day on; `certificate` (DER) where only that key is meant."""

    status: str
    since: date | None = None
    certificate: bytes | None = None


class Model(msgspec.Struct, frozen=True):
    """One kind of authenticator in the metadata; `roots` (DER) are where its attestation must lead.

    `is_hardware` is false where the metadata says that keys are kept by software.
    """

    description: str
    roots: tuple[bytes, ...] = ()
    is_hardware: bool = True
    reports: tuple[Report, ...] = ()

    def find_distrust(self, path: Sequence[bytes], now: int) -> str:
        """The first report, in the order of the file, for which it is not to be trusted, or an empty text.

        A later report does not lift it: what was fixed in new devices is not fixed in the one that is here.
        """
        today = (_EPOCH + timedelta(microseconds=now)).date()
        for report in self.reports:
            is_meant = report.certificate is None or report.certificate in path
            if report.status in DISTRUSTED and is_meant and (report.since is None or report.since <= today):
                return report.status
        return ""


class Metadata(msgspec.Struct, frozen=True):
    """The models of a metadata file, by AAGUID and, for U2F keys, by the key identifier of their certificates."""

    by_aaguid: Mapping[bytes, Model]
    by_key_id: Mapping[bytes, Model]


class Trust(msgspec.Struct, frozen=True):
    """Roots for models that the metadata does not list, and the metadata, which says the roots of those it lists."""

    roots: tuple[x509.Certificate, ...] = ()
    metadata: Metadata | None = None

    def vouches_for(self, aaguid: bytes, now: int) -> bool:
        """Whether the metadata says today that hardware keeps the keys of this model, and nothing against it."""
        model = self.metadata.by_aaguid.get(aaguid) if self.metadata else None
        return model is not None and model.is_hardware and not model.find_distrust((), now)


def find_path_fault(path: Sequence[bytes], roots: Sequence[x509.Certificate], *, now: int) -> str:
    """Why this path (DER, the leaf first) does not lead to one of `roots` at `now` (microseconds); empty if it does.

    RFC 5280 section 6.1, as far as it bears on these certificates: names, signatures, dates, who may issue, and no
    critical extension that is not understood. A leaf that is itself among the roots is accepted (WebAuthn section 7.1).
    """
    moment = _EPOCH + timedelta(microseconds=now)
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in path[:PATH_LENGTH_MAX]]
        for below, certificate in enumerate(certificates):
            if fault := _find_weakness(certificate, moment):
                return fault
            if certificate in roots:
                return ""
            if fault := _find_signing_fault(certificate):
                return fault
            # A root may be there twice, with another end but the same name and key: one that is good is enough.
            faults = [_find_root_fault(root, below, moment) for root in roots if _has_issued(root, certificate)]
            if faults:
                return min(faults)
            issuer = next(iter(certificates[below + 1 :]), None)
            if issuer is None or not _has_issued(issuer, certificate):
                break
            if fault := _find_issuer_fault(issuer, below):
                return fault
    except UNREADABLE as error:
        return f"a certificate cannot be read ({type(error).__name__})"
    return "its certificates lead to no root that is trusted"


def load_certificates(ders: Sequence[bytes]) -> tuple[x509.Certificate, ...]:
    """Those of the certificates that can be read."""
    found = []
    for der in ders:
        try:
            found.append(x509.load_der_x509_certificate(der))
        except UNREADABLE:
            continue
    return tuple(found)


def _find_weakness(certificate: x509.Certificate, moment: datetime) -> str:
    """Why nothing that this certificate says counts at `moment`."""
    since, until = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not since <= moment <= until:
        return f"a certificate is valid from {since.date()} to {until.date()} only"
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _RSA_BITS_MIN:
        return f"a certificate has an RSA key of {key.key_size} bits"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _CURVE_BITS_MIN:
        return f"a certificate has a key of {key.key_size} bits"
    return ""


def _find_signing_fault(certificate: x509.Certificate) -> str:
    """Why its issuer's word for this certificate does not count. Roots are believed without anybody's word."""
    if certificate.serial_number <= 0:
        return "the serial number of a certificate is not positive"
    if not isinstance(certificate.signature_hash_algorithm, _STRONG_HASHES):
        return "a certificate is signed over a weak hash"
    if any(extension.critical and not isinstance(extension.value, _UNDERSTOOD) for extension in certificate.extensions):
        return "a certificate has a critical extension that is not understood"
    return ""


def _has_issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, *UNREADABLE):
        return False
    return True


def _find_root_fault(root: x509.Certificate, below: int, moment: datetime) -> str:
    # The roots of the first U2F keys do not say that they may issue. They are trusted by name.
    return _find_weakness(root, moment) or _find_issuer_fault(root, below, is_root=True)


def _find_issuer_fault(issuer: x509.Certificate, below: int, *, is_root: bool = False) -> str:
    """Why this one may not issue; `below` is how many certificates lie between it and the leaf."""
    limits = find_extension(issuer, x509.BasicConstraints)
    if limits is None:
        return "" if is_root else "an issuer does not say that it may issue"
    if not limits.ca:
        return "an issuer may not issue"
    if limits.path_length is not None and below > limits.path_length:
        return "an issuer stands too far from the leaf"
    usage = find_extension(issuer, x509.KeyUsage)
    return "" if usage is None or usage.key_cert_sign else "an issuer may not sign certificates"


def find_extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    """The extension of this kind; raises one of `UNREADABLE` when any of them is broken."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
