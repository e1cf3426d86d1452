import base64
import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.keys.contract_provider import KEY, ProviderContract
from tests.kit import RepeatableEntropy

from twofold.clocks import SystemEntropy
from twofold.crypto.argon2 import Argon2
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.keys import protected
from twofold.keys.file import FileKeyProvider, protect

PASSPHRASE = "correct horse"


def a_provider(path: Path, passphrase: str | None = None) -> FileKeyProvider:
    return FileKeyProvider.open(path, SystemEntropy(), may_create=True, passphrase=passphrase)


class FileContract(ProviderContract):
    passphrase: str | None = None

    @pytest.fixture
    def provider(self, tmp_path: Path) -> FileKeyProvider:
        return a_provider(tmp_path / "one.key", self.passphrase)

    @pytest.fixture
    def stranger(self, tmp_path: Path) -> FileKeyProvider:
        return a_provider(tmp_path / "two.key", self.passphrase)

    @pytest.fixture
    def secrets(self, tmp_path: Path, provider: FileKeyProvider) -> Sequence[str]:
        return [(tmp_path / "one.key").read_text().split()[-1], PASSPHRASE]


class TestFile(FileContract):
    pass


class TestFileUnderAPassphrase(FileContract):
    passphrase = PASSPHRASE


async def test_the_file_is_made_once_for_its_owner_alone_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "twofold.key"
    provider = a_provider(path)
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert text.startswith("twofold-master-key-1 ")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    again = FileKeyProvider.open(path, RepeatableEntropy(), may_create=False)
    assert (await again.unwrap(wrapped, key_id="data-1")).key == KEY
    assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path], "no draft is left behind"


def test_nobody_else_can_read_it_whatever_the_mask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        a_provider(tmp_path / "twofold.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "twofold.key").stat().st_mode) == 0o600


def test_two_first_starts_at_once_end_with_one_key(tmp_path: Path) -> None:
    path = tmp_path / "twofold.key"

    class Racing(RepeatableEntropy):
        """Another process makes the file after this one has looked for it."""

        def bytes(self, length: int) -> bytes:
            a_provider(path)
            return super().bytes(length)

    provider = FileKeyProvider.open(path, Racing(), may_create=True)
    assert RepeatableEntropy().bytes(32).hex() not in path.read_bytes().hex()
    assert list(tmp_path.iterdir()) == [path], "no draft is left behind"
    assert provider.describe() == f"the master key {path}"


def test_a_missing_file_over_an_existing_database_is_not_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "twofold.key"
    with pytest.raises(ConfigurationError, match="put back the file"):
        FileKeyProvider.open(path, SystemEntropy(), may_create=False)
    assert not path.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"something else",
        b"twofold-master-key-1 ",
        b"twofold-master-key-1 AAAA",
        b"twofold-master-key-1 " + b"A" * 43,
        b"twofold-master-key-1 " + b"!" * 44,
        b"A" * 43 + b"=",
        b"twofold-master-key-2 " + b"A" * 43 + b"=",
    ],
)
def test_a_file_that_is_no_key_is_named_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "twofold.key"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError) as error:
        FileKeyProvider.open(path, SystemEntropy(), may_create=True)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == content, "what stands there is never written over"


def test_a_folder_in_its_place_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "twofold.key").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        a_provider(tmp_path / "twofold.key")


def test_a_place_that_cannot_be_written_is_named_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError):
        a_provider(tmp_path / "file" / "twofold.key")
    assert a_provider(tmp_path / "folder" / "twofold.key").describe()


async def test_no_two_wrappings_share_a_nonce(tmp_path: Path) -> None:
    provider = a_provider(tmp_path / "twofold.key")
    nonces = {(await provider.wrap(KEY, key_id="data-1")).wrapped[:12] for _ in range(1000)}
    assert len(nonces) == 1000


async def test_databases_of_before_go_on_opening(tmp_path: Path) -> None:
    path, master_key, nonce = tmp_path / "twofold.key", b"m" * 32, b"n" * 12
    path.write_text(f"twofold-master-key-1 {base64.b64encode(master_key).decode()}\n")
    bound = b"\0\0\0\x09twofold/1" + b"\0\0\0\x0fkeyring.wrapped" + b"\0\0\0\x06data-1"
    wrapped = nonce + AESGCM(master_key).encrypt(nonce, KEY, bound)
    provider = FileKeyProvider.open(path, SystemEntropy(), may_create=False)
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


