"""The `aws-kms:` key provider: keys wrapped under a key of AWS KMS, which never leaves it.

KMS makes a fresh key for each of ours and answers with it in clear and encrypted (GenerateDataKey); stored are the
encrypted one and ours, sealed under it. Decrypt is the only other call: `deploy/aws/` gives these two rights, no more.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from threading import Lock
from typing import Any, ClassVar, Protocol, Self
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.config import is_loopback
from twofold.core.discreet import Discreet
from twofold.crypto.digest import length_prefixed
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway, Unavailable
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys.https_json import read_address
from twofold.keys.uri import KeyUri
from twofold.ports import Entropy

CONNECT_S = 2
READ_S = 3
_CALLS_AT_ONCE = 4
_VERSION = b"\x01"
_NONCE_BYTES = 12
_TAG_BYTES = 16
_BLOB_BYTES_MAX = 6144  # of Decrypt's CiphertextBlob
_FRESH_KEY_BYTES = 32
_KEY = re.compile(r"(arn:[\w-]+:kms:(?P<region>[\w-]+):\d{12}:(key|alias)/|alias/|(?!.*/))[\w/-]+", re.ASCII)
_ANSWERED_KEY = re.compile(r"arn:[\w-]+:kms:[\w-]+:(?P<anywhere>\d{12}:key/(?P<id>[\w-]+))", re.ASCII)

_RIGHTS = "this program may not use it; its role needs kms:GenerateDataKey and kms:Decrypt, see deploy/aws"
_CREDENTIALS = "there are no AWS credentials that count; give this machine its role, or look at its AWS profile"
_SIGNATURE = "AWS does not take the signature; is the clock of this machine right?"
_GARBAGE = "something else than AWS KMS answered"
#: What may pass by itself: error codes of KMS, and names of botocore's exceptions.
_AWAY = {
    "ThrottlingException": "AWS KMS throttles this account",
    "LimitExceededException": "a limit of AWS KMS is reached",
    "KMSInternalException": "AWS KMS has a fault of its own",
    "DependencyTimeoutException": "AWS KMS has a fault of its own",
    "KeyUnavailableException": "AWS KMS cannot reach the key now",
    "ExpiredTokenException": _CREDENTIALS,
    "InvalidSignatureException": _SIGNATURE,
    "RequestExpired": _SIGNATURE,
    "ConnectTimeoutError": f"no connection to AWS KMS within {CONNECT_S} s",
    "ReadTimeoutError": f"AWS KMS did not answer within {READ_S} s",
    "EndpointConnectionError": "AWS KMS cannot be reached",
    "ConnectionClosedError": "AWS KMS closed the connection",
    "SSLError": "the certificate of AWS KMS is not trusted here",
    "ProxyConnectionError": "the proxy to AWS KMS cannot be reached",
    "PartialCredentialsError": _CREDENTIALS,
    "CredentialRetrievalError": _CREDENTIALS,
    "TokenRetrievalError": _CREDENTIALS,
    "SSOTokenLoadError": _CREDENTIALS,
    "UnauthorizedSSOTokenError": _CREDENTIALS,
    "LoginRefreshRequired": _CREDENTIALS,
}
#: What KMS says no to. An error code that is not known here is a no as well.
_REFUSED = {
    "AccessDeniedException": _RIGHTS,
    "403": _RIGHTS,
    "UnrecognizedClientException": "AWS does not know the credentials of this program any more",
    "DisabledException": "it is disabled",
    "NotFoundException": "there is no such key in this account and region",
    "KMSInvalidStateException": "it is about to be deleted, or its key store is not connected",
    "InvalidCiphertextException": "the wrapped key was changed, or belongs to another deployment",
    "IncorrectKeyException": "the wrapped key belongs to another master key; was the alias moved?",
    "InvalidKeyUsageException": "it is not for encryption; expected a symmetric key",
}
#: After these, credentials are looked for anew: files and profiles may have changed.
_STALE = {"ExpiredTokenException", "UnrecognizedClientException", "InvalidSignatureException"}


class _Kms(Protocol):
    """What of boto3's client is used."""

    def generate_data_key(self, **arguments: object) -> Mapping[str, Any]: ...
    def decrypt(self, **arguments: object) -> Mapping[str, Any]: ...
    def close(self) -> None: ...


class _Answer(Discreet, frozen=True):
    """What KMS answered: the fresh key, encrypted too if it was just made, and the key of KMS that did it."""

    hidden: ClassVar[tuple[str, ...]] = ("fresh_key",)

    fresh_key: bytes
    blob: bytes
    kms_key: str
    request_id: str


