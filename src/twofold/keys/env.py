"""The `env:` key provider: a master key in an environment variable, for platforms that keep their secrets there.

It is never made here and never shown. What opens a key file without a passphrase opens the same database from here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from twofold.errors import ConfigurationError
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys.local import HEADER, KEY_BYTES, NONCE_BYTES, read_base64, unwrap_locally, wrap_locally
from twofold.keys.secret import read_secret
from twofold.keys.uri import KeyUri
from twofold.ports import Entropy

DEFAULT_NAME = "TWOFOLD_MASTER_KEY"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class EnvKeyProvider:
    """Wraps keys with AES-256-GCM under a master key that came with the start of this program."""

    def __init__(self, name: str, master_key: bytes, entropy: Entropy) -> None:
        self._name = name
        self._master_key = master_key
        self._entropy = entropy

    @classmethod
    def open(cls, uri: KeyUri, entropy: Entropy, environment: Mapping[str, str]) -> EnvKeyProvider:
        """The provider of `env:` or `env:NAME`; raises `ConfigurationError`, which never repeats what is in there."""
        uri.check_options()
        name = uri.place or DEFAULT_NAME
        if not _NAME.fullmatch(name):
            raise ConfigurationError("KEY_PROVIDER env: expected the name of a variable, such as env:MY_MASTER_KEY")
        text = (read_secret(environment, name) or "").strip()
        if not text:
            raise ConfigurationError(
                f"{name} is not set: put the master key of this database there; "
                f"for a new one, make it once with: openssl rand -base64 {KEY_BYTES}"
            )
        try:
            master_key = read_base64(text.removeprefix(HEADER), KEY_BYTES)
        except ValueError:
            raise ConfigurationError(
                f"{name} is not a master key: expected {KEY_BYTES} bytes in base64, as `openssl rand -base64 "
                f"{KEY_BYTES}` writes them, or the line of a key file without a passphrase"
            ) from None
        return cls(name, master_key, entropy)

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        nonce = self._entropy.bytes(NONCE_BYTES)
        return Wrapping(wrap_locally(self._master_key, key, key_id=key_id, nonce=nonce))

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        return Unwrapping(unwrap_locally(self._master_key, wrapped, key_id=key_id))

    async def watch(self) -> None:
        """Nothing can be seen: an environment does not change under a running program."""

    def describe(self) -> str:
        return f"the master key in {self._name}"

    async def close(self) -> None:
        """Nothing is open."""


_: type[KeyProvider] = EnvKeyProvider
