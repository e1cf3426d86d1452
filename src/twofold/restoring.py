"""Bringing a deployment back out of a backup: unpacked and looked at, made safe, moved to its place as the last step.

What is decided on each account is in `twofold.core.restoration`. Nothing here overwrites a file.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import chain
from pathlib import Path
from typing import BinaryIO

import msgspec

from twofold.backup import DATABASE, PIECE_BYTES, Manifest, check_room, sync_folder, written
from twofold.core.account import DEPLOYMENT, FIRST_PERSON, RECOVERY, Account, Authenticator
from twofold.core.attempt import Call
from twofold.core.codec import Codec
from twofold.core.entropy import SEED_BYTES, Seed
from twofold.core.restoration import record_restoration, restore_account
from twofold.crypto.parcel import HEADER_BYTES, Parcel, ParcelUnreadable
from twofold.errors import Refused, TamperedRecord
from twofold.factors.hotp import Hotp
from twofold.factors.recovery_codes import codes_left
from twofold.factors.totp import Totp
from twofold.factors.yubico_otp import YubicoOtp
from twofold.ports import Accounts, Clock, Entropy
from twofold.stores._sqlite_file import connect

#: So many accounts are decided on together: the store commits them in one go.
AT_ONCE = 200
MANIFEST_BYTES_MAX = 64 * 1024
_ADVANCING: Mapping[str, Totp | Hotp | YubicoOtp] = {factor.name: factor for factor in (Totp(), Hotp(), YubicoOtp())}
#: What belongs to the time of the backup and to nothing after it. A set-up link that is open is one of these.
_SWEEP = ("sessions", "outbox", "nodes")
_VOID_LINK = "DELETE FROM settings WHERE name = 'setup_link' AND value <> ''"


class Restored(msgspec.Struct):
    """What came back, and what of it may have been taken away or used up since the backup."""

    accounts: int = 0
    distrusted: list[str] = []
    administrators: list[str] = []
    recovery_codes: int = 0
    people_with_recovery_codes: int = 0
    passkeys: int = 0
    tokens: int = 0
    yubikeys: int = 0


def unpack(file: BinaryIO, passphrase: bytes, folder: Path) -> Manifest:
    """Write the files of a backup into an empty folder; raises `ParcelUnreadable`, after which none of them may be
    used, and `Unavailable` where there is no room."""
    parcel = Parcel.read(file.read(HEADER_BYTES), passphrase)
    contents = _Contents(parcel.unseal(iter(lambda: file.read(PIECE_BYTES), b"")))
    length = int.from_bytes(contents.take(4))
    if length > MANIFEST_BYTES_MAX:
        raise ParcelUnreadable("the backup is damaged: its list of files is too long")
    try:
        manifest = msgspec.json.decode(contents.take(length), type=Manifest)
    except msgspec.DecodeError as error:
        detail = f"the list of files in the backup makes no sense ({error}): use a newer Twofold"
        raise ParcelUnreadable(detail) from None
    names = [enclosed.name for enclosed in manifest.files]
    if len(set(names)) < len(names) or DATABASE not in names:
        raise ParcelUnreadable("the backup is damaged: a file is missing from its list, or there twice")
    check_room((folder, sum(enclosed.size for enclosed in manifest.files)))
    for enclosed in manifest.files:
        with written(folder / enclosed.name) as target:
            for piece in contents.pieces(enclosed.size):
                target.write(piece)
    if not contents.is_at_end():
        raise ParcelUnreadable("the backup is damaged: there is more in it than its list says")
    return manifest


class _Contents:
    """Bytes that come in chunks, taken in other lengths."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def pieces(self, length: int) -> Iterator[bytes]:
        """The next `length` bytes, in pieces; raises `ParcelUnreadable` when there are fewer."""
        while length:
            self._rest = self._rest or next(self._chunks, b"")
            if not self._rest:
                raise ParcelUnreadable("the backup is damaged: there is less in it than its list says")
            piece, self._rest = self._rest[:length], self._rest[length:]
            length -= len(piece)
            yield piece

    def take(self, length: int) -> bytes:
        """The same in one piece."""
        return b"".join(self.pieces(length))

    def is_at_end(self) -> bool:
        """Whether nothing more comes. The last chunk is read for this, and with it that nothing was cut off."""
        return not any(chain((self._rest,), self._chunks))


