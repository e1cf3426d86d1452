"""Data keys as they are in memory: opened for a while and for a number of uses, overwritten where that can be done."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

#: How long an unwrapped data key may serve before the provider is asked again, and how often.
LEASE_S = 900
LEASE_USES = 1 << 20
_MICROS = 1_000_000


def wipe(key: bytes | bytearray) -> None:
    """Overwrite a key that is not needed any more, where it was given in a form that can be."""
    if isinstance(key, bytearray):
        key[:] = bytes(len(key))


class OpenedKey:
    """A data key that was unwrapped at `now`. The cipher holds a copy, which OpenSSL overwrites when it goes."""

    __slots__ = ("_half", "_until", "_uses", "cipher")

    def __init__(self, key: bytes | bytearray, now: int) -> None:
        self.cipher: AESGCM = AESGCM(key)
        self.renew(now)

    def renew(self, now: int) -> None:
        """The provider has just opened it again."""
        self._half = now + LEASE_S * _MICROS // 2
        self._until = now + LEASE_S * _MICROS
        self._uses = LEASE_USES

    def is_good(self, now: int) -> bool:
        """Whether it may still serve. A clock that was set back ends it, too: nobody knows for how long it was."""
        return self._uses > 0 and self._until - LEASE_S * _MICROS <= now < self._until

    def is_due(self, now: int) -> bool:
        """Whether half of its time or of its uses is gone: time to ask the provider, while it still serves."""
        return self._uses < LEASE_USES // 2 or now >= self._half or not self.is_good(now)

    def use(self) -> AESGCM:
        """The cipher, for one use."""
        self._uses -= 1
        return self.cipher

    @property
    def until(self) -> int:
        """When its time ends, in microseconds."""
        return self._until
