"""The colors of the stylesheet against each other, in both themes: WCAG 2.2 1.4.3 (text) and 1.4.11 (controls)."""

import re
from pathlib import Path

import pytest

from twofold.server import templates
from twofold.server.static import FILES

TEMPLATES = Path(templates.__file__).parent / "templates"

TEXT, CONTROL = 4.5, 3.0
GROUNDS = ("paper", "sheet", "sunken")

PAIRS = [
    *[(text, ground, TEXT) for text in ("ink", "muted", "accent", "bad", "good", "warning") for ground in GROUNDS],
    *[(line, ground, CONTROL) for line in ("control", "accent", "bad") for ground in GROUNDS],
    *[(kind, f"{kind}-soft", TEXT) for kind in ("accent", "good", "warning", "bad")],
    *[("ink", f"{kind}-soft", TEXT) for kind in ("accent", "good", "warning", "bad")],
    ("accent-deep", "accent-soft", TEXT),
    ("accent-deep", "sheet", TEXT),
    ("on-accent", "accent", TEXT),
    ("on-accent", "accent-deep", TEXT),
    ("sheet", "bad", TEXT),
    ("bad", "bad-soft", CONTROL),
    ("accent", "bad-soft", CONTROL),
    ("mark-b-deep", "paper", CONTROL),
]


def read_themes() -> dict[str, dict[str, str]]:
    """The colors of each theme by name; the dark one says only what differs."""
    css = FILES["twofold.css"].content.decode()
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", css, re.DOTALL)[:2]
    colors = [dict(re.findall(r"--([a-z-]+): #([0-9a-f]{6});", block)) for block in (light, dark)]
    return {"light": colors[0], "dark": colors[0] | colors[1]}


def luminance(color: str) -> float:
    parts = [int(color[start : start + 2], 16) / 255 for start in (0, 2, 4)]
    red, green, blue = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_contrast_is_computed_as_wcag_does() -> None:
    assert contrast("000000", "ffffff") == pytest.approx(21)
    assert contrast("777777", "ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_color_can_be_told_from_its_ground(theme: str) -> None:
    colors = read_themes()[theme]
    weak = [
        f"{front} on {back}: {contrast(colors[front], colors[back]):.2f}, at least {least}"
        for front, back, least in PAIRS
        if contrast(colors[front], colors[back]) < least
    ]
    assert weak == []


def test_every_color_of_the_light_theme_has_its_dark_one() -> None:
    css = FILES["twofold.css"].content.decode()
    light, dark = re.findall(r":root \{(.*?)\n\s*\}", css, re.DOTALL)[:2]
    names = [set(re.findall(r"--([a-z-]+): #", block)) for block in (light, dark)]
    assert names[0] == names[1]


def test_browsers_paint_their_own_frame_in_the_color_of_the_paper() -> None:
    base = (TEMPLATES / "base.html").read_text(encoding="utf-8")
    for theme, colors in read_themes().items():
        assert f'(prefers-color-scheme: {theme})" content="#{colors["paper"]}"' in base
