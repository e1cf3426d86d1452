"""The fresh code that comes with an act: the form that asks for it, and why it was not taken."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from twofold.core.decision import Rejected
from twofold.engine import NotProven
from twofold.errors import InvalidInput
from twofold.server.pages.refusals import Explanation, explain_code
from twofold.server.pages.visit import Visit
from twofold.server.words import Sentence
from twofold.sign_in_limits import log_refusal


async def prove(visit: Visit, purpose: str) -> None:
    """Judge the form's code for just this; the browser keeps the session's next token. Sent again, the same form is
    proven by the code that it used up. Raises `NotProven`, `InvalidInput`."""
    if not visit.field("code").strip():
        raise InvalidInput("code", "a fresh code")
    caller = await visit.caller(purpose=purpose, is_once=True)
    visit.keep(await visit.house.administration.prove(caller))


async def explain_unproven(visit: Visit, wrong: NotProven) -> Explanation:
    """Why the code is not right; a stolen session that guesses is seen in the log, too."""
    if isinstance(wrong.outcome, Rejected):
        log_refusal(visit.sender.address, "wrong_code")
        if wrong.outcome.reason == "wrong_code":
            await visit.house.limits.note_wrong_code(visit.owner.id, visit.field("code"))
    else:
        log_refusal(visit.sender.address, "throttled")
    return explain_code(wrong.outcome, visit.now, visit.field("code"))


def ask(
    visit: Visit, template: str, problem: Explanation | None, errors: Mapping[str, Sentence] | None, **values: Any
) -> Response:
    """A form with a box for the code, and what was wrong the last time: with the code, or with fields by name."""
    wait_s = problem.wait_s if problem else None
    errors = dict(errors or {})
    if problem is not None:
        # What to do is said at the box itself, where whoever cannot see the page finds it.
        errors.setdefault("code", problem.what_to_do)
    return visit.show(
        template,
        status=429 if wait_s else 422 if problem or errors else 200,
        retry_after_s=wait_s,
        problem=problem,
        errors=errors,
        failed=bool(errors),
        has_letters="letters" in visit.request.query_params or any(map(str.isalpha, visit.field("code"))),
        **values,
    )
