"""Makers of authenticators for tests: their roots, the certificates that they issue, and statements in every format.

A test may have anything said otherwise: what is said is still signed correctly, so that a refusal is by its own rule.
"""

import datetime as dt
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID, ObjectIdentifier
from fido2 import cbor
from tests.kit import START_S

from twofold.core.clock import in_seconds
from twofold.factors.attestation import Attested, Trust, check_attestation
from twofold.factors.authenticator_data import read_authenticator_data
from twofold.testing.software_authenticator import AT, UP, PrivateKey, cose_of, new_key

NOW = in_seconds(START_S)
DAY = in_seconds(86_400)
SINCE, UNTIL = dt.datetime(2023, 1, 1, tzinfo=dt.UTC), dt.datetime(2033, 1, 1, tzinfo=dt.UTC)
AAGUID = bytes.fromhex("00112233445566778899aabbccddeeff")
OTHER_AAGUID = bytes(range(16))
CLIENT_DATA_HASH = hashlib.sha256(b"client data").digest()

AAGUID_OID = ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
ANDROID_OID = ObjectIdentifier("1.3.6.1.4.1.11129.2.1.17")
APPLE_OID = ObjectIdentifier("1.2.840.113635.100.8.2")
AIK_OID = ObjectIdentifier("2.23.133.8.3")
PACKED_SUBJECT = (
    (NameOID.COUNTRY_NAME, "AA"),
    (NameOID.ORGANIZATION_NAME, "Maker"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "Authenticator Attestation"),
    (NameOID.COMMON_NAME, "Model"),
)
TPM_NAMES = tuple((ObjectIdentifier(f"2.23.133.2.{n}"), f"id:0000000{n}") for n in (1, 2, 3))
CA, NOT_CA = (x509.BasicConstraints(ca=is_ca, path_length=None) for is_ca in (True, False))
#: RS1, RSASSA-PKCS1-v1_5 over SHA-1.
RS1 = -65535
_ECDSA_SHA_256, _ECDSA_SHA_1 = (bytes.fromhex(text) for text in ("300a06082a8648ce3d040302", "300906072a8648ce3d0401"))
_HASHES: Mapping[int, hashes.HashAlgorithm] = {
    -7: hashes.SHA256(),
    -35: hashes.SHA384(),
    -36: hashes.SHA512(),
    -257: hashes.SHA256(),
    -258: hashes.SHA384(),
    RS1: hashes.SHA1(),  # noqa: S303 - as old TPMs do
}


@functools.cache
def rsa_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    """One key for each length: making one takes a while."""
    return rsa.generate_private_key(65_537, bits)


def p256() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def sign(key: PrivateKey, message: bytes, algorithm: int) -> bytes:
    match key:
        case ec.EllipticCurvePrivateKey():
            return key.sign(message, ec.ECDSA(_HASHES[algorithm]))
        case rsa.RSAPrivateKey():
            return key.sign(message, padding.PKCS1v15(), _HASHES[algorithm])
        case _:
            return key.sign(message)


def name(attributes: Sequence[tuple[ObjectIdentifier, str]]) -> x509.Name:
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


