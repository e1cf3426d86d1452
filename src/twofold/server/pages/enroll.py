"""Adding an authenticator, one journey: who you are, which way, set it up, prove it, keep the recovery codes, done.

Whoever has a second factor already shows it first, and may then enroll for a quarter of an hour. What one session began
is never shown to another one. Secrets are shown by this session's own pages alone, and stand in no address.
"""

from __future__ import annotations

from itertools import count
from typing import NamedTuple

from starlette.responses import Response

from twofold import qr, setup_link
from twofold.core.account import FIRST_FACTOR, RECOVERY, Authenticator
from twofold.core.activity import Activity, find_reset
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed, Rejected, Throttled
from twofold.core.health import assess_health, has_new_codes
from twofold.core.open_enrollment import find_open
from twofold.core.sign_in import ENROLL
from twofold.engine import NotProven
from twofold.errors import InvalidInput, Refused
from twofold.server.pages.health_words import say_finding
from twofold.server.pages.home import HOME
from twofold.server.pages.proof import explain_unproven
from twofold.server.pages.refusals import Explanation, explain_code, explain_input, explain_switched_off
from twofold.server.pages.visit import Visit, spell_query
from twofold.server.words import Moment, Sentence

#: What systems call themselves on which the app that takes the key is the same device.
PHONES = ("iPhone", "iPad", "Android")
#: So many events are looked through for a reset by an administrator.
EVENTS_LOOKED_AT = 100


class Way(NamedTuple):
    """A kind of authenticator as it is offered: how strong it is in one sentence, and what else is good about it."""

    factor: str
    icon: str
    title: Sentence
    text: Sentence
    level: str
    strength: Sentence
    badges: tuple[Sentence, ...] = ()


#: The strongest first.
WAYS = (
    Way(
        "totp",
        "phone",
        Sentence("Authenticator app"),
        Sentence("An app on your phone shows a code, a new one every 30 seconds."),
        "good",
        Sentence("Good: a stolen password alone opens nothing"),
        (Sentence("Works without signal"),),
    ),
)


async def show_start(visit: Visit) -> Response:
    """Who you are, where that is asked; else which way."""
    replaced = _find_replaced(visit)
    return await _show_choice(visit, replaced) if await _may_enroll(visit) else _show_proof(visit, replaced)


async def take_start(visit: Visit) -> Response:
    """The proof of who it is, or the way that was chosen."""
    replaced = _find_replaced(visit)
    if "factor" not in visit.form:
        return await _take_proof(visit, replaced)
    if visit.field("factor") != "totp":
        raise InvalidInput("factor", "one of the ways that the page offers")
    try:
        replaces = replaced.id if replaced is not None else None
        await visit.house.verifier.enroll(visit.owner.id, "totp", replaces=replaces, caller=await visit.caller())
    except Refused as refused:
        if refused.code != "step_up_required":
            raise
        return visit.go(_start_path(replaced))
    return visit.go("/enroll/totp")


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
        return _tell_over(visit, authenticator_id, refused)
    if not isinstance(outcome, Confirmed):
        return await _show_totp(visit, authenticator_id, problem=_explain_first_code(outcome, visit.now))
    visit.keep(outcome)
    if visit.owner.role == "administrator" and not await setup_link.is_spent(visit.house.store):
        # Somebody can administer this deployment from now on, so nobody needs the link that makes the first one.
        await visit.house.administration.complete_setup(visit.owner.id, caller=visit.as_administrator())
        await setup_link.spend(visit.house.store)
    if not outcome.recovery_codes:
        return visit.go("/enroll/done")
    return visit.show(
        "enroll/recovery_codes.html",
        codes=outcome.recovery_codes,
        owner=visit.owner.id,
        steps=_count_steps(visit, "codes"),
    )


