"""The authenticator of `twofold.testing`, and a test may have it say anything instead of the truth.

What it says is still signed correctly, so that a refusal is by the rule that was broken and never by a signature that
does not fit.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fido2 import cbor

from twofold.testing import SoftwareAuthenticator
from twofold.testing.software_authenticator import AT, ED, Json, SoftwareCredential, encode

#: The flags of authenticator data that mean nothing.
RESERVED = 0x02 | 0x20
_AS_ISSUED: Any = object()
#: Leaves a member of the client data out.
ABSENT: Any = object()


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
    credential: SoftwareCredential | None = None
    user_handle: bytes | None = _AS_ISSUED


@dataclass
class LyingAuthenticator(SoftwareAuthenticator):
    """`register` and `answer` take what is `said` besides, as in `Said`."""

    _says: Said = field(default_factory=Said, init=False, repr=False)

    def register(self, options: Mapping[str, Any], origin: str, **said: Any) -> Json:
        self._says = Said(**said)
        if self._says.credential_id is not None:
            options = {**options, "excludeCredentials": []}
        if self._says.public_key is not None:
            options = {**options, "pubKeyCredParams": [*options["pubKeyCredParams"], {"alg": self.algorithm}]}
        return super().register(options, origin)

    def answer(self, options: Mapping[str, Any], origin: str, **said: Any) -> Json:
        self._says = says = Said(**said)
        response = super().answer(options, origin)
        if says.credential_id is not None:
            response |= {"id": encode(says.credential_id), "rawId": encode(says.credential_id)}
        if says.user_handle is None:
            response["response"].pop("userHandle", None)
        elif says.user_handle is not _AS_ISSUED:
            response["response"]["userHandle"] = encode(says.user_handle)
        return response

    def make_credential(self, algorithm: int, rp_id: str, user_handle: bytes) -> SoftwareCredential:
        made = super().make_credential(algorithm, rp_id, user_handle)
        made.id = _or(self._says.credential_id, made.id)
        return made

    def find_credential(self, options: Mapping[str, Any], origin: str) -> SoftwareCredential:
        return self._says.credential or super().find_credential(options, origin)

    def client_data(self, ceremony: str, challenge: str, origin: str) -> bytes:
        truth = json.loads(super().client_data(ceremony, challenge, origin))
        members = {**truth, **self._says.client}
        return self._says.spell({name: value for name, value in members.items() if value is not ABSENT})

    def authenticator_data(self, credential: SoftwareCredential, verification: str, *, is_new: bool) -> bytes:
        says, truth = self._says, super().authenticator_data(credential, verification, is_new=is_new)
        flags = (truth[32] | ED * (says.extensions is not None) | says.on) & ~says.off
        data = truth[:32] if says.rp_id is None else hashlib.sha256(says.rp_id.encode()).digest()
        data += bytes([flags]) + _or(says.sign_count, credential.sign_count).to_bytes(4, "big")
        if flags & AT:
            data += _or(says.aaguid, self.aaguid)
            data += len(credential.id).to_bytes(2, "big") + credential.id + _or(says.public_key, credential.cose)
        if says.extensions is not None:
            data += cbor.encode(says.extensions)
        return says.data(data)

    def attest(
        self, credential: SoftwareCredential, data: bytes, client_data: bytes, conveyance: str
    ) -> tuple[str, Mapping[str, Any]]:
        fmt, statement = super().attest(credential, data, client_data, conveyance)
        return _or(self._says.fmt, fmt), _or(self._says.statement, statement)


def _or(said: Any, truth: Any) -> Any:
    return truth if said is None else said
