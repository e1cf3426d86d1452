"""Templates: every sentence goes through the catalogue, and text of other people stays text."""

from pathlib import Path
from typing import Any

import pytest
from jinja2 import ChoiceLoader, DictLoader, PackageLoader, UndefinedError
from tests.pseudo import PSEUDO, escaped
from tests.server.gallery import gallery

from twofold.server import templates
from twofold.server.templates import Site, Templates, Visitor, grouped, shown
from twofold.server.words import Duration, Sentence, Speech, Wait, Words

NOW = 1_767_225_600_000_000
SITE = Site("Twofold")
ANN = Visitor("acc_ann", "Ann", is_administrator=True, level="full")
HOSTILE = "\u202eann\r\n<img src=x onerror=alert(1)> \"'&"
HARMLESS = "<bdi>\ufffdann␍␊&lt;img src=x onerror=alert(1)&gt; &#34;&#39;&amp;</bdi>"


@pytest.fixture
def english() -> Speech:
    return Words().choose("")


def show(source: str, speech: Speech, **values: Any) -> str:
    """What a template of one line comes to."""
    lines = Templates(ChoiceLoader([DictLoader({"line.html": source}), PackageLoader("twofold.server")]))
    common: dict[str, Any] = {"site": SITE, "visitor": None, "csrf": "c5rf"}
    return lines.render("line.html", speech, NOW, **common | values).strip()


def test_text_of_other_people_is_inert_wherever_it_is_shown(english: Speech) -> None:
    assert shown(HOSTILE) == HARMLESS
    assert show("{{ name|shown }}", english, name=HOSTILE) == HARMLESS
    assert show("{{ say(it) }}", english, it=Sentence("To %(name)s", {"name": HOSTILE})) == f"To {HARMLESS}"
    assert show("{{ say(it) }}", english, it=Sentence("%(names)s", {"names": [HOSTILE, "bob"]})) == (
        f"{HARMLESS} and <bdi>bob</bdi>"
    )
    assert show('{{ _("To %(name)s", name=name|shown) }}', english, name=HOSTILE) == f"To {HARMLESS}"
    assert "<img" not in show("{{ name }}", english, name=HOSTILE), "forgotten, it is still no markup"
    assert "<img" not in show('{{ _("To %(name)s", name=name) }}', english, name=HOSTILE)


def test_a_sentence_is_text_and_never_markup(english: Speech) -> None:
    assert show("{{ say(it) }}", english, it=Sentence("1 < 2 & %(n)s", {"n": 1234})) == "1 &lt; 2 &amp; 1,234"
    assert show("{{ say(it) }}", english, it="<b>") == "&lt;b&gt;"
    assert show("{{ say(it) }}", english, it=Sentence("%(d)s", {"d": Duration(240)})) == "4 minutes"


def test_a_wait_tells_the_script_how_long(english: Speech) -> None:
    waiting = '<span class="wait" role="timer" data-wait="90">1 minute and 30 seconds</span>'
    assert show("{{ say(it) }}", english, it=Sentence("in %(left)s", {"left": Wait(90)})) == f"in {waiting}"
    assert show('{{ _("in %(left)s", left=90|wait) }}', english) == f"in {waiting}"


def test_a_time_is_relative_with_the_exact_one_on_hover(english: Speech) -> None:
    assert show("{{ then|ago }}", english, then=NOW - 180_000_000) == (
        '<time datetime="2025-12-31T23:57:00Z" title="2025-12-31 23:57:00 UTC">3 minutes ago</time>'
    )
    assert show("{{ now|day }}", english) == '<time datetime="2026-01-01T00:00:00Z">January 1, 2026</time>'
    assert show("{{ 1234|number }}", english) == "1,234"


def test_one_template_speaks_each_readers_language(english: Speech) -> None:
    source = "{{ _('Hello') }} {% trans count=n %}One way{% pluralize %}{{ count }} ways{% endtrans %}"
    for _ in range(2):
        assert show(source, english, n=1) == "Hello One way"
        assert show(source, PSEUDO, n=2) == "⟦Hello⟧ ⟦2 ways⟧"


def test_a_value_that_was_forgotten_is_an_error_and_no_empty_place(english: Speech) -> None:
    with pytest.raises(UndefinedError):
        show("{{ nothing }}", english)


def test_a_key_is_grouped_by_four() -> None:
    assert grouped("ABCDEFGHIJ") == "ABCD EFGH IJ"
    assert grouped("ABCD") == "ABCD"
    assert grouped("") == ""


def test_an_unknown_icon_is_an_error() -> None:
    assert templates.icon("phone").startswith('<svg class="icon icon-phone"')
    with pytest.raises(KeyError):
        templates.icon("unicorn")


def test_a_form_carries_its_tokens_and_its_body(english: Speech) -> None:
    form = show('{% call ui.form("/x", form_id="f1") %}{{ ui.hidden("next", n) }}{% endcall %}', english, n='/a"b')
    assert '<form class="form" method="post" action="/x" data-once>' in form
    assert '<input type="hidden" name="csrf" value="c5rf">' in form
    assert '<input type="hidden" name="form" value="f1">' in form
    assert 'value="/a&#34;b"' in form
    assert 'name="form"' not in show('{% call ui.form("/x") %}{% endcall %}', english)


