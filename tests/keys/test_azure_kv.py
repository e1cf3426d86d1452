import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.keys.azure_service import AzureService, base64url
from tests.keys.contract_json_service import JsonServiceContract
from tests.keys.contract_provider import KEY, ProviderContract
from tests.keys.local_service import changing, say, saying
from tests.kit import RepeatableEntropy

from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.keys.azure_kv import AzureKeyVaultProvider
from twofold.keys.uri import read_uri


def open_provider(uri: str) -> AzureKeyVaultProvider:
    return AzureKeyVaultProvider.open(read_uri(uri), RepeatableEntropy(), {})


@pytest.fixture(scope="module")
def make_rsa_key() -> Callable[[], rsa.RSAPrivateKey]:
    """Keys in turn: making one takes long, and no test needs more than four."""
    keys = [rsa.generate_private_key(65_537, 2048) for _ in range(4)]

    def make() -> rsa.RSAPrivateKey:
        keys.append(keys.pop(0))
        return keys[-1]

    return make


@pytest.fixture
def service(make_rsa_key: Callable[[], rsa.RSAPrivateKey], monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureService]:
    """The service, and this program as one that App Service gives an identity."""
    service = AzureService(make_rsa_key)
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{service.origin}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", service.identity_header)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    monkeypatch.delenv("AZURE_CLIENT_ID", raising=False)
    with service.running():
        yield service


@pytest.fixture
async def provider(service: AzureService) -> AsyncIterator[AzureKeyVaultProvider]:
    provider = open_provider(f"azure-kv:{service.origin}/keys/twofold")
    yield provider
    await provider.close()


@pytest.fixture
async def stranger(service: AzureService) -> AsyncIterator[AzureKeyVaultProvider]:
    provider = open_provider(f"azure-kv:{service.origin}/keys/other")
    yield provider
    await provider.close()


@pytest.fixture
def secrets() -> Sequence[str]:
    return ["msi-header", "Bearer"]


class TestKeyVault(ProviderContract, JsonServiceContract):
    pass


class TestManagedHsm(ProviderContract):
    @pytest.fixture
    async def provider(self, service: AzureService) -> AsyncIterator[AzureKeyVaultProvider]:
        provider = open_provider(f"azure-kv:{service.origin}/keys/hsm?alg=A256KW")
        yield provider
        await provider.close()


async def test_a_wrapped_key_is_bound_to_its_deployment(provider: AzureKeyVaultProvider, service: AzureService) -> None:
    elsewhere = open_provider(f"azure-kv:{service.origin}/keys/twofold?deployment=staging")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused, match="key data-1 is not what was wrapped"):
        await elsewhere.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    await elsewhere.close()


async def test_our_key_never_goes_to_the_service(provider: AzureKeyVaultProvider, service: AzureService) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    await provider.unwrap(wrapped, key_id="data-1")
    assert service.asked("/keys/")
    assert not any(base64url(KEY)[:-1] in call.body.decode() for call in service.calls)


async def test_after_azure_rotated_its_key_the_old_ones_open_until_their_version_is_disabled(
    provider: AzureKeyVaultProvider, service: AzureService
) -> None:
    key = service.keys["twofold"]
    first, old = key.newest, (await provider.wrap(KEY, key_id="data-1")).wrapped
    key.rotate()
    new = (await provider.wrap(KEY, key_id="data-1")).wrapped
    for wrapped in (old, new):
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    assert service.asked(f"/keys/twofold/{first}/unwrapkey")
    key.disabled.add(first)
    with pytest.raises(KeyRefused, match="KeyDisabled"):
        await provider.unwrap(old, key_id="data-1")
    assert (await provider.unwrap(new, key_id="data-1")).key == KEY
    del key.versions[first]
    with pytest.raises(KeyRefused, match="KeyNotFound"):
        await provider.unwrap(old, key_id="data-1")


async def test_a_version_that_was_named_goes_on_wrapping_and_opens_what_others_wrapped(
    provider: AzureKeyVaultProvider, service: AzureService
) -> None:
    key = service.keys["twofold"]
    first = key.newest
    key.rotate()
    pinned = open_provider(f"azure-kv:{service.origin}/keys/twofold/{first}")
    old, new = [(await one.wrap(KEY, key_id="data-1")).wrapped for one in (pinned, provider)]
    assert [wrapped[1:17].hex() for wrapped in (old, new)] == [first, key.newest]
    for one in (pinned, provider):
        assert (await one.unwrap(old, key_id="data-1")).key == KEY
        assert (await one.unwrap(new, key_id="data-1")).key == KEY
    await pinned.close()


