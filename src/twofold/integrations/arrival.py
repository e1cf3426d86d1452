"""A request to the application, in words of no framework: who is signed in, by which login, and what is asked for.

What follows from it is the guard's (`guard.py`).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import MutableMapping
from typing import Any, Literal

import msgspec
from markupsafe import Markup

from twofold.core.account import check_account_id
from twofold.errors import ConfigurationError, InvalidInput

#: A proof for one act counts no longer, whatever a view says.
FRESH_S_MAX = 3600
SESSION_KEY = "twofold"
#: Methods that change nothing.
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
#: Credentials that are of one login. What a browser sends of itself with every request (`Basic`) is not.
_TOKEN = re.compile(rb"(?:bearer|token) +\S", re.IGNORECASE)
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+")
_PATH = re.compile(r"/(?!/)[^\s\\]*")

Headers = tuple[tuple[bytes, bytes], ...]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How the pages live in the application.

    `database` is a SQLite file's or PostgreSQL's URL, `prefix` where the pages are, `issuer` the name in people's apps,
    `public_url` the origin that people open (without one only localhost works), `login_url` and `sign_out_url` paths
    of the application, `logo` the path of a picture. A second factor counts for `session_hours` in one login.
    `has_layout`: pages are shown in the application's own layout.
    """

    database: str = "sqlite:///twofold.db"
    prefix: str = "/2fa"
    issuer: str = "Twofold"
    public_url: str | None = None
    login_url: str = "/login"
    sign_out_url: str | None = None
    logo: str | None = None
    session_hours: int = 24
    has_layout: bool = False

    def __post_init__(self) -> None:
        if _PREFIX.fullmatch(self.prefix) is None:
            raise ConfigurationError(f"prefix {self.prefix!r}: expected a path such as /2fa")
        for name in ("login_url", "sign_out_url", "logo"):
            path = getattr(self, name)
            if path is not None and _PATH.fullmatch(path) is None:
                raise ConfigurationError(f"{name} {path!r}: expected a path of the application, such as /login")
        if type(self.session_hours) is not int or not 1 <= self.session_hours <= 24 * 31:
            raise ConfigurationError("session_hours: expected 1 to 744")

    def is_way_in(self, path: str) -> bool:
        """Whether people sign in or out there: who is half in may become somebody else, or leave."""
        return path in (self.login_url.partition("?")[0], (self.sign_out_url or self.login_url).partition("?")[0])


class Person(msgspec.Struct, frozen=True):
    """Who is signed in to the application: `id` becomes the account's, `name` is what people read, `user` whatever
    `require` asks its rule about (else the id)."""

    id: str
    name: str = ""
    user: Any = None


class Login(msgspec.Struct, frozen=True):
    """What names one login of the application; `has_ended`: it is over, and so is what was tied to it."""

    name: str = ""
    has_ended: bool = False


class Arrival(msgspec.Struct, frozen=True):
    """A request to the application. `path` is as it was sent, percent-encoded, without the query and without `root`,
    under which the whole application is mounted; header names are in lower case."""

    method: str
    path: str
    query: str
    headers: Headers
    client: tuple[str, int] | None = None
    scheme: str = "http"
    root: str = ""

    def header(self, name: bytes) -> str:
        """The value of a header; "" where there is none."""
        return next((value.decode("latin-1") for key, value in self.headers if key == name), "")

    @property
    def wants_page(self) -> bool:
        """Whether somebody sees the answer, and no program reads it."""
        if mode := self.header(b"sec-fetch-mode"):
            return mode == "navigate"
        return "text/html" in self.header(b"accept")

    @property
    def address(self) -> str:
        """The path with its query."""
        return self.path + (f"?{self.query}" if self.query else "")


class Page(msgspec.Struct, frozen=True):
    """A page for the application's layout: `head` goes into its `<head>`, `body` where its content is."""

    title: Markup
    head: Markup
    body: Markup
    language: str
    direction: str


class Answer(msgspec.Struct, frozen=True):
    """What is sent back instead of the application's answer; where there is a `page`, the application's layout may
    take the place of `body`."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    page: Page | None = None


class Demand(msgspec.Struct, frozen=True):
    """What a view asks for: a second factor; with `minutes` one that was shown for just this act, not longer ago."""

    minutes: int | None = None
    at_least: Literal["code", "passkey"] = "code"

    def __post_init__(self) -> None:
        if self.minutes is not None and (type(self.minutes) is not int or not 1 <= self.minutes * 60 <= FRESH_S_MAX):
            raise ConfigurationError(f"fresh: minutes: expected 1 to {FRESH_S_MAX // 60}")
        if self.at_least not in ("code", "passkey"):
            raise ConfigurationError('fresh: at_least: expected "code" or "passkey"')

    @property
    def seconds(self) -> int:
        """How long ago the proof may be."""
        return (self.minutes or 0) * 60


class Happened(msgspec.Struct, frozen=True):
    """An event that was just written down: `docs/events.md` lists the kinds. `at` in microseconds since 1970."""

    account_id: str
    kind: str
    at: int
    payload: dict[str, Any]


def find_login(session: MutableMapping[str, Any] | None, person: Person | None, headers: Headers) -> Login:
    """The login that a request belongs to: that of its bearer token, else a random value in the application's session,
    which is dropped as soon as nobody, or somebody else, is signed in. Raises `ConfigurationError` without either."""
    tokens = [value for name, value in headers if name == b"authorization" and _TOKEN.match(value)]
    if tokens and person is not None:
        return Login("token " + hashlib.sha256(b"\n".join(tokens)).hexdigest())
    kept = session.get(SESSION_KEY) if session is not None else None
    owner, nonce = _read_kept(kept)
    if person is None:
        if session is not None and kept is not None:
            del session[SESSION_KEY]
        return Login(nonce, has_ended=bool(nonce))
    if session is None:
        raise ConfigurationError(
            "somebody is signed in, and there is neither a session nor a bearer token that names the login: add the"
            " framework's session middleware, or say login=…"
        )
    if owner != person.id:
        nonce = secrets.token_urlsafe(16)
        session[SESSION_KEY] = [person.id, nonce]
    return Login(nonce)


def _read_kept(kept: object) -> tuple[str, str]:
    """Whose login it was, and its value; both empty if there is none. A session comes back from JSON."""
    match kept:
        case [str(owner), str(nonce)]:
            return owner, nonce
    return "", ""


def check_person(found: Person | str | int | None) -> Person | None:
    """What an application said of who is signed in. Raises `InvalidInput` for what can be no id: an account that cannot
    be found would pass for one without a second factor."""
    match found:
        case None:
            return None
        case Person(id=str(account_id)):
            check_account_id(account_id)
            return found
        case str():
            return Person(check_account_id(found), user=found)
        case int() if not isinstance(found, bool):
            return Person(str(found), user=found)
    raise InvalidInput("person", "None, an id as text or number, or a Person with an id as text")
