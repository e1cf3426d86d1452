"""One assertion of a passkey, from the browser's JSON to the verdict, beside its signature verified alone."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from bench.figures import Figure, ratio
from twofold.core.account import Authenticator
from twofold.core.factor import Answer, Right
from twofold.core.ticket import TICKET_TTL_S, Ticket
from twofold.factors.webauthn import FACTOR, GET, Assertion, Webauthn, WebauthnCredential
from twofold.factors.webauthn_json import RelyingParty, encode, read_authentication

#: Each has a key of its own, as in life: nothing can be kept from one sign-in to the next.
PEOPLE = 500
HERE = RelyingParty("example.com", ("https://example.com",))
_ES256 = ec.ECDSA(SHA256())
_WEBAUTHN = Webauthn()


@dataclass(frozen=True)
class SignIn:
    """One person's assertion as the browser sends it, and what it is judged by."""

    public_key: ec.EllipticCurvePublicKey
    signature: bytes
    signed: bytes
    text: str
    authenticator: Authenticator
    ticket: Ticket


def measure(*, rounds: int) -> list[Figure]:
    """Medians over rounds in which both take turns; the bare side has its keys loaded and its bytes at hand."""
    now_s = int(time.time())
    people = [make_sign_in(number, now_s) for number in range(PEOPLE)]
    ours: list[float] = []
    bare: list[float] = []
    for _ in range(rounds):
        bare.append(_microseconds(verify_bare, people))
        ours.append(_microseconds(lambda person: judge(person, now_s), people))
    return [
        Figure("P-256 verification of cryptography alone", median(bare), "µs"),
        Figure("one assertion, from JSON to the verdict", median(ours), "µs"),
        Figure("one assertion : bare verification", ratio(ours, bare), "x", at_most=1.6),
    ]


def judge(person: SignIn, now_s: int) -> None:
    """All rules of WebAuthn Level 3 section 7.2, and reading the JSON, the stored key and the record before them."""
    evidence = Assertion(read_authentication(person.text), HERE)
    answer = Answer(FACTOR, evidence=evidence, issued=person.ticket)
    finding = _WEBAUTHN.check_answer(person.authenticator, answer, unseal=bytes, now=now_s * 1_000_000)
    assert isinstance(finding, Right)


def verify_bare(person: SignIn) -> None:
    """Raises unless the signature is right."""
    person.public_key.verify(person.signature, person.signed, _ES256)


def make_sign_in(number: int, now_s: int) -> SignIn:
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.public_key().public_numbers()
    x, y = (coordinate.to_bytes(32, "big") for coordinate in (numbers.x, numbers.y))
    cose = bytes.fromhex("a5010203262001215820") + x + bytes.fromhex("225820") + y
    credential_id, challenge, handle = (hashlib.sha256(b"%d %d" % (kind, number)).digest() for kind in range(3))
    members = {"type": GET, "challenge": encode(challenge), "origin": HERE.origins[0], "crossOrigin": False}
    client_data = json.dumps(members, separators=(",", ":")).encode()
    user_present_and_verified = bytes([0x05])
    data = hashlib.sha256(HERE.id.encode()).digest() + user_present_and_verified + bytes(4)
    signed = data + hashlib.sha256(client_data).digest()
    signature = key.sign(signed, _ES256)
    credential = {
        "id": encode(credential_id),
        "rawId": encode(credential_id),
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": {},
        "response": {
            "clientDataJSON": encode(client_data),
            "authenticatorData": encode(data),
            "signature": encode(signature),
            "userHandle": encode(handle),
        },
    }
    record = WebauthnCredential(
        HERE.id,
        handle,
        credential_id,
        cose,
        sign_count=0,
        transports=("internal",),
        aaguid=bytes(16),
        is_backup_eligible=False,
        is_backed_up=False,
        is_user_verifying=True,
        is_discoverable=True,
        attestation="none",
        is_attested=False,
    )
    authenticator = Authenticator("au_1", FACTOR, "", "active", msgspec.msgpack.encode(record), 0)
    expires_at = now_s + TICKET_TTL_S
    ticket = Ticket(GET, f"{number}", "", "shop", FACTOR, "", "", ("au_1",), True, challenge, now_s, expires_at)
    return SignIn(key.public_key(), signature, signed, json.dumps(credential), authenticator, ticket)


def _microseconds(check: Callable[[SignIn], None], people: Sequence[SignIn]) -> float:
    began = time.perf_counter()
    for person in people:
        check(person)
    return (time.perf_counter() - began) / len(people) * 1e6
