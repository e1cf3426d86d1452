"""What is known of the passkeys that an account holds, for those who show them; nothing is decided by it but which
authenticator is the last one that works.

The ceremonies are in `twofold.passkeys`.
"""

from __future__ import annotations

import msgspec

from twofold.core.account import Account, Authenticator
from twofold.core.attempt import PAGES
from twofold.factors.aaguids import find_name
from twofold.factors.webauthn import FACTOR, Webauthn, WebauthnCredential
from twofold.factors.webauthn_json import RelyingParty, encode

_WEBAUTHN = Webauthn()


class PasskeyFacts(msgspec.Struct, frozen=True):
    """A passkey in words that pages can say. `rp_id` is where it works; `maker` is "" where nobody told us, and a claim
    of the browser; `cloned_at`, in microseconds, is when it was found to be in other hands too, 0 for never."""

    rp_id: str
    maker: str
    is_synced: bool
    is_security_key: bool
    is_user_verifying: bool
    cloned_at: int


def find_credentials(account: Account, *, lasting: bool = False) -> list[WebauthnCredential]:
    """The account's confirmed credentials; with `lasting` those alone that do not stop after a reset: the device of
    one that stops may be used again."""
    confirmed = (a for a in account.authenticators if _is_confirmed(a) and not (lasting and a.stops_at))
    return [_WEBAUTHN.read_credential(a.credential) for a in confirmed]


def is_for(authenticator: Authenticator, rp: RelyingParty) -> bool:
    """Whether it is a confirmed credential of this relying party."""
    return _is_confirmed(authenticator) and _WEBAUTHN.read_credential(authenticator.credential).rp_id == rp.id


def holds(account: Account, credential_id: bytes) -> bool:
    """Whether one of the account's credentials has this id."""
    return any(credential.id == credential_id for credential in find_credentials(account))


def has_verifying_passkey(account: Account, rp: RelyingParty | None) -> bool:
    """Whether one of them was registered on Twofold's own pages, and makes sure who its user is."""
    own = (c for c in find_credentials(account) if c.application == PAGES)
    return rp is not None and any(c.rp_id == rp.id and c.is_user_verifying for c in own)


def describe_passkey(record: WebauthnCredential) -> PasskeyFacts:
    """The facts of a credential record."""
    return PasskeyFacts(
        record.rp_id,
        find_name(record.aaguid),
        # What could be synced and is not yet is lost with its one device.
        is_synced=record.is_backed_up,
        is_security_key=bool(record.transports) and not {"internal", "hybrid"} & set(record.transports),
        is_user_verifying=record.is_user_verifying,
        cloned_at=record.cloned_at,
    )


def find_elsewhere(account: Account, rp: RelyingParty | None) -> frozenset[str]:
    """The authenticators that are passkeys of another address than this relying party's: nobody can use them here."""
    own = None if rp is None else rp.id
    passkeys = [a for a in account.authenticators if a.factor == FACTOR and a.state != "pending"]
    return frozenset(a.id for a in passkeys if Webauthn().read_credential(a.credential).rp_id != own)


def is_last_way(account: Account, authenticator_id: str, rp: RelyingParty | None) -> bool:
    """Whether no second factor that works here is left without this authenticator."""
    return account.is_last_factor(authenticator_id, useless=find_elsewhere(account, rp))


def list_accepted(account: Account, display_name: str, rp: RelyingParty) -> dict[str, dict[str, object]] | None:
    """What a browser's passkey manager is told, by method of the Signal API (WebAuthn L3 section 5.1.10): which
    passkeys of this person are good here, perhaps none, and what she is called. None for whom no browser knows."""
    handle = account.find_handle(rp.id)
    if handle is None:
        return None
    whose = {"rpId": rp.id, "userId": encode(handle)}
    ids = [encode(record.id) for record in find_credentials(account) if record.rp_id == rp.id]
    return {
        "signalAllAcceptedCredentials": {**whose, "allAcceptedCredentialIds": ids},
        "signalCurrentUserDetails": {**whose, "name": account.id, "displayName": display_name or account.id},
    }


def _is_confirmed(authenticator: Authenticator) -> bool:
    return authenticator.factor == FACTOR and authenticator.state != "pending"
