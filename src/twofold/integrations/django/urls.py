"""Twofold's own pages, at whatever path the application includes them."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from django.urls import re_path
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


urlpatterns = [re_path(r"^(?P<path>.*)$", serve, name="page")]
