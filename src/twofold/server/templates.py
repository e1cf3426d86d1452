"""Templates to HTML: what every page may call, and how text of other people is made harmless in it.

A template finds the components (`templates/components.html`) as `ui`. Which values a page has is its own affair; the
ones that all need are the arguments of `render`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any, Final

import msgspec
from jinja2 import BaseLoader, Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from twofold.server import static
from twofold.server.words import AnyOf, Sentence, Speech, Value, Wait, inert, rfc3339

GROUP_LENGTH: Final = 4
#: A character that no page shows: text of other people comes without it (`inert`).
PAGE_BREAK: Final = "\x1e"


class Site(msgspec.Struct, frozen=True):
    """The deployment as its pages speak of it.

    `support` says whom to ask for help ("Call Ann, 555-0100"), `banner` what everybody must know on every page. The
    name leads `home`, and the link to sign out, if there is one, to `sign_out`; `logo` is a picture's address. `asker`
    is the application whose prompt these pages answer; they do nothing else then. People change their password here
    where it `has_passwords` of its own.
    """

    name: str
    support: str | None = None
    banner: Sentence | None = None
    home: str = "/"
    sign_out: str | None = "/sign-out"
    logo: str | None = None
    asker: str = ""
    has_passwords: bool = True


class Visitor(msgspec.Struct, frozen=True):
    """Who is signed in. `level` is that of the session: a pending one is shown no way to anywhere."""

    account_id: str
    display_name: str
    is_administrator: bool
    level: str


class Templates:
    """All templates; each is compiled once, when it is first used. `is_embedded`: they make what goes into another
    application's layout, and `split` takes it apart."""

    def __init__(self, loader: BaseLoader | None = None, *, is_embedded: bool = False) -> None:
        pages = loader or PackageLoader("twofold.server")
        self._environment = environment = Environment(
            loader=_Embedded(pages) if is_embedded else pages,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
            extensions=["jinja2.ext.i18n"],
        )
        environment.install_gettext_callables(_gettext, _ngettext, newstyle=True)  # type: ignore[attr-defined]
        environment.policies["ext.i18n.trimmed"] = True
        environment.globals.update(asset=static.address, icon=icon, ago=_ago, say=_say, page_break=PAGE_BREAK)
        environment.filters.update(
            ago=_ago, day=_day, grouped=grouped, inert=inert, number=_number, shown=shown, wait=_wait
        )

    def render(
        self, name: str, speech: Speech, now: int, /, *, site: Site, visitor: Visitor | None, csrf: str, **values: Any
    ) -> str:
        """The page `name`. `now` is in microseconds since 1970; `csrf` goes into every form of the page."""
        common = {"speech": speech, "now": now, "site": site, "visitor": visitor, "csrf": csrf}
        components = self._environment.get_template("components.html").make_module(common)
        return self._environment.get_template(name).render(common | values, ui=components)


class _Embedded(BaseLoader):
    """The same templates, in the frame that goes into another application's layout."""

    def __init__(self, pages: BaseLoader) -> None:
        self._pages = pages

    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Callable[[], bool] | None]:
        name = "embedded.html" if template == "base.html" else template
        return self._pages.get_source(environment, name)


def split(html: str) -> tuple[Markup, Markup]:
    """The title and the content of a page that is made for another application's layout."""
    title, _, content = html.partition(PAGE_BREAK)
    return Markup(title.strip()), Markup(content)  # noqa: S704 our own templates made both


def shown(text: str) -> Markup:
    """Text of somebody else: no markup, no invisible characters, and its direction ends where it ends."""
    return Markup("<bdi>{}</bdi>").format(inert(text))


def grouped(secret: str) -> str:
    """A key in groups of four, as people read and type it."""
    return " ".join(secret[start : start + GROUP_LENGTH] for start in range(0, len(secret), GROUP_LENGTH))


def icon(name: str) -> Markup:
    """An icon of `icons.svg`, drawn in the color of the text beside it, which says what it means."""
    return Markup(
        '<svg class="icon icon-{}" viewBox="0 0 24 24" width="24" height="24" aria-hidden="true">{}</svg>'
    ).format(name, _ICONS[name])


def _read_icons() -> dict[str, Markup]:
    drawing = (files("twofold.server") / "templates" / "icons.svg").read_text(encoding="utf-8")
    return {name: Markup(shapes.strip()) for name, shapes in _SYMBOL.findall(drawing)}  # noqa: S704 our own file


_SYMBOL = re.compile(r'<symbol id="([a-z-]+)" viewBox="0 0 24 24">(.*?)</symbol>', re.DOTALL)
_ICONS = _read_icons()


@pass_context
def _gettext(context: Context, msgid: str) -> str:
    return _speech(context).gettext(msgid)


@pass_context
def _ngettext(context: Context, msgid: str, plural: str, count: int) -> str:
    return _speech(context).ngettext(msgid, plural, count)


@pass_context
def _say(context: Context, sentence: Sentence | str) -> Markup:
    return _as_html(_speech(context), sentence) if isinstance(sentence, Sentence) else escape(sentence)


@pass_context
def _ago(context: Context, micros: int) -> Markup:
    speech = _speech(context)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        rfc3339(micros), speech.exact(micros), speech.ago(micros, context["now"])
    )


@pass_context
def _day(context: Context, micros: int) -> Markup:
    return Markup('<time datetime="{}">{}</time>').format(rfc3339(micros), _speech(context).day(micros))


@pass_context
def _wait(context: Context, seconds: int) -> Markup:
    return _as_html(_speech(context), Wait(seconds))


@pass_context
def _number(context: Context, number: float) -> str:
    return _speech(context).number(number)


def _speech(context: Context) -> Speech:
    speech: Speech = context["speech"]
    return speech


def _as_html(speech: Speech, value: Value) -> Markup:
    """A sentence with everything in its places made harmless."""
    match value:
        case str():
            return shown(value)
        case Wait(seconds=seconds):
            left = speech.duration(seconds)
            return Markup('<span class="wait" role="timer" data-wait="{}">{}</span>').format(seconds, left)
        case Sentence():
            places = {name: _as_html(speech, each) for name, each in speech.values(value).items()}
            return escape(speech.translate(value)) % places
        case AnyOf(items=items):
            return Markup(speech.listing([_as_html(speech, each) for each in items], style="or"))  # noqa: S704
        case Sequence():
            # What the language puts between the items is its own; the items are harmless already.
            return Markup(speech.listing([_as_html(speech, each) for each in value]))  # noqa: S704
    return escape(speech.write(value))
