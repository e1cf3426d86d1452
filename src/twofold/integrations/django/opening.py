"""From the setting `TWOFOLD` to the guard of the process, which is opened when the middleware is."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import close_old_connections, connections
from django.dispatch import Signal
from django.shortcuts import resolve_url
from django.template import TemplateDoesNotExist
from django.template.loader import get_template
from django.urls import get_script_prefix, reverse
from django.utils.module_loading import import_string

from twofold.errors import TwofoldError
from twofold.integrations.arrival import Happened, Options
from twofold.integrations.blocking_guard import BlockingGuard

LAYOUT = "twofold/base.html"
#: Functions, which the guard is not told of.
HOOKS = ("person", "require", "administrators")
#: Sent after the commit with `account_id`, `kind`, `at` (microseconds since 1970) and `payload`: `docs/events.md`.
happened: Signal = Signal()


@cache
def open_guard() -> BlockingGuard:
    """The guard. Raises `ImproperlyConfigured`, one line, where it cannot stand as `TWOFOLD` says."""
    if not apps.is_installed("twofold.integrations.django"):
        raise ImproperlyConfigured("INSTALLED_APPS has no 'twofold.integrations.django', which hears of new passwords")
    given = {name: value for name, value in getattr(settings, "TWOFOLD", {}).items() if name not in HOOKS}
    defaults: dict[str, Any] = {
        "database": f"sqlite:///{Path(getattr(settings, 'BASE_DIR', '.'), 'twofold.db')}",
        "issuer": settings.ROOT_URLCONF.partition(".")[0],
        "prefix": find_path("twofold:page", "").rstrip("/"),
        "login_url": _inside(resolve_url(settings.LOGIN_URL)),
        "sign_out_url": find_path("twofold:sign_out"),
        "has_layout": has_layout(),
    }
    try:
        guard = BlockingGuard(Options(**defaults | given))
    except (TypeError, TwofoldError) as error:
        raise ImproperlyConfigured(f"TWOFOLD: {error}") from error
    guard.on("*", _tell)
    if rule := find_hook("require"):
        try:
            guard.require(rule, _ask_database(find_hook("administrators") or list_superusers))
        except TwofoldError as error:
            guard.close()
            raise ImproperlyConfigured(f"TWOFOLD: {error}") from error
    return guard


def find_hook(name: str) -> Callable[..., Any] | None:
    """A function out of `TWOFOLD`, there as itself or as a dotted path."""
    hook = getattr(settings, "TWOFOLD", {}).get(name)
    return import_string(hook) if isinstance(hook, str) else hook


def find_path(name: str, *arguments: str) -> str:
    """Where one of `twofold.integrations.django.urls` is, inside the application. Raises `NoReverseMatch`."""
    return _inside(reverse(name, args=arguments))


def list_superusers() -> list[str]:
    """Who may administer, as Django sees it."""
    ids = get_user_model()._default_manager.filter(is_active=True, is_superuser=True).values_list("pk", flat=True)
    return [str(pk) for pk in ids]


def has_layout() -> bool:
    """Whether the application has a frame for Twofold's pages."""
    try:
        get_template(LAYOUT)
    except TemplateDoesNotExist:
        return False
    return True


def _inside(url: str) -> str:
    """A path without what the whole application is mounted under."""
    root = get_script_prefix()
    return "/" + url.removeprefix(root) if url.startswith(root) else url


def _ask_database(question: Callable[[], list[str]]) -> list[str]:
    """Ask in a thread of its own: a server such as uvicorn loads the application in one that runs an event loop."""

    def ask() -> list[str]:
        try:
            return question()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask).result()


def _tell(event: Happened) -> None:
    happened.send_robust(None, account_id=event.account_id, kind=event.kind, at=event.at, payload=event.payload)
    close_old_connections()
