"""Certificates for tests: made here, signed by themselves, written as the files that people have."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


class Files(NamedTuple):
    """The certificate's file and that of its key."""

    cert: Path
    key: Path

    def trusting(self) -> ssl.SSLContext:
        """A client that takes this certificate and no other."""
        return ssl.create_default_context(cafile=self.cert)


def make_certificate(
    folder: Path, *names: str, days: float = 90, is_rsa: bool = False, passphrase: bytes | None = None
) -> Files:
    """A new certificate for these names and addresses, in place of the one that is there."""
    key = rsa.generate_private_key(65_537, 2048) if is_rsa else ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test")])
    expires_at = NOW + dt.timedelta(days=days)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(min(NOW, expires_at) - dt.timedelta(days=1))
        .not_valid_after(expires_at)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(name) for name in names]), critical=False)
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    files = Files(folder / "cert.pem", folder / "key.pem")
    files.key.touch(0o600)
    files.key.write_bytes(key.private_bytes(PEM, PKCS8, how))
    files.cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(PEM))
    return files


def _name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
