"""A passkey or security key: the question to the browser, and what it made; and the offer of one after a code.

The rules are in `twofold.factors.webauthn`; `static/passkeys.js` asks the browser.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed
from twofold.core.open_enrollment import find_open
from twofold.errors import InvalidInput, Refused
from twofold.server.pages.enroll import (
    PASSKEY,
    complete,
    count_steps,
    find_obstacle,
    find_replaced_by,
    find_setup_link,
    show_proof,
    status_of,
    tell_over,
)
from twofold.server.pages.home import HOME
from twofold.server.pages.refusals import Explanation, explain_code, explain_input
from twofold.server.pages.visit import AskedPasskey, Visit
from twofold.server.words import Sentence

_NOT_PRESSED = Explanation(
    Sentence("Nothing was added yet"),
    Sentence("Your browser was not asked for a passkey."),
    Sentence("Press the button, and do what the browser asks for."),
)
_BEGIN_AGAIN = Sentence("Begin again. If your device kept a passkey of it, it is good for nothing: remove it there.")


async def show_passkey(visit: Visit) -> Response:
    """The open registration of this session, as often as it is asked for."""
    caller = await visit.caller()
    begun = find_open(visit.owner, caller.application, visit.now, factor=PASSKEY)
    return await _show_passkey(visit, begun.id) if begun is not None else visit.go("/enroll")


async def take_passkey(visit: Visit) -> Response:
    """What the browser made. If it is good, the passkey is active and the session full."""
    authenticator_id, rp = visit.field("authenticator"), visit.house.relying_party
    if rp is None:
        return visit.go("/enroll")
    if not visit.field("credential"):
        return await _show_passkey(visit, authenticator_id, problem=_NOT_PRESSED)
    link = await find_setup_link(visit)
    try:
        outcome = await visit.house.verifier.passkeys.confirm(
            visit.owner.id,
            authenticator_id,
            visit.field("credential"),
            rp,
            label=visit.field("label"),
            caller=await visit.caller(is_once=True),
        )
    except InvalidInput as error:
        return await _show_passkey(visit, authenticator_id, error=error)
    except Refused as refused:
        return tell_over(visit, authenticator_id, refused, _BEGIN_AGAIN)
    if not isinstance(outcome, Confirmed):
        return await _show_passkey(visit, authenticator_id, problem=explain_code(outcome, visit.now))
    return await complete(visit, outcome, link)


async def show_offer(visit: Visit) -> Response:
    """After signing in with a code, where the browser could do without: a passkey, now or not."""
    if visit.has_passkey or await find_obstacle(visit) is not None:
        return visit.go(visit.next_path or HOME)
    return visit.show("enroll/offer.html")


async def _show_passkey(
    visit: Visit,
    authenticator_id: str,
    *,
    error: InvalidInput | None = None,
    problem: Explanation | None = None,
) -> Response:
    """The button that asks the browser; after a POST with what was typed for a label, and what went wrong."""
    rp, passkeys = visit.house.relying_party, visit.house.verifier.passkeys
    if rp is None:
        return visit.go("/enroll")
    replaced = find_replaced_by(visit, authenticator_id)
    try:
        pending = await passkeys.see_again(visit.owner.id, authenticator_id, rp, caller=await visit.caller())
    except Refused as refused:
        if refused.code == "step_up_required":
            return await show_proof(visit, replaced, problem=problem)
        return tell_over(visit, authenticator_id, refused, _BEGIN_AGAIN)
    is_label = error is not None and error.field == "label"
    explained = explain_input(error) if error is not None else None
    return visit.show(
        "enroll/webauthn.html",
        status=status_of(explained, problem),
        retry_after_s=problem.wait_s if problem else None,
        error=None if is_label else explained,
        label_error=explained if is_label else None,
        problem=problem,
        failed=bool(explained or problem),
        pending=pending,
        passkey=AskedPasskey("create", msgspec.json.encode(pending.public_key).decode()),
        replaced=replaced,
        label=visit.field("label"),
        left_s=(pending.expires_at - visit.now) // MICROS_PER_S,
        steps=count_steps(visit, "connect"),
    )
