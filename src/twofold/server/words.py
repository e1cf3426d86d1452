"""What the pages say, in the reader's language: one catalogue of sentences, and how times, numbers and lists are put.

The sentences themselves stand where they are needed, in English, as `{{ _("…") }}` in templates and as `Sentence` in
Python; other languages are `.po` files in `languages/`, whose README says how to add one. Nothing here knows HTML.
"""

from __future__ import annotations

import gettext
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Literal, TypeAlias

import msgspec
from babel import Locale, negotiate_locale
from babel.dates import format_date, format_timedelta
from babel.lists import format_list
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from babel.units import format_unit

from twofold.core.clock import MICROS_PER_S

ENGLISH = "en"
LANGUAGES = files("twofold.server") / "languages"

#: More of an Accept-Language header is not read; a browser sends about 40 characters.
ACCEPT_LANGUAGE_MAX = 200
JUST_NOW_S = 45


class Duration(msgspec.Struct, frozen=True):
    """A length of time inside a sentence: "12 seconds", "1 minute and 30 seconds"."""

    seconds: int


class Wait(msgspec.Struct, frozen=True):
    """A time to wait from now on: a Duration that counts itself down on a page."""

    seconds: int


class Moment(msgspec.Struct, frozen=True):
    """A point in time inside a sentence, exact: "2026-11-22 14:02:31 UTC". Microseconds since 1970."""

    micros: int


class AnyOf(msgspec.Struct, frozen=True):
    """Things of which one will do: "a, b, or c"."""

    items: Sequence[str | Sentence]


class Sentence(msgspec.Struct, frozen=True):
    """Something to say, translated only when it is shown.

    `msgid` is the English sentence with places like `%(name)s`; a percent sign is written `%%`. One that depends on a
    number is made by `counted`.
    """

    msgid: str
    values: Mapping[str, Value] = {}
    plural: str | None = None
    count: int = 0


def counted(one: str, many: str, count: int, **values: Value) -> Sentence:
    """A sentence about `%(count)s` things: each language chooses among its own forms by the number."""
    return Sentence(one, values, many, count)


#: What may stand in a place of a sentence. Text is shown as it is, whoever wrote it; a sequence becomes "a, b, and c".
Value: TypeAlias = "str | int | Sentence | Duration | Wait | Moment | AnyOf | Sequence[str | Sentence]"