async def take_cancel(visit: Visit) -> Response:
    """Forget what was begun; what it was to replace stays."""
    try:
        await visit.house.verifier.cancel(visit.owner.id, visit.field("authenticator"), caller=await visit.caller())
    except Refused as refused:
        if refused.code != "not_found":
            raise
    return visit.go(HOME if visit.session.level == "full" else "/enroll")


async def take_saved(visit: Visit) -> Response:
    """On, once the codes are in a safe place. They cannot be shown again: they are kept as digests only."""
    if visit.field("saved"):
        return visit.go("/enroll/done")
    error = Sentence("Tick the box when the codes are in a safe place.")
    return visit.show("enroll/saved.html", status=422, error=error)


async def show_done(visit: Visit) -> Response:
    """What protects the account now, and what is still weak."""
    if not visit.owner.has_second_factor:
        return visit.go("/enroll")
    session = visit.session
    # Where the sign-in was to lead is for whoever had to enroll on the way; later ones came from their own page.
    aim = session.next if session.proved_at == session.begun_at else ""
    left = (await visit.house.verifier.accounts.get(visit.owner.id)).recovery_codes_left
    health = assess_health(visit.owner, recovery_codes_left=left)
    return visit.show(
        "enroll/done.html",
        advice=[say_finding(finding) for finding in health.findings],
        active=[a for a in visit.owner.authenticators if a.state == "active"],
        codes_left=left,
        aim=aim or HOME,
    )


async def _may_enroll(visit: Visit) -> bool:
    """Whether an enrollment may begin without another proof, as `begin_enrollment` will say."""
    caller = await visit.caller()
    return not visit.owner.is_bound or caller.is_admin or visit.now < visit.session.may_enroll_until


def _find_replaced(visit: Visit) -> Authenticator | None:
    """The authenticator that the new one is to replace ("I have a new phone"). Raises `Refused("not_found")`."""
    asked = visit.field("replaces") or visit.request.query_params.get("replaces")
    if not asked:
        return None
    found = visit.owner.find(asked)
    if found.state == "pending" or found.factor in (FIRST_FACTOR, RECOVERY):
        raise Refused("not_found", "only an authenticator that gives codes can be replaced by another one")
    return found


def _start_path(replaced: Authenticator | None) -> str:
    return f"/enroll{spell_query({'replaces': replaced.id if replaced else ''})}"


async def _take_proof(visit: Visit, replaced: Authenticator | None) -> Response:
    if await _may_enroll(visit):
        # The page of before, sent again: there is nothing to ask any more, and no code to use up.
        return visit.go(_start_path(replaced))
    if not visit.field("code").strip():
        return _show_proof(visit, replaced, error=explain_input(InvalidInput("code", "")))
    assert visit.bearer is not None  # noqa: S101 - nobody reaches the page without a session
    try:
        proven = await visit.house.sign_in.prove(visit.bearer, await visit.caller(purpose=ENROLL, is_once=True))
    except NotProven as refused:
        return _show_proof(visit, replaced, problem=await explain_unproven(visit, refused))
    except Refused as refused:
        if refused.code != "disabled":
            raise
        has_codes = (await visit.house.verifier.accounts.get(visit.owner.id)).recovery_codes_left > 0
        return _show_proof(visit, replaced, problem=explain_switched_off(has_recovery_codes=has_codes))
    visit.keep(proven)
    return visit.go(_start_path(replaced))


def _show_proof(
    visit: Visit,
    replaced: Authenticator | None,
    *,
    error: Sentence | None = None,
    problem: Explanation | None = None,
) -> Response:
    replaces = replaced.id if replaced else ""
    return visit.show(
        "enroll/proof.html",
        status=_status(error, problem),
        retry_after_s=problem.wait_s if problem else None,
        error=error,
        problem=problem,
        failed=bool(error or problem),
        replaced=replaced,
        has_letters="letters" in visit.request.query_params,
        has_new_codes=has_new_codes(visit.owner, visit.now),
        letters_url=f"/enroll{spell_query({'replaces': replaces, 'letters': '1'})}",
        steps=_count_steps(visit, "proof"),
    )


