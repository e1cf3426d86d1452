"""Sentences in the reader's language, and times, numbers and lists as that language writes them."""

import tomllib
from collections import defaultdict
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from tests.pseudo import PSEUDO

from twofold.server import words as words_module
from twofold.server.words import LANGUAGES, Duration, Moment, Sentence, Speech, Wait, Words, counted, inert, rfc3339

NOW = 1_767_225_600_000_000  # 2026-01-01 00:00:00 UTC
SECOND = 1_000_000

POLISH = """
msgid ""
msgstr ""
"Content-Type: text/plain; charset=utf-8\\n"
"Plural-Forms: nplurals=3; plural=(n==1 ? 0 : n%10>=2 && n%10<=4 && (n%100<12 || n%100>14) ? 1 : 2);\\n"

msgid "Sign in"
msgstr "Zaloguj się"

msgid "Welcome, %(name)s."
msgstr "Witaj, %(name)s."

msgid "One code is left."
msgid_plural "%(count)s codes are left."
msgstr[0] "Pozostał jeden kod."
msgstr[1] "Pozostały %(count)s kody."
msgstr[2] "Pozostało %(count)s kodów."

#, fuzzy
msgid "Sign out"
msgstr "Zaloguj się"
"""


@pytest.fixture
def english() -> Speech:
    return Words().choose("")


@pytest.fixture
def words(tmp_path: Path) -> Words:
    (tmp_path / "pl.po").write_text(POLISH, encoding="utf-8")
    (tmp_path / "he.po").write_text('msgid "Sign in"\nmsgstr "כניסה"\n', encoding="utf-8")
    (tmp_path / "pt_BR.po").write_text('msgid "Sign in"\nmsgstr "Entrar"\n', encoding="utf-8")
    (tmp_path / "README").write_text("no language")
    return Words(tmp_path)


@pytest.mark.parametrize(
    ("header", "tag"),
    [
        ("", "en"),
        ("pl", "pl"),
        ("pl-PL,pl;q=0.9,en;q=0.8", "pl"),
        ("PL", "pl"),
        ("Pt-bR", "pt-BR"),
        ("pt", "en"),
        ("en-GB,en;q=0.9,pl;q=0.8", "en"),
        ("en;q=0.1, pl;q=0.7, he;q=0.3", "pl"),
        ("de, fr;q=0.9", "en"),
        ("pl;q=0, he", "he"),
        ("*", "en"),
        ("pl;q=2, \x00, ;;;, he", "he"),
        ("x" * 5_000 + ",pl", "en"),
    ],
)
def test_the_reader_gets_the_language_they_like_best_among_ours(words: Words, header: str, tag: str) -> None:
    assert words.choose(header).tag == tag


def test_a_sentence_is_translated_when_it_is_said_and_english_when_nobody_translated_it(words: Words) -> None:
    polish = words.choose("pl")
    assert polish.say(Sentence("Welcome, %(name)s.", {"name": "Ann"})) == "Witaj, Ann."
    assert polish.say(Sentence("Never seen before.")) == "Never seen before."
    assert polish.say(Sentence("Sign out")) == "Sign out", "a translation that is only a guess is not shown"
    assert polish.say("Already said: 100%") == "Already said: 100%"


@pytest.mark.parametrize(
    ("count", "polish", "english"),
    [
        (1, "Pozostał jeden kod.", "One code is left."),
        (3, "Pozostały 3 kody.", "3 codes are left."),
        (5, "Pozostało 5 kodów.", "5 codes are left."),
        (22, "Pozostały 22 kody.", "22 codes are left."),
    ],
)
def test_each_language_has_its_own_plurals(words: Words, count: int, polish: str, english: str) -> None:
    sentence = counted("One code is left.", "%(count)s codes are left.", count)
    assert words.choose("pl").say(sentence) == polish
    assert words.choose("en").say(sentence) == english


def test_the_direction_is_that_of_the_language(words: Words) -> None:
    assert words.choose("he").direction == "rtl"
    assert words.choose("pl").direction == "ltr"
    assert PSEUDO.direction == "rtl"


