"""What `TWOFOLD` says: who must have a second factor, who is there, and how the pages look."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import RequestFactory
from django.test.utils import override_settings
from tests.integrations.django.acme import views
from tests.integrations.django.conftest import PREFIX, OpenSite, Site

LAYOUT = """<!doctype html><html lang="{{ twofold.language }}" dir="{{ twofold.direction }}"><head>
<title>{{ twofold.title }} - Acme</title>{{ twofold.head }}</head><body>
<p>Acme, {{ user.username }}</p>{{ twofold.body }}</body></html>"""


def is_staff(user: object) -> bool:
    return bool(user.is_staff)  # type: ignore[attr-defined]


def test_whoever_must_have_a_second_factor_is_led_to_enroll_one_and_others_are_not(site: Site, open_site: OpenSite) -> None:
    site.add("root", is_superuser=True)
    site.add("staff", second_factor=False, is_staff=True)
    site.add("bo", second_factor=False)
    site = open_site(require=is_staff)
    staff, other = site.open_browser(), site.open_browser()
    assert staff.give_password("staff").path == f"{PREFIX}/enroll"
    assert staff.open("/admin/").path == f"{PREFIX}/enroll"
    assert other.give_password("bo").path == "/account"


def test_a_rule_may_be_a_dotted_path_and_may_ask_the_database(site: Site, open_site: OpenSite) -> None:
    site.add("root", is_superuser=True)
    site.add("bo", second_factor=False)
    browser = open_site(require=f"{__name__}.has_groups").open_browser()
    assert browser.give_password("bo").path == "/account"


def has_groups(user: object) -> bool:
    return user.groups.exists()  # type: ignore[attr-defined,no-any-return]


def test_it_does_not_start_with_a_rule_while_no_administrator_has_a_second_factor(
    site: Site, open_site: OpenSite
) -> None:
    person = site.add("root", second_factor=False, is_superuser=True)
    site.add("alice")
    with pytest.raises(ImproperlyConfigured, match="no administrator has a second factor yet") as refused:
        open_site(require=is_staff)
    assert "\n" not in str(refused.value)
    site.kit.enroll(str(person.pk))
    open_site(require=is_staff)


def test_who_administers_may_be_said(site: Site, open_site: OpenSite) -> None:
    site.add("root", second_factor=False, is_superuser=True)
    person = site.add("alice")
    open_site(require=is_staff, administrators=lambda: [str(person.pk)])


def test_it_does_not_start_inside_an_event_loop_otherwise_than_outside(site: Site, open_site: OpenSite) -> None:
    """As a server such as uvicorn starts it."""
    import asyncio

    async def start() -> None:
        open_site(require=is_staff)

    with pytest.raises(ImproperlyConfigured, match="no administrator"):
        asyncio.run(start())


def test_a_setting_that_is_none_is_refused_in_one_line(open_site: OpenSite) -> None:
    with pytest.raises(ImproperlyConfigured, match="TWOFOLD: .*isuer"):
        open_site(isuer="Acme")


def test_without_hooks_the_person_is_the_one_of_the_request(open_site: OpenSite) -> None:
    site = open_site(person=None)
    site.add()
    browser = site.open_browser()
    browser.give_password()
    assert not browser.is_in
    browser.give_code()
    assert browser.is_in


@pytest.fixture
def layout() -> Iterator[None]:
    """A frame of the project's own for Twofold's pages."""
    place = Path(settings.BASE_DIR, "templates", "twofold", "base.html")
    place.parent.mkdir(parents=True)
    place.write_text(LAYOUT, encoding="utf-8")
    with override_settings(TEMPLATES=[dict(settings.TEMPLATES[0])]):
        yield
    place.unlink()
    place.parent.rmdir()


def test_pages_are_shown_in_the_frame_of_the_project(layout: None, open_site: OpenSite) -> None:
    site = open_site()
    site.add()
    browser = site.open_browser()
    page = browser.give_password()
    assert page.title.endswith("- Acme")
    assert "Acme, alice" in page.text
    assert len(page.root.all("main")) <= 1
    assert all("content-length" not in name or int(value) == len(page.html.encode()) for name, value in page.headers.items())
    for element in page.root.all("link", "script"):
        address = element["href"] or element["src"]
        assert address.startswith(PREFIX)
        assert browser.http.get(address).status_code == 200
    assert browser.give_code().path == "/account"


def test_templates_show_the_way_and_whether_somebody_needs_it(site: Site) -> None:
    browser = site.open_browser()
    assert browser.open("/state").html == f"state “”, {PREFIX}/security"
    person = site.add(second_factor=False)
    browser.give_password()
    assert browser.open("/state").html.startswith("state “empty”")
    site.kit.enroll(str(person.pk))
    browser.open("/account")
    browser.give_code()
    assert browser.open("/state").html.startswith("state “active”")


def test_events_are_told_to_receivers(site: Site) -> None:
    person = site.add()
    browser = site.open_browser()
    browser.give_password()
    browser.send(code="000000")
    browser.give_code()
    kinds = site.end()
    assert {"attempt.rejected", "attempt.verified"} <= set(kinds)
    assert {event["account_id"] for event in site.heard} == {str(person.pk)}


def test_a_view_that_asks_for_more_opens_to_nobody_without_the_gate(site: Site) -> None:
    request: HttpRequest = RequestFactory().get("/payroll")
    with pytest.raises(ImproperlyConfigured, match="MIDDLEWARE has no"):
        views.payroll(request)
