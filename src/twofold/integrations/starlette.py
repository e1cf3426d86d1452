"""The second factor in a Starlette or FastAPI application: a gate before all its routes, and Twofold's pages below it.

    SecondFactor(app, person=lambda request: request.session.get("user"))

What one request goes through is in `asgi.py`, what a view says of itself in `starlette_views.py`.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from jinja2 import TemplateNotFound
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twofold.errors import ConfigurationError
from twofold.integrations.answers import CLOSED
from twofold.integrations.arrival import SESSION_KEY, Answer, Login, Options, Person, check_person, find_login
from twofold.integrations.asgi import Body, ClientGone, Passage, live, send_answer
from twofold.integrations.guard import PROBING
from twofold.integrations.loop_guard import LoopGuard
from twofold.integrations.starlette_views import (
    PASSAGE,
    fresh,
    is_exempt,
    second_factor_exempt,
    second_factor_required,
)

__all__ = ["Person", "SecondFactor", "fresh", "second_factor_exempt", "second_factor_required"]

Who = Person | str | int | None

LAYOUT = "twofold/base.html"


class SecondFactor(LoopGuard):
    """Stands before an application. `app` is a `Starlette` or `FastAPI`, before or after its middleware was added; of
    any other ASGI application this object takes the place.

    `person` says who is signed in, by whatever door: None, an id, or a `Person`. `login` names one login where neither
    a session nor a bearer token does. Either may be a coroutine function. With `templates`, pages are shown in the
    application's `twofold/base.html`. What else there is to choose is in `Options`.
    """

    def __init__(
        self,
        app: ASGIApp,
        person: Callable[[Request], Who | Awaitable[Who]],
        *,
        login: Callable[[Request], str | Awaitable[str]] | None = None,
        templates: Jinja2Templates | None = None,
        **options: Any,
    ) -> None:
        super().__init__(Options(**{"has_layout": _has_layout(templates)} | options))
        self._find_person, self._name_login, self._templates = person, login, templates
        self.app = self._behind = app
        if isinstance(app, Starlette):
            if app.middleware_stack is not None:
                raise ConfigurationError("SecondFactor comes too late: the application has begun already")
            if hasattr(app.state, "twofold"):
                raise ConfigurationError("there is a gate before this application already: one SecondFactor is enough")
            app.state.twofold = self
            # Innermost: whatever order they are added in, sessions are open before it, and nothing answers behind it.
            app.user_middleware.append(Middleware(self._stand_before))
        else:
            self._behind = self._stand_before(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._behind(scope, receive, send)

    def _stand_before(self, app: ASGIApp) -> ASGIApp:
        async def stand(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await live(app, scope, receive, send, life=self)
            else:
                await self._let_pass(app, scope, Body(receive), send)

        return stand

    async def _let_pass(self, app: ASGIApp, scope: Scope, body: Body, send: Send) -> None:
        if PROBING.get():  # of nobody, and over no database
            await send_answer(CLOSED, CLOSED.body, scope, send)
            return
        guard, person, login = await self.find_guard(), *await self._meet(scope)
        passage = Passage(guard, scope, person, login, body)
        kept = scope.get("session", {}).get(SESSION_KEY)

        async def send_if_let_in(message: Message) -> None:
            if passage.answer is None:
                await send(message)

        token = PASSAGE.set(passage)
        try:
            if await passage.enter(self.options.prefix, lambda: is_exempt(scope.get("app", app), scope)):
                await app(scope, body.receive, send_if_let_in)
        except ClientGone:
            return
        finally:
            PASSAGE.reset(token)
        if passage.answer is not None:
            await send_answer(passage.answer, self._render(passage.answer, scope), scope, send)
        elif kept is not None and scope["session"].get(SESSION_KEY) != kept:
            await passage.leave()  # whoever signed out with this request took the login along

    async def _meet(self, scope: Scope) -> tuple[Person | None, Login]:
        request: Any = Request(scope) if scope["type"] == "http" else HTTPConnection(scope)
        person = check_person(await _ask(self._find_person, request))
        if person is not None and self._name_login is not None:
            return person, Login(await _ask(self._name_login, request))
        return person, find_login(scope.get("session"), person, tuple(scope["headers"]))

    def _render(self, answer: Answer, scope: Scope) -> bytes:
        if answer.page is None or self._templates is None:
            return answer.body
        return bytes(self._templates.TemplateResponse(Request(scope), LAYOUT, {"twofold": answer.page}).body)


async def _ask(callback: Callable[[Any], Any], request: Any) -> Any:
    """What it says. One that is no coroutine function may wait for a database, so it gets a thread."""
    said = callback(request) if inspect.iscoroutinefunction(callback) else await run_in_threadpool(callback, request)
    return await said if inspect.isawaitable(said) else said


def _has_layout(templates: Jinja2Templates | None) -> bool:
    try:
        return templates is not None and templates.get_template(LAYOUT) is not None
    except TemplateNotFound:
        return False
