import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.crypto.digest import HmacKey, MacKeys, length_prefixed

PARTS = st.lists(st.binary(max_size=40), max_size=5)


@given(PARTS, PARTS)
def test_different_parts_never_share_one_encoding(one: list[bytes], two: list[bytes]) -> None:
    assert (length_prefixed(*one) == length_prefixed(*two)) == (one == two)


def test_parts_cannot_move_from_one_to_the_next() -> None:
    assert length_prefixed(b"ab", b"c") != length_prefixed(b"a", b"bc")
    assert length_prefixed(b"a", b"") != length_prefixed(b"a")
    assert length_prefixed() == b""


@given(st.binary(max_size=200), PARTS)
def test_rfc2104_the_code_is_the_standard_librarys_hmac(key: bytes, parts: list[bytes]) -> None:
    message = length_prefixed(*parts)
    assert HmacKey(key).digest(*parts) == hmac.digest(key, message, "sha256")


def test_a_key_longer_than_the_block_is_hashed_first() -> None:
    long = b"k" * 65
    assert HmacKey(long).digest(b"x") == HmacKey(hashlib.sha256(long).digest()).digest(b"x")
    assert HmacKey(b"k" * 64).digest(b"x") == hmac.digest(b"k" * 64, length_prefixed(b"x"), "sha256")


def test_a_key_can_be_used_again_and_again() -> None:
    key = HmacKey(b"k")
    assert [key.digest(b"x") for _ in range(3)] == [key.digest(b"x")] * 3


KEYS = {"mac-1": b"1" * 32, "mac-2": b"2" * 32}


def test_a_code_carries_the_id_of_its_key_and_any_key_that_is_held_checks_it() -> None:
    old = MacKeys(KEYS, signing="mac-1")
    new = MacKeys(KEYS, signing="mac-2")
    mac = old.sign(b"a", b"b")
    assert mac.startswith(b"mac-1\0")
    assert new.is_signed(mac, b"a", b"b")
    assert new.sign(b"a", b"b").startswith(b"mac-2\0")
    assert not MacKeys({"mac-2": KEYS["mac-2"]}, signing="mac-2").is_signed(mac, b"a", b"b")


@pytest.mark.parametrize("parts", [(b"ab",), (b"b", b"a"), (b"a", b"b", b""), (b"a", b"c"), ()], ids=str)
def test_a_code_over_other_parts_is_wrong(parts: tuple[bytes, ...]) -> None:
    keys = MacKeys(KEYS, signing="mac-1")
    mac = keys.sign(b"a", b"b")
    assert keys.is_signed(mac, b"a", b"b")
    assert not keys.is_signed(mac, *parts)


@pytest.mark.parametrize(
    "forge",
    [
        lambda mac: b"",
        lambda mac: mac[:-1],
        lambda mac: mac + b"\0",
        lambda mac: mac.replace(b"mac-1", b"mac-2"),
        lambda mac: mac.replace(b"mac-1", b"mac-9"),
        lambda mac: mac.partition(b"\0")[2],
        lambda mac: mac[:-1] + bytes((mac[-1] ^ 1,)),
    ],
)
def test_a_forged_code_is_wrong(forge: object) -> None:
    keys = MacKeys(KEYS, signing="mac-1")
    mac = keys.sign(b"a")
    assert not keys.is_signed(forge(mac), b"a")  # type: ignore[operator]
    assert keys.is_signed(mac, b"a")


def test_a_signing_key_that_is_not_there_is_a_mistake_at_once() -> None:
    with pytest.raises(KeyError):
        MacKeys(KEYS, signing="mac-3")
