from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.crypto.argon2 import ONLY_FOR_TESTING, RECOMMENDED, Argon2
from twofold.crypto.parcel import CHUNK_BYTES, HEADER_BYTES, STRONG, TAG_BYTES, Parcel, ParcelUnreadable

PASSPHRASE = b"correct horse battery staple"
SALT = b"s" * 16
SEALED_CHUNK = CHUNK_BYTES + TAG_BYTES


def close(plain: bytes, *, passphrase: bytes = PASSPHRASE, salt: bytes = SALT) -> bytes:
    parcel = Parcel(passphrase, ONLY_FOR_TESTING, salt)
    return parcel.header + b"".join(parcel.seal([plain]))


def unpack(sealed: bytes, passphrase: bytes = PASSPHRASE) -> bytes:
    parcel = Parcel.read(sealed[:HEADER_BYTES], passphrase)
    return b"".join(parcel.unseal([sealed[HEADER_BYTES:]]))


def refusal(sealed: bytes, passphrase: bytes = PASSPHRASE) -> str:
    with pytest.raises(ParcelUnreadable) as unreadable:
        unpack(sealed, passphrase)
    return str(unreadable.value)


def pieces(data: bytes, length: int) -> Iterable[bytes]:
    return (data[at : at + length] for at in range(0, len(data), length))


