"""What every request for a page passes: the sender's network, his session and how far it reaches, whose form it is.

Denied by default: a page names the levels that reach it, and nothing else does. Whatever goes wrong behind the gate
ends here as a page that says so.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from twofold.core.attempt import PAGES
from twofold.core.clock import MICROS_PER_S
from twofold.core.session import PENDING_TTL_S, Ending, Level
from twofold.core.sign_in import Vouched
from twofold.directory import ProfileInput
from twofold.engine import Caller, NotProven
from twofold.errors import Busy, InvalidInput, OutcomeUnknown, Refused, SessionEnded, TwofoldError
from twofold.server.addresses import Sender
from twofold.server.cookies import KNOWN, SESSION
from twofold.server.forms import read_form
from twofold.server.pages.house import House
from twofold.server.pages.refusals import explain_code, explain_input, explain_refusal
from twofold.server.pages.visit import NAME, VOUCHED, Visit, spell_query
from twofold.server.problems import Problem
from twofold.server.reading import ClientGone
from twofold.server.words import Duration, Sentence
from twofold.sign_in_limits import log_refusal

Handler = Callable[[Visit], Awaitable[Response]]
Links = tuple[tuple[Sentence, str], ...]
Reach = Level | Literal["anybody", "administrator"]

#: Where a known browser may sign in from a refused network, too.
SIGN_IN = ("/sign-in", "/sign-in/passkey")
SHOW_PASSKEY = "/admin/passkey"
#: A network that an administrator refused until it is lifted: longer than any time that anybody could wait for.
UNTIL_LIFTED_S = 2**31

log: logging.Logger = logging.getLogger("twofold")


class Page(msgspec.Struct, frozen=True):
    """An address: what GET shows, what POST does, and who reaches it.

    Without `show`, GET leads to the page that has the form.
    """

    path: str
    show: Handler | str
    take: Handler | None
    reach: frozenset[Reach]

    @property
    def form_path(self) -> str | None:
        """Where the form is that is sent here, if that is another page."""
        return self.show if isinstance(self.show, str) else None

    @property
    def methods(self) -> list[str]:
        """The methods that it has."""
        return ["GET"] if self.take is None else ["GET", "POST"]


def page_route(house: House, page: Page) -> Route:
    """The route of a page; methods that it does not have are refused."""

    async def serve(request: Request) -> Response:
        return await answer(house, page, request)

    return Route(page.path, serve, methods=page.methods)


async def answer(house: House, page: Page, request: Request) -> Response:
    """The answer of a page to a request for it."""
    # Until the session is known, and if it cannot be: somebody who has none.
    visit = stranger(house, request)
    try:
        visit = await open_visit(house, request)
        response = await _serve(visit, page)
    except ClientGone:
        return Response(status_code=400)  # which nobody reads
    except Problem as problem:
        response = _tell_problem(visit, page, problem)
    except SessionEnded as ended:
        visit.forget_session()
        response = _tell_ended(visit, page, ended.ending)
    except TwofoldError as error:
        response = tell_error(visit, error, _link_on(visit, page))
    return await visit.finish(response)


def stranger(house: House, request: Request) -> Visit:
    """The request without a look at who sent it."""
    return Visit(house, request, Sender(None), found=None, ending=None, blocked_for_s=0)


async def open_visit(house: House, request: Request) -> Visit:
    """The request with its sender and its session, if it has one in force."""
    sender = house.addresses.find(request.scope)
    token = house.cookies.read(request, SESSION)
    vouched: Vouched | None = request.scope.get(VOUCHED)
    bond = vouched.bond if vouched is not None else ""
    found = await house.sign_in.find(token, request.headers.get("user-agent"), bond) if token else None
    if isinstance(found, tuple) and vouched is not None and found[1].id != vouched.account_id:
        found = None
    visit = Visit(
        house,
        request,
        sender,
        found=found if isinstance(found, tuple) else None,
        # A token that names nothing did so once: its session was ended, or went on under the next token.
        ending=None if isinstance(found, tuple) or not token else found or "ended",
        blocked_for_s=await _find_block(house, sender),
    )
    if vouched is not None:
        if visit.bearer is None and not vouched.asker:
            await _begin_vouched(visit, vouched)
        return visit
    # The second click on a button comes with the token of before: its answer must not drop the cookie of the first. Nor
    # must one that only our script reads: the page that the person opens next tells why the session is over.
    is_seen = request.headers.get("sec-fetch-dest", "document") == "document"
    if visit.ending is not None and request.method != "POST" and is_seen:
        visit.forget_session()
    return visit


async def _begin_vouched(visit: Visit, vouched: Vouched) -> None:
    """A session for whom the application around the pages vouches. A form finds none that it was made for."""
    if visit.blocked_for_s:
        return
    sign_in = visit.house.sign_in
    begun = await sign_in.begin_vouched(vouched, visit.guest, next_path=visit.next_path)
    assert begun.session is not None  # noqa: S101 - a session is what began
    await _tell_name(visit, vouched.account_id)
    found = await sign_in.find(begun.session, visit.guest.context.user_agent, vouched.bond)
    if isinstance(found, tuple):
        visit.keep(begun)
        visit.bearer, visit.account = found
        visit.ending = None


async def _tell_name(visit: Visit, account_id: str) -> None:
    """Keep what the application calls the person, where it changed: passkeys are offered under it."""
    accounts, name = visit.house.verifier.accounts, visit.request.scope.get(NAME, "")
    if name and name != (await accounts.get(account_id)).display_name:
        with suppress(InvalidInput):
            await accounts.put(account_id, ProfileInput(display_name=name), caller=Caller(PAGES))


async def _serve(visit: Visit, page: Page) -> Response:
    # Whose the known browser is, if anybody's, the step itself finds out, by the name or by the passkey.
    may_be_known = page.path in SIGN_IN and visit.house.cookies.read(visit.request, KNOWN) is not None
    if visit.blocked_for_s and visit.bearer is None and not may_be_known:
        log_refusal(visit.sender.address, "blocked")
        return tell_blocked(visit, visit.blocked_for_s)
    if (refused := _refuse(visit, page)) is not None:
        return refused
    if visit.request.method != "POST":
        return visit.go(page.show) if isinstance(page.show, str) else await page.show(visit)
    assert page.take is not None  # noqa: S101 - the route has no method without a handler
    visit.form = await read_form(visit.request)
    if not visit.is_own_form(is_open="anybody" in page.reach):
        log.warning("a form for %s was refused: not from a page of this browser and session", page.path)
        return visit.tell(
            Sentence("That form cannot be used any more"),
            Sentence(
                "It did not come from a page of this site in this browser, or you signed in anew since it was shown."
            ),
            Sentence("Open the page again and send it from there. If that does not help, let this site set cookies."),
            status=403,
            links=_link_on(visit, page),
        )
    return await page.take(visit)


def _refuse(visit: Visit, page: Page) -> Response | None:
    """The answer to whoever does not reach the page; None for all others."""
    if "anybody" in page.reach:
        return None
    is_get = visit.request.method != "POST"
    if visit.bearer is None:
        if not is_get or visit.ending is not None:
            return _tell_ended(visit, page, visit.ending or "ended")
        return visit.go(f"/sign-in{spell_query({'next': _aim(visit)})}", status=302)
    level = visit.session.level
    if level in page.reach:
        return None
    if "administrator" in page.reach and level == "full":
        if visit.owner.role == "administrator":
            is_shown = visit.session.is_user_verified or not visit.needs_passkey
            return None if is_shown or page.path == SHOW_PASSKEY else _ask_for_passkey(visit, page)
        log.warning("%s was refused: it is for administrators", page.path)
        return visit.tell(
            Sentence("This is for administrators"),
            Sentence("You are signed in as %(name)s, who is not an administrator.", {"name": visit.owner.id}),
            status=403,
            links=((Sentence("Your security"), "/security"),),
        )
    step = {"pending": "/sign-in/code", "enrolling": "/enroll", "full": visit.aim or "/security"}[level]
    if is_get:
        return visit.go(step, status=302)
    if level == "full":
        # A form of the steps before, sent again: they are done.
        return visit.go(step)
    log.warning("a form for %s was refused: the session is %s", page.path, level)
    return visit.tell(
        Sentence("One step is missing"),
        Sentence("You are not signed in completely yet."),
        status=403,
        links=((Sentence("Go on"), step),),
    )


def _ask_for_passkey(visit: Visit, page: Page) -> Response:
    """To an administrator who has a passkey that verifies its user, in a session in which none was shown."""
    if visit.request.method != "POST":
        return visit.go(f"{SHOW_PASSKEY}{spell_query({'next': _aim(visit)})}", status=302)
    log.warning("a form for %s was refused: it needs a passkey", page.path)
    path = f"{SHOW_PASSKEY}{spell_query({'next': visit.read_next(_form_address(visit, page))})}"
    return visit.tell(
        Sentence("Show your passkey first"),
        Sentence("You have one since this page was shown. Administration opens with it, and not with a code."),
        Sentence("Nothing was changed. Show your passkey, then send the form again."),
        status=403,
        links=((Sentence("Show your passkey"), path),),
    )


def _aim(visit: Visit) -> str:
    """The address that was asked for."""
    url = visit.request.url
    return url.path + (f"?{url.query}" if url.query else "")


def tell_blocked(visit: Visit, wait_s: int) -> Response:
    """To a network that had too many attempts, or that an administrator refuses."""
    if wait_s == UNTIL_LIFTED_S:
        return visit.tell(
            Sentence("Your network is refused"),
            Sentence("An administrator refused it until further notice."),
            Sentence("Use another network, or a browser in which you signed in before."),
            status=429,
        )
    return visit.tell(
        Sentence("Too many attempts from your network"),
        Sentence("Somebody on your network, perhaps not you, tried too many passwords. It is refused for a while."),
        Sentence("Wait, use another network, or a browser in which you signed in before."),
        status=429,
        wait_s=wait_s,
    )


def _form_address(visit: Visit, page: Page) -> str:
    """Where the form of the page is."""
    return page.form_path or visit.request.url.path


def _link_on(visit: Visit, page: Page) -> Links:
    """A way on: to the form that was sent, or to the start for whoever only looked."""
    if visit.request.method == "POST":
        return ((Sentence("Open the page again"), _form_address(visit, page)),)
    return ((Sentence("To the start"), "/"),)


def _tell_ended(visit: Visit, page: Page, ending: Ending) -> Response:
    time = {"time": Duration(PENDING_TTL_S)}
    why = {
        "expired": Sentence("For your safety a sign-in that is not completed ends after %(time)s.", time)
        if page.reach == {"pending"}
        else Sentence("Its time was up, for your safety."),
        "idle": Sentence("Nothing was done here for a long time."),
        "ended": Sentence("It was ended: you signed out, something about your account changed, or somebody ended it."),
    }[ending]
    aim = visit.next_path or visit.read_next(_form_address(visit, page))
    return visit.tell(
        Sentence("Your session is over"),
        why,
        Sentence("Nothing was changed. Sign in again to go on."),
        status=401,
        links=((Sentence("Sign in"), f"/sign-in{spell_query({'next': aim})}"),),
    )


def _tell_problem(visit: Visit, page: Page, problem: Problem) -> Response:
    title = {
        413: Sentence("That was too much"),
        415: Sentence("That was no form"),
    }.get(problem.status, Sentence("That could not be read"))
    return visit.tell(
        title,
        Sentence("The browser sent something else than this page asks for."),
        Sentence("Open the page again and fill it in anew."),
        status=problem.status,
        links=_link_on(visit, page),
    )


def tell_error(visit: Visit, error: TwofoldError, links: Links = ()) -> Response:
    """What went wrong in the engine, as a page."""
    tell = partial(visit.tell, links=links)
    match error:
        case NotProven(outcome=outcome):
            title, why, what_to_do, wait_s = explain_code(outcome, visit.now, visit.field("code"))
            status = 422 if wait_s is None else 429
            return tell(title, why, what_to_do, status=status, wait_s=wait_s)
        case InvalidInput():
            return tell(
                Sentence("Something is not right yet"),
                explain_input(error),
                Sentence("Go back and change it."),
                status=422,
            )
        case Refused(code=code):
            status, title, why = explain_refusal(code)
            return tell(title, why, status=status)
        case Busy(retry_after_s=wait_s, per_account=per_account):
            return tell(
                Sentence("A moment, please"),
                Sentence("More people than usual are signing in just now. Nothing was done and nothing is lost."),
                Sentence("Try again in a moment."),
                status=429 if per_account else 503,
                wait_s=wait_s,
            )
        case OutcomeUnknown():
            return tell(
                Sentence("It may have been done, or not"),
                Sentence("The connection to the database was lost at that very moment."),
                Sentence("Look whether it was done before you do it again."),
                status=503,
            )
    log.error("a page cannot be shown: %s", error)
    return tell(
        Sentence("This does not work just now"),
        Sentence("Something that the server needs cannot be reached. Nobody is let in until it is back."),
        Sentence("Try again in a moment."),
        status=503,
        wait_s=5,
    )


async def _find_block(house: House, sender: Sender) -> int:
    """For how many seconds the sender's network is refused; 0 if it is not."""
    await house.networks.refresh_if_old()
    block = house.networks.find_block(sender.address, is_behind_unknown_proxy=sender.is_behind_unknown_proxy)
    if block is None:
        return 0
    return max(1, (block.until - house.clock.now()) // MICROS_PER_S) if block.until else UNTIL_LIFTED_S
