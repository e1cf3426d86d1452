"""The second step of signing in: a passkey or a code, whatever the person has, on one page.

It stays where it is: a wrong answer never leads back to the password, and says which ways are open. The first step is
in `sign_in.py`.
"""

from __future__ import annotations

import msgspec
from starlette.responses import Response

from twofold.core.account import FIRST_FACTOR, RECOVERY
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import Rejected, Throttled, Verified
from twofold.core.factor import read_answer
from twofold.engine import NotProven
from twofold.errors import InvalidInput, Refused
from twofold.server.cookies import OFFERED
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
from twofold.server.pages.visit import Visit, spell_query
from twofold.server.words import Duration, Sentence
from twofold.sign_in_limits import log_refusal

CODES = 3
CODE_PATH = "/sign-in/code"
ENROLL_PATH = "/enroll"
OFFER_PATH = "/enroll/offer"
PASSKEY = "webauthn"


class Way(msgspec.Struct, frozen=True):
    """A second factor that the person has; all passkeys are one. `left` counts recovery codes; `used_at` is 0 for
    never."""

    id: str
    factor: str
    label: str
    used_at: int
    href: str
    left: int = 0

    @property
    def is_recovery(self) -> bool:
        """Whether it is the set of recovery codes."""
        return self.factor == RECOVERY

    @property
    def is_passkey(self) -> bool:
        """Whether it is the passkeys."""
        return self.factor == PASSKEY


async def show_code(visit: Visit) -> Response:
    """What the second factor can be. An account that has none is led to enroll one."""
    return await _show_step(visit)


async def take_code(visit: Visit) -> Response:
    """A code: in, or a sentence that says why not."""
    codes = read_codes(visit.field("codes"))
    if "codes" in visit.form and len(codes) != CODES:
        return await _show_step(visit, codes_error=explain_input(InvalidInput("codes", "")), status=422)
    if not codes and not visit.field("code").strip():
        return await _show_step(visit, error=explain_input(InvalidInput("code", "")), status=422)
    chosen = _find_chosen(visit, await _find_ways(visit))
    is_offered = not codes and bool(visit.field("able")) and _can_offer_passkey(visit)
    is_led = visit.owner.stops_at > 0
    try:
        outcome = await visit.house.verifier.verify(
            visit.owner.id,
            code=None if codes else visit.field("code"),
            codes=codes or None,
            authenticator_id=_narrow(chosen, visit.field("code")),
            # The same form sent twice ends alike, and is judged and charged once. In a browser that is not known one
            # code, which may have been relayed, must not leave a passkey behind: there another one is asked for first.
            caller=await visit.caller(is_once=True, may_enroll=visit.session.is_known and (is_offered or is_led)),
        )
    except InvalidInput as error:
        return await _show_step(visit, error=explain_input(error), status=422)
    except Refused as refused:
        if refused.code not in ("disabled", "no_factor"):
            raise
        return await _show_step(visit, status=409)
    if not isinstance(outcome, Verified):
        return await _refuse_code(visit, outcome, by_three=bool(codes))
    visit.keep(outcome)
    aim = visit.aim
    if is_led:
        return visit.go(ENROLL_PATH + spell_query({"next": aim}))
    # After a bad day the page that says what to do about it comes first.
    if outcome.recovery_codes_left is not None:
        return visit.go(HOME + spell_query({"codes-left": str(outcome.recovery_codes_left), "next": aim}))
    if codes:
        return visit.go(HOME + spell_query({"next": aim}))
    if is_offered:
        visit.leave(OFFERED, "1")
        return visit.go(OFFER_PATH + spell_query({"next": aim}))
    return visit.go(aim or HOME)


async def take_passkey(visit: Visit) -> Response:
    """What a passkey gave: in, or a sentence that says why not."""
    assert visit.bearer is not None  # noqa: S101 - nobody reaches the page without a session
    try:
        if not visit.field("credential"):
            raise InvalidInput("credential", "what a passkey gave")
        shown = await visit.house.sign_in.prove(visit.bearer, await visit.caller(purpose="", is_once=True))
    except InvalidInput as error:
        problem = explain_code(Rejected("wrong_credential"), visit.now)
        return await _show_step(visit, problem=problem._replace(why=explain_input(error)), status=422)
    except NotProven as wrong:
        log_refusal(visit.sender.address, "wrong_passkey")
        return await _show_step(visit, problem=explain_code(wrong.outcome, visit.now), status=401)
    except Refused as refused:
        if refused.code != "no_factor":
            raise
        # There is not even one passkey any more.
        return await _show_step(visit, problem=explain_code(Rejected("unknown_credential"), visit.now), status=409)
    visit.keep(shown)
    if visit.owner.stops_at:
        return visit.go(ENROLL_PATH + spell_query({"next": visit.aim}))
    return visit.go(visit.aim or HOME)


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


