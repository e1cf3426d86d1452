"""The doors of an application, as its framework lists them: Flask's and Starlette's, with all that is mounted in them.

Flask is not imported for it. Django lists its own in `integrations/django/routes.py`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from starlette.routing import Host, Mount, WebSocketRoute

from twofold.integrations.starlette_views import is_open, list_routes

#: Values for parameters in a path: the first that fits, else the first.
_SAMPLES = ("1", "x", "1.5", "2026-01-01", "00000000-0000-0000-0000-000000000000")
_PARAMETER = re.compile(r"<(?:[^<>]*:)?(\w+)>|\{(\w+)\}")
_OWN_ENDPOINT = "twofold"


class Door(msgspec.Struct, frozen=True):
    """A way into an application: `route` as it is written there, and `path`, which leads to it.

    `place` is where what it belongs to is mounted, `host` the only name that it answers to, if there is one. `methods`
    are empty where nobody tells. `is_open`: on purpose.
    """

    path: str
    route: str
    methods: tuple[str, ...] = ()
    place: str = ""
    is_open: bool = False
    is_socket: bool = False
    host: str = ""


def is_asgi(app: Any) -> bool:
    """Whether it is called as ASGI has it, and not as WSGI."""
    return len(inspect.signature(app).parameters) == len(("scope", "receive", "send"))


def list_doors(app: Any, place: str = "") -> Iterator[Door]:
    """All doors of a WSGI or ASGI application that is mounted at `place`. One that cannot be looked into is a door."""
    layers = list(_peel(app))
    for layer in layers:
        for path, inner in getattr(layer, "mounts", {}).items():  # werkzeug's DispatcherMiddleware
            yield from list_doors(inner, place + path)
    for layer in layers:
        if hasattr(layer, "url_map"):
            yield from _list_flask(layer, place)
            return
        if hasattr(layer, "routes"):
            yield from _list_starlette(layer, place)
            return
    yield Door(f"{place}/", f"{place}/…", place=place)


def fill(route: str, patterns: Mapping[str, str]) -> str:
    """A path that leads to a route: its parameters, `<like:this>` or `{like_this}`, are given values that fit."""

    def choose(parameter: re.Match[str]) -> str:
        pattern = patterns.get(parameter[1] or parameter[2], ".*")
        return next((sample for sample in _SAMPLES if re.fullmatch(pattern, sample)), _SAMPLES[0])

    return _PARAMETER.sub(choose, route)


def _peel(app: Any) -> Iterator[Any]:
    """The application, and what it is wrapped around."""
    while app is not None:
        yield app
        app = getattr(app, "wsgi_app", None) or getattr(app, "app", None)


def _list_flask(app: Any, place: str) -> Iterator[Door]:
    for rule in app.url_map.iter_rules():
        if rule.endpoint == _OWN_ENDPOINT:
            continue
        patterns = {name: converter.regex for name, converter in rule._converters.items()}
        yield Door(
            place + fill(rule.rule, patterns),
            place + rule.rule,
            tuple(sorted((rule.methods or set()) - {"HEAD", "OPTIONS"})),
            place,
            rule.endpoint.rpartition(".")[2] == "static"
            or hasattr(app.view_functions.get(rule.endpoint), "is_second_factor_exempt"),
        )


def _list_starlette(app: Any, place: str) -> Iterator[Door]:
    for route in list_routes(app):
        kind = getattr(route, "original_route", route)
        if isinstance(kind, Host):
            yield from (
                msgspec.structs.replace(door, host=fill(route.host, {})) for door in list_doors(route.app, place)
            )
            continue
        if isinstance(kind, Mount) and not is_open(route.app):
            yield from list_doors(route.app, place + fill(route.path, {}))
            continue
        patterns = {name: convertor.regex for name, convertor in getattr(route, "param_convertors", {}).items()}
        spelled = place + (getattr(route, "path_format", None) or "/")
        yield Door(
            fill(spelled, patterns),
            spelled,
            tuple(sorted((getattr(route, "methods", None) or set()) - {"HEAD"})),
            place,
            is_open(route.app if isinstance(kind, Mount) else getattr(route, "endpoint", None)),
            isinstance(kind, WebSocketRoute),
        )
