"""What `TWOFOLD` says: who must have a second factor, who is there, and how the pages look."""

from __future__ import annotations

import asyncio
import re
import shutil
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

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "django.md"
#: What docs/howto/django.md shows: the frame for Twofold's pages, and what goes into templates of the project.
LAYOUT, LINKS = re.findall(r"^```html\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
BASE = """<!doctype html><html lang="en"><head><title>{% block title %}{% endblock %} - Acme</title>
{% block head %}{% endblock %}</head>
<body><p>Acme, {{ user.username }}</p>{% block content %}{% endblock %}</body></html>
"""


def is_staff(user: object) -> bool:
    return bool(user.is_staff)  # type: ignore[attr-defined]


def test_whoever_must_have_a_second_factor_is_led_to_enroll_one(site: Site, open_site: OpenSite) -> None:
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

    async def start() -> None:
        open_site(require=is_staff)

    with pytest.raises(ImproperlyConfigured, match="no administrator"):
        asyncio.run(start())


def test_a_setting_that_is_none_is_refused_in_one_line(open_site: OpenSite) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"TWOFOLD: .*isuer"):
        open_site(isuer="Acme")


def test_it_does_not_start_deaf_to_new_passwords(open_site: OpenSite) -> None:
    others = [name for name in settings.INSTALLED_APPS if name != "twofold.integrations.django"]
    with override_settings(INSTALLED_APPS=others), pytest.raises(ImproperlyConfigured, match="INSTALLED_APPS has no"):
        open_site()


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
    templates = Path(settings.BASE_DIR, "templates")
    (templates / "twofold").mkdir(parents=True)
    (templates / "base.html").write_text(BASE, encoding="utf-8")
    (templates / "twofold" / "base.html").write_text(LAYOUT, encoding="utf-8")
    with override_settings(TEMPLATES=[dict(settings.TEMPLATES[0])]):
        yield
    shutil.rmtree(templates)


def test_pages_are_shown_in_the_frame_of_the_project(layout: None, open_site: OpenSite) -> None:
    site = open_site()
    site.add()
    browser = site.open_browser()
    page = browser.give_password()
    assert page.title.endswith("- Acme")
    assert "Acme, alice" in page.text
    assert len(page.root.all("main")) <= 1
    for element in page.root.all("link", "script"):
        address = element["href"] or element["src"]
        assert address.startswith(PREFIX)
        assert browser.http.get(address).status_code == 200
    assert browser.give_code().path == "/account"


def test_templates_show_the_way_and_whether_somebody_needs_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "STATE", LINKS)
    browser = site.open_browser()
    assert browser.open("/state").html.strip() == ""
    person = site.add(second_factor=False)
    browser.give_password()
    assert f'<a href="{PREFIX}/enroll">Protect your account</a>' in browser.open("/state").html
    site.kit.enroll(str(person.pk))
    browser.open("/account")
    browser.give_code()
    assert f'<a href="{PREFIX}/security">Your security</a>' in browser.open("/state").html


def test_events_are_told_to_receivers(site: Site) -> None:
    person = site.add()
    browser = site.open_browser()
    browser.give_password()
    browser.send(code="000000")
    browser.give_code()
    browser.sign_out()
    kinds = site.end()
    assert {"sign_in.vouched", "code.refused", "code.accepted", "session.ended"} <= set(kinds)
    assert {event["account_id"] for event in site.heard} == {str(person.pk)}


def test_a_view_that_asks_for_more_opens_to_nobody_without_the_gate(site: Site) -> None:
    request: HttpRequest = RequestFactory().get("/payroll")
    with pytest.raises(ImproperlyConfigured, match="MIDDLEWARE has no"):
        views.payroll(request)
