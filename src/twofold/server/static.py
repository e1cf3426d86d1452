"""The stylesheet, the script and the icons of the pages, read once and served under an address that names the content.

An address with the right `?v=` never changes its content and may be kept for a year; without it nothing is kept.
Only the files that lie in `static/` exist: no path is ever made of what a request says.
"""

from __future__ import annotations

from hashlib import sha256
from importlib.resources import files
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

MEDIA_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FOREVER: Final = "public, max-age=31536000, immutable"
VERSION_LENGTH: Final = 12


class StaticFile(msgspec.Struct, frozen=True):
    """One file: `version` is the beginning of its SHA-256, in hexadecimal."""

    content: bytes
    media_type: str
    version: str


def _read_files() -> dict[str, StaticFile]:
    found = {}
    for file in (files("twofold.server") / "static").iterdir():
        content = file.read_bytes()
        media_type = MEDIA_TYPES[file.name.rpartition(".")[2]]
        found[file.name] = StaticFile(content, media_type, sha256(content).hexdigest()[:VERSION_LENGTH])
    return found


FILES: Final = _read_files()


def address(name: str) -> str:
    """The address of a file, its version included. Raises KeyError when there is no such file."""
    return f"/static/{name}?v={FILES[name].version}"


def static_routes() -> list[Route]:
    """GET and HEAD of each file."""
    return [Route("/static/{name}", _send_file)]


async def _send_file(request: Request) -> Response:
    file = FILES.get(request.path_params["name"])
    if file is None:
        raise HTTPException(404)
    is_current = request.query_params.get("v") == file.version
    return Response(
        file.content,
        media_type=file.media_type,
        headers={"cache-control": FOREVER if is_current else "no-store"},
    )
