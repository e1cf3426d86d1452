"""One person's ceremonies with one software authenticator, judged by the WebAuthn factor alone: no account."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from fido2 import cbor
from tests.kit import START_S
from tests.lying_authenticator import LyingAuthenticator

from twofold.core.account import Authenticator
from twofold.core.clock import in_seconds
from twofold.core.factor import Answer, Finding, Right, Wrong
from twofold.core.ticket import TICKET_TTL_S, Ticket
from twofold.factors.webauthn import (
    ANY_CREDENTIAL,
    Assertion,
    PendingCredential,
    Policy,
    Registration,
    Webauthn,
    WebauthnCredential,
    registration_challenge,
)
from twofold.factors.webauthn_json import (
    RelyingParty,
    User,
    creation_options,
    read_authentication,
    read_registration,
    request_options,
)
from twofold.testing.software_authenticator import decode, encode

Json = dict[str, Any]

ORIGIN = "https://example.com"
EXAMPLE = RelyingParty("example.com", (ORIGIN, "https://login.example.com:8443"))
HANDLE = bytes(range(32))
NOW = in_seconds(START_S)
#: What is not one of our origins, however much it looks like one.
STRANGE_ORIGINS = [
    "https://example.com.evil.example",
    "https://evil-example.com",
    "https://evilexample.com",
    "https://sub.example.com",
    "https://example.com.",
    "https://example.com/",
    "https://example.com:443",
    "https://example.com:8443",
    "https://login.example.com",
    "https://login.example.com:8444",
    "http://example.com",
    "HTTPS://example.com",
    "https://EXAMPLE.com",
    "https://example.co",
    "https://example.com@evil.example",
    "https://evil.example/https://example.com",
    "https://example.com\0",
    " https://example.com",
    "https://ex\u0430mple.com",
    "https://xn--exmple-4nf.com",
    "example.com",
    "android:apk-key-hash:abc",
    "null",
    "",
]
OPEN = PendingCredential("example.com", HANDLE, b"n" * 32, "local")
_FACTOR = Webauthn()


@dataclass
class Ceremonies:
    """`now` is in microseconds; `credential` is the record of what was registered last."""

    authenticator: LyingAuthenticator = field(default_factory=lambda: LyingAuthenticator(algorithm=-7))
    rp: RelyingParty = EXAMPLE
    policy: Policy = ANY_CREDENTIAL
    pending: PendingCredential = OPEN
    now: int = NOW
    credential: WebauthnCredential | None = None

    def creation(self, *, asked_at: int | None = None) -> Json:
        """The options of the open registration."""
        return creation_options(
            self.rp,
            User(self.pending.user_handle, "alice", "Alice"),
            registration_challenge(self.pending, self.now if asked_at is None else asked_at),
            rp_name="Example",
            algorithms=self.policy.algorithms,
            excluded=(),
            conveyance=self.policy.conveyance,
        )

    def register(self, *, origin: str = ORIGIN, held_by: Any = "own", **said: Any) -> Finding:
        """Register, saying something else than the truth."""
        return self.judge_registration(self.authenticator.register(self.creation(), origin, **said), held_by=held_by)

    def judge_registration(self, response: Json, *, held_by: Any = "own") -> Finding:
        answer = Answer("webauthn", evidence=self.registration(response, held_by=held_by))
        finding = _FACTOR.check_answer(self.enrollment(), answer, unseal=bytes, now=self.now)
        if isinstance(finding, Right):
            self.credential = _FACTOR.read_credential(finding.credential)
        return finding

    def registration(self, response: Json, *, held_by: Any = "own") -> Registration:
        """The response as evidence."""
        return Registration(read_registration(response), self.rp, self.policy, held_by)

    def enrollment(self) -> Authenticator:
        """The authenticator while it is pending."""
        return _authenticator("pending", msgspec.msgpack.encode(self.pending))

    def ticket(self, **changes: Any) -> Ticket:
        """A challenge to this account, of the moment."""
        now_s = self.now // 1_000_000
        asked = Ticket(
            "webauthn.get",
            "alice",
            "epoch",
            "local",
            "webauthn",
            "",
            "",
            (),
            False,
            b"c" * 32,
            now_s,
            now_s + TICKET_TTL_S,
        )
        return msgspec.structs.replace(asked, **changes)

    def request(self, ticket: Ticket) -> Json:
        """The options that go with the ticket."""
        verification = "required" if ticket.wants_user_verification else "preferred"
        return request_options(self.rp, ticket.challenge, allowed=(), user_verification=verification)

    def sign_in(self, *, origin: str = ORIGIN, asked: Json | None = None, **said: Any) -> Finding:
        """Answer a challenge that is like `asked`, saying something else than the truth; a success is kept."""
        ticket = self.ticket(**(asked or {}))
        response = self.authenticator.answer(self.request(ticket), origin, **said)
        return self.judge_assertion(response, ticket)

    def active(self) -> Authenticator:
        """The authenticator once it is confirmed."""
        assert self.credential is not None
        return _authenticator("active", msgspec.msgpack.encode(self.credential))

    def judge_assertion(self, response: Json, ticket: Ticket | None) -> Finding:
        answer = Answer(
            "webauthn", evidence=Assertion(read_authentication(response), self.rp, self.policy.trust), issued=ticket
        )
        finding = _FACTOR.check_answer(self.active(), answer, unseal=bytes, now=self.now)
        if isinstance(finding, Right | Wrong) and finding.credential is not None:
            self.credential = _FACTOR.read_credential(finding.credential)
        return finding


def registered(**authenticator: Any) -> Ceremonies:
    """Ceremonies of somebody who has registered already; ES256 unless said otherwise."""
    ceremonies = Ceremonies(LyingAuthenticator(**{"algorithm": -7, **authenticator}))
    assert isinstance(ceremonies.register(), Right)
    return ceremonies


def broken(finding: Finding) -> tuple[str | None, str | None]:
    """The reason and the rule of a refusal; nothing is kept of one."""
    assert isinstance(finding, Wrong), finding
    assert finding.credential is None or finding.is_cloned
    return finding.reason, finding.rule


def by(step: str, reason: str = "wrong_credential") -> tuple[str, str]:
    """What `broken` gives for a step of the standard."""
    return reason, f"WebAuthn L3 {step}"


def _authenticator(state: Any, credential: bytes) -> Authenticator:
    return Authenticator("au_1", "webauthn", "key", state, credential, NOW)


def spelled(spell: Callable[[str], str | bytes]) -> Json:
    """Client data whose JSON is changed as text."""

    def spell_bytes(members: Json) -> bytes:
        text = spell(json.dumps(members))
        return text if isinstance(text, bytes) else text.encode()

    return {"spell": spell_bytes}


def attestation_of(response: Json) -> Json:
    """The attestation object of a registration."""
    return cbor.decode(decode(response["response"]["attestationObject"]))


def with_attestation(response: Json, raw: bytes) -> Json:
    """The response with other bytes as its attestation object."""
    return {**response, "response": {**response["response"], "attestationObject": encode(raw)}}


def refuse_registration(ceremonies: Ceremonies, **said: Any) -> tuple[str | None, str | None]:
    """How this registration ends; the same one without the deviation succeeds."""
    refusal = broken(ceremonies.register(**said))
    assert isinstance(ceremonies.register(), Right)
    return refusal


def keep_registration(**said: Any) -> WebauthnCredential:
    """The record of a registration that succeeds."""
    ceremonies = Ceremonies()
    assert isinstance(ceremonies.register(**said), Right)
    assert ceremonies.credential is not None
    return ceremonies.credential


def refuse_sign_in(ceremonies: Ceremonies, **said: Any) -> tuple[str | None, str | None]:
    """How this assertion ends; the same one without the deviation succeeds, before and after."""
    assert isinstance(ceremonies.sign_in(), Right)
    before = ceremonies.credential
    refusal = broken(ceremonies.sign_in(**said))
    assert ceremonies.credential == before, "a refusal leaves nothing"
    assert isinstance(ceremonies.sign_in(), Right)
    return refusal
