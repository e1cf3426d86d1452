"""The browser's own JSON (WebAuthn Level 3 section 5.1): what it is asked, and what it sends back, decoded strictly.

`PublicKeyCredential.parseCreationOptionsFromJSON()` takes the one, `toJSON()` makes the other. Members that we do not
know are the browser's business. Nothing is judged here.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from twofold.core.ticket import TICKET_TTL_S
from twofold.errors import InvalidInput

FIELD = "credential"
#: How msgspec ends a message about a member inside, and begins one about a member that is not there.
_WHERE = re.compile(r" - at `\$\.?([^`]*)`\Z")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
TRANSPORTS = ("usb", "nfc", "ble", "hybrid", "internal", "smart-card")
Conveyance = Literal["none", "direct"]
UserVerification = Literal["required", "preferred", "discouraged"]

# Base64url to Base64, in which a character of the other alphabet, or padding, is none at all.
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")


class RelyingParty(msgspec.Struct, frozen=True):
    """Whom credentials are for: the domain, and the exact origins on which they may be used."""

    id: str
    origins: tuple[str, ...]


class Descriptor(msgspec.Struct, frozen=True):
    """A credential that the browser may use, or must not make again."""

    id: bytes
    transports: tuple[str, ...] = ()


class User(msgspec.Struct, frozen=True):
    """Whose credential it is: `handle` is what the authenticator keeps, the names are what it shows."""

    handle: bytes
    name: str
    display_name: str


class RegistrationResponse(msgspec.Struct, frozen=True):
    """A new credential, as the authenticator states it."""

    client_data: bytes
    attestation_object: bytes
    transports: tuple[str, ...]
    is_discoverable: bool | None


class AuthenticationResponse(msgspec.Struct, frozen=True):
    """An assertion: the credential's signature over the challenge."""

    credential_id: bytes
    client_data: bytes
    authenticator_data: bytes
    signature: bytes
    user_handle: bytes | None


class _CredentialProperties(msgspec.Struct, frozen=True):
    rk: bool | None = None


class _Extensions(msgspec.Struct, frozen=True):
    properties: _CredentialProperties = msgspec.field(name="credProps", default=_CredentialProperties())


class _Attestation(msgspec.Struct, frozen=True):
    client_data: str = msgspec.field(name="clientDataJSON")
    attestation_object: str = msgspec.field(name="attestationObject")
    transports: list[str] = []


class _Assertion(msgspec.Struct, frozen=True):
    client_data: str = msgspec.field(name="clientDataJSON")
    authenticator_data: str = msgspec.field(name="authenticatorData")
    signature: str
    user_handle: str | None = msgspec.field(name="userHandle", default=None)


class _Credential(msgspec.Struct, frozen=True):
    id: str
    type: Literal["public-key"]
    raw_id: str | None = msgspec.field(name="rawId", default=None)


C = TypeVar("C", bound=_Credential)


class _Registered(_Credential, frozen=True, kw_only=True):
    response: _Attestation
    extensions: _Extensions = msgspec.field(name="clientExtensionResults", default=_Extensions())


class _Asserted(_Credential, frozen=True, kw_only=True):
    response: _Assertion


def read_registration(credential: str | Mapping[str, Any]) -> RegistrationResponse:
    """A `RegistrationResponseJSON`, as text or already decoded; raises `InvalidInput` that names the member."""
    read = _read(credential, _Registered)
    response = read.response
    return RegistrationResponse(
        _decode(response.client_data, "response.clientDataJSON"),
        _decode(response.attestation_object, "response.attestationObject"),
        tuple(name for name in TRANSPORTS if name in response.transports),
        read.extensions.properties.rk,
    )


def read_authentication(credential: str | Mapping[str, Any]) -> AuthenticationResponse:
    """An `AuthenticationResponseJSON`, as text or already decoded; raises `InvalidInput` that names the member."""
    read = _read(credential, _Asserted)
    response = read.response
    return AuthenticationResponse(
        _decode(read.id, "id"),
        _decode(response.client_data, "response.clientDataJSON"),
        _decode(response.authenticator_data, "response.authenticatorData"),
        _decode(response.signature, "response.signature"),
        # Safari 15.4 to 17.3 sends an empty one for a key that keeps none (WebKit 239737); ours are never empty.
        _decode(response.user_handle, "response.userHandle") if response.user_handle else None,
    )


def creation_options(
    rp: RelyingParty,
    user: User,
    challenge: bytes,
    *,
    rp_name: str,
    algorithms: Sequence[int],
    excluded: Sequence[Descriptor],
    conveyance: Conveyance = "none",
) -> dict[str, Any]:
    """A `PublicKeyCredentialCreationOptionsJSON`: discoverable and with user verification where that can be had."""
    return {
        "rp": {"id": rp.id, "name": rp_name},
        "user": {"id": encode(user.handle), "name": user.name, "displayName": user.display_name},
        "challenge": encode(challenge),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm} for algorithm in algorithms],
        "timeout": TICKET_TTL_S * 1000,
        "excludeCredentials": [_describe(credential) for credential in excluded],
        "authenticatorSelection": {
            "residentKey": "preferred",
            "requireResidentKey": False,
            "userVerification": "preferred",
        },
        "attestation": conveyance,
        "extensions": {"credProps": True},
    }


def request_options(
    rp: RelyingParty, challenge: bytes, *, allowed: Sequence[Descriptor], user_verification: UserVerification
) -> dict[str, Any]:
    """A `PublicKeyCredentialRequestOptionsJSON`; nothing `allowed` means any discoverable credential."""
    return {
        "challenge": encode(challenge),
        "timeout": TICKET_TTL_S * 1000,
        "rpId": rp.id,
        "allowCredentials": [_describe(credential) for credential in allowed],
        "userVerification": user_verification,
    }


def encode(data: bytes) -> str:
    """Base64url without padding, as WebAuthn has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _describe(credential: Descriptor) -> dict[str, Any]:
    described = {"type": "public-key", "id": encode(credential.id)}
    return {**described, "transports": list(credential.transports)} if credential.transports else described


def _read(credential: str | Mapping[str, Any], kind: type[C]) -> C:
    try:
        read = (
            msgspec.json.decode(credential, type=kind)
            if isinstance(credential, str)
            else msgspec.convert(credential, kind)
        )
    except msgspec.ValidationError as error:
        raise InvalidInput(_find_member(str(error)), f"the browser's credential as JSON ({error})") from None
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidInput(FIELD, f"the browser's credential as JSON ({error})") from None
    if read.raw_id not in (None, read.id):
        raise InvalidInput(f"{FIELD}.rawId", "the same as id")
    return read


def _find_member(message: str) -> str:
    """The name of the member that a message of msgspec is about."""
    where, missing = _WHERE.search(message), _MISSING.match(message)
    return ".".join(part for part in (FIELD, where and where[1], missing and missing[1]) if part)


def _decode(text: str, member: str) -> bytes:
    try:
        spelled = text.encode("ascii").translate(_TO_BASE64)
        return binascii.a2b_base64(spelled + b"=" * (-len(spelled) % 4), strict_mode=True)
    except ValueError:
        raise InvalidInput(f"{FIELD}.{member}", "base64url without padding") from None
