"""Yubico OTP: the 44 characters that a YubiKey types at a touch, each string accepted once.

Twelve characters are the key's public id, the others one AES block with a private id and the key's own counters. They
are checked here, with the key's secrets at hand: no other server is asked. The counters only grow, by success alone.
"""

from __future__ import annotations

import re
from typing import ClassVar

import msgspec

from twofold.core.account import Authenticator
from twofold.core.discreet import Discreet
from twofold.core.factor import MODHEX, Answer, Factor, Finding, Right, Unseal, Used, Wrong
from twofold.crypto.yubico import AES_KEY_BYTES, PRIVATE_ID_BYTES, read_use
from twofold.errors import InvalidInput

PUBLIC_ID_LENGTH = 12
RESTORED_POWER_UPS = 10
_AS_HEX = str.maketrans(MODHEX, "0123456789abcdef")
_PUBLIC_ID = re.compile(f"[{MODHEX}]{{{PUBLIC_ID_LENGTH}}}", re.ASCII | re.IGNORECASE)


class YubicoKey(Discreet, frozen=True):
    """What is programmed into a YubiKey: the public id in modhex, 6 bytes of private id, 16 bytes of AES key."""

    hidden: ClassVar[tuple[str, ...]] = ("private_id", "aes_key")

    public_id: str
    private_id: bytes
    aes_key: bytes

    @property
    def seed(self) -> bytes:
        """What is sealed: private id and AES key, in this order."""
        return self.private_id + self.aes_key


class YubicoOtpCredential(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a YubiKey. `last_use` is where its counters stood in the last accepted string, -1 before it."""

    public_id: str
    sealed_seed: bytes
    last_use: int = -1


_decode = msgspec.msgpack.Decoder(YubicoOtpCredential).decode
_encode = msgspec.msgpack.Encoder().encode


class YubicoOtp:
    """The `yubico_otp` factor."""

    name = "yubico_otp"
    amr: tuple[str, ...] = ("otp",)

    def new_credential(self, public_id: str, sealed_seed: bytes) -> bytes:
        """The credential of a key of which no string was accepted yet."""
        return _encode(YubicoOtpCredential(public_id, sealed_seed))

    def read_credential(self, credential: bytes) -> YubicoOtpCredential:
        """The credential as data."""
        return _decode(credential)

    def reads(self, answer: Answer) -> bool:
        """One string of 44 characters, by its shape."""
        return answer.kind == "yubico_otp"

    def cost_ppm(self, credential: bytes, answer: Answer) -> int:
        """Nothing: a guess has to hit 48 bits of private id and 16 of checksum, so no lane is charged for one."""
        return 0

    def check_answer(self, authenticator: Authenticator, answer: Answer, *, unseal: Unseal, now: int) -> Finding:
        """Judge the string by the key that it names; for the string of another key nothing is opened."""
        credential = _decode(authenticator.credential)
        public_id, block = answer.codes[0][:PUBLIC_ID_LENGTH], answer.codes[0][PUBLIC_ID_LENGTH:]
        if public_id != credential.public_id:
            return Wrong()
        seed = unseal(credential.sealed_seed)
        private_id, aes_key = seed[:PRIVATE_ID_BYTES], seed[PRIVATE_ID_BYTES:]
        use = read_use(bytes.fromhex(block.translate(_AS_HEX)), aes_key=aes_key, private_id=private_id)
        if use is None:
            return Wrong()
        if use <= credential.last_use:
            return Used()
        return Right(_encode(msgspec.structs.replace(credential, last_use=use)))

    def after_restore(self, credential: bytes, now: int) -> bytes:
        """The credential in a restored database: all that the key types before it was plugged in ten times more is
        used. A touch does not tell how many there were since the backup, but each time that the key gets power counts:
        so strings of some days are dead, and whoever used it less plugs it in up to ten times, which costs nothing. All
        strings are dead as ever once a later one was accepted."""
        read = _decode(credential)
        last_use = ((read.last_use >> 8) + RESTORED_POWER_UPS << 8) - 1
        return _encode(msgspec.structs.replace(read, last_use=last_use))


def read_key(public_id: str, private_id: str, aes_key: str) -> YubicoKey:
    """A key as tools write it down: the public id in modhex, the rest in hexadecimal, in capitals or not.

    Raises `InvalidInput` that names `public_id`, `private_id` or `aes_key`, and repeats none of them.
    """
    if not _PUBLIC_ID.fullmatch(public_id):
        raise InvalidInput("public_id", f"{PUBLIC_ID_LENGTH} characters out of {MODHEX}")
    secrets = []
    for field, text, length in (("private_id", private_id, PRIVATE_ID_BYTES), ("aes_key", aes_key, AES_KEY_BYTES)):
        if not re.fullmatch(f"[0-9A-Fa-f]{{{2 * length}}}", text):
            raise InvalidInput(field, f"{2 * length} hexadecimal digits")
        secrets.append(bytes.fromhex(text))
    return YubicoKey(public_id.lower(), *secrets)


_: Factor = YubicoOtp()
