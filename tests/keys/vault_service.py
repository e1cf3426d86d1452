"""Vault's Transit engine as a local server: it says what the real one is documented to say, and really encrypts."""

import base64
import json
import secrets

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from tests.certificates import Files
from tests.keys.local_service import Call, Reply, Service, say


class TransitKey:
    def __init__(self, *, derived: bool = False) -> None:
        self.derived = derived
        self.oldest = 1
        self.versions: list[bytes] = []
        self.rotate()

    def rotate(self) -> None:
        self.versions.append(secrets.token_bytes(32))

    def cipher(self, version: int, context: bytes) -> AESGCM:
        key = self.versions[version - 1]
        return AESGCM(HKDF(hashes.SHA256(), 32, None, context).derive(key) if self.derived else key)


class VaultService(Service):
    """Vault's Transit engine at `transit/`, as of 1.13; with `is_old` as before: it passes over `associated_data`."""

    def __init__(self, tls: Files | None = None) -> None:
        super().__init__(tls)
        self.keys = {"twofold": TransitKey(), "other": TransitKey(), "derived": TransitKey(derived=True)}
        self.tokens = {"hvs.first"}
        self.namespace = ""
        self.is_sealed = self.is_old = False

    def answer(self, call: Call) -> Reply:
        if self.is_sealed:
            return say(503, {"errors": ["Vault is sealed"]})
        operation, _, name = call.path.removeprefix("/v1/transit/").partition("/")
        if (
            call.headers.get("x-vault-token") not in self.tokens
            or call.headers.get("x-vault-namespace", "") != self.namespace
        ):
            return say(403, {"errors": ["2 errors occurred:\n\t* permission denied\n\t* invalid token\n\n"]})
        if operation not in ("encrypt", "decrypt"):
            return say(404, {"errors": [f'no handler for route "{call.path}". route entry not found.']})
        if name not in self.keys:
            return say(400, {"errors": ["encryption key not found"]})
        question = json.loads(call.body)
        data = "" if self.is_old else question.get("associated_data", "")
        context = base64.b64decode(question.get("context", ""), validate=True)
        if self.keys[name].derived and not context:
            return say(400, {"errors": ["missing 'context' for key derivation"]})
        try:
            work = self._encrypt if operation == "encrypt" else self._decrypt
            done = work(self.keys[name], question, context, base64.b64decode(data, validate=True))
        except InvalidTag:
            return say(400, {"errors": ["cipher: message authentication failed"]})
        except ValueError as error:
            return say(400, {"errors": [str(error)]})
        return say(200, {"request_id": f"vault-{len(self.calls)}", "lease_id": "", "renewable": False, "data": done})

    def _encrypt(self, key: TransitKey, question: dict[str, str], context: bytes, data: bytes) -> dict[str, object]:
        version, nonce = len(key.versions), secrets.token_bytes(12)
        plaintext = base64.b64decode(question["plaintext"], validate=True)
        sealed = nonce + key.cipher(version, context).encrypt(nonce, plaintext, data)
        return {"ciphertext": f"vault:v{version}:{base64.b64encode(sealed).decode()}", "key_version": version}

    def _decrypt(self, key: TransitKey, question: dict[str, str], context: bytes, data: bytes) -> dict[str, object]:
        prefix, number, text = question["ciphertext"].split(":")
        # As Vault does: keys were once numbered from 0.
        version = int(number.removeprefix("v")) or 1
        if prefix != "vault" or version > len(key.versions):
            raise ValueError("invalid ciphertext: version is too new")
        if version < key.oldest:
            raise ValueError("ciphertext or signature version is disallowed by policy (too old)")
        sealed = base64.b64decode(text)
        if len(sealed) < 12:
            raise ValueError("invalid ciphertext length")
        plaintext = key.cipher(version, context).decrypt(sealed[:12], sealed[12:], data)
        return {"plaintext": base64.b64encode(plaintext).decode()}