def replace_by_another(path: Path) -> None:
    other = path.with_name("other.key")
    other.unlink(missing_ok=True)
    a_provider(other, PASSPHRASE if "key-2" in path.read_text() else None)
    other.replace(path)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
@pytest.mark.parametrize(
    "take",
    [
        Path.unlink,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("something else"),
        lambda path: (path.unlink(), path.mkdir()),
        replace_by_another,
    ],
    ids=["gone", "empty", "no key", "a folder", "another key"],
)
async def test_a_file_that_was_taken_away_or_exchanged_is_noticed_and_put_back_it_serves_again(
    tmp_path: Path, take: Callable[[Path], object], passphrase: str | None
) -> None:
    path = tmp_path / "twofold.key"
    provider = a_provider(path, passphrase)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    content = path.read_bytes()
    await provider.watch()
    take(path)
    for _ in range(2):
        with pytest.raises(KeyRefused):
            await provider.watch()
        with pytest.raises(KeyRefused):
            await provider.unwrap(wrapped, key_id="data-1")
        with pytest.raises(KeyRefused):
            await provider.wrap(KEY, key_id="data-1")
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)
    await provider.watch()
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize(
    ("number", "raised"),
    [(errno.EIO, ProviderAway), (errno.EMFILE, ProviderAway), (errno.ESTALE, ProviderAway), (errno.EACCES, KeyRefused)],
)
async def test_a_disk_that_fails_for_a_moment_is_away_and_not_a_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, raised: type[Exception]
) -> None:
    provider = a_provider(tmp_path / "twofold.key")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)
        with pytest.raises(raised):
            await provider.watch()
        with pytest.raises(raised):
            await provider.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_the_slow_digest_is_made_once_for_each_content_and_never_to_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    digest = Argon2.digest
    monkeypatch.setattr(Argon2, "digest", lambda *arguments: made.append(1) or digest(*arguments))
    path = tmp_path / "twofold.key"
    a_provider(path, PASSPHRASE)
    made.clear()
    provider = FileKeyProvider.open(path, SystemEntropy(), may_create=False, passphrase=PASSPHRASE)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    for _ in range(5):
        await provider.unwrap(wrapped, key_id="data-1")
        await provider.watch()
    assert len(made) == 1
    protect(path, SystemEntropy(), old=PASSPHRASE, new=PASSPHRASE)
    made.clear()
    with pytest.raises(KeyRefused):
        await provider.watch()
    assert len(made) == 0
    for _ in range(5):
        await provider.unwrap(wrapped, key_id="data-1")
    await provider.watch()
    assert len(made) == 1


async def test_on_close_the_master_key_in_memory_is_overwritten(tmp_path: Path) -> None:
    provider = a_provider(tmp_path / "twofold.key", PASSPHRASE)
    held = provider._master_key
    assert any(held)
    await provider.close()
    assert held == bytes(32)


@pytest.mark.parametrize(
    ("made_with", "opened_with", "said"),
    [
        (PASSPHRASE, None, "is under a passphrase: set TWOFOLD_KEY_PASSPHRASE"),
        (PASSPHRASE, "wrong", "does not open the master key .*: set the right TWOFOLD_KEY_PASSPHRASE"),
        (None, PASSPHRASE, "is not under a passphrase: take TWOFOLD_KEY_PASSPHRASE away"),
        (None, "", "is empty"),
    ],
)
def test_a_passphrase_that_does_not_fit_is_named_in_one_line(
    tmp_path: Path, made_with: str | None, opened_with: str | None, said: str
) -> None:
    path = tmp_path / "twofold.key"
    a_provider(path, made_with)
    with pytest.raises(ConfigurationError, match=said) as error:
        a_provider(path, opened_with)
    assert "\n" not in str(error.value)
    assert "wrong" not in str(error.value)
    assert a_provider(path, made_with)


def test_the_same_letters_of_another_keyboard_open_it(tmp_path: Path) -> None:
    path = tmp_path / "twofold.key"
    a_provider(path, "caf\u00e9 \udc80")
    assert a_provider(path, "cafe\u0301 \udc80")


