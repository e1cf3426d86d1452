"""Adding an authenticator, one journey: who you are, which way, set it up, prove it, keep the recovery codes, done.

Whoever has a second factor already shows it first, and may then enroll for a quarter of an hour. What one session began
is never shown to another one. How each way is set up is in a room of its own, `enroll_totp.py` and `enroll_passkey.py`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from starlette.responses import Response

from twofold import setup_link
from twofold.core.account import FIRST_FACTOR, RECOVERY, Authenticator
from twofold.core.activity import Activity, find_reset
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Confirmed
from twofold.core.health import assess_health, has_new_codes
from twofold.core.sign_in import ENROLL
from twofold.engine import NotProven
from twofold.errors import InvalidInput, Refused
from twofold.relying_party import find_own
from twofold.server.pages.health_words import say_finding
from twofold.server.pages.home import HOME
from twofold.server.pages.proof import ask, call_with_proof, explain_unproven
from twofold.server.pages.refusals import Explanation, explain_input, explain_switched_off
from twofold.server.pages.visit import Visit, spell_query
from twofold.server.words import Sentence

#: So many events are looked through for a reset by an administrator.
EVENTS_LOOKED_AT = 100
#: So long before what somebody has stops, its page offers no other way any more.
LAST_DAY_S = 86_400
PASSKEY = "webauthn"

Step = Literal["proof", "choice", "connect", "codes"]


class Way(NamedTuple):
    """A kind of authenticator as it is offered: how strong it is in one sentence, and what else is good about it."""

    factor: str
    icon: str
    title: Sentence
    text: Sentence
    level: str
    strength: Sentence
    badges: tuple[Sentence, ...] = ()


#: Those that work in every browser first: the script puts passkeys, the strongest, before them where the browser can.
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
    Way(
        PASSKEY,
        "passkey",
        Sentence("Passkey or security key"),
        Sentence("Your fingerprint, face, PIN or a key that you plug in."),
        "strong",
        Sentence("Stops phishing"),
        (Sentence("Nothing to type"),),
    ),
)


async def show_start(visit: Visit) -> Response:
    """Who you are, where that is asked; else which way."""
    replaced = _find_replaced(visit)
    return await _show_choice(visit, replaced) if await _may_enroll(visit) else await show_proof(visit, replaced)


async def take_start(visit: Visit) -> Response:
    """The proof of who it is, or the way that was chosen."""
    replaced = _find_replaced(visit)
    if "factor" not in visit.form:
        return await _take_proof(visit, replaced)
    factor = visit.field("factor")
    if factor not in [way.factor for way in _find_ways(await find_obstacle(visit))]:
        raise InvalidInput("factor", "one of the ways that the page offers")
    replaces = replaced.id if replaced is not None else None
    caller, verifier, rp = await visit.caller(), visit.house.verifier, visit.house.relying_party
    try:
        if factor == PASSKEY and rp is not None:
            await verifier.passkeys.enroll(visit.owner.id, rp, replaces=replaces, caller=caller, may_add_account=False)
        else:
            await verifier.enroll(visit.owner.id, "totp", replaces=replaces, caller=caller)
    except Refused as refused:
        if refused.code != "step_up_required":
            raise
        return visit.go(_start_path(visit, replaced))
    return visit.go(f"/enroll/{factor}{spell_query({'next': visit.next_path})}")


async def take_cancel(visit: Visit) -> Response:
    """Forget what was begun; what it was to replace stays."""
    try:
        await visit.house.verifier.cancel(visit.owner.id, visit.field("authenticator"), caller=await visit.caller())
    except Refused as refused:
        if refused.code != "not_found":
            raise
    return visit.go(visit.next_path or HOME if visit.session.level == "full" else "/enroll")


async def take_saved(visit: Visit) -> Response:
    """On, once the codes are in a safe place. They cannot be shown again: they are kept as digests only."""
    if visit.field("saved"):
        return visit.go("/enroll/done" + spell_query({"next": visit.next_path}))
    error = Sentence("Tick the box when the codes are in a safe place.")
    return visit.show("enroll/saved.html", status=422, error=error)


async def show_done(visit: Visit) -> Response:
    """What protects the account now, and what is still weak."""
    if not visit.owner.has_second_factor:
        return visit.go("/enroll")
    session = visit.session
    # Where the sign-in was to lead is for whoever had to enroll on the way; later ones came from their own page.
    aim = visit.next_path or (session.next if session.proved_at == session.begun_at else "")
    left = (await visit.house.verifier.accounts.get(visit.owner.id)).recovery_codes_left
    can_add_passkey = await find_obstacle(visit) is None
    health = assess_health(visit.owner, recovery_codes_left=left, can_add_passkey=can_add_passkey)
    return visit.show(
        "enroll/done.html",
        advice=[say_finding(finding) for finding in health.findings],
        active=[a for a in visit.owner.authenticators if a.state == "active"],
        codes_left=left,
        aim=aim or HOME,
    )


async def find_setup_link(visit: Visit) -> bytes | None:
    """The set-up link that this person is about to use up, if anybody may still do so. It is asked for before the
    authenticator is confirmed: of two who confirm at once, both find it open, and the later one finds it taken."""
    # What an application has somebody enroll completes no set-up.
    may_complete = visit.owner.role == "administrator" and not visit.house.site.asker
    return await setup_link.find_open(visit.house.store) if may_complete else None


async def complete(visit: Visit, confirmed: Confirmed, link: bytes | None) -> Response:
    """The new authenticator counts, and the session is full: on to the recovery codes that came with it, or to the
    end. `link` is what `find_setup_link` found."""
    visit.keep(confirmed)
    is_administrator = visit.owner.role == "administrator"
    if is_administrator and confirmed.is_user_verified and not visit.needs_passkey:
        # From now on a code opens less than before: what was opened by one elsewhere ends.
        caller = await visit.caller()
        await visit.house.sign_in.end_sessions(visit.owner.id, caller, but=visit.session.id)
    if link is not None:
        # Somebody can administer this deployment from now on, so nobody needs the link that makes the first one.
        await visit.house.administration.complete_setup(visit.owner.id, link, caller=visit.as_administrator())
        await setup_link.spend(visit.house.store)
    if not confirmed.recovery_codes:
        return visit.go("/enroll/done" + spell_query({"next": visit.next_path}))
    return visit.show(
        "enroll/recovery_codes.html",
        codes=confirmed.recovery_codes,
        owner=visit.owner.id,
        is_app=confirmed.factor != PASSKEY,
        steps=count_steps(visit, "codes"),
    )


async def show_proof(
    visit: Visit,
    replaced: Authenticator | None,
    *,
    problem: Explanation | None = None,
    error: Sentence | None = None,
) -> Response:
    """Who you are: something that signs in already has to be shown first."""
    more = {"letters": "1", "replaces": replaced.id if replaced else "", "next": visit.next_path}
    return await ask(
        visit,
        "enroll/proof.html",
        problem,
        {"code": error} if error else None,
        purpose=ENROLL,
        replaced=replaced,
        has_new_codes=not visit.owner.stops_at and has_new_codes(visit.owner, visit.now),
        letters_url=f"/enroll{spell_query(more)}",
        steps=count_steps(visit, "proof"),
        stops_at=visit.owner.stops_at,
        can_wait=_can_wait(visit),
    )


def find_replaced_by(visit: Visit, authenticator_id: str) -> Authenticator | None:
    """What the open enrollment is to replace."""
    begun = next((a for a in visit.owner.authenticators if a.id == authenticator_id), None)
    replaces = begun.enrollment.replaces if begun is not None and begun.enrollment is not None else None
    return next((a for a in visit.owner.authenticators if a.id == replaces), None)


def tell_over(visit: Visit, authenticator_id: str, refused: Refused, what_to_do: Sentence) -> Response:
    """To somebody whose enrollment is not open any more, or not for her."""
    if any(a.id == authenticator_id and a.state == "active" for a in visit.owner.authenticators):
        return visit.go("/enroll/done" + spell_query({"next": visit.next_path}))
    if refused.code == "step_up_required":
        return visit.tell(
            Sentence("Your account has a second factor by now"),
            Sentence("It was added since this page was shown, in another window or on another device."),
            Sentence("Show it first. If that was not you, choose a new password and ask for help."),
            status=409,
            links=((Sentence("Go on"), "/enroll"),),
        )
    if refused.code not in ("not_found", "conflict"):
        raise refused
    return visit.tell(
        Sentence("This cannot be added any more"),
        Sentence("Its 15 minutes are over, it was canceled, or what allowed it was removed. Nothing was added."),
        what_to_do,
        status=409,
        links=((Sentence("Begin again"), "/enroll"),),
    )


def status_of(error: Sentence | None, problem: Explanation | None) -> int:
    """The status of a form that is shown again."""
    if problem is not None and problem.wait_s is not None:
        return 429
    return 422 if error is not None or problem is not None else 200


def count_steps(visit: Visit, step: Step) -> tuple[int, int]:
    """Which step of how many this is, for this person."""
    session = visit.session
    # A recovery code at the sign-in is proof enough: then this page's own question is no step.
    has_proof = step == "proof" or (session.may_enroll_until > 0 and session.proved_at != session.begun_at)
    has_codes = step == "codes" or not any(a.factor == RECOVERY and not a.stops_at for a in visit.owner.authenticators)
    steps = ["proof"] * has_proof + ["choice", "connect"] + ["codes"] * has_codes
    return steps.index(step) + 1, len(steps)


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


async def find_obstacle(visit: Visit) -> Sentence | None:
    """Why no passkey can be added now; None if one can."""
    house = visit.house
    if house.relying_party is None:
        return Sentence(
            "Passkeys cannot be added at this address: browsers make them only for a name, over a safe connection"
            " (https)."
        )
    coming = None if house.is_public_url_fixed else await setup_link.read_public_url(house.store, house.keys)
    lasts = coming is None or ((own := find_own(coming)) is not None and own.id == house.relying_party.id)
    if not lasts:
        # A passkey made now would die with the next start.
        return Sentence(
            "Passkeys can be added once the server has been started again, at its new address %(url)s.",
            {"url": coming or ""},
        )
    return None


def _find_ways(obstacle: Sentence | None) -> list[Way]:
    """What can be added at this address."""
    return [way for way in WAYS if way.factor != PASSKEY or obstacle is None]


def _can_wait(visit: Visit) -> bool:
    """Whether this may be done another day: not on the last one before what the person has stops."""
    stops_at = visit.owner.stops_at
    return not stops_at or stops_at - visit.now >= LAST_DAY_S * MICROS_PER_S


def _start_path(visit: Visit, replaced: Authenticator | None) -> str:
    return f"/enroll{spell_query({'replaces': replaced.id if replaced else '', 'next': visit.next_path})}"


async def _take_proof(visit: Visit, replaced: Authenticator | None) -> Response:
    if await _may_enroll(visit):
        # The page of before, sent again: there is nothing to ask any more, and no code to use up.
        return visit.go(_start_path(visit, replaced))
    assert visit.bearer is not None  # noqa: S101 - nobody reaches the page without a session
    try:
        proven = await visit.house.sign_in.prove(visit.bearer, await call_with_proof(visit, ENROLL))
    except InvalidInput as error:
        return await show_proof(visit, replaced, error=explain_input(error))
    except NotProven as refused:
        return await show_proof(visit, replaced, problem=await explain_unproven(visit, refused))
    except Refused as refused:
        if refused.code != "disabled":
            raise
        has_codes = (await visit.house.verifier.accounts.get(visit.owner.id)).recovery_codes_left > 0
        return await show_proof(visit, replaced, problem=explain_switched_off(has_recovery_codes=has_codes))
    visit.keep(proven)
    return visit.go(_start_path(visit, replaced))


async def _show_choice(visit: Visit, replaced: Authenticator | None) -> Response:
    obstacle = await find_obstacle(visit)
    return visit.show(
        "enroll/choose.html",
        ways=_find_ways(obstacle),
        obstacle=obstacle,
        replaced=replaced,
        reset=None if visit.owner.is_bound else await _find_reset(visit),
        steps=count_steps(visit, "choice"),
        stops_at=visit.owner.stops_at,
        can_wait=_can_wait(visit),
    )


async def _find_reset(visit: Visit) -> Activity | None:
    accounts = visit.house.verifier.accounts
    return find_reset(await accounts.latest_activity(visit.owner, count=EVENTS_LOOKED_AT))
