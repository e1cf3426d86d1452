"""What a view of a Starlette or FastAPI application says of itself: that it demands more than the gate before it, or
that it is open on purpose.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextvars import ContextVar
from typing import Any, Literal, ParamSpec, TypeVar, overload

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from twofold.errors import ConfigurationError
from twofold.integrations.arrival import Demand
from twofold.integrations.asgi import Passage

_EXEMPT = "is_second_factor_exempt"

#: The request that is under way.
PASSAGE: ContextVar[Passage] = ContextVar("twofold_passage")

P = ParamSpec("P")
V = TypeVar("V")


class Demanding:
    """A decorator of views, and as `Depends(…)` a dependency of FastAPI's: the view is reached if `demand` is met."""

    #: FastAPI hands over nothing.
    __signature__: inspect.Signature = inspect.Signature()

    def __init__(self, demand: Demand) -> None:
        self._demand = demand

    @overload
    def __call__(self) -> None: ...
    @overload
    def __call__(self, view: Callable[P, Any]) -> Callable[P, Awaitable[Any]]: ...
    def __call__(self, view: Callable[P, Any] | None = None) -> Callable[P, Awaitable[Any]] | None:
        if view is None:
            # FastAPI calls a dependency that is no coroutine function in a thread of its own, which may wait.
            passage = _find_passage()
            return asyncio.run_coroutine_threadsafe(self._check(passage), passage.loop).result()

        @functools.wraps(view)
        async def checked(*args: P.args, **kwargs: P.kwargs) -> Any:
            await self._check(_find_passage())
            if inspect.iscoroutinefunction(view):
                return await view(*args, **kwargs)
            return await run_in_threadpool(view, *args, **kwargs)

        return checked

    async def _check(self, passage: Passage) -> None:
        if not await passage.check(self._demand):
            # What is answered instead is in the passage: nothing that handles this exception changes it.
            raise HTTPException(403)


def _find_passage() -> Passage:
    passage = PASSAGE.get(None)
    if passage is None:
        raise ConfigurationError("there is no gate before this application: SecondFactor(app, person=…) is missing")
    return passage


#: Let nobody in without a full second factor, also where the gate would: those who have none, and those not signed in.
second_factor_required: Demanding = Demanding(Demand())


def fresh(minutes: int = 5, at_least: Literal["code", "passkey"] = "code") -> Demanding:
    """Ask for a second factor for just this act, shown at most so long ago; a POST uses it up."""
    return Demanding(Demand(minutes=minutes, at_least=at_least))


def second_factor_exempt(view: V) -> V:
    """Open a view, or a mounted application such as `StaticFiles`, to people whose second factor is missing."""
    setattr(view, _EXEMPT, True)
    return view


def is_exempt(app: Any, scope: Scope) -> bool:
    """Whether the way that a request takes through the routes of `app` ends at, or passes, what is open."""
    if is_open(app):
        return True
    for route in list_routes(app):
        match, below = route.matches(scope)
        if match is Match.FULL:
            return is_exempt(below.get("endpoint"), {**scope, **below})
    return False


def is_open(app: Any) -> bool:
    """Whether a view or application was opened on purpose, or shows files to everybody: in the application's layout our
    pages need its style."""
    return hasattr(app, _EXEMPT) or type(app) is StaticFiles


def list_routes(app: Any) -> Iterable[Any]:
    """The routes of an application or router; those of routers that FastAPI included are among them."""
    flatten = getattr(sys.modules.get("fastapi.routing"), "iter_route_contexts", iter)
    return flatten(getattr(app, "routes", None) or ())
