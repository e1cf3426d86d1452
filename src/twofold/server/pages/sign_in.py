"""Signing in, in two steps on two pages, and signing out.

Until the password was right, nothing here depends on the name. The second step stays where it is: a wrong code never
leads back to the password.
"""

from __future__ import annotations

from contextlib import suppress

import msgspec
from starlette.responses import Response

from twofold import setup_link
from twofold.core.account import RECOVERY
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Rejected, Throttled, Verified
from twofold.core.factor import read_answer
from twofold.errors import InvalidInput, Refused, SessionEnded
from twofold.server.pages.gate import tell_blocked
from twofold.server.pages.home import HOME
from twofold.server.pages.refusals import (
    CODE_LENGTHS,
    Explanation,
    explain_code,
    explain_input,
    explain_open_ways,
    explain_switched_off,
    find_open_ways,
)
from twofold.server.pages.visit import Outcome, Visit, spell_query
from twofold.server.words import Duration, Sentence
from twofold.sign_in import spell_name
from twofold.sign_in_limits import TooMany, log_refusal

CODES = 3
CODE_PATH = "/sign-in/code"


class Way(msgspec.Struct, frozen=True):
    """A second factor that the person has. `left` counts recovery codes; `used_at` is 0 for never."""

    id: str
    factor: str
    label: str
    used_at: int
    left: int
    href: str

    @property
    def is_recovery(self) -> bool:
        """Whether it is the set of recovery codes."""
        return self.factor == RECOVERY


async def show_sign_in(visit: Visit) -> Response:
    """Name and password."""
    if visit.bearer is not None and visit.session.level != "pending":
        # Whoever is still enrolling is led from there to that step.
        return visit.go(visit.next_path or HOME)
    # Cheap once the set-up is complete, so that nobody makes work by asking for this page.
    house = visit.house
    is_set_up = await setup_link.is_spent(house.store) or await house.administration.has_administrator()
    return _show_password_step(visit, is_set_up=is_set_up)


async def take_password(visit: Visit) -> Response:
    """The password step: on to the code, or to enrolling where there is no second factor yet."""
    name, password = visit.field("name"), visit.field("password")
    if not spell_name(name) or not password:
        return _show_password_step(visit, _EMPTY, status=422)
    try:
        outcome = await visit.house.sign_in.begin(name, password, visit.guest, next_path=visit.next_path)
    except InvalidInput as error:
        return _show_password_step(visit, _WRONG._replace(why=explain_input(error)), status=422)
    except Refused as refused:
        if refused.code != "disabled":
            raise
        log_refusal(visit.sender.address, "disabled")
        return visit.tell(
            Sentence("Your account is disabled"),
            Sentence("Name and password are right, and an administrator has disabled the account."),
            Sentence("Ask an administrator to enable it again."),
            status=403,
            links=((Sentence("I cannot sign in"), "/sign-in/help"),),
        )
    match outcome:
        case Verified():
            await begin_session(visit, outcome)
            return visit.go(CODE_PATH + spell_query({"next": visit.next_path}))
        case TooMany(retry_after_s=wait_s, over="network"):
            return tell_blocked(visit, wait_s)
        case TooMany(retry_after_s=wait_s):
            return _show_password_step(visit, _TOO_MANY._replace(wait_s=wait_s), status=429)
    return _show_password_step(visit, _WRONG, status=401)


async def show_code(visit: Visit) -> Response:
    """The second factor. An account that has none is led to enroll one."""
    return await _show_code_step(visit)


async def take_code(visit: Visit) -> Response:
    """The second step: in, or a sentence that says why not."""
    codes = read_codes(visit.field("codes"))
    if "codes" in visit.form and len(codes) != CODES:
        return await _show_code_step(visit, codes_error=explain_input(InvalidInput("codes", "")), status=422)
    if not codes and not visit.field("code").strip():
        return await _show_code_step(visit, error=explain_input(InvalidInput("code", "")), status=422)
    chosen = _find_chosen(visit, await _find_ways(visit))
    try:
        outcome = await visit.house.verifier.verify(
            visit.owner.id,
            code=None if codes else visit.field("code"),
            codes=codes or None,
            authenticator_id=_narrow(chosen, visit.field("code")),
            # The same form sent twice ends alike, and is judged and charged once.
            caller=await visit.caller(is_once=True),
        )
    except InvalidInput as error:
        return await _show_code_step(visit, error=explain_input(error), status=422)
    except Refused as refused:
        if refused.code not in ("disabled", "no_factor"):
            raise
        return await _show_code_step(visit, status=409)
    if isinstance(outcome, Verified):
        visit.keep(outcome)
        return visit.go(_find_aim(visit, outcome, by_three=bool(codes)))
    return await _refuse_code(visit, outcome, by_three=bool(codes))


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


