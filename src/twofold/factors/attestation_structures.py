"""What TPMs and Android's key store sign, read out of their bytes. What it must say is in `attestation_formats`.

Every reader raises `ValueError` for bytes that are not of its structure.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric import ec, rsa

_TPM_MAGIC, _TPM_CERTIFY = 0xFF544347, 0x8017
_TPM_RSA, _TPM_ECC, _TPM_NULL = 0x0001, 0x0023, 0x0010
_TPM_CURVES = {0x0003: ec.SECP256R1(), 0x0004: ec.SECP384R1(), 0x0005: ec.SECP521R1()}
_RSA_EXPONENT = 65_537

# Tags of ASN.1, as they are written (X.690 section 8.1.2).
_INTEGER, _OCTETS, _ENUMERATED, _SEQUENCE, _SET = b"\x02", b"\x04", b"\x0a", b"\x30", b"\x31"
_PURPOSE, _ALL_APPLICATIONS, _ORIGIN = b"\xa1", b"\xbf\x84\x58", b"\xbf\x85\x3e"
_KEY_DESCRIPTION = (_INTEGER, _ENUMERATED, _INTEGER, _ENUMERATED, _OCTETS, _OCTETS, _SEQUENCE, _SEQUENCE)


class PublicArea(NamedTuple):
    """A TPMT_PUBLIC: the key, and the hash (TPM_ALG_ID) that its name is made with."""

    name_algorithm: int
    numbers: rsa.RSAPublicNumbers | ec.EllipticCurvePublicNumbers


class Certified(NamedTuple):
    """A TPMS_ATTEST of a certified key: what the TPM was given to sign with it, and the name of the key."""

    extra_data: bytes
    name: bytes


class AuthorizationList(NamedTuple):
    """What Android's key store holds a key to. Empty sets say nothing."""

    purposes: frozenset[int]
    origins: frozenset[int]
    is_for_all_applications: bool


class KeyDescription(NamedTuple):
    """Android's description of a key: what the operating system enforces, and what secure hardware does."""

    challenge: bytes
    by_software: AuthorizationList
    by_hardware: AuthorizationList


def read_public_area(raw: bytes) -> PublicArea:
    """TPM 2.0 part 2 section 12.2.4."""
    reader = _Reader(raw)
    kind, name_algorithm = reader.number(2), reader.number(2)
    reader.take(4)  # attributes
    reader.sized()  # the policy for using it
    numbers = _read_rsa(reader) if kind == _TPM_RSA else _read_ecc(reader, kind)
    reader.finish()
    return PublicArea(name_algorithm, numbers)


def read_certified(raw: bytes) -> Certified:
    """TPM 2.0 part 2 section 10.12.8, with the TPMS_CERTIFY_INFO of section 10.12.3."""
    reader = _Reader(raw)
    if reader.number(4) != _TPM_MAGIC:
        raise ValueError("no TPM made this")
    if reader.number(2) != _TPM_CERTIFY:
        raise ValueError("the TPM certified no key")
    reader.sized()  # who signed
    extra_data = reader.sized()
    reader.take(17 + 8)  # clock and firmware, which a TPM may blur
    name = reader.sized()
    reader.sized()  # the name with its parents
    reader.finish()
    return Certified(extra_data, name)


def read_key_description(raw: bytes) -> KeyDescription:
    """The schema of Android's key attestation, of any version: the later ones only add to the lists."""
    [(tag, body)] = _read_der(raw)
    members = list(_read_der(body))
    if tag != _SEQUENCE or tuple(tag for tag, _ in members[: len(_KEY_DESCRIPTION)]) != _KEY_DESCRIPTION:
        raise ValueError("not a key description of Android")
    _, _, _, _, (_, challenge), _, (_, by_software), (_, by_hardware) = members[: len(_KEY_DESCRIPTION)]
    return KeyDescription(challenge, _read_authorizations(by_software), _read_authorizations(by_hardware))


def _read_rsa(reader: _Reader) -> rsa.RSAPublicNumbers:
    _skip_schemes(reader, 2)
    reader.number(2)  # its bits
    exponent = reader.number(4) or _RSA_EXPONENT
    return rsa.RSAPublicNumbers(exponent, int.from_bytes(reader.sized(), "big"))


def _read_ecc(reader: _Reader, kind: int) -> ec.EllipticCurvePublicNumbers:
    if kind != _TPM_ECC:
        raise ValueError("the TPM's key is neither RSA nor of an elliptic curve")
    _skip_schemes(reader, 2)
    curve = _TPM_CURVES.get(reader.number(2))
    if curve is None:
        raise ValueError("the TPM's key is on another curve")
    _skip_schemes(reader, 1)
    x, y = reader.sized(), reader.sized()
    return ec.EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve)


def _skip_schemes(reader: _Reader, count: int) -> None:
    """Skip what the key is bound to: a cipher, a signature, a derivation. Each names a hash unless it is null.

    Only keys that sign nothing have a cipher: one would be read wrong, and then nothing fits.
    """
    for _ in range(count):
        if reader.number(2) != _TPM_NULL:
            reader.take(2)


def _read_authorizations(raw: bytes) -> AuthorizationList:
    members = dict(_read_der(raw))
    return AuthorizationList(
        frozenset(
            number
            for tag, numbers in _read_der(members.get(_PURPOSE, b""))
            if tag == _SET
            for number in _read_integers(numbers)
        ),
        frozenset(_read_integers(members.get(_ORIGIN, b""))),
        _ALL_APPLICATIONS in members,
    )


def _read_integers(raw: bytes) -> Iterator[int]:
    for tag, value in _read_der(raw):
        if tag != _INTEGER:
            raise ValueError("not a number")
        yield int.from_bytes(value, "big", signed=True)


def _read_der(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The elements that stand one after the other, each as its tag and its contents."""
    reader = _Reader(raw)
    while not reader.is_at_end:
        tag = reader.take(1)
        if tag[0] & 0x1F == 0x1F:
            tag += reader.take(1)
            while tag[-1] & 0x80:
                tag += reader.take(1)
        length = reader.number(1)
        if length == 0x80:
            raise ValueError("ASN.1 of indefinite length")
        yield tag, reader.take(reader.number(length & 0x7F) if length & 0x80 else length)


class _Reader:
    """Bytes taken from front to back; big-endian, as TPMs and ASN.1 write numbers."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._raw)

    def take(self, length: int) -> bytes:
        end = self._at + length
        if end > len(self._raw):
            raise ValueError("cut off")
        taken, self._at = self._raw[self._at : end], end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def sized(self) -> bytes:
        """A TPM2B: two bytes of length in front."""
        return self.take(self.number(2))

    def finish(self) -> None:
        if not self.is_at_end:
            raise ValueError("something follows")
