"""The data keys of single seeds: made and opened by the provider for one attempt, and gone with it."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.crypto.seal import KEY_BYTES, OwnKey
from twofold.keys.masters import Masters
from twofold.keys.opened import wipe
from twofold.ports import Entropy


class SeedKey(NamedTuple):
    """The data key of a single seed, opened, and how it is stored."""

    cipher: AESGCM
    own: OwnKey


class SeedKeys:
    """Those that attempts under way need. One that comes while another holds the same key shares it."""

    def __init__(self, masters: Masters, entropy: Entropy) -> None:
        self._masters = masters
        self._entropy = entropy
        self._held: dict[str, SeedKey] = {}
        self._holders: Counter[str] = Counter()

    def find(self, name: str) -> SeedKey | None:
        """The key held under this name."""
        return self._held.get(name)

    async def fetch(self, name: str, own: OwnKey | None, *, subject: str) -> None:
        """Hold a key until `drop`: the stored one of a seed, or a new one where there is none. `subject`: the account.

        Raises `KeyRefused`, `ProviderAway`.
        """
        if name not in self._held:
            key = await (self._make(subject) if own is None else self._open(own, subject))
            self._held.setdefault(name, key)
        self._holders[name] += 1

    def drop(self, name: str) -> None:
        """One attempt is over; with the last one the key goes, and OpenSSL overwrites its copy."""
        self._holders[name] -= 1
        if not self._holders[name]:
            del self._holders[name], self._held[name]

    async def _make(self, subject: str) -> SeedKey:
        key, master = bytearray(self._entropy.bytes(KEY_BYTES)), self._masters.active
        key_id = f"seed-{self._entropy.bytes(8).hex()}"
        wrapped = await self._masters.wrap(bytes(key), key_id=key_id, master=master, reason="new seed", subject=subject)
        return _opened(key, OwnKey(key_id, master, wrapped))

    async def _open(self, own: OwnKey, subject: str) -> SeedKey:
        key_id, master = own.key_id, own.master
        key = await self._masters.unwrap(own.wrapped, key_id=key_id, master=master, reason="seed", subject=subject)
        return _opened(key, own)


def _opened(key: bytes | bytearray, own: OwnKey) -> SeedKey:
    cipher = AESGCM(key)
    wipe(key)
    return SeedKey(cipher, own)
