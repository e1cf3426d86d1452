"""The doors of a Django project: every entry of its URLs, with those that are included, such as the admin's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django.contrib.admindocs.views import simplify_regex
from django.urls import URLResolver, get_resolver
from django.urls.resolvers import RegexPattern

from twofold.integrations.routes import Door, fill


def list_doors() -> Iterator[Door]:
    """All but those of Twofold's own pages."""
    return _walk(get_resolver().url_patterns, "/", {})


def _walk(entries: Iterable[Any], before: str, patterns: Mapping[str, str]) -> Iterator[Door]:
    for entry in entries:
        own = entry.pattern
        is_regex = isinstance(own, RegexPattern)
        route = before + (simplify_regex(str(own)).removeprefix("/") if is_regex else str(own))
        known = {**patterns, **{name: converter.regex for name, converter in own.converters.items()}}
        if not isinstance(entry, URLResolver):
            yield Door(fill(route, known), route, is_open=hasattr(entry.callback, "is_second_factor_exempt"))
        elif entry.app_name != "twofold":
            yield from _walk(entry.url_patterns, route, known)
