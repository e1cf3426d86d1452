"""Twofold's own pages, at whatever path the application includes them."""

from __future__ import annotations

import msgspec
from django.conf import settings
from django.contrib.auth import logout
from django.http import HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt

from twofold.integrations.django.decorators import second_factor_exempt
from twofold.integrations.django.gate import Request, find_visit, respond
from twofold.integrations.django.opening import open_guard

app_name = "twofold"


@csrf_exempt  # the forms of these pages have tokens of their own
@second_factor_exempt
def serve(request: Request, path: str) -> HttpResponse:
    """Answer for one of the pages."""
    guard, visit = open_guard(), find_visit(request)
    arrival = msgspec.structs.replace(visit.arrival, path=visit.arrival.path.removeprefix(guard.options.prefix))
    return respond(request, guard.serve(arrival, visit.person, visit.login, request.body))


@second_factor_exempt
def sign_out(request: Request) -> HttpResponse:
    """The way out of these pages: where Django's own takes a form, here a link of ours does, and nobody else's."""
    if request.headers.get("sec-fetch-site", "same-origin") == "same-origin":
        logout(request)
    return redirect(settings.LOGIN_URL)


urlpatterns: list[URLPattern] = [
    path("leave", sign_out, name="sign_out"),
    re_path(r"^(?P<path>.*)$", serve, name="page"),
]
