"""How keys are wrapped with AWS KMS, and what each answer of it means."""

import base64
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from botocore.session import get_session
from tests.keys.aws import ANYBODY, REGION, client, open_provider, running_moto, use_credentials
from tests.keys.contract_provider import KEY, ProviderContract
from tests.keys.told_kms import ARN, FRESH_KEY, KEY_ID, Reply, ToldKms, answering, failing, fresh_key

from twofold.errors import KeyRefused, ProviderAway
from twofold.keys.aws_kms import AwsKmsProvider

REPLICATED = "mrk-1234abcd12ab34cd56ef1234567890ab"
KEY_BYTES_AND_TAG = 48


@pytest.fixture(autouse=True)
def credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use_credentials(monkeypatch, tmp_path, {"default": ANYBODY})


# --- with moto, which keeps keys, encrypts, and checks the encryption context -----------------------------------------


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with running_moto() as endpoint:
        yield endpoint


@pytest.fixture
def kms(moto: str) -> Iterator[Any]:
    with closing(client(moto, "kms")) as kms:
        yield kms


def make_key(kms: Any) -> str:
    return str(kms.create_key()["KeyMetadata"]["Arn"])


class TestAwsKmsProvider(ProviderContract):
    @pytest.fixture
    async def provider(self, moto: str, kms: Any) -> AsyncIterator[AwsKmsProvider]:
        provider = open_provider(make_key(kms), endpoint=moto)
        yield provider
        await provider.close()

    @pytest.fixture
    async def stranger(self, moto: str, kms: Any) -> AsyncIterator[AwsKmsProvider]:
        stranger = open_provider(make_key(kms), endpoint=moto)
        yield stranger
        await stranger.close()

    @pytest.fixture
    def secrets(self) -> Sequence[str]:
        return (ANYBODY.access_key, ANYBODY.secret_key)


@pytest.mark.parametrize("name", ["key id", "ARN", "alias", "ARN of the alias"])
async def test_the_key_may_be_named_in_four_ways(moto: str, kms: Any, name: str) -> None:
    arn = make_key(kms)
    alias = f"alias/twofold/{arn[-12:]}"
    kms.create_alias(AliasName=alias, TargetKeyId=arn)
    alias_arn = f"{arn.rpartition(':')[0]}:{alias}"
    place = {"key id": arn.rpartition("/")[2], "ARN": arn, "alias": alias, "ARN of the alias": alias_arn}[name]
    provider = open_provider(place, endpoint=moto)
    wrapping = await provider.wrap(KEY, key_id="data-1")
    assert (await provider.unwrap(wrapping.wrapped, key_id="data-1")).key == KEY
    assert provider.describe() == f"the AWS KMS key {place} in {REGION} at {moto}"


