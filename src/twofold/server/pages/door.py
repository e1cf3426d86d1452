"""The second step as JSON, where the pages are inside an application: for its clients that show no pages of ours.

`GET state`, `POST challenge`, `POST verify`, and `POST verify` with an `act` for what takes a fresh proof. A browser
sends JSON to its own origin only, so there is no token to fetch first; who asks is whom the application vouches for.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from twofold.core.account import FIRST_FACTOR
from twofold.core.decision import Rejected, Throttled, Verified
from twofold.engine import NotProven
from twofold.errors import InvalidInput, SessionEnded, TwofoldError
from twofold.server import csrf
from twofold.server.host import OUTSIDE
from twofold.server.pages.gate import open_visit
from twofold.server.pages.house import House
from twofold.server.pages.step_up import Strength, name_act, purpose_of
from twofold.server.pages.visit import Visit
from twofold.server.problems import Problem, as_problem, dump_problem, explain, throttled
from twofold.server.reading import ClientGone, read_body, read_headers

Answer = Mapping[str, object]
B = TypeVar("B", bound=msgspec.Struct)


class ActBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a proof is for: an `act` of the application, its path as it answered `step_up_required` with, and how much
    it takes; without one it is for being let in."""

    act: str | None = None
    at_least: Strength = "code"


class AnswerBody(ActBody, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A `code`, or the `credential` that a passkey gave for a `challenge`: the browser's own JSON."""

    code: str | None = None
    challenge: str | None = None
    credential: dict[str, Any] | None = None


def door_routes(house: House) -> list[Route]:
    """The three addresses."""
    return [
        _route(house, "/state", "GET", _tell_state),
        _route(house, "/challenge", "POST", _open_challenge),
        _route(house, "/verify", "POST", _verify),
    ]


def _route(house: House, path: str, method: str, call: Callable[[Visit], Awaitable[Answer]]) -> Route:
    async def serve(request: Request) -> Response:
        try:
            if method == "POST" and not csrf.is_own_form(request, house.public_url):
                raise Problem(403, "forbidden", f"this is answered to pages of {house.public_url} alone")
            visit = await open_visit(house, request)
            if visit.bearer is None:
                raise Problem(401, "unauthorized", "nobody is signed in to the application")
            body = msgspec.json.encode(await call(visit))
            return await visit.finish(Response(body, media_type="application/json"))
        except ClientGone:
            return Response(status_code=400)  # which nobody reads
        except SessionEnded:
            problem = Problem(401, "unauthorized", "the session ended; sign in again")
        except TwofoldError as error:
            problem = as_problem(error)
        except Problem as raised:
            problem = raised
        body, headers = dump_problem(problem)
        response = Response(body, problem.status)
        response.raw_headers = headers
        return response

    return Route(path, serve, methods=[method])


async def _tell_state(visit: Visit) -> Answer:
    """How far the session reaches: `pending`, `enrolling` or `full`; and what the person can show, the best first."""
    kinds = {a.factor for a in visit.owner.authenticators if a.state == "active"} - {FIRST_FACTOR}
    ways = [kind for kind in ("webauthn", "totp", "hotp", "yubico_otp", "recovery_codes") if kind in kinds]
    if not visit.has_passkey:
        ways = [way for way in ways if way != "webauthn"]
    return {"account": visit.owner.id, "state": visit.session.level, "ways": ways}


async def _open_challenge(visit: Visit) -> Answer:
    """The question for one of the person's passkeys, for just that act, if one is named."""
    body = await _read(visit, ActBody)
    asked = await visit.ask_passkey(_purpose(body), needs_passkey=body.at_least == "passkey")
    if asked is None:
        raise Problem(409, "no_factor", "there is no passkey that works here")
    return {"challenge": asked.challenge, "public_key": msgspec.Raw(asked.options.encode())}


async def _verify(visit: Visit) -> Answer:
    """In, or fresh for the act; otherwise why not."""
    body = await _read(visit, AnswerBody)
    if (body.code is None) == (body.credential is None) or (body.credential is None) != (body.challenge is None):
        raise InvalidInput("code", "either code, or credential with its challenge")
    visit.form = {
        "code": body.code or "",
        "challenge": body.challenge or "",
        "credential": "" if body.credential is None else msgspec.json.encode(body.credential).decode(),
    }
    if body.act is None and visit.session.level != "pending":
        raise Problem(
            409, "conflict", f"the session is {visit.session.level}: there is nothing to answer without an act"
        )
    if body.act is not None and visit.session.level != "full":
        raise Problem(403, "second_factor_required", "answer without an act first")
    if body.act is None and body.code is not None:
        outcome = await visit.house.verifier.verify(visit.owner.id, code=body.code, caller=await visit.caller())
    else:
        assert visit.bearer is not None  # noqa: S101 - the route has looked
        caller = await visit.caller(purpose=_purpose(body), needs_passkey=body.at_least == "passkey")
        try:
            visit.keep(await visit.house.sign_in.prove(visit.bearer, caller))
        except NotProven as wrong:
            outcome = wrong.outcome
        else:
            return {"verified": True}
    return _show(visit, outcome)


def _show(visit: Visit, outcome: Verified | Rejected | Throttled) -> Answer:
    match outcome:
        case Throttled():
            raise throttled(outcome)
        case Rejected(reason=reason, retry_after_s=wait_s, clock_offset_s=offset_s):
            more = {"retry_after": wait_s, "clock_offset_s": offset_s}
            return {"verified": False, "reason": reason} | {name: s for name, s in more.items() if s is not None}
    visit.keep(outcome)
    left = outcome.recovery_codes_left
    return {"verified": True} | ({} if left is None else {"recovery_codes_left": left})


def _purpose(body: ActBody) -> str:
    return "" if body.act is None else purpose_of(name_act(OUTSIDE + body.act), body.at_least)


async def _read(visit: Visit, kind: type[B]) -> B:
    """The body; raises `Problem`."""
    request = visit.request
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "unsupported_media_type", "send application/json")
    raw = await read_body(request.receive, read_headers(request.scope))
    try:
        return msgspec.json.decode(raw or b"{}", type=kind)
    except msgspec.ValidationError as error:
        raise explain(error, kind) from None
    except msgspec.DecodeError:
        raise Problem(400, "bad_request", "the body is not JSON") from None
