"""Backups as files, and what is made of the accounts in them; the commands are in `tests/cli/test_backup.py`."""

import asyncio
import errno
import os
import shutil
import sqlite3
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone, open_for_test
from tests.kit import RepeatableEntropy, SetClock, reason_of
from tests.people import PASSWORD

from twofold import backup, restoring
from twofold.backup import (
    Enclosed,
    Manifest,
    Name,
    check_passphrase,
    check_room,
    read_master_key,
    read_passphrase,
    workshop,
    write_backup,
    written,
)
from twofold.bootstrap import load_common_passwords
from twofold.core.clock import MICROS_PER_S
from twofold.core.codec import Codec
from twofold.core.decision import Verified
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.crypto.parcel import Parcel, ParcelUnreadable
from twofold.engine import Caller
from twofold.errors import InvalidInput, Refused, Unavailable
from twofold.restoring import check_place, check_same, move_in, restore_accounts, sweep, unpack
from twofold.setup_link import is_spent, is_valid, new_link, spend

PASSPHRASE = b"correct horse battery staple"
MANIFEST = Manifest("1.0", 2, 5, 1, 2, 4, "file:/k", (Enclosed("twofold.key", 3), Enclosed("twofold.db", 4)))


def back_up(
    database: Path, target: Path, enclosed: dict[Name, bytes] | None = None, *, clock: SetClock | None = None
) -> Manifest:
    return write_backup(
        database,
        enclosed or {},
        target,
        passphrase=PASSPHRASE,
        key_provider="file:/etc/key",
        version="1.0",
        clock=clock or SetClock(),
        entropy=RepeatableEntropy(7),
        argon2=ONLY_FOR_TESTING,
    )


