"""The arithmetic of one-time passwords: HOTP (RFC 4226) and the time steps of TOTP (RFC 6238).

Nothing here knows which codes were used already, how wide a window is or what a wrong guess costs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from hmac import compare_digest
from struct import Struct
from typing import Literal

Algorithm = Literal["SHA1", "SHA256", "SHA512"]

DIGITS_MIN, DIGITS_MAX = 6, 8
# A code must change at least every two minutes (NIST SP 800-63B-4 §3.1.4.1).
PERIOD_S_MIN, PERIOD_S_MAX = 15, 120
# The RFC's counter has 64 bits; the databases that keep it have signed integers.
COUNTER_MAX = 2**63 - 1

# Each hash function with its block size in bytes. SHA-1 is safe here: HMAC does not rest on collision resistance.
_HASHES: dict[Algorithm, tuple[Callable[[bytes], hashlib._Hash], int]] = {
    "SHA1": (hashlib.sha1, 64),
    "SHA256": (hashlib.sha256, 64),
    "SHA512": (hashlib.sha512, 128),
}
_XOR_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_XOR_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))
_UINT32 = Struct(">I")


def code_at(secret: bytes, counter: int, *, digits: int = 6, algorithm: Algorithm = "SHA1") -> str:
    """The code of one counter, as text with its leading zeros (RFC 4226 §5.3).

    `counter` is any number of 64 bits without a sign; others raise OverflowError.
    """
    inner, outer = _keyed_hashes(secret, algorithm)
    return f"{_truncated_hmac(inner, outer, counter) % 10**digits:0{digits}d}"


def matching_counters(
    secret: bytes, code: str, counters: Iterable[int], *, digits: int = 6, algorithm: Algorithm = "SHA1"
) -> tuple[int, ...]:
    """Those of `counters` whose code is `code`, in the order given.

    Never raises for what a person may send: a `code` that is not exactly `digits` of the characters 0 to 9 matches
    nothing, and counters below 0 or above COUNTER_MAX are skipped.
    """
    # The HMAC under an empty key is known to everybody, and isdigit() alone admits the digits of every script.
    if not secret or len(code) != digits or not (code.isascii() and code.isdigit()):
        return ()
    inner, outer = _keyed_hashes(secret, algorithm)
    modulus = 10**digits
    sent = _UINT32.pack(int(code))
    matching = []
    # Every candidate is computed and compared in constant time, so the answer's delay does not tell which one matched.
    for counter in counters:
        if 0 <= counter <= COUNTER_MAX:
            candidate = _UINT32.pack(_truncated_hmac(inner, outer, counter) % modulus)
            if compare_digest(candidate, sent):
                matching.append(counter)
    return tuple(matching)


def step_at(now_s: float, period_s: int) -> int:
    """The time step that holds the Unix time `now_s` (RFC 6238 §4.2, with T0 = 0)."""
    return int(now_s // period_s)


def _keyed_hashes(secret: bytes, algorithm: Algorithm) -> tuple[hashlib._Hash, hashlib._Hash]:
    """The inner and the outer hash of HMAC, fed with the padded key only (RFC 2104 §2 and §4).

    A window of candidates copies these two: three times faster than a new `hmac.digest` for each.
    """
    new_hash, block_size = _HASHES[algorithm]
    if len(secret) > block_size:
        secret = new_hash(secret).digest()
    key = secret.ljust(block_size, b"\0")
    return new_hash(key.translate(_XOR_INNER_PAD)), new_hash(key.translate(_XOR_OUTER_PAD))


def _truncated_hmac(inner: hashlib._Hash, outer: hashlib._Hash, counter: int) -> int:
    """HMAC over the counter, then dynamic truncation to 31 bits (RFC 4226 §5.3, steps 1 and 2)."""
    inner = inner.copy()
    inner.update(counter.to_bytes(8, "big"))
    outer = outer.copy()
    outer.update(inner.digest())
    digest = outer.digest()
    number: int = _UINT32.unpack_from(digest, digest[-1] & 0x0F)[0]
    return number & 0x7FFF_FFFF
