import importlib
from pathlib import Path

import pytest
from tests.kit import RepeatableEntropy

from twofold.errors import ConfigurationError
from twofold.key_ports import KeyProvider
from twofold.keys.env import EnvKeyProvider
from twofold.keys.file import FileKeyProvider
from twofold.keys.local import write_line
from twofold.keys.patience import PatientProvider
from twofold.keys.providers import _KINDS, PASSPHRASE, open_provider, read_secret

KEY = bytes(range(32))


def open_one(address: str, *, may_create: bool = False, **environment: str) -> KeyProvider:
    return open_provider(address, RepeatableEntropy(), environment, may_create=may_create)


@pytest.mark.parametrize("kind", _KINDS)
def test_every_kind_that_can_be_named_is_there(kind: str) -> None:
    module, name, _ = _KINDS[kind]
    assert callable(getattr(importlib.import_module(f"twofold.keys.{module}"), name).open)


@pytest.mark.parametrize("address", ["vault:nowhere", "gcp-kms:nothing", "azure-kv:nowhere", "pkcs11:?x=1", "aws-kms:"])
def test_an_address_that_is_none_of_its_kind_is_refused_in_one_line(address: str) -> None:
    kind = address.partition(":")[0]
    with pytest.raises(ConfigurationError, match=f"^KEY_PROVIDER {kind}:") as refused:
        open_one(address)
    assert len(str(refused.value).splitlines()) == 1


def test_a_kind_that_is_none_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ConfigurationError, match="KEY_PROVIDER floppy: is none of file, env, aws-kms, pkcs11, vault"):
        open_one("floppy:a")


def test_a_key_file_is_made_only_where_that_is_right(tmp_path: Path) -> None:
    address = f"file:{tmp_path}/twofold.key"
    with pytest.raises(ConfigurationError, match="is missing"):
        open_one(address)
    assert isinstance(open_one(address, may_create=True), FileKeyProvider)
    assert isinstance(open_one(address), FileKeyProvider)


async def test_the_passphrase_of_a_key_file_comes_from_the_environment(tmp_path: Path) -> None:
    address = f"file:{tmp_path}/twofold.key"
    provider = open_one(address, may_create=True, **{PASSPHRASE: "correct horse"})
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    for environment in ({}, {PASSPHRASE: "wrong horse"}):
        with pytest.raises(ConfigurationError, match="passphrase"):
            open_one(address, **environment)
    (tmp_path / "passphrase").write_text("correct horse\n")
    again = open_one(address, **{f"{PASSPHRASE}_FILE": str(tmp_path / "passphrase")})
    assert (await again.unwrap(wrapped, key_id="data-1")).key == KEY


def test_what_is_in_our_hands_is_asked_directly_and_what_is_across_a_network_with_patience() -> None:
    assert isinstance(open_one("env:K", K=write_line(KEY)), EnvKeyProvider)
    vault = open_one("vault:https://vault.example.com:8200/transit/keys/twofold", VAULT_TOKEN="t")
    assert isinstance(vault, PatientProvider)


def test_a_secret_is_what_the_variable_says_or_the_file_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("from a file\r\n", newline="")
    assert read_secret({}, "X") is None
    assert read_secret({"X": "said"}, "X") == "said"
    assert read_secret({"X_FILE": str(path)}, "X") == "from a file"
    assert read_secret({"X": "said", "X_FILE": str(path)}, "X") == "said"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not text"])
def test_a_file_of_a_secret_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"X_FILE .*secret: cannot be read") as refused:
        read_secret({"X_FILE": str(path)}, "X")
    assert len(str(refused.value).splitlines()) == 1