def test_a_protected_file_is_one_line_that_does_not_hold_the_key(tmp_path: Path) -> None:
    plain, path = tmp_path / "plain.key", tmp_path / "twofold.key"
    for place, passphrase in ((plain, None), (path, PASSPHRASE)):
        FileKeyProvider.open(place, RepeatableEntropy(), may_create=True, passphrase=passphrase)
    assert path.read_text().startswith("twofold-master-key-2 argon2id,t=2,m=19456,p=1 ")
    assert path.read_text().count("\n") == 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert plain.read_text().split()[1] not in path.read_text()


def test_nothing_in_a_protected_file_can_be_changed(tmp_path: Path) -> None:
    argon2 = Argon2(1, 8, 1)
    line = protected.write_protected(b"m" * 32, PASSPHRASE, SystemEntropy(), argon2).strip()
    assert protected.open_protected(line, PASSPHRASE) == b"m" * 32
    assert protected.open_protected(line, "wrong") is None
    for place in range(len(line)):
        for changed in (line[:place] + chr(ord(line[place]) ^ 1) + line[place + 1 :], line[:place] + line[place + 1 :]):
            try:
                assert protected.open_protected(changed, PASSPHRASE) is None
            except ValueError:
                continue


@pytest.mark.parametrize("parameters", ["t=2,m=4194304,p=1", "t=0,m=64,p=1", "t=1,m=1,p=1", "t=2,m=64,p=0", "t=2"])
def test_parameters_that_would_take_the_machine_or_that_nobody_can_use_are_no_key_file(
    tmp_path: Path, parameters: str
) -> None:
    path = tmp_path / "twofold.key"
    a_provider(path, PASSPHRASE)
    path.write_text(path.read_text().replace("t=2,m=19456,p=1", parameters))
    with pytest.raises(ConfigurationError, match="not a Twofold key file"):
        a_provider(path, PASSPHRASE)


@pytest.mark.parametrize(("old", "new"), [(None, "new"), ("old", "new"), ("old", None), (None, None)])
async def test_the_same_key_is_put_under_another_passphrase_or_none(
    tmp_path: Path, old: str | None, new: str | None
) -> None:
    path = tmp_path / "twofold.key"
    provider = a_provider(path, old)
    path.chmod(0o644)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    protect(path, SystemEntropy(), old=old, new=new)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = FileKeyProvider.open(path, SystemEntropy(), may_create=False, passphrase=new)
    assert (await again.unwrap(wrapped, key_id="data-1")).key == KEY
    if old != new:
        with pytest.raises(ConfigurationError):
            FileKeyProvider.open(path, SystemEntropy(), may_create=False, passphrase=old)


def test_what_a_link_leads_to_is_written_anew_and_the_link_stays(tmp_path: Path) -> None:
    path, link = tmp_path / "real" / "twofold.key", tmp_path / "link.key"
    a_provider(path)
    link.symlink_to(path)
    protect(link, SystemEntropy(), old=None, new=PASSPHRASE)
    assert link.is_symlink()
    assert list(path.parent.iterdir()) == [path], "no draft is left behind"
    assert a_provider(path, PASSPHRASE)


def test_the_owner_stays_the_owner_when_root_writes_it_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "twofold.key"
    a_provider(path)
    owner, given = path.stat(), []
    monkeypatch.setattr(os, "fchown", lambda _, uid, gid: given.append((uid, gid)))
    protect(path, SystemEntropy(), old=None, new=None)
    assert given == []
    monkeypatch.setattr(os, "geteuid", lambda: owner.st_uid + 1)
    protect(path, SystemEntropy(), old=None, new=None)
    assert given == [(owner.st_uid, owner.st_gid)]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_disk_that_fails_in_the_middle_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "twofold.key"
    a_provider(path)
    content = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path if step == "replace" else os, step, fail)
        with pytest.raises(ConfigurationError, match="cannot be written anew"):
            protect(path, SystemEntropy(), old=None, new=PASSPHRASE)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path], "no draft is left behind"
    protect(path, SystemEntropy(), old=None, new=PASSPHRASE)
    assert a_provider(path, PASSPHRASE)


def test_what_cannot_be_opened_is_not_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "twofold.key"
    a_provider(path, PASSPHRASE)
    content = path.read_bytes()
    for where, old, new in (
        (path, "wrong", "new"),
        (path, None, "new"),
        (path, PASSPHRASE, ""),
        (tmp_path / "no", None, "n"),
    ):
        with pytest.raises(ConfigurationError):
            protect(where, SystemEntropy(), old=old, new=new)
    assert path.read_bytes() == content
