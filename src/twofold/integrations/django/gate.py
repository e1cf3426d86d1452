"""What stands before every view, whoever signed the person in."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import Resolver404, resolve

from twofold.integrations.arrival import Answer, Arrival, Login, Person, find_login
from twofold.integrations.django.opening import LAYOUT, find_hook, open_guard


class Visit(NamedTuple):
    """A request in the guard's words, and what it would answer instead of the view."""

    arrival: Arrival
    person: Person | None
    login: Login
    refusal: Answer | None


class Request(HttpRequest):
    """A request that came to the gate."""

    twofold: Visit


class Response(HttpResponse):
    """An answer of the guard. One may await it: the dispatch of an async class-based view is a plain function."""

    def __await__(self) -> Generator[None, None, Self]:
        yield from ()
        return self


class SecondFactorMiddleware:
    """Lets a request on if nobody is signed in, or if whoever is has shown a second factor where one is due."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._guard = open_guard()

    def __call__(self, request: Request) -> HttpResponse:
        refusal = self._meet(request, _find_person(request))
        if refusal is None or _is_exempt(request):
            return self._get_response(request)
        return respond(request, refusal)

    def process_view(self, request: Request, view: Callable[..., Any], *_: object) -> HttpResponse | None:
        """Look again: a middleware behind this one may have signed somebody in, such as by a cookie that remembers her,
        or chosen other URLs, and so another view."""
        refusal, met, person = request.twofold.refusal, request.twofold.person, _find_person(request)
        if (met.id if met else None) != (person.id if person else None):
            refusal = self._meet(request, person)
        return None if refusal is None or hasattr(view, "is_second_factor_exempt") else respond(request, refusal)

    def _meet(self, request: Request, person: Person | None) -> Answer | None:
        arrival = _describe(request)
        login = find_login(request.session, person, arrival.headers)
        request.twofold = Visit(arrival, person, login, self._guard.admit(arrival, person, login))
        return request.twofold.refusal


def find_visit(request: Request) -> Visit:
    """The request as it came to the gate. Without one nothing opens."""
    if not hasattr(request, "twofold"):
        raise ImproperlyConfigured("MIDDLEWARE has no twofold.integrations.django.SecondFactorMiddleware")
    return request.twofold


def respond(request: Request, answer: Answer) -> HttpResponse:
    """An answer of the guard as one of Django's, in the layout of the application if it has one."""
    body: str | bytes = answer.body
    if answer.page is not None:
        body = render_to_string(LAYOUT, {"twofold": answer.page}, request)
    response = Response(body, status=answer.status)
    for name, value in answer.headers:
        if name == "set-cookie":
            response.cookies.load(value)
        else:
            response[name] = value
    return response


def _describe(request: Request) -> Arrival:
    path, _, query = request.get_full_path_info().partition("?")
    address = request.META.get("REMOTE_ADDR")
    return Arrival(
        request.method or "",
        path,
        query,
        tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers.items()),
        (address, 0) if address else None,
        request.scheme or "",
        quote(request.META.get("SCRIPT_NAME", "").rstrip("/")),
    )


def _find_person(request: Request) -> Person | None:
    find_user = find_hook("person")
    user = find_user(request) if find_user else request.user
    if user is None or not user.is_authenticated:
        return None
    return Person(str(user.pk), user.get_username(), user)


def _is_exempt(request: Request) -> bool:
    """Whether the view that will answer is. No path is let through by its spelling: another one may answer there."""
    try:
        view = resolve(request.path_info, getattr(request, "urlconf", None)).func
    except Resolver404:
        return False
    return hasattr(view, "is_second_factor_exempt")