def test_a_box_with_an_error_says_so_to_everybody(english: Speech) -> None:
    box = show('{{ ui.field("name", "Name", error="Why.", hint="How.") }}', english)
    assert 'aria-describedby="field-name-error field-name-hint"' in box
    assert 'aria-invalid="true"' in box
    assert 'id="field-name-error"' in box
    assert 'id="field-name-hint"' in box
    quiet = show('{{ ui.field("name", "Name") }}', english)
    assert "aria-invalid" not in quiet
    assert "aria-describedby" not in quiet


def test_the_one_box_for_codes_shows_digits_first_and_letters_on_request(english: Speech) -> None:
    box = show('{{ ui.code_field(letters_url="?letters=1") }}', english)
    assert 'autocomplete="one-time-code"' in box
    assert 'inputmode="numeric"' in box
    assert 'href="?letters=1"' in box
    letters = show('{{ ui.code_field(letters_url="?letters=1", letters=True) }}', english)
    assert 'inputmode="text"' in letters
    assert "href" not in letters


def test_three_codes_go_into_one_box_that_is_told_how(english: Speech) -> None:
    box = show('{{ ui.codes_field(error="Why.") }}', english)
    assert box.count("<input") == box.count('name="codes"') == 1
    assert 'aria-describedby="field-codes-error field-codes-hint"' in box


PAGE = "page.html"
LINKS = [(Sentence("To the start"), "/")]


def test_the_title_begins_with_the_error(english: Speech) -> None:
    common: dict[str, Any] = {"site": SITE, "visitor": None, "csrf": ""}
    page = Templates().render(
        PAGE, english, NOW, **common, title=Sentence("Signed out"), text="Come back.", links=LINKS
    )
    assert "<title>Signed out \N{EN DASH} Twofold</title>" in page
    said = {
        "title": Sentence("That page does not exist."),
        "why": "Its address may be old.",
        "what_to_do": "Begin anew.",
    }
    error = Templates().render("error.html", english, NOW, **common, **said, wait_s=30)
    assert "<title>Error: That page does not exist. \N{EN DASH} Twofold</title>" in error
    assert 'data-wait="30"' in error


WIDE = """
{% extends "base.html" %}
{% set layout = "wide" %}
{% block title %}T{% endblock %}
{% block content %}{% endblock %}
"""


@pytest.mark.parametrize(
    ("visitor", "ways"),
    [
        (None, {"/sign-in/help"}),
        (Visitor("a", "Ann", is_administrator=True, level="pending"), {"/sign-in/help", "/sign-out"}),
        (Visitor("a", "Ann", is_administrator=False, level="full"), {"/security", "/sign-out"}),
        (ANN, {"/security", "/admin", "/admin/networks", "/sign-out"}),
    ],
)
def test_a_visitor_is_shown_only_ways_that_are_open(english: Speech, visitor: Visitor | None, ways: set[str]) -> None:
    assert ways_on(show(WIDE, english, visitor=visitor)) == ways


def test_a_step_of_something_leads_nowhere_else(english: Speech) -> None:
    page = Templates().render(PAGE, english, NOW, site=SITE, visitor=ANN, csrf="", title="T", text="t")
    assert ways_on(page) == {"/sign-out"}


def ways_on(page: str) -> set[str]:
    ways = ("/security", "/admin", "/admin/networks", "/sign-out", "/sign-in/help")
    return {way for way in ways if f'href="{way}"' in page}


def test_the_name_help_and_banner_of_the_deployment_stand_on_its_pages(english: Speech) -> None:
    site = Site(HOSTILE, support=HOSTILE, banner=Sentence("This address is not encrypted."))
    page = Templates().render(PAGE, english, NOW, site=site, visitor=None, csrf="", title="T", text="t")
    assert page.count(HARMLESS) == 2
    assert "<img" not in page
    assert "\u202e" not in page
    assert "This address is not encrypted." in page


def test_no_text_of_the_components_escapes_the_catalogue() -> None:
    assert escaped(gallery(PSEUDO, NOW)) == []


def test_text_that_escapes_is_found() -> None:
    assert escaped('<p>Bare</p><p>⟦Said <b>well</b>⟧</p><p title="Bare too">⟦a⟧ b</p><bdi>Ann</bdi>') == [
        "Bare",
        "b",
        "Bare too",
    ]
    assert escaped("<p>⟦From ⟦one⟧ to ⟦two⟧⟧ <code>KEY</code></p>") == []


def test_templates_have_no_style_and_no_script_of_their_own() -> None:
    folder = Path(templates.__file__).parent / "templates"
    for template in folder.rglob("*.html"):
        text = template.read_text(encoding="utf-8")
        for never in (
            " style=",
            "<style",
            " onclick=",
            " onsubmit=",
            " onerror=",
            "javascript:",
            "http://",
            "https://",
        ):
            assert never not in text, f"{template.name} has {never}"