def sweep(database: Path) -> None:
    """Take out of a restored database what was only for its time."""
    with closing(connect(database, cache_kib=2048)) as connection, connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        for table in tables & set(_SWEEP):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608 - one of ours
        connection.execute(_VOID_LINK)


def advance(authenticator: Authenticator, now: int) -> bytes:
    """The credential with everything used that may have been used since the backup."""
    factor = _ADVANCING.get(authenticator.factor)
    return authenticator.credential if factor is None else factor.after_restore(authenticator.credential, now)


async def restore_accounts(
    store: Accounts, codec: Codec, clock: Clock, entropy: Entropy, *, backup_at: int
) -> Restored:
    """Decide on every account, some hundred at a time. One that cannot be trusted stays so, and is named."""
    restored = Restored()
    waiting: list[str] = []

    def begin() -> Call:
        return Call(clock.now(), Seed(entropy.bytes(SEED_BYTES)))

    async def restore_one(account_id: str) -> None:
        call = begin()
        await store.transact(
            account_id, lambda account: restore_account(account, call, backup_at=backup_at, advance=advance)
        )

    async for row in store.scan():
        if row.account_id < FIRST_PERSON:
            continue
        try:
            account = codec.load(row)
        except TamperedRecord:
            restored.distrusted.append(row.account_id)
            continue
        if isinstance(account, Account):
            _count(account, restored)
            waiting.append(row.account_id)
        if len(waiting) == AT_ONCE:
            await asyncio.gather(*map(restore_one, waiting))
            waiting.clear()
    await asyncio.gather(*map(restore_one, waiting))
    call = begin()
    await store.transact(
        DEPLOYMENT,
        lambda account: record_restoration(account, call, backup_at=backup_at, accounts=restored.accounts),
    )
    return restored


def check_place(database: Path) -> None:
    """Raise `Refused` that says how to move it aside if there is a database, or what is left of one: SQLite would take
    an old write-ahead log for the new file's own."""
    if any(os.path.lexists(f"{database}{end}") for end in ("", "-wal", "-shm", "-journal")):
        aside = shlex.quote(str(database.with_name("before-restore")))
        hint = f"mkdir {aside} && mv {shlex.quote(str(database))}* {aside}/"
        problem = f"there is a database {database} already, and nothing is overwritten"
        raise Refused("conflict", f"{problem}; stop its server and move it aside: {hint}")


def check_same(source: Path, target: Path) -> bool:
    """Whether the file is at its place already; raises `Refused` if another one is."""
    try:
        if target.read_bytes() == source.read_bytes():
            return True
    except FileNotFoundError:
        return False
    raise Refused("conflict", f"{target} is another one than in the backup, and nothing is overwritten: move it aside")


def move_in(source: Path, target: Path) -> None:
    """Give a finished file its place in one step, or raise `Refused` because another one has it by now."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = target.with_name(f"{target.name}.draft")
    try:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # On another file system: copied there first, so that a crash leaves no half of it under its name.
            with written(draft) as copy, source.open("rb") as original:
                shutil.copyfileobj(original, copy, PIECE_BYTES)
            os.link(draft, target)
    except FileExistsError:
        raise Refused("conflict", f"{target} has appeared meanwhile, and nothing is overwritten") from None
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(target.parent)


def _count(account: Account, restored: Restored) -> None:
    restored.accounts += 1
    if account.role:
        restored.administrators.append(account.id)
    for authenticator in account.authenticators:
        restored.passkeys += authenticator.factor == "webauthn" and authenticator.state != "pending"
        restored.tokens += authenticator.factor == "hotp"
        restored.yubikeys += authenticator.factor == "yubico_otp"
        if authenticator.factor == RECOVERY and (left := codes_left(authenticator.credential)):
            restored.recovery_codes += left
            restored.people_with_recovery_codes += 1
