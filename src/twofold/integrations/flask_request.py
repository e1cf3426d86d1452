"""What Flask says of a request: in the guard's words, and whether the view that will answer it is open to everybody."""

from __future__ import annotations

from urllib.parse import quote

from flask import current_app, request

from twofold.integrations.arrival import Arrival


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


def is_open() -> bool:
    """Whether the view that will answer is exempt, or shows files that are open to everybody."""
    endpoint = request.endpoint or ""
    owner, _, name = endpoint.rpartition(".")
    place = current_app.blueprints.get(owner) if owner else current_app
    is_static = name == "static" and place is not None and place.has_static_folder
    return is_static or hasattr(current_app.view_functions.get(endpoint), "is_second_factor_exempt")
