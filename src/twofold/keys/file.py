"""The `file:` key provider: a 32-byte master key in a file that only its owner can read, under a passphrase or not.

The file is made on the very first start and never again; without it the database cannot be opened by anybody.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import os
from contextlib import suppress
from pathlib import Path

from twofold.errors import ConfigurationError, KeyRefused, ProviderAway, Unavailable
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys.local import HEADER, KEY_BYTES, NONCE_BYTES, read_base64, unwrap_locally, wrap_locally, write_line
from twofold.keys.protected import PROTECTED_HEADER, open_protected, write_protected
from twofold.ports import Entropy

#: What a disk, a network share or a busy machine may say now and not the next time.
_PASSING = frozenset(
    (
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EIO,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    )
)
_TEXT_MAX = 4096


class FileKeyProvider:
    """Wraps keys with AES-256-GCM under the master key in a file.

    The file is read for each use, and what is in memory counts only while the file holds the very text that it came
    from. It stays there because Argon2 is slow on purpose, and is overwritten by the next one and on `close`: as far
    as Python can, which keeps copies of its own.
    """

    def __init__(self, path: Path, entropy: Entropy, passphrase: str | None) -> None:
        self._path = path
        self._entropy = entropy
        self._passphrase = passphrase
        self._master_key = bytearray()
        #: The digest of the text that `_master_key` was read from, and of the last text whose key was the right one.
        self._read_digest = b""
        self._right_digest = b""

    @classmethod
    def open(cls, path: Path, entropy: Entropy, *, may_create: bool, passphrase: str | None = None) -> FileKeyProvider:
        """The provider of the key file at `path`; `may_create` only while the database is new.

        Raises `ConfigurationError`, one line that says what to do, when the file is missing, unreadable, not a key or
        not under this passphrase.
        """
        if passphrase == "":  # and not only missing: somebody meant to set one
            raise ConfigurationError(f"the passphrase of the master key {path} is empty: set one, or none at all")
        try:
            if not path.exists():
                if not may_create:
                    raise ConfigurationError(
                        f"the master key {path} is missing: put back the file that belongs to this database"
                    )
                _create(path, _write(entropy.bytes(KEY_BYTES), passphrase, entropy), entropy)
        except OSError as error:
            step = "made" if may_create else "read"
            raise ConfigurationError(f"the master key {path} cannot be {step} ({error.strerror})") from None
        provider = cls(path, entropy, passphrase)
        try:
            provider._load()
        except Unavailable as error:
            raise ConfigurationError(str(error)) from None
        provider._right_digest = provider._read_digest
        return provider

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        """Nonce and ciphertext; never under a key that has not yet opened anything of this database."""
        master_key = self._load()
        self._check_right(self._read_digest)
        return Wrapping(wrap_locally(master_key, key, key_id=key_id, nonce=self._entropy.bytes(NONCE_BYTES)))

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        """The key; what opens one is the right master key from then on, also after the file was written anew."""
        key = unwrap_locally(self._load(), wrapped, key_id=key_id)
        self._right_digest = self._read_digest
        return Unwrapping(key)

    async def watch(self) -> None:
        """One reading of the file and one digest of it."""
        self._check_right(_digest(_read(self._path)))

    def describe(self) -> str:
        """Where the key is."""
        return f"the master key {self._path}"

    async def close(self) -> None:
        """Forget the master key; the next use would read it again."""
        self._forget()

    def _check_right(self, digest: bytes) -> None:
        if not hmac.compare_digest(digest, self._right_digest):
            raise KeyRefused(f"the master key {self._path} is another one than before: put back the right file")

    def _load(self) -> bytearray:
        text = _read(self._path)
        if not hmac.compare_digest(_digest(text), self._read_digest):
            self._forget()
            self._master_key = bytearray(_unlock(self._path, text, self._passphrase))
            self._read_digest = _digest(text)
        return self._master_key

    def _forget(self) -> None:
        self._read_digest = b""
        self._master_key[:] = bytes(len(self._master_key))


def protect(path: Path, entropy: Entropy, *, old: str | None, new: str | None) -> None:
    """Write the same master key under the passphrase `new` instead of `old`; None: without one.

    The file is at any moment the old one or the new one, whole. Raises `ConfigurationError`, and nothing has changed.
    """
    if new == "":
        raise ConfigurationError("the new passphrase is empty: choose one, or none at all")
    try:
        place = path.resolve(strict=True)  # what a link leads to is replaced, not the link
        text = _write(_unlock(path, _read(place), old), new, entropy)
        draft = _write_draft(place, text, entropy, owned_as=place.stat())
        try:
            draft.replace(place)
        finally:
            draft.unlink(missing_ok=True)
        _sync_folder(place.parent)
    except Unavailable as error:
        raise ConfigurationError(str(error)) from None
    except OSError as error:
        raise ConfigurationError(f"the master key {path} cannot be written anew ({error.strerror})") from None


def _write(master_key: bytes, passphrase: str | None, entropy: Entropy) -> bytes:
    line = write_line(master_key) if passphrase is None else write_protected(master_key, passphrase, entropy)
    return line.encode("ascii")


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_TEXT_MAX)
    except OSError as error:
        if error.errno in _PASSING:
            raise ProviderAway(f"the master key {path} cannot be read now ({error.strerror})") from None
        raise KeyRefused(f"the master key {path} cannot be read ({error.strerror})") from None


def _unlock(path: Path, text: bytes, passphrase: str | None) -> bytes:
    """The master key in the text of a file; raises `KeyRefused`, one line that says what to do."""
    try:
        line = text.decode("ascii").strip()
        if line.startswith(PROTECTED_HEADER):
            if passphrase is None:
                raise KeyRefused(f"the master key {path} is under a passphrase: set TWOFOLD_KEY_PASSPHRASE")
            master_key = open_protected(line, passphrase)
            if master_key is None:
                raise KeyRefused(
                    f"the passphrase does not open the master key {path}: set the right TWOFOLD_KEY_PASSPHRASE"
                )
            return master_key
        if not line.startswith(HEADER):
            raise ValueError
        master_key = read_base64(line.removeprefix(HEADER), KEY_BYTES)
    except ValueError:
        raise KeyRefused(f"the master key {path} is not a Twofold key file") from None
    if passphrase is not None:
        raise KeyRefused(f"the master key {path} is not under a passphrase: take TWOFOLD_KEY_PASSPHRASE away")
    return master_key


def _create(path: Path, text: bytes, entropy: Entropy) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Written whole beside its place and linked there: two first starts at once end with one key, and a crash
    # leaves no half of one.
    draft = _write_draft(path, text, entropy)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _write_draft(path: Path, text: bytes, entropy: Entropy, *, owned_as: os.stat_result | None = None) -> Path:
    # Not the number of the process: in two containers both are the first.
    draft = path.with_name(f".{path.name}.{entropy.bytes(8).hex()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        # Else the server could not read any more what an administrator has written anew as root.
        if owned_as is not None and owned_as.st_uid != os.geteuid():
            os.fchown(descriptor, owned_as.st_uid, owned_as.st_gid)
        os.write(descriptor, text)
        os.fsync(descriptor)
    except OSError:
        draft.unlink()
        raise
    finally:
        os.close(descriptor)
    return draft


def _sync_folder(folder: Path) -> None:
    """A name lasts through a power cut only once its folder was written, too; some network shares cannot do that."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


_: type[KeyProvider] = FileKeyProvider
