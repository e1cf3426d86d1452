import pytest
from tests.yubikeys import Yubikey, checksum

from twofold.crypto.yubico import read_use

_FROM_MODHEX = str.maketrans("cbdefghijklnrtuv", "0123456789abcdef")


def block_of(typed: str) -> bytes:
    """The 16 bytes at the end of what a key types."""
    return bytes.fromhex(typed[-32:].translate(_FROM_MODHEX))


@pytest.mark.parametrize(
    ("typed", "aes_key", "private_id", "power_ups", "touches"),
    [
        # test-vectors.txt of Yubico's libyubikey
        ("dteffujehknhfjbrjnlnldnhcujvddbikngjrtgh", "ecde18dbe76fbd0c33330f1c354871db", "8792ebfe26cc", 19, 17),
        # real keys and made-up ones in the tests of other verifiers
        ("enrlucvketdlfeknvrdggingjvrggeffenhevendbvgd", "4013a2c719c4e9734bbc63048b00e16b", "912a644bbc7b", 1, 0),
        ("iucvrkjiegbhidrcicvlgrcgkgurhjnj", "c4422890653076cde73d449b191b416a", "33c69e7f249e", 1, 0),
        ("dvgtiblfkbgturecfllberrvkinnctnn", "000102030405060708090a0b0c0d0e0f", "010203040506", 1, 1),
        ("rnibcnfhdninbrdebccrndfhjgnhftee", "000102030405060708090a0b0c0d0e0f", "010203040506", 1, 2),
        ("iikkijbdknrrdhfdrjltvgrbkkjblcbh", "000102030405060708090a0b0c0d0e0f", "010203040506", 4095, 1),
    ],
)
def test_yubico_otp_published_vectors(typed: str, aes_key: str, private_id: str, power_ups: int, touches: int) -> None:
    key, secret = bytes.fromhex(aes_key), bytes.fromhex(private_id)
    assert read_use(block_of(typed), aes_key=key, private_id=secret) == power_ups * 256 + touches
    assert read_use(block_of(typed), aes_key=key, private_id=bytes(6)) is None
    assert read_use(block_of(typed), aes_key=bytes(16), private_id=secret) is None


def test_the_key_of_these_tests_types_what_is_published() -> None:
    published = "dteffujehknhfjbrjnlnldnhcujvddbikngjrtgh"
    assert Yubikey("dteffuje").type(19, 17) == published


def test_a_later_touch_has_a_higher_number_whatever_caps_lock_says() -> None:
    plain, locked = Yubikey(), Yubikey(is_caps_locked=True)
    uses = []
    for power_ups, touches in ((0, 0), (0, 1), (0, 255), (1, 0), (1, 9), (0x7FFE, 255), (0x7FFF, 0), (0x7FFF, 255)):
        typed, shouted = plain.type(power_ups, touches), locked.type(power_ups, touches)
        assert typed != shouted
        uses += [read_use(block_of(typed), aes_key=plain.aes_key, private_id=plain.private_id)]
        assert uses[-1] == read_use(block_of(shouted), aes_key=plain.aes_key, private_id=plain.private_id)
    assert uses == sorted(set(uses))


def test_a_block_with_any_bit_changed_is_not_of_the_key() -> None:
    key = Yubikey()
    block = block_of(key.touch())
    assert read_use(block, aes_key=key.aes_key, private_id=key.private_id) == 256
    for bit in range(128):
        changed = bytes(byte ^ (1 << bit % 8 if place == bit // 8 else 0) for place, byte in enumerate(block))
        assert read_use(changed, aes_key=key.aes_key, private_id=key.private_id) is None


def test_a_block_with_the_right_private_id_and_a_wrong_checksum_is_not_of_the_key() -> None:
    key = Yubikey()
    plain = key.private_id + bytes(8)
    right, wrong = checksum(plain), checksum(plain) ^ 1
    for sum_, use in ((right, 0), (wrong, None)):
        typed = key.encrypt(plain + sum_.to_bytes(2, "little"))
        assert read_use(block_of(typed), aes_key=key.aes_key, private_id=key.private_id) == use
