"""The `file:` key provider: a 32-byte master key in a file that only its owner can read.

The file is made on the very first start and never again; without it the database cannot be opened by anybody.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.crypto.digest import length_prefixed
from twofold.errors import ConfigurationError, Unavailable
from twofold.ports import Entropy, KeyProvider

_HEADER = "twofold-master-key-1 "
_NONCE_BYTES = 12
_KEY_BYTES = 32


class FileKeyProvider:
    """Wraps keys with AES-256-GCM under the master key in a file, which is read for each use and never kept."""

    def __init__(self, path: Path, entropy: Entropy) -> None:
        self._path = path
        self._entropy = entropy

    @classmethod
    def open(cls, path: Path, entropy: Entropy, *, may_create: bool) -> FileKeyProvider:
        """The provider of the key file at `path`; `may_create` only while the database is new.

        Raises `ConfigurationError`, one line that says what to do, when the file is missing, unreadable or not a key.
        """
        if not path.exists():
            if not may_create:
                raise ConfigurationError(
                    f"the master key {path} is missing: put back the file that belongs to this database"
                )
            try:
                _create(path, entropy.bytes(_KEY_BYTES))
            except OSError as error:
                raise ConfigurationError(f"the master key {path} cannot be made ({error.strerror})") from None
        provider = cls(path, entropy)
        try:
            provider._read()
        except Unavailable as error:
            raise ConfigurationError(str(error)) from None
        return provider

    async def wrap(self, key: bytes, *, key_id: str) -> bytes:
        """Nonce and ciphertext, bound to the key's id."""
        nonce = self._entropy.bytes(_NONCE_BYTES)
        return nonce + self._read().encrypt(nonce, key, _additional_data(key_id))

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> bytes:
        """The key; raises `Unavailable` when the file is gone or holds another master key."""
        try:
            return self._read().decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], _additional_data(key_id))
        except (InvalidTag, TypeError, ValueError):
            raise Unavailable(f"key {key_id} was wrapped by another master key, or changed") from None

    def describe(self) -> str:
        """Where the key is."""
        return f"the master key {self._path}"

    def _read(self) -> AESGCM:
        try:
            text = self._path.read_text("ascii").strip()
            master_key = base64.b64decode(text.removeprefix(_HEADER), validate=True)
        except OSError as error:
            raise Unavailable(f"the master key {self._path} cannot be read ({error.strerror})") from None
        except ValueError:
            raise Unavailable(f"the master key {self._path} is not a Twofold key file") from None
        if not text.startswith(_HEADER) or len(master_key) != _KEY_BYTES:
            raise Unavailable(f"the master key {self._path} is not a Twofold key file")
        return AESGCM(master_key)


def _create(path: Path, master_key: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written whole beside its place and linked there: two first starts at once end with one key, and a crash
    # leaves no half of one.
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.write(descriptor, (_HEADER + base64.b64encode(master_key).decode() + "\n").encode())
        os.fsync(descriptor)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        os.close(descriptor)
        draft.unlink(missing_ok=True)


def _additional_data(key_id: str) -> bytes:
    return length_prefixed(b"twofold/1", b"keyring.wrapped", key_id.encode())


_: type[KeyProvider] = FileKeyProvider
