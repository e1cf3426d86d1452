"""The `azure-kv:` key provider: a key in Azure Key Vault or Managed HSM, over its REST API 7.4.

`azure-kv:https://NAME.vault.azure.net/keys/K`, or with `/version` to wrap with that version only. The credentials are
what `DefaultAzureCredential` of azure-identity finds.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from twofold.core.discreet import Discreet
from twofold.crypto.digest import length_prefixed
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys.https_json import CONNECT_S, READ_S, JsonService, read_address, require
from twofold.keys.uri import KeyUri
from twofold.ports import Entropy

if TYPE_CHECKING:
    from azure.identity import DefaultAzureCredential

_VERSION = b"\x01"
_KEY_VERSION_BYTES = 16
_LENGTH_BYTES = 2
_NONCE_BYTES = 12
_KEK_BYTES = 32
_API = "api-version=7.4"
_ALGORITHMS = ("RSA-OAEP-256", "A256KW")
_PLACE = re.compile(r"/keys/([A-Za-z0-9-]{1,127})(?:/([0-9a-f]{32}))?")
_KNOWN_WORDS = (
    "Unauthorized",
    "ForbiddenByPolicy",
    "ForbiddenByRbac",
    "ForbiddenByFirewall",
    "ForbiddenByConnection",
    "AccessDenied",
    "KeyDisabled",
    "KeyNotFound",
    "ObjectIsDeletedButRecoverable",
    "BadParameter",
    "Throttled",
)


class _KeyOperation(Discreet, frozen=True):
    """What is sent for both operations, in base64url."""

    hidden: ClassVar[tuple[str, ...]] = ("value",)

    alg: str
    value: str


class _KeyOperationResult(Discreet, frozen=True):
    hidden: ClassVar[tuple[str, ...]] = ("value",)

    kid: str
    value: str


class AzureKeyVaultProvider:
    """Wraps a fresh key-encryption key with the key in Azure, and seals ours under that with AES-256-GCM.

    Azure's `wrapkey` cannot bind what it wraps to anything; the seal binds the key to its id, the deployment, and the
    version of the key in Azure. That version is stored and asked for again: the service may rotate its key.
    """

    def __init__(
        self, service: JsonService, place: tuple[str, str, str], algorithm: str, deployment: str, entropy: Entropy
    ) -> None:
        self._service = service
        self._host, self._name, self._key_version = place
        self._algorithm = algorithm
        self._deployment = deployment
        self._entropy = entropy

    @classmethod
    def open(cls, uri: KeyUri, entropy: Entropy, environment: Mapping[str, str]) -> Self:
        """The provider of a key; asks nothing yet, not even for credentials. Raises `ConfigurationError`.

        azure-identity reads the environment by itself.
        """
        uri.check_options("deployment", "alg")
        require("azure-kv", "azure", "httpx", "azure.identity")
        origin, path = read_address("azure-kv", uri.place)
        place = _PLACE.fullmatch(path)
        if not place:
            raise ConfigurationError("KEY_PROVIDER azure-kv: expected https://NAME.vault.azure.net/keys/KEY[/version]")
        algorithm = uri.options.get("alg", _ALGORITHMS[0])
        if algorithm not in _ALGORITHMS:
            raise ConfigurationError(f"KEY_PROVIDER azure-kv: expected alg={' or alg='.join(_ALGORITHMS)}")
        host = urlsplit(origin).hostname or ""
        name = f"the Azure key {place[1]} at {origin}"
        service = JsonService(
            name,
            origin,
            _Tokens(name, origin).headers,
            needs="the rights wrapKey and unwrapKey: role Key Vault Crypto Service Encryption User",
            known_words=_KNOWN_WORDS,
            request_id_header="x-ms-request-id",
        )
        deployment = uri.options.get("deployment", "twofold")
        return cls(service, (host, place[1], place[2] or ""), algorithm, deployment, entropy)

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        """A version byte, the version of the key in Azure, the wrapped key-encryption key, nonce and sealed key."""
        kek = self._entropy.bytes(_KEK_BYTES)
        key_version, wrapped_kek, request_id = await self._ask("wrapkey", self._key_version, kek)
        length = len(wrapped_kek).to_bytes(_LENGTH_BYTES)
        head = _VERSION + bytes.fromhex(key_version) + length + wrapped_kek
        nonce = self._entropy.bytes(_NONCE_BYTES)
        sealed = AESGCM(kek).encrypt(nonce, key, self._binding(key_id, head))
        return Wrapping(head + nonce + sealed, request_id)

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        start = len(_VERSION) + _KEY_VERSION_BYTES + _LENGTH_BYTES
        end = start + int.from_bytes(wrapped[start - _LENGTH_BYTES : start])
        if not wrapped.startswith(_VERSION) or start == end or len(wrapped) <= end + _NONCE_BYTES:
            raise KeyRefused(f"key {key_id} was not wrapped by Azure Key Vault, or changed")
        head, nonce, sealed = wrapped[:end], wrapped[end : end + _NONCE_BYTES], wrapped[end + _NONCE_BYTES :]
        key_version = wrapped[len(_VERSION) : start - _LENGTH_BYTES].hex()
        _, kek, request_id = await self._ask("unwrapkey", key_version, wrapped[start:end])
        try:
            key = AESGCM(kek).decrypt(nonce, sealed, self._binding(key_id, head))
        except (InvalidTag, ValueError):
            raise KeyRefused(f"{self._service.name}: key {key_id} is not what was wrapped", request_id) from None
        return Unwrapping(key, request_id)

    async def watch(self) -> None:
        """Nothing can be seen of the key without using it or more rights."""

    def describe(self) -> str:
        return self._service.name

    async def close(self) -> None:
        await self._service.close()

    async def _ask(self, operation: str, key_version: str, value: bytes) -> tuple[str, bytes, str]:
        """The version of the key that answered, what it wrapped or unwrapped, and the request's id."""
        path = "/".join(filter(None, ("/keys", self._name, key_version, operation)))
        question = _KeyOperation(self._algorithm, base64.urlsafe_b64encode(value).rstrip(b"=").decode())
        result, request_id = await self._service.ask(f"{path}?{_API}", question, _KeyOperationResult)
        try:
            kid = urlsplit(result.kid)
            answered = _PLACE.fullmatch(kid.path)
            padded = result.value + "=" * (-len(result.value) % 4)
            value = base64.b64decode(padded, altchars=b"-_", validate=True)
        except ValueError:
            raise self._service.unreadable() from None
        if not answered or (kid.hostname, answered[1].lower()) != (self._host, self._name.lower()):
            raise KeyRefused(f"{self._service.name}: another key answered", request_id)
        if not answered[2] or answered[2] != (key_version or answered[2]):
            raise KeyRefused(f"{self._service.name}: another version of it answered", request_id)
        return answered[2], value, request_id

    def _binding(self, key_id: str, head: bytes) -> bytes:
        return length_prefixed(b"twofold/1", b"azure-kv.wrapped", self._deployment.encode(), key_id.encode(), head)


