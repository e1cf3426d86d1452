"""A whole deployment in one file that a passphrase opens: the database, the keys where they are ours, the settings.

The file is a parcel (`twofold.crypto.parcel`) around a manifest and the files that it lists. Bringing a deployment back
is the business of `twofold.restoring`; what is copied while a server writes is one state of the database.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
import unicodedata
from collections.abc import Container, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import msgspec

from twofold.crypto.argon2 import SALT_BYTES, Argon2
from twofold.crypto.parcel import STRONG, Parcel
from twofold.errors import InvalidInput, Refused, Unavailable
from twofold.keys.env import DEFAULT_NAME
from twofold.keys.local import HEADER
from twofold.keys.uri import read_uri
from twofold.ports import Clock, Entropy
from twofold.stores._sqlite_file import connect

Name = Literal["twofold.db", "twofold.key", "twofold.toml"]
DATABASE: Name = "twofold.db"
KEY: Name = "twofold.key"
SETTINGS: Name = "twofold.toml"
PIECE_BYTES = 1 << 20
PASSPHRASE_LENGTH_MIN = 12
PASSPHRASE_BYTES_MAX = 1024
#: How often a copy under way looks whether somebody wants it to end: some hundred times a second.
_STEPS_BETWEEN_LOOKS = 100_000
_SIZE = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"
# Accounts of people only; and not the uses of keys, of which this backup is one itself.
_COUNTS = """
    SELECT (SELECT count(*) FROM accounts WHERE id >= '!' AND state <> 'deleted'), count(*),
        coalesce(max(at) FILTER (WHERE account_id <> ' keys'), 0)
    FROM events"""


class Enclosed(msgspec.Struct, frozen=True):
    """One file in a backup."""

    name: Name
    size: Annotated[int, msgspec.Meta(ge=0)]


class Manifest(msgspec.Struct, frozen=True):
    """How a backup begins. Times in microseconds; `key_provider` is the address of the master key. The files follow in
    this order, and nothing behind them."""

    version: str
    schema: int
    made_at: int
    accounts: int
    events: int
    newest_event_at: int
    key_provider: str
    files: tuple[Enclosed, ...]

    def holds(self, name: Name) -> bool:
        """Whether the file is in it."""
        return any(enclosed.name == name for enclosed in self.files)


def check_passphrase(passphrase: str, *, common: Container[str]) -> bytes:
    """The bytes of a passphrase that may be chosen; raises `InvalidInput`. Whoever has the file may guess for ever."""
    read = read_passphrase(passphrase)
    normal = read.decode()
    if len(normal) < PASSPHRASE_LENGTH_MIN:
        raise InvalidInput("passphrase", f"at least {PASSPHRASE_LENGTH_MIN} characters; several words are easiest")
    if normal.casefold() in common or len(set(normal)) < PASSPHRASE_LENGTH_MIN // 2:
        raise InvalidInput("passphrase", "one that is not among the first that are tried")
    return read


def read_passphrase(passphrase: str) -> bytes:
    """A passphrase as bytes, whatever keyboard it was typed on: NFC, UTF-8. Raises `InvalidInput`."""
    try:
        read = unicodedata.normalize("NFC", passphrase).encode()
    except UnicodeEncodeError:
        raise InvalidInput("passphrase", "text that is valid Unicode") from None
    if not 0 < len(read) <= PASSPHRASE_BYTES_MAX:
        raise InvalidInput("passphrase", f"1 to {PASSPHRASE_BYTES_MAX} bytes")
    return read


def read_master_key(key_provider: str, environment: Mapping[str, str]) -> bytes | None:
    """The line of the master key where it is in our hands, as it stands in a key file; None where a service or a device
    holds it. Raises `OSError`; that it opens the database was seen when the deployment was opened."""
    uri = read_uri(key_provider)
    if uri.kind == "file":
        return Path(uri.place).read_bytes()
    if uri.kind == "env":
        text = environment[uri.place or DEFAULT_NAME].strip()
        return f"{HEADER}{text.removeprefix(HEADER)}\n".encode()
    return None


def write_backup(
    database: Path,
    enclosed: Mapping[Name, bytes],
    target: Path,
    *,
    passphrase: bytes,
    key_provider: str,
    version: str,
    clock: Clock,
    entropy: Entropy,
    argon2: Argon2 = STRONG,
) -> Manifest:
    """Write the database and the small files `enclosed` to `target`, which appears when it is complete.

    Raises `Unavailable`, where there is no room too, and `OSError`. The server may go on meanwhile.
    """
    with _copy(database, also_for=target.parent) as copy, closing(_open_copy(copy)) as connection:
        (schema,) = connection.execute("PRAGMA user_version").fetchone()
        accounts, events, newest_event_at = connection.execute(_COUNTS).fetchone()
        files = (
            *(Enclosed(name, len(content)) for name, content in enclosed.items()),
            Enclosed(DATABASE, copy.stat().st_size),
        )
        manifest = Manifest(version, schema, clock.now(), accounts, events, newest_event_at, key_provider, files)
        parcel = Parcel(passphrase, argon2, entropy.bytes(SALT_BYTES))
        with written(target) as file:
            file.write(parcel.header)
            for chunk in parcel.seal(_contents(manifest, enclosed, copy)):
                file.write(chunk)
    return manifest


@contextmanager
def workshop(folder: Path) -> Iterator[Path]:
    """A private folder for what is not finished, gone at the end of the block; what a crash left there goes first.

    Raises `Refused` where another process is at work in it.
    """
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if sys.platform != "win32":
            from fcntl import LOCK_EX, LOCK_NB, flock  # noqa: PLC0415 - there is none on Windows

            try:
                flock(descriptor, LOCK_EX | LOCK_NB)
            except BlockingIOError:
                detail = f"another backup or restore is at work in {folder}: wait for its end"
                raise Refused("conflict", detail) from None
        _empty(folder)
        try:
            yield folder
        finally:
            _empty(folder)
            folder.rmdir()
    finally:
        os.close(descriptor)


@contextmanager
def written(target: Path) -> Iterator[BinaryIO]:
    """A new file, readable by its owner alone, that gets its name when it is complete and on the disk."""
    draft = target.with_name(f"{target.name}.draft")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
        sync_folder(target.parent)
    finally:
        draft.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_room(*needs: tuple[Path, int]) -> None:
    """Raise `Unavailable` unless each folder has room for so many bytes; those of one file system are added up."""
    wanted: dict[int, int] = {}
    for folder, size in needs:
        device = folder.stat().st_dev
        wanted[device] = wanted.get(device, 0) + size
        free = shutil.disk_usage(folder).free
        if free < wanted[device]:
            needed = f"{_in_megabytes(wanted[device])} are needed, {_in_megabytes(free)} are free"
            raise Unavailable(f"there is not enough room in {folder}: {needed}")


@contextmanager
def _copy(database: Path, *, also_for: Path) -> Iterator[Path]:
    """One state of the database as a file of its own, beside it: no other place may hold it unsealed."""
    with workshop(database.with_name(f"{database.name}.backing-up")) as folder:
        copy = folder / DATABASE
        try:
            with closing(connect(database, cache_kib=2048)) as connection:
                (size,) = connection.execute(_SIZE).fetchone()
                check_room((folder, size), (also_for, size))
                # Python looks for signals only between its own steps: else a copy of minutes would not end before.
                connection.set_progress_handler(lambda: 0, _STEPS_BETWEEN_LOOKS)
                os.close(os.open(copy, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                connection.execute("VACUUM INTO ?", (str(copy),))
        except sqlite3.Error as error:
            raise Unavailable(f"the database {database} cannot be copied: {error}") from None
        yield copy


def _open_copy(copy: Path) -> sqlite3.Connection:
    # Nobody else writes it, so it is read as it lies there and no files appear beside it.
    return sqlite3.connect(f"{copy.absolute().as_uri()}?immutable=1", uri=True)


def _contents(manifest: Manifest, enclosed: Mapping[Name, bytes], copy: Path) -> Iterator[bytes]:
    head = msgspec.json.encode(manifest)
    yield len(head).to_bytes(4) + head
    yield from enclosed.values()
    with copy.open("rb") as file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _in_megabytes(size: int) -> str:
    return f"{-(-size // 1_000_000)} MB"
