"""A person's own security: how safe she is at a glance, and each thing that can be changed about it.

Whatever takes something away, or makes it new, is one form that carries a fresh proof, a passkey or a code: that is
judged in the same decision as the act, so neither happens without the other. Sessions and browsers: `sessions.py`.
"""

from __future__ import annotations

from starlette.responses import Response

from twofold.core.account import FIRST_FACTOR, RECOVERY
from twofold.core.activity import Activity, find_refused_codes, is_sign_in_before, leave_out_first_steps
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Rejected
from twofold.core.factor import read_answer
from twofold.core.health import assess_health
from twofold.directory import DAY_S, TEST_CODE, TESTS_PER_DAY, AccountView, AuthenticatorView
from twofold.engine import Caller, NotProven
from twofold.errors import InvalidInput, Refused
from twofold.passkey_facts import find_elsewhere, is_last_way, list_accepted
from twofold.server.pages.activity_words import tell
from twofold.server.pages.authenticator_words import Shown, show_authenticators, warn_of_passkeys
from twofold.server.pages.health_words import say_health
from twofold.server.pages.proof import Errors, ask, call_with_proof, explain_unproven, gives_codes, show_form
from twofold.server.pages.refusals import Explanation, explain_input, explain_new_password
from twofold.server.pages.security_words import explain_done, explain_misfit, explain_too_many, explain_warnings
from twofold.server.pages.sessions import find_this_browser, list_browsers
from twofold.server.pages.visit import Visit
from twofold.server.words import Sentence, Wait
from twofold.sign_in_limits import TooMany

EVENTS_SHOWN = 10
SESSIONS_SHOWN = 5
#: So many events are read at a time to find the codes that were refused since the sign-in before, and so many in all.
EVENTS_LOOKED_AT = 50
EVENTS_LOOKED_AT_MAX = 1000
#: What a proof is for: it is good for nothing else.
RENEW_CODES = "renew_recovery_codes"
CHANGE = "change_password"


async def show_security(visit: Visit) -> Response:
    """All of it on one page."""
    owner, accounts, rp = visit.owner, visit.house.verifier.accounts, visit.house.relying_party
    view = await accounts.get(owner.id)
    authenticators = show_authenticators(view.second_factors, rp)
    activity, is_cut = await _look_back(visit)
    health = assess_health(
        owner,
        recovery_codes_left=view.recovery_codes_left,
        useless=find_elsewhere(owner, rp),
        can_add_passkey=rp is not None,
    )
    query = visit.request.query_params
    sessions = await visit.house.sign_in.list_sessions(owner)
    return visit.show(
        "security/overview.html",
        health=health,
        advice=say_health(health),
        done=explain_done(query.get("done", "")),
        warnings=explain_warnings(
            find_refused_codes(activity, visit.session),
            has_used_recovery_code="codes-left" in query,
            codes_left=view.recovery_codes_left,
            is_guessed_at=view.throttle == "empty",
            new_phone_href=_find_new_phone_href(view),
            events_max=EVENTS_LOOKED_AT_MAX if is_cut else None,
        )
        + warn_of_passkeys(authenticators),
        authenticators=authenticators,
        removable={a.id for a in owner.authenticators if not is_last_way(owner, a.id, rp)},
        signals=None if rp is None else list_accepted(owner, view.display_name, rp),
        can_test=gives_codes(visit, digits_only=True),
        codes_left=view.recovery_codes_left,
        codes_made_at=_find_made_at(view, RECOVERY),
        password_set_at=_find_made_at(view, FIRST_FACTOR),
        browsers=list_browsers(owner, visit.now),
        this_browser=find_this_browser(visit),
        sessions=sorted(sessions, key=lambda session: session.id != visit.session.id),
        sessions_shown=SESSIONS_SHOWN,
        this_session=visit.session.id,
        stops_at=owner.stops_at,
        activity=[tell(each, owner) for each in leave_out_first_steps(activity)[:EVENTS_SHOWN]],
    )


async def show_authenticator(visit: Visit) -> Response:
    """One authenticator: its name, and what can be done about it."""
    return await _show_authenticator(visit)


async def take_label(visit: Visit) -> Response:
    """Give it another name."""
    authenticator = await _find_factor(visit)
    try:
        await visit.house.verifier.rename(
            visit.owner.id, authenticator.id, visit.field("label"), caller=await visit.caller()
        )
    except InvalidInput as error:
        return await _show_authenticator(visit, error=explain_input(error), status=422)
    return visit.go("/security?done=label")


async def show_removal(visit: Visit) -> Response:
    """What it means to remove it, and the code that it takes."""
    return await _show_removal(visit)


