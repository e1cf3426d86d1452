"""The `vault:` key provider: the Transit engine of HashiCorp Vault or of OpenBao.

`vault:https://vault.example.com:8200/transit/keys/twofold`: the mount is what stands before `/keys/`. The token comes
from the file that `token-file=` names, where Vault Agent keeps it fresh, or from VAULT_TOKEN. Nothing logs in here.
"""

from __future__ import annotations

import base64
import hmac
import re
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Self

import msgspec

from twofold.core.discreet import Discreet
from twofold.crypto.digest import length_prefixed
from twofold.errors import ConfigurationError, KeyRefused, ProviderAway
from twofold.key_ports import KeyProvider, Unwrapping, Wrapping
from twofold.keys.https_json import JsonService, read_address, require
from twofold.keys.uri import KeyUri
from twofold.ports import Entropy

_VERSION = b"\x01"
_KEY_VERSION_BYTES = 4
_BINDING_BYTES = 32
_PLACE = re.compile(r"/((?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)+)keys/([A-Za-z0-9_-][A-Za-z0-9._-]*)")
_NAMESPACE = re.compile(r"[A-Za-z0-9._/-]*")
_TOKEN = re.compile(r"[!-~]+")
_CIPHERTEXT = re.compile(r"vault:v([1-9][0-9]{0,8}):([A-Za-z0-9+/]+={0,2})")
_KNOWN_WORDS = (
    "permission denied",
    "invalid token",
    "Vault is sealed",
    "encryption key not found",
    "message authentication failed",
    "version is too new",
    "disallowed by policy",
    "soft deleted",
    "no handler for route",
    "non-AEAD cipher suite",
    "rate limit quota exceeded",
)


class _Encrypt(Discreet, frozen=True):
    hidden: ClassVar[tuple[str, ...]] = ("plaintext",)

    plaintext: bytes
    associated_data: bytes
    context: bytes


class _Decrypt(msgspec.Struct, frozen=True):
    ciphertext: str
    associated_data: bytes
    context: bytes


class _Encrypted(msgspec.Struct, frozen=True):
    ciphertext: str


class _Decrypted(Discreet, frozen=True):
    hidden: ClassVar[tuple[str, ...]] = ("plaintext",)

    plaintext: bytes


class _EncryptAnswer(msgspec.Struct, frozen=True):
    data: _Encrypted
    request_id: str = ""


class _DecryptAnswer(msgspec.Struct, frozen=True):
    data: _Decrypted
    request_id: str = ""


class VaultProvider:
    """Wraps keys with a Transit key. The service may rotate it: old ciphertexts name the version that opens them.

    A wrapped key is bound to its id and the deployment as `associated_data`, and as `context` too, which only keys with
    `derived=true` look at. Vault before 1.13 passes over `associated_data` without a word, so a digest of the same
    stands inside with the key and is compared here.
    """

    def __init__(self, service: JsonService, mount: str, name: str, deployment: str) -> None:
        self._service = service
        self._mount = mount
        self._name = name
        self._deployment = deployment

    @classmethod
    def open(cls, uri: KeyUri, entropy: Entropy, environment: Mapping[str, str]) -> Self:
        """The provider of a Transit key; asks nothing yet. Raises `ConfigurationError`.

        Vault makes its own nonces, so `entropy` is not drawn from. A CA of your own is named by VAULT_CACERT.
        """
        uri.check_options("deployment", "namespace", "token-file")
        require("vault", "vault", "httpx")
        origin, path = read_address("vault", uri.place)
        place = _PLACE.fullmatch(path)
        if not place:
            raise ConfigurationError("KEY_PROVIDER vault: expected https://host:8200/mount/keys/name")
        namespace = uri.options.get("namespace", "")
        if not _NAMESPACE.fullmatch(namespace):
            raise ConfigurationError("KEY_PROVIDER vault: expected a namespace such as team/twofold")
        mount, name = place[1].rstrip("/"), place[2]
        service = JsonService(
            f"the Vault key {mount}/keys/{name} at {origin}",
            origin,
            _Token(uri.options.get("token-file", ""), environment.get("VAULT_TOKEN", ""), namespace).headers,
            needs=f"a token that may update {mount}/encrypt/{name} and {mount}/decrypt/{name}",
            known_words=_KNOWN_WORDS,
            ca_file=environment.get("VAULT_CACERT", ""),
        )
        return cls(service, mount, name, uri.options.get("deployment", "twofold"))

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        """A version byte, the version of the Transit key, and the ciphertext in bytes: the same one way only."""
        binding = self._binding(key_id)
        question = _Encrypt(sha256(binding).digest() + key, binding, binding)
        answer, _ = await self._service.ask(f"/v1/{self._mount}/encrypt/{self._name}", question, _EncryptAnswer)
        parts = _CIPHERTEXT.fullmatch(answer.data.ciphertext)
        if not parts:
            raise self._service.unreadable()
        try:
            ciphertext = base64.b64decode(parts[2], validate=True)
        except ValueError:
            raise self._service.unreadable() from None
        return Wrapping(_VERSION + int(parts[1]).to_bytes(_KEY_VERSION_BYTES) + ciphertext, answer.request_id)

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        start = len(_VERSION) + _KEY_VERSION_BYTES
        key_version = int.from_bytes(wrapped[len(_VERSION) : start])
        # Version 0 is refused here because Vault opens it as version 1.
        if not wrapped.startswith(_VERSION) or key_version == 0 or len(wrapped) == start:
            raise KeyRefused(f"key {key_id} was not wrapped by Vault, or changed")
        binding = self._binding(key_id)
        ciphertext = f"vault:v{key_version}:{base64.b64encode(wrapped[start:]).decode()}"
        question = _Decrypt(ciphertext, binding, binding)
        answer, _ = await self._service.ask(f"/v1/{self._mount}/decrypt/{self._name}", question, _DecryptAnswer)
        plaintext = answer.data.plaintext
        if not hmac.compare_digest(plaintext[:_BINDING_BYTES], sha256(binding).digest()):
            raise KeyRefused(f"{self._service.name}: what it opened is not key {key_id}", answer.request_id)
        return Unwrapping(plaintext[_BINDING_BYTES:], answer.request_id)

    async def watch(self) -> None:
        """Nothing can be seen of a Transit key without using it."""

    def describe(self) -> str:
        return self._service.name

    async def close(self) -> None:
        await self._service.close()

    def _binding(self, key_id: str) -> bytes:
        return length_prefixed(b"twofold/1", b"vault.wrapped", self._deployment.encode(), key_id.encode())


class _Token:
    """The token, read from its file for each use: whoever writes it there renews it."""

    def __init__(self, path: str, token: str, namespace: str) -> None:
        if not path and not _TOKEN.fullmatch(token):
            raise ConfigurationError("KEY_PROVIDER vault: set VAULT_TOKEN, or name a file of it with ?token-file=/path")
        self._path = path
        self._token = token
        self._namespace = {"X-Vault-Namespace": namespace} if namespace else {}

    def headers(self, _anew: bool) -> Mapping[str, str]:
        return {"X-Vault-Request": "true", "X-Vault-Token": self._read(), **self._namespace}

    def _read(self) -> str:
        if not self._path:
            return self._token
        try:
            token = Path(self._path).read_text("ascii").strip()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not text"
            raise ProviderAway(f"the Vault token in {self._path} cannot be read ({reason})") from None
        # Not a refusal: the file may be seen while it is written.
        if not _TOKEN.fullmatch(token):
            raise ProviderAway(f"there is no Vault token in {self._path}")
        return token


_: type[KeyProvider] = VaultProvider
