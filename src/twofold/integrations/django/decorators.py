"""What a view may ask for itself: to stand open, or for more than the gate does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Literal, TypeVar, cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.http import HttpResponse

from twofold.integrations.arrival import Demand
from twofold.integrations.django.gate import Request, find_visit, respond
from twofold.integrations.django.opening import open_guard

View = TypeVar("View", bound=Callable[..., Any])


def second_factor_exempt(view: View) -> View:
    """The gate does not stand before this view."""
    view.is_second_factor_exempt = True  # type: ignore[attr-defined]
    return view


def second_factor_required(view: View) -> View:
    """Nobody reaches this view without a second factor; whoever has none is led to enroll one."""
    return _ask_before(Demand(), view)


def fresh(minutes: int = 5, at_least: Literal["code", "passkey"] = "code") -> Callable[[View], View]:
    """Each act of this view takes a second factor that was shown for it within `minutes`, and uses it up."""
    return partial(_ask_before, Demand(minutes, at_least))


def _ask_before(demand: Demand, view: View) -> View:
    async def guarded_async(request: Request, *args: Any, **kwargs: Any) -> Any:
        refusal = await sync_to_async(_check)(request, demand)
        return await view(request, *args, **kwargs) if refusal is None else refusal

    def guarded(request: Request, *args: Any, **kwargs: Any) -> Any:
        refusal = _check(request, demand)
        return view(request, *args, **kwargs) if refusal is None else refusal

    return cast("View", wraps(view)(guarded_async if iscoroutinefunction(view) else guarded))


def _check(request: Request, demand: Demand) -> HttpResponse | None:
    visit = find_visit(request)
    kind = request.headers.get("content-type", "").lower()
    # Of anything else, such as a form with files, nothing could be kept; and it may be too large, or read by now.
    body = request.body if kind.startswith("application/x-www-form-urlencoded") else b""
    answer = open_guard().check(visit.arrival, visit.person, visit.login, demand, body)
    return None if answer is None else respond(request, answer)
