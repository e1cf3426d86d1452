"""docs/howto/django.md followed word by word, in a new folder, to the first code that lets somebody in."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pyotp
import pytest
from tests.readers import Reader, Visitor

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "django.md"
NEXT = "## Before it goes live"
PASSWORD = "violet harbour 1926"
SERVE = ("python", "manage.py", "runserver", "--noreload", "PORT")
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    # What the reader types when `createsuperuser` asks.
    return Reader(
        tmp_path,
        DJANGO_SUPERUSER_USERNAME="root",
        DJANGO_SUPERUSER_EMAIL="root@example.com",
        DJANGO_SUPERUSER_PASSWORD=PASSWORD,
    )


@pytest.fixture
def followed(reader: Reader) -> Reader:
    """The project as it is after the first part of the page."""
    text = PAGE.read_text(encoding="utf-8")
    reader.follow(text[text.index("## Five lines") : text.index(NEXT)])
    return reader


def give_password(visitor: Visitor) -> None:
    """Sign in to the admin, as somebody at a browser that knows nothing."""
    visitor.http.cookies.clear()
    visitor.open("/admin/")
    visitor.send(username="root", password=PASSWORD)


def enroll(visitor: Visitor) -> str:
    """Add an authenticator app; its secret."""
    assert visitor.open("/2fa/security").path == "/2fa/enroll"
    secret = visitor.send(factor="totp").secret
    visitor.send(code=pyotp.TOTP(secret).now())
    assert len(visitor.page.recovery_codes) == 10
    return secret


def test_five_lines_lead_to_the_first_code_that_lets_somebody_in(followed: Reader) -> None:
    assert followed.changed <= 5
    with followed.serve(*SERVE) as visitor:
        give_password(visitor)
        assert visitor.page.path == "/admin/"
        secret = enroll(visitor)
        give_password(visitor)
        assert visitor.page.path == "/2fa/sign-in/code"
        assert visitor.open("/admin/auth/user/").path == "/2fa/sign-in/code"
        # The code of this half minute is used; the clock of the app may be half a minute fast.
        assert visitor.send(code=pyotp.TOTP(secret).at(time.time() + 30)).path == "/admin/auth/user/"
    assert (followed.folder / "twofold.db").is_file()
    assert (followed.folder / "twofold.key").is_file()


def test_both_checks_find_nothing_after_the_five_lines(followed: Reader) -> None:
    text = PAGE.read_text(encoding="utf-8")
    followed.follow(text[text.index(NEXT) : text.index("## Require it")])
    followed.run("python manage.py check --fail-level INFO")


def test_the_views_of_the_page_ask_for_what_it_says(followed: Reader) -> None:
    views = next(block for block in _PYTHON.findall(PAGE.read_text(encoding="utf-8")) if "def payroll" in block)
    (followed.folder / "acme" / "views.py").write_text(views, encoding="utf-8")
    with (followed.folder / "acme" / "urls.py").open("a", encoding="utf-8") as urls:
        urls.write("from acme import views\n")
        for name in ("close_account", "payroll", "health"):
            urls.write(f"urlpatterns.append(path({name!r}, views.{name}))\n")
    with followed.serve(*SERVE) as visitor:
        give_password(visitor)
        assert visitor.open("/payroll").path == "/2fa/enroll"
        enroll(visitor)
        assert visitor.open("/payroll").html == "payroll"
        assert (visitor.open("/close_account").path, visitor.page.status) == ("/2fa/fresh", 403)
        give_password(visitor)
        assert visitor.open("/health").html == "ok"
        assert visitor.open("/payroll").path == "/2fa/sign-in/code"