def read_codes(text: str) -> list[str]:
    """Codes in a row out of one box: split at spaces, or in three where spaces stand inside the codes."""
    parts = text.replace(",", " ").split()
    if len(parts) == CODES or not parts:
        return parts
    digits = "".join(parts).replace("-", "")
    size, rest = divmod(len(digits), CODES)
    if rest or size not in CODE_LENGTHS:
        return parts
    return [digits[start : start + size] for start in range(0, len(digits), size)]


def _show_password_step(
    visit: Visit, problem: Explanation | None = None, *, status: int = 200, is_set_up: bool = True
) -> Response:
    return visit.show(
        "sign_in/password.html",
        status=status,
        retry_after_s=problem.wait_s if problem else None,
        problem=problem,
        failed=problem is not None,
        name=spell_name(visit.field("name")),
        is_signed_out="signed-out" in visit.request.query_params and problem is None,
        is_set_up=is_set_up,
    )


async def _show_code_step(
    visit: Visit,
    *,
    error: Sentence | None = None,
    codes_error: Sentence | None = None,
    problem: Explanation | None = None,
    throttled: Throttled | None = None,
    status: int = 200,
) -> Response:
    ways = await _find_ways(visit)
    apps = [way for way in ways if not way.is_recovery]
    if problem is None and not apps:
        problem = explain_switched_off(has_recovery_codes=bool(ways))
    chosen = _find_chosen(visit, ways) or (ways[0] if ways and not apps else None)
    open_ways = find_open_ways(throttled)
    return visit.show(
        "sign_in/code.html",
        status=status,
        retry_after_s=throttled.retry_after_s if throttled else None,
        action=CODE_PATH + spell_query({"next": visit.session.next}),
        error=error or (problem.what_to_do if problem else None),
        codes_error=codes_error,
        problem=problem,
        open_now=explain_open_ways(open_ways),
        failed=bool(error or codes_error or problem),
        ways=ways,
        chosen=chosen,
        shown=chosen or (apps[0] if len(apps) == 1 else None),
        has_several=len(apps) > 1,
        has_three_codes="codes" in visit.form or "three_codes" in open_ways,
        start_url="/sign-in" + spell_query({"next": visit.session.next}),
        ends=Sentence("You have %(time)s left for this step.", {"time": Duration(_whole_minutes(visit))}),
    )


async def _find_ways(visit: Visit) -> list[Way]:
    """What can be asked of the person, the last used first; recovery codes last, for they are for bad days."""
    view = await visit.house.verifier.accounts.get(visit.owner.id)
    ways = [
        Way(
            a.id,
            a.factor,
            a.label,
            a.last_used_at,
            view.recovery_codes_left,
            CODE_PATH + spell_query({"way": a.id, "next": visit.session.next}),
        )
        for a in view.authenticators
        if a.state == "active" and (a.factor in ("totp", "hotp") or (a.factor == RECOVERY and view.recovery_codes_left))
    ]
    return sorted(ways, key=lambda way: (way.is_recovery, -way.used_at))


def _whole_minutes(visit: Visit) -> int:
    """How long the pending session lives: seconds, but as nobody counts them, in minutes while there are some."""
    left_s = max(1, (visit.session.expires_at - visit.now) // MICROS_PER_S)
    return left_s // 60 * 60 or left_s


def _find_chosen(visit: Visit, ways: list[Way]) -> Way | None:
    """The way that the person chose, unless it went since."""
    asked = visit.field("authenticator") or visit.request.query_params.get("way")
    return next((way for way in ways if way.id == asked), None)


def _narrow(chosen: Way | None, code: str) -> str | None:
    """Who may judge the answer: the chosen authenticator alone, but a recovery code fits into every box."""
    if chosen is None or chosen.is_recovery or read_answer([code]).kind == "recovery":
        return None
    return chosen.id


async def _refuse_code(visit: Visit, outcome: Rejected | Throttled, *, by_three: bool) -> Response:
    problem = explain_code(outcome, visit.now, "" if by_three else visit.field("code"))
    if isinstance(outcome, Throttled):
        log_refusal(visit.sender.address, "throttled")
        return await _show_code_step(visit, problem=problem, throttled=outcome, status=429)
    log_refusal(visit.sender.address, "wrong_code")
    if outcome.reason == "wrong_code" and not by_three:
        await visit.house.limits.note_wrong_code(visit.owner.id, visit.field("code"))
    return await _show_code_step(visit, problem=problem, status=401)


def _find_aim(visit: Visit, outcome: Verified, *, by_three: bool) -> str:
    """Where the person wanted to go; after a bad day the page that says what to do about it comes first."""
    aim = visit.session.next
    if outcome.recovery_codes_left is not None:
        return HOME + spell_query({"codes-left": str(outcome.recovery_codes_left), "next": aim})
    return HOME + spell_query({"next": aim}) if by_three else aim or HOME


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
