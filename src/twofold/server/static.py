"""The stylesheet, the script and the icons of the pages, read once and served under an address that names the content.

An address with the right `?v=` never changes its content and may be kept for a year; without it nothing is kept.
Only the files that lie in `static/` exist: no path is ever made of what a request says.
"""

from __future__ import annotations

import re
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
        found[file.name] = _make_file(content, media_type)
    embedded = make_embedded(found["twofold.css"].content.decode()).encode()
    return found | {"embedded.css": _make_file(embedded, MEDIA_TYPES["css"])}


def _make_file(content: bytes, media_type: str) -> StaticFile:
    return StaticFile(content, media_type, sha256(content).hexdigest()[:VERSION_LENGTH])


def make_embedded(css: str) -> str:
    """The stylesheet for pages inside another application's layout. It touches nothing outside of them, takes the font
    and goes by the light or dark of what is around; each `--token` can be set anew for `.twofold`."""
    dark_tokens = dict(_TOKEN.findall(_DARK.search(css)[1]))  # type: ignore[index]
    css = _DARK.sub("", css)
    light = _ROOT.search(css)[1]  # type: ignore[index]

    def choose(token: re.Match[str]) -> str:
        name, value = token.groups()
        is_color = value.startswith("#") and name in dark_tokens
        return f"{name}: light-dark({value}, {dark_tokens[name]});" if is_color else token[0]

    tokens = _TOKEN.sub(choose, light.replace("color-scheme: light dark;", ""))
    rest = css[css.index("/* ---- Ground ---- */") :].replace(":root {", "& {").replace("body {", ".no-body {")
    return f".twofold {{\n{tokens}\n{_EMBEDDED_GROUND}\n{rest}\n}}\n"


_TOKEN = re.compile(r"(--[a-z-]+): ([^;]+);")
_ROOT = re.compile(r":root \{(.*?)\n\}", re.DOTALL)
_DARK = re.compile(r"@media \(prefers-color-scheme: dark\) \{\n  :root \{(.*?)\n  \}\n\}\n", re.DOTALL)
_EMBEDDED_GROUND = """
  --text: inherit;
  color: var(--ink);
  font-size: var(--body);
  line-height: 1.55;
  overflow-wrap: break-word;
  accent-color: var(--accent);

  /* What layouts do to every element of a kind. */
  form, section, fieldset { border: 0; padding: 0; background: none; }
  p, li { line-height: inherit; }
  svg { max-width: none; float: none; }
  button { float: none; letter-spacing: normal; text-transform: none; }
"""


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
