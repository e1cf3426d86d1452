"""docs/howto/django.md followed word by word, in a new folder, to the first code that lets somebody in."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pyotp
import pytest
from tests.pages import Form, Page

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "django.md"
COMMANDS = Path(sys.executable).parent
NEXT = "## Before it goes live"
PASSWORD = "violet harbour 1926"
START_S_MAX = 30
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^(?:In `([^`]+)`|```(console|diff)\n(.*?)^```$)", re.MULTILINE | re.DOTALL)


class Reader:
    """Somebody who does what the page says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changed = 0
        own = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "TWOFOLD_"))}
        self.environment = own | {
            "PATH": f"{COMMANDS}:{os.environ['PATH']}",
            # What the reader types when `createsuperuser` asks.
            "DJANGO_SUPERUSER_USERNAME": "root",
            "DJANGO_SUPERUSER_EMAIL": "root@example.com",
            "DJANGO_SUPERUSER_PASSWORD": PASSWORD,
        }

    def follow(self, text: str) -> None:
        """Do it; that the application is served is left to `serve`."""
        place = ""
        for file, kind, block in _BLOCK.findall(text):
            if file:
                place = file
            elif kind == "diff":
                self.edit(self.folder / place, block)
            elif kind == "console":
                for command in block.splitlines():
                    self.run(command.removeprefix("$ "))

    def edit(self, file: Path, diff: str) -> None:
        before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in " -")
        after = "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[0] in " +")
        self.changed += sum(line.startswith("+") for line in diff.splitlines())
        text = file.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"{file} does not have what the page shows:\n{before}"
        file.write_text(text.replace(before, after), encoding="utf-8")

    def run(self, command: str) -> None:
        if command.startswith("pip install "):  # into the environment of these tests, where it is
            return
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
            return
        if command.endswith(" runserver"):
            return
        if command.endswith(" createsuperuser"):
            command += " --noinput"
        subprocess.run(command.split(), cwd=self.folder, env=self.environment, check=True, stdout=subprocess.DEVNULL)

    @contextmanager
    def serve(self) -> Iterator[Visitor]:
        """Start it on a free port; somebody at it."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = ["python", "manage.py", "runserver", "--noreload", str(port)]
        with subprocess.Popen(
            command, cwd=self.folder, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as server:
            visitor = Visitor(f"http://localhost:{port}")
            try:
                wait_until_open(port, server)
                yield visitor
            finally:
                visitor.http.close()
                server.terminate()


class Visitor:
    """A browser without scripts."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.http = httpx.Client(base_url=url, headers={"accept": "text/html"}, timeout=30)

    def open(self, path: str) -> Page:
        return self._take(self.http.get(path))

    def send(self, **fields: str) -> Page:
        forms = [Form(element, self.page.url) for element in self.page.root.all("form")]
        form = next((form for form in forms if {control["name"] for control in form.controls} >= fields.keys()), None)
        assert form is not None, f"no form with {list(fields)} on {self.page!r}"
        pairs = dict(form.filled(fields, form.buttons[0]))
        return self._take(self.http.post(form.action, data=pairs, headers={"origin": self.url}))

    def _take(self, answer: httpx.Response) -> Page:
        while answer.is_redirect:
            answer = self.http.get(urljoin(str(answer.url), answer.headers["location"]))
        self.page = Page(str(answer.url), answer.status_code, answer.headers, answer.text)
        return self.page


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path)


@pytest.fixture
def followed(reader: Reader) -> Reader:
    """The project as it is after the first part of the page."""
    text = PAGE.read_text(encoding="utf-8")
    reader.follow(text[text.index("## Five lines") : text.index(NEXT)])
    return reader


def wait_until_open(port: int, server: subprocess.Popen[bytes]) -> None:
    """Until somebody listens."""
    for _ in range(START_S_MAX * 20):
        assert server.poll() is None, "the server ended"
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError("the server does not listen")


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
    with followed.serve() as visitor:
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
    with followed.serve() as visitor:
        give_password(visitor)
        assert visitor.open("/payroll").path == "/2fa/enroll"
        enroll(visitor)
        assert visitor.open("/payroll").html == "payroll"
        assert (visitor.open("/close_account").path, visitor.page.status) == ("/2fa/fresh", 403)
        give_password(visitor)
        assert visitor.open("/health").html == "ok"
        assert visitor.open("/payroll").path == "/2fa/sign-in/code"
