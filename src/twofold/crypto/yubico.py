"""The block of a Yubico OTP: what a YubiKey encrypts at each touch. Here it is opened and its counters are read.

Nothing here knows public ids, how a block is typed, or which one came last.
"""

from __future__ import annotations

from hmac import compare_digest

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

AES_KEY_BYTES = 16
PRIVATE_ID_BYTES = 6
#: What the checksum of ISO 13239 leaves over a block that carries its own.
_RESIDUE = 0xF0B8


def read_use(block: bytes, *, aes_key: bytes, private_id: bytes) -> int | None:
    """How often the key was used when it made this block (16 bytes): a number that grows with every touch.

    None if the block is not of the key with this AES key (16 bytes) and private id (6 bytes).
    """
    # One block that never comes twice, as the device does it: there is nothing to chain.
    decryptor = Cipher(algorithms.AES(aes_key), modes.ECB()).decryptor()  # noqa: S305
    plain = decryptor.update(block) + decryptor.finalize()
    if _checksum(plain) != _RESIDUE or not compare_digest(plain[:PRIVATE_ID_BYTES], private_id):
        return None
    # The highest bit of the power-ups says that Caps Lock had set the key off, and counts nothing.
    power_ups = int.from_bytes(plain[6:8], "little") & 0x7FFF
    touches = plain[11]
    return power_ups << 8 | touches


def _checksum(block: bytes) -> int:
    """CRC-16 of ISO 13239, lowest bit first. It guards against accidents; the private id is what nobody can guess."""
    rest = 0xFFFF
    for byte in block:
        rest ^= byte
        for _ in range(8):
            rest = rest >> 1 ^ 0x8408 if rest & 1 else rest >> 1
    return rest
