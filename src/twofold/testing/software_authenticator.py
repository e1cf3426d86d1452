"""An authenticator and its browser in software: answers creation and request options in the browser's own JSON.

It makes real keys and real signatures, for every algorithm that is offered, and is honest: what it says is true. How a
lie is met is the business of Twofold's own tests.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from twofold.errors import TwofoldError
from twofold.testing.cbor import encode as encode_cbor

Json = dict[str, Any]
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | rsa.RSAPrivateKey

#: The flags of authenticator data (WebAuthn L3 section 6.1).
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80

_CURVES: Mapping[int, tuple[int, ec.EllipticCurve, hashes.HashAlgorithm]] = {
    -7: (1, ec.SECP256R1(), hashes.SHA256()),
    -35: (2, ec.SECP384R1(), hashes.SHA384()),
    -36: (3, ec.SECP521R1(), hashes.SHA512()),
}


class NotAllowed(TwofoldError):
    """The browser ends the ceremony: nothing here may, or can, answer these options."""


@dataclass
class SoftwareCredential:
    """A key that the authenticator made; `id` is what it is called by."""

    id: bytes
    rp_id: str
    user_handle: bytes
    algorithm: int
    private_key: PrivateKey = field(repr=False)
    sign_count: int = 0

    @property
    def cose(self) -> bytes:
        """The public key as a COSE key."""
        return encode_cbor(cose_of(self.algorithm, self.private_key))

    def sign(self, message: bytes) -> bytes:
        """A signature as WebAuthn wants it of this algorithm (section 6.5.5)."""
        match self.private_key:
            case ec.EllipticCurvePrivateKey() as key:
                return key.sign(message, ec.ECDSA(_CURVES[self.algorithm][2]))
            case rsa.RSAPrivateKey() as key:
                return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
            case key:
                return key.sign(message)


@dataclass
class SoftwareAuthenticator:
    """A passkey or a security key, with the browser before it.

    `algorithm` None takes the first that is offered. `counts` is how much its sign counter grows at each use; passkeys
    do not count. With `attests` it vouches for its keys by themselves (packed self attestation) when it is asked to. A
    security key without a PIN is `verifies_user=False, is_resident=False, transports=("usb",)`.
    """

    aaguid: bytes = bytes(16)
    algorithm: int | None = None
    verifies_user: bool = True
    is_resident: bool = True
    is_backup_eligible: bool = False
    is_backed_up: bool = False
    attests: bool = False
    counts: int = 0
    transports: tuple[str, ...] = ("internal", "hybrid")
    credentials: list[SoftwareCredential] = field(default_factory=list)

    def register(self, options: Mapping[str, Any], origin: str) -> Json:
        """What `navigator.credentials.create` gives on a page of `origin`: a `RegistrationResponseJSON` for a
        `PublicKeyCredentialCreationOptionsJSON`. The origin is said as it is. Raises `NotAllowed`."""
        held = {credential.id for credential in self.credentials}
        if any(decode(descriptor["id"]) in held for descriptor in options.get("excludeCredentials", ())):
            raise NotAllowed("this authenticator holds one of the excluded credentials")
        offered = [parameters["alg"] for parameters in options["pubKeyCredParams"]]
        algorithm = offered[0] if self.algorithm is None else self.algorithm
        if algorithm not in offered:
            raise NotAllowed(f"the algorithm {algorithm} was not offered")
        rp_id = options["rp"].get("id") or urlsplit(origin).hostname or ""
        made = self.make_credential(algorithm, rp_id, decode(options["user"]["id"]))
        client_data = self.client_data("webauthn.create", options["challenge"], origin)
        verification = options.get("authenticatorSelection", {}).get("userVerification", "preferred")
        data = self.authenticator_data(made, verification, is_new=True)
        fmt, statement = self.attest(made, data, client_data, options.get("attestation", "none"))
        response = {
            "clientDataJSON": encode(client_data),
            "attestationObject": encode(encode_cbor({"fmt": fmt, "attStmt": statement, "authData": data})),
            "authenticatorData": encode(data),
            "transports": list(self.transports),
        }
        return self._public_key_credential(made.id, response, {"credProps": {"rk": self.is_resident}})

    def answer(self, options: Mapping[str, Any], origin: str) -> Json:
        """What `navigator.credentials.get` gives on a page of `origin`: an `AuthenticationResponseJSON` for a
        `PublicKeyCredentialRequestOptionsJSON`. Raises `NotAllowed`."""
        used = self.find_credential(options, origin)
        used.sign_count += self.counts
        client_data = self.client_data("webauthn.get", options["challenge"], origin)
        data = self.authenticator_data(used, options.get("userVerification", "preferred"), is_new=False)
        response = {
            "clientDataJSON": encode(client_data),
            "authenticatorData": encode(data),
            "signature": encode(used.sign(data + hashlib.sha256(client_data).digest())),
        }
        if self.is_resident:
            response["userHandle"] = encode(used.user_handle)
        return self._public_key_credential(used.id, response, {})

    # The steps of a ceremony. A subclass that says something else in one of them still signs correctly, so that it is
    # refused by the rule that it breaks.

    def make_credential(self, algorithm: int, rp_id: str, user_handle: bytes) -> SoftwareCredential:
        """A fresh key, kept; its id is a digest of its public half."""
        key = new_key(algorithm)
        name = hashlib.sha256(encode_cbor(cose_of(algorithm, key))).digest()
        made = SoftwareCredential(name, rp_id, user_handle, algorithm, key, self.counts)
        self.credentials.append(made)
        return made

    def find_credential(self, options: Mapping[str, Any], origin: str) -> SoftwareCredential:
        """The newest of the keys that are asked for, or of all that need not be asked for by name."""
        allowed = [decode(descriptor["id"]) for descriptor in options.get("allowCredentials", ())]
        rp_id = options.get("rpId") or urlsplit(origin).hostname
        for credential in reversed(self.credentials):
            is_meant = credential.id in allowed if allowed else self.is_resident
            if is_meant and credential.rp_id == rp_id:
                return credential
        raise NotAllowed("this authenticator holds none of the credentials that are asked for")

    def client_data(self, ceremony: str, challenge: str, origin: str) -> bytes:
        """What the browser says (section 5.8.1)."""
        members = {"type": ceremony, "challenge": challenge, "origin": origin, "crossOrigin": False}
        return json.dumps(members, separators=(",", ":")).encode()

    def authenticator_data(self, credential: SoftwareCredential, verification: str, *, is_new: bool) -> bytes:
        """What the authenticator says (section 6.1); with the new public key if the credential `is_new`."""
        if verification == "required" and not self.verifies_user:
            raise NotAllowed("this authenticator cannot verify its user")
        flags = UP | BE * self.is_backup_eligible | BS * self.is_backed_up | AT * is_new
        flags |= UV * (self.verifies_user and verification != "discouraged")
        data = hashlib.sha256(credential.rp_id.encode()).digest()
        data += bytes([flags]) + credential.sign_count.to_bytes(4, "big")
        if is_new:
            data += self.aaguid + len(credential.id).to_bytes(2, "big") + credential.id + credential.cose
        return data

    def attest(
        self, credential: SoftwareCredential, data: bytes, client_data: bytes, conveyance: str
    ) -> tuple[str, Mapping[str, Any]]:
        """The format and the statement of the attestation (sections 8.2 and 8.7)."""
        if not self.attests or conveyance == "none":
            return "none", {}
        signature = credential.sign(data + hashlib.sha256(client_data).digest())
        return "packed", {"alg": credential.algorithm, "sig": signature}

    def _public_key_credential(self, credential_id: bytes, response: Json, extensions: Json) -> Json:
        return {
            "id": encode(credential_id),
            "rawId": encode(credential_id),
            "type": "public-key",
            "authenticatorAttachment": "platform" if "internal" in self.transports else "cross-platform",
            "clientExtensionResults": extensions,
            "response": response,
        }


def new_key(algorithm: int) -> PrivateKey:
    """A fresh key for a COSE algorithm."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm][1])
    if algorithm == -257:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ed25519.Ed25519PrivateKey.generate() if algorithm == -8 else ed448.Ed448PrivateKey.generate()


def cose_of(algorithm: int, private_key: PrivateKey) -> dict[int | str | bytes, Any]:
    """The members of its public COSE key (RFC 9053, RFC 8230)."""
    match private_key.public_key():
        case ec.EllipticCurvePublicKey() as key:
            point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]
            half = len(point) // 2
            return {1: 2, 3: algorithm, -1: _CURVES[algorithm][0], -2: point[:half], -3: point[half:]}
        case rsa.RSAPublicKey() as key:
            numbers = key.public_numbers()
            n, e = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.n, numbers.e))
            return {1: 3, 3: algorithm, -1: n, -2: e}
        case key:
            return {1: 1, 3: algorithm, -1: 6 if algorithm == -8 else 7, -2: key.public_bytes_raw()}


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of base64url."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