async def test_the_stored_version_is_sealed_too(provider: AzureKeyVaultProvider, service: AzureService) -> None:
    key = service.keys["twofold"]
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    twin = bytes(16)
    key.versions[twin.hex()] = key.versions[key.newest]
    with pytest.raises(KeyRefused, match="not what was wrapped"):
        await provider.unwrap(wrapped[:1] + twin + wrapped[17:], key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_a_right_that_was_taken_away_is_refused(provider: AzureKeyVaultProvider, service: AzureService) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    service.is_permitted = False
    with pytest.raises(KeyRefused, match="ForbiddenByRbac") as refused:
        await provider.unwrap(wrapped, key_id="data-1")
    assert refused.value.request_id == "azure-no"
    service.is_permitted = True
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_the_request_id_of_the_diagnostic_log_is_told(provider: AzureKeyVaultProvider) -> None:
    wrapping = await provider.wrap(KEY, key_id="data-1")
    assert wrapping.request_id == "azure-2", "the first call fetched the token"
    assert (await provider.unwrap(wrapping.wrapped, key_id="data-1")).request_id == "azure-3"


@pytest.mark.parametrize(
    ("kid", "said"),
    [
        ("{origin}/keys/other/{version}", "another key"),
        ("https://evil.vault.azure.net/keys/twofold/{version}", "another key"),
        ("{origin}/secrets/twofold/{version}", "another key"),
        ("{origin}/keys/twofold", "another version"),
        ("{origin}/keys/twofold/0123456789abcdef0123456789abcdef", "another version"),
    ],
)
async def test_an_answer_of_another_key_or_version_is_refused(
    provider: AzureKeyVaultProvider, service: AzureService, kid: str, said: str
) -> None:
    version = service.keys["twofold"].newest
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    other = kid.format(origin=service.origin, version=version)
    service.plan(changing(lambda answer: answer.update(kid=other)))
    with pytest.raises(KeyRefused, match=said):
        await provider.unwrap(wrapped, key_id="data-1")
    if "0123" not in kid:
        service.plan(changing(lambda answer: answer.update(kid=other)))
        with pytest.raises(KeyRefused, match=said):
            await provider.wrap(KEY, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize("value", ["", "AAAA", "A" * 43])
async def test_a_value_that_opens_nothing_is_refused(
    provider: AzureKeyVaultProvider, service: AzureService, value: str
) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    service.plan(changing(lambda answer: answer.update(value=value)))
    with pytest.raises(KeyRefused, match="not what was wrapped"):
        await provider.unwrap(wrapped, key_id="data-1")


@pytest.mark.parametrize(
    "change", [{"value": "A"}, {"value": "A*AA"}, {"value": "ä"}, {"kid": "https://[broken/keys/k"}]
)
async def test_a_value_that_cannot_be_read_is_no_answer(
    provider: AzureKeyVaultProvider, service: AzureService, change: dict[str, str]
) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    service.plan(changing(lambda answer: answer.update(change)))
    with pytest.raises(ProviderAway, match="not one of such a service"):
        await provider.unwrap(wrapped, key_id="data-1")


async def test_one_token_serves_until_it_is_not_accepted_any_more(
    provider: AzureKeyVaultProvider, service: AzureService
) -> None:
    for _ in range(3):
        await provider.wrap(KEY, key_id="data-1")
    assert len(service.asked("/token")) == 1
    service.tokens.clear()
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    assert len(service.asked("/token")) == 2
    service.plan(*[saying(401, b"{}")] * 2)
    with pytest.raises(KeyRefused, match="401"):
        await provider.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize("status", [400, 403, 500, 503])
async def test_without_a_token_it_says_who_had_none(
    provider: AzureKeyVaultProvider, service: AzureService, status: int
) -> None:
    service.token_reply = say(status, {"statusCode": status, "message": "no identity"})
    with pytest.raises(ProviderAway, match="has no token for https://vault"):
        await provider.wrap(KEY, key_id="data-1")
    service.token_reply = None
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


@pytest.mark.parametrize(
    "domain",
    ["vault.azure.net", "managedhsm.azure.net", "vault.usgovcloudapi.net", "vault.azure.cn", "attacker.example"],
)
async def test_a_token_is_asked_for_that_counts_at_this_host_only(monkeypatch: pytest.MonkeyPatch, domain: str) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "EnvironmentCredential")
    provider = open_provider(f"azure-kv:https://name.{domain}:443/keys/k")
    with pytest.raises(ProviderAway, match=f"has no token for https://{domain}/.default"):
        await provider.wrap(KEY, key_id="data-1")


async def test_an_identity_endpoint_out_of_reach_may_be_there_again(
    provider: AzureKeyVaultProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"http://127.0.0.1:{port}/msi/token")
    with pytest.raises(ProviderAway, match="has no token"):
        await provider.wrap(KEY, key_id="data-1")


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("azure-kv:", "expected https://host"),
        ("azure-kv:http://name.vault.azure.net/keys/k", "http is only for this machine"),
        ("azure-kv:https://name.vault.azure.net", "/keys/KEY"),
        ("azure-kv:https://name.vault.azure.net/secrets/k", "/keys/KEY"),
        ("azure-kv:https://name.vault.azure.net/keys/k/", "/keys/KEY"),
        ("azure-kv:https://name.vault.azure.net/keys/k/newest", "/keys/KEY"),
        ("azure-kv:https://name.vault.azure.net/keys/k/..", "/keys/KEY"),
        ("azure-kv:https://name.vault.azure.net/keys/k?alg=RSA1_5", "expected alg=RSA-OAEP-256 or alg=A256KW"),
        ("azure-kv:https://name.vault.azure.net/keys/k?alg=", "expected alg=RSA-OAEP-256 or alg=A256KW"),
        ("azure-kv:https://name.vault.azure.net/keys/k?secret=hunter2", "has no option 'secret'"),
    ],
)
def test_an_address_that_cannot_be_meant_is_named_in_one_line(uri: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        open_provider(uri)
    assert "hunter2" not in str(error.value)
    assert "\n" not in str(error.value)


def test_an_address_is_described() -> None:
    for place in ("https://name.vault.azure.net", "https://name.managedhsm.azure.net"):
        assert open_provider(f"azure-kv:{place}/keys/k").describe() == f"the Azure key k at {place}"


@pytest.mark.parametrize(("module", "package"), [("httpx", "httpx"), ("azure.identity", "azure-identity")])
def test_without_the_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf"needs {package}: pip install 'twofold\[azure\]'"):
        open_provider("azure-kv:https://name.vault.azure.net/keys/k")