async def test_an_alias_that_was_moved_is_another_master_key(moto: str, kms: Any) -> None:
    first, second = make_key(kms), make_key(kms)
    kms.create_alias(AliasName="alias/moved", TargetKeyId=first)
    provider = open_provider("alias/moved", endpoint=moto)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    kms.update_alias(AliasName="alias/moved", TargetKeyId=second)
    with pytest.raises(KeyRefused):
        await provider.unwrap(wrapped, key_id="data-1")
    kms.update_alias(AliasName="alias/moved", TargetKeyId=first)
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_another_deployment_under_the_same_master_key_does_not_open_it(moto: str, kms: Any) -> None:
    arn = make_key(kms)
    production, trial = (open_provider(arn, endpoint=moto, deployment=name) for name in ("production", "trial"))
    wrapped = (await production.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused, match="belongs to another deployment"):
        await trial.unwrap(wrapped, key_id="data-1")
    assert (await production.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_kms_itself_demands_the_encryption_context(moto: str, kms: Any) -> None:
    arn = make_key(kms)
    wrapped = (await open_provider(arn, endpoint=moto).wrap(KEY, key_id="data-1")).wrapped
    blob = wrapped[3:][: int.from_bytes(wrapped[1:3])]
    context = {"twofold:deployment": "twofold", "twofold:key": "data-1"}
    for wrong in ({}, {"twofold:key": "data-1"}, context | {"twofold:key": "data-2"}, context | {"more": "x"}):
        with pytest.raises(kms.exceptions.InvalidCiphertextException):
            kms.decrypt(CiphertextBlob=blob, EncryptionContext=wrong)
    assert len(kms.decrypt(CiphertextBlob=blob, EncryptionContext=context)["Plaintext"]) == 32


async def test_each_use_and_each_refusal_has_the_request_id_of_kms(moto: str, kms: Any) -> None:
    provider = open_provider(make_key(kms), endpoint=moto)
    wrapping = await provider.wrap(KEY, key_id="data-1")
    unwrapping = await provider.unwrap(wrapping.wrapped, key_id="data-1")
    with pytest.raises(KeyRefused) as refused:
        await provider.unwrap(wrapping.wrapped, key_id="data-2")
    request_ids = {wrapping.request_id, unwrapping.request_id, refused.value.request_id}
    assert len(request_ids) == 3
    assert "" not in request_ids


async def test_a_key_that_is_not_there_is_refused(moto: str) -> None:
    with pytest.raises(KeyRefused, match="there is no such key"):
        await open_provider(KEY_ID, endpoint=moto).wrap(KEY, key_id="data-1")


# --- with a KMS that answers as it is told ----------------------------------------------------------------------------


@pytest.fixture
def told() -> Iterator[ToldKms]:
    with answering() as server:
        yield server


async def test_only_two_operations_are_called_and_they_name_key_deployment_and_purpose(told: ToldKms) -> None:
    told.replies = [fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint, deployment="production")
    wrapping = await provider.wrap(KEY, key_id="data-1")
    assert (await provider.unwrap(wrapping.wrapped, key_id="data-1")).key == KEY
    await provider.watch()
    await provider.close()
    common = {"KeyId": ARN, "EncryptionContext": {"twofold:deployment": "production", "twofold:key": "data-1"}}
    assert [(request.headers["x-amz-target"], json.loads(request.body)) for request in told.requests] == [
        ("TrentService.GenerateDataKey", common | {"KeySpec": "AES_256"}),
        ("TrentService.Decrypt", common | {"CiphertextBlob": base64.b64encode(b"encrypted").decode()}),
    ]
    assert all("twofold" in request.headers["user-agent"] for request in told.requests)


AWAY = [
    ("ThrottlingException", 400, "throttles"),
    ("LimitExceededException", 400, "a limit"),
    ("KMSInternalException", 500, "a fault of its own"),
    ("DependencyTimeoutException", 500, "a fault of its own"),
    ("KeyUnavailableException", 500, "cannot reach the key"),
    ("ExpiredTokenException", 400, "no AWS credentials"),
    ("InvalidSignatureException", 400, "clock"),
    ("RequestExpired", 400, "clock"),
    ("InternalFailure", 500, "something else than AWS KMS"),
    ("ServiceUnavailable", 503, "something else than AWS KMS"),
]
REFUSED = [
    ("AccessDeniedException", "may not use it"),
    ("DisabledException", "disabled"),
    ("NotFoundException", "no such key"),
    ("KMSInvalidStateException", "deleted"),
    ("InvalidCiphertextException", "changed"),
    ("IncorrectKeyException", "another master key"),
    ("InvalidKeyUsageException", "symmetric"),
    ("UnrecognizedClientException", "credentials"),
    ("SomethingNewException", "'SomethingNewException'"),
]


@pytest.mark.parametrize(("code", "status", "words"), AWAY)
async def test_what_may_pass_by_itself_is_away_after_one_try(told: ToldKms, code: str, status: int, words: str) -> None:
    told.replies = [failing(code, status)]
    with pytest.raises(ProviderAway, match=words) as away:
        await open_provider(ARN, endpoint=told.endpoint).wrap(KEY, key_id="data-1")
    assert len(told.requests) == 1
    assert str(away.value).startswith(f"the AWS KMS key {ARN} in {REGION}")
    assert str(away.value).endswith("(request request-1)")
    assert "\n" not in str(away.value)


@pytest.mark.parametrize(("code", "words"), REFUSED)
async def test_what_kms_says_no_to_is_refused_after_one_try(told: ToldKms, code: str, words: str) -> None:
    told.replies = [fresh_key(), failing(code), fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused, match=words) as refused:
        await provider.unwrap(wrapped, key_id="data-1")
    assert len(told.requests) == 2
    assert refused.value.request_id == "request-1"
    assert "\n" not in str(refused.value)
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


def test_every_error_that_the_two_operations_can_answer_is_known() -> None:
    model = get_session().get_service_model("kms")
    named = {s.name for name in ("GenerateDataKey", "Decrypt") for s in model.operation_model(name).error_shapes}
    of_what_we_never_send = {"InvalidGrantTokenException", "DryRunOperationException"}
    assert named - of_what_we_never_send <= {code for code, *_ in (*AWAY, *REFUSED)}


@pytest.mark.parametrize(
    "reply",
    [
        Reply(b""),
        Reply(b"{}"),
        Reply(b"[]"),
        Reply(b"7"),
        Reply(b'"words"'),
        Reply(b"{"),
        Reply(b"\xff\xfe"),
        Reply(b"<html>Sign in to this network</html>"),
        fresh_key(Plaintext=None),
        fresh_key(Plaintext=7),
        fresh_key(Plaintext="A"),
        fresh_key(KeyId=None),
        fresh_key(KeyId=[]),
        Reply(b"<html>Bad gateway</html>", 502),
        Reply(b"", 503),
        Reply(b"<html>Sign in to the proxy</html>", 407),
        Reply(b"not here", 404),
        Reply(b"[]", 400),
        Reply(b"", 302, (("Location", "/elsewhere"),)),
        Reply(b"", 307, (("Location", "/elsewhere"),)),
    ],
    ids=str,
)
async def test_what_is_no_answer_of_kms_is_away_and_no_redirect_is_followed(told: ToldKms, reply: Reply) -> None:
    told.replies = [reply]
    with pytest.raises(ProviderAway) as away:
        await open_provider(ARN, endpoint=told.endpoint).wrap(KEY, key_id="data-1")
    assert len(told.requests) == 1
    assert "something else than AWS KMS answered" in str(away.value)


async def test_whatever_forbids_the_way_to_kms_refuses(told: ToldKms) -> None:
    told.replies = [Reply(b"<html>Forbidden</html>", 403), fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    with pytest.raises(KeyRefused, match="may not use it"):
        await provider.wrap(KEY, key_id="data-1")
    assert (await provider.wrap(KEY, key_id="data-1")).wrapped


@pytest.mark.parametrize(
    "arn",
    [
        ARN.replace("1234abcd", "9999abcd"),
        ARN.replace("111122223333", "444455556666"),
        ARN.replace(REGION, "us-east-1"),
        f"arn:aws:kms:{REGION}:111122223333:alias/twofold",
        KEY_ID,
        "",
    ],
)
async def test_an_answer_of_another_key_is_refused(told: ToldKms, arn: str) -> None:
    told.replies = [fresh_key(), fresh_key(KeyId=arn)]
    provider = open_provider(ARN, endpoint=told.endpoint)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused, match="another key answered") as refused:
        await provider.unwrap(wrapped, key_id="data-1")
    assert refused.value.request_id == "request-1"
    told.replies = [fresh_key()]
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_behind_an_alias_the_key_that_wrapped_must_be_the_one_that_unwraps(told: ToldKms) -> None:
    told.replies = [fresh_key(), fresh_key(KeyId=ARN.replace("1234abcd", "9999abcd")), fresh_key()]
    provider = open_provider("alias/twofold", endpoint=told.endpoint)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused):
        await provider.unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_deployment_and_key_id_are_bound_here_too_should_kms_not_look_at_them(told: ToldKms) -> None:
    told.replies = [fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint, deployment="production")
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused):
        await provider.unwrap(wrapped, key_id="data-2")
    with pytest.raises(KeyRefused):
        await open_provider(ARN, endpoint=told.endpoint, deployment="trial").unwrap(wrapped, key_id="data-1")
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


