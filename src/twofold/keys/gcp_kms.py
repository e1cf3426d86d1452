"""The `gcp-kms:` key provider: a symmetric key of Google Cloud Key Management Service, over its REST API v1.

`gcp-kms:projects/P/locations/L/keyRings/R/cryptoKeys/K`. The credentials are Google's application default ones.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec

from twofold.core.discreet import Discreet
from twofold.crypto.digest import length_prefixed
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys.https_json import READ_S, JsonService, read_address, require
from twofold.keys.uri import KeyUri
from twofold.ports import Entropy

_VERSION = b"\x01"
_ENDPOINT = "https://cloudkms.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/cloudkms"
_PART = r"[A-Za-z0-9_-]{1,63}"
_KEY = re.compile(rf"projects/[a-z0-9.:-]+/locations/{_PART}/keyRings/{_PART}/cryptoKeys/{_PART}")
_KNOWN_WORDS = (
    "PERMISSION_DENIED",
    "UNAUTHENTICATED",
    "NOT_FOUND",
    "INVALID_ARGUMENT",
    "FAILED_PRECONDITION",
    "DISABLED",
    "DESTROY_SCHEDULED",
    "DESTROYED",
    "RESOURCE_EXHAUSTED",
    "UNAVAILABLE",
    "INTERNAL",
)


def _in_camel_case(name: str) -> str:
    """`ciphertext_crc32c` as the API spells it. (msgspec's own way would make it `ciphertextCrc32C`.)"""
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


class _Encrypt(Discreet, frozen=True, rename=_in_camel_case):
    hidden: ClassVar[tuple[str, ...]] = ("plaintext",)

    plaintext: bytes
    plaintext_crc32c: str
    additional_authenticated_data: bytes
    additional_authenticated_data_crc32c: str


class _EncryptAnswer(msgspec.Struct, frozen=True, rename=_in_camel_case):
    name: str
    ciphertext: bytes
    ciphertext_crc32c: str
    verified_plaintext_crc32c: bool = False
    verified_additional_authenticated_data_crc32c: bool = False


class _Decrypt(msgspec.Struct, frozen=True, rename=_in_camel_case):
    ciphertext: bytes
    ciphertext_crc32c: str
    additional_authenticated_data: bytes
    additional_authenticated_data_crc32c: str


class _DecryptAnswer(Discreet, frozen=True, rename=_in_camel_case):
    hidden: ClassVar[tuple[str, ...]] = ("plaintext",)

    plaintext: bytes
    plaintext_crc32c: str


class GcpKmsProvider:
    """Wraps keys with a key of Cloud KMS, bound to key id and deployment as `additionalAuthenticatedData`.

    The service may rotate the key: a ciphertext itself tells which version opens it.
    """

    def __init__(self, service: JsonService, key: str, deployment: str) -> None:
        self._service = service
        self._key = key
        self._deployment = deployment

    @classmethod
    def open(cls, uri: KeyUri, entropy: Entropy, environment: Mapping[str, str]) -> Self:
        """The provider of a key; asks nothing yet, not even for credentials. Raises `ConfigurationError`.

        The service makes its own nonces, so `entropy` is not drawn from; google-auth reads the environment by itself.
        """
        uri.check_options("deployment", "endpoint")
        require("gcp-kms", "gcp", "httpx", "google.auth", "requests")
        if not _KEY.fullmatch(uri.place):
            raise ConfigurationError("KEY_PROVIDER gcp-kms: expected projects/P/locations/L/keyRings/R/cryptoKeys/K")
        origin, path = read_address("gcp-kms", uri.options.get("endpoint", _ENDPOINT))
        if path.strip("/"):
            raise ConfigurationError("KEY_PROVIDER gcp-kms: expected an endpoint without a path")
        name = f"the Cloud KMS key {uri.place}" + ("" if origin == _ENDPOINT else f" at {origin}")
        needs = "roles/cloudkms.cryptoKeyEncrypterDecrypter on it"
        service = JsonService(name, origin, _Tokens(name).headers, needs=needs, known_words=_KNOWN_WORDS)
        return cls(service, uri.place, uri.options.get("deployment", "twofold"))

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        """A version byte and the ciphertext."""
        binding = self._binding(key_id)
        question = _Encrypt(key, _crc32c(key), binding, _crc32c(binding))
        answer, request_id = await self._service.ask(f"/v1/{self._key}:encrypt", question, _EncryptAnswer)
        if not answer.name.startswith(f"{self._key}/cryptoKeyVersions/"):
            raise KeyRefused(f"{self._service.name}: another key answered", request_id)
        # https://cloud.google.com/kms/docs/data-integrity-guidelines: what was damaged on the way is asked for again.
        if not (
            answer.verified_plaintext_crc32c
            and answer.verified_additional_authenticated_data_crc32c
            and answer.ciphertext_crc32c == _crc32c(answer.ciphertext)
        ):
            raise ProviderAway(f"{self._service.name}: question or answer were damaged on the way")
        return Wrapping(_VERSION + answer.ciphertext, request_id)

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        ciphertext = wrapped.removeprefix(_VERSION)
        if not wrapped.startswith(_VERSION) or not ciphertext:
            raise KeyRefused(f"key {key_id} was not wrapped by Cloud KMS, or changed")
        binding = self._binding(key_id)
        question = _Decrypt(ciphertext, _crc32c(ciphertext), binding, _crc32c(binding))
        answer, request_id = await self._service.ask(f"/v1/{self._key}:decrypt", question, _DecryptAnswer)
        if answer.plaintext_crc32c != _crc32c(answer.plaintext):
            raise ProviderAway(f"{self._service.name}: the answer was damaged on the way")
        return Unwrapping(answer.plaintext, request_id)

    async def watch(self) -> None:
        """Nothing can be seen of the key without using it or more rights."""

    def describe(self) -> str:
        return self._service.name

    async def close(self) -> None:
        await self._service.close()

    def _binding(self, key_id: str) -> bytes:
        return length_prefixed(b"twofold/1", b"gcp-kms.wrapped", self._deployment.encode(), key_id.encode())


class _Tokens:
    """Google's application default credentials, found at the first use. They keep a token until shortly before its end.

    Blocks, and is called by one thread only.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        # google-auth has types in parts only.
        self._request: Any = None
        self._credentials: Any = None

    def headers(self, anew: bool) -> Mapping[str, str]:
        import google.auth  # noqa: PLC0415 - comes with an extra
        from google.auth import exceptions  # noqa: PLC0415 - as above
        from google.auth.transport.requests import Request  # noqa: PLC0415 - as above

        headers: dict[str, str] = {}
        try:
            if self._credentials is None:
                self._request = functools.partial(Request(), timeout=READ_S)
                self._credentials, _ = google.auth.default(scopes=[_SCOPE], request=self._request)
            elif anew:
                self._credentials.refresh(self._request)
            self._credentials.before_request(self._request, "POST", _ENDPOINT, headers)
        except exceptions.DefaultCredentialsError:
            raise KeyRefused(
                f"{self._name}: no usable Google credentials here: set GOOGLE_APPLICATION_CREDENTIALS, or run where "
                "Google gives this program an identity"
            ) from None
        except (exceptions.TransportError, OSError):
            raise ProviderAway(f"{self._name}: Google's token service cannot be reached") from None
        except exceptions.GoogleAuthError as error:
            # A metadata server out of reach comes as a refusal which that caused.
            if error.retryable or isinstance(error.__cause__, exceptions.TransportError):
                raise ProviderAway(f"{self._name}: Google's token service gives no token now") from None
            raise KeyRefused(f"{self._name}: Google's token service refuses this program") from None
        return headers


def _crc32c(data: bytes) -> str:
    """CRC-32C (RFC 9260 appendix A) as the API writes it. Keys are short: a table would not pay."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return str(crc ^ 0xFFFFFFFF)


_: type[KeyProvider] = GcpKmsProvider
