"""Authenticator data (WebAuthn Level 3 section 6.1): every byte has its place."""

import hashlib

import pytest
from fido2 import cbor
from hypothesis import given
from hypothesis import strategies as st
from tests.lying_authenticator import RESERVED

from twofold.factors.authenticator_data import AttestedCredential, read_authenticator_data
from twofold.testing.software_authenticator import AT, BE, BS, ED, UP, UV

RP_ID_HASH = hashlib.sha256(b"example.com").digest()
COUNT = (0x01020304).to_bytes(4, "big")
KEY = cbor.encode({1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)})
EXTENSIONS = cbor.encode({"credProtect": 2})


def data(flags: int, *parts: bytes) -> bytes:
    return RP_ID_HASH + bytes([flags]) + COUNT + b"".join(parts)


def attested(*, credential_id: bytes = b"credential", length: int | None = None, key: bytes = KEY) -> bytes:
    size = len(credential_id) if length is None else length
    return bytes(range(16)) + size.to_bytes(2, "big") + credential_id + key


def test_6_1_an_assertion_has_37_bytes() -> None:
    read = read_authenticator_data(data(UP))
    assert (read.raw, read.rp_id_hash, read.sign_count, read.attested) == (data(UP), RP_ID_HASH, 0x01020304, None)
    for end in range(37):
        with pytest.raises(ValueError, match="37 bytes"):
            read_authenticator_data(data(UP)[:end])


@pytest.mark.parametrize("flags", [0, UP, UV, BE, BS, UP | UV, UP | BE | BS, RESERVED, UP | UV | BE | BS | RESERVED])
def test_6_1_flags_are_bits_and_reserved_ones_say_nothing(flags: int) -> None:
    read = read_authenticator_data(data(flags))
    said = (read.is_user_present, read.is_user_verified, read.is_backup_eligible, read.is_backed_up)
    assert said == tuple(bool(flags & flag) for flag in (UP, UV, BE, BS))


@pytest.mark.parametrize("credential_id", [b"", b"x", bytes(1023), bytes(2000)], ids=len)
def test_6_5_1_a_new_credential_follows(credential_id: bytes) -> None:
    read = read_authenticator_data(data(UP | AT, attested(credential_id=credential_id)))
    assert read.attested == AttestedCredential(bytes(range(16)), credential_id, KEY)


def test_6_1_extensions_nobody_asked_for_are_read_and_ignored() -> None:
    assert read_authenticator_data(data(UP | ED, EXTENSIONS)).attested is None
    read = read_authenticator_data(data(UP | AT | ED, attested(), EXTENSIONS))
    assert read.attested is not None
    assert read.attested.public_key == KEY, "without the extensions"


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (data(UP, b"\0"), "follows"),
        (data(UP, attested()), "follows"),
        (data(UP | AT, attested(), b"\0"), "follows"),
        (data(UP | AT, attested(), EXTENSIONS), "follows"),
        (data(UP | ED, EXTENSIONS, EXTENSIONS), "follows"),
        (data(UP | ED), "cut off"),
        (data(UP | AT | ED, attested()), "cut off"),
        (data(UP | ED, cbor.encode([1])), "a map"),
        (data(UP | ED, cbor.encode(1)), "a map"),
        (data(UP | AT), "cut off"),
        (data(UP | AT, bytes(16)), "cut off"),
        (data(UP | AT, bytes(18)), "cut off"),
        (data(UP | AT, attested(length=0xFFFF)), "cut off"),
        (data(UP | AT, attested(key=b"")), "cut off"),
        (data(UP | AT, attested(key=KEY[:-1])), "cut off"),
    ],
)
def test_6_1_what_is_missing_or_follows_is_refused(raw: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        read_authenticator_data(raw)


@given(st.binary(max_size=200), st.integers(0, 255))
def test_whatever_comes_is_read_or_refused(rest: bytes, flags: int) -> None:
    try:
        read = read_authenticator_data(data(flags, rest))
    except ValueError:
        return
    assert read.raw == data(flags, rest)
