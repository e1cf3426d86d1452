import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from tests.certificates import make_certificate
from tests.keys.contract_json_service import JsonServiceContract
from tests.keys.contract_provider import KEY, ProviderContract
from tests.keys.local_service import changing, saying
from tests.keys.vault_service import VaultService
from tests.kit import RepeatableEntropy

from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.keys.uri import read_uri
from twofold.keys.vault import VaultProvider

TOKEN = {"VAULT_TOKEN": "hvs.first"}


def open_provider(uri: str, environment: Mapping[str, str] = TOKEN) -> VaultProvider:
    return VaultProvider.open(read_uri(uri), RepeatableEntropy(), environment)


@pytest.fixture
def service() -> Iterator[VaultService]:
    service = VaultService()
    with service.running():
        yield service


@pytest.fixture
async def provider(service: VaultService) -> AsyncIterator[VaultProvider]:
    provider = open_provider(f"vault:{service.origin}/transit/keys/twofold")
    yield provider
    await provider.close()


@pytest.fixture
async def stranger(service: VaultService) -> AsyncIterator[VaultProvider]:
    provider = open_provider(f"vault:{service.origin}/transit/keys/other")
    yield provider
    await provider.close()


@pytest.fixture
def secrets() -> Sequence[str]:
    return ["hvs.first"]


class TestVault(ProviderContract, JsonServiceContract):
    pass


async def test_a_wrapped_key_is_bound_to_its_deployment(provider: VaultProvider, service: VaultService) -> None:
    elsewhere = open_provider(f"vault:{service.origin}/transit/keys/twofold?deployment=staging")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused, match="message authentication failed"):
        await elsewhere.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    await elsewhere.close()


async def test_a_vault_too_old_for_associated_data_still_opens_nothing_under_another_id(
    provider: VaultProvider, service: VaultService
) -> None:
    service.is_old = True
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused, match="what it opened is not key data-2"):
        await provider.unwrap(wrapped, key_id="data-2")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_a_derived_key_works_too(service: VaultService) -> None:
    provider = open_provider(f"vault:{service.origin}/transit/keys/derived")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    with pytest.raises(KeyRefused):
        await provider.unwrap(wrapped, key_id="data-2")
    await provider.close()


async def test_after_vault_rotated_its_key_the_old_ones_open_until_their_version_is_disallowed(
    provider: VaultProvider, service: VaultService
) -> None:
    old = (await provider.wrap(KEY, key_id="data-1")).wrapped
    service.keys["twofold"].rotate()
    new = (await provider.wrap(KEY, key_id="data-1")).wrapped
    for wrapped in (old, new):
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    service.keys["twofold"].oldest = 2
    with pytest.raises(KeyRefused, match="disallowed by policy"):
        await provider.unwrap(old, key_id="data-1")
    assert (await provider.unwrap(new, key_id="data-1")).key == KEY