class AwsKmsProvider:
    """Wraps each key with AES-256-GCM under a fresh key of its own that only KMS can open again.

    `key` is a key id, an ARN or an alias. Decrypt is asked for that very name, so KMS itself refuses what another key
    encrypted, and an alias that was moved is another master key. `connect` makes a client, or None without credentials.
    """

    def __init__(
        self, key: str, where: str, deployment: str, connect: Callable[[], _Kms | None], entropy: Entropy
    ) -> None:
        self._key = key
        self._where = where
        self._deployment = deployment
        self._connect = connect
        self._entropy = entropy
        self._kms: _Kms | None = None
        self._connecting = Lock()
        self._threads = ThreadPoolExecutor(_CALLS_AT_ONCE, "aws-kms")

    @classmethod
    def open(cls, uri: KeyUri, entropy: Entropy, environment: Mapping[str, str]) -> Self:
        """The provider of `aws-kms:<key id, ARN or alias/…>?region=…&endpoint=…&profile=…&deployment=…`.

        Credentials are found by boto3, where every AWS program finds them, so `environment` is not read here. Nothing
        is asked of KMS yet. Raises `ConfigurationError`.
        """
        uri.check_options("region", "endpoint", "profile", "deployment")
        key = _KEY.fullmatch(uri.place)
        if not key:
            raise ConfigurationError(f"KEY_PROVIDER aws-kms:{uri.place}: expected a key id, an ARN or alias/name")
        endpoint = uri.options.get("endpoint")
        if endpoint is not None:
            endpoint = "".join(read_address(uri.kind, endpoint))
        deployment = uri.options.get("deployment", "twofold")
        if not deployment.strip():
            raise ConfigurationError("KEY_PROVIDER aws-kms: deployment: expected a name")
        region, connect = _connector(uri.options.get("region"), uri.options.get("profile"), endpoint, key["region"])
        where = region if endpoint is None else f"{region} at {endpoint}"
        return cls(uri.place, where, deployment, connect, entropy)

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        answer = await self._ask("GenerateDataKey", key_id, KeySpec="AES_256")
        nonce = self._entropy.bytes(_NONCE_BYTES)
        sealed = AESGCM(answer.fresh_key).encrypt(nonce, key, self._additional_data(key_id, answer.kms_key))
        return Wrapping(_VERSION + len(answer.blob).to_bytes(2) + answer.blob + nonce + sealed, answer.request_id)

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        blob, nonce, sealed = self._take_apart(wrapped, key_id)
        answer = await self._ask("Decrypt", key_id, CiphertextBlob=blob)
        try:
            key = AESGCM(answer.fresh_key).decrypt(nonce, sealed, self._additional_data(key_id, answer.kms_key))
        except InvalidTag:
            raise KeyRefused(self._changed(key_id), answer.request_id) from None
        return Unwrapping(key, answer.request_id)

    async def watch(self) -> None:
        """Nothing: KMS keeps no session, and every look at it would be a use."""

    def describe(self) -> str:
        return f"the AWS KMS key {self._key} in {self._where}"

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._kms is not None:
            self._kms.close()

    def _take_apart(self, wrapped: bytes, key_id: str) -> tuple[bytes, bytes, bytes]:
        """The key that KMS encrypted, the nonce, and our key sealed under it."""
        size = int.from_bytes(wrapped[1:3])
        blob, rest = wrapped[3 : 3 + size], wrapped[3 + size :]
        if wrapped[:1] != _VERSION or not 0 < size <= _BLOB_BYTES_MAX or len(rest) < _NONCE_BYTES + _TAG_BYTES:
            raise KeyRefused(self._changed(key_id))
        return blob, rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]

    def _additional_data(self, key_id: str, kms_key: str) -> bytes:
        # The key of KMS that answers Decrypt must be the one that answered GenerateDataKey, also behind an alias. Its
        # region is left out: the replicas of a multi-Region key open what any of them encrypted.
        parts = ("twofold/1", "aws-kms.wrapped", self._deployment, key_id, kms_key)
        return length_prefixed(*(part.encode() for part in parts))

    def _changed(self, key_id: str) -> str:
        return f"{self.describe()}: key {key_id} was changed, or belongs to another master key or deployment"

    async def _ask(self, operation: str, key_id: str, **arguments: object) -> _Answer:
        call = partial(self._call, operation, key_id, arguments)
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def _call(self, operation: str, key_id: str, arguments: Mapping[str, object]) -> _Answer:
        """One call, in a thread: either its answer or `ProviderAway` or `KeyRefused`."""
        from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped] # noqa: PLC0415
        from botocore.parsers import ResponseParserError  # type: ignore[import-untyped] # noqa: PLC0415

        context = {"twofold:deployment": self._deployment, "twofold:key": key_id}
        try:
            kms = self._connected()
            call = kms.decrypt if operation == "Decrypt" else kms.generate_data_key
            return self._read(call(KeyId=self._key, EncryptionContext=context, **arguments))
        except ClientError as error:
            raise self._failure(operation, error.operation_name, error.response) from None
        except BotoCoreError as error:
            name = type(error).__name__
            raise ProviderAway(f"{self.describe()}: {_AWAY.get(name, name)}") from None
        except (ResponseParserError, AttributeError, LookupError, TypeError, ValueError):
            raise ProviderAway(f"{self.describe()}: {_GARBAGE}") from None

    def _connected(self) -> _Kms:
        with self._connecting:
            self._kms = kms = self._kms or self._connect()
        if kms is None:
            raise ProviderAway(f"{self.describe()}: {_CREDENTIALS}")
        return kms

    def _read(self, answer: Mapping[str, Any]) -> _Answer:
        request_id = answer["ResponseMetadata"].get("RequestId", "")
        kms_key = _ANSWERED_KEY.fullmatch(answer["KeyId"])
        # Which key an alias means only KMS knows; that it is the same one at both ends, the additional data sees to.
        if kms_key is None or not ("alias/" in self._key or self._key in (kms_key[0], kms_key["id"])):
            raise KeyRefused(f"{self.describe()}: another key answered{_in_log(request_id)}", request_id)
        fresh_key = answer["Plaintext"]
        if len(fresh_key) != _FRESH_KEY_BYTES:
            raise KeyRefused(f"{self.describe()}: the answer is not a key{_in_log(request_id)}", request_id)
        return _Answer(fresh_key, answer.get("CiphertextBlob", b""), kms_key["anywhere"], request_id)

    def _failure(self, operation: str, answered: str, response: Mapping[str, Any]) -> Unavailable:
        """What an error answer means; `answered` is the operation that it answers."""
        code, metadata = str(response["Error"]["Code"]), response["ResponseMetadata"]
        if code in _STALE:
            self._kms = None
        if answered != operation:  # it was STS, asked for credentials
            return ProviderAway(f"{self.describe()}: {_CREDENTIALS} ({answered}: {code!r})")
        request_id = metadata.get("RequestId", "")
        # KMS names its errors: a bare status is that of something between, and only its 403 is meant as a no.
        if code not in _REFUSED and (code in _AWAY or code.isdigit() or metadata["HTTPStatusCode"] >= 500):
            return ProviderAway(f"{self.describe()}: {_AWAY.get(code, _GARBAGE)}{_in_log(request_id)}")
        return KeyRefused(f"{self.describe()}: {_REFUSED.get(code, repr(code))}{_in_log(request_id)}", request_id)


