"""READ FIRST of the integrations: who is let through to an application, whatever door he came in by.

The guard decides by state. At each request the application says who is signed in; whoever has a second factor, or must
have one, gets no further than Twofold's pages until a session of Twofold is full: of just that account, and tied to
just that login. So no door has to be known, and none can be forgotten. Nothing here knows a framework.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import ContextVar
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from starlette.requests import Request

from twofold.bootstrap import Deployment, open_embedded
from twofold.config import Settings, check_public_url, environment, is_loopback
from twofold.core.account import Account
from twofold.core.audit import Event
from twofold.core.clock import MICROS_PER_S
from twofold.core.session import Session
from twofold.core.sign_in import Bearer, Vouched
from twofold.engine import Caller
from twofold.errors import ConfigurationError, Refused, TwofoldError
from twofold.integrations.answers import CLOSED, answer, go, problem, query, read_form, scope, split_page, with_query
from twofold.integrations.arrival import (
    FRESH_S_MAX,
    SAFE,
    Answer,
    Arrival,
    Demand,
    Happened,
    Login,
    Options,
    Page,
    Person,
    check_person,
    find_login,
)
from twofold.server import csrf
from twofold.server.cookies import SESSION
from twofold.server.embedded import EmbeddedPages, Whole
from twofold.server.host import Host, outside
from twofold.server.pages.step_up import FRESH, WAITING, Strength, name_act, purpose_of
from twofold.server.problems import as_problem, dump_problem
from twofold.verifier import Verifier

__all__ = [
    "PROBING",
    "Answer",
    "Arrival",
    "Demand",
    "Guard",
    "Happened",
    "Login",
    "Options",
    "Page",
    "Person",
    "check_person",
    "find_login",
]

#: While it is set, everybody is refused at the gate: `twofold check` tries whether there is one before a route.
PROBING: ContextVar[bool] = ContextVar("twofold_probing", default=False)
#: Under how many names of localhost the pages are kept; no one else's name is ever answered to without PUBLIC_URL.
ORIGINS_MAX = 16

log: logging.Logger = logging.getLogger("twofold")


Administrators = Iterable[str | int] | Callable[[], Iterable[str | int]]
Rule = Callable[[Any], bool]
Listener = Callable[[Happened], object]


class Guard:
    """Stands before one application. It belongs to the event loop that opened it; end it with `close`."""

    def __init__(self, deployment: Deployment, options: Options) -> None:
        self._deployment = deployment
        self.options = options
        self.verifier: Verifier = deployment.verifier
        self._public_url = deployment.settings.public_url
        self._pages: dict[tuple[str, str], EmbeddedPages] = {}
        self._rule: Rule = lambda _: False
        self._listeners: dict[str, list[Listener]] = {}
        self._told = ThreadPoolExecutor(1, "twofold-events")
        deployment.engine.listener = self._hear

    @classmethod
    async def open(cls, options: Options) -> Self:
        """A guard over the database of these options.

        Raises `ConfigurationError`, one line, when the database or its key cannot be opened.
        """
        given = options.public_url or environment().get("TWOFOLD_PUBLIC_URL")
        public_url = check_public_url(given) if given else None
        _check_database(options.database, public_url)
        deployment = await open_embedded(
            options.database,
            issuer=options.issuer,
            public_url=public_url,
            session_s=options.session_hours * 3600,
        )
        return cls(deployment, options)

    async def close(self) -> None:
        """Finish what is under way, tell of it, and let the database go."""
        await asyncio.to_thread(self.finish_telling)
        await self.let_go()

    def finish_telling(self) -> None:
        """Wait until the listeners have heard all that happened so far."""
        self._told.submit(int).result()

    async def let_go(self) -> None:
        """Close without waiting for the listeners: one of them may be what waits for this, such as to fork."""
        await self.verifier.close()
        self._told.shutdown(wait=False)

    async def require(self, rule: Rule, administrators: Administrators) -> None:
        """From now on people for whom the rule is true get in with a second factor only, and are led to enroll one.

        Raises `ConfigurationError` while none of the administrators has one: nobody could help the others.
        """
        ids = [str(each) for each in (administrators() if callable(administrators) else administrators)]
        for account_id in ids:
            account = await self._deployment.engine.load(account_id)
            if account is not None and account.has_second_factor:
                self._rule = rule
                return
        named = ", ".join(ids[:5]) or "there are none"
        raise ConfigurationError(
            f"require: no administrator has a second factor yet ({named}), so nobody could help people who get stuck:"
            f" let one of them sign in and enroll at {self.options.prefix}/, then start with require"
        )

    def on(self, kind: str, listener: Listener) -> None:
        """Call the listener after each event of this kind that this process wrote down, or of every kind for `*`; in
        order, in a thread of its own. What it raises is logged."""
        self._listeners.setdefault(kind, []).append(listener)

    async def admit(
        self, arrival: Arrival, person: Person | None, login: Login, *, is_required: bool | None = None
    ) -> Answer | None:
        """Whether a request goes on to the application: None, or what is answered instead. For every request that is
        not for the pages themselves. `is_required` is what `require`'s rule says, where it was asked before."""
        if PROBING.get():
            return CLOSED
        try:
            if person is None:
                if login.has_ended:
                    await self._end(arrival, login)
                return None
            if self.options.is_way_in(arrival.path) or await self._find_full(arrival, person, login) is not None:
                return None
            account = await self._deployment.engine.load(person.id)
            is_bound = account is not None and (account.is_bound or account.is_disabled)
            if not is_bound and not (self._rule(subject_of(person)) if is_required is None else is_required):
                return None
            return self._lead(arrival, account)
        except TwofoldError as error:
            return await self._fail(arrival, error)

    async def check(
        self, arrival: Arrival, person: Person | None, login: Login, demand: Demand, body: bytes | None
    ) -> Answer | None:
        """Whether a view gets what it asks for: None, or what is answered instead. `body` is that of the request; None
        for one that is no form, or too large to wait."""
        if PROBING.get():
            return CLOSED
        try:
            if person is None:
                return self._lead_to_login(arrival)
            found = await self._find_full(arrival, person, login)
            if found is None:
                return self._lead(arrival, await self._deployment.engine.load(person.id))
            if demand.minutes is None:
                return None
            pairs = read_form(arrival, body)
            bearer = found[0]
            is_fresh = self._is_fresh(bearer.session, arrival, demand, pairs)
            if is_fresh and (arrival.method in SAFE or await self._use_grant(bearer)):
                return None
            return await self._ask_fresh(arrival, person, login, demand, body if pairs is not None else None)
        except TwofoldError as error:
            return await self._fail(arrival, error)

    async def serve(self, arrival: Arrival, person: Person | None, login: Login, body: bytes) -> Answer:
        """One of the pages; `arrival.path` is without the prefix."""
        pages = self._find_pages(arrival)
        if isinstance(pages, Answer):
            return pages
        return await self._show(pages, arrival, person, login, body)

    # ---- who it is ----

    def _bond(self, login: Login) -> str:
        return self._deployment.keyring.index_digest(b"bond", login.name.encode()).hex()

    async def _find_full(self, arrival: Arrival, person: Person, login: Login) -> tuple[Bearer, Account] | None:
        """The full session of just this person and just this login."""
        found = await self._find(arrival, login)
        if found is None or found[1].id != person.id or found[0].session.level != "full":
            return None
        return found

    async def _find(self, arrival: Arrival, login: Login) -> tuple[Bearer, Account] | None:
        token = self._read_token(arrival)
        if token is None or not login.name:
            return None
        user_agent = arrival.header(b"user-agent") or None
        found = await self._deployment.sign_in.find(token, user_agent, self._bond(login))
        return found if isinstance(found, tuple) else None

    def _read_token(self, arrival: Arrival) -> str | None:
        pages = self._find_pages(arrival)
        if isinstance(pages, Answer):
            return None  # under a name that is not ours nobody is let in
        return pages.house.cookies.read(Request(scope(arrival)), SESSION)

    async def _end(self, arrival: Arrival, login: Login) -> None:
        """The login is over, and with it what was tied to it."""
        found = await self._find(arrival, login)
        if found is not None:
            session = found[0].session
            caller = Caller(f"pages:{session.id}")
            await self._deployment.sign_in.end_sessions(session.account_id, caller, ids=(session.id,))

    def _is_fresh(
        self, session: Session, arrival: Arrival, demand: Demand, pairs: list[tuple[str, str]] | None
    ) -> bool:
        """Whether the last proof of the session was for just this, strong enough, and a moment ago."""
        address = outside(arrival.address)
        acts = [name_act(address)] if pairs is None else [name_act(address), name_act(address, pairs)]
        strengths: tuple[Strength, ...] = ("passkey",) if demand.at_least == "passkey" else ("code", "passkey")
        granted = [purpose_of(act, strength) for act in acts for strength in strengths]
        return (
            session.granted in granted
            and self._deployment.clock.now() < session.proved_at + demand.seconds * MICROS_PER_S
        )

    async def _use_grant(self, bearer: Bearer) -> bool:
        """Use the proof up; whether this was the first act with it."""
        try:
            # Remembered for longer than any view takes it, not only this one.
            await self._deployment.sign_in.use_grant(bearer, ttl_s=FRESH_S_MAX)
        except Refused as refused:
            if refused.code != "step_up_required":
                raise
            return False
        return True

    # ---- what is answered ----

    def _lead(self, arrival: Arrival, account: Account | None) -> Answer:
        """On to the step that is missing."""
        step = "/sign-in/code" if account is not None and account.is_bound else "/enroll"
        if not arrival.wants_page:
            detail = "a second factor is missing: show it under url, or POST it to verify beside it"
            return problem(403, "second_factor_required", detail, url=self._at(arrival, step))
        return go(self._at(arrival, step) + query(next=self._aim(arrival)), arrival)

    def _lead_to_login(self, arrival: Arrival) -> Answer:
        if not arrival.wants_page:
            return problem(401, "unauthorized", "nobody is signed in to the application")
        aim = arrival.root + arrival.address if arrival.method in SAFE else ""
        return go(with_query(arrival.root + self.options.login_url, next=aim), arrival)

    async def _ask_fresh(
        self, arrival: Arrival, person: Person, login: Login, demand: Demand, form: bytes | None
    ) -> Answer:
        """For the proof that is missing: with a form that waits for it, if one was sent."""
        aim = {"next": outside(arrival.address), "at_least": demand.at_least}
        url = self._at(arrival, FRESH) + query(**aim)
        if not arrival.wants_page:
            detail = "this takes a fresh proof: show it under url, or POST it with act to verify"
            return problem(403, "step_up_required", detail, url=url, act=arrival.path, at_least=demand.at_least)
        if arrival.method in SAFE:
            return go(url, arrival)
        pages = self._find_pages(arrival)
        if isinstance(pages, Answer):
            return pages
        if not csrf.is_own_form(Request(scope(arrival)), pages.house.public_url):
            return problem(403, "forbidden", "this form came from another site")
        if form is None:
            # Too much to take along: the proof first, then the form once more.
            return go(url, arrival)
        inside = msgspec.structs.replace(arrival, method="GET", path=FRESH, query=query(**aim)[1:])
        asked = await self._show(pages, inside, person, login, b"", **{WAITING: form})
        return msgspec.structs.replace(asked, status=403) if asked.status == 200 else asked

    def _aim(self, arrival: Arrival) -> str:
        """Where to go afterwards: where the person was going, or for a form where it was."""
        if arrival.method in SAFE:
            return outside(arrival.address)
        pages, referer = self._find_pages(arrival), urlsplit(arrival.header(b"referer"))
        if isinstance(pages, Answer) or f"{referer.scheme}://{referer.netloc}" != pages.house.public_url:
            return ""
        path = referer.path.removeprefix(arrival.root)
        return "" if path.startswith(self.options.prefix + "/") else outside(path)

    def _at(self, arrival: Arrival, path: str) -> str:
        return arrival.root + self.options.prefix + path

    async def _fail(self, arrival: Arrival, error: TwofoldError) -> Answer:
        """Nobody is let in while it cannot be told who it is."""
        pages = self._find_pages(arrival)
        if isinstance(pages, Answer) or not arrival.wants_page:
            body, headers = dump_problem(as_problem(error))
            return answer(Whole(as_problem(error).status, tuple(headers), body))
        return answer(await pages.tell_error(scope(arrival), error))

    def _find_pages(self, arrival: Arrival) -> EmbeddedPages | Answer:
        """The pages as they are under this name of the application."""
        host = arrival.header(b"host").lower()
        if self._public_url is not None:
            parts = urlsplit(self._public_url)
            if host.removesuffix({"https": ":443", "http": ":80"}[parts.scheme]) != parts.netloc:
                detail = f"this application answers to {self._public_url}, its public_url, alone"
                return problem(421, "bad_request", detail)
            origin = self._public_url
        else:
            origin = _find_local(f"{arrival.scheme}://{host}")
            if not origin:
                detail = f"you opened {host}: start the application with public_url=… for Twofold"
                return problem(421, "bad_request", detail)
        key = (origin, arrival.root)
        if key not in self._pages:
            if len(self._pages) >= ORIGINS_MAX:
                self._pages.clear()
            options = self.options
            place = Host(arrival.root, options.prefix, options.login_url, options.sign_out_url)
            self._pages[key] = EmbeddedPages(
                self._deployment, place, origin, logo=options.logo, has_layout=options.has_layout
            )
        return self._pages[key]

    async def _show(
        self, pages: EmbeddedPages, arrival: Arrival, person: Person | None, login: Login, body: bytes, **more: object
    ) -> Answer:
        vouched = None if person is None else Vouched(person.id, self._bond(login))
        name = "" if person is None else person.name
        whole = await pages.answer(scope(arrival), body, vouched, name, **more)
        shown = answer(whole)
        if not self.options.has_layout or not dict(shown.headers).get("content-type", "").startswith("text/html"):
            return shown
        return msgspec.structs.replace(shown, page=split_page(self._at(arrival, ""), shown))

    def _hear(self, account_id: str, event: Event) -> None:
        happened = Happened(account_id, event.kind, event.at, dict(event.payload))
        for listener in (*self._listeners.get(event.kind, ()), *self._listeners.get("*", ())):
            with suppress(RuntimeError):  # a process that ends begins nothing: it was written down all the same
                self._told.submit(_tell, listener, happened)


def _find_local(url: str) -> str:
    """The origin, if it is this machine; else ""."""
    try:
        origin = check_public_url(url)
    except ConfigurationError:
        return ""
    return origin if is_loopback(urlsplit(origin).hostname) else ""


def _check_database(url: str, public_url: str | None) -> None:
    """In a new database nobody has a second factor, so nobody is asked for one: none is made by accident where people
    come from outside, and none unseen. Raises `ConfigurationError`."""
    settings = Settings(database_url=url)
    if settings.postgres_url is not None:
        return
    path = settings.sqlite_path
    if not path.is_absolute() and public_url is not None and not is_loopback(urlsplit(public_url).hostname):
        raise ConfigurationError(
            f"database {url!r} depends on the folder that the application is started in; in another one nobody would be"
            f" asked for a second factor: say where it is, such as sqlite:///{path.resolve()}"
        )
    if not path.exists():
        log.warning("a new database, in which nobody has a second factor yet: %s", path.resolve())


def subject_of(person: Person) -> Any:
    return person.id if person.user is None else person.user


def _tell(listener: Listener, happened: Happened) -> None:
    try:
        listener(happened)
    except Exception:
        log.exception("a listener for %s failed", happened.kind)