async def take_removal(visit: Visit) -> Response:
    """Remove it, if the proof is right and it is not the last one that works."""
    authenticator = await _find_factor(visit)
    useless = find_elsewhere(visit.owner, visit.house.relying_party)
    try:
        caller = await _call(visit, _removal_of(authenticator))
        # Nobody has a full session without a second factor, so whoever removed the last one would be outside.
        revoke = visit.house.verifier.revoke
        visit.keep(await revoke(visit.owner.id, authenticator.id, keeps_last=True, useless=useless, caller=caller))
    except InvalidInput as error:
        return await _show_removal(visit, errors={error.field: explain_input(error)})
    except NotProven as wrong:
        return await _show_removal(visit, await explain_unproven(visit, wrong))
    return visit.go("/security?done=removed")


async def show_recovery_codes(visit: Visit) -> Response:
    """How many are left, and the code that new ones take. No page shows the old ones again."""
    return await _show_recovery_codes(visit)


async def take_recovery_codes(visit: Visit) -> Response:
    """New recovery codes, shown this once."""
    try:
        caller = await _call(visit, RENEW_CODES)
        renewed = await visit.house.verifier.renew_recovery_codes(visit.owner.id, caller=caller)
    except InvalidInput as error:
        return await _show_recovery_codes(visit, errors={error.field: explain_input(error)})
    except NotProven as wrong:
        return await _show_recovery_codes(visit, await explain_unproven(visit, wrong))
    visit.keep(renewed)
    return visit.show("security/new_recovery_codes.html", codes=renewed.recovery_codes, owner=visit.owner.id)


async def show_password(visit: Visit) -> Response:
    """The form for a new password."""
    return await _show_password(visit)


async def take_password(visit: Visit) -> Response:
    """A new password; whatever was in force before is void, this session alone goes on."""
    house = visit.house
    assert visit.bearer is not None  # noqa: S101 - nobody gets here without a session
    if not visit.has_answer:
        return await _show_password(visit, errors={"code": explain_input(InvalidInput("code", "a fresh code"))})
    if not visit.field("password"):
        return await _show_password(visit, errors={"password": Sentence("Type your password of now.")})
    try:
        outcome = await house.sign_in.check_current_password(visit.bearer, visit.field("password"), visit.guest)
    except InvalidInput as error:
        return await _show_password(visit, errors={error.field: explain_input(error)})
    match outcome:
        case TooMany(retry_after_s=wait_s):
            return await _show_password(visit, explain_too_many(wait_s))
        case Rejected():
            wrong_password = Sentence("This is not your password now. Type it again.")
            return await _show_password(visit, errors={"password": wrong_password})
    try:
        # Only now: a recovery code costs a slow hash, which nobody gets beyond the limits of the password.
        caller = await call_with_proof(visit, CHANGE)
        new_password = visit.field("new_password")
        visit.keep(await house.verifier.accounts.set_password(visit.owner.id, new_password, caller=caller))
    except InvalidInput as error:
        return await _show_password(visit, errors={"new_password": explain_new_password(error)})
    except NotProven as wrong:
        return await _show_password(visit, await explain_unproven(visit, wrong))
    return visit.go("/security?done=password")


async def show_test(visit: Visit) -> Response:
    """ "My code is always wrong": the form to test one."""
    return _show_test(visit) if gives_codes(visit, digits_only=True) else _tell_nothing_to_test(visit)


async def take_test(visit: Visit) -> Response:
    """Whether a code fits, or is one of the past. It is judged like any other code: whoever stole a session finds
    nothing here that could be used, and pays for each guess."""
    accounts, code = visit.house.verifier.accounts, visit.field("code")
    if not gives_codes(visit, digits_only=True):
        return visit.go("/security/test")
    answer = read_answer([code])
    if answer.kind != "otp" or not answer.codes[0]:
        error = Sentence("Type the digits that your app shows now. Recovery codes cannot be tested: they work once.")
        return _show_test(visit, errors={"code": error})
    try:
        caller = await visit.caller(purpose=TEST_CODE, is_once=True)
        visit.keep(await accounts.test_own_code(visit.owner.id, caller))
    except NotProven as wrong:
        problem = await explain_unproven(visit, wrong)
        if wrong.outcome == Rejected("wrong_code"):
            tried = await accounts.find_late_clock(visit.owner.id, code, await visit.caller())
            problem = explain_misfit(tried, visit.now)
        return _show_test(visit, problem)
    except Refused as refused:
        if refused.code != "too_many":
            raise
        wait_s = DAY_S - visit.now // MICROS_PER_S % DAY_S
        return visit.tell(
            Sentence("No more tests today"),
            Sentence(
                "A code can be tested %(tests)s times a day, so that nobody guesses here.", {"tests": TESTS_PER_DAY}
            ),
            Sentence("You can test again in %(left)s.", {"left": Wait(wait_s)}),
            status=429,
            wait_s=wait_s,
            links=((Sentence("Your security"), "/security"),),
        )
    return _show_test(visit, is_fitting=True)


