"""An authenticator and its browser in software: answers creation and request options in the browser's own JSON.

It makes keys for every algorithm that is offered, and a test may have it say anything: what it says is still signed
correctly, so that a refusal is by the rule that was broken and never by a signature that does not fit.
"""

import base64
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from fido2 import cbor

Json = dict[str, Any]
PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey | rsa.RSAPrivateKey

#: The flags of authenticator data; 0x02 and 0x20 are reserved.
UP, UV, BE, BS, AT, ED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
RESERVED = 0x02 | 0x20

_CURVES: Mapping[int, tuple[int, ec.EllipticCurve, hashes.HashAlgorithm]] = {
    -7: (1, ec.SECP256R1(), hashes.SHA256()),
    -35: (2, ec.SECP384R1(), hashes.SHA384()),
    -36: (3, ec.SECP521R1(), hashes.SHA512()),
}
_AS_ISSUED: Any = object()
#: Leaves a member of the client data out.
ABSENT: Any = object()


class NotAllowed(Exception):
    """The browser ends the ceremony: nothing here may, or can, answer these options."""


@dataclass(frozen=True)
class Said:
    """What is said in a ceremony instead of the truth; all of it is signed.

    `client` changes members of the client data, `spell` how they become bytes. `on` and `off` are flags, `data` changes
    the whole of the authenticator data. `fmt` and `statement` replace the attestation, `credential` is one to answer
    with that was not asked for.
    """

    client: Mapping[str, Any] = field(default_factory=dict)
    spell: Callable[[Json], bytes] = lambda members: json.dumps(members, separators=(",", ":")).encode()
    rp_id: str | None = None
    on: int = 0
    off: int = 0
    sign_count: int | None = None
    aaguid: bytes | None = None
    credential_id: bytes | None = None
    public_key: bytes | None = None
    extensions: Any = None
    data: Callable[[bytes], bytes] = bytes
    fmt: str | None = None
    statement: Mapping[str, Any] | None = None
    credential: "SoftwareCredential | None" = None
    user_handle: bytes | None = _AS_ISSUED