async def _show_step(
    visit: Visit,
    *,
    error: Sentence | None = None,
    codes_error: Sentence | None = None,
    problem: Explanation | None = None,
    throttled: Throttled | None = None,
    status: int = 200,
) -> Response:
    ways = await _find_ways(visit)
    codes = [way for way in ways if not (way.is_recovery or way.is_passkey)]
    passkey = next((way for way in ways if way.is_passkey), None)
    if problem is None and not codes and passkey is None:
        problem = explain_switched_off(has_recovery_codes=bool(ways))
    chosen = _find_chosen(visit, ways) or (ways[0] if len(ways) == 1 else None)
    has_passkey = passkey is not None and chosen in (None, passkey)
    # What is typed into the box: the code of one way, or of any.
    if chosen is None:
        has_box, typed = bool(codes), codes[0] if len(codes) == 1 else None
    else:
        has_box, typed = not chosen.is_passkey, None if chosen.is_passkey else chosen
    open_ways = find_open_ways(throttled)
    return visit.show(
        "sign_in/code.html",
        status=status,
        retry_after_s=throttled.retry_after_s if throttled else None,
        query=spell_query({"next": visit.aim}),
        error=error or (problem.what_to_do if problem and has_box and "credential" not in visit.form else None),
        codes_error=codes_error,
        problem=problem,
        open_now=explain_open_ways(open_ways),
        failed=bool(error or codes_error or problem),
        passkey=await visit.ask_passkey() if has_passkey else None,
        has_box=has_box,
        typed=typed,
        chosen=chosen,
        others=[way for way in ways if way != typed and not (has_passkey and way.is_passkey)],
        ways=ways,
        can_offer=_can_offer_passkey(visit),
        has_three_codes="codes" in visit.form or "three_codes" in open_ways,
        start_url="/sign-in" + spell_query({"next": visit.aim}),
        ends=Sentence("You have %(time)s left for this step.", {"time": Duration(_whole_minutes(visit))}),
    )


async def _find_ways(visit: Visit) -> list[Way]:
    """What can be asked of the person, the last used first; recovery codes last, for they are for bad days."""
    view = await visit.house.verifier.accounts.get(visit.owner.id)
    active = [a for a in view.authenticators if a.state == "active" and a.factor != FIRST_FACTOR]
    ways = [
        Way(a.id, a.factor, a.label, a.last_used_at, _way_path(visit, a.id), view.recovery_codes_left)
        for a in active
        if a.factor != PASSKEY and (a.factor != RECOVERY or view.recovery_codes_left)
    ]
    if visit.has_passkey:
        used_at = max((a.last_used_at for a in active if a.factor == PASSKEY), default=0)
        ways.append(Way(PASSKEY, PASSKEY, "", used_at, _way_path(visit, PASSKEY)))
    return sorted(ways, key=lambda way: (way.is_recovery, -way.used_at))


def _way_path(visit: Visit, way_id: str) -> str:
    """Where this way alone is offered."""
    return CODE_PATH + spell_query({"way": way_id, "next": visit.aim})


def _can_offer_passkey(visit: Visit) -> bool:
    """Whether somebody who signs in with a code may be offered a passkey: has none, and was not asked here lately."""
    has_answered = visit.house.cookies.read(visit.request, OFFERED) is not None
    may_be_added = visit.house.relying_party is not None and not visit.house.site.asker
    return may_be_added and not visit.has_passkey and not has_answered


def _whole_minutes(visit: Visit) -> int:
    """How long the pending session lives: seconds, but as nobody counts them, in minutes while there are some."""
    left_s = max(1, (visit.session.expires_at - visit.now) // MICROS_PER_S)
    return left_s // 60 * 60 or left_s


def _find_chosen(visit: Visit, ways: list[Way]) -> Way | None:
    """The way that the person chose, unless it went since."""
    asked = visit.field("authenticator") or visit.request.query_params.get("way")
    return next((way for way in ways if way.id == asked), None)


def _narrow(chosen: Way | None, code: str) -> str | None:
    """Who may judge the answer: the chosen authenticator alone, but what has a shape of its own fits into every box."""
    if chosen is None or chosen.is_recovery or chosen.is_passkey or read_answer([code]).kind != "otp":
        return None
    return chosen.id


async def _refuse_code(visit: Visit, outcome: Rejected | Throttled, *, by_three: bool) -> Response:
    problem = explain_code(outcome, visit.now, "" if by_three else visit.field("code"))
    if isinstance(outcome, Throttled):
        log_refusal(visit.sender.address, "throttled")
        return await _show_step(visit, problem=problem, throttled=outcome, status=429)
    log_refusal(visit.sender.address, "wrong_code")
    if outcome.reason == "wrong_code" and not by_three:
        await visit.house.limits.note_wrong_code(visit.owner.id, visit.field("code"))
    return await _show_step(visit, problem=problem, status=401)
