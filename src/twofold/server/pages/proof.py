"""The fresh proof that comes with an act: the form that asks for a passkey or a code, and why it was not taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from starlette.responses import Response

from twofold.core.account import FIRST_FACTOR, RECOVERY
from twofold.core.decision import Rejected
from twofold.core.factor import read_answer
from twofold.engine import Caller, NotProven
from twofold.errors import InvalidInput
from twofold.server.pages.refusals import Explanation, explain_code
from twofold.server.pages.visit import AskedPasskey, Visit
from twofold.server.words import Sentence
from twofold.sign_in_limits import log_refusal

Errors = Mapping[str, Sentence]
Box = Literal["codes", "recovery", "link", "none"]


class Asked(NamedTuple):
    """What a form asks for. `passkey` is ready where she has one that works here; `box` is for any code, for recovery
    codes, behind a link to one for recovery codes, or not there. `is_strict`: what an app shows is not taken."""

    passkey: AskedPasskey | None
    box: Box
    is_strict: bool = False


A_CODE = Asked(None, "codes")


async def call_with_proof(
    visit: Visit, purpose: str, *, is_for_others: bool = False, ends_others: bool = False
) -> Caller:
    """The visitor, with what the form brings as the proof for just this act.

    Who administers and has a passkey that verifies its user shows that one, or for an act on her own account a recovery
    code: whoever got hold of an app's code must not make himself other ways in. Raises `InvalidInput` without a proof.
    """
    if not visit.has_answer:
        raise InvalidInput("code", "a fresh code")
    needs_passkey = visit.needs_passkey
    if not (is_for_others or visit.field("credential")):
        needs_passkey = needs_passkey and read_answer([visit.field("code")]).kind != "recovery"
    try:
        return await visit.caller(purpose=purpose, needs_passkey=needs_passkey, is_once=True, ends_others=ends_others)
    except InvalidInput as error:
        if not visit.field("credential"):
            raise
        # No browser sends what cannot be read.
        raise NotProven(Rejected("wrong_credential")) from error


async def prove(visit: Visit, purpose: str) -> None:
    """Judge the form's proof for just this act on others; the browser keeps the session's next token. Sent again, the
    same form is proven by the proof that it used up. Raises `NotProven`, `InvalidInput`."""
    caller = await call_with_proof(visit, purpose, is_for_others=True)
    visit.keep(await visit.house.administration.prove(caller))


async def explain_unproven(visit: Visit, wrong: NotProven) -> Explanation:
    """Why the proof is not right; a stolen session that guesses is seen in the log, too."""
    typed = "" if visit.field("credential") else visit.field("code")
    if isinstance(wrong.outcome, Rejected):
        log_refusal(visit.sender.address, "wrong_code" if typed else "wrong_passkey")
        if wrong.outcome.reason == "wrong_code":
            await visit.house.limits.note_wrong_code(visit.owner.id, typed)
    else:
        log_refusal(visit.sender.address, "throttled")
    return explain_code(wrong.outcome, visit.now, typed)


async def ask(
    visit: Visit,
    template: str,
    problem: Explanation | None,
    errors: Errors | None,
    *,
    purpose: str,
    is_for_others: bool = False,
    **values: Any,
) -> Response:
    """A form that asks for a proof for just this purpose, and what was wrong the last time: with the proof, or with
    fields by name."""
    needs_passkey = visit.needs_passkey
    passkey = await visit.ask_passkey(purpose, needs_passkey=needs_passkey)
    box = "codes" if passkey is None else _find_box(visit, is_strict=needs_passkey, is_for_others=is_for_others)
    return show_form(visit, template, problem, errors, Asked(passkey, box, needs_passkey), **values)


def show_form(
    visit: Visit,
    template: str,
    problem: Explanation | None,
    errors: Errors | None,
    asked: Asked = A_CODE,
    **values: Any,
) -> Response:
    """The form; without more it asks for a code."""
    wait_s = problem.wait_s if problem else None
    errors = dict(errors or {})
    if problem is not None and asked.box in ("codes", "recovery") and not visit.field("credential"):
        # What to do is said at the box itself, where whoever cannot see the page finds it.
        errors.setdefault("code", problem.what_to_do)
    return visit.show(
        template,
        status=429 if wait_s else 422 if problem or errors else 200,
        retry_after_s=wait_s,
        problem=problem,
        errors=errors,
        failed=bool(problem or errors),
        asked=asked,
        has_letters=_has_letters(visit),
        **values,
    )


def gives_codes(visit: Visit, *, digits_only: bool = False) -> bool:
    """Whether something of the visitor's shows codes to type: digits, or other ones too."""
    kinds = {a.factor for a in visit.owner.authenticators if a.state == "active"}
    return bool(kinds & {"totp", "hotp"} if digits_only else kinds - {FIRST_FACTOR, RECOVERY, "webauthn"})


def _find_box(visit: Visit, *, is_strict: bool, is_for_others: bool) -> Box:
    """Which codes can be typed beside a passkey."""
    if not is_strict and gives_codes(visit):
        return "codes"
    has_recovery_codes = any(a.factor == RECOVERY for a in visit.owner.authenticators)
    if (is_strict and is_for_others) or not has_recovery_codes:
        return "none"
    return "recovery" if _has_letters(visit) else "link"


def _has_letters(visit: Visit) -> bool:
    """Whether a recovery code is to be typed, or was."""
    return "letters" in visit.request.query_params or any(map(str.isalpha, visit.field("code")))
