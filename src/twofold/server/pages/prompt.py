"""The pages of a hosted prompt: the second step and enrolling, as far as one application asks for them.

They lie below the link itself, under which alone their session counts. Its cookie is another one than that of whoever
is signed in at this site, so a link that somebody sends signs nobody in, and out of nothing.
"""

from __future__ import annotations

from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from twofold.core.account import without_expired
from twofold.core.prompt import Prompt, bond_of, read_prompt
from twofold.core.sign_in import Vouched
from twofold.core.ticket import Ticket
from twofold.errors import InvalidInput, Refused, SessionEnded, TwofoldError
from twofold.prompts import Prompts
from twofold.server.cookies import PROMPT, SESSION, Cookies
from twofold.server.host import Host
from twofold.server.pages import enroll, enroll_passkey, enroll_totp, second_step, sign_in
from twofold.server.pages.gate import Page, Reach, answer, stranger, tell_error
from twofold.server.pages.house import House
from twofold.server.pages.visit import NAME, VOUCHED, Visit, spell_query
from twofold.server.words import Sentence

_ENTRY = ""
_STATIC = "/static/"


class PromptHost(Host, frozen=True):
    """Where the pages of one prompt are: below its link, with the styles and scripts of the site."""

    def at(self, path: str) -> str:
        """The address of a path as the pages write it."""
        if path.startswith(_STATIC):
            return path
        return self.prefix if path == "/" else self.prefix + path


class PromptHouse(House, frozen=True, kw_only=True):
    """What the pages of one prompt work with."""

    prompts: Prompts
    ticket: Ticket
    prompt: Prompt


def prompt_routes(house: House, prompts: Prompts) -> list[Route]:
    """The pages of every prompt as routes."""
    return [_route(house, prompts, page) for page in PAGES]


async def open_prompt(visit: Visit) -> Response:
    """The link itself: the first browser gets the prompt, and goes on where it is."""
    house = _house(visit)
    if visit.bearer is None:
        if _is_looked_up(visit.request):
            return Response(status_code=403)
        try:
            visit.keep(await house.prompts.open(house.ticket, visit.guest))
        except Refused as refused:
            return _tell_closed(visit, refused)
    return visit.go(second_step.CODE_PATH)


async def show_finish(visit: Visit) -> Response:
    """Back to the application with the code for what was proven; the session is over."""
    house = _house(visit)
    try:
        code = await house.prompts.finish(house.ticket, await visit.caller())
    except SessionEnded:
        visit.forget_session()
        return _tell_over(visit)
    return _lead_back(visit, code=code)


async def show_cancel(visit: Visit) -> Response:
    """Ask whether to go back: a link alone must not do it."""
    return visit.show("prompt/cancel.html")


async def take_cancel(visit: Visit) -> Response:
    """Back to the application without an answer; the session is over."""
    house = _house(visit)
    await house.prompts.cancel(house.ticket, await visit.caller())
    return _lead_back(visit, error="access_denied")


ANYBODY: frozenset[Reach] = frozenset({"anybody"})
PENDING: frozenset[Reach] = frozenset({"pending"})
ENROLLING: frozenset[Reach] = frozenset({"enrolling"})
FULL: frozenset[Reach] = frozenset({"full"})
ANSWERING = PENDING | ENROLLING | FULL

#: Below the link. Whoever answered reaches nothing but the way back, which is where the other pages lead from there.
PAGES = (
    Page(_ENTRY, open_prompt, None, ANYBODY),
    Page("/sign-in/code", second_step.show_code, second_step.take_code, PENDING),
    Page("/sign-in/code/passkey", "/sign-in/code", second_step.take_passkey, PENDING),
    Page("/sign-in/help", sign_in.show_help, None, ANSWERING),
    Page("/enroll", enroll.show_start, enroll.take_start, ENROLLING),
    # Sent again, what was confirmed shows its recovery codes again.
    Page("/enroll/totp", enroll_totp.show_totp, enroll_totp.take_totp, ENROLLING | FULL),
    Page("/enroll/webauthn", enroll_passkey.show_passkey, enroll_passkey.take_passkey, ENROLLING | FULL),
    Page("/enroll/cancel", "/enroll", enroll.take_cancel, ENROLLING),
    Page("/enroll/saved", "/enroll/done", enroll.take_saved, FULL),
    Page("/enroll/done", show_finish, None, FULL),
    Page("/security", show_finish, None, FULL),
    Page("/sign-in", "/sign-out", None, ANSWERING),
    Page("/sign-out", show_cancel, take_cancel, ANSWERING),
)


