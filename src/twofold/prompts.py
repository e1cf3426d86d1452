"""Hosted prompts: an application sends a person here for a second factor, and redeems the code that she comes back
with.

What is decided is in `twofold.core.prompt`; the pages that the person sees are in `server/pages/prompt.py`.
"""

from __future__ import annotations

from typing import cast

import msgspec

from twofold.core import prompt as core
from twofold.core.account import FIRST_FACTOR, RECOVERY, Account
from twofold.core.attempt import Call
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Asked, Decision, Done, Verified
from twofold.core.prompt import Prompt
from twofold.core.ticket import Ticket
from twofold.core.verdict import check_purpose
from twofold.directory import Directory
from twofold.engine import Caller, Engine
from twofold.errors import Busy, InvalidInput, Refused
from twofold.factors.webauthn_json import RelyingParty
from twofold.passkey_facts import find_elsewhere
from twofold.ports import Application, Applications, Receipts, Tickets
from twofold.sign_in import Guest

NONCE_BYTES = 32


class OpenPrompt(msgspec.Struct, frozen=True):
    """A prompt that nobody has opened yet: the sealed end of its link, and until when (microseconds) it opens."""

    link: str
    expires_at: int


class Answered(msgspec.Struct, frozen=True):
    """How a prompt ended: whose it was, the answer, and whether an authenticator was enrolled by it."""

    account_id: str
    verified: Verified
    is_enrolled: bool


class Prompts:
    """The prompts of one deployment."""

    def __init__(
        self,
        engine: Engine,
        directory: Directory,
        relying_party: RelyingParty | None,
        *,
        tickets: Tickets,
        receipts: Receipts,
        applications: Applications,
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._relying_party = relying_party
        self._tickets = tickets
        self._receipts = receipts
        self._applications = applications

    async def begin(
        self,
        account_id: str,
        prompt: Prompt,
        application: Application,
        *,
        purpose: str | None,
        binding: str,
        caller: Caller,
    ) -> OpenPrompt:
        """A link for the person's browser. Nothing is written but under an idempotency key.

        Raises `InvalidInput`, for an address that the application has not registered too, and `Refused`: `not_found`,
        `disabled`, `no_factor`.
        """
        core.check_prompt(prompt)
        check_purpose(purpose, binding)
        # Compared as they are: whatever is cleaned, decoded or resolved is read otherwise by somebody else.
        if prompt.return_to not in application.return_to:
            expected = "exactly one of the addresses that the application was registered with"
            raise InvalidInput("return_to", f"{expected} (twofold apikey create --return-to)")
        account = await self._engine.load(account_id)
        if account is not None:
            person = (await self._directory.get(account_id)).display_name
            prompt = msgspec.structs.replace(prompt, asker=application.name, person=person)
        nonce = self._engine.entropy.bytes(NONCE_BYTES)

        def ask(account: Account | None, call: Call) -> Decision:
            ticket = core.begin_prompt(
                account, prompt, application.id, purpose=purpose or "", binding=binding, nonce=nonce, now=call.now
            )
            self._check_works_here(account)
            return Decision(Asked(self._tickets.issue_ticket(ticket)))

        if caller.idempotency is None:
            asked = ask(account, self._engine.begin(account_id, caller)).outcome
        else:
            asked = await self._engine.decide(account_id, ask, caller)
        link = cast(Asked, asked).challenge
        return OpenPrompt(link, self.read(link).expires_at * MICROS_PER_S)

    def read(self, link: str) -> Ticket:
        """The ticket of a link; raises `InvalidInput` unless it is one of ours."""
        ticket = self._tickets.read_ticket(link)
        core.read_prompt(ticket)
        return ticket

    async def find(self, link: str) -> Ticket:
        """The same for a browser: a prompt is over, wherever it is, once the key that asked is revoked."""
        ticket = self.read(link)
        if await self._applications.find_application(ticket.application) is None:
            raise InvalidInput("prompt", "the link of an application whose key is in force")
        return ticket

    async def open(self, ticket: Ticket, guest: Guest) -> Done:
        """The first browser gets the prompt: `Done.session` is the token of its session. Raises `Refused`."""
        key = self._engine.keys.index_digest(b"prompt", ticket.challenge)
        if not await self._engine.limits.hit(key, ticket.issued_at, 1):
            raise Refused("prompt_used", "this prompt was opened already")

        def decide(account: Account | None, call: Call) -> Decision:
            return core.open_prompt(account, ticket, call)

        caller = Caller(ticket.application, context=guest.context)
        try:
            return cast(Done, await self._engine.decide(ticket.account_id, decide, caller))
        except Busy:
            # Nothing was done, and the person is told to try again.
            await self._engine.limits.take_back(key, ticket.issued_at)
            raise

    async def finish(self, ticket: Ticket, caller: Caller) -> str:
        """The code with which the person goes back; the session is over. Raises `SessionEnded`."""

        def decide(account: Account | None, call: Call) -> Decision:
            code, decision = core.finish_prompt(account, ticket, call)
            return msgspec.structs.replace(decision, outcome=Asked(self._tickets.issue_ticket(code)))

        asked = await self._engine.decide(ticket.account_id, decide, caller)
        return cast(Asked, asked).challenge

    async def cancel(self, ticket: Ticket, caller: Caller) -> None:
        """The person goes back without an answer; the session is over. Raises `SessionEnded`."""

        def decide(account: Account | None, call: Call) -> Decision:
            return core.cancel_prompt(account, ticket, call)

        await self._engine.decide(ticket.account_id, decide, caller)

    async def redeem(self, code: str, *, verifier: str, binding: str, caller: Caller) -> Answered:
        """Use a code up, once, for the receipt. Raises `Refused`: `prompt_mismatch`, `prompt_used`, `disabled`."""
        try:
            ticket = self._tickets.read_ticket(code)
            proven = core.read_proven(ticket)
        except InvalidInput:
            raise Refused("prompt_mismatch", "this is no code of a prompt that was answered here") from None

        def decide(account: Account | None, call: Call) -> Decision:
            return core.redeem_prompt(account, ticket, call, verifier=verifier, binding=binding)

        verified = cast(Verified, await self._engine.decide(ticket.account_id, decide, caller))
        left = None
        if verified.factor == RECOVERY:
            left = (await self._directory.get(ticket.account_id)).recovery_codes_left
        receipt = self._receipts.issue(verified.claims) if verified.claims is not None else None
        verified = msgspec.structs.replace(verified, receipt=receipt, recovery_codes_left=left)
        return Answered(ticket.account_id, verified, proven.is_enrolled)

    def _check_works_here(self, account: Account | None) -> None:
        """Raises `Refused("no_factor")` where all that somebody has are passkeys of another address than that of the
        pages."""
        active = [a for a in account.authenticators if a.state == "active"] if account is not None else []
        elsewhere = find_elsewhere(account, self._relying_party) if account is not None else frozenset[str]()
        ways = {a.id for a in active if a.factor != FIRST_FACTOR}
        if ways and ways <= elsewhere:
            raise Refused("no_factor", "the passkeys of this account work at another address than that of the pages")