class Speech:
    """One language: its sentences, its direction, its way to write times and numbers."""

    def __init__(self, locale: Locale, translations: gettext.NullTranslations) -> None:
        self.locale = locale
        self.tag: str = str(locale).replace("_", "-")
        self.direction: Literal["ltr", "rtl"] = "rtl" if locale.text_direction == "rtl" else "ltr"
        self.gettext: Callable[[str], str] = translations.gettext
        self.ngettext: Callable[[str, str, int], str] = translations.ngettext

    def say(self, sentence: Sentence | str) -> str:
        """The sentence in this language, as plain text; a str is in it already."""
        if isinstance(sentence, str):
            return sentence
        return self.translate(sentence) % {name: self.write(value) for name, value in self.values(sentence).items()}

    def translate(self, sentence: Sentence) -> str:
        """The sentence with its places still open."""
        if sentence.plural is None:
            return self.gettext(sentence.msgid)
        return self.ngettext(sentence.msgid, sentence.plural, sentence.count)

    def values(self, sentence: Sentence) -> dict[str, Value]:
        """What goes into the places of the sentence."""
        return dict(sentence.values) if sentence.plural is None else {"count": sentence.count, **sentence.values}

    def write(self, value: Value) -> str:
        """One value of a sentence as plain text."""
        match value:
            case str():
                return inert(value)
            case int():
                return self.number(value)
            case Sentence():
                return self.say(value)
            case Duration(seconds=seconds) | Wait(seconds=seconds):
                return self.duration(seconds)
            case Moment(micros=micros):
                return self.exact(micros)
            case AnyOf(items=items):
                return self.listing([self.write(each) for each in items], style="or")
        return self.listing([self.write(each) for each in value])

    def number(self, number: float) -> str:
        """Digits as the language groups them: 1,234.5."""
        return format_decimal(number, locale=self.locale)

    def listing(self, items: Sequence[str], *, style: Literal["standard", "or"] = "standard") -> str:
        """Several things in one line: a, b, and c; or, where one will do: a, b, or c."""
        return format_list(items, style=style, locale=self.locale)

    def duration(self, seconds: int) -> str:
        """Hours, minutes and seconds, the two largest; never less than there is to wait."""
        hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
        if hours:  # seconds are not worth a word here: they count as a minute begun
            hours, minutes = divmod(-(-seconds // 60), 60)
            rest = 0
        parts = [(hours, "duration-hour"), (minutes, "duration-minute"), (rest, "duration-second")]
        named = [part for part in parts if part[0]] or parts[-1:]
        return self.listing([format_unit(count, unit, length="long", locale=self.locale) for count, unit in named])

    def ago(self, micros: int, now: int) -> str:
        """How long before (or after) `now` that was: "just now", "3 minutes ago", "in 2 days"."""
        passed_s = (now - micros) // MICROS_PER_S
        if 0 <= passed_s < JUST_NOW_S:
            return self.gettext("just now")
        return format_timedelta(timedelta(seconds=-passed_s), add_direction=True, locale=self.locale)

    def exact(self, micros: int) -> str:
        """The same in every language, and in server time, so that two people can compare it."""
        return f"{_instant(micros):%Y-%m-%d %H:%M:%S} UTC"

    def day(self, micros: int) -> str:
        """The day alone: November 22, 2026."""
        return format_date(_instant(micros), "long", locale=self.locale)


class Words:
    """The catalogue: English, and each language that has a file."""

    def __init__(self, languages: Traversable = LANGUAGES) -> None:
        english = Speech(Locale.parse(ENGLISH), gettext.NullTranslations())
        self._speeches = {ENGLISH: english, **{speech.tag.lower(): speech for speech in _read_languages(languages)}}

    def choose(self, accept_language: str) -> Speech:
        """The language the reader likes best among ours, by an Accept-Language header (RFC 9110 section 12.5.4)."""
        wanted = _wanted(accept_language[:ACCEPT_LANGUAGE_MAX].lower())
        return self._speeches[negotiate_locale(wanted, self._speeches, sep="-") or ENGLISH]


def rfc3339(micros: int) -> str:
    """A point in time for machines: 2026-11-22T14:02:31Z."""
    return f"{_instant(micros):%Y-%m-%dT%H:%M:%SZ}"


def inert(text: str) -> str:
    """Text of somebody else that can be shown: what would steer the line or hide in it becomes visible.

    Controls become their pictures (U+2400 and on); format characters, among them the overrides that turn text around,
    and lone surrogates become U+FFFD. Joiners stay: names of many scripts are written with them.
    """
    return "".join(map(_visible, text))


def _visible(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cc":
        return chr(0x2400 + ord(character)) if character < " " else "\N{REPLACEMENT CHARACTER}"
    if category in {"Cf", "Cs", "Zl", "Zp"} and character not in _JOINERS:
        return "\N{REPLACEMENT CHARACTER}"
    return character


_JOINERS = "\N{ZERO WIDTH JOINER}\N{ZERO WIDTH NON-JOINER}"


def _instant(micros: int) -> datetime:
    return datetime.fromtimestamp(micros // MICROS_PER_S, UTC)


def _read_languages(languages: Traversable) -> Iterator[Speech]:
    """A file is compiled in memory at each start, so there is no build step that somebody could forget."""
    for file in sorted(languages.iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".po"):
            continue
        locale = Locale.parse(file.name.removesuffix(".po"))
        catalogue = read_po(io.BytesIO(file.read_bytes()), locale=locale, abort_invalid=True)
        compiled = io.BytesIO()
        write_mo(compiled, catalogue)
        compiled.seek(0)
        yield Speech(locale, gettext.GNUTranslations(compiled))


_RANGE = re.compile(r"\s*([a-z]{1,8}(?:-[a-z0-9]{1,8})*)\s*(?:;\s*q=(0(?:\.\d{0,3})?|1(?:\.0{0,3})?)\s*)?")


def _wanted(accept_language: str) -> list[str]:
    """The language tags of the header in small letters, best first; what is no tag, or has q=0, is left out."""
    ranges = (_RANGE.fullmatch(part) for part in accept_language.split(","))
    weighed = [(float(found[2] or 1), found[1]) for found in ranges if found]
    return [tag for weight, tag in sorted(weighed, key=lambda one: -one[0]) if weight > 0]
