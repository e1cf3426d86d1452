"""What a middleware behind the gate does to a request that the gate let on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from django.conf import settings
from django.contrib.auth import get_user_model, login
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from tests.integrations.django.conftest import URL, Browser, OpenSite, Site

REMEMBERS = f"{__name__}.remember"


def remember(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    """Signs in whom a cookie names, as many an application does for people who come back."""

    def middleware(request: Any) -> HttpResponse:
        name = request.COOKIES.get("remember")
        if name and not request.user.is_authenticated:
            login(request, get_user_model().objects.get(username=name))
        return get_response(request)

    return middleware


@override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, REMEMBERS])
def test_somebody_whom_a_later_middleware_signs_in_is_asked_all_the_same(open_site: OpenSite) -> None:
    site = open_site()
    site.add("bob", second_factor=False)
    assert remembered(site, "bob").is_in
    site.add()
    browser = remembered(site, "alice")
    assert not browser.is_in
    assert "code" in browser.page.url
    browser.give_code()
    assert browser.is_in


def remembered(site: Site, name: str) -> Browser:
    browser = site.open_browser()
    browser.http.cookies.set("remember", name, domain=httpx.URL(URL).host + ".local", path="/")
    return browser
