import json
import socket
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import pytest
from joserfc.jwk import RSAKey
from tests.keys.contract_json_service import JsonServiceContract
from tests.keys.contract_provider import KEY, ProviderContract
from tests.keys.gcp_service import KmsService, crc32c
from tests.keys.local_service import changing, say, saying
from tests.kit import RepeatableEntropy

from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.keys import gcp_kms
from twofold.keys.gcp_kms import GcpKmsProvider
from twofold.keys.uri import read_uri

TWOFOLD = f"{KmsService.RING}/twofold"
OTHER = f"{KmsService.RING}/other"


def open_provider(uri: str) -> GcpKmsProvider:
    return GcpKmsProvider.open(read_uri(uri), RepeatableEntropy(), {})


@pytest.fixture(scope="module")
def account() -> RSAKey:
    return RSAKey.generate_key(2048)


@pytest.fixture
def service(account: RSAKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KmsService]:
    """The service, and this program as a service account of it."""
    service = KmsService(account)
    file = tmp_path / "account.json"
    described = {
        "type": "service_account",
        "project_id": "example",
        "private_key_id": "k1",
        "private_key": account.as_pem(private=True).decode(),
        "client_email": "twofold@example.iam.gserviceaccount.com",
        "token_uri": f"{service.origin}/token",
    }
    file.write_text(json.dumps(described))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(file))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    with service.running():
        yield service


@pytest.fixture
async def provider(service: KmsService) -> AsyncIterator[GcpKmsProvider]:
    provider = open_provider(f"gcp-kms:{TWOFOLD}?endpoint={service.origin}")
    yield provider
    await provider.close()


@pytest.fixture
async def stranger(service: KmsService) -> AsyncIterator[GcpKmsProvider]:
    provider = open_provider(f"gcp-kms:{OTHER}?endpoint={service.origin}")
    yield provider
    await provider.close()


@pytest.fixture
def secrets() -> Sequence[str]:
    return ["ya29.", "PRIVATE KEY"]


class TestGcpKms(ProviderContract, JsonServiceContract):
    pass


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        # RFC 3720 appendix B.4, read as numbers, and the check value of the catalogues.
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksums_are_those_of_the_standard(data: bytes, checksum: int) -> None:
    assert gcp_kms._crc32c(data) == crc32c(data) == str(checksum)


async def test_a_wrapped_key_is_bound_to_its_deployment(provider: GcpKmsProvider, service: KmsService) -> None:
    elsewhere = open_provider(f"gcp-kms:{TWOFOLD}?endpoint={service.origin}&deployment=staging")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused, match="INVALID_ARGUMENT"):
        await elsewhere.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    await elsewhere.close()


async def test_after_google_rotated_its_key_the_old_ones_open_until_their_version_is_disabled(
    provider: GcpKmsProvider, service: KmsService
) -> None:
    key = service.keys[TWOFOLD]
    old = (await provider.wrap(KEY, key_id="data-1")).wrapped
    key.rotate()
    new = (await provider.wrap(KEY, key_id="data-1")).wrapped
    for wrapped in (old, new):
        assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    for state in ("DISABLED", "DESTROY_SCHEDULED", "DESTROYED"):
        key.states[0] = state
        with pytest.raises(KeyRefused, match=f"FAILED_PRECONDITION.*{state}"):
            await provider.unwrap(old, key_id="data-1")
        assert (await provider.unwrap(new, key_id="data-1")).key == KEY
    key.states[0] = "ENABLED"
    assert (await provider.unwrap(old, key_id="data-1")).key == KEY
    key.states[1] = "DISABLED"
    with pytest.raises(KeyRefused, match="DISABLED"):
        await provider.wrap(KEY, key_id="data-1")


async def test_a_right_that_was_taken_away_is_refused(provider: GcpKmsProvider, service: KmsService) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    service.is_permitted = False
    with pytest.raises(KeyRefused, match="PERMISSION_DENIED"):
        await provider.unwrap(wrapped, key_id="data-1")
    service.is_permitted = True
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY
    del service.keys[TWOFOLD]
    with pytest.raises(KeyRefused, match="NOT_FOUND"):
        await provider.unwrap(wrapped, key_id="data-1")


@pytest.mark.parametrize("name", [f"{OTHER}/cryptoKeyVersions/1", TWOFOLD, f"{TWOFOLD}2/cryptoKeyVersions/1", ""])
async def test_an_answer_of_another_key_is_refused(provider: GcpKmsProvider, service: KmsService, name: str) -> None:
    service.plan(changing(lambda answer: answer.update(name=name)))
    with pytest.raises(KeyRefused, match="another key answered"):
        await provider.wrap(KEY, key_id="data-1")
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("ciphertext", "AAAA"),
        ("ciphertextCrc32c", "1"),
        ("verifiedPlaintextCrc32c", False),
        ("verifiedAdditionalAuthenticatedDataCrc32c", False),
    ],
)
async def test_what_was_damaged_while_wrapping_is_not_stored(
    provider: GcpKmsProvider, service: KmsService, field: str, value: object
) -> None:
    service.plan(changing(lambda answer: answer.update({field: value})))
    with pytest.raises(ProviderAway, match="damaged on the way"):
        await provider.wrap(KEY, key_id="data-1")
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


