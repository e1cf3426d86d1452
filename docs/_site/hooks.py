"""What MkDocs does besides, while it builds the site: the pages are written for a repository, and read on a site too.

A link that leads out of `docs/` gets a page with that file, pictures in two color schemes follow the switch of the
site, and the reference of the HTTP API is put into its page.
"""

# ruff: noqa: INP001 - MkDocs loads this file by its path

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

from api_reference import write_reference  # MkDocs has put this folder on the path
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from twofold.server.openapi import openapi_document

ROOT = Path(__file__).parents[2]
#: Where on the site the files lie that are in the repository but not in `docs/`.
ELSEWHERE = "repository"
LANGUAGES = {".py": "python", ".js": "js", ".conf": "nginx", ".service": "ini", ".env": "ini", ".json": "json"}

_FENCE = re.compile(r"(^(?P<ticks>```+).*?^(?P=ticks)$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\(<?)([^)\s>#]+)(#[^)\s>]*)?(>?\))")
_SOURCE = re.compile(r"(\b(?:src|srcset)=\")([^\"]+)(\")")
_COMMENT = re.compile(r"^<!-- .*? -->\n", re.MULTILINE | re.DOTALL)
_PICTURE = re.compile(
    r'<picture><source media="\(prefers-color-scheme: dark\)" srcset="([^"]+)"><img src="([^"]+)"([^>]*)></picture>'
)
_API_CALLS = "<!-- every call of the HTTP API -->\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files outside of `docs/` that pages link to, and the OpenAPI document."""
    files.append(File.generated(config, "openapi.json", content=openapi_document()))
    waiting = [(f"docs/{page.src_uri}", page.content_string) for page in files.documentation_pages()]
    known: set[str] = set()
    while waiting:
        path, text = waiting.pop()
        for target in set(_links_out(path, text)) - known:
            known.add(target)
            content = _as_page(target)
            files.append(File.generated(config, _page_of(target), content=content, inclusion=InclusionLevel.NOT_IN_NAV))
            if target.endswith(".md"):
                waiting.append((target, content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to the site's own pages, put the reference in, and leave notes to the tests out."""
    here = page.file.src_uri
    path = here.removeprefix(f"{ELSEWHERE}/") if here.startswith(f"{ELSEWHERE}/") else f"docs/{here}"
    if _API_CALLS in markdown:
        markdown = markdown.replace(_API_CALLS, write_reference())

    def change(text: str) -> str:
        text = _COMMENT.sub("", text)
        text = _SOURCE.sub(lambda source: f"{source[1]}{_led(source[2], path, here)}{source[3]}", text)
        return _LINK.sub(lambda link: f"{link[1]}{_led(link[2], path, here)}{link[3] or ''}{link[4]}", text)

    # What shows another kind of file is one block of code.
    return _outside_of_blocks(markdown, change) if path.endswith(".md") and (ROOT / path).is_file() else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Two images instead of a `<picture>`, which knows the system's color scheme and not that of the site."""
    return _PICTURE.sub(r'<img src="\2#only-light"\3><img src="\1#only-dark"\3>', html)


def _links_out(path: str, text: str) -> Iterator[str]:
    """The files of the repository outside of `docs/` to which a page links, as paths from the root."""
    for link in _LINK.finditer(_FENCE.sub("", text)):
        target = _target(path, link[2])
        if target and not target.startswith(("docs/", "../")) and (ROOT / target).is_file():
            yield target


def _target(path: str, link: str) -> str | None:
    """Where a link of the page at that path leads, as a path from the root; nothing for another host."""
    if re.match(r"[a-z]+:|/", link):
        return None
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(link)))
    return f"{target}/README.md" if (ROOT / target).is_dir() else target


def _page_of(target: str) -> str:
    """The page of the site that shows a file of the repository."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return f"{ELSEWHERE}/{target}" if target.endswith(".md") else f"{ELSEWHERE}/{target}.md"


def _as_page(target: str) -> str:
    text = (ROOT / target).read_text(encoding="utf-8")
    if target.endswith(".md"):
        return text
    language = LANGUAGES.get(Path(target).suffix, "text")
    return f"---\nsearch:\n  exclude: true\n---\n\n# {target}\n\n````{language}\n{text}````\n"


def _led(link: str, path: str, here: str) -> str:
    """A link of the file at `path` as it has to be on the page `here` of the site."""
    target = _target(path, link)
    return link if target is None else posixpath.relpath(_page_of(target), posixpath.dirname(here) or ".")


def _outside_of_blocks(markdown: str, change: Callable[[str], str]) -> str:
    """Change a text, but no block of code in it."""
    parts = _FENCE.split(markdown)
    # Between the texts stand each block and, once more, its ticks.
    return "".join(change(text) + block for text, block in zip(parts[::3], [*parts[1::3], ""], strict=True))
