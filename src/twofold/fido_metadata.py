"""Reads whose attestation is believed from the two files that an operator may name: the FIDO metadata (FIDO Metadata
Service 3) and certificates of roots.

What they mean for a new credential is judged in `twofold.factors.attestation`. Nothing is fetched.
"""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from importlib import resources
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from twofold.config import Settings
from twofold.errors import ConfigurationError
from twofold.factors.attestation_trust import (
    UNREADABLE,
    Metadata,
    Model,
    Report,
    Trust,
    find_extension,
    find_path_fault,
)

#: Whom the certificate of the file must be for: its roots issue to everybody.
SIGNER = "mds.fidoalliance.org"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

log: logging.Logger = logging.getLogger("twofold")


class _Header(msgspec.Struct):
    alg: str
    x5c: list[str]


class _Report(msgspec.Struct, rename="camel"):
    status: str
    effective_date: date | None = None
    certificate: str | None = None
    batch_certificate: str | None = None


class _Statement(msgspec.Struct, rename="camel"):
    description: str
    attestation_root_certificates: list[str] = []
    key_protection: list[str] = []


class _Entry(msgspec.Struct, rename="camel"):
    status_reports: list[_Report]
    aaguid: str | None = None
    attestation_certificate_key_identifiers: list[str] = []
    metadata_statement: _Statement | None = None


class _Payload(msgspec.Struct, rename="camel"):
    next_update: date
    entries: list[_Entry]


def load_trust(settings: Settings, now: int) -> Trust:
    """What FIDO_METADATA and ATTESTATION_ROOTS say, at `now` (microseconds); a file that is out of date is warned of.

    Raises `ConfigurationError`, one line that names the setting and the file.
    """
    roots: tuple[x509.Certificate, ...] = ()
    if settings.attestation_roots is not None:
        roots = read_roots(settings.attestation_roots)
    if settings.fido_metadata is None:
        return Trust(roots)
    path = settings.fido_metadata
    try:
        metadata, next_update = read_metadata(_read("FIDO_METADATA", path), load_signing_roots(), now=now)
    except ValueError as error:
        raise ConfigurationError(f"FIDO_METADATA {path}: {error}") from None
    if next_update < (_EPOCH + timedelta(microseconds=now)).date():
        log.warning("FIDO_METADATA %s: a newer one was due on %s; https://%s/ has it", path, next_update, SIGNER)
    return Trust(roots, metadata)


def read_roots(path: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a PEM file; raises `ConfigurationError`."""
    try:
        return tuple(x509.load_pem_x509_certificates(_read("ATTESTATION_ROOTS", path)))
    except UNREADABLE:
        raise ConfigurationError(f"ATTESTATION_ROOTS {path}: holds no certificates that can be read (PEM)") from None


def load_signing_roots() -> list[x509.Certificate]:
    """The roots that the metadata service is under: GlobalSign R46, and R3 until August 2026."""
    return x509.load_pem_x509_certificates((resources.files("twofold") / "fido_metadata_roots.pem").read_bytes())


def read_metadata(raw: bytes, roots: Sequence[x509.Certificate], *, now: int) -> tuple[Metadata, date]:
    """The metadata of a signed file (a JWS, FIDO MDS 3 section 3.2), and the day on which the next one is due.

    Raises `ValueError` with one line for a file that is not in order. Only its age is no reason: somebody who does not
    renew the file must not be left without a server, so certificates that ended are looked at on their last day.
    """
    try:
        signed, _, signature = raw.strip().rpartition(b".")
        header, payload = (_decode_base64url(part) for part in signed.split(b"."))
        protected = msgspec.json.decode(header, type=_Header)
        path = [base64.b64decode(text) for text in protected.x5c]
        leaf = x509.load_der_x509_certificate(path[0])
        key = leaf.public_key()
        until = (leaf.not_valid_after_utc - _EPOCH) // timedelta(microseconds=1)
        names = find_extension(leaf, x509.SubjectAlternativeName)
    except (msgspec.MsgspecError, *UNREADABLE):
        raise ValueError("not a signed metadata file") from None
    if protected.alg != "RS256" or not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("it is signed by an algorithm that is not known here")
    try:
        key.verify(_decode_base64url(signature), signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError):
        raise ValueError("its signature does not verify") from None
    if fault := find_path_fault(path, roots, now=min(now, until)):
        raise ValueError(fault)
    if names is None or SIGNER not in names.get_values_for_type(x509.DNSName):
        raise ValueError(f"it is not signed by {SIGNER}")
    try:
        read = msgspec.json.decode(payload, type=_Payload)
        return _to_metadata(read.entries), read.next_update
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"its contents cannot be read: {error}") from None


def _to_metadata(entries: Sequence[_Entry]) -> Metadata:
    by_aaguid, by_key_id = {}, {}
    for entry in entries:
        model = _to_model(entry)
        if entry.aaguid is not None:
            by_aaguid[bytes.fromhex(entry.aaguid.replace("-", ""))] = model
        for key_id in entry.attestation_certificate_key_identifiers:
            by_key_id[bytes.fromhex(key_id)] = model
    return Metadata(by_aaguid, by_key_id)


def _to_model(entry: _Entry) -> Model:
    reports = tuple(
        Report(
            report.status, report.effective_date, _decode_certificate(report.certificate or report.batch_certificate)
        )
        for report in entry.status_reports
    )
    statement = entry.metadata_statement
    if statement is None:
        return Model("", reports=reports)
    roots = tuple(_decode_certificate(text) or b"" for text in statement.attestation_root_certificates)
    return Model(statement.description, roots, "software" not in statement.key_protection, reports)


def _decode_certificate(text: str | None) -> bytes | None:
    try:
        return None if text is None else base64.b64decode(text)
    except binascii.Error:
        return None


def _decode_base64url(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting} {path}: cannot be read ({error.strerror})") from None
