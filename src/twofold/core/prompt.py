"""A hosted prompt: an application sends a person to Twofold's own pages, and gets a one-time code back for the answer.

    the application        the person's browser         these pages
    ---------------        --------------------         -----------
    begin: account,   ->   opens the link, once    ->   a session that reaches this prompt and nothing else
    challenge, binding     answers or enrolls     <->
    redeem: verifier, <-   comes back with a code  <-   finish: the session ends, and its proof is sealed into a code
    binding

Link and code are tickets: nothing is stored. That a code was redeemed is remembered by the account (`spend`); that a
link was opened by a counter outside of it, or whoever has a password could fill the account's few places with links.
A code is worth something only together with the verifier that belongs to the challenge (PKCE, RFC 7636) and with the
binding, both of which the application keeps in one browser's session: that is what makes a code that was swapped
between browsers, or brought about in somebody else's, worthless.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re

import msgspec

from twofold.core.account import Account, epoch_claim, without_expired
from twofold.core.attempt import Call
from twofold.core.audit import Event
from twofold.core.clock import CLOCK_SKEW_S, MICROS_PER_S
from twofold.core.decision import Decision, Done, EndSessions, OpenSession, Refusal, Verified
from twofold.core.session import PENDING_TTL_S, Session, Strength
from twofold.core.sign_in import begin_session
from twofold.core.step_up import is_active
from twofold.core.ticket import TICKET_TTL_S, Ticket, find_fault, spend_ticket
from twofold.core.verdict import new_claims
from twofold.core.verification import check_usable
from twofold.errors import InvalidInput, Refused, SessionEnded

#: From the first call to the end; also how long a ticket key that was replaced still opens the link.
PROMPT_TTL_S = TICKET_TTL_S + PENDING_TTL_S
CODE_TTL_S = 60
STATE_MAX = 256

_LINK = "prompt.link"
_CODE = "prompt.code"
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
_VERIFIER = re.compile(r"[A-Za-z0-9._~-]{43,128}", re.ASCII)
_STATE = re.compile(rf"[!-~]{{1,{STATE_MAX}}}", re.ASCII)


class Prompt(msgspec.Struct, frozen=True, array_like=True):
    """What an application asks for, besides what every ticket says: where to come back to, and what with. `asker` is
    its name, `person` what the page calls the owner of the account."""

    return_to: str
    code_challenge: str
    state: str = ""
    may_enroll: bool = False
    asker: str = ""
    person: str = ""


class Proven(msgspec.Struct, frozen=True, array_like=True):
    """What a code stands for: the proof of a session. `is_enrolled`: by the first code of a new authenticator."""

    code_challenge: str
    factor: str
    via: str
    proved_at: int
    strength: Strength
    is_user_verified: bool
    is_enrolled: bool


_encode = msgspec.msgpack.Encoder().encode
_decode_prompt = msgspec.msgpack.Decoder(Prompt).decode
_decode_proven = msgspec.msgpack.Decoder(Proven).decode


def check_prompt(prompt: Prompt) -> None:
    """Raises `InvalidInput` unless challenge and state are well-formed (RFC 7636 section 4.2)."""
    if not _CHALLENGE.fullmatch(prompt.code_challenge):
        raise InvalidInput("code_challenge", "43 characters: the SHA-256 of code_verifier in base64url")
    if prompt.state and not _STATE.fullmatch(prompt.state):
        raise InvalidInput("state", f"1 to {STATE_MAX} visible ASCII characters")


def begin_prompt(
    account: Account | None, prompt: Prompt, application: str, *, purpose: str, binding: str, nonce: bytes, now: int
) -> Ticket:
    """The ticket of a link to open within five minutes. Raises `Refused`: `not_found`, `disabled`, `no_factor` (there
    is no second factor, and none may be enrolled)."""
    account = without_expired(check_usable(account), now)
    _check_answerable(account, prompt)
    now_s = now // MICROS_PER_S
    return Ticket(
        _LINK,
        account.id,
        epoch_claim(account),
        application,
        "",
        purpose,
        binding,
        (),
        False,
        nonce,
        now_s,
        now_s + TICKET_TTL_S,
        _encode(prompt),
    )


def read_prompt(ticket: Ticket) -> Prompt:
    """What the ticket of a link asks for; raises `InvalidInput` for any other ticket."""
    if ticket.ceremony != _LINK:
        raise InvalidInput("prompt", "the link of a prompt")
    return _decode_prompt(ticket.content)


def bond_of(ticket: Ticket) -> str:
    """What ties a session to this one prompt."""
    return "prompt:" + hashlib.sha256(b"twofold/1|prompt|" + ticket.challenge).hexdigest()[:32]


def open_prompt(account: Account | None, ticket: Ticket, call: Call) -> Decision:
    """The session of a prompt: pending, or enrolling where there is no second factor and one may be enrolled.

    Raises `Refused`: `prompt_mismatch` when the link is over, `disabled`, `no_factor`.
    """
    prompt = read_prompt(ticket)
    account = without_expired(check_usable(account), call.now)
    if find_fault(
        ticket,
        account,
        ceremony=_LINK,
        application=ticket.application,
        purpose=ticket.purpose,
        binding=ticket.binding,
        now=call.now,
    ):
        raise Refused("prompt_mismatch", "this prompt is over, or the account was secured anew since")
    _check_answerable(account, prompt)
    decision = Decision(Done(), account, (call.event("prompt.opened", purpose=ticket.purpose or None),))
    begun = begin_session(decision, Done(), account, call, bond=bond_of(ticket))
    (opening,) = begun.effects
    assert isinstance(opening, OpenSession)  # noqa: S101 - that is what begins
    last = (ticket.issued_at + PROMPT_TTL_S) * MICROS_PER_S
    session = msgspec.structs.replace(opening.session, expires_at=min(opening.session.expires_at, last))
    return msgspec.structs.replace(begun, effects=(msgspec.structs.replace(opening, session=session),))


def finish_prompt(account: Account | None, ticket: Ticket, call: Call) -> tuple[Ticket, Decision]:
    """The ticket of the code for what the session has proven, and the decision that ends the session. Raises
    `SessionEnded` when the proof is too old, or what gave it is gone."""
    account = without_expired(check_usable(account), call.now)
    session = _session_of(ticket, call)
    if session.level != "full" or call.now >= session.proved_at + PENDING_TTL_S * MICROS_PER_S:
        raise SessionEnded("expired")
    if not is_active(account, session.via):
        raise SessionEnded("ended")
    proven = Proven(
        read_prompt(ticket).code_challenge,
        account.find(session.via).factor,
        session.via,
        session.proved_at,
        session.strength,
        session.is_user_verified,
        is_enrolled=session.has_enrolled,
    )
    now_s = call.now // MICROS_PER_S
    code = msgspec.structs.replace(
        ticket,
        ceremony=_CODE,
        # The same for all that are made of one prompt, if two requests come at once: of them one counts.
        challenge=hashlib.sha256(b"twofold/1|prompt code|" + ticket.challenge).digest(),
        issued_at=now_s,
        expires_at=now_s + CODE_TTL_S,
        content=_encode(proven),
    )
    names = {"factor": proven.factor, "authenticator": proven.via, "purpose": ticket.purpose or None}
    return code, _end(account, session, call.event("prompt.answered", **names))


def cancel_prompt(account: Account | None, ticket: Ticket, call: Call) -> Decision:
    """The person goes back without an answer."""
    event = call.event("prompt.canceled", purpose=ticket.purpose or None)
    return _end(check_usable(account), _session_of(ticket, call), event)


def read_proven(ticket: Ticket) -> Proven:
    """What a code stands for; raises `InvalidInput` for any other ticket."""
    if ticket.ceremony != _CODE:
        raise InvalidInput("code", "the code of a prompt")
    return _decode_proven(ticket.content)


def redeem_prompt(account: Account | None, ticket: Ticket, call: Call, *, verifier: str, binding: str) -> Decision:
    """Use a code up, once: ends as `Verified` with the claims of the receipt.

    Without the verifier and the binding of the session that asked it is used up too: it came back in another browser,
    and whoever began the prompt must not get at it there. Raises `Refused`: `prompt_mismatch`, `prompt_used`,
    `disabled`.
    """
    proven = read_proven(ticket)
    mismatch = "this code is not in force for this application, code_verifier and binding"
    if account is None:
        raise Refused("prompt_mismatch", mismatch)
    account = without_expired(account, call.now)
    fault = find_fault(
        ticket,
        account,
        ceremony=_CODE,
        application=call.application,
        purpose=ticket.purpose,
        binding=ticket.binding,
        now=call.now,
    )
    if fault == "challenge_used":
        raise Refused("prompt_used", "this code was used up already")
    if fault is not None or not is_active(account, proven.via):
        raise Refused("prompt_mismatch", mismatch)
    check_usable(account)
    # Remembered a little longer, for a twin that was made a little later.
    lasting = msgspec.structs.replace(ticket, expires_at=ticket.expires_at + CLOCK_SKEW_S)
    spent, names = spend_ticket(lasting, account), {"factor": proven.factor, "authenticator": proven.via}
    is_own = hmac.compare_digest(binding.encode("utf-8", "replace"), ticket.binding.encode())
    if not (_is_verifier(verifier, proven.code_challenge) and is_own):
        event = call.event("prompt.refused", **names, purpose=ticket.purpose or None)
        return Decision(Refusal("prompt_mismatch", mismatch), spent, (event,))
    claims = new_claims(
        account,
        call,
        proven.strength,
        via=proven.via,
        proved_at=proven.proved_at,
        purpose=ticket.purpose or None,
        binding=ticket.binding,
    )
    outcome = Verified(
        proven.factor,
        proven.via,
        claims=claims,
        is_user_verified=proven.is_user_verified,
        reenroll_by=account.find(proven.via).stops_at,
    )
    return Decision(outcome, spent, (call.event("prompt.redeemed", **names, purpose=claims.purpose),))


def _check_answerable(account: Account, prompt: Prompt) -> None:
    if not (account.is_bound or prompt.may_enroll):
        raise Refused("no_factor", "this account has no second factor, and the prompt may not enroll one")


def _session_of(ticket: Ticket, call: Call) -> Session:
    """The caller's session, which is the one of this prompt."""
    if call.session is None or not hmac.compare_digest(call.session.bond, bond_of(ticket)):
        raise SessionEnded("ended")
    return call.session


def _end(account: Account, session: Session, event: Event) -> Decision:
    return Decision(Done(), account, (event,), (EndSessions((session.id,)),))


def _is_verifier(verifier: str, challenge: str) -> bool:
    """Whether the challenge was made of this verifier (RFC 7636 section 4.6)."""
    if not _VERIFIER.fullmatch(verifier):
        return False
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return hmac.compare_digest(base64.urlsafe_b64encode(digest).rstrip(b"=").decode(), challenge)
