"""An authenticator app: its key as a picture and as text, and the first code that it shows.

The key is shown by the pages of the session that began, and stands in no address.
"""

from __future__ import annotations

from itertools import count

from starlette.responses import Response

from twofold import qr
from twofold.core.account import Authenticator
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed, Rejected, Throttled
from twofold.core.open_enrollment import find_open
from twofold.errors import InvalidInput, Refused
from twofold.server.pages.enroll import (
    complete,
    count_steps,
    find_replaced_by,
    find_setup_link,
    show_proof,
    status_of,
    tell_over,
)
from twofold.server.pages.refusals import Explanation, explain_code, explain_input
from twofold.server.pages.visit import Visit
from twofold.server.words import Moment, Sentence

#: What systems call themselves on which the app that takes the key is the same device.
PHONES = ("iPhone", "iPad", "Android")
_FORGET = Sentence("Begin again, and delete what you have just added from your app.")


async def show_totp(visit: Visit) -> Response:
    """The open enrollment of this session, as often as it is asked for: the same key each time."""
    caller = await visit.caller()
    begun = find_open(visit.owner, caller.application, visit.now, factor="totp")
    return await _show_totp(visit, begun.id) if begun is not None else visit.go("/enroll")


async def take_totp(visit: Visit) -> Response:
    """The first code. A right one makes the authenticator active, and the session full."""
    authenticator_id, label = visit.field("authenticator"), visit.field("label")
    if not visit.field("code").strip():
        return await _show_totp(visit, authenticator_id, error=InvalidInput("code", ""))
    link = await find_setup_link(visit)
    try:
        outcome = await visit.house.verifier.confirm(
            visit.owner.id,
            authenticator_id,
            code=visit.field("code"),
            label=label,
            caller=await visit.caller(is_once=True),
        )
    except InvalidInput as error:
        return await _show_totp(visit, authenticator_id, error=error)
    except Refused as refused:
        return tell_over(visit, authenticator_id, refused, _FORGET)
    if not isinstance(outcome, Confirmed):
        return await _show_totp(visit, authenticator_id, problem=_explain_first_code(outcome, visit.now))
    return await complete(visit, outcome, link)


async def _show_totp(
    visit: Visit,
    authenticator_id: str,
    *,
    error: InvalidInput | None = None,
    problem: Explanation | None = None,
) -> Response:
    """The key and what to do with it; after a POST with what was typed for a label, and what went wrong."""
    replaced = find_replaced_by(visit, authenticator_id)
    try:
        pending = await visit.house.verifier.see_again(
            visit.owner.id, authenticator_id, name=visit.name, caller=await visit.caller()
        )
    except Refused as refused:
        if refused.code == "step_up_required":
            # Its quarter of an hour is over. The key is the same once it was shown again who it is.
            return await show_proof(visit, replaced, problem=problem)
        return tell_over(visit, authenticator_id, refused, _FORGET)
    is_label = error is not None and error.field == "label"
    explained = None if error is None else explain_input(error) if is_label else Sentence("Type the six digits.")
    return visit.show(
        "enroll/totp.html",
        status=status_of(explained, problem),
        retry_after_s=problem.wait_s if problem else None,
        error=None if is_label else explained,
        label_error=explained if is_label else None,
        problem=problem,
        failed=bool(explained or problem),
        pending=pending,
        picture=qr.svg(pending.uri, title=visit.speech.say(Sentence("QR code for an authenticator app"))),
        replaced=replaced,
        label=visit.form.get("label", _suggest_label(visit, replaced)),
        left_s=(pending.expires_at - visit.now) // MICROS_PER_S,
        is_phone=visit.session.browser.endswith(PHONES),
        steps=count_steps(visit, "connect"),
    )


def _explain_first_code(outcome: Rejected | Throttled, now: int) -> Explanation:
    """Why the first code is not right. Whoever sees the key has the right app: what is left is an older entry in it,
    or its clock."""
    if outcome != Rejected("wrong_code"):
        return explain_code(outcome, now)
    return Explanation(
        Sentence("That code is not right"),
        Sentence(
            "It may be of an older entry in your app, or your phone's time is off; the time here is %(time)s.",
            {"time": Moment(now)},
        ),
        Sentence("Look at the phone's time, then type the next code."),
    )


def _suggest_label(visit: Visit, replaced: Authenticator | None) -> str:
    """A name that is free, or that of the phone before."""
    if replaced is not None and replaced.label and replaced.factor == "totp":
        return replaced.label
    taken = {a.label for a in visit.owner.authenticators}
    phone = visit.speech.say(Sentence("Phone"))
    return next(name for number in count(1) if (name := phone if number == 1 else f"{phone} {number}") not in taken)
