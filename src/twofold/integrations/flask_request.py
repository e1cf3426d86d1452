"""What Flask says of a request: in the guard's words, with as much of its body as the guard takes; and whether the view
that will answer it is open to everybody.
"""

from __future__ import annotations

from urllib.parse import quote

from flask import current_app, request

from twofold.integrations.answers import FORM
from twofold.integrations.arrival import Arrival
from twofold.server.pages.step_up import WAITING_BYTES_MAX
from twofold.server.reading import BODY_BYTES_MAX


def describe() -> Arrival:
    """The request that is under way."""
    address = request.remote_addr
    return Arrival(
        request.method,
        quote(request.path),
        request.query_string.decode("latin-1"),
        tuple((name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers),
        None if address is None else (address, 0),
        request.scheme,
        quote(request.root_path.rstrip("/")),
    )


def read_body() -> bytes:
    """The body of a request for one of the pages; of a larger one than they take a byte too much."""
    body = b""
    while len(body) <= BODY_BYTES_MAX and (part := request.stream.read(BODY_BYTES_MAX + 1 - len(body))):
        body += part
    return body


def read_form_body() -> bytes | None:
    """The body of a form that could wait for a proof; None for anything else, which is left to the view."""
    length = request.content_length
    can_wait = request.mimetype == FORM and length is not None and length <= WAITING_BYTES_MAX
    return request.get_data(cache=True) if can_wait else None


def is_open() -> bool:
    """Whether the view that will answer is exempt, or shows files that are open to everybody."""
    endpoint = request.endpoint or ""
    owner, _, name = endpoint.rpartition(".")
    place = current_app.blueprints.get(owner) if owner else current_app
    is_static = name == "static" and place is not None and place.has_static_folder
    return is_static or hasattr(current_app.view_functions.get(endpoint), "is_second_factor_exempt")
