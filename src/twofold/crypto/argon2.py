"""Argon2id (RFC 9106) as one function; slow on purpose, so it runs in a pool and never inside a decision."""

from __future__ import annotations

import msgspec
from argon2.low_level import Type, hash_secret_raw

DIGEST_BYTES = 32
SALT_BYTES = 16


class Argon2(msgspec.Struct, frozen=True, array_like=True):
    """Parameters: passes, memory in KiB, lanes."""

    time_cost: int
    memory_kib: int
    parallelism: int

    def digest(self, secret: bytes, salt: bytes) -> bytes:
        """The 32-byte digest; about 22 ms with `RECOMMENDED`."""
        return hash_secret_raw(secret, salt, self.time_cost, self.memory_kib, self.parallelism, DIGEST_BYTES, Type.ID)


#: OWASP ASVS 5.0 appendix C: 19 MiB, two passes, one lane.
RECOMMENDED = Argon2(2, 19 * 1024, 1)
ONLY_FOR_TESTING = Argon2(1, 8, 1)
