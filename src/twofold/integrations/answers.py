"""A request of `arrival.py` for the pages, and their answers back; and the answers that are no pages."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlencode

import msgspec
from markupsafe import Markup

from twofold.integrations.arrival import SAFE, Answer, Arrival, Page
from twofold.server import static
from twofold.server.embedded import Whole
from twofold.server.pages.step_up import read_pairs
from twofold.server.problems import Problem, dump_problem
from twofold.server.templates import split

Pairs = list[tuple[str, str]]

#: What browsers send a form without files as.
FORM = "application/x-www-form-urlencoded"

CLOSED = Answer(403, (("content-type", "text/plain"), ("twofold-gate", "closed")), b"")


def read_form(arrival: Arrival, body: bytes | None) -> Pairs | None:
    """The fields of the form that was sent; None for anything that is no such form, or too much of one."""
    if (
        body is None
        or arrival.method != "POST"
        or arrival.header(b"content-type").partition(";")[0].strip().lower() != FORM
    ):
        return None
    try:
        return read_pairs(body)
    except ValueError:
        return None


def scope(arrival: Arrival) -> dict[str, Any]:
    """The request as ASGI has it."""
    return {
        "type": "http",
        "http_version": "1.1",
        "method": arrival.method,
        "scheme": arrival.scheme,
        "path": unquote(arrival.path),
        "raw_path": arrival.path.encode("ascii", "replace"),
        "root_path": "",
        "query_string": arrival.query.encode("latin-1", "replace"),
        "headers": list(arrival.headers),
        "client": arrival.client,
        "server": None,
    }


def split_page(prefix: str, shown: Answer) -> Page:
    """The page in the pieces that a layout takes."""
    title, content = split(shown.body.decode())
    style, script = (prefix + static.address(name) for name in ("embedded.css", "twofold.js"))
    head = Markup('<link rel="stylesheet" href="{}"><script type="module" src="{}"></script>').format(style, script)
    language = dict(shown.headers).get("content-language", "en")
    return Page(title, head, content, language, "rtl" if 'dir="rtl"' in content[:200] else "ltr")


def with_query(url: str, **values: str) -> str:
    """The address with these values, beside what its query holds already."""
    more = query(**values)
    return url + (more.replace("?", "&", 1) if "?" in url else more)


def query(**values: str) -> str:
    """A query string of what is not empty, with its question mark."""
    given = {name: value for name, value in values.items() if value}
    return f"?{urlencode(given)}" if given else ""


def go(url: str, arrival: Arrival) -> Answer:
    """On to another address."""
    status = 302 if arrival.method in SAFE else 303
    return Answer(status, (("location", url), ("cache-control", "no-store"), ("vary", "Cookie")), b"")


def problem(status: int, code: str, detail: str, **more: str) -> Answer:
    """A problem document (RFC 9457)."""
    body, headers = dump_problem(Problem(status, code, detail))
    if more:
        body = msgspec.json.encode(msgspec.json.decode(body) | more)
    return answer(Whole(status, (*headers, (b"cache-control", b"no-store")), body))


def answer(whole: Whole) -> Answer:
    """What the pages answered."""
    headers = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in whole.headers)
    return Answer(whole.status, tuple(pair for pair in headers if pair[0] != "content-length"), whole.body)