def _in_log(request_id: str) -> str:
    return f" (request {request_id})" if request_id else ""


def _connector(
    region: str | None, profile: str | None, endpoint: str | None, region_of_key: str | None
) -> tuple[str, Callable[[], _Kms | None]]:
    """The region, and what makes a client in it: None while there are no credentials, each time looked for anew."""
    try:
        import boto3.session  # type: ignore[import-untyped] # noqa: PLC0415 - an extra, and slow to import
        from botocore.config import Config  # type: ignore[import-untyped] # noqa: PLC0415
        from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    except ImportError:
        raise ConfigurationError("KEY_PROVIDER aws-kms: needs boto3: pip install 'twofold[aws]'") from None
    # At DEBUG it writes down whole answers, and there are keys in ours.
    logging.getLogger("botocore.parsers").setLevel(logging.INFO)
    try:
        region_here = boto3.session.Session(profile_name=profile).region_name
    except BotoCoreError as error:
        raise ConfigurationError(f"KEY_PROVIDER aws-kms: {error}") from None
    region = region or region_of_key or region_here
    if not region or not re.fullmatch(r"[a-z0-9-]+", region):
        raise ConfigurationError("KEY_PROVIDER aws-kms: expected a region: add ?region=eu-central-1 or the like")
    if region_of_key not in (None, region):
        raise ConfigurationError(f"KEY_PROVIDER aws-kms: the key is in {region_of_key}, not in {region}")
    config = Config(
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=_CALLS_AT_ONCE,
        user_agent_extra="twofold",
        # What is stored as the address of the key says where it is: no variable leads elsewhere.
        ignore_configured_endpoint_urls=True,
        # A proxy is the way out to AWS, never to this machine.
        proxies={} if endpoint is not None and is_loopback(urlsplit(endpoint).hostname) else None,
    )

    def connect() -> _Kms | None:
        session = boto3.session.Session(profile_name=profile, region_name=region)
        if session.get_credentials() is None:
            return None
        kms: _Kms = session.client("kms", endpoint_url=endpoint, config=config)
        return kms

    return region, connect


_: type[KeyProvider] = AwsKmsProvider
