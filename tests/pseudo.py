"""A language that nobody speaks: each sentence of the catalogue in brackets, right to left.

A page rendered in it shows at once what never went through the catalogue: Latin letters outside the brackets.
"""

import gettext
import re
from html.parser import HTMLParser

from babel import Locale

from twofold.server.words import Speech, Words

BEGINNING, END = "⟦⟧"

#: Elements and marks of text that has no language: names, labels, keys and codes.
WITHOUT_LANGUAGE = {"bdi", "code", "script", "style"}
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "rect", "path", "circle", "wbr"}
SPOKEN_ATTRIBUTES = {"alt", "aria-label", "placeholder", "title", "data-done", "data-said"}


class Bracketed(gettext.NullTranslations):
    def gettext(self, message: str) -> str:
        return f"{BEGINNING}{message}{END}"

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return f"{BEGINNING}{msgid1 if n == 1 else msgid2}{END}"


#: Arabic by its letters: dates and lists that Babel writes hold no Latin ones either.
PSEUDO = Speech(Locale.parse("ar"), Bracketed())


class PseudoWords(Words):
    """A catalogue in which everybody reads the pseudo-language."""

    def choose(self, accept_language: str) -> Speech:
        return PSEUDO


def escaped(html: str, *, names: tuple[str, ...] = ("Twofold",)) -> list[str]:
    """The texts of a page in the pseudo-language that no translator would ever see; `names` are the same everywhere."""
    page = _Page()
    page.feed(html)
    page.close()
    texts = ["".join(page.said), *page.attributes]
    outside = [part.strip() for text in texts for part in _outside_brackets(text).split("\n")]
    for name in names:
        outside = [part.replace(name, "") for part in outside]
    return [part for part in outside if re.search("[A-Za-z]", part)]


def _outside_brackets(text: str) -> str:
    """What stands in no brackets, a line for each piece; sentences within sentences nest."""
    depth, kept = 0, []
    for character in text:
        depth += (character == BEGINNING) - (character == END)
        if depth == 0:
            kept.append("\n" if character == END else character)
    return "".join(kept)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.attributes: list[str] = []
        self._silent: list[bool] = [False]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        marks = dict(attrs)
        silent = self._silent[-1] or tag in WITHOUT_LANGUAGE or marks.get("translate") == "no"
        if not silent and tag != "time":  # the exact time on a <time> is "… UTC" everywhere
            self.attributes += [value or "" for name, value in attrs if name in SPOKEN_ATTRIBUTES]
        if tag not in VOID:
            self._silent.append(silent)
            self.said.append("\n")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            self._silent.pop()
            self.said.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent[-1]:
            self.said.append(data)
