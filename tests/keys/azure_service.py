"""Azure Key Vault as a local server, with the identity endpoint of App Service: they say what the real ones are
documented to say, and the vault really wraps."""

import base64
import json
import secrets
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives import hashes, keywrap
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from tests.keys.local_service import Call, Reply, Service, say


def azure_error(status: int, code: str, inner: str = "") -> Reply:
    error: dict[str, object] = {"code": code, "message": f"About {code}, in many words."}
    if inner:
        error["innererror"] = {"code": inner}
    return say(status, {"error": error}, **{"x-ms-request-id": "azure-no"})


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class AzureKey:
    """`make` makes the key of each version: an RSA key, or 32 bytes as in a Managed HSM."""

    def __init__(self, make: Callable[[], rsa.RSAPrivateKey | bytes]) -> None:
        self._make = make
        self.versions: dict[str, rsa.RSAPrivateKey | bytes] = {}
        self.disabled: set[str] = set()
        self.rotate()

    def rotate(self) -> None:
        self.newest = secrets.token_hex(16)
        self.versions[self.newest] = self._make()


class AzureService(Service):
    """Azure Key Vault 7.4, and at `/msi/token` the identity endpoint of App Service."""

    unplanned = "/token"

    def __init__(self, make_rsa_key: Callable[[], rsa.RSAPrivateKey]) -> None:
        super().__init__()
        self.keys = {
            "twofold": AzureKey(make_rsa_key),
            "other": AzureKey(make_rsa_key),
            "hsm": AzureKey(lambda: secrets.token_bytes(32)),
        }
        self.identity_header = "msi-header"
        self.tokens: set[str] = set()
        self.token_reply: Reply | None = None
        self.is_permitted = True

    def answer(self, call: Call) -> Reply:
        url = urlsplit(call.path)
        query = parse_qs(url.query)
        if url.path == "/msi/token":
            return self.token_reply or self._issue(call, query)
        if query != {"api-version": ["7.4"]}:
            return azure_error(400, "BadParameter")
        if call.headers.get("authorization", "").removeprefix("Bearer ") not in self.tokens:
            return azure_error(401, "Unauthorized")
        if not self.is_permitted:
            return azure_error(403, "Forbidden", "ForbiddenByRbac")
        _, keys, name, *version, operation = url.path.split("/")
        if keys != "keys" or name not in self.keys:
            return azure_error(404, "KeyNotFound")
        key = self.keys[name]
        wanted = version[0] if version and version[0] else key.newest
        if wanted not in key.versions:
            return azure_error(404, "KeyNotFound")
        if wanted in key.disabled:
            return azure_error(403, "Forbidden", "KeyDisabled")
        question = json.loads(call.body)
        value = from_base64url(question["value"])
        try:
            done = _azure_operation(operation, question["alg"], key.versions[wanted], value)
        except (ValueError, keywrap.InvalidUnwrap):
            return azure_error(400, "BadParameter")
        kid = f"{self.origin}/keys/{name}/{wanted}"
        return say(200, {"kid": kid, "value": base64url(done)}, **{"x-ms-request-id": f"azure-{len(self.calls)}"})

    def _issue(self, call: Call, query: dict[str, list[str]]) -> Reply:
        if call.headers.get("x-identity-header") != self.identity_header:
            return say(400, {"statusCode": 400, "message": "no identity"})
        if query["resource"] != ["https://vault.azure.net"]:
            return say(400, {"statusCode": 400, "message": "another audience"})
        token = f"ey{secrets.token_hex(8)}"
        self.tokens.add(token)
        return say(
            200,
            {
                "access_token": token,
                "expires_on": "4102444800",
                "resource": "https://vault.azure.net",
                "token_type": "Bearer",
            },
        )


def _azure_operation(operation: str, alg: str, key: rsa.RSAPrivateKey | bytes, value: bytes) -> bytes:
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    match operation, alg, key:
        case "wrapkey", "RSA-OAEP-256", rsa.RSAPrivateKey():
            return key.public_key().encrypt(value, oaep)
        case "unwrapkey", "RSA-OAEP-256", rsa.RSAPrivateKey():
            return key.decrypt(value, oaep)
        case "wrapkey", "A256KW", bytes():
            return keywrap.aes_key_wrap(key, value)
        case "unwrapkey", "A256KW", bytes():
            return keywrap.aes_key_unwrap(key, value)
    raise ValueError(operation)