@dataclass
class Issuer:
    """Somebody who issues certificates; without `above` a root."""

    common_name: str = "Root"
    key: PrivateKey = field(default_factory=p256)
    above: "Issuer | None" = None
    limits: x509.BasicConstraints | None = CA
    can_sign: bool | None = True
    since: dt.datetime = SINCE
    until: dt.datetime = UNTIL
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        extensions: list[tuple[x509.ExtensionType, bool]] = []
        if self.limits is not None:
            extensions.append((self.limits, True))
        if self.can_sign is not None:
            usage = dict.fromkeys(
                ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign"), False
            )
            usage |= {"encipher_only": False, "decipher_only": False}
            extensions.append((x509.KeyUsage(digital_signature=True, key_cert_sign=self.can_sign, **usage), True))
        self.certificate = (self.above or self).issue(
            self.key, self.subject, extensions, since=self.since, until=self.until
        )

    @property
    def subject(self) -> list[tuple[ObjectIdentifier, str]]:
        return [(NameOID.COMMON_NAME, self.common_name)]

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self,
        key: Any,
        subject: Sequence[tuple[ObjectIdentifier, str]],
        extensions: Sequence[tuple[x509.ExtensionType, bool]],
        *,
        since: dt.datetime = SINCE,
        until: dt.datetime = UNTIL,
        hash_algorithm: Any = None,
    ) -> x509.Certificate:
        """A certificate for the key; the extensions with whether they are critical."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name(self.subject))
            .public_key(key.public_key())
            .serial_number(0x7F01020304050607)
            .not_valid_before(since)
            .not_valid_after(until)
        )
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, critical=is_critical)
        is_edwards = isinstance(self.key, ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey)
        return builder.sign(self.key, None if is_edwards else hash_algorithm or hashes.SHA256())

    def reissue(self, certificate: x509.Certificate, edit: Callable[[bytes], bytes]) -> bytes:
        """The certificate (DER) with other contents, signed again."""
        return self._sign(edit(certificate.tbs_certificate_bytes), _ECDSA_SHA_256, hashes.SHA256())

    def reissue_over_sha_1(self, der_: bytes) -> bytes:
        """The certificate as it was made long ago."""
        contents = x509.load_der_x509_certificate(der_).tbs_certificate_bytes
        _, _, inner = contents.partition(contents[:4])
        return self._sign(der(b"\x30", inner.replace(_ECDSA_SHA_256, _ECDSA_SHA_1)), _ECDSA_SHA_1, hashes.SHA1())  # noqa: S303

    def _sign(self, contents: bytes, algorithm: bytes, hash_algorithm: hashes.HashAlgorithm) -> bytes:
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        signature = self.key.sign(contents, ec.ECDSA(hash_algorithm))
        return der(b"\x30", contents + algorithm + der(b"\x03", b"\0" + signature))


@dataclass
class Statement:
    """A statement over a new credential. `members` may be changed before it is checked."""

    fmt: str
    members: dict[str, Any]
    data: bytes
    client_data_hash: bytes = CLIENT_DATA_HASH

    def check(self, *roots: x509.Certificate, trust: Trust | None = None, now: int = NOW) -> Attested:
        data = read_authenticator_data(self.data)
        return check_attestation(
            self.fmt, self.members, data, self.client_data_hash, trust=trust or Trust(roots), now=now
        )


@dataclass
class Leaf:
    """What the certificate of a statement says; each format has its own defaults."""

    subject: Sequence[tuple[ObjectIdentifier, str]]
    extensions: Sequence[tuple[x509.ExtensionType, bool]]
    edit: Callable[[bytes], bytes] | None = None
    hash_algorithm: Any = None
    since: dt.datetime = SINCE
    until: dt.datetime = UNTIL

    def issue(self, issuer: Issuer, key: PrivateKey) -> bytes:
        certificate = issuer.issue(
            key,
            self.subject,
            self.extensions,
            since=self.since,
            until=self.until,
            hash_algorithm=self.hash_algorithm,
        )
        return issuer.reissue(certificate, self.edit) if self.edit else certificate.public_bytes(Encoding.DER)


@dataclass
class NewCredential:
    """A credential that is being registered, in an authenticator of some maker."""

    algorithm: int = -7
    aaguid: bytes = AAGUID
    key: PrivateKey | None = None

    def __post_init__(self) -> None:
        if self.key is None:
            self.key = rsa_key() if self.algorithm == -257 else new_key(self.algorithm)

    @property
    def data(self) -> bytes:
        assert self.key is not None
        cose = cbor.encode(cose_of(self.algorithm, self.key))
        head = hashlib.sha256(b"example.com").digest() + bytes([UP | AT]) + bytes(4)
        return head + self.aaguid + (16).to_bytes(2, "big") + b"credential-id-16" + cose

    @property
    def signed(self) -> bytes:
        return self.data + CLIENT_DATA_HASH

    def self_attested(self) -> Statement:
        assert self.key is not None
        members = {"alg": self.algorithm, "sig": sign(self.key, self.signed, self.algorithm)}
        return Statement("packed", members, self.data)

    def packed(
        self,
        *issuers: Issuer,
        key: PrivateKey | None = None,
        algorithm: int = -7,
        subject: Sequence[tuple[ObjectIdentifier, str]] = PACKED_SUBJECT,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] = ((NOT_CA, True),),
        **leaf: Any,
    ) -> Statement:
        """Signed by an attestation key that the first of `issuers` certified; the others follow in `x5c`."""
        key = key or p256()
        path = [Leaf(subject, extensions, **leaf).issue(issuers[0], key), *(issuer.der for issuer in issuers[:-1])]
        return Statement("packed", {"alg": algorithm, "sig": sign(key, self.signed, algorithm), "x5c": path}, self.data)

    def fido_u2f(self, issuer: Issuer, *, key: PrivateKey | None = None) -> Statement:
        assert isinstance(self.key, ec.EllipticCurvePrivateKey)
        key = key or p256()
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        signed = b"\0" + self.data[:32] + CLIENT_DATA_HASH + b"credential-id-16" + point
        certificate = Leaf([(NameOID.COMMON_NAME, "U2F key")], ()).issue(issuer, key)
        return Statement("fido-u2f", {"sig": sign(key, signed, -7), "x5c": [certificate]}, self.data)

    def apple(
        self, issuer: Issuer, *, key: PrivateKey | None = None, extension: bytes | None = None, **leaf: Any
    ) -> Statement:
        wrapped = bytes.fromhex("3024a1220420") + hashlib.sha256(self.signed).digest()
        extensions = [
            (NOT_CA, True),
            (x509.UnrecognizedExtension(APPLE_OID, wrapped if extension is None else extension), False),
        ]
        leaf = {"subject": [(NameOID.COMMON_NAME, "Apple")], "extensions": extensions, **leaf}
        key = key or self.key
        assert key is not None
        return Statement("apple", {"x5c": [Leaf(**leaf).issue(issuer, key)]}, self.data)

    def android_key(
        self,
        issuer: Issuer,
        *,
        challenge: bytes = CLIENT_DATA_HASH,
        software: bytes = b"",
        hardware: bytes | None = None,
        description: bytes | None = None,
        key: PrivateKey | None = None,
    ) -> Statement:
        """With the two authorization lists as the DER of their contents; by default hardware holds it to signing."""
        if hardware is None:
            hardware = purposes(2) + origin(0)
        if description is None:
            description = key_description(challenge, software, hardware)
        key = key or self.key
        assert key is not None
        extensions = [(x509.UnrecognizedExtension(ANDROID_OID, description), False)]
        certificate = Leaf([(NameOID.COMMON_NAME, "Android Keystore Key")], extensions).issue(issuer, key)
        members = {"alg": self.algorithm, "sig": sign(key, self.signed, self.algorithm), "x5c": [certificate]}
        return Statement("android-key", members, self.data)

    def tpm(
        self,
        issuer: Issuer,
        *,
        key: PrivateKey | None = None,
        algorithm: int = -7,
        area: bytes | None = None,
        extra_data: bytes | None = None,
        certified: Callable[[bytes], bytes] = bytes,
        name_hash: str = "sha256",
        **leaf: Any,
    ) -> Statement:
        """`area` is the public area, `certified` changes what the TPM signs."""
        assert self.key is not None
        key = key or p256()
        area = public_area(self.key) if area is None else area
        if extra_data is None:
            extra_data = hashlib.new(_HASHES[algorithm].name, self.signed).digest()
        cert_info = certified(tpm_certified(extra_data, area[2:4] + hashlib.new(name_hash, area).digest()))
        certificate = Leaf(**{"subject": [], "extensions": tpm_extensions(), **leaf}).issue(issuer, key)
        members = {
            "ver": "2.0",
            "alg": algorithm,
            "x5c": [certificate],
            "sig": sign(key, cert_info, algorithm),
            "certInfo": cert_info,
            "pubArea": area,
        }
        return Statement("tpm", members, self.data)


def aaguid_extension(aaguid: bytes, *, wrapped: bytes | None = None) -> x509.UnrecognizedExtension:
    return x509.UnrecognizedExtension(AAGUID_OID, b"\x04\x10" + aaguid if wrapped is None else wrapped)


def tpm_extensions(
    *,
    limits: x509.BasicConstraints | None = NOT_CA,
    names: Sequence[tuple[ObjectIdentifier, str]] | None = TPM_NAMES,
    usage: ObjectIdentifier | None = AIK_OID,
) -> list[tuple[x509.ExtensionType, bool]]:
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if limits is not None:
        extensions.append((limits, True))
    if names is not None:
        extensions.append((x509.SubjectAlternativeName([x509.DirectoryName(name(names))]), True))
    if usage is not None:
        extensions.append((x509.ExtendedKeyUsage([usage]), False))
    return extensions


def public_area(key: PrivateKey, *, name_algorithm: int = 0x000B, scheme: bytes = b"\x00\x10") -> bytes:
    """A TPMT_PUBLIC; `scheme` is TPM_ALG_NULL, or an algorithm and its hash."""
    head = name_algorithm.to_bytes(2, "big") + b"\0\5\0\x72" + sized(b"policy") + b"\x00\x10" + scheme
    match key.public_key():
        case rsa.RSAPublicKey() as public_key:
            modulus = public_key.public_numbers().n.to_bytes(public_key.key_size // 8, "big")
            # An exponent of 0 means 65537.
            return b"\x00\x01" + head + public_key.key_size.to_bytes(2, "big") + bytes(4) + sized(modulus)
        case ec.EllipticCurvePublicKey() as public_key:
            point = public_key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
            curve = {256: 3, 384: 4, 521: 5}[public_key.key_size].to_bytes(2, "big")
            half = len(point) // 2
            return b"\x00\x23" + head + curve + b"\x00\x10" + sized(point[:half]) + sized(point[half:])
    raise AssertionError("TPMs have no such keys")


def tpm_certified(extra_data: bytes, key_name: bytes) -> bytes:
    """A TPMS_ATTEST of a certified key."""
    clock_and_firmware = bytes(range(25))
    return (
        b"\xffTCG\x80\x17"
        + sized(b"signer")
        + sized(extra_data)
        + clock_and_firmware
        + sized(key_name)
        + sized(b"qualified")
    )


def sized(contents: bytes) -> bytes:
    return len(contents).to_bytes(2, "big") + contents


def der(tag: bytes, contents: bytes) -> bytes:
    length = len(contents)
    if length < 0x80:
        return tag + bytes([length]) + contents
    size = (length.bit_length() + 7) // 8
    return tag + bytes([0x80 | size]) + length.to_bytes(size, "big") + contents


def number(value: int) -> bytes:
    return der(b"\x02", value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))


def purposes(*values: int) -> bytes:
    return der(b"\xa1", der(b"\x31", b"".join(map(number, values))))


def origin(value: int) -> bytes:
    return der(b"\xbf\x85\x3e", number(value))


ALL_APPLICATIONS = der(b"\xbf\x84\x58", b"\x05\0")


def key_description(challenge: bytes, software: bytes, hardware: bytes) -> bytes:
    level = der(b"\x0a", b"\1")
    lists = der(b"\x30", software) + der(b"\x30", hardware)
    head = number(300) + level + number(300) + level + der(b"\x04", challenge) + der(b"\x04", b"")
    return der(b"\x30", head + lists)
