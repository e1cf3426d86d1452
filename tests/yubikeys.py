"""A YubiKey as its owner holds it: types 44 characters at each touch, by arithmetic of its own."""

from dataclasses import dataclass

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from twofold.factors.yubico_otp import YubicoKey

_MODHEX = str.maketrans("0123456789abcdef", "cbdefghijklnrtuv")


def modhex(raw: bytes) -> str:
    return raw.hex().translate(_MODHEX)


def checksum(raw: bytes) -> int:
    """CRC-16 of ISO 13239 by polynomial division over the bits in the order in which they are sent."""
    bits = [byte >> place & 1 for byte in raw for place in range(8)]
    register = [1] * 16
    for bit in bits:
        feedback = register.pop(0) ^ bit
        register.append(0)
        for place in (3, 10, 15):  # x^12, x^5 and 1
            register[place] ^= feedback
    return sum((1 - bit) << place for place, bit in enumerate(register))


@dataclass
class Yubikey:
    """`power_ups` and `touches` are those of the next string. `is_caps_locked`: the bit that old keys set."""

    public_id: str = "cccccccfvtrl"
    private_id: bytes = bytes.fromhex("8792ebfe26cc")
    aes_key: bytes = bytes.fromhex("ecde18dbe76fbd0c33330f1c354871db")
    power_ups: int = 1
    touches: int = 0
    is_caps_locked: bool = False

    @property
    def key(self) -> YubicoKey:
        return YubicoKey(self.public_id, self.private_id, self.aes_key)

    @property
    def csv(self) -> str:
        """Its line as ykman writes it."""
        return f"508326,{self.public_id},{self.private_id.hex()},{self.aes_key.hex()},,2026-03-01T12:00:00,\n"

    def touch(self) -> str:
        """The next string; after 256 of them the key counts as plugged in anew."""
        typed = self.type(self.power_ups, self.touches)
        self.touches += 1
        if self.touches > 0xFF:
            self.plug_in()
        return typed

    def plug_in(self) -> None:
        self.power_ups, self.touches = min(self.power_ups + 1, 0x7FFF), 0

    def type(self, power_ups: int, touches: int) -> str:
        """What it types, or typed, at these counters."""
        flagged = power_ups | self.is_caps_locked << 15
        timer_and_noise = (b"\x30\xc2\x00", b"\xc8\x9f")
        plain = self.private_id + flagged.to_bytes(2, "little") + timer_and_noise[0] + bytes([touches])
        plain += timer_and_noise[1]
        return self.encrypt(plain + checksum(plain).to_bytes(2, "little"))

    def encrypt(self, plain: bytes) -> str:
        """These 16 bytes as it would type them."""
        encryptor = Cipher(algorithms.AES(self.aes_key), modes.ECB()).encryptor()  # noqa: S305 - as the device does it
        return self.public_id + modhex(encryptor.update(plain) + encryptor.finalize())
