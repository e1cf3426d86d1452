"""The browser's own JSON for passkeys, as the OpenAPI document describes it: loosely, for the browser may add members.

What each member must be when it comes back is in `twofold.factors.webauthn_json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

_TEXT = {"type": "string"}
_BASE64URL = {"type": "string", "pattern": "^[A-Za-z0-9_-]*$"}
_OBJECT = {"type": "object"}


def _described(name: str, **members: Any) -> Meta:
    """A type of WebAuthn Level 3 section 5.1 by the members that are always there."""
    schema = {"properties": members, "required": list(members)}
    return Meta(description=f"{name} of WebAuthn Level 3.", extra_json_schema=schema)


def _response(*members: str) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(members, _BASE64URL), "required": list(members)}


CreationOptionsJson = Annotated[
    Mapping[str, Any],
    _described(
        "PublicKeyCredentialCreationOptionsJSON",
        rp=_OBJECT,
        user=_OBJECT,
        challenge=_BASE64URL,
        pubKeyCredParams={"type": "array", "items": _OBJECT},
    ),
]
RegistrationJson = Annotated[
    dict[str, Any],
    _described(
        "RegistrationResponseJSON",
        id=_TEXT,
        type={"const": "public-key"},
        response=_response("clientDataJSON", "attestationObject"),
    ),
]
RequestOptionsJson = Annotated[
    Mapping[str, Any],
    _described("PublicKeyCredentialRequestOptionsJSON", challenge=_BASE64URL, rpId=_TEXT),
]
AuthenticationJson = Annotated[
    dict[str, Any],
    _described(
        "AuthenticationResponseJSON",
        id=_BASE64URL,
        type={"const": "public-key"},
        response=_response("clientDataJSON", "authenticatorData", "signature"),
    ),
]
