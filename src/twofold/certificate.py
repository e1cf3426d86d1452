"""The server's own TLS certificate: reads and checks the two files, and follows them when they change.

Serving with it is `twofold.server.run`'s business, telling when it runs out `twofold.doctor`'s.
"""

from __future__ import annotations

import ipaddress
import logging
import re
import ssl
from datetime import datetime
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from twofold.errors import ConfigurationError

#: What TLS 1.2 may use: forward secret, authenticated encryption. The suites of TLS 1.3 all are.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END \1PRIVATE KEY-----", re.DOTALL)

log: logging.Logger = logging.getLogger("twofold")


class Certificate(msgspec.Struct, frozen=True):
    """What the certificate says. `names` are DNS names, `*.` for any one label, and addresses."""

    names: tuple[str, ...]
    expires_at: datetime

    def fits(self, host: str) -> bool:
        """Whether browsers take it for this host (RFC 6125 §6.4)."""
        wildcard = f"*.{host.partition('.')[2]}"
        return any(name.lower() in (host.lower(), wildcard.lower()) for name in self.names)


def read_certificate(cert_file: Path, key_file: Path | None) -> Certificate:
    """The certificate, which belongs to its key; without `key_file` the key is looked for beside the certificate.

    Raises `ConfigurationError`, one line, when the files cannot be served.
    """
    try:
        certificate = x509.load_pem_x509_certificates(_read("TLS_CERT", cert_file))[0]
        names, public_key = _read_names(certificate), certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise ConfigurationError(f"TLS_CERT {cert_file}: holds no certificate that can be read (PEM)") from None
    name, path = ("TLS_CERT", cert_file) if key_file is None else ("TLS_KEY", key_file)
    found = _KEY.search(_read(name, path))
    if found is None:
        where = f"{path}: holds no private key (PEM)"
        raise ConfigurationError(f"{name} {where}; set TLS_KEY" if key_file is None else f"{name} {where}")
    try:
        key = serialization.load_pem_private_key(found[0], password=None)
    except TypeError:
        raise ConfigurationError(f"{name} {path}: the key has a passphrase, and nobody is there to type it") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError(f"{name} {path}: holds no private key that can be read") from None
    if key.public_key() != public_key:
        raise ConfigurationError(f"{name} {path}: this key is not that of the certificate {cert_file}")
    return Certificate(names, certificate.not_valid_after_utc)


class ServedCertificate:
    """A TLS context whose new connections get what is in the files now. `check` looks whether they have changed."""

    def __init__(self, cert_file: Path, key_file: Path | None) -> None:
        """Raises `ConfigurationError`, one line, when the files cannot be served."""
        self._cert_file = cert_file
        self._key_file = key_file
        self._seen = self._look()
        self.context: ssl.SSLContext = self._load()
        self._current = self.context
        # A connection changes over to the newest context before its first answer; the one it came with stays the door.
        self.context.sni_callback = self._hand_over

    def check(self) -> None:
        """Read the files again if they have changed; while they cannot be served, the ones before are."""
        seen = self._look()
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._current = self._load()
        except ConfigurationError as error:
            log.warning("the new certificate is not served, the one before it is: %s", error)
        else:
            log.info("the certificate was read again from %s", self._cert_file)

    def _hand_over(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._current

    def _load(self) -> ssl.SSLContext:
        read_certificate(self._cert_file, self._key_file)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.options |= ssl.OP_NO_RENEGOTIATION
        # Named, so that nobody can have an answer of ours taken for one of another protocol.
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_cert_chain(self._cert_file, self._key_file, password="")
        except OSError as error:
            raise ConfigurationError(f"TLS_CERT {self._cert_file}: cannot be served ({error.strerror})") from None
        return context

    def _look(self) -> list[tuple[int, int, int] | None]:
        """What changes when a file is written or exchanged."""
        paths = [self._cert_file] if self._key_file is None else [self._cert_file, self._key_file]
        return [_stat(path) for path in paths]


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{setting} {path}: cannot be read ({error.strerror})") from None


def _read_names(certificate: x509.Certificate) -> tuple[str, ...]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses = names.get_values_for_type(x509.IPAddress)
    return (*names.get_values_for_type(x509.DNSName), *(str(a) for a in addresses if isinstance(a, _ADDRESS)))


_ADDRESS = (ipaddress.IPv4Address, ipaddress.IPv6Address)
