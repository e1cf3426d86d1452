"""The FIDO metadata file and the operator's roots: what is in order is read, what is not is one line at start."""

import base64
import datetime as dt
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tests.factors.attestations import (
    AAGUID,
    DAY,
    NOT_CA,
    NOW,
    SINCE,
    UNTIL,
    Issuer,
    NewCredential,
    p256,
    rsa_key,
)

from twofold.config import Settings
from twofold.core.clock import in_seconds
from twofold.errors import ConfigurationError
from twofold.factors.attestation_trust import Model, Report
from twofold.fido_metadata import SIGNER, load_signing_roots, load_trust, read_metadata

ROOT = Issuer()
SIGNING_ROOT = Issuer("Signing root", key=rsa_key())
BETWEEN = Issuer("Signing", above=SIGNING_ROOT)
KEY_ID = bytes(range(20))
MODEL = {
    "aaguid": "00112233-4455-6677-8899-aabbccddeeff",
    "metadataStatement": {
        "legalHeader": "…",
        "description": "Key 5",
        "keyProtection": ["hardware", "secure_element"],
        "attestationRootCertificates": [base64.b64encode(ROOT.der).decode()],
        "icon": "data:image/png;base64,AAAA",
    },
    "statusReports": [{"status": "FIDO_CERTIFIED", "effectiveDate": "2020-02-29"}],
    "timeOfLastStatusChange": "2020-02-29",
}


def payload(*entries: dict[str, Any], next_update: str = "2023-12-01") -> dict[str, Any]:
    return {"legalHeader": "…", "no": 7, "nextUpdate": next_update, "entries": list(entries)}


def encoded(raw: bytes) -> bytes:
    return base64.urlsafe_b64encode(raw).rstrip(b"=")


def signed(
    contents: Any,
    *,
    alg: str = "RS256",
    names: tuple[str, ...] | None = (SIGNER,),
    path: tuple[bytes, ...] | None = None,
    key: Any = None,
    since: dt.datetime = SINCE,
    until: dt.datetime = UNTIL,
) -> bytes:
    """A metadata file as the service makes it, a JWS with its certificates."""
    extensions: list[tuple[x509.ExtensionType, bool]] = [(NOT_CA, True)]
    if names is not None:
        extensions.append((x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False))
    key = key or rsa_key()
    leaf = BETWEEN.issue(key, [(NameOID.COMMON_NAME, SIGNER)], extensions, since=since, until=until)
    ders = (leaf.public_bytes(Encoding.DER), BETWEEN.der, SIGNING_ROOT.der) if path is None else path
    header = {"alg": alg, "typ": "JWT", "x5c": [base64.b64encode(der).decode() for der in ders]}
    body = contents if isinstance(contents, bytes) else json.dumps(contents).encode()
    message = encoded(json.dumps(header).encode()) + b"." + encoded(body)
    return message + b"." + encoded(rsa_key().sign(message, padding.PKCS1v15(), hashes.SHA256()))


def read(raw: bytes, *, now: int = NOW) -> tuple[Any, dt.date]:
    return read_metadata(raw, [SIGNING_ROOT.certificate], now=now)


def fault(raw: bytes, *, now: int = NOW) -> str:
    with pytest.raises(ValueError, match=r".") as refused:
        read(raw, now=now)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_models_are_read_by_aaguid_and_by_key() -> None:
    u2f = {
        "attestationCertificateKeyIdentifiers": [KEY_ID.hex()],
        "metadataStatement": {"description": "U2F", "keyProtection": ["software"], "attestationRootCertificates": []},
        "statusReports": [
            {"status": "REVOKED", "certificate": base64.b64encode(ROOT.der).decode()},
            {"status": "REVOKED", "batchCertificate": base64.b64encode(ROOT.der).decode()},
            {"status": "REVOKED", "certificate": "A"},
        ],
    }
    bare = {"aaguid": "00000000-0000-0000-0000-000000000001", "statusReports": []}
    uaf = {"aaid": "1234#5678", "statusReports": []}
    metadata, next_update = read(signed(payload(MODEL, u2f, bare, uaf)) + b"\n")
    assert next_update == dt.date(2023, 12, 1)
    assert metadata.by_aaguid == {
        AAGUID: Model("Key 5", (ROOT.der,), True, (Report("FIDO_CERTIFIED", dt.date(2020, 2, 29)),)),
        bytes(15) + b"\1": Model(""),
    }
    # A report about a certificate that cannot be read is about all of them.
    about = (Report("REVOKED", certificate=ROOT.der), Report("REVOKED", certificate=ROOT.der), Report("REVOKED"))
    assert metadata.by_key_id == {KEY_ID: Model("U2F", (), False, about)}


def test_a_root_that_cannot_be_read_stays_a_root_that_nobody_has() -> None:
    statement = {"description": "Key 5", "attestationRootCertificates": ["A"]}
    metadata, _ = read(signed(payload({**MODEL, "metadataStatement": statement})))
    assert metadata.by_aaguid[AAGUID].roots == (b"",)


def test_it_is_signed_by_the_service_and_by_nobody_else_under_the_same_root() -> None:
    assert read(signed(payload()))
    assert read(signed(payload(), names=("www.example.com", SIGNER)))
    for names in (None, (), ("www.example.com",), ("*.fidoalliance.org",), (f"{SIGNER}.example.com",)):
        assert fault(signed(payload(), names=names)) == f"it is not signed by {SIGNER}"


