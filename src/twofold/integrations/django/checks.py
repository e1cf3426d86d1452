"""What `manage.py check` says about the gate: whether it is there, in its place, and its pages can be reached."""

from __future__ import annotations

import os
from collections.abc import Iterator

from django.apps import apps
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware, RemoteUserMiddleware
from django.core import checks
from django.core.checks import CheckMessage, Error
from django.middleware.cache import FetchFromCacheMiddleware
from django.urls import NoReverseMatch, resolve
from django.utils.module_loading import import_string

from twofold.integrations.django.gate import SecondFactorMiddleware
from twofold.integrations.django.opening import find_path
from twofold.integrations.django.urls import serve

GATE = "twofold.integrations.django.SecondFactorMiddleware"


def check_gate(app_configs: object, **_: object) -> list[CheckMessage]:
    """All of it."""
    return [*_check_middleware(), *_check_urls(), *_check_settings()]


def _check_middleware() -> Iterator[CheckMessage]:
    names = settings.MIDDLEWARE
    gate, people = _find(SecondFactorMiddleware), _find(AuthenticationMiddleware, RemoteUserMiddleware)
    if not gate:
        hint = f"Add {GATE!r} at the end of MIDDLEWARE."
        yield Error("No middleware asks for a second factor.", hint, id="twofold.E001")
    elif not people or people[-1] > gate[0]:
        hint = f"Move {GATE!r} to the end of MIDDLEWARE."
        yield Error("The gate comes before it is known who is signed in.", hint, id="twofold.E002")
    else:
        early = {at for at in range(people[0] + 1, gate[0]) if not names[at].startswith("django.")}
        for at in sorted(early | {at for at in _find(FetchFromCacheMiddleware) if at < gate[0]}):
            hint = f"Move it behind {GATE!r}, unless it tells who is signed in and answers nothing itself."
            yield checks.Warning(f"What {names[at]} answers is not gated.", hint, id="twofold.W003")


def _check_urls() -> Iterator[CheckMessage]:
    try:
        place = find_path("twofold:page", "security")
    except NoReverseMatch:
        hint = 'Add path("2fa/", include("twofold.integrations.django.urls")) to the URLs.'
        yield Error("The pages of the second factor have no address.", hint, id="twofold.E004")
        return
    found = resolve(place).func
    if found is not serve:
        where = f"{found.__module__}.{found.__qualname__}"
        yield Error(f"At {place} answers {where}.", "Include Twofold's URLs before it.", id="twofold.E005")


def _check_settings() -> Iterator[CheckMessage]:
    given = getattr(settings, "TWOFOLD", {})
    if not settings.DEBUG and not (given.get("public_url") or os.environ.get("TWOFOLD_PUBLIC_URL")):
        hint = 'Set TWOFOLD = {"public_url": "https://…"}: passkeys work for just that address.'
        yield checks.Warning("Where people reach the application is not said.", hint, id="twofold.W006")
    if apps.is_installed("rest_framework") and "person" not in given:
        hint = 'Tell who is signed in by a token in TWOFOLD["person"].'
        yield checks.Warning("Tokens of the REST framework are read behind the gate.", hint, id="twofold.W007")


def _find(*kinds: type) -> list[int]:
    """The places in MIDDLEWARE of these classes and those made of them."""
    classes = [import_string(name) for name in settings.MIDDLEWARE]
    return [at for at, each in enumerate(classes) if isinstance(each, type) and issubclass(each, kinds)]
