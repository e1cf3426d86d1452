"""Public keys: those that are sane for their algorithm verify, each of the others is refused (RFC 9053, RFC 8230)."""

from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from fido2 import cbor
from hypothesis import given
from hypothesis import strategies as st
from tests.factors.attestations import rsa_key

from twofold.factors.cose import OFFERED, BadKey, load_key, read_key
from twofold.testing.software_authenticator import SoftwareCredential, cose_of, new_key

KTY, ALG, CRV, X, Y = 1, 3, -1, -2, -3
N, E = -1, -2
P25519, P448 = 2**255 - 19, 2**448 - 2**224 - 1
D25519, D448 = -121665 * pow(121666, -1, P25519) % P25519, -39081 % P448
KEYS = {algorithm: rsa_key() if algorithm == -257 else new_key(algorithm) for algorithm in OFFERED}
SANE = {algorithm: cose_of(algorithm, key) for algorithm, key in KEYS.items()}
Point = tuple[int, int]


def refusal(members: dict[Any, Any]) -> str:
    with pytest.raises(BadKey) as refused:
        read_key(members)
    return str(refused.value)


@pytest.mark.parametrize("algorithm", OFFERED)
def test_a_sane_key_verifies_what_was_signed_and_nothing_else(algorithm: int) -> None:
    credential = SoftwareCredential(b"id", "example.com", b"handle", algorithm, KEYS[algorithm])
    key = load_key(credential.cose)
    assert key.algorithm == algorithm
    signature = credential.sign(b"message")
    key.verify(signature, b"message")
    for other, message in ((signature, b"massage"), (signature[:-1], b"message"), (b"", b"message")):
        with pytest.raises(InvalidSignature):
            key.verify(other, message)


def test_a_key_is_one_map() -> None:
    raw = cbor.encode(SANE[-7])
    for bad in (raw[:-1], raw + b"\0", b"", cbor.encode([1]), cbor.encode(1)):
        with pytest.raises(BadKey):
            load_key(bad)


@pytest.mark.parametrize("algorithm", [None, 0, -37, -47, -65535, "ES256", [-7], {}, True, b"\x26"])
def test_an_algorithm_that_is_missing_or_was_not_offered_is_refused(algorithm: Any) -> None:
    assert refusal({**SANE[-7], ALG: algorithm})
    assert refusal({name: value for name, value in SANE[-7].items() if name != ALG})


@pytest.mark.parametrize("algorithm", OFFERED)
def test_the_type_of_a_key_is_that_of_its_algorithm(algorithm: int) -> None:
    for kty in {None, 0, 1, 2, 3, "EC2"} - {SANE[algorithm][KTY]}:
        assert refusal({**SANE[algorithm], KTY: kty})


@pytest.mark.parametrize("algorithm", OFFERED)
@pytest.mark.parametrize("other", OFFERED)
def test_a_key_of_one_algorithm_is_none_of_another(algorithm: int, other: int) -> None:
    members = {**SANE[other], ALG: algorithm}
    if algorithm == other:
        assert read_key(members)
    else:
        assert refusal(members)


@pytest.mark.parametrize("algorithm", [-7, -35, -36, -8, -53])
@pytest.mark.parametrize("curve", [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, "P-256"])
def test_the_curve_is_that_of_the_algorithm(algorithm: int, curve: Any) -> None:
    members = {**SANE[algorithm], CRV: curve}
    assert read_key(members).algorithm if curve == SANE[algorithm][CRV] else refusal(members)


# ECDSA (RFC 9053 section 7.1.1, WebAuthn section 5.8.5)


@pytest.mark.parametrize("algorithm", [-7, -35, -36])
def test_a_point_is_on_its_curve(algorithm: int) -> None:
    x, y = SANE[algorithm][X], SANE[algorithm][Y]
    size = len(x)
    off = [
        {Y: (int.from_bytes(y, "big") ^ 1).to_bytes(size, "big")},
        {X: bytes(size), Y: bytes(size)},
        {X: b"\xff" * size},
        {X: y, Y: x},
    ]
    for members in off:
        assert refusal({**SANE[algorithm], **members}) == "the point is not on its curve"


@pytest.mark.parametrize("algorithm", [-7, -35, -36])
def test_a_point_is_uncompressed_and_of_full_length(algorithm: int) -> None:
    x, y = SANE[algorithm][X], SANE[algorithm][Y]
    compressed = (True, False, None, b"", y[1:], y + b"\0", b"\0" + y, "y", 1)
    for other in compressed:
        assert refusal({**SANE[algorithm], Y: other}) == "the point is not uncompressed"
    assert refusal({**SANE[algorithm], X: x[1:]}) == "the point is not uncompressed"
    assert refusal({name: value for name, value in SANE[algorithm].items() if name != X})


def test_a_point_of_another_curve_is_not_on_this_one() -> None:
    other = ec.generate_private_key(ec.SECP256K1()).public_key().public_numbers()
    x, y = (number.to_bytes(32, "big") for number in (other.x, other.y))
    assert refusal({**SANE[-7], X: x, Y: y}) == "the point is not on its curve"


# EdDSA (RFC 8032): the libraries load what is off the curve, and points that verify everything