@pytest.mark.parametrize(
    "length", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES + 5]
)
def test_what_was_sealed_comes_out_whatever_its_length(length: int) -> None:
    plain = bytes(n % 251 for n in range(length))
    sealed = close(plain)
    assert unpack(sealed) == plain
    chunks = max(1, -(-length // CHUNK_BYTES))
    assert len(sealed) == HEADER_BYTES + length + chunks * TAG_BYTES


@given(st.binary(max_size=400), st.integers(1, 90), st.integers(1, 90))
def test_how_the_bytes_arrive_makes_no_difference(plain: bytes, cut_in: int, cut_out: int) -> None:
    parcel = Parcel(PASSPHRASE, ONLY_FOR_TESTING, SALT)
    sealed = b"".join(parcel.seal(pieces(plain, cut_in)))
    assert parcel.header + sealed == close(plain)
    assert b"".join(parcel.unseal(pieces(sealed, cut_out))) == plain


def test_it_streams_one_chunk_behind_and_keeps_no_more() -> None:
    taken = 0

    def source() -> Iterable[bytes]:
        nonlocal taken
        for _ in range(50):
            taken += 1
            yield bytes(CHUNK_BYTES)

    parcel = Parcel(PASSPHRASE, ONLY_FOR_TESTING, SALT)
    ahead = [taken - number for number, _ in enumerate(parcel.unseal(parcel.seal(source())), 1)]
    assert max(ahead) <= 2


@pytest.mark.parametrize("byte", range(HEADER_BYTES + 40 + TAG_BYTES))
def test_no_bit_of_it_can_be_changed(byte: int) -> None:
    sealed = close(bytes(40))
    assert unpack(sealed) == bytes(40)
    for bit in range(8):
        # A changed header may ask for work within bounds; what it asks for is never done on the plaintext.
        if byte in range(16, 28) and bit > 1:
            continue
        refusal(sealed[:byte] + bytes([sealed[byte] ^ 1 << bit]) + sealed[byte + 1 :])


def test_no_chunk_can_be_changed_at_its_ends_or_in_its_tag() -> None:
    sealed = close(bytes(3 * CHUNK_BYTES))
    for chunk in range(3):
        start = HEADER_BYTES + chunk * SEALED_CHUNK
        for at in (start + by for by in (0, CHUNK_BYTES // 2, CHUNK_BYTES - 1, CHUNK_BYTES, SEALED_CHUNK - 1)):
            changed = bytearray(sealed)
            changed[at] ^= 1
            assert f"behind byte {start}" in refusal(bytes(changed))


@pytest.mark.parametrize("length", [10, CHUNK_BYTES, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 7])
def test_nothing_can_be_cut_off_or_put_behind_it(length: int) -> None:
    sealed = close(bytes(length))
    ends = [HEADER_BYTES + SEALED_CHUNK * n for n in range(4)]
    near = {end + by for end in ends for by in (-TAG_BYTES, -1, 0, 1, TAG_BYTES)}
    for end in (*sorted(end for end in near if end < len(sealed)), len(sealed) - 1):
        refusal(sealed[:end])
    for more in (b"\0", bytes(TAG_BYTES), bytes(SEALED_CHUNK), sealed[-SEALED_CHUNK:], sealed):
        refusal(sealed + more)
    assert unpack(sealed) == bytes(length)


def test_chunks_can_not_be_exchanged_repeated_or_left_out() -> None:
    sealed = close(b"".join(bytes([n]) * CHUNK_BYTES for n in range(4)))
    header, chunks = sealed[:HEADER_BYTES], list(pieces(sealed[HEADER_BYTES:], SEALED_CHUNK))
    assert unpack(header + b"".join(chunks)) != b""
    for number, (one, other) in enumerate(pairwise(chunks)):
        swapped = [*chunks[:number], other, one, *chunks[number + 2 :]]
        repeated = [*chunks[: number + 1], *chunks[number:]]
        left_out = chunks[:number] + chunks[number + 1 :]
        for rearranged in (swapped, repeated, left_out):
            refusal(header + b"".join(rearranged))


def test_chunks_of_another_parcel_do_not_fit_though_the_passphrase_is_the_same() -> None:
    plain = bytes(2 * CHUNK_BYTES)
    ours, others = close(plain), close(plain, salt=b"t" * 16)
    middle = HEADER_BYTES + SEALED_CHUNK
    refusal(ours[:middle] + others[middle:])
    refusal(ours[:HEADER_BYTES] + others[HEADER_BYTES:])
    assert ours[HEADER_BYTES:] != others[HEADER_BYTES:]


def test_another_passphrase_opens_nothing_and_is_told_before_any_chunk() -> None:
    sealed = close(b"secret")
    assert unpack(sealed) == b"secret"
    for wrong in (b"", PASSPHRASE[:-1], PASSPHRASE + b"!", PASSPHRASE.upper()):
        assert refusal(sealed[:HEADER_BYTES], wrong).startswith("the passphrase is wrong")


@pytest.mark.parametrize("header", [b"", b"PK\3\4", b"SQLite format 3\0" + bytes(60), b"twofold backup"])
def test_another_kind_of_file_is_told_from_a_damaged_one(header: bytes) -> None:
    assert refusal(header) == "this is no backup of Twofold"


def test_a_form_to_come_asks_for_a_newer_program() -> None:
    assert "use a newer Twofold" in refusal(b"twofold backup 2" + close(b"")[16:])


@pytest.mark.parametrize(
    "asked",
    [
        (1, 4 * 1024 * 1024, 1),  # 4 GiB
        (1, 256 * 1024 + 1, 1),
        (1, 2**32 - 1, 1),
        (17, 8, 1),
        (2**32 - 1, 8, 1),
        (0, 8, 1),
        (1, 1024, 17),
        (1, 8, 0),
        (1, 7, 1),
        (1, 0, 0),
    ],
)
def test_a_hostile_header_gets_neither_gigabytes_nor_hours(
    asked: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object) -> bytes:
        raise AssertionError("it was asked to work")

    monkeypatch.setattr(Argon2, "digest", work)
    numbers = b"".join(number.to_bytes(4) for number in asked)
    header = b"twofold backup 1" + numbers + bytes(HEADER_BYTES - 28)
    assert refusal(header) == "the backup is damaged: its header makes no sense"


def test_the_parameters_come_from_the_header_and_are_no_weaker_than_for_passwords() -> None:
    parcel = Parcel(PASSPHRASE, Argon2(2, 16, 2), SALT)
    assert Parcel.read(parcel.header, PASSPHRASE).header == parcel.header
    assert STRONG.memory_kib >= RECOMMENDED.memory_kib
    assert STRONG.time_cost >= RECOMMENDED.time_cost