@pytest.mark.parametrize(("field", "value"), [("plaintext", "AAAA"), ("plaintextCrc32c", "1")])
async def test_what_was_damaged_while_unwrapping_is_not_used(
    provider: GcpKmsProvider, service: KmsService, field: str, value: object
) -> None:
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    service.plan(changing(lambda answer: answer.update({field: value})))
    with pytest.raises(ProviderAway, match="damaged on the way"):
        await provider.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_one_token_serves_until_it_is_not_accepted_any_more(
    provider: GcpKmsProvider, service: KmsService
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


async def test_a_token_that_ends_soon_is_renewed_in_time(provider: GcpKmsProvider, service: KmsService) -> None:
    service.tokens.add("ya29.short")
    service.token_reply = say(200, {"access_token": "ya29.short", "expires_in": 60, "token_type": "Bearer"})
    await provider.wrap(KEY, key_id="data-1")
    service.token_reply = None
    service.tokens.clear()
    await provider.wrap(KEY, key_id="data-1")
    assert [call.path for call in service.calls][2:] == ["/token", f"/v1/{TWOFOLD}:encrypt"]


async def test_a_token_service_that_refuses_and_one_that_fails_are_told_apart(
    provider: GcpKmsProvider, service: KmsService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    service.token_reply = say(400, {"error": "invalid_grant", "error_description": "Invalid grant: account not found"})
    with pytest.raises(KeyRefused, match="token service refuses this program"):
        await provider.wrap(KEY, key_id="data-1")
    service.token_reply = say(503, {"error": "temporarily_unavailable"})
    with pytest.raises(ProviderAway, match="gives no token now"):
        await provider.wrap(KEY, key_id="data-1")
    service.token_reply = None
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


async def test_a_token_service_out_of_reach_may_be_there_again(
    provider: GcpKmsProvider, service: KmsService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("google.auth._exponential_backoff.time.sleep", lambda _: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    account = json.loads((tmp_path / "account.json").read_text())
    (tmp_path / "account.json").write_text(json.dumps({**account, "token_uri": f"http://127.0.0.1:{port}/token"}))
    with pytest.raises(ProviderAway, match="token service cannot be reached"):
        await provider.wrap(KEY, key_id="data-1")


async def test_without_credentials_it_says_where_to_put_them(
    provider: GcpKmsProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "missing.json"))
    with pytest.raises(KeyRefused, match="set GOOGLE_APPLICATION_CREDENTIALS"):
        await provider.wrap(KEY, key_id="data-1")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    with pytest.raises(KeyRefused, match="set GOOGLE_APPLICATION_CREDENTIALS"):
        await provider.wrap(KEY, key_id="data-1")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "account.json"))
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("gcp-kms:", "expected projects/P"),
        (f"gcp-kms:{TWOFOLD}/", "expected projects/P"),
        (f"gcp-kms:{TWOFOLD}/cryptoKeyVersions/1", "expected projects/P"),
        (f"gcp-kms:/{TWOFOLD}", "expected projects/P"),
        (f"gcp-kms:{TWOFOLD}:decrypt#", "expected projects/P"),
        (f"gcp-kms:{TWOFOLD}?endpoint=http://kms.example.com", "http is only for this machine"),
        (f"gcp-kms:{TWOFOLD}?endpoint=kms.example.com", "expected https://host"),
        (f"gcp-kms:{TWOFOLD}?endpoint=https://kms.example.com/v1", "without a path"),
        (f"gcp-kms:{TWOFOLD}?region=eu", "has no option 'region'"),
    ],
)
def test_an_address_that_cannot_be_meant_is_named_in_one_line(uri: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        open_provider(uri)
    assert "\n" not in str(error.value)


def test_an_address_is_described() -> None:
    assert open_provider(f"gcp-kms:{TWOFOLD}").describe() == f"the Cloud KMS key {TWOFOLD}"
    regional = "https://cloudkms.europe-west3.rep.googleapis.com"
    described = open_provider(f"gcp-kms:{TWOFOLD}?endpoint={regional}").describe()
    assert described == f"the Cloud KMS key {TWOFOLD} at {regional}"
    assert open_provider("gcp-kms:" + TWOFOLD.replace("example", "example.com:team")).describe()


@pytest.mark.parametrize(("module", "package"), [("httpx", "httpx"), ("google.auth", "google-auth")])
def test_without_the_extra_it_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=rf"needs {package}: pip install 'twofold\[gcp\]'"):
        open_provider(f"gcp-kms:{TWOFOLD}")
