"""CBOR: what authenticators write is read, and nothing that could be read in two ways (RFC 8949)."""

from typing import Any

import pytest
from fido2 import cbor as written_by_others
from hypothesis import given
from hypothesis import strategies as st

from twofold.factors.cbor import BYTES_MAX, DEPTH_MAX, decode, decode_from

KEYS = st.integers(-(2**64), 2**64 - 1) | st.text(max_size=9) | st.binary(max_size=9)
LEAVES = KEYS | st.booleans() | st.binary(min_size=20, max_size=300)
ITEMS = st.recursive(
    LEAVES, lambda item: st.lists(item, max_size=3) | st.dictionaries(KEYS, item, max_size=3), max_leaves=9
)


def depth(item: Any) -> int:
    match item:
        case dict():
            return 1 + max(map(depth, [0, *item.values()]))
        case list():
            return 1 + max(map(depth, [0, *item]))
    return 0


@pytest.mark.parametrize(
    ("raw", "item"),
    [
        ("00", 0),
        ("17", 23),
        ("1818", 24),
        ("18ff", 255),
        ("190100", 256),
        ("1a00010000", 65536),
        ("1b0000000100000000", 2**32),
        ("1bffffffffffffffff", 2**64 - 1),
        ("20", -1),
        ("3863", -100),
        ("3bffffffffffffffff", -(2**64)),
        ("40", b""),
        ("4401020304", b"\1\2\3\4"),
        ("60", ""),
        ("62c3bc", "ü"),
        ("80", []),
        ("83010203", [1, 2, 3]),
        ("a0", {}),
        ("a201020304", {1: 2, 3: 4}),
        ("a203040102", {1: 2, 3: 4}),
        ("a1414101", {b"A": 1}),
        ("f4", False),
        ("f5", True),
    ],
)
def test_an_item_is_read(raw: str, item: Any) -> None:
    assert decode(bytes.fromhex(raw)) == item
    assert decode_from(bytes.fromhex(raw) + b"\xff") == (item, b"\xff")
    with pytest.raises(ValueError, match="follows"):
        decode(bytes.fromhex(raw) + b"\xff")


@given(ITEMS.filter(lambda item: depth(item) <= DEPTH_MAX))
def test_what_others_write_is_read_and_nothing_shorter(item: Any) -> None:
    raw = written_by_others.encode(item)
    assert decode(raw) == item
    for end in range(len(raw)):
        with pytest.raises(ValueError, match="cut off"):
            decode(raw[:end])


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        # A library reads this as 22 bytes, and writes it with as many bytes again.
        ("57" + "61" * 22, "cut off"),
        ("590201" + "61" * 0x102, "cut off"),
        ("", "cut off"),
        ("18", "cut off"),
        ("1901", "cut off"),
        ("81", "cut off"),
        ("a101", "cut off"),
        ("9bffffffffffffffff", "cut off"),
        ("bbffffffffffffffff", "cut off"),
        ("5bffffffffffffffff", "cut off"),
        ("1817", "padded"),
        ("1900ff", "padded"),
        ("1a0000ffff", "padded"),
        ("1b00000000ffffffff", "padded"),
        ("580161", "padded"),
        ("a201020102", "twice"),
        ("a2616101616102", "twice"),
        ("a1f501", "neither"),
        ("a201010101", "twice"),
        ("a18001", "neither"),
        ("a1a001", "neither"),
        ("5f4101ff", "indefinite"),
        ("9f01ff", "indefinite"),
        ("bf0101ff", "indefinite"),
        ("1c", "indefinite"),
        ("ff", "indefinite"),
        ("f6", "another kind"),
        ("f7", "another kind"),
        ("e0", "another kind"),
        ("f8ff", "another kind"),
        ("f814", "padded"),
        ("f93c00", "another kind"),
        ("fb3ff0000000000000", "another kind"),
        ("c000", "another kind"),
        ("d8184100", "another kind"),
        ("61ff", "codec can't decode"),
        ("62d800", "codec can't decode"),
    ],
)
def test_what_is_not_of_the_form_is_refused(raw: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        decode(bytes.fromhex(raw))


def test_items_nest_a_little() -> None:
    assert decode(b"\x81" * DEPTH_MAX + b"\x00")
    with pytest.raises(ValueError, match="levels"):
        decode(b"\x81" * (DEPTH_MAX + 1) + b"\x00")
    with pytest.raises(ValueError, match="levels"):
        decode(b"\xa1\x00" * (DEPTH_MAX + 1) + b"\x00")
    with pytest.raises(ValueError, match="levels"):
        decode(b"\x81" * BYTES_MAX)


def test_more_than_16_kib_are_not_looked_at() -> None:
    head = b"\x59" + (BYTES_MAX - 3).to_bytes(2, "big")
    assert len(decode(head + bytes(BYTES_MAX - 3))) == BYTES_MAX - 3
    with pytest.raises(ValueError, match="more than"):
        decode_from(head + bytes(BYTES_MAX - 2))


@given(st.binary(max_size=64))
def test_whatever_comes_is_read_or_refused(raw: bytes) -> None:
    try:
        item = decode(raw)
    except ValueError:
        return
    # Once written, there is no second way to write it, but for the order of keys.
    assert len(written_by_others.encode(item)) == len(raw)
