"""Errors of the API as RFC 9457 problem documents: what an exception of the engine means in HTTP.

Every refusal has a stable `code`; `detail` is a sentence for the person who reads the log of the calling program.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Literal, get_args, get_origin, get_type_hints

import msgspec

from twofold.core.decision import Throttled, Way
from twofold.errors import Busy, InvalidInput, OutcomeUnknown, RefusalCode, Refused, TwofoldError

DETAIL_MAX = 300
MEDIA_TYPE = b"application/problem+json"

#: What a refusal means: 403 the caller's rights, 404 no such thing, 409 the state of the account, 422 the request.
STATUS_OF_REFUSAL: Mapping[RefusalCode, int] = {
    "not_found": 404,
    "no_factor": 409,
    "too_many": 409,
    "disabled": 409,
    "conflict": 409,
    "forbidden": 403,
    "step_up_required": 403,
    "receipt_mismatch": 403,
    "receipt_used": 409,
    "prompt_mismatch": 403,
    "prompt_used": 409,
    "idempotency_mismatch": 422,
    "invalid": 422,
}


class Problem(Exception):
    """An answer that is an error. `retry_after_s` is at least 1; `headers` go out with the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        *,
        field: str | None = None,
        retry_after_s: int | None = None,
        ways: Iterable[Way] | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.field = field
        self.detail = detail
        self.retry_after_s: int | None = None if retry_after_s is None else max(1, retry_after_s)
        self.ways: tuple[Way, ...] | None = None if ways is None else tuple(ways)
        self.headers: tuple[tuple[bytes, bytes], ...] = tuple(headers)


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A problem document (RFC 9457). `code` is stable; programs go by it, people read `detail`."""

    title: str
    status: int
    code: str
    detail: str
    field: str | None = None
    retry_after: int | None = None
    ways: tuple[Way, ...] | None = None


_encode = msgspec.json.Encoder().encode


def dump_problem(problem: Problem) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    """The body and the headers of the answer."""
    body = _encode(
        ProblemAnswer(
            title=HTTPStatus(problem.status).phrase,
            status=problem.status,
            code=problem.code,
            detail=problem.detail[:DETAIL_MAX],
            field=problem.field and problem.field[:DETAIL_MAX],
            retry_after=problem.retry_after_s,
            ways=problem.ways,
        )
    )
    headers = [(b"content-type", MEDIA_TYPE), (b"content-length", str(len(body)).encode()), *problem.headers]
    if problem.retry_after_s is not None:
        headers.append((b"retry-after", str(problem.retry_after_s).encode()))
    return body, headers


def as_problem(error: TwofoldError) -> Problem:
    """What the engine raised, in the words of HTTP."""
    match error:
        case Refused(code=code, detail=detail):
            return Problem(STATUS_OF_REFUSAL[code], code, detail)
        case InvalidInput(field="step_up"):
            # What is no receipt of ours is no step-up either: the same answer as without one.
            return Problem(403, "step_up_required", "step_up: expected a fresh receipt that was issued here")
        case InvalidInput(field="receipt"):
            return Problem(403, "receipt_mismatch", "this is no receipt that was issued here")
        case InvalidInput(field=field):
            return Problem(422, "invalid", str(error), field=field)
        case Busy(per_account=True, retry_after_s=wait):
            return Problem(429, "throttled", "too many attempts wait for this already", retry_after_s=wait, ways=())
        case Busy(retry_after_s=wait):
            return Problem(503, "busy", "too many attempts wait already; nothing was judged", retry_after_s=wait)
        case OutcomeUnknown():
            detail = "it is not known whether this happened; repeat it with the same Idempotency-Key"
            return Problem(503, "outcome_unknown", detail, retry_after_s=1)
    return unavailable()


def unavailable() -> Problem:
    """What cannot be answered now; why is in the log, not in the answer."""
    return Problem(503, "unavailable", "this cannot be answered now; nobody is let in meanwhile", retry_after_s=1)


def throttled(outcome: Throttled) -> Problem:
    """An answer that was not judged, and the ways in that stay open."""
    detail = "too many answers were wrong: this one was not judged"
    return Problem(429, "throttled", detail, retry_after_s=outcome.retry_after_s, ways=outcome.ways)


def explain(error: msgspec.ValidationError, body: type) -> Problem:
    """A body of the wrong shape: the member that is wrong, and what was expected there."""
    text, _, where = str(error).rpartition(" - at ") if " - at `" in str(error) else (str(error), "", "")
    field = where.strip("`").removeprefix("$").removeprefix(".")
    if named := _NAMED.search(text):
        field = ".".join(part for part in (field, named[1]) if part)
    if text.startswith("Invalid enum value"):
        text = f"Expected one of {', '.join(_choices(body, field))}"
    return Problem(422, "invalid", f"{field or 'body'}: {text[:1].lower()}{text[1:]}", field=field or "body")


_NAMED = re.compile(r"(?:unknown|required) field `(.*)`$", re.DOTALL)


def _choices(body: type, field: str) -> list[str]:
    """The words that a member may be, where its type lists them."""
    annotation = get_type_hints(body).get(field)
    kinds = [annotation, *get_args(annotation)]
    return [word for kind in kinds if get_origin(kind) is Literal for word in get_args(kind)]
