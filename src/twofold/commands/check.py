"""`twofold check`: prints which doors of an application the gate stands before (`twofold.integrations.doors`)."""

from __future__ import annotations

import functools
import importlib
import logging
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

import click

from twofold.commands.shell import EXIT_FAILED, json_option, print_json, print_table
from twofold.errors import TwofoldError

if TYPE_CHECKING:
    from twofold.integrations.routes import Door

_COLORS = {"gated": "green", "open on purpose": "cyan", "not gated": "red"}


class Target(NamedTuple):
    """An application, and what can be said of it without asking it."""

    app: Any
    doors: Iterable[Door] | None = None
    url: str = "http://localhost"


def _read_origin(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None and (urlsplit(value).scheme not in ("http", "https") or not urlsplit(value).hostname):
        raise click.BadParameter("expected an origin such as https://shop.example")
    return value


@click.command()
@click.argument("app", required=False, metavar="[MODULE:APP]")
@click.option("--django", "settings", envvar="DJANGO_SETTINGS_MODULE", metavar="MODULE", help="A project's settings.")
@click.option("--url", metavar="URL", callback=_read_origin, help="Where people open it, if only there.")
@json_option
def check(*, app: str | None, settings: str | None, url: str | None, as_json: bool) -> None:
    """Try every door of an application that Twofold is inside of; exit status 1 if the gate is not before one."""
    from twofold.integrations.doors import examine  # noqa: PLC0415 - brings the pages, which no other command needs

    # Where the commands of the frameworks look for an application; what it logs of itself is not what was asked.
    sys.path.insert(0, str(Path.cwd()))
    logging.getLogger("twofold").addHandler(logging.NullHandler())
    target = _load(app, settings)
    if not callable(target.app):
        raise click.ClickException(f"{app} is no application")
    findings = examine(target.app, target.doors, url=url or target.url)
    if as_json:
        print_json(findings)
    else:
        heads = ("STATE", "METHODS", "ROUTE", "ANSWERED")
        print_table(heads, [(each.state, ",".join(each.methods), each.route, each.detail) for each in findings])
        counts: Counter[str] = Counter(found.state for found in findings)
        told = (click.style(f"{counts[state]} {state}", fg=color) for state, color in _COLORS.items() if counts[state])
        click.echo(", ".join(told), err=True)
    if any(found.state == "not gated" for found in findings):
        raise click.exceptions.Exit(EXIT_FAILED)


def _load(app: str | None, settings: str | None) -> Target:
    if app is None and settings is None:
        raise click.UsageError("say which application: module:app, or --django and its settings")
    try:
        loaded = None if app is None else _import(app)
        if loaded is not None and not type(loaded).__module__.startswith("django."):
            return Target(loaded)
        if settings is not None:
            os.environ["DJANGO_SETTINGS_MODULE"] = settings
        return _load_django()
    except Exception as fault:
        reason = str(fault) if isinstance(fault, TwofoldError) else f"{type(fault).__name__}: {fault}"
        raise click.ClickException(f"{app or settings} cannot be imported: {reason}") from fault


def _import(name: str) -> Any:
    """What `module:name` is; `module:name()` is called for it, and without a name it is `app`."""
    module, _, path = name.partition(":")
    found: Any = importlib.import_module(module)
    found = functools.reduce(getattr, (path or "app").removesuffix("()").split("."), found)
    return found() if path.endswith("()") else found


def _load_django() -> Target:
    from django.conf import settings  # noqa: PLC0415 - only where somebody has it
    from django.core.wsgi import get_wsgi_application  # noqa: PLC0415 - as above

    application = get_wsgi_application()
    from twofold.integrations.django.routes import list_doors  # noqa: PLC0415 - when the project is set up

    named = (host.removeprefix(".") for host in settings.ALLOWED_HOSTS if host != "*")
    origin = f"{'https' if settings.SECURE_SSL_REDIRECT else 'http'}://{next(named, 'localhost')}"
    return Target(application, list(list_doors()), getattr(settings, "TWOFOLD", {}).get("public_url") or origin)