async def test_a_replica_of_a_multi_region_key_opens_what_the_first_one_wrapped(told: ToldKms) -> None:
    here = ARN.replace(KEY_ID, REPLICATED)
    there = here.replace(REGION, "us-east-1")
    told.replies = [fresh_key(KeyId=here), fresh_key(KeyId=there)]
    wrapped = (await open_provider(here, endpoint=told.endpoint).wrap(KEY, key_id="data-1")).wrapped
    replica = open_provider(there, region="", endpoint=told.endpoint)
    assert (await replica.unwrap(wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize("plain", [b"", b"short", FRESH_KEY[:16], FRESH_KEY + b"!"])
async def test_a_fresh_key_of_another_size_is_refused(told: ToldKms, plain: bytes) -> None:
    told.replies = [fresh_key(Plaintext=base64.b64encode(plain).decode())]
    with pytest.raises(KeyRefused, match="not a key"):
        await open_provider(ARN, endpoint=told.endpoint).wrap(KEY, key_id="data-1")


async def test_another_fresh_key_does_not_open_it(told: ToldKms) -> None:
    other = base64.b64encode(FRESH_KEY[::-1]).decode()
    told.replies = [fresh_key(), fresh_key(Plaintext=other), fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    with pytest.raises(KeyRefused) as refused:
        await provider.unwrap(wrapped, key_id="data-1")
    assert refused.value.request_id == "request-1"
    assert (await provider.unwrap(wrapped, key_id="data-1")).key == KEY


@pytest.mark.parametrize("damage", ["no version", "another version", "no blob", "a blob that is too long", "cut off"])
async def test_what_was_never_wrapped_here_is_refused_without_asking_kms(told: ToldKms, damage: str) -> None:
    told.replies = [fresh_key()]
    provider = open_provider(ARN, endpoint=told.endpoint)
    wrapped = (await provider.wrap(KEY, key_id="data-1")).wrapped
    damaged = {
        "no version": b"",
        "another version": b"\x02" + wrapped[1:],
        "no blob": b"\x01\0\0" + wrapped[3:],
        "cut off": wrapped[:-KEY_BYTES_AND_TAG],
        "a blob that is too long": b"\x01" + (6145).to_bytes(2) + bytes(7000),
    }[damage]
    with pytest.raises(KeyRefused):
        await provider.unwrap(damaged, key_id="data-1")
    assert len(told.requests) == 1
