"""Passkeys and security keys: the ceremonies of WebAuthn as verbs beside the verifier's.

`enroll` and `confirm` register a credential, `challenge` and `answer` ask for it. What is sent to a browser and what it
sends back is the browser's own JSON; the rules are in `twofold.factors.webauthn`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import msgspec

from twofold.core import enrollment, open_enrollment
from twofold.core.account import Account, Authenticator, Handle, check_label, epoch_claim, new_account
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import (
    Asked,
    Confirmed,
    Decision,
    Outcome,
    Pending,
    Rejected,
    Stale,
    Throttled,
    Verified,
)
from twofold.core.enrollment import NewCredential
from twofold.core.factor import Answer
from twofold.core.ticket import TICKET_TTL_S, Ticket
from twofold.core.verdict import Question, check_purpose
from twofold.core.verification import check_usable, verify_answer
from twofold.credentials import Credentials
from twofold.directory import Directory
from twofold.engine import LOCAL, Caller, Engine
from twofold.errors import InvalidInput, Refused
from twofold.factors.aaguids import find_name
from twofold.factors.webauthn import (
    FACTOR,
    GET,
    NONCE_BYTES,
    Assertion,
    Policy,
    Registration,
    Webauthn,
    describe,
    find_new_credential,
    registration_challenge,
)
from twofold.factors.webauthn_json import (
    RelyingParty,
    User,
    UserVerification,
    creation_options,
    read_authentication,
    read_registration,
    request_options,
)
from twofold.passkey_facts import find_credentials, holds, is_for
from twofold.ports import Claims, Receipts, Tickets
from twofold.recovery import RecoveryCodesOnDemand
from twofold.relying_party import check_party

HANDLE_BYTES = 32
CHALLENGE_BYTES = 32
#: A claim whose account does not hold the thing is given to another account once it is so old: until then the attempt
#: that made it may still be under way.
ORPHANED_AFTER_S = 3600
_CREDENTIAL, _HANDLE = "webauthn.credential", "webauthn.handle"
_WEBAUTHN = Webauthn()

Json = Mapping[str, Any]


class PendingPasskey(msgspec.Struct, frozen=True):
    """A registration that is open. `public_key` is the browser's PublicKeyCredentialCreationOptionsJSON, good for five
    minutes; asked for again, it has a fresh challenge."""

    id: str
    expires_at: int
    public_key: Json


class Challenge(msgspec.Struct, frozen=True):
    """An open question. `id` goes back with the answer; `public_key` is PublicKeyCredentialRequestOptionsJSON."""

    id: str
    expires_at: int
    public_key: Json


class Passkeys:
    """The ceremonies of one deployment; whose relying party it is, the caller says."""

    def __init__(
        self,
        engine: Engine,
        credentials: Credentials,
        directory: Directory,
        *,
        receipts: Receipts,
        claims: Claims,
        tickets: Tickets,
        policy: Policy,
    ) -> None:
        self._engine = engine
        self._credentials = credentials
        self._directory = directory
        self._receipts = receipts
        self._claims = claims
        self._tickets = tickets
        self._policy = policy

    async def enroll(
        self,
        account_id: str,
        rp: RelyingParty,
        *,
        label: str = "",
        replaces: str | None = None,
        step_up: str | None = None,
        caller: Caller = LOCAL,
        may_add_account: bool = True,
    ) -> PendingPasskey:
        """Begin a registration, or show the caller's own open one again, for 15 minutes.

        On an account that has a second factor `step_up` is a receipt with purpose `manage`. Raises `Refused`,
        `InvalidInput`.
        """
        check_party(rp)
        label = check_label(label)
        claims = None if step_up is None else self._receipts.check(step_up, field="step_up")
        authenticator_id, nonce = self._credentials.new_id(), self._engine.entropy.bytes(NONCE_BYTES)
        handle = b""

        async def prepare(asked: Outcome | None) -> None:
            nonlocal handle
            if isinstance(asked, Stale):
                # The account is found by it from now on. Only now: what would be refused anyway claims nothing.
                handle = self._engine.entropy.bytes(HANDLE_BYTES)
                await self._claims.claim(_HANDLE, self._digest(_HANDLE, handle), account_id, self._engine.clock.now())

        def decide(account: Account | None, call: Call) -> Decision:
            is_new = account is None and may_add_account
            if is_new:
                account = new_account(account_id, call.seed, call.now)
            own = handle if account is None else account.find_handle(rp.id) or handle
            pending = _WEBAUTHN.new_pending(
                rp_id=rp.id, user_handle=own, nonce=nonce, application=_application_of(caller)
            )
            fresh = NewCredential(authenticator_id, FACTOR, pending)
            account = account and _without_pending_elsewhere(account, rp, caller)
            if account is not None and account.find_handle(rp.id) is None:
                account = msgspec.structs.replace(account, handles=(*account.handles, Handle(rp.id, own)))
            decision, shown = enrollment.begin_enrollment(
                account, fresh, call, label=label, replaces=replaces, step_up=claims
            )
            if not own:
                return Decision(Stale())
            events = (call.event("account.added"), *decision.events) if is_new else decision.events
            return msgspec.structs.replace(decision, outcome=_pending(shown), events=events)

        pending = await self._engine.decide(account_id, decide, caller, prepare=prepare)
        return await self._show(account_id, rp, cast(Pending, pending))

    async def see_again(
        self, account_id: str, authenticator_id: str, rp: RelyingParty, *, caller: Caller = LOCAL
    ) -> PendingPasskey:
        """An open registration once more, to whoever began it, with a fresh challenge. Raises `Refused`."""

        def decide(account: Account | None, call: Call) -> Decision:
            begun = open_enrollment.see_again(account, authenticator_id, call)
            if begun.factor != FACTOR:
                raise Refused("not_found", "you have no open registration of that id")
            return Decision(_pending(begun))

        return await self._show(account_id, rp, cast(Pending, await self._engine.decide(account_id, decide, caller)))

    async def confirm(
        self,
        account_id: str,
        authenticator_id: str,
        credential: str | Json,
        rp: RelyingParty,
        *,
        label: str | None = None,
        step_up: str | None = None,
        caller: Caller = LOCAL,
    ) -> Confirmed | Rejected | Throttled:
        """End a registration with the browser's RegistrationResponseJSON. The account's first authenticator brings ten
        recovery codes, shown this once; without a label it is called what its maker calls it. Raises `Refused`,
        `InvalidInput`."""
        check_party(rp)
        label = None if label is None else check_label(label)
        claims = None if step_up is None else self._receipts.check(step_up, field="step_up")
        registration = Registration(read_registration(credential), rp, self._policy)
        new = find_new_credential(registration)
        recovery = RecoveryCodesOnDemand(self._credentials, account_id, caller)

        async def prepare(asked: Outcome | None) -> None:
            nonlocal registration
            await recovery.prepare(asked)
            if isinstance(asked, Stale) and new is not None:
                # All else was right: nobody claims an id by a registration that would be refused.
                is_own = await self._claim(account_id, new.id)
                registration = msgspec.structs.replace(registration, held_by="own" if is_own else "other")

        def decide(account: Account | None, call: Call) -> Decision:
            evidence, name = registration, label
            if account is not None and new is not None:
                if holds(account, new.id):
                    evidence = msgspec.structs.replace(registration, held_by="other")
                name = label or account.find(authenticator_id).label or find_name(new.aaguid)
            return enrollment.confirm_enrollment(
                account,
                authenticator_id,
                Answer(FACTOR, evidence=evidence),
                call,
                factors=self._engine.factors,
                seals=self._engine.keys,
                label=name,
                recovery=recovery.made,
                step_up=claims,
            )

        outcome = await self._engine.decide(account_id, decide, caller, prepare=prepare)
        return cast(Confirmed | Rejected | Throttled, outcome)

    async def challenge(
        self,
        account_id: str,
        rp: RelyingParty,
        *,
        purpose: str | None = None,
        binding: str | None = None,
        user_verification: UserVerification = "preferred",
        caller: Caller = LOCAL,
    ) -> Challenge:
        """Ask for one of the account's credentials: by a sealed ticket, good for five minutes and one right answer.
        Nothing is written but under an idempotency key, so that a repeated call gets the same question.
        Raises `Refused` (`not_found`, `disabled`, `no_factor`), `InvalidInput`."""
        check_party(rp)
        check_purpose(purpose, binding)
        fresh = self._new_ticket(caller, purpose, binding, is_required=user_verification == "required")

        def ask(account: Account | None, _: Call) -> Decision:
            account = check_usable(account)
            allowed = tuple(a.id for a in account.authenticators if a.state == "active" and is_for(a, rp))
            if not allowed:
                raise Refused("no_factor", "this account has no passkey or security key for this application")
            ticket = msgspec.structs.replace(fresh, account_id=account.id, epoch=epoch_claim(account), allowed=allowed)
            return Decision(Asked(self._tickets.issue_ticket(ticket)))

        account = await self._engine.load(account_id)
        if caller.idempotency is None:
            asked = ask(account, self._engine.begin(account_id, caller)).outcome
        else:
            asked = await self._engine.decide(account_id, ask, caller)
        challenge = cast(Asked, asked).challenge
        ticket = self._tickets.read_ticket(challenge)
        allowed = [a for a in check_usable(account).authenticators if a.id in ticket.allowed]
        descriptors = [describe(_WEBAUTHN.read_credential(a.credential)) for a in allowed]
        options = request_options(rp, ticket.challenge, allowed=descriptors, user_verification=user_verification)
        return Challenge(challenge, ticket.expires_at * MICROS_PER_S, options)

    def challenge_anybody(self, rp: RelyingParty, *, binding: str, caller: Caller) -> Challenge:
        """Ask for any discoverable credential that verifies its user: the question to somebody who gave no name."""
        ticket = self._new_ticket(caller, None, binding, is_required=True)
        options = request_options(rp, ticket.challenge, allowed=(), user_verification="required")
        return Challenge(self._tickets.issue_ticket(ticket), ticket.expires_at * MICROS_PER_S, options)

    async def answer(
        self,
        challenge: str,
        credential: str | Json,
        rp: RelyingParty,
        *,
        binding: str | None = None,
        caller: Caller = LOCAL,
    ) -> Verified | Rejected | Throttled:
        """Judge the browser's AuthenticationResponseJSON. Raises `Refused`, `InvalidInput`."""
        ticket = self.read_challenge(challenge)
        question = self.read_answer(ticket, credential, rp, purpose=ticket.purpose or None, binding=binding)
        account_id = ticket.account_id or await self.find_owner(question)
        if account_id is None:
            return self._engine.turn_away(FACTOR, Rejected("unknown_credential"))

        def decide(account: Account | None, call: Call) -> Decision:
            return verify_answer(account, question, call, factors=self._engine.factors, seals=self._engine.keys)

        outcome = cast(Verified | Rejected | Throttled, await self._engine.decide(account_id, decide, caller))
        if isinstance(outcome, Verified) and outcome.claims is not None:
            return msgspec.structs.replace(outcome, receipt=self._receipts.issue(outcome.claims))
        return outcome

    def read_challenge(self, challenge: str) -> Ticket:
        """The ticket behind the id of a challenge; raises `InvalidInput` unless it is one of ours."""
        ticket = self._tickets.read_ticket(challenge)
        if ticket.ceremony != GET:
            raise InvalidInput("challenge", "the id of a challenge that asks for a passkey")
        return ticket

    def read_answer(
        self,
        ticket: Ticket,
        credential: str | Json,
        rp: RelyingParty,
        *,
        purpose: str | None,
        binding: str | None,
        needs_passkey: bool = False,
    ) -> Question:
        """An answer as the core judges it, for just this purpose and binding. Raises `InvalidInput`."""
        check_party(rp)
        evidence = Assertion(read_authentication(credential), rp, self._policy.trust)
        return Question(
            Answer(FACTOR, evidence=evidence, issued=ticket),
            FACTOR,
            purpose=purpose,
            binding=binding,
            ceremony=GET,
            needs_passkey=needs_passkey,
        )

    async def find_owner(self, question: Question) -> str | None:
        """Whose handle the authenticator gave; whether the credential is hers, the core judges."""
        evidence = question.answer.evidence
        handle = evidence.response.user_handle if isinstance(evidence, Assertion) else None
        return None if handle is None else await self._claims.find_claim(_HANDLE, self._digest(_HANDLE, handle))

    async def _claim(self, account_id: str, credential_id: bytes) -> bool:
        """Whether the credential id is this account's own among all accounts."""
        now, digest = self._engine.clock.now(), self._digest(_CREDENTIAL, credential_id)
        holder = await self._claims.claim(_CREDENTIAL, digest, account_id, now)
        if holder != account_id:
            account = await self._engine.load(holder)
            if account is None or not holds(account, credential_id):
                orphaned_before = now - ORPHANED_AFTER_S * MICROS_PER_S
                await self._claims.release(_CREDENTIAL, digest, holder, made_before=orphaned_before)
                holder = await self._claims.claim(_CREDENTIAL, digest, account_id, now)
        return holder == account_id

    def _digest(self, kind: str, value: bytes) -> bytes:
        return self._engine.keys.index_digest(kind.encode(), value)

    async def _show(self, account_id: str, rp: RelyingParty, pending: Pending) -> PendingPasskey:
        account = check_usable(await self._engine.load(account_id))
        begun = _WEBAUTHN.read_pending(pending.credential)
        view = await self._directory.get(account_id)
        options = creation_options(
            rp,
            User(begun.user_handle, account.id, view.display_name or account.id),
            registration_challenge(begun, self._engine.clock.now()),
            rp_name=self._credentials.issuer,
            algorithms=self._policy.algorithms,
            excluded=[describe(c) for c in find_credentials(account, lasting=True) if c.rp_id == rp.id],
            conveyance=self._policy.conveyance,
        )
        return PendingPasskey(pending.id, pending.expires_at, options)

    def _new_ticket(self, caller: Caller, purpose: str | None, binding: str | None, *, is_required: bool) -> Ticket:
        issued_at = self._engine.clock.now() // MICROS_PER_S
        return Ticket(
            GET,
            "",
            "",
            caller.application,
            FACTOR,
            purpose or "",
            binding or "",
            (),
            is_required,
            self._engine.entropy.bytes(CHALLENGE_BYTES),
            issued_at,
            issued_at + TICKET_TTL_S,
        )


def _application_of(caller: Caller) -> str:
    """The application of the caller; every session on the pages is one of theirs."""
    return caller.application.partition(":")[0]


def _without_pending_elsewhere(account: Account, rp: RelyingParty, caller: Caller) -> Account:
    """The account without what this caller began for another relying party: it would be shown again, and never end."""
    kept = tuple(
        a
        for a in account.authenticators
        if a.factor != FACTOR
        or a.enrollment is None
        or a.enrollment.begun_by != caller.application
        or _WEBAUTHN.read_pending(a.credential).rp_id == rp.id
    )
    return msgspec.structs.replace(account, authenticators=kept)


def _pending(begun: Authenticator) -> Pending:
    expires_at = begun.enrollment.expires_at if begun.enrollment else 0
    return Pending(begun.id, FACTOR, expires_at, credential=begun.credential)
