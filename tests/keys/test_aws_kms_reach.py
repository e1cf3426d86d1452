"""The way to AWS KMS: silence, credentials, proxies, logs, and how a key is addressed."""

import asyncio
import base64
import logging
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.keys.aws import ANYBODY, REGION, Credentials, open_provider, use_credentials
from tests.keys.contract_provider import KEY
from tests.keys.told_kms import ARN, FRESH_KEY, KEY_ID, Reply, ToldKms, answering, failing, fresh_key

from twofold.errors import ConfigurationError, ProviderAway
from twofold.keys import aws_kms


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_credentials(monkeypatch, tmp_path, {"default": ANYBODY})


@pytest.fixture
def told() -> Iterator[ToldKms]:
    with answering() as server:
        yield server


# --- without an answer ------------------------------------------------------------------------------------------------


async def test_a_kms_that_does_not_answer_is_away_in_time(told: ToldKms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_kms, "READ_S", 0.05)
    told.replies = [None]
    async with asyncio.timeout(30):
        with pytest.raises(ProviderAway, match="did not answer within"):
            await open_provider(ARN, endpoint=told.endpoint).wrap(KEY, key_id="data-1")
    assert len(told.requests) == 1


async def test_a_wait_for_kms_holds_up_nothing_else(told: ToldKms) -> None:
    told.replies = [None, fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    waiting = asyncio.create_task(provider.wrap(KEY, key_id="data-1"))
    assert await asyncio.to_thread(told.is_asked.wait, 30)
    assert (await provider.wrap(KEY, key_id="data-2")).wrapped
    assert not waiting.done()
    told.is_over.set()
    with pytest.raises(ProviderAway, match="closed the connection"):
        await waiting


async def test_a_kms_that_takes_no_connection_is_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(ProviderAway, match="cannot be reached"):
        await open_provider(ARN, endpoint=f"http://127.0.0.1:{port}").wrap(KEY, key_id="data-1")


async def test_a_kms_that_never_completes_a_connection_is_away_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws_kms, "CONNECT_S", 0.05)
    with ExitStack() as opened:
        full = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        provider = open_provider(ARN, endpoint=f"http://127.0.0.1:{full.getsockname()[1]}")
        async with asyncio.timeout(30):
            with pytest.raises(ProviderAway, match="no connection to AWS KMS within"):
                await provider.wrap(KEY, key_id="data-1")


async def test_a_kms_without_a_certificate_is_away(told: ToldKms) -> None:
    with pytest.raises(ProviderAway, match="certificate"):
        await open_provider(ARN, endpoint=told.endpoint.replace("http:", "https:")).wrap(KEY, key_id="data-1")
    assert told.requests == []


# --- credentials, and where they are sent -----------------------------------------------------------------------------