def take_out(target: Path, folder: Path) -> Manifest:
    folder.mkdir(exist_ok=True)
    with target.open("rb") as file:
        return unpack(file, PASSPHRASE, folder)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with two people, one of them deleted."""

    async def fill() -> None:
        opened = await open_for_test(tmp_path / "data")
        for account_id in ("alice", "bob"):
            await opened.verifier.accounts.put(account_id)
        await opened.verifier.accounts.delete("bob")
        await opened.close()

    asyncio.run(fill())
    return tmp_path / "data" / "twofold.db"


# Passphrases.


def test_a_passphrase_is_long_and_not_the_first_that_is_tried() -> None:
    common = load_common_passwords() | {"iloveyouforever"}
    for bad in (
        "short words",
        "",
        "aaaaaaaaaaaaaaaa",
        "121212121212121212",
        "ILoveYouForever",
        "x" * 1025,
        "\ud800" * 12,
    ):
        with pytest.raises(InvalidInput) as refused:
            check_passphrase(bad, common=common)
        assert refused.value.field == "passphrase"
        assert bad[:6] not in str(refused.value) or not bad
    assert check_passphrase("twelve chars", common=common) == b"twelve chars"


def test_a_passphrase_is_the_same_however_its_accents_are_typed() -> None:
    assert read_passphrase("pru\u030aser") == read_passphrase("pr\u016fser") == "pr\u016fser".encode()


# What is in a backup.


def test_a_backup_holds_the_database_and_the_small_files_and_says_so(database: Path, tmp_path: Path) -> None:
    clock = SetClock()
    clock.advance(60)
    manifest = back_up(
        database, tmp_path / "b", {"twofold.key": b"the key", "twofold.toml": b"issuer = 'x'"}, clock=clock
    )
    assert (manifest.accounts, manifest.events > 3) == (1, True), "the deleted one counts among the events only"
    assert 0 < manifest.newest_event_at < manifest.made_at == clock.now()
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    out = tmp_path / "out"
    assert take_out(tmp_path / "b", out) == manifest
    assert {path.name for path in out.iterdir()} == {"twofold.db", "twofold.key", "twofold.toml"}
    assert (out / "twofold.key").read_bytes() == b"the key"
    with closing(sqlite3.connect(out / "twofold.db")) as connection:
        assert connection.execute("SELECT state FROM accounts WHERE id = 'alice'").fetchone() == ("empty",)
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in out.iterdir())


def test_nothing_in_a_backup_can_be_read_without_its_passphrase(database: Path, tmp_path: Path) -> None:
    back_up(database, tmp_path / "b", {"twofold.key": b"the key itself"})
    sealed = (tmp_path / "b").read_bytes()
    for word in (b"alice", b"SQLite", b"twofold.db", b"the key itself", b"made_at"):
        assert word not in sealed
    with pytest.raises(ParcelUnreadable, match="passphrase is wrong"):
        unpack(BytesIO(sealed), b"another passphrase", tmp_path)


def test_a_backup_under_writing_is_one_state_of_the_database(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE pair (a INTEGER, b INTEGER)")
        connection.executemany("INSERT INTO pair VALUES (?, ?)", [(0, 0)] * 20_000)
    done = threading.Event()

    def write() -> None:
        with closing(sqlite3.connect(database, timeout=30, isolation_level=None)) as connection:
            while not done.is_set():
                connection.execute("BEGIN IMMEDIATE")
                connection.execute("UPDATE pair SET a = a + 1 WHERE rowid % 100 = 0")
                connection.execute("UPDATE pair SET b = b + 1 WHERE rowid % 100 = 0")
                connection.execute("COMMIT")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(5):
            back_up(database, tmp_path / f"b{number}")
    finally:
        done.set()
        writer.join()
    for number in range(5):
        take_out(tmp_path / f"b{number}", tmp_path / f"out{number}")
        with closing(sqlite3.connect(tmp_path / f"out{number}" / "twofold.db")) as connection:
            assert connection.execute("SELECT count(*) FROM pair WHERE a <> b").fetchone() == (0,)
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_large_database_takes_no_more_memory_than_a_small_one(database: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("CREATE TABLE ballast (x BLOB)")
        connection.executemany("INSERT INTO ballast VALUES (?)", [(os.urandom(1 << 20),) for _ in range(24)])
    tracemalloc.start()
    try:
        back_up(database, tmp_path / "b")
        take_out(tmp_path / "b", tmp_path / "out")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize("failing", ["draft", "copy"])
def test_where_writing_fails_nothing_is_left(
    database: Path, tmp_path: Path, failing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "target"
    folder.mkdir()

    def fail(*_: object) -> Iterator[bytes]:
        yield b"something"
        raise OSError(errno.ENOSPC, "No space left on device")

    def refuse_room(*_: object) -> None:
        raise Unavailable("no room")

    if failing == "draft":
        monkeypatch.setattr(backup, "_contents", fail)
    else:
        monkeypatch.setattr(backup, "check_room", refuse_room)
    with pytest.raises((OSError, Unavailable)):
        back_up(database, folder / "b")
    assert list(folder.iterdir()) == []
    assert not any("backing-up" in path.name for path in database.parent.iterdir())


def test_a_database_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "twofold.db").write_bytes(b"no database at all, " * 100)
    with pytest.raises(Unavailable, match="cannot be copied"):
        back_up(tmp_path / "twofold.db", tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_the_master_key_is_taken_along_where_it_is_ours(tmp_path: Path) -> None:
    (tmp_path / "k").write_bytes(b"twofold-master-key-1 abc\n")
    assert read_master_key(f"file:{tmp_path / 'k'}", {}) == b"twofold-master-key-1 abc\n"
    for spelled in ("abc", "twofold-master-key-1 abc\n"):
        assert read_master_key("env:", {"TWOFOLD_MASTER_KEY": spelled}) == b"twofold-master-key-1 abc\n"
        assert read_master_key("env:MINE", {"MINE": spelled}) == b"twofold-master-key-1 abc\n"
    assert read_master_key("aws-kms:alias/twofold?region=eu-west-1", {}) is None


# Files that are not to be trusted.


def parcel_of(head: object, rest: bytes = b"", *, length: int | None = None) -> BytesIO:
    encoded = msgspec.json.encode(head)
    parcel = Parcel(PASSPHRASE, ONLY_FOR_TESTING, bytes(16))
    plain = (len(encoded) if length is None else length).to_bytes(4) + encoded + rest
    return BytesIO(parcel.header + b"".join(parcel.seal([plain])))


def with_files(*files: tuple[str, int]) -> dict[str, Any]:
    built = msgspec.to_builtins(MANIFEST)
    return {**built, "files": [{"name": name, "size": size} for name, size in files]}


def test_the_files_of_a_manifest_are_written_and_nothing_else(tmp_path: Path) -> None:
    assert unpack(parcel_of(MANIFEST, b"keydata"), PASSPHRASE, tmp_path) == MANIFEST
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        "twofold.key": b"key",
        "twofold.db": b"data",
    }


@pytest.mark.parametrize(
    ("parcel", "problem"),
    [
        (parcel_of(MANIFEST, b"keydat"), "less in it"),
        (parcel_of(MANIFEST, b"keydata!"), "more in it"),
        (parcel_of(with_files(("twofold.db", 2**62))), "room"),
        (
            parcel_of(with_files(("twofold.db", 4), ("twofold.db", 4)), b"12345678"),
            "missing from its list, or there twice",
        ),
        (parcel_of(with_files(("twofold.key", 4)), b"1234"), "missing from its list, or there twice"),
        (parcel_of(with_files(("../../etc/passwd", 4)), b"1234"), "makes no sense"),
        (parcel_of(with_files(("twofold.db", -1))), "makes no sense"),
        (parcel_of({"version": 1}), "makes no sense"),
        (parcel_of(MANIFEST, length=2**31), "list of files is too long"),
        (parcel_of(MANIFEST, length=60_000), "less in it"),
        (parcel_of(MANIFEST, length=3), "makes no sense"),
    ],
    ids=range(11),
)
def test_a_list_of_files_that_lies_is_refused(tmp_path: Path, parcel: BytesIO, problem: str) -> None:
    with pytest.raises((ParcelUnreadable, Unavailable), match=problem):
        unpack(parcel, PASSPHRASE, tmp_path)
    assert not (tmp_path.parent / "etc").exists()


def test_a_file_that_ends_too_soon_leaves_no_file_that_could_be_used(database: Path, tmp_path: Path) -> None:
    back_up(database, tmp_path / "b")
    whole = (tmp_path / "b").read_bytes()
    (tmp_path / "out").mkdir()
    with pytest.raises(ParcelUnreadable, match="damaged"):
        unpack(BytesIO(whole[:-5]), PASSPHRASE, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


# Folders and files.


def test_a_workshop_begins_empty_belongs_to_one_and_is_gone_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "workshop"
    folder.mkdir()
    (folder / "left by a crash").write_text("half")
    with workshop(folder):
        assert list(folder.iterdir()) == []
        (folder / "mine").write_text("whole")
        with pytest.raises(Refused, match="wait for its end"), workshop(folder):
            raise AssertionError("two at once")
        assert (folder / "mine").read_text() == "whole"
    assert not folder.exists()
    with suppress(KeyboardInterrupt), workshop(folder):
        (folder / "half").write_text("half")
        raise KeyboardInterrupt
    assert not folder.exists()
    with workshop(folder):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("before")
    (tmp_path / "f.draft").write_text("left by a crash")
    with suppress(ValueError), written(tmp_path / "f") as file:
        file.write(b"half")
        raise ValueError("stop")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_text() == "before"
    with written(tmp_path / "f") as file:
        file.write(b"whole")
    assert (tmp_path / "f").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_room_is_added_up_for_what_lies_on_one_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    check_room((tmp_path, 6_000_000), (tmp_path, 4_000_000))
    with pytest.raises(Unavailable, match="12 MB are needed, 10 MB are free"):
        check_room((tmp_path, 6_000_000), (tmp_path, 6_000_000))


@pytest.mark.parametrize("left", ["twofold.db", "twofold.db-wal", "twofold.db-shm", "twofold.db-journal"])
def test_what_is_left_of_a_database_is_in_the_way_of_another_one(tmp_path: Path, left: str) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    check_place(folder / "twofold.db")
    (folder / left).touch()
    with pytest.raises(Refused) as refused:
        check_place(folder / "twofold.db")
    command = str(refused.value).rpartition("move it aside: ")[2]
    assert os.system(command) == 0  # noqa: S605 - as the reader would type it
    check_place(folder / "twofold.db")
    assert (folder / "before-restore" / left).exists()


def test_no_file_is_overwritten_and_the_same_one_is_no_conflict(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "new" / "target"
    source.write_text("ours")
    assert not check_same(source, target)
    move_in(source, target)
    assert target.read_text() == "ours"
    assert check_same(source, target)
    target.unlink()
    target.write_text("another one")
    with pytest.raises(Refused, match="nothing is overwritten"):
        check_same(source, target)
    with pytest.raises(Refused, match="nothing is overwritten"):
        move_in(source, target)
    assert target.read_text() == "another one"


def test_a_place_on_another_file_system_gets_the_file_in_one_step_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("ours")
    link = os.link

    def only_beside(here: Path, there: Path) -> None:
        if here == source:
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        link(here, there)

    monkeypatch.setattr(os, "link", only_beside)
    move_in(source, target)
    assert (target.read_text(), target.stat().st_mode & 0o777, target.stat().st_nlink) == ("ours", 0o600, 1)
    with pytest.raises(Refused):
        move_in(source, target)
    assert {path.name for path in tmp_path.iterdir()} == {"source", "target"}
    monkeypatch.setattr(os, "link", lambda *_: Path("/nowhere at all").stat())
    with pytest.raises(FileNotFoundError):
        move_in(source, tmp_path / "other")


# What is made of the accounts.


async def test_every_account_is_made_safe_however_many_there_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restoring, "AT_ONCE", 4)
    clock = SetClock()
    opened = await open_for_test(tmp_path, clock)
    accounts = opened.verifier.accounts
    phone, confirmed = await add_phone(opened.verifier, "alice", clock)
    token, _ = await add_phone(opened.verifier, "bob", clock, factor="hotp")
    for number in range(7):
        await accounts.put(f"person{number}")
    await accounts.delete("person3")
    await opened.verifier.verify("alice", code=confirmed.recovery_codes[0])
    code = phone.code(clock.now())
    assert isinstance(await opened.verifier.verify("alice", code=code), Verified)
    await opened.administration.invite("admin", role="administrator", caller=Caller(is_admin=True))
    with closing(sqlite3.connect(tmp_path / "twofold.db")) as connection, connection:
        connection.execute("UPDATE accounts SET document = CAST(document || x'00' AS BLOB) WHERE id = 'person5'")

    codec = Codec(opened.keyring.mac_keys())
    backup_at = clock.now() - 3600 * MICROS_PER_S
    restored = await restore_accounts(opened.store, codec, clock, opened.entropy, backup_at=backup_at)
    assert (restored.accounts, restored.administrators, restored.distrusted) == (8, ["admin"], ["person5"])
    assert (restored.recovery_codes, restored.people_with_recovery_codes) == (19, 2)
    assert (restored.tokens, restored.yubikeys, restored.passkeys) == (1, 0, 0)
    for account_id in ("alice", "bob", "admin", "person0", "person6"):
        assert (await opened.store.events(account_id))[-1].kind == "account.restored"
    assert [row.kind for row in await opened.store.events("person3")][-1] != "account.restored"
    last = (await opened.store.events(""))[-1]
    assert last.kind == "deployment.restored"
    assert last.payload is not None
    assert b'"accounts":8' in last.payload

    assert reason_of(await opened.verifier.verify("alice", code=code)) == "code_already_used"
    clock.advance(4 * 30)
    assert isinstance(await opened.verifier.verify("alice", code=phone.code(clock.now())), Verified)
    assert reason_of(await opened.verifier.verify("bob", code=token.press())) == "code_already_used"
    report = await opened.inspection.verify_audit()
    assert report.broken is not None
    assert report.broken.account_id == "person5"
    await opened.close()


async def test_sessions_messages_and_an_open_set_up_link_do_not_come_back(tmp_path: Path) -> None:
    clock = SetClock()
    opened = await open_for_test(tmp_path, clock)
    await add_phone(opened.verifier, "alice", clock)
    await opened.verifier.accounts.set_password("alice", PASSWORD, caller=Caller(is_admin=True))
    link = await new_link(opened.store, opened.keyring, clock, opened.entropy, "http://localhost")
    token = link.partition("token=")[2]
    assert await is_valid(opened.store, opened.keyring, clock, token)
    await opened.close()
    with closing(sqlite3.connect(tmp_path / "twofold.db")) as connection, connection:
        connection.execute("INSERT INTO sessions VALUES (x'00', 's', 'alice', 'full', 1, 2, x'00', x'00')")
        assert connection.execute("SELECT count(*) FROM outbox").fetchone()[0] > 0

    sweep(tmp_path / "twofold.db")
    with closing(sqlite3.connect(tmp_path / "twofold.db")) as connection:
        assert connection.execute("SELECT (SELECT count(*) FROM sessions), count(*) FROM outbox").fetchone() == (0, 0)
    opened = await open_for_test(tmp_path, clock, seed=1)
    assert not await is_valid(opened.store, opened.keyring, clock, token)
    await spend(opened.store)
    await opened.close()
    sweep(tmp_path / "twofold.db")
    opened = await open_for_test(tmp_path, clock, seed=2)
    assert await is_spent(opened.store), "a deployment that was set up stays so"
    await opened.close()