def _route(house: House, prompts: Prompts, page: Page) -> Route:
    async def serve(request: Request) -> Response:
        visit = stranger(house, request)
        try:
            inside, here = await _enter(house, prompts, request, page)
            if page.path == _ENTRY or await _has_session(inside, here):
                return await answer(inside, page, here)
            visit = stranger(inside, here)
            response = _tell_over(visit)
        except InvalidInput:
            response = _tell_unknown(visit)
        except TwofoldError as error:
            response = tell_error(visit, error, ())
        return await visit.finish(response)

    return Route(f"/prompt/{{link}}{page.path}", serve, methods=page.methods)


async def _enter(house: House, prompts: Prompts, request: Request, page: Page) -> tuple[PromptHouse, Request]:
    """The pages below this link, and the request as it is there. Raises `InvalidInput` for what is no link of ours."""
    link = request.path_params["link"]
    ticket = await prompts.find(link)
    prompt = read_prompt(ticket)
    inside = msgspec.structs.replace(
        house,
        cookies=Cookies(house.public_url, session=PROMPT),
        site=msgspec.structs.replace(house.site, sign_out=None, asker=prompt.asker),
        host=PromptHost(root="", prefix=f"/prompt/{link}", login_url="/"),
    )
    vouched = Vouched(ticket.account_id, bond_of(ticket), ticket.application)
    scope = {**request.scope, "path": page.path or "/", VOUCHED: vouched, NAME: prompt.person}
    here = Request(scope, request.receive)
    return PromptHouse(**msgspec.structs.asdict(inside), prompts=prompts, ticket=ticket, prompt=prompt), here


async def _has_session(house: PromptHouse, request: Request) -> bool:
    """Whether the prompt goes on here. To enroll it does while there is nothing yet: whoever got a second factor
    meanwhile, in another browser perhaps, is asked for that one, by a prompt of its own."""
    token = house.cookies.read(request, SESSION)
    user_agent, bond = request.headers.get("user-agent"), bond_of(house.ticket)
    found = await house.sign_in.find(token, user_agent, bond) if token else None
    if not isinstance(found, tuple):
        return False
    bearer, account = found
    return bearer.session.level != "enrolling" or not without_expired(account, house.clock.now()).is_bound


def _is_looked_up(request: Request) -> bool:
    """Whether no person opens the link: a program looks what is there, or a browser fetches ahead, and without its
    cookies."""
    purposes = request.headers.get("sec-purpose", "") + request.headers.get("purpose", "")
    return request.method != "GET" or "prefetch" in purposes


def _house(visit: Visit) -> PromptHouse:
    return cast(PromptHouse, visit.house)


def _lead_back(visit: Visit, **told: str) -> Response:
    visit.forget_session()
    prompt = _house(visit).prompt
    url = _back_url(prompt, **told, state=prompt.state)
    response = visit.show("prompt/back.html", url=url, is_answered="code" in told)
    response.headers["refresh"] = f"0;url={url}"
    return response


def _back_url(prompt: Prompt, **told: str) -> str:
    """The registered address as it is, with the answer behind it."""
    query = spell_query(told).removeprefix("?")
    return f"{prompt.return_to}{'&' if '?' in prompt.return_to else '?'}{query}"


def _tell_unknown(visit: Visit) -> Response:
    return visit.tell(
        Sentence("This link is not right"),
        Sentence("It was not made here, it was cut off on the way, or it is much too old."),
        Sentence("Go back to where you came from and begin again."),
        status=403,
    )


def _tell_closed(visit: Visit, refused: Refused) -> Response:
    """To a browser that does not get the prompt."""
    prompt = _house(visit).prompt
    why = {
        "prompt_used": Sentence("It was opened before, here or in another browser. Each link opens once."),
        "prompt_mismatch": Sentence("It was not opened within five minutes, or something about your account changed."),
        "disabled": Sentence("Your account is disabled. An administrator can enable it again."),
        "no_factor": Sentence("You have no second factor, and none can be set up here."),
    }.get(refused.code)
    if why is None:
        raise refused
    return visit.tell(
        Sentence("This link cannot be used any more"),
        why,
        Sentence("Go back to %(name)s and begin again.", {"name": prompt.asker}),
        status=403,
        links=((Sentence("Back to %(name)s", {"name": prompt.asker}), _back_url(prompt, error="access_denied")),),
    )


def _tell_over(visit: Visit) -> Response:
    """To a browser that has no session for this prompt, or none any more."""
    prompt = _house(visit).prompt
    way_back = Sentence("Back to %(name)s", {"name": prompt.asker})
    return visit.tell(
        Sentence("This is over"),
        Sentence(
            "You were asked here by %(name)s, and have answered, gone back, or taken too long.", {"name": prompt.asker}
        ),
        Sentence("Nothing more is needed here. If %(name)s still asks, begin again there.", {"name": prompt.asker}),
        status=401,
        # A second click may have come too late for the session, and early enough for the next one.
        links=(((Sentence("Go on"), "/"),) if visit.request.method == "POST" else ())
        + ((way_back, _back_url(prompt, error="access_denied")),),
    )