class _Tokens:
    """What `DefaultAzureCredential` gives, which keeps tokens until shortly before their end.

    Blocks, and is called by one thread only.
    """

    def __init__(self, name: str, origin: str) -> None:
        # The audience follows from the host in every cloud of Azure: a token for another host does not count there.
        url = urlsplit(origin)
        domain = (url.hostname or "").partition(".")[2] if url.scheme == "https" else "vault.azure.net"
        self._scope = f"https://{domain}/.default"
        self._name = name
        self._credential: DefaultAzureCredential | None = None

    def headers(self, anew: bool) -> Mapping[str, str]:
        from azure.core.exceptions import AzureError  # noqa: PLC0415 - comes with an extra
        from azure.identity import DefaultAzureCredential  # noqa: PLC0415 - as above

        try:
            if self._credential is None or anew:
                self._credential = DefaultAzureCredential(
                    connection_timeout=CONNECT_S, read_timeout=READ_S, retry_total=0
                )
            token = self._credential.get_token(self._scope).token
        except (AzureError, OSError, ValueError):
            # One error for both: no identity, and one that cannot be asked now. azure-identity logs what it tried, and
            # would answer the next tries from memory.
            self._credential = None
            raise ProviderAway(f"{self._name}: DefaultAzureCredential has no token for {self._scope}") from None
        return {"Authorization": f"Bearer {token}"}


_: type[KeyProvider] = AzureKeyVaultProvider