def test_it_leads_to_the_root() -> None:
    with pytest.raises(ValueError, match="no root that is trusted"):
        read_metadata(signed(payload()), [ROOT.certificate], now=NOW)
    with pytest.raises(ValueError, match="no root that is trusted"):
        read_metadata(signed(payload()), load_signing_roots(), now=NOW)


def test_what_was_changed_after_it_was_signed_is_refused() -> None:
    head, body, signature = signed(payload(MODEL)).split(b".")
    assert read(b".".join((head, body, signature)))
    changed = encoded(json.dumps(payload()).encode())
    assert fault(b".".join((head, changed, signature))) == "its signature does not verify"
    assert fault(b".".join((head, body, b""))) == "its signature does not verify"
    assert fault(b".".join((head, body, b"A"))) == "its signature does not verify"


@pytest.mark.parametrize("alg", ["none", "HS256", "ES256", "RS1", "PS256", ""])
def test_it_is_signed_by_one_algorithm(alg: str) -> None:
    assert fault(signed(payload(), alg=alg)) == "it is signed by an algorithm that is not known here"
    assert fault(signed(payload(), key=p256())) == "it is signed by an algorithm that is not known here"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<!DOCTYPE html>",
        b"a.b",
        b"a.b.c.d",
        b"e30.e30.e30",
        b"!!!.e30.e30",
        signed(payload(), path=()),
        signed(payload(), path=(b"no certificate",)),
    ],
)
def test_what_is_no_metadata_file_is_refused(raw: bytes) -> None:
    assert fault(raw) == "not a signed metadata file"


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"no json",
        b"[]",
        {},
        {"nextUpdate": "soon", "entries": []},
        payload({}),
        payload({**MODEL, "aaguid": "x"}),
        payload({**MODEL, "statusReports": [{"status": "REVOKED", "effectiveDate": "2020-02-30"}]}),
    ],
    ids=str,
)
def test_contents_that_cannot_be_read_are_refused(contents: Any) -> None:
    assert fault(signed(contents)).startswith("its contents cannot be read")


def test_old_age_alone_never_keeps_the_door_from_opening() -> None:
    raw = signed(payload(), until=SINCE + dt.timedelta(days=400))
    years = in_seconds(20 * 365 * 86_400)
    assert read(raw) == read(raw, now=NOW + years)
    assert "valid from 2023-01-01" in fault(raw, now=in_seconds(SINCE.timestamp()) - DAY)


def test_the_roots_of_the_service_come_along() -> None:
    names = [root.subject.rfc4514_string() for root in load_signing_roots()]
    assert ["GlobalSign Root R46" in names[0], "GlobalSign Root CA - R3" in names[1]] == [True, True]
    prints = [root.fingerprint(hashes.SHA256()).hex()[:16] for root in load_signing_roots()]
    assert prints == ["4fa3126d8d3a11d1", "cbb522d7b7f127ad"]


@pytest.fixture
def own_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.fido_metadata.load_signing_roots", lambda: [SIGNING_ROOT.certificate])


def load(caplog: pytest.LogCaptureFixture, *, now: int = NOW, **settings: Path) -> tuple[Any, list[str]]:
    with caplog.at_level(logging.WARNING, "twofold"):
        return load_trust(Settings(**settings), now), caplog.messages


@pytest.mark.usefixtures("own_root")
def test_both_settings_make_what_is_trusted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert load(caplog)[0].roots == () and load(caplog)[0].metadata is None  # noqa: PT018 - nothing is trusted
    roots = tmp_path / "roots.pem"
    other = Issuer("Other")
    roots.write_bytes(b"".join(issuer.certificate.public_bytes(Encoding.PEM) for issuer in (other, SIGNING_ROOT)))
    metadata = tmp_path / "metadata.jwt"
    metadata.write_bytes(signed(payload(MODEL)))
    trust, warnings = load(caplog, attestation_roots=roots, fido_metadata=metadata)
    assert (trust.roots, warnings) == ((other.certificate, SIGNING_ROOT.certificate), [])
    assert NewCredential().packed(ROOT).check(trust=trust).description == "Key 5"
    assert NewCredential().packed(ROOT).check(trust=trust).is_trusted
    assert NewCredential(aaguid=bytes(16)).packed(other).check(trust=trust).is_trusted
    assert load(caplog, attestation_roots=roots)[0].metadata is None


@pytest.mark.usefixtures("own_root")
def test_a_file_for_which_a_newer_one_is_due_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metadata = tmp_path / "metadata.jwt"
    metadata.write_bytes(signed(payload(MODEL, next_update="2023-11-14")))
    assert load(caplog, fido_metadata=metadata)[1] == [], "that day is today"
    trust, warnings = load(caplog, fido_metadata=metadata, now=NOW + DAY)
    assert warnings == [
        f"FIDO_METADATA {metadata}: a newer one was due on 2023-11-14; https://mds.fidoalliance.org/ has it"
    ]
    assert trust.metadata.by_aaguid


@pytest.mark.parametrize("setting", ["fido_metadata", "attestation_roots"])
def test_a_file_that_is_not_in_order_is_one_line_that_names_setting_and_file(tmp_path: Path, setting: str) -> None:
    broken = tmp_path / "file"
    broken.write_text("<!DOCTYPE html>\n")
    for path, why in (
        (broken, "not|no certificates"),
        (tmp_path / "missing", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        with pytest.raises(ConfigurationError, match=why) as refused:
            load_trust(Settings(**{setting: path}), NOW)
        assert str(refused.value).startswith(f"{setting.upper()} {path}: ")
        assert "\n" not in str(refused.value)