@dataclass
class SoftwareCredential:
    """A key that the authenticator made; `id` is what it is called by."""

    id: bytes
    rp_id: str
    user_handle: bytes
    algorithm: int
    private_key: PrivateKey
    sign_count: int = 0

    @property
    def cose(self) -> bytes:
        """The public key as a COSE key."""
        return cbor.encode(cose_of(self.algorithm, self.private_key))

    def sign(self, message: bytes) -> bytes:
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
    do not count. With `attests` it vouches for its keys by themselves (packed self attestation) when it is asked to.
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

    def register(self, options: Json, origin: str, **said: Any) -> Json:
        """A `RegistrationResponseJSON` for a `PublicKeyCredentialCreationOptionsJSON`; `said` as in `Said`."""
        says = Said(**said)
        held = {credential.id for credential in self.credentials}
        if says.credential_id is None and any(decode(c["id"]) in held for c in options["excludeCredentials"]):
            raise NotAllowed("this authenticator holds one of the excluded credentials")
        offered = [parameters["alg"] for parameters in options["pubKeyCredParams"]]
        algorithm = offered[0] if self.algorithm is None else self.algorithm
        if says.public_key is None and algorithm not in offered:
            raise NotAllowed(f"the algorithm {algorithm} was not offered")
        made = self._make(algorithm, options["rp"]["id"], decode(options["user"]["id"]), says)
        client_data = _client_data("webauthn.create", options["challenge"], origin, says)
        verification = options["authenticatorSelection"]["userVerification"]
        data = self._data(made, verification, says, is_new=True)
        fmt, statement = "none", {}
        if self.attests and options["attestation"] != "none":
            signature = made.sign(data + hashlib.sha256(client_data).digest())
            fmt, statement = "packed", {"alg": made.algorithm, "sig": signature}
        attestation = {
            "fmt": _or(says.fmt, fmt),
            "attStmt": _or(says.statement, statement),
            "authData": data,
        }
        return {
            "id": encode(made.id),
            "rawId": encode(made.id),
            "type": "public-key",
            "authenticatorAttachment": "platform" if "internal" in self.transports else "cross-platform",
            "clientExtensionResults": {"credProps": {"rk": self.is_resident}},
            "response": {
                "clientDataJSON": encode(client_data),
                "attestationObject": encode(cbor.encode(attestation)),
                "authenticatorData": encode(data),
                "transports": list(self.transports),
            },
        }

    def answer(self, options: Json, origin: str, **said: Any) -> Json:
        """An `AuthenticationResponseJSON` for a `PublicKeyCredentialRequestOptionsJSON`; `said` as in `Said`."""
        says = Said(**said)
        used = says.credential or self._find(options)
        used.sign_count += self.counts
        client_data = _client_data("webauthn.get", options["challenge"], origin, says)
        data = self._data(used, options["userVerification"], says, is_new=False)
        response = {
            "clientDataJSON": encode(client_data),
            "authenticatorData": encode(data),
            "signature": encode(used.sign(data + hashlib.sha256(client_data).digest())),
        }
        user_handle = says.user_handle
        if user_handle is _AS_ISSUED:
            user_handle = used.user_handle if self.is_resident else None
        if user_handle is not None:
            response["userHandle"] = encode(user_handle)
        credential_id = encode(_or(says.credential_id, used.id))
        return {
            "id": credential_id,
            "rawId": credential_id,
            "type": "public-key",
            "authenticatorAttachment": "platform" if "internal" in self.transports else "cross-platform",
            "clientExtensionResults": {},
            "response": response,
        }

    def _make(self, algorithm: int, rp_id: str, user_handle: bytes, says: Said) -> SoftwareCredential:
        key = new_key(algorithm)
        name = hashlib.sha256(cbor.encode(cose_of(algorithm, key))).digest()
        made = SoftwareCredential(_or(says.credential_id, name), rp_id, user_handle, algorithm, key, self.counts)
        self.credentials.append(made)
        return made

    def _find(self, options: Json) -> SoftwareCredential:
        allowed = [decode(descriptor["id"]) for descriptor in options["allowCredentials"]]
        for credential in reversed(self.credentials):
            is_meant = credential.id in allowed if allowed else self.is_resident
            if is_meant and credential.rp_id == options["rpId"]:
                return credential
        raise NotAllowed("this authenticator holds none of the credentials that are asked for")

    def _data(self, credential: SoftwareCredential, verification: str, says: Said, *, is_new: bool) -> bytes:
        """Authenticator data (section 6.1)."""
        if verification == "required" and not self.verifies_user:
            raise NotAllowed("this authenticator cannot verify its user")
        flags = UP | BE * self.is_backup_eligible | BS * self.is_backed_up | AT * is_new
        flags |= UV * (self.verifies_user and verification != "discouraged")
        flags |= ED * (says.extensions is not None)
        flags = (flags | says.on) & ~says.off
        sign_count = _or(says.sign_count, credential.sign_count)
        data = hashlib.sha256(_or(says.rp_id, credential.rp_id).encode()).digest()
        data += bytes([flags]) + sign_count.to_bytes(4, "big")
        if flags & AT:
            data += _or(says.aaguid, self.aaguid)
            data += len(credential.id).to_bytes(2, "big") + credential.id + _or(says.public_key, credential.cose)
        if says.extensions is not None:
            data += cbor.encode(says.extensions)
        return says.data(data)


def _or(said: Any, truth: Any) -> Any:
    return truth if said is None else said


def _client_data(kind: str, challenge: str, origin: str, says: Said) -> bytes:
    members = {"type": kind, "challenge": challenge, "origin": origin, "crossOrigin": False, **says.client}
    return says.spell({name: value for name, value in members.items() if value is not ABSENT})


def new_key(algorithm: int) -> PrivateKey:
    """A fresh key for a COSE algorithm."""
    if algorithm in _CURVES:
        return ec.generate_private_key(_CURVES[algorithm][1])
    if algorithm == -257:
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {-8: ed25519.Ed25519PrivateKey, -53: ed448.Ed448PrivateKey}[algorithm].generate()


def cose_of(algorithm: int, private_key: PrivateKey) -> dict[int, Any]:
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