async def _show_choice(visit: Visit, replaced: Authenticator | None) -> Response:
    reset = None if visit.owner.is_bound else await _find_reset(visit)
    steps = _count_steps(visit, "choice")
    return visit.show("enroll/choose.html", ways=WAYS, replaced=replaced, reset=reset, steps=steps)


async def _find_reset(visit: Visit) -> Activity | None:
    accounts = visit.house.verifier.accounts
    return find_reset(await accounts.latest_activity(visit.owner, count=EVENTS_LOOKED_AT))


async def _show_totp(
    visit: Visit,
    authenticator_id: str,
    *,
    error: InvalidInput | None = None,
    problem: Explanation | None = None,
) -> Response:
    """The key and what to do with it; after a POST with what was typed for a label, and what went wrong."""
    begun = next((a for a in visit.owner.authenticators if a.id == authenticator_id), None)
    replaces = begun.enrollment.replaces if begun is not None and begun.enrollment is not None else None
    replaced = next((a for a in visit.owner.authenticators if a.id == replaces), None)
    try:
        pending = await visit.house.verifier.see_again(visit.owner.id, authenticator_id, caller=await visit.caller())
    except Refused as refused:
        if refused.code == "step_up_required":
            # Its quarter of an hour is over. The key is the same once it was shown again who it is.
            return _show_proof(visit, replaced, problem=problem)
        return _tell_over(visit, authenticator_id, refused)
    is_label = error is not None and error.field == "label"
    explained = None if error is None else explain_input(error) if is_label else Sentence("Type the six digits.")
    return visit.show(
        "enroll/totp.html",
        status=_status(explained, problem),
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
        steps=_count_steps(visit, "totp"),
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


def _tell_over(visit: Visit, authenticator_id: str, refused: Refused) -> Response:
    """To somebody whose enrollment is not open any more, or not for her."""
    if any(a.id == authenticator_id and a.state == "active" for a in visit.owner.authenticators):
        return visit.go("/enroll/done")
    if refused.code == "step_up_required":
        return visit.tell(
            Sentence("Your account has a second factor by now"),
            Sentence("It was added since this page was shown, in another window or on another device."),
            Sentence("Show a code of it first. If that was not you, choose a new password and ask for help."),
            status=409,
            links=((Sentence("Go on"), "/enroll"),),
        )
    if refused.code not in ("not_found", "conflict"):
        raise refused
    return visit.tell(
        Sentence("This key cannot be used any more"),
        Sentence("Its 15 minutes are over, it was canceled, or what allowed it was removed. Nothing was added."),
        Sentence("Begin again, and delete what you have just added from your app."),
        status=409,
        links=((Sentence("Begin again"), "/enroll"),),
    )


def _status(error: Sentence | None, problem: Explanation | None) -> int:
    if problem is not None and problem.wait_s is not None:
        return 429
    return 422 if error is not None or problem is not None else 200


def _suggest_label(visit: Visit, replaced: Authenticator | None) -> str:
    """A name that is free, or that of the phone before."""
    if replaced is not None and replaced.label:
        return replaced.label
    taken = {a.label for a in visit.owner.authenticators}
    phone = visit.speech.say(Sentence("Phone"))
    return next(name for number in count(1) if (name := phone if number == 1 else f"{phone} {number}") not in taken)


def _count_steps(visit: Visit, step: str) -> tuple[int, int]:
    """Which step of how many this is, for this person."""
    session = visit.session
    # A recovery code at the sign-in is proof enough: then this page's own question is no step.
    has_proof = step == "proof" or (session.may_enroll_until > 0 and session.proved_at != session.begun_at)
    has_codes = step == "codes" or not any(a.factor == RECOVERY for a in visit.owner.authenticators)
    steps = ["proof"] * has_proof + ["choice", "totp"] + ["codes"] * has_codes
    return steps.index(step) + 1, len(steps)
