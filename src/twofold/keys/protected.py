"""A master key under a passphrase, as one line of text: Argon2id makes the key that seals it with AES-256-GCM.

    twofold-master-key-2 argon2id,t=2,m=19456,p=1 <salt> <nonce> <sealed master key>

All that stands before the sealed key is its additional data, so nothing of it can be exchanged.
"""

from __future__ import annotations

import base64
import re
import unicodedata

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.crypto.argon2 import RECOMMENDED, SALT_BYTES, Argon2
from twofold.keys.local import KEY_BYTES, NONCE_BYTES, read_base64
from twofold.ports import Entropy

PROTECTED_HEADER = "twofold-master-key-2 "
_TAG_BYTES = 16
_LINE = re.compile(rf"{PROTECTED_HEADER}argon2id,t=(\d{{1,2}}),m=(\d{{1,7}}),p=(\d{{1,2}}) (\S+) (\S+) (\S+)")
#: 256 MiB: a file that asks for more is broken, and would take the whole machine.
_KIB_MAX = 1 << 18


def write_protected(master_key: bytes, passphrase: str, entropy: Entropy, argon2: Argon2 = RECOMMENDED) -> str:
    """The line of a master key under a passphrase."""
    salt, nonce = entropy.bytes(SALT_BYTES), entropy.bytes(NONCE_BYTES)
    parameters = f"argon2id,t={argon2.time_cost},m={argon2.memory_kib},p={argon2.parallelism}"
    head = f"{PROTECTED_HEADER}{parameters} {_base64(salt)} {_base64(nonce)}"
    sealed = AESGCM(argon2.digest(_prepare(passphrase), salt)).encrypt(nonce, master_key, head.encode())
    return f"{head} {_base64(sealed)}\n"


def open_protected(line: str, passphrase: str) -> bytes | None:
    """The master key, or None when it is not under this passphrase; raises `ValueError` for what is no such line."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError("not the line of a protected key")
    argon2 = Argon2(*map(int, match.group(1, 2, 3)))
    # RFC 9106 §3.1: at least one pass and one lane, and 8 KiB for each lane.
    if not argon2.time_cost or not argon2.parallelism or not 8 * argon2.parallelism <= argon2.memory_kib <= _KIB_MAX:
        raise ValueError("no parameters of Argon2")
    salt, nonce = read_base64(match[4], SALT_BYTES), read_base64(match[5], NONCE_BYTES)
    sealed = read_base64(match[6], KEY_BYTES + _TAG_BYTES)
    try:
        return AESGCM(argon2.digest(_prepare(passphrase), salt)).decrypt(
            nonce, sealed, line.rpartition(" ")[0].encode()
        )
    except InvalidTag:
        return None


def _prepare(passphrase: str) -> bytes:
    # The same letters typed elsewhere may come as other code points.
    return unicodedata.normalize("NFC", passphrase).encode("utf-8", "surrogatepass")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
