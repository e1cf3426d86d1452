"""Where a person is signed in, in which browsers she was before, and what happened to her account.

Ending something needs no code: whoever has the session may always make it less.
"""

from __future__ import annotations

from starlette.responses import Response

from twofold.core.account import KNOWN_BROWSER_TTL_S, Account, KnownBrowser, find_known_browser
from twofold.core.clock import MICROS_PER_S
from twofold.server.pages.activity_words import tell
from twofold.server.pages.visit import Visit
from twofold.server.words import Sentence

PAGE_EVENTS = 50


async def take_browser(visit: Visit) -> Response:
    """A known browser is a new one from now on."""
    caller = await visit.caller(is_once=True)
    await visit.house.sign_in.forget_browser(visit.owner.id, visit.path("id"), caller)
    return visit.go("/security?done=browser")


async def take_session(visit: Visit) -> Response:
    """End one session; one's own is ended by signing out."""
    id_ = visit.path("id")
    if id_ == visit.session.id:
        return visit.go("/sign-out")
    if all(session.id != id_ for session in await visit.house.sign_in.list_sessions(visit.owner)):
        return visit.tell(
            Sentence("This session is over"),
            Sentence("It has ended before, so nobody can use it."),
            status=404,
            links=((Sentence("Your security"), "/security"),),
        )
    await visit.house.sign_in.end_sessions(visit.owner.id, await visit.caller(is_once=True), ids=(id_,))
    return visit.go("/security?done=session")


async def take_others(visit: Visit) -> Response:
    """End all sessions but this one."""
    await visit.house.sign_in.end_sessions(visit.owner.id, await visit.caller(), but=visit.session.id)
    return visit.go("/security?done=sessions")


async def show_activity(visit: Visit) -> Response:
    """What happened, newest first, page by page."""
    text = visit.request.query_params.get("before", "")
    before = int(text) if text.isascii() and text.isdecimal() and len(text) < 16 else None
    found = await visit.house.verifier.accounts.latest_activity(visit.owner, count=PAGE_EVENTS, before_seq=before)
    oldest = found[-1].seq if found else 0
    return visit.show(
        "security/activity.html",
        activity=[tell(each, visit.owner) for each in found],
        older_href=f"/security/activity?before={oldest}" if oldest > visit.owner.head.erased + 1 else None,
        newest_href="/security/activity" if before is not None else None,
    )


def find_this_browser(visit: Visit) -> KnownBrowser | None:
    """The known browser that the visit comes from."""
    return find_known_browser(visit.owner, visit.context.browser, visit.now)


def list_browsers(account: Account, now: int) -> list[KnownBrowser]:
    """The browsers that count as known, the one seen last first."""
    known = [b for b in account.known_browsers if now < b.seen_at + KNOWN_BROWSER_TTL_S * MICROS_PER_S]
    return sorted(known, key=lambda browser: browser.seen_at, reverse=True)
