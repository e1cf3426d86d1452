import os
import stat
from pathlib import Path

import pytest
from tests.kit import RepeatableEntropy

from twofold.clocks import SystemEntropy
from twofold.errors import ConfigurationError, Unavailable
from twofold.keys.file import FileKeyProvider


def a_provider(path: Path) -> FileKeyProvider:
    return FileKeyProvider.open(path, SystemEntropy(), may_create=True)


async def test_the_file_is_made_once_for_its_owner_alone_and_opens_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "twofold.key"
    provider = a_provider(path)
    text = path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert text.startswith("twofold-master-key-1 ")
    wrapped = await provider.wrap(b"k" * 32, key_id="data-1")
    again = FileKeyProvider.open(path, RepeatableEntropy(), may_create=False)
    assert await again.unwrap(wrapped, key_id="data-1") == b"k" * 32
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


async def test_a_wrapped_key_is_bound_to_its_id_and_to_the_master_key(tmp_path: Path) -> None:
    provider, other = a_provider(tmp_path / "one.key"), a_provider(tmp_path / "two.key")
    wrapped = await provider.wrap(b"k" * 32, key_id="data-1")
    assert b"k" * 32 not in wrapped
    for opener, key_id, changed in (
        (provider, "data-2", wrapped),
        (other, "data-1", wrapped),
        (provider, "data-1", wrapped[:-1]),
        (provider, "data-1", b""),
        (provider, "data-1", wrapped[:5]),
        (provider, "data-1", wrapped[:-1] + bytes((wrapped[-1] ^ 1,))),
    ):
        with pytest.raises(Unavailable):
            await opener.unwrap(changed, key_id=key_id)
    assert await provider.unwrap(wrapped, key_id="data-1") == b"k" * 32


async def test_no_two_wrappings_share_a_nonce(tmp_path: Path) -> None:
    provider = a_provider(tmp_path / "twofold.key")
    nonces = {(await provider.wrap(b"k" * 32, key_id="data-1"))[:12] for _ in range(1000)}
    assert len(nonces) == 1000