async def test_without_credentials_it_is_away_until_there_are_some(
    told: ToldKms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.replies = [fresh_key()]
    use_credentials(monkeypatch, tmp_path, {})
    provider = open_provider(ARN, endpoint=told.endpoint)
    with pytest.raises(ProviderAway, match="no AWS credentials"):
        await provider.wrap(KEY, key_id="data-1")
    assert told.requests == []
    use_credentials(monkeypatch, tmp_path, {"default": ANYBODY})
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


async def test_half_of_the_credentials_is_none(told: ToldKms, monkeypatch: pytest.MonkeyPatch) -> None:
    told.replies = [fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ANYBODY.access_key)
    with pytest.raises(ProviderAway, match="no AWS credentials"):
        await provider.wrap(KEY, key_id="data-1")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", ANYBODY.secret_key)
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


async def test_credentials_that_expired_are_looked_for_anew(
    told: ToldKms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.replies = [failing("ExpiredTokenException"), fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    with pytest.raises(ProviderAway):
        await provider.wrap(KEY, key_id="data-1")
    use_credentials(monkeypatch, tmp_path, {"default": Credentials("AKIANEW", "secret")})
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped
    before, after = (request.headers["authorization"] for request in told.requests)
    assert f"Credential={ANYBODY.access_key}/" in before
    assert "Credential=AKIANEW/" in after


async def test_a_role_that_sts_does_not_give_is_away_and_kms_is_not_asked(told: ToldKms, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        f"[profile verifier]\nrole_arn = arn:aws:iam::111122223333:role/x\nsource_profile = default\n"
        f"services = here\n[services here]\nsts =\n  endpoint_url = {told.endpoint}\n"
    )
    denied = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>no</Message></Error></ErrorResponse>"
    told.replies = [Reply(denied, 403)]
    with pytest.raises(ProviderAway, match=r"no AWS credentials.*AssumeRole: 'AccessDenied'"):
        await open_provider(ARN, endpoint="https://127.0.0.1:1", profile="verifier").wrap(KEY, key_id="data-1")


async def test_a_profile_of_its_own_signs_its_requests(
    told: ToldKms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_credentials(monkeypatch, tmp_path, {"default": ANYBODY, "verifier": Credentials("AKIAVERIFIER", "secret")})
    told.replies = [fresh_key()]
    await open_provider(ARN, endpoint=told.endpoint, profile="verifier").wrap(KEY, key_id="data-1")
    assert "Credential=AKIAVERIFIER/" in told.requests[0].headers["authorization"]


async def test_no_proxy_comes_between_this_machine_and_itself(told: ToldKms, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    told.replies = [fresh_key()]
    assert (await open_provider(ARN, endpoint=told.endpoint).wrap(KEY, key_id="data-1")).wrapped


async def test_no_variable_leads_to_another_kms(told: ToldKms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", told.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_KMS", told.endpoint)
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    told.replies = [fresh_key()]
    with pytest.raises(ProviderAway, match="the proxy to AWS KMS cannot be reached"):
        await open_provider(ARN).wrap(KEY, key_id="data-1")
    assert told.requests == []


async def test_neither_the_key_nor_the_fresh_one_is_logged(told: ToldKms, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told.replies = [fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    wrapping = await provider.wrap(KEY, key_id="data-1")
    await provider.unwrap(wrapping.wrapped, key_id="data-1")
    assert "Making request for" in caplog.text, "botocore logs, and only what may be seen"
    for secret in (FRESH_KEY, KEY):
        assert base64.b64encode(secret).decode() not in caplog.text
        assert repr(secret)[2:-1] not in caplog.text


# --- addresses --------------------------------------------------------------------------------------------------------


def test_the_region_is_an_option_or_part_of_the_arn_or_what_aws_programs_use_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert open_provider(KEY_ID, region="us-east-1").describe().endswith("in us-east-1")
    assert open_provider(ARN, region="").describe().endswith(f"in {REGION}")
    with pytest.raises(ConfigurationError, match="region=eu-central-1"):
        open_provider(KEY_ID, region="")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-north-1")
    assert open_provider(KEY_ID, region="").describe().endswith("in eu-north-1")


@pytest.mark.parametrize(
    ("place", "options", "words"),
    [
        ("", {}, "expected a key id"),
        ("my key", {}, "expected a key id"),
        ("keys/mine", {}, "expected a key id"),
        ("arn:aws:s3:::bucket", {}, "expected a key id"),
        ("alias/", {}, "expected a key id"),
        (ARN, {"region": "us-east-1"}, "not in us-east-1"),
        (KEY_ID, {"region": "eu central"}, "expected a region"),
        (KEY_ID, {"endpoint": "http://kms.example.com"}, "expected https"),
        (KEY_ID, {"endpoint": "https://me:secret@kms.example.com"}, "expected https"),
        (KEY_ID, {"endpoint": "ftp://127.0.0.1"}, "expected https"),
        (KEY_ID, {"endpoint": "https://[::1"}, "expected https"),
        (KEY_ID, {"endpoint": "127.0.0.1:5000"}, "expected https"),
        (KEY_ID, {"profile": "nobody"}, "nobody"),
        (KEY_ID, {"deployment": " "}, "deployment"),
        (KEY_ID, {"secret": "x"}, "no option 'secret'"),
    ],
)
def test_an_address_that_cannot_be_is_named_in_one_line(place: str, options: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as error:
        open_provider(place, **options)
    assert len(str(error.value).splitlines()) == 1
    assert str(error.value).startswith("KEY_PROVIDER aws-kms:")


def test_without_boto3_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3.session", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'twofold\[aws\]'"):
        open_provider(KEY_ID)
