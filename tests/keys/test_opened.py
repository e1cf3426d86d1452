import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.keys.opened import LEASE_S, LEASE_USES, OpenedKey, wipe

START = 1_700_000_000_000_000
SECOND = 1_000_000
NONCE = b"n" * 12


def test_a_key_in_a_form_that_can_be_overwritten_is_overwritten() -> None:
    buffer, fixed = bytearray(b"k" * 32), b"k" * 32
    wipe(buffer)
    wipe(fixed)
    assert buffer == bytes(32)
    assert fixed == b"k" * 32


def test_the_cipher_works_after_its_key_was_overwritten() -> None:
    buffer = bytearray(b"k" * 32)
    opened = OpenedKey(buffer, START)
    wipe(buffer)
    assert AESGCM(b"k" * 32).decrypt(NONCE, opened.use().encrypt(NONCE, b"x", b""), b"") == b"x"


@pytest.mark.parametrize(
    ("after_s", "is_good", "is_due"),
    [
        (-1, False, True),
        (0, True, False),
        (LEASE_S // 2 - 1, True, False),
        (LEASE_S // 2, True, True),
        (LEASE_S - 1, True, True),
        (LEASE_S, False, True),
    ],
)
def test_it_is_good_for_its_time_and_due_in_the_second_half(after_s: int, is_good: bool, is_due: bool) -> None:
    opened = OpenedKey(b"k" * 32, START)
    now = START + after_s * SECOND
    assert (opened.is_good(now), opened.is_due(now)) == (is_good, is_due)


@pytest.mark.parametrize(
    ("uses", "is_good", "is_due"),
    [
        (0, True, False),
        (LEASE_USES // 2, True, False),
        (LEASE_USES // 2 + 1, True, True),
        (LEASE_USES - 1, True, True),
        (LEASE_USES, False, True),
    ],
)
def test_it_is_good_for_its_uses_and_due_in_the_second_half(uses: int, is_good: bool, is_due: bool) -> None:
    opened = OpenedKey(b"k" * 32, START)
    for _ in range(uses):
        opened.use()
    assert (opened.is_good(START), opened.is_due(START)) == (is_good, is_due)


def test_renewed_it_has_its_whole_time_and_all_its_uses_again() -> None:
    opened = OpenedKey(b"k" * 32, START)
    for _ in range(LEASE_USES // 2 + 1):
        opened.use()
    later = START + 2 * LEASE_S * SECOND
    opened.renew(later)
    assert opened.until == later + LEASE_S * SECOND
    assert opened.is_good(later)
    assert not opened.is_due(later)