async def _look_back(visit: Visit) -> tuple[list[Activity], bool]:
    """The latest events, back to the sign-in before this session, and whether there are too many of them to get there:
    whoever knows the password can make some, and must not push a refused code out of sight with them."""
    found: list[Activity] = []
    while len(found) < EVENTS_LOOKED_AT_MAX:
        older = await visit.house.verifier.accounts.latest_activity(
            visit.owner, count=EVENTS_LOOKED_AT, before_seq=found[-1].seq if found else None
        )
        found += older
        if len(older) < EVENTS_LOOKED_AT or any(is_sign_in_before(each, visit.session) for each in older):
            return found, False
    return found, True


async def _show_authenticator(visit: Visit, *, error: Sentence | None = None, status: int = 200) -> Response:
    authenticator = await _find_factor(visit)
    return visit.show(
        "security/authenticator.html",
        status=status,
        error=error,
        authenticator=_show(visit, authenticator),
        label=visit.field("label") if error else authenticator.label,
        is_last=_is_last(visit, authenticator),
    )


async def _show_removal(visit: Visit, problem: Explanation | None = None, errors: Errors | None = None) -> Response:
    authenticator = await _find_factor(visit)
    return await ask(
        visit,
        "security/removal.html",
        problem,
        errors,
        purpose=_removal_of(authenticator),
        authenticator=_show(visit, authenticator),
        is_last=_is_last(visit, authenticator),
        ends_others=_ends_others(visit),
    )


async def _show_recovery_codes(
    visit: Visit, problem: Explanation | None = None, errors: Errors | None = None
) -> Response:
    view = await visit.house.verifier.accounts.get(visit.owner.id)
    return await ask(
        visit,
        "security/recovery_codes.html",
        problem,
        errors,
        purpose=RENEW_CODES,
        codes_left=view.recovery_codes_left,
        codes_made_at=_find_made_at(view, RECOVERY),
        ends_others=_ends_others(visit),
    )


def _show_test(
    visit: Visit, problem: Explanation | None = None, errors: Errors | None = None, *, is_fitting: bool = False
) -> Response:
    return show_form(visit, "security/test.html", problem, errors, tests_max=TESTS_PER_DAY, is_fitting=is_fitting)


def _tell_nothing_to_test(visit: Visit) -> Response:
    """To somebody who has nothing that shows digits."""
    return visit.show(
        "page.html",
        title=Sentence("You have no codes to test"),
        text=Sentence(
            "Here an authenticator app or a code token is tested whose codes are never taken: mostly its clock is off."
            " A passkey has neither codes nor a clock; when it is not taken, the page says why."
        ),
        icon_name="clock",
        links=((Sentence("Your security"), "/security"),),
    )


async def _show_password(visit: Visit, problem: Explanation | None = None, errors: Errors | None = None) -> Response:
    return await ask(visit, "security/password.html", problem, errors, purpose=CHANGE)


async def _call(visit: Visit, purpose: str) -> Caller:
    """The visitor with a proof, with which other sessions end if the tick says so."""
    return await call_with_proof(visit, purpose, ends_others=bool(visit.field("end_others")))


def _removal_of(authenticator: AuthenticatorView) -> str:
    return f"remove_authenticator:{authenticator.id}"


def _is_last(visit: Visit, authenticator: AuthenticatorView) -> bool:
    """Whether nothing else that the visitor has could be asked for here."""
    return is_last_way(visit.owner, authenticator.id, visit.house.relying_party)


def _show(visit: Visit, authenticator: AuthenticatorView) -> Shown:
    return show_authenticators([authenticator], visit.house.relying_party)[0]


def _ends_others(visit: Visit) -> bool:
    """Whether the tick is set: at first it is, later as the person left it."""
    return visit.request.method != "POST" or bool(visit.field("end_others"))


def _find_made_at(view: AccountView, factor: str) -> int | None:
    return next((a.created_at for a in view.authenticators if a.factor == factor), None)


def _find_new_phone_href(view: AccountView) -> str:
    """Where a new phone is set up: in place of the lost one, if there is no doubt which that is."""
    apps = [a.id for a in view.second_factors if a.factor == "totp"]
    return f"/enroll?replaces={apps[0]}" if len(apps) == 1 else "/enroll"


async def _find_factor(visit: Visit) -> AuthenticatorView:
    """The authenticator that the address names; raises `Refused("not_found")` unless it is one of the visitor's."""
    view = await visit.house.verifier.accounts.get(visit.owner.id)
    for authenticator in view.second_factors:
        if authenticator.id == visit.path("id"):
            return authenticator
    raise Refused("not_found", "this account has no authenticator of that id")
