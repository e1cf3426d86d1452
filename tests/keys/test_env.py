import base64
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.keys.contract_provider import KEY, ProviderContract

from twofold.clocks import SystemEntropy
from twofold.errors import ConfigurationError
from twofold.keys.env import EnvKeyProvider
from twofold.keys.file import FileKeyProvider
from twofold.keys.uri import read_uri

MASTER = base64.b64encode(b"m" * 32).decode()


def open_env(value: str, uri: str = "env:", name: str = "TWOFOLD_MASTER_KEY") -> EnvKeyProvider:
    return EnvKeyProvider.open(read_uri(uri), SystemEntropy(), {name: value})


class TestEnv(ProviderContract):
    @pytest.fixture
    def provider(self) -> EnvKeyProvider:
        return open_env(MASTER)

    @pytest.fixture
    def stranger(self) -> EnvKeyProvider:
        return open_env(base64.b64encode(b"s" * 32).decode())

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return [MASTER, repr(b"m" * 32), (b"m" * 32).hex()]


async def test_a_key_file_moved_into_a_variable_opens_the_same_database(tmp_path: Path) -> None:
    path = tmp_path / "twofold.key"
    wrapped = (await FileKeyProvider.open(path, SystemEntropy(), may_create=True).wrap(KEY, key_id="data-1")).wrapped
    line = path.read_text()
    for value in (line, line.strip(), line.split()[1], f" {line.split()[1]}\n"):
        assert (await open_env(value).unwrap(wrapped, key_id="data-1")).key == KEY
    path.write_text(f"twofold-master-key-1 {MASTER}\n")
    moved = FileKeyProvider.open(path, SystemEntropy(), may_create=False)
    own = (await open_env(MASTER).wrap(KEY, key_id="data-1")).wrapped
    assert (await moved.unwrap(own, key_id="data-1")).key == KEY


async def test_another_variable_may_hold_it() -> None:
    provider = open_env(MASTER, "env:OTHER_KEY", "OTHER_KEY")
    assert provider.describe() == "the master key in OTHER_KEY"
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    assert (await open_env(MASTER).unwrap(wrapped, key_id="data-1")).key == KEY
    with pytest.raises(ConfigurationError, match="OTHER_KEY is not set"):
        open_env(MASTER, "env:OTHER_KEY")


@pytest.mark.parametrize("value", ["", " \n"])
def test_a_missing_one_is_never_made_and_the_command_that_makes_one_is_named(value: str) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand -base64 32"):
        open_env(value)
    assert open_env(MASTER)


@pytest.mark.parametrize(
    "value",
    ["secret-word", MASTER[:-4], MASTER + "AAAA", MASTER.rstrip("="), f"twofold-master-key-2 {MASTER}", "é" * 44],
)
def test_what_is_no_key_is_refused_and_never_repeated(value: str) -> None:
    with pytest.raises(ConfigurationError, match="TWOFOLD_MASTER_KEY is not a master key") as error:
        open_env(value)
    assert value not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("uri", ["env:NOT A NAME", "env:1ST", f"env:{MASTER}", "env:NAME?file=/x"])
def test_an_address_that_names_no_variable_is_refused_and_a_key_in_it_is_not_shown(uri: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        open_env(MASTER, uri)
    assert MASTER not in str(error.value)