async def test_there_is_one_way_only_to_name_a_version(provider: VaultProvider) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    assert wrapped[1:5] == bytes([0, 0, 0, 1])
    # Vault itself opens version 0 as version 1.
    with pytest.raises(KeyRefused, match="was not wrapped by Vault, or changed"):
        await provider.unwrap(wrapped[:1] + bytes(4) + wrapped[5:], key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_a_deleted_key_is_refused(provider: VaultProvider, service: VaultService) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    del service.keys["twofold"]
    with pytest.raises(KeyRefused, match="encryption key not found"):
        await provider.unwrap(wrapped, key_id="data-1")
    with pytest.raises(KeyRefused, match="encryption key not found"):
        await provider.wrap(KEY, key_id="data-1")


async def test_a_sealed_vault_is_away_and_comes_back(provider: VaultProvider, service: VaultService) -> None:
    service.is_sealed = True
    with pytest.raises(ProviderAway, match="Vault is sealed"):
        await provider.wrap(KEY, key_id="data-1")
    service.is_sealed = False
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


async def test_the_request_id_of_the_audit_log_is_told(provider: VaultProvider, service: VaultService) -> None:
    wrapping = await provider.wrap(KEY, key_id="data-1")
    assert wrapping.request_id == "vault-1"
    assert (await provider.unwrap(wrapping.wrapped, key_id="data-1")).request_id == "vault-2"


async def test_a_token_file_is_read_for_each_use(service: VaultService, tmp_path: Path) -> None:
    file = tmp_path / "token"
    provider = open_provider(f"vault:{service.origin}/transit/keys/twofold?token-file={file}", {})
    with pytest.raises(ProviderAway, match="No such file"):
        await provider.wrap(KEY, key_id="data-1")
    file.write_text("hvs.first\n")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    service.tokens = {"hvs.second"}
    with pytest.raises(KeyRefused, match="permission denied, invalid token"):
        await provider.unwrap(wrapped, key_id="data-1")
    for half_written in (b"", b"\n", b"hvs.sec\0ond", b"one\ntwo", b"\xff"):
        file.write_bytes(half_written)
        with pytest.raises(ProviderAway, match=str(file)):
            await provider.unwrap(wrapped, key_id="data-1")
    file.write_text("hvs.second\n")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    await provider.close()


async def test_a_namespace_is_named_to_vault(service: VaultService) -> None:
    service.namespace = "team/twofold"
    outside = open_provider(f"vault:{service.origin}/transit/keys/twofold")
    inside = open_provider(f"vault:{service.origin}/transit/keys/twofold?namespace=team/twofold")
    with pytest.raises(KeyRefused, match="permission denied"):
        await outside.wrap(KEY, key_id="data-1")
    assert (await inside.wrap(KEY, key_id="data-1")).wrapped
    await outside.close()
    await inside.close()


async def test_a_certificate_counts_only_from_the_ca_that_is_named(tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "other").mkdir()
    ours, other = (make_certificate(tmp_path / name, "127.0.0.1") for name in ("ours", "other"))
    service = VaultService(ours)
    uri = f"vault:{service.origin}/transit/keys/twofold"
    with service.running():
        trusting = open_provider(uri, {**TOKEN, "VAULT_CACERT": str(ours.cert)})
        assert (await trusting.wrap(KEY, key_id="data-1")).wrapped
        await trusting.close()
        for environment in (TOKEN, {**TOKEN, "VAULT_CACERT": str(other.cert)}):
            wary = open_provider(uri, environment)
            with pytest.raises(ProviderAway, match="certificate verify failed"):
                await wary.wrap(KEY, key_id="data-1")
            await wary.close()
        by_name = open_provider(uri.replace("127.0.0.1", "localhost"), {**TOKEN, "VAULT_CACERT": str(ours.cert)})
        with pytest.raises(ProviderAway, match="certificate verify failed"):
            await by_name.wrap(KEY, key_id="data-1")
        await by_name.close()
    assert len(service.calls) == 1


async def test_where_nobody_listens_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    provider = open_provider(f"vault:http://127.0.0.1:{port}/transit/keys/twofold")
    with pytest.raises(ProviderAway, match=f"at http://127.0.0.1:{port}: cannot be reached"):
        await provider.wrap(KEY, key_id="data-1")
    await provider.close()


@pytest.mark.parametrize(
    "ciphertext", ["", "vault:v1:", "vault:v0:AAAA", "vault:v01:AAAA", "vault:v1:AAA", "vault:vx:AAAA", "other:v1:AAAA"]
)
async def test_a_ciphertext_that_is_none_is_not_stored(
    provider: VaultProvider, service: VaultService, ciphertext: str
) -> None:
    service.plan(changing(lambda answer: answer["data"].update(ciphertext=ciphertext)))
    with pytest.raises(ProviderAway):
        await provider.wrap(KEY, key_id="data-1")


async def test_what_another_key_opened_is_refused(
    provider: VaultProvider, stranger: VaultProvider, service: VaultService
) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    for plaintext in ("", "AAAA", "A" * 88):
        service.plan(saying(200, {"request_id": "r", "data": {"plaintext": plaintext}}))
        with pytest.raises(KeyRefused, match="is not key data-1") as refused:
            await provider.unwrap(wrapped, key_id="data-1")
        assert refused.value.request_id == "r"


def test_another_event_loop_finds_it_working(service: VaultService) -> None:
    provider = open_provider(f"vault:{service.origin}/transit/keys/twofold")

    async def use() -> None:
        wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
        await provider.close()

    asyncio.run(use())
    asyncio.run(use())


async def test_a_connection_is_kept_for_the_next_question(service: VaultService) -> None:
    provider = open_provider(f"vault:{service.origin}/transit/keys/twofold")
    for _ in range(3):
        await provider.wrap(KEY, key_id="data-1")
    assert service.connections == 1
    await provider.close()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("vault:", "expected https://host"),
        ("vault:vault.example.com/transit/keys/k", "expected https://host"),
        ("vault:ftp://vault.example.com/transit/keys/k", "expected https://host"),
        ("vault:https://me:hunter2@vault.example.com/transit/keys/k", "without a user"),
        ("vault:https://vault.example.com/transit/keys/k#hunter2", "or a fragment"),
        ("vault:https://vault.example.com:eight/transit/keys/k", "expected https://host"),
        ("vault:http://vault.example.com/transit/keys/k", "http is only for this machine"),
        ("vault:http://127.0.0.1.example.com/transit/keys/k", "http is only for this machine"),
        ("vault:http://10.0.0.1/transit/keys/k", "http is only for this machine"),
        ("vault:https://vault.example.com", "mount/keys/name"),
        ("vault:https://vault.example.com/transit/k", "mount/keys/name"),
        ("vault:https://vault.example.com/keys/k", "mount/keys/name"),
        ("vault:https://vault.example.com/transit/../keys/k", "mount/keys/name"),
        ("vault:https://vault.example.com/transit/keys/k%2f..", "mount/keys/name"),
        ("vault:https://vault.example.com/transit/keys/k/", "mount/keys/name"),
        ("vault:https://vault.example.com/transit/keys/k?namespace=a%0d%0ab", "expected a namespace"),
        ("vault:https://vault.example.com/transit/keys/k?token=hunter2", "has no option 'token'"),
    ],
)
def test_an_address_that_cannot_be_meant_is_named_in_one_line_without_secrets(uri: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        open_provider(uri)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("uri", "described"),
    [
        ("https://vault.example.com:8200/transit/keys/k", "transit/keys/k at https://vault.example.com:8200"),
        ("https://vault.example.com/team/a/keys/k.1-x_y", "team/a/keys/k.1-x_y at https://vault.example.com"),
        ("http://localhost:8200/transit/keys/k", "transit/keys/k at http://localhost:8200"),
        ("http://[::1]:8200/transit/keys/k", "transit/keys/k at http://[::1]:8200"),
    ],
)
def test_an_address_is_described(uri: str, described: str) -> None:
    assert open_provider(f"vault:{uri}").describe() == f"the Vault key {described}"


@pytest.mark.parametrize("token", ["", " ", "two words", "line\nbreak", "ümlaut"])
def test_without_a_token_it_says_where_to_put_one(token: str) -> None:
    with pytest.raises(ConfigurationError, match=r"set VAULT_TOKEN, or name a file of it with \?token-file="):
        open_provider("vault:https://vault.example.com/transit/keys/k", {"VAULT_TOKEN": token})


def test_a_ca_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no certificate")
    for file in (tmp_path / "text", tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match=f"{file} is no file of PEM certificates"):
            open_provider("vault:https://vault.example.com/transit/keys/k", {**TOKEN, "VAULT_CACERT": str(file)})


def test_without_the_extra_it_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(ConfigurationError, match=r"needs httpx: pip install 'twofold\[vault\]'"):
        open_provider("vault:https://vault.example.com/transit/keys/k")
