"""Cloud KMS as a local server, with the token endpoint: they say what the real ones are documented to say, and the KMS
really encrypts."""

import base64
import json
import secrets
from urllib.parse import parse_qs, urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from joserfc import jwt
from joserfc.jwk import RSAKey
from tests.keys.local_service import Call, Reply, Service, say


def crc32c(data: bytes) -> str:
    """As a table tells it: not the way of the provider."""
    table = []
    for index in range(256):
        entry = index
        for _ in range(8):
            entry = entry >> 1 ^ (0x82F63B78 if entry & 1 else 0)
        table.append(entry)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return str(crc ^ 0xFFFFFFFF)


def google_error(code: int, status: str, message: str) -> Reply:
    return say(code, {"error": {"code": code, "message": message, "status": status}})


class KmsKey:
    def __init__(self) -> None:
        self.versions: list[bytes] = []
        self.states: list[str] = []
        self.rotate()

    def rotate(self) -> None:
        self.versions.append(secrets.token_bytes(32))
        self.states.append("ENABLED")


class KmsService(Service):
    """Cloud KMS v1, and at `/token` Google's token endpoint for the service account whose public key is `account`."""

    unplanned = "/token"
    RING = "projects/example/locations/europe-west3/keyRings/ring/cryptoKeys"

    def __init__(self, account: RSAKey) -> None:
        super().__init__()
        self.keys = {f"{self.RING}/twofold": KmsKey(), f"{self.RING}/other": KmsKey()}
        self.account = account
        self.tokens: set[str] = set()
        self.token_reply: Reply | None = None
        self.is_permitted = True

    def answer(self, call: Call) -> Reply:
        if call.path == "/token":
            return self.token_reply or self._issue(parse_qs(call.body.decode()))
        if call.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        name, _, operation = urlsplit(call.path).path.removeprefix("/v1/").partition(":")
        if not self.is_permitted:
            return google_error(
                403, "PERMISSION_DENIED", f"Permission denied on resource '{name}' (or it may not exist)"
            )
        if name not in self.keys:
            return google_error(404, "NOT_FOUND", f"CryptoKey {name} not found.")
        question = json.loads(call.body)
        for field in ("plaintext", "ciphertext", "additionalAuthenticatedData"):
            data = base64.b64decode(question.get(field, ""), validate=True)
            if question.get(f"{field}Crc32c", crc32c(data)) != crc32c(data):
                return google_error(400, "INVALID_ARGUMENT", f"The checksum in field {field}_crc32c did not match")
        return (self._encrypt if operation == "encrypt" else self._decrypt)(name, question)

    def _issue(self, form: dict[str, list[str]]) -> Reply:
        claims = jwt.decode(form["assertion"][0], self.account, algorithms=["RS256"]).claims
        if claims["aud"] != "https://oauth2.googleapis.com/token" or "auth/cloudkms" not in claims["scope"]:
            return say(400, {"error": "invalid_grant", "error_description": "Invalid JWT"})
        token = f"ya29.{secrets.token_hex(8)}"
        self.tokens.add(token)
        return say(200, {"access_token": token, "expires_in": 3599, "token_type": "Bearer"})

    def _encrypt(self, name: str, question: dict[str, str]) -> Reply:
        key, nonce = self.keys[name], secrets.token_bytes(12)
        version = len(key.versions)
        if key.states[-1] != "ENABLED":
            return self._not_enabled(name, version)
        plaintext, data = (base64.b64decode(question[field]) for field in ("plaintext", "additionalAuthenticatedData"))
        sealed = bytes([version]) + nonce + AESGCM(key.versions[-1]).encrypt(nonce, plaintext, data)
        return say(
            200,
            {
                "name": f"{name}/cryptoKeyVersions/{version}",
                "ciphertext": base64.b64encode(sealed).decode(),
                "ciphertextCrc32c": crc32c(sealed),
                "protectionLevel": "SOFTWARE",
                "verifiedPlaintextCrc32c": "plaintextCrc32c" in question,
                "verifiedAdditionalAuthenticatedDataCrc32c": "additionalAuthenticatedDataCrc32c" in question,
            },
        )

    def _decrypt(self, name: str, question: dict[str, str]) -> Reply:
        key = self.keys[name]
        sealed, data = (base64.b64decode(question[field]) for field in ("ciphertext", "additionalAuthenticatedData"))
        version = sealed[0]
        if not 0 < version <= len(key.versions) or len(sealed) < 13:
            return google_error(400, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid.")
        if key.states[version - 1] != "ENABLED":
            return self._not_enabled(name, version)
        try:
            plaintext = AESGCM(key.versions[version - 1]).decrypt(sealed[1:13], sealed[13:], data)
        except InvalidTag:
            message = "Decryption failed: verify that 'name' refers to the correct CryptoKey."
            return google_error(400, "INVALID_ARGUMENT", message)
        plain = {"plaintext": base64.b64encode(plaintext).decode(), "plaintextCrc32c": crc32c(plaintext)}
        return say(200, {**plain, "protectionLevel": "SOFTWARE"})

    def _not_enabled(self, name: str, version: int) -> Reply:
        state = self.keys[name].states[version - 1]
        where = f"{name}/cryptoKeyVersions/{version}"
        return google_error(400, "FAILED_PRECONDITION", f"{where} is not enabled, current state is: {state}.")
