"""WebAuthn: passkeys and security keys, judged by our own rules in the order of WebAuthn Level 3 sections 7.1 and 7.2.

One rule a line; a refusal names the step that was broken. Others read CBOR and keys; what they must say is here. The
challenge of a sign-in is in its ticket; that of a registration comes from the pending enrollment, which one caller
began, and which counts once.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal, NoReturn

import msgspec
from cryptography.exceptions import InvalidSignature

from twofold.core.account import Authenticator
from twofold.core.attempt import PAGES
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Reason
from twofold.core.factor import AAL1, AAL2, AAL3, Answer, Factor, Finding, Right, StaleProof, Unseal, Wrong
from twofold.core.ticket import TICKET_TTL_S, Ticket
from twofold.factors import cbor
from twofold.factors.attestation import Attested, BadAttestation, Trust, check_attestation
from twofold.factors.authenticator_data import AttestedCredential, AuthenticatorData, read_authenticator_data
from twofold.factors.cose import OFFERED, BadKey, load_key
from twofold.factors.webauthn_json import (
    AuthenticationResponse,
    Conveyance,
    Descriptor,
    RegistrationResponse,
    RelyingParty,
    encode,
)

FACTOR: Final = "webauthn"
CREATE, GET = "webauthn.create", "webauthn.get"
CREDENTIAL_ID_BYTES_MAX = 1023
NONCE_BYTES = 32
#: A challenge of a registration is made anew so often, and good until it is five minutes old, less this at most.
_RENEWED_S = 10
#: A copy that is seen again and again is told so often.
_MINUTE_S = 60
_STANDARD = "WebAuthn L3"
_BOM = b"\xef\xbb\xbf"


class Policy(msgspec.Struct, frozen=True):
    """What may be registered. AAGUIDs are 16 bytes; `allowed_aaguids` None means any that is not denied.

    With `needs_trust` only what `trust` vouches for. Who asks for that has the browser convey the statement.
    """

    algorithms: tuple[int, ...] = OFFERED
    conveyance: Conveyance = "none"
    trust: Trust = Trust()
    needs_trust: bool = False
    allowed_aaguids: frozenset[bytes] | None = None
    denied_aaguids: frozenset[bytes] = frozenset()


ANY_CREDENTIAL = Policy()


class PendingCredential(msgspec.Struct, frozen=True, array_like=True):
    """What is kept while a registration is open: `nonce` is what its challenges come from, and `application` who asked
    for it."""

    rp_id: str
    user_handle: bytes
    nonce: bytes
    application: str = ""


class WebauthnCredential(msgspec.Struct, frozen=True, array_like=True):
    """The credential record (section 4). `public_key` is a COSE key; `attestation` the kind of statement that came with
    it, and `is_attested` whether somebody whom we trust said that hardware keeps the key. `application` is where it was
    registered, `cloned_at` when its counter went back."""

    rp_id: str
    user_handle: bytes
    id: bytes
    public_key: bytes
    sign_count: int
    transports: tuple[str, ...]
    aaguid: bytes
    is_backup_eligible: bool
    is_backed_up: bool
    is_user_verifying: bool
    is_discoverable: bool | None
    attestation: str
    is_attested: bool
    application: str = ""
    cloned_at: int = 0


class Registration(msgspec.Struct, frozen=True):
    """The evidence that confirms an enrollment. `held_by` tells who holds the credential id among all accounts: nobody
    asked yet, this account alone, or somebody already."""

    response: RegistrationResponse
    rp: RelyingParty
    policy: Policy
    held_by: Literal["unasked", "own", "other"] = "unasked"


class Assertion(msgspec.Struct, frozen=True):
    """The evidence of a sign-in. `trust` tells whether the maker is still believed."""

    response: AuthenticationResponse
    rp: RelyingParty
    trust: Trust = Trust()


class ClientData(msgspec.Struct, frozen=True):
    """What the browser says of the ceremony (section 5.8.1)."""

    type: str
    challenge: str
    origin: str
    is_cross_origin: bool | None = msgspec.field(name="crossOrigin", default=None)
    top_origin: str | None = msgspec.field(name="topOrigin", default=None)


class _AttestationObject(msgspec.Struct, frozen=True):
    fmt: str
    statement: dict[str, object] = msgspec.field(name="attStmt")
    data: bytes = msgspec.field(name="authData")


class _BrokenRule(Exception):
    """A rule that the answer breaks."""

    def __init__(self, rule: str, reason: Reason) -> None:
        super().__init__(rule)
        self.wrong = Wrong(reason=reason, rule=f"{_STANDARD} {rule}")


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WebauthnCredential).decode
_decode_pending = msgspec.msgpack.Decoder(PendingCredential).decode
_decode_client_data = msgspec.json.Decoder(ClientData).decode


class Webauthn:
    """The `webauthn` factor."""

    name = FACTOR
    amr: tuple[str, ...] = ("hwk", "user")

    def new_pending(self, *, rp_id: str, user_handle: bytes, nonce: bytes, application: str) -> bytes:
        """The credential of an open registration; `nonce` is 32 fresh random bytes."""
        return _encode(PendingCredential(rp_id, user_handle, nonce, application))

    def read_pending(self, credential: bytes) -> PendingCredential:
        """The open registration as data."""
        return _decode_pending(credential)

    def read_credential(self, credential: bytes) -> WebauthnCredential:
        """The credential record as data."""
        return _decode(credential)

    def reads(self, answer: Answer) -> bool:
        """What a ceremony in the browser gave."""
        return answer.kind == "webauthn"

    def cost_ppm(self, credential: bytes, answer: Answer) -> int:
        """A signature cannot be guessed."""
        return 0

    def check_answer(self, authenticator: Authenticator, answer: Answer, *, unseal: Unseal, now: int) -> Finding:
        """Judge a registration for an enrollment that is open, an assertion for one that is confirmed."""
        try:
            match answer.evidence:
                case Registration() as registration if authenticator.state == "pending":
                    return check_registration(_decode_pending(authenticator.credential), registration, now=now)
                case Assertion() as assertion if answer.issued is not None and authenticator.state != "pending":
                    return check_assertion(authenticator, assertion, answer.issued, now=now)
        except _BrokenRule as broken:
            return broken.wrong
        return Wrong(reason="wrong_credential")


def describe(credential: WebauthnCredential) -> Descriptor:
    """The credential as options name it."""
    return Descriptor(credential.id, credential.transports)


def find_new_credential(registration: Registration) -> AttestedCredential | None:
    """The credential that a registration brings; None for one that will be refused because it cannot be read."""
    try:
        return _read_attestation_object(registration.response.attestation_object, "7.1 step 13")[2]
    except _BrokenRule:
        return None


def registration_challenge(pending: PendingCredential, now: int) -> bytes:
    """The challenge of an open registration at `now` (microseconds)."""
    return _challenge_of(pending, now // MICROS_PER_S // _RENEWED_S)


def check_registration(pending: PendingCredential, registration: Registration, *, now: int) -> Finding:
    """A new credential by the rules of section 7.1; `StaleProof` when all that is left is who else holds its id."""
    response, rp, policy = registration.response, registration.rp, registration.policy
    newest = now // MICROS_PER_S // _RENEWED_S
    challenges = [_challenge_of(pending, newest - age) for age in range(TICKET_TTL_S // _RENEWED_S)]
    client = _read_client_data(response.client_data, "7.1 step 6")
    _refuse(client.type != CREATE, "7.1 step 7")
    _refuse(not _is_among(client.challenge, challenges), "7.1 step 8", "challenge_expired")
    _refuse(pending.rp_id != rp.id or client.origin not in rp.origins, "7.1 step 9", "wrong_origin")
    _refuse(bool(client.is_cross_origin), "7.1 step 10", "wrong_origin")
    _refuse(client.top_origin is not None, "7.1 step 11", "wrong_origin")
    client_data_hash = hashlib.sha256(response.client_data).digest()
    attestation, data, new = _read_attestation_object(response.attestation_object, "7.1 step 13")
    _refuse(data.rp_id_hash != _hash_of(rp.id), "7.1 step 14")
    _refuse(not data.is_user_present, "7.1 step 15")
    # Step 16 asks for user verification where it was required; enrollments prefer it, and record whether it came.
    _refuse(data.is_backed_up and not data.is_backup_eligible, "7.1 step 17")
    # Steps 18 and 19 are policy: a synced credential is as welcome, and counts for less where that matters.
    try:
        algorithm = load_key(new.public_key).algorithm
    except BadKey:
        _break("7.1 step 20", "key_refused")
    _refuse(algorithm not in policy.algorithms, "7.1 step 20", "key_refused")
    try:
        attested = check_attestation(
            attestation.fmt, attestation.statement, data, client_data_hash, trust=policy.trust, now=now
        )
    except BadAttestation:
        _break("7.1 step 22", "attestation_refused")
    _refuse(not _is_welcome(new.aaguid, attested, policy), "7.1 step 24", "attestation_refused")
    _refuse(not 1 <= len(new.id) <= CREDENTIAL_ID_BYTES_MAX, "7.1 step 25")
    if registration.held_by == "unasked":
        return StaleProof()
    _refuse(registration.held_by == "other", "7.1 step 26", "already_registered")
    record = WebauthnCredential(
        rp.id,
        pending.user_handle,
        new.id,
        new.public_key,
        data.sign_count,
        response.transports,
        new.aaguid,
        is_backup_eligible=data.is_backup_eligible,
        is_backed_up=data.is_backed_up,
        is_user_verifying=data.is_user_verified,
        is_discoverable=response.is_discoverable,
        attestation=attested.kind,
        is_attested=attested.is_trusted and attested.is_hardware,
        application=pending.application,
    )
    return _right(record, data, is_vouched_for=policy.trust.vouches_for(record.aaguid, now))


def check_assertion(authenticator: Authenticator, assertion: Assertion, issued: Ticket, *, now: int) -> Finding:
    """An assertion by the rules of section 7.2. The ticket itself was checked before, and is spent with this."""
    response, rp, record = assertion.response, assertion.rp, _decode(authenticator.credential)
    if response.credential_id != record.id or record.rp_id != rp.id:
        return Wrong(reason="unknown_credential", rule=f"{_STANDARD} 7.2 step 6", is_for_another=True)
    _refuse(bool(issued.allowed) and authenticator.id not in issued.allowed, "7.2 step 5", "unknown_credential")
    _refuse(response.user_handle is None and not issued.account_id, "7.2 step 6", "unknown_credential")
    _refuse(response.user_handle not in (None, record.user_handle), "7.2 step 6", "unknown_credential")
    # A question to nobody in particular lets somebody in without a password, so only the pages' own passkeys answer
    # theirs: no key of an application can make one for somebody and come in by it.
    _refuse(not issued.account_id and record.application != issued.application, "7.2 step 6", "unknown_credential")
    client = _read_client_data(response.client_data, "7.2 step 9")
    _refuse(client.type != GET, "7.2 step 10")
    _refuse(not _is_among(client.challenge, [issued.challenge]), "7.2 step 11", "challenge_mismatch")
    _refuse(client.origin not in rp.origins, "7.2 step 12", "wrong_origin")
    _refuse(bool(client.is_cross_origin), "7.2 step 13", "wrong_origin")
    _refuse(client.top_origin is not None, "7.2 step 14", "wrong_origin")
    try:
        data = read_authenticator_data(response.authenticator_data)
    except ValueError:
        _break("6.1")
    _refuse(data.rp_id_hash != _hash_of(rp.id), "7.2 step 15")
    _refuse(not data.is_user_present, "7.2 step 16")
    _refuse(issued.wants_user_verification and not data.is_user_verified, "7.2 step 17", "uv_required")
    _refuse(data.is_backed_up and not data.is_backup_eligible, "7.2 step 18")
    _refuse(data.is_backup_eligible != record.is_backup_eligible, "7.2 step 19")
    signed = response.authenticator_data + hashlib.sha256(response.client_data).digest()
    try:
        load_key(record.public_key).verify(response.signature, signed)
    except InvalidSignature:
        _break("7.2 step 21")
    if (data.sign_count or record.sign_count) and data.sign_count <= record.sign_count:
        return _refuse_clone(record, now)
    renewed = msgspec.structs.replace(
        record,
        sign_count=data.sign_count,
        is_backed_up=data.is_backed_up,
        is_user_verifying=record.is_user_verifying or data.is_user_verified,
    )
    right = _right(renewed, data, is_vouched_for=assertion.trust.vouches_for(record.aaguid, now))
    # What an application registered is a second factor on the pages, and no more than that.
    is_foreign = issued.application.startswith(PAGES) and record.application != PAGES
    return msgspec.structs.replace(right, is_user_verified=False) if is_foreign else right


def _right(record: WebauthnCredential, data: AuthenticatorData, *, is_vouched_for: bool) -> Right:
    """What the credential counts for (NIST SP 800-63B-4 sections 2.2, 2.3 and appendix B): whoever it verified showed
    two factors; a key that can be copied is never the strongest, nor is one whose model is not trusted any more."""
    key = "swk" if record.is_backup_eligible else "hwk"
    if not data.is_user_verified:
        return Right(_encode(record), amr=(key, "user"), acr=AAL1)
    is_hardware = record.is_attested and is_vouched_for and not record.is_backup_eligible
    acr = AAL3 if is_hardware else AAL2
    return Right(_encode(record), amr=(key, "user", "mfa"), acr=acr, is_user_verified=True)


def _refuse_clone(record: WebauthnCredential, now: int) -> Wrong:
    """Section 7.2 step 22: two authenticators use this key, and nobody knows which of them this is."""
    rule = f"{_STANDARD} 7.2 step 22"
    if 0 <= now - record.cloned_at < _MINUTE_S * MICROS_PER_S:
        # It was said a moment ago: whoever has the copy must not fill the disk.
        return Wrong(reason="sign_count_went_back", rule=rule)
    marked = msgspec.structs.replace(record, cloned_at=now)
    return Wrong(_encode(marked), reason="sign_count_went_back", rule=rule, is_cloned=True)


def _is_welcome(aaguid: bytes, attested: Attested, policy: Policy) -> bool:
    if (policy.needs_trust and not attested.is_trusted) or aaguid in policy.denied_aaguids:
        return False
    # Without proof an AAGUID is a claim, and whoever wants in claims one of the list.
    return policy.allowed_aaguids is None or (attested.is_aaguid_proven and aaguid in policy.allowed_aaguids)


def _read_client_data(raw: bytes, rule: str) -> ClientData:
    try:
        return _decode_client_data(raw.removeprefix(_BOM))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        _break(rule)


def _read_attestation_object(raw: bytes, rule: str) -> tuple[_AttestationObject, AuthenticatorData, AttestedCredential]:
    try:
        attestation = msgspec.convert(cbor.decode(raw), _AttestationObject)
        data = read_authenticator_data(attestation.data)
    except (ValueError, msgspec.ValidationError):
        _break(rule)
    if data.attested is None:
        _break(rule)
    return attestation, data, data.attested


def _is_among(challenge: str, issued: list[bytes]) -> bool:
    """Whether the text is the base64url of one of them. A challenge is no secret, so a plain comparison is safe."""
    return challenge in map(encode, issued)


def _challenge_of(pending: PendingCredential, count: int) -> bytes:
    return hmac.digest(pending.nonce, b"twofold/1|registration|%d" % count, "sha256")


def _hash_of(rp_id: str) -> bytes:
    return hashlib.sha256(rp_id.encode()).digest()


def _refuse(is_broken: bool, rule: str, reason: Reason = "wrong_credential") -> None:
    if is_broken:
        _break(rule, reason)


def _break(rule: str, reason: Reason = "wrong_credential") -> NoReturn:
    raise _BrokenRule(rule, reason)


_: Factor = Webauthn()
