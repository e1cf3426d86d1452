"""The form that a page sends, read strictly: each field once, as text, and no more of it than a form can hold."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request

from twofold.server.problems import Problem
from twofold.server.reading import read_body, read_headers

FIELDS_MAX = 32
_MEDIA_TYPE = "application/x-www-form-urlencoded"

Form = Mapping[str, str]


async def read_form(request: Request) -> Form:
    """The fields by name; raises `Problem`: 415 for another media type, 413, 400 for what no form of ours sends."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise Problem(415, "unsupported_media_type", "a form is sent as application/x-www-form-urlencoded")
    raw = await read_body(request.receive, read_headers(request.scope))
    try:
        pairs = parse_qsl(
            raw.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(raw),
            errors="strict",
            max_num_fields=FIELDS_MAX,
        )
    except ValueError:
        raise Problem(400, "bad_request", "the form is not percent-encoded UTF-8") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise Problem(400, "bad_request", "a field of the form came twice")
    return form
