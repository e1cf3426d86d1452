"""The project `acme` in this process, over a clock that tests move, and people with browsers and programs before it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urljoin

import django
import httpx
import pytest
from django.conf import settings
from tests.integrations.django.acme import settings as acme
from tests.pages import Form, Page, Value

from twofold.testing import Kit, open_kit

if not settings.configured:
    settings.configure(**{name: value for name, value in vars(acme).items() if name.isupper()})
    django.setup()

from django.contrib.auth import get_user_model
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command
from django.db import connections
from django.test.utils import override_settings
from tests.integrations.django.acme import views

from twofold.integrations.django import happened, open_guard

URL = "http://localhost:8000"
PREFIX = "/second/factor"
PASSWORD = "violet harbour 1926"


class Browser:
    """A browser without scripts: keeps cookies, follows redirects, sends forms. `page` is what it shows."""

    def __init__(self, site: Site) -> None:
        self.site = site
        headers = {"accept": "text/html", "user-agent": "Mozilla/5.0 (X11) Firefox/140.0"}
        self.http = httpx.Client(transport=httpx.WSGITransport(site.wsgi), base_url=URL, headers=headers)
        self.page: Page

    def open(self, path: str) -> Page:
        return self._take("GET", path)

    def send(self, page: Page | None = None, **fields: Value) -> Page:
        """Fill in the first form that has these fields, of the page that is shown or of an earlier one, and send it."""
        page = page or self.page
        # The pages of Django's own admin have no <main> in 4.2.
        forms = [Form(element, page.url) for element in page.root.all("form")]
        form = next((form for form in forms if {control["name"] for control in form.controls} >= fields.keys()), None)
        assert form is not None, f"no form with {list(fields)} on {page!r}"
        return self.post(form.action, form.filled(fields, form.buttons[0]))

    def post(self, path: str, pairs: list[tuple[str, str]]) -> Page:
        headers = {"origin": URL, "content-type": "application/x-www-form-urlencoded"}
        return self._take("POST", path, content=str(httpx.QueryParams(pairs)), headers=headers)

    def _take(self, method: str, path: str, **more: Any) -> Page:
        url = urljoin(URL, path)
        answer = self.http.request(method, url, **more)
        while answer.is_redirect:
            url = urljoin(url, answer.headers["location"])
            answer = self.http.get(url)
        self.page = Page(url, answer.status_code, answer.headers, answer.text)
        return self.page

    def give_password(self, name: str = "alice", at: str = "/accounts/login/") -> Page:
        self.open(at)
        return self.send(username=name, password=PASSWORD)

    def give_code(self, name: str = "alice") -> Page:
        return self.send(code=self.site.next_code(name))

    def plant(self, name: str, value: str) -> None:
        """Have the browser send this cookie and, of that name, no other."""
        self.http.cookies.set(name, value, domain="localhost.local", path="/")

    def sign_out(self) -> Page:
        token = self.http.cookies["csrftoken"]
        return self.post("/accounts/logout/", [("csrfmiddlewaretoken", token)])

    @property
    def is_in(self) -> bool:
        """Whether what is for people who are signed in is shown."""
        return "account of" in self.open("/account").html

    def close(self) -> None:
        self.http.close()


class Site:
    """The project, running."""

    def __init__(self, kit: Kit) -> None:
        self.kit = kit
        self.wsgi = WSGIHandler()
        self.browsers: list[Browser] = []
        self.heard: list[dict[str, Any]] = []
        happened.connect(self._hear)

    def open_browser(self) -> Browser:
        self.browsers.append(Browser(self))
        return self.browsers[-1]

    def add(self, name: str = "alice", *, second_factor: bool = True, **more: Any) -> Any:
        """Somebody with a password, and an authenticator app."""
        person = get_user_model().objects.create_user(name, f"{name}@example.com", PASSWORD, **more)
        if second_factor:
            self.kit.enroll(str(person.pk))
        return person

    def end(self) -> list[str]:
        """End it; the kinds of events that it told of, each to a receiver that asks Django's database."""
        close_guard()
        return [event["kind"] for event in self.heard]

    def _hear(self, **event: Any) -> None:
        get_user_model().objects.count()
        self.heard.append(event)

    def next_code(self, name: str = "alice") -> str:
        return self.kit.next_code(str(get_user_model().objects.get(username=name).pk))


OpenSite = Callable[..., Site]


@pytest.fixture(scope="session")
def tables() -> Iterator[None]:
    call_command("migrate", run_syncdb=True, verbosity=0)
    yield
    connections.close_all()
    shutil.rmtree(acme.BASE_DIR)


@pytest.fixture
def open_site(tables: None) -> Iterator[OpenSite]:
    """Give a function from what `TWOFOLD` says besides to the project, started anew."""
    with open_kit() as kit, ExitStack() as stack:
        opened: list[Site] = []

        def open_one(**options: Any) -> Site:
            close_guard()
            stack.enter_context(override_settings(TWOFOLD=settings.TWOFOLD | options))
            opened.append(Site(kit))
            return opened[-1]

        yield open_one
        for browser in (browser for site in opened for browser in site.browsers):
            browser.close()
        get_user_model().objects.all().delete()
        close_guard()
        views.DONE.clear()
        views.TOKENS.clear()


@pytest.fixture
def site(open_site: OpenSite) -> Site:
    """The project as it is."""
    return open_site()


def close_guard() -> None:
    if open_guard.cache_info().currsize:
        open_guard().close()
        open_guard.cache_clear()