def recover_x(y: int, p: int, a: int, d: int) -> int | None:
    """A root of x² = (y² - 1) / (d·y² - a), or None."""
    square = (y * y - 1) * pow(d * y * y - a, -1, p) % p
    if p % 4 == 3:
        x = pow(square, (p + 1) // 4, p)
    else:
        x = pow(square, (p + 3) // 8, p)
        if x * x % p != square:
            x = x * pow(2, (p - 1) // 4, p) % p
    return x if x * x % p == square else None


def add(one: Point, other: Point, p: int, a: int, d: int) -> Point:
    (x1, y1), (x2, y2) = one, other
    shared = d * x1 * x2 * y1 * y2
    x = (x1 * y2 + y1 * x2) * pow(1 + shared, -1, p)
    y = (y1 * y2 - a * x1 * x2) * pow(1 - shared, -1, p)
    return x % p, y % p


def times(count: int, point: Point, p: int, a: int, d: int) -> Point:
    total = (0, 1)
    for _ in range(count):
        total = add(total, point, p, a, d)
    return total


CURVES = {
    -8: (P25519, -1 % P25519, D25519, 32, 8, 2**252 + 27742317777372353535851937790883648493),
    -53: (
        P448,
        1,
        D448,
        57,
        4,
        2**446 - 13818066809895115352007386748515426880336692474882178609894547503885,
    ),
}


def small_order(algorithm: int) -> set[Point]:
    """All points whose order divides the cofactor: any point, times the order of the large group."""
    p, a, d, _, cofactor, order = CURVES[algorithm]
    found: set[Point] = set()
    for y in range(2, 60):
        x = recover_x(y, p, a, d)
        if x is None:
            continue
        point, doubled = (0, 1), (x, y)
        for bit in range(order.bit_length()):
            if order >> bit & 1:
                point = add(point, doubled, p, a, d)
            doubled = add(doubled, doubled, p, a, d)
        found |= {times(n, point, p, a, d) for n in range(cofactor)}
    assert len(found) == cofactor
    return found


def encoded(y: int, is_negative: bool, size: int) -> bytes:
    return (y | is_negative << (8 * size - 1)).to_bytes(size, "little")


@pytest.mark.parametrize("algorithm", [-8, -53])
def test_a_point_of_small_order_is_refused_in_every_spelling(algorithm: int) -> None:
    p, _, _, size, _, _ = CURVES[algorithm]
    for _, y in small_order(algorithm):
        for is_negative in (False, True):
            assert "small order" in refusal({**SANE[algorithm], X: encoded(y, is_negative, size)})
            if y + p < 1 << 8 * size - 1:
                members = {**SANE[algorithm], X: encoded(y + p, is_negative, size)}
                assert refusal(members) == "the point is not on its curve"


@pytest.mark.parametrize("algorithm", [-8, -53])
def test_an_edwards_point_is_on_its_curve(algorithm: int) -> None:
    p, a, d, size, _, _ = CURVES[algorithm]
    for y in range(2, 40):
        members = {**SANE[algorithm], X: encoded(y, False, size)}
        if recover_x(y, p, a, d) is None:
            assert refusal(members) == "the point is not on its curve"
        else:
            assert read_key(members).algorithm == algorithm


@pytest.mark.parametrize("algorithm", [-8, -53])
def test_an_edwards_point_is_written_in_one_way(algorithm: int) -> None:
    p, _, _, size, _, _ = CURVES[algorithm]
    for y in (p, p + 1, p + 18, (1 << 8 * size - 1) - 1):
        assert refusal({**SANE[algorithm], X: encoded(y, False, size)}) == "the point is not on its curve"
    point = SANE[algorithm][X]
    for other in (None, b"", point[1:], point + b"\0", "x", 7):
        assert "length" in refusal({**SANE[algorithm], X: other})


# RSA (RFC 8230)


def rsa_members(n: int, e: int) -> dict[int, Any]:
    raw = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (n, e))
    return {KTY: 3, ALG: -257, N: next(raw), E: next(raw)}


MODULUS = rsa_key().public_key().public_numbers().n


@pytest.mark.parametrize("e", [3, 17, 65_537, 2**32 - 1])
def test_an_rsa_exponent_is_odd_and_more_than_1(e: int) -> None:
    assert read_key(rsa_members(MODULUS, e)).algorithm == -257


@pytest.mark.parametrize("e", [0, 1, 2, 4, 65_536, 2**32 + 1, 2**64 + 1])
def test_another_rsa_exponent_is_refused(e: int) -> None:
    assert "exponent" in refusal(rsa_members(MODULUS, e))


@pytest.mark.parametrize("bits", [2048, 3072, 4096, 8192])
def test_an_rsa_modulus_is_long_enough(bits: int) -> None:
    assert read_key(rsa_members((1 << bits) - 1, 65_537))


@pytest.mark.parametrize(
    "n", [0, 1, 2**511 + 1, 2**1023 + 1, 2**2047 - 1, MODULUS + 1, 2**8192 + 1, 2**16383 + 1], ids=int.bit_length
)
def test_a_modulus_that_is_short_even_or_endless_is_refused(n: int) -> None:
    assert "modulus" in refusal(rsa_members(n, 65_537))


def test_a_real_key_that_is_too_short_is_refused() -> None:
    assert "modulus" in refusal(cose_of(-257, rsa_key(1024)))


def test_an_rsa_key_has_both_its_numbers() -> None:
    for members in ({N: None}, {E: None}, {N: 5}, {E: 65_537}, {E: "AQAB"}):
        assert refusal({**SANE[-257], **members}) == "not an RSA key"


@given(
    st.dictionaries(
        st.sampled_from([KTY, ALG, CRV, X, Y]),
        st.sampled_from([1, 2, 3, 6, 7, *OFFERED, None, True, "x", b"", bytes(32), bytes(57), [], {}])
        | st.binary(max_size=70),
    ),
    st.sampled_from(OFFERED),
)
def test_whatever_comes_is_a_key_or_refused(members: dict[int, Any], algorithm: int) -> None:
    for key in (members, {**SANE[algorithm], **members}):
        try:
            assert read_key(key).algorithm in OFFERED
        except BadKey:
            continue
