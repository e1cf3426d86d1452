"""What `account enroll` draws on terminals of different sizes."""

import click
import pytest

from twofold import qr
from twofold.commands import codes

URI = "otpauth://totp/Twofold:me?secret=" + "A" * 32 + "&issuer=Twofold&algorithm=SHA1&digits=6&period=30"


@pytest.fixture
def drawn(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> object:
    def draw(columns: int, lines: int, term: str = "xterm") -> str:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("LINES", str(lines))
        monkeypatch.setenv("TERM", term)
        with click.Context(click.Command("enroll"), color=True):
            codes._draw(URI)
        return capsys.readouterr().out

    return draw


def test_a_code_that_fits_is_drawn_and_nothing_is_said_about_it(drawn: object) -> None:
    assert callable(drawn)
    shown = drawn(120, 60)
    assert qr.terminal(URI) in shown
    assert "window" not in shown


def test_a_terminal_that_is_too_low_is_told_how_high_it_should_be(drawn: object) -> None:
    assert callable(drawn)
    shown = drawn(80, 24)
    assert qr.terminal(URI) in shown
    assert f"{qr.terminal_size(URI)[1] + 8} lines high" in shown


@pytest.mark.parametrize(("columns", "term"), [(40, "xterm"), (120, "dumb")])
def test_where_no_code_can_be_drawn_the_other_ways_are_named(drawn: object, columns: int, term: str) -> None:
    assert callable(drawn)
    shown = drawn(columns, 60, term)
    assert "\x1b" not in shown
    assert "--png FILE" in shown
