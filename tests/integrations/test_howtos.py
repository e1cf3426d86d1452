"""docs/howto/flask.md and fastapi.md followed word by word, in a new folder, to the first code that lets one in."""

import time
from pathlib import Path

import pyotp
import pytest
from tests.readers import Reader

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
COMMANDS = {
    "flask.md": ("flask", "--app", "shop", "run", "--port", "PORT"),
    "fastapi.md": ("uvicorn", "shop:app", "--port", "PORT"),
}


@pytest.mark.parametrize("page", COMMANDS)
def test_two_lines_lead_to_the_first_code_that_lets_somebody_in(tmp_path: Path, page: str) -> None:
    text = (HOWTO / page).read_text(encoding="utf-8")
    reader = Reader(tmp_path)
    reader.follow(text[text.index("## Two lines") : text.index("## Before it goes live")])
    assert reader.changed == 2
    with reader.serve(*COMMANDS[page]) as visitor:
        visitor.open("/login")
        visitor.send(name="alice", password="correct horse")
        assert (visitor.page.path, visitor.page.html.strip('"')) == ("/account", "The account of alice")
        assert visitor.open("/2fa/").path == "/2fa/enroll"
        secret = visitor.send(factor="totp").secret
        now = time.time()
        visitor.send(code=pyotp.TOTP(secret).at(now))
        assert len(visitor.page.recovery_codes) == 10
        assert visitor.open("/account").path == "/account"
        visitor.open("/logout")
        visitor.open("/login")
        assert visitor.send(name="alice", password="correct horse").path == "/2fa/sign-in/code"
        assert visitor.open("/account").path == "/2fa/sign-in/code"
        assert visitor.send(code=pyotp.TOTP(secret).at(now + 30)).path == "/account"
    assert (tmp_path / "twofold.db").is_file()


@pytest.mark.parametrize("page", COMMANDS)
def test_what_changes_before_it_goes_live_fits_what_is_there(tmp_path: Path, page: str) -> None:
    text = (HOWTO / page).read_text(encoding="utf-8")
    reader = Reader(tmp_path)
    reader.follow(text[text.index("## Two lines") : text.index("## Require it")])
    compile((tmp_path / "shop.py").read_text(encoding="utf-8"), "shop.py", "exec")