def test_values_are_written_as_the_language_writes_them(english: Speech) -> None:
    values = {
        "who": ["ann", Sentence("the %(office)s", {"office": "help desk"}), "bob"],
        "how_many": 1234,
        "behind": Duration(240),
        "left": Wait(12),
        "at": Moment(NOW),
    }
    sentence = Sentence("%(who)s; %(how_many)s; %(behind)s; %(left)s; %(at)s; 100%%", values)
    assert english.say(sentence) == (
        "ann, the help desk, and bob; 1,234; 4 minutes; 12 seconds; 2026-01-01 00:00:00 UTC; 100%"
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 seconds"),
        (1, "1 second"),
        (60, "1 minute"),
        (90, "1 minute and 30 seconds"),
        (900, "15 minutes"),
        (3_541, "59 minutes and 1 second"),
        (3_601, "1 hour and 1 minute"),
        (7_199, "2 hours"),
        (86_400, "24 hours"),
    ],
)
def test_a_duration_is_never_shorter_than_the_wait(english: Speech, seconds: int, said: str) -> None:
    assert english.duration(seconds) == said


@pytest.mark.parametrize(
    ("passed_s", "said"),
    [
        (0, "just now"),
        (44, "just now"),
        (180, "3 minutes ago"),
        (7_200, "2 hours ago"),
        (400 * 86_400, "1 year ago"),
        (-180, "in 3 minutes"),
        (-1, "in 1 second"),
    ],
)
def test_a_time_is_told_by_how_long_ago_it_was(english: Speech, passed_s: int, said: str) -> None:
    assert english.ago(NOW - passed_s * SECOND, NOW) == said


def test_the_exact_time_is_the_servers_in_every_language(english: Speech) -> None:
    assert english.exact(NOW + 999_999) == PSEUDO.exact(NOW) == "2026-01-01 00:00:00 UTC"
    assert rfc3339(NOW) == "2026-01-01T00:00:00Z"
    assert english.day(NOW) == "January 1, 2026"


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("Ann's phone", "Ann's phone"),
        ("Zoë 電話 📱 שלום", "Zoë 電話 📱 שלום"),
        ("\u0646\u0627\u0645\u0647\u200c\u0627\u06cc", "\u0646\u0627\u0645\u0647\u200c\u0627\u06cc"),  # joined
        ("\u202egnp.exe", "\ufffdgnp.exe"),
        ("a\u2066b\u2069\u200fc\u200b", "a\ufffdb\ufffd\ufffdc\ufffd"),
        ("x\r\nBcc: y\t\x00\x7f\x85", "x␍␊Bcc: y␉␀\ufffd\ufffd"),
        ("\ud800\u2028", "\ufffd\ufffd"),
    ],
)
def test_what_would_steer_or_hide_in_a_line_becomes_visible(english: Speech, text: str, safe: str) -> None:
    assert inert(text) == safe
    assert english.say(Sentence("%(name)s", {"name": text})) == safe


def extracted() -> list[tuple[str, ...]]:
    """The sentences that a translator gets, with their plurals, as the README of the languages has them extracted."""
    mapping = tomllib.loads((LANGUAGES / "mapping.toml").read_text(encoding="utf-8"))["mappings"]
    keywords = {"_": None, "gettext": None, "ngettext": (1, 2), "Sentence": None, "counted": (1, 2)}
    found = extract_from_dir(
        Path(words_module.__file__).parent,
        method_map=[(each["pattern"], each["method"]) for each in mapping],
        options_map={each["pattern"]: {"trimmed": each.get("trimmed", "")} for each in mapping},
        keywords=keywords,
    )
    return [message if isinstance(message, tuple) else (message,) for _, _, message, _, _ in found]


def test_every_sentence_reaches_the_translators() -> None:
    found = extracted()
    assert ("Skip to the content",) in found, "of a template"
    assert ("just now",) in found, "of a module"
    assert ("Step %(current)s of %(total)s",) in found, "of a block in a template"


def test_every_sentence_can_be_said() -> None:
    """A percent sign that is not doubled would fail only when somebody gets to see the sentence."""
    for message in extracted():
        for form in message:
            assert form % defaultdict(str) is not None, form
