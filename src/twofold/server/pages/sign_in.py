"""The first step of signing in: name and password, or a passkey alone; and signing out.

Until one of them was right nothing here depends on the name. The second step is in `second_step.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import msgspec
from starlette.responses import Response

from twofold import setup_link
from twofold.core.attempt import PAGES
from twofold.core.decision import Rejected, Verified
from twofold.engine import Caller
from twofold.errors import InvalidInput, Refused, SessionEnded
from twofold.factors.webauthn_json import RelyingParty, encode, read_authentication
from twofold.server.pages.gate import tell_blocked
from twofold.server.pages.home import HOME
from twofold.server.pages.refusals import Explanation, explain_code, explain_input
from twofold.server.pages.second_step import CODE_PATH, ENROLL_PATH
from twofold.server.pages.visit import AskedPasskey, Outcome, Visit, spell_query
from twofold.server.words import Sentence
from twofold.sign_in import spell_name
from twofold.sign_in_limits import TooMany, log_refusal


async def show_sign_in(visit: Visit) -> Response:
    """Name and password, or a passkey alone."""
    if visit.bearer is not None and visit.session.level != "pending":
        # Whoever is still enrolling is led from there to that step.
        return visit.go(visit.next_path or HOME)
    # Cheap once the set-up is complete, so that nobody makes work by asking for this page.
    house = visit.house
    is_set_up = await setup_link.is_spent(house.store) or await house.administration.has_administrator()
    return _show_step(visit, is_set_up=is_set_up)


async def take_password(visit: Visit) -> Response:
    """The password step: on to the code, or to enrolling where there is no second factor yet."""
    name, password = visit.field("name"), visit.field("password")
    if not spell_name(name) or not password:
        return _show_step(visit, _EMPTY, status=422)
    try:
        outcome = await visit.house.sign_in.begin(name, password, visit.guest, next_path=visit.next_path)
    except InvalidInput as error:
        return _show_step(visit, _WRONG._replace(why=explain_input(error)), status=422)
    except Refused as refused:
        if refused.code != "disabled":
            raise
        return _tell_disabled(
            visit, Sentence("Name and password are right, and an administrator has disabled the account.")
        )
    match outcome:
        case Verified():
            await begin_session(visit, outcome)
            return visit.go(CODE_PATH + spell_query({"next": visit.next_path}))
        case TooMany(retry_after_s=wait_s, over="network"):
            return tell_blocked(visit, wait_s)
        case TooMany(retry_after_s=wait_s):
            return _show_step(visit, _TOO_MANY._replace(wait_s=wait_s), status=429)
    return _show_step(visit, _WRONG, status=401)


async def take_passkey(visit: Visit) -> Response:
    """A passkey alone: in, or a sentence that says why not. Who it is, the passkey says."""
    rp, passkeys = visit.house.relying_party, visit.house.verifier.passkeys
    if rp is None:
        return visit.go("/sign-in")
    try:
        ticket = passkeys.read_challenge(visit.field("challenge"))
        question = passkeys.read_answer(ticket, visit.field("credential"), rp, purpose=None, binding=visit.binding)
    except InvalidInput as error:
        wrong = explain_code(Rejected("wrong_credential"), visit.now)
        return _show_step(visit, wrong._replace(why=explain_input(error)), status=422)
    try:
        outcome = await visit.house.sign_in.begin_by_passkey(question, visit.guest, next_path=visit.next_path)
    except Refused as refused:
        if refused.code != "disabled":
            raise
        return _tell_disabled(visit, Sentence("An administrator has disabled the account of this passkey."))
    match outcome:
        case Verified():
            await begin_session(visit, outcome)
            if outcome.reenroll_by:
                return visit.go(ENROLL_PATH + spell_query({"next": visit.next_path}))
            return visit.go(visit.next_path or HOME)
        case TooMany(retry_after_s=wait_s):
            return tell_blocked(visit, wait_s)
    signals = _tell_unknown(visit, rp) if outcome.reason == "unknown_credential" else None
    return _show_step(visit, explain_code(outcome, visit.now), status=401, signals=signals)


async def show_help(visit: Visit) -> Response:
    """For somebody who cannot sign in: what to try, and whom to ask."""
    return visit.show(
        "sign_in/help.html", support=visit.house.settings.support, support_link=visit.house.settings.support_link
    )


async def show_sign_out(visit: Visit) -> Response:
    """Ask whether to sign out: a link alone must not do it."""
    return visit.show("sign_in/sign_out.html") if visit.bearer is not None else visit.go("/sign-in")


async def take_sign_out(visit: Visit) -> Response:
    """End the session here and on the server, and have the browser drop what it kept of these pages."""
    await end_session(visit)
    visit.forget_session()
    response = visit.go("/sign-in?signed-out=1")
    # Not the cookies: that this browser is known is worth keeping, and says nothing of who is signed in.
    response.headers["clear-site-data"] = '"cache", "storage"'
    return response


async def begin_session(visit: Visit, outcome: Outcome) -> None:
    """Have the browser keep the session that just began; the one that it had before ends on the server too."""
    await end_session(visit)
    visit.keep(outcome)


async def end_session(visit: Visit) -> None:
    """The session that the request came with, if there was one, is over."""
    if visit.bearer is not None:
        with suppress(SessionEnded):
            await visit.house.sign_in.end_sessions(visit.owner.id, await visit.caller(), ids=(visit.session.id,))


def _show_step(
    visit: Visit,
    problem: Explanation | None = None,
    *,
    status: int = 200,
    is_set_up: bool = True,
    signals: Mapping[str, Any] | None = None,
) -> Response:
    return visit.show(
        "sign_in/sign_in.html",
        status=status,
        retry_after_s=problem.wait_s if problem else None,
        problem=problem,
        failed=problem is not None,
        is_by_passkey="credential" in visit.form,
        passkey=_ask_passkey(visit),
        signals=signals,
        name=spell_name(visit.field("name")),
        is_signed_out="signed-out" in visit.request.query_params and problem is None,
        is_set_up=is_set_up,
    )


def _ask_passkey(visit: Visit) -> AskedPasskey | None:
    """The question for anybody's passkey, for just this browser; None where browsers make none."""
    rp = visit.house.relying_party
    if rp is None:
        return None
    challenge = visit.house.verifier.passkeys.challenge_anybody(rp, binding=visit.binding, caller=Caller(PAGES))
    return AskedPasskey("get", msgspec.json.encode(challenge.public_key).decode(), challenge.id)


def _tell_unknown(visit: Visit, rp: RelyingParty) -> Mapping[str, Any]:
    """What makes the person's passkey manager forget a passkey that is good for nothing any more."""
    credential = read_authentication(visit.field("credential"))
    return {"signalUnknownCredential": {"rpId": rp.id, "credentialId": encode(credential.credential_id)}}


def _tell_disabled(visit: Visit, why: Sentence) -> Response:
    log_refusal(visit.sender.address, "disabled")
    return visit.tell(
        Sentence("Your account is disabled"),
        why,
        Sentence("Ask an administrator to enable it again."),
        status=403,
        links=((Sentence("I cannot sign in"), "/sign-in/help"),),
    )


_EMPTY = Explanation(
    Sentence("Something is missing"),
    Sentence("Signing in takes your name and your password."),
    Sentence("Type both."),
)
_WRONG = Explanation(
    Sentence("Name and password do not fit together"),
    Sentence("One of the two is mistyped, or the name is not known here."),
    Sentence("Type both again. Look whether Caps Lock is on."),
)
_TOO_MANY = Explanation(
    Sentence("Too many attempts for this name"),
    Sentence("From your network this name was tried too often, so your password was not looked at."),
    Sentence("Wait, use another network, or a browser in which you signed in before."),
)
