"""The public keys of authenticators (COSE, RFC 9052 and 9053), taken only when they are sane for their algorithm.

A key off its curve, an RSA exponent of 1 or a modulus of 512 bits verifies what anybody can make: such a key is refused
when it is registered, before anything is signed with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

from twofold.factors import cbor

RSA_BITS_MIN = 2048
#: More makes every sign-in slow, and no authenticator has it.
RSA_BITS_MAX = 8192
RSA_EXPONENT_MIN = 3

_OKP, _EC2, _RSA = 1, 2, 3
_KTY, _ALG, _CURVE, _X, _Y = 1, 3, -1, -2, -3
_N, _E = -1, -2


class BadKey(ValueError):
    """The key is of an algorithm that nobody offered, or not sane for it."""


class Curve(NamedTuple):
    """An elliptic curve of ECDSA, by its COSE number and the size of a coordinate in bytes."""

    number: int
    size: int
    curve: ec.EllipticCurve
    hash: hashes.HashAlgorithm


class Edwards(NamedTuple):
    """A curve of EdDSA, a·x² + y² = 1 + d·x²·y² over the integers modulo `p` (RFC 8032 section 5), by its COSE number.

    `small_order` are the y of the points for which a signature of every message can be made.
    """

    number: int
    size: int
    p: int
    a: int
    d: int
    small_order: tuple[int, ...]
    load: Callable[[bytes], ed25519.Ed25519PublicKey | ed448.Ed448PublicKey]


_ECDSA: Mapping[int, Curve] = {
    -7: Curve(1, 32, ec.SECP256R1(), hashes.SHA256()),
    -35: Curve(2, 48, ec.SECP384R1(), hashes.SHA384()),
    -36: Curve(3, 66, ec.SECP521R1(), hashes.SHA512()),
}
_P25519 = 2**255 - 19
_P448 = 2**448 - 2**224 - 1
# Of Ed25519; checked against the curve in the tests.
_ORDER_8 = (
    0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
)
_EDDSA: Mapping[int, Edwards] = {
    -8: Edwards(
        6,
        32,
        _P25519,
        -1,
        -121665 * pow(121666, -1, _P25519) % _P25519,
        (0, 1, _P25519 - 1, *_ORDER_8),
        ed25519.Ed25519PublicKey.from_public_bytes,
    ),
    -53: Edwards(7, 57, _P448, 1, -39081, (0, 1, _P448 - 1), ed448.Ed448PublicKey.from_public_bytes),
}
_RS256 = -257

#: What registrations may choose from, the preferred first: EdDSA, ES256, ES384, ES512, Ed448, RS256.
OFFERED = (-8, -7, -35, -36, -53, _RS256)

Verify = Callable[[bytes, bytes], None]


class Key(NamedTuple):
    """A sane public key. `verify(signature, message)` raises `cryptography.exceptions.InvalidSignature`."""

    algorithm: int
    public_key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey | rsa.RSAPublicKey
    verify: Verify


def load_key(cose: bytes) -> Key:
    """The key of its CBOR encoding; raises `BadKey`."""
    try:
        members = cbor.decode(cose)
    except ValueError as error:
        raise BadKey(str(error)) from None
    if not isinstance(members, Mapping):
        raise BadKey("a COSE key is a map")
    return read_key(members)


def read_key(members: Mapping[Any, Any]) -> Key:
    """The key of its members; raises `BadKey` that says what is not sane (RFC 9053 section 7, RFC 8230)."""
    algorithm: Any = members.get(_ALG)
    try:
        if algorithm in _ECDSA:
            return _read_ecdsa(members, algorithm, _ECDSA[algorithm])
        if algorithm in _EDDSA:
            return _read_eddsa(members, algorithm, _EDDSA[algorithm])
        if algorithm == _RS256:
            return _read_rsa(members, algorithm)
    except (TypeError, OverflowError, UnsupportedAlgorithm) as error:
        raise BadKey(f"not a key that can be used: {type(error).__name__}") from None
    raise BadKey("of an algorithm that was not offered")


def _read_ecdsa(members: Mapping[Any, Any], algorithm: int, curve: Curve) -> Key:
    x: Any = members.get(_X)
    y: Any = members.get(_Y)
    if (members.get(_KTY), members.get(_CURVE)) != (_EC2, curve.number):
        raise BadKey("the curve is not the one of the algorithm")
    # `y` may be a sign bit in COSE, which WebAuthn forbids: section 5.8.5.
    if not (_is_bytes(x, curve.size) and _is_bytes(y, curve.size)):
        raise BadKey("the point is not uncompressed")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(curve.curve, b"\x04" + x + y)
    except ValueError:
        raise BadKey("the point is not on its curve") from None
    scheme = ec.ECDSA(curve.hash)
    return Key(algorithm, key, lambda signature, message: key.verify(signature, message, scheme))


def _read_eddsa(members: Mapping[Any, Any], algorithm: int, curve: Edwards) -> Key:
    if (members.get(_KTY), members.get(_CURVE)) != (_OKP, curve.number):
        raise BadKey("the curve is not the one of the algorithm")
    point: Any = members.get(_X)
    if not _is_bytes(point, curve.size):
        raise BadKey("the point has another length than its curve")
    # The sign of x is the highest bit of the last byte.
    y = int.from_bytes(point, "little") & ~(1 << (8 * curve.size - 1))
    # Libraries check neither of these two: x² = (y² - 1) / (d·y² - a) must be a square (Euler's criterion).
    square = (y * y - 1) * (curve.d * y * y - curve.a)
    if y >= curve.p or pow(square, (curve.p - 1) // 2, curve.p) not in (0, 1):
        raise BadKey("the point is not on its curve")
    if y in curve.small_order:
        raise BadKey("the point is of small order: a signature that fits every message can be made for it")
    key = curve.load(point)
    return Key(algorithm, key, key.verify)


def _read_rsa(members: Mapping[Any, Any], algorithm: int) -> Key:
    n, e = members.get(_N), members.get(_E)
    if members.get(_KTY) != _RSA or not isinstance(n, bytes) or not isinstance(e, bytes):
        raise BadKey("not an RSA key")
    modulus, exponent = int.from_bytes(n, "big"), int.from_bytes(e, "big")
    if not RSA_BITS_MIN <= modulus.bit_length() <= RSA_BITS_MAX or modulus % 2 == 0:
        raise BadKey(f"the RSA modulus is not an odd number of {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")
    if exponent < RSA_EXPONENT_MIN or exponent % 2 == 0 or exponent.bit_length() > 32:
        raise BadKey(f"the RSA exponent is not an odd number of at least {RSA_EXPONENT_MIN}")
    key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
    return Key(algorithm, key, partial(_verify_rsa, key))


def _verify_rsa(key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> None:
    key.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())


def _is_bytes(value: object, length: int) -> bool:
    return isinstance(value, bytes) and len(value) == length
