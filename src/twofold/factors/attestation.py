"""What is believed of a new credential's authenticator: WebAuthn Level 3 section 7.1, steps 22 to 24.

A statement that is wrong is refused. One that proves nothing, because its format is not known, its certificate is
broken or nobody whom we trust stands behind it, leaves the credential as good as one without: it is untrusted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from cryptography import x509

from twofold.factors.attestation_formats import FORMATS, BadAttestation, Doubt, Inputs, Kind, Proven
from twofold.factors.attestation_trust import UNREADABLE, Model, Trust, find_path_fault, load_certificates
from twofold.factors.authenticator_data import AuthenticatorData
from twofold.factors.cose import BadKey, load_key

__all__ = ["Attested", "BadAttestation", "Trust", "check_attestation"]

#: The key of the certificate signs the AAGUID. In android-key the new key does, so whatever program may use that; in
#: fido-u2f nobody does.
_SIGNING_AAGUID = ("packed", "tpm", "apple")


class Attested(msgspec.Struct, frozen=True):
    """What the statement came to: only with `is_trusted` did anybody vouch for it; `why_untrusted` is for logs.

    `description` is the model's name in the metadata and `distrust` the report, such as `REVOKED`, that speaks against
    it; for what is not trusted, both go by the AAGUID that the authenticator claims. A list of allowed AAGUIDs needs
    `is_aaguid_proven`. `is_hardware` is false where the metadata says that software keeps the keys.
    """

    kind: Kind
    is_trusted: bool = False
    why_untrusted: str = ""
    description: str = ""
    distrust: str = ""
    is_aaguid_proven: bool = False
    is_hardware: bool = False


def check_attestation(
    fmt: str,
    statement: Mapping[str, Any],
    data: AuthenticatorData,
    client_data_hash: bytes,
    *,
    trust: Trust,
    now: int,
) -> Attested:
    """Verify the statement and assess who stands behind it at `now` (microseconds). Raises `BadAttestation`."""
    if data.attested is None:
        raise BadAttestation("no credential is attested")
    try:
        key = load_key(data.attested.public_key)
    except BadKey as error:
        raise BadAttestation(f"the credential's key: {error}") from None
    proven, doubt = _verify(fmt, Inputs(statement, data, client_data_hash, data.attested, key))
    model = _find_model(trust, fmt, data.attested.aaguid, proven.path)
    distrust = model.find_distrust(proven.path, now) if model else ""
    # A model that the metadata lists with roots must lead to one of them: the key of another root that we trust cannot
    # speak for it.
    is_rooted = model is not None and bool(model.roots)
    roots = load_certificates(model.roots) if model and is_rooted else trust.roots
    why = doubt or distrust or ("" if proven.path else "nobody vouches for it")
    why = why or find_path_fault(proven.path, roots, now=now)
    return Attested(
        proven.kind,
        is_trusted=not why,
        why_untrusted=why,
        description=model.description if model else "",
        distrust=distrust,
        is_aaguid_proven=not why and (fmt in _SIGNING_AAGUID or (fmt == "android-key" and is_rooted)),
        is_hardware=not why and (model is None or model.is_hardware),
    )


def _verify(fmt: str, given: Inputs) -> tuple[Proven, str]:
    """What the statement proves, and why that is in doubt."""
    verify = FORMATS.get(fmt)
    if verify is None:
        return Proven("unknown"), "its format is not known here"
    try:
        return verify(given), ""
    except BadAttestation:
        raise
    except Doubt as doubt:
        return Proven("unknown"), str(doubt)
    except UNREADABLE as error:
        return Proven("unknown"), f"its certificate cannot be read ({type(error).__name__})"


def _find_model(trust: Trust, fmt: str, aaguid: bytes, path: tuple[bytes, ...]) -> Model | None:
    if trust.metadata is None:
        return None
    if fmt != "fido-u2f":
        return trust.metadata.by_aaguid.get(aaguid)
    if not path:
        return None
    key = x509.load_der_x509_certificate(path[0]).public_key()
    return trust.metadata.by_key_id.get(x509.SubjectKeyIdentifier.from_public_key(key).digest)
