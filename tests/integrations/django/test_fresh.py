"""Views that ask for a proof of their own: on GET, on POST, twice, by a program, by function and by class."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from django.db import connections
from tests.integrations.django.acme import views
from tests.integrations.django.conftest import PREFIX, URL, Browser, Site
from tests.pages import Page

FRESH_PAGE = f"{PREFIX}/fresh"


@pytest.fixture
def browser(site: Site) -> Browser:
    """Alice, signed in with both factors."""
    site.add()
    browser = site.open_browser()
    browser.give_password()
    browser.give_code()
    return browser


def resume(browser: Browser) -> Page:
    """Press the button, as the script of the page does."""
    return browser.send(amount=str(_field(browser.page, "amount")))


def _field(page: Page, name: str) -> str:
    return next(control["value"] for control in page.root.all("input", name=name))


@pytest.mark.parametrize("path", ["/transfer", "/whole", "/async/act", "/async/whole"])
def test_a_page_is_shown_after_a_fresh_code(browser: Browser, path: str) -> None:
    assert browser.open(path).path == FRESH_PAGE
    assert browser.give_code().path == path
    assert browser.page.status == 200
    assert browser.open(path).path == path


@pytest.mark.parametrize("path", ["/transfer", "/whole", "/part", "/async/act", "/async/whole"])
def test_a_form_without_a_proof_waits_for_it_and_is_sent_once(browser: Browser, path: str) -> None:
    page = browser.open(path)
    form = browser.give_code() if page.path == FRESH_PAGE else page
    browser.site.kit.clock.advance(301)
    page = browser.send(form, amount="25 € & more")
    assert (page.status, views.DONE) == (403, [])
    browser.give_code()
    assert views.DONE == []
    page = resume(browser)
    assert (page.status, page.html, len(views.DONE)) == (200, f"done {path}", 1)
    assert views.DONE[0].endswith("25 € & more")


def test_the_same_form_sent_twice_acts_once(browser: Browser) -> None:
    browser.open("/transfer")
    form = browser.give_code()
    browser.send(form, amount="25")
    assert browser.page.html == "done /transfer"
    again = browser.send(form, amount="25")
    assert (again.status, views.DONE) == (403, ["transfer 25"])


def test_of_forms_sent_at_the_same_moment_one_acts(browser: Browser) -> None:
    browser.open("/transfer")
    form = browser.give_code().form(fields={"amount": ""})
    pairs = dict(form.filled({"amount": "25"}, form.buttons[0]))
    cookies, headers = dict(browser.http.cookies), {**browser.http.headers, "origin": URL}

    def send(_: int) -> int:
        try:
            with httpx.Client(transport=httpx.WSGITransport(browser.site.wsgi), base_url=URL, cookies=cookies) as http:
                return http.post("/transfer", data=pairs, headers=headers).status_code
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        statuses = sorted(threads.map(send, range(8)))
    assert statuses == [200, *[403] * 7]
    assert views.DONE == ["transfer 25"]


def test_the_proof_for_one_form_is_none_for_another(browser: Browser) -> None:
    form = browser.open("/part")
    browser.send(form, amount="25")
    browser.give_code()
    other = browser.send(form, amount="26")
    assert (other.status, views.DONE) == (403, [])
    browser.open("/whole")
    assert browser.page.path == FRESH_PAGE


def test_a_code_is_not_enough_where_a_passkey_is_asked_for(browser: Browser) -> None:
    page = browser.open("/close")
    assert (page.path, page.status) == (FRESH_PAGE, 403)
    assert "passkey" in page.text


def test_whoever_has_no_second_factor_is_led_to_one(site: Site) -> None:
    site.add(second_factor=False)
    browser = site.open_browser()
    browser.give_password()
    for path in ("/payroll", "/transfer", "/async/act"):
        assert browser.open(path).path == f"{PREFIX}/enroll"


@pytest.mark.parametrize("path", ["/payroll", "/whole"])
def test_whoever_is_nobody_signs_in_first(site: Site, path: str) -> None:
    page = site.open_browser().open(path)
    assert (page.path, page.query) == ("/accounts/login/", f"next={path.replace('/', '%2F')}")


@pytest.fixture
def program(site: Site) -> Iterator[httpx.Client]:
    """A program with a token of Alice's, and her code."""
    site.add()
    views.TOKENS["secret"] = "alice"
    with httpx.Client(transport=httpx.WSGITransport(site.wsgi), base_url=URL) as program:
        program.headers["authorization"] = "Bearer secret"
        assert program.post(f"{PREFIX}/verify", json={"code": site.next_code()}).json()["verified"] is True
        yield program


def test_a_program_proves_for_the_act_and_does_it_once(site: Site, program: httpx.Client) -> None:
    refused = program.post("/api/transfer", json={"amount": "5"})
    assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
    proof = {"code": site.next_code(), "act": refused.json()["act"]}
    assert program.post(f"{PREFIX}/verify", json=proof).json() == {"verified": True}
    assert program.post("/api/transfer", json={"amount": "5"}).text == "done /api/transfer"
    assert program.post("/api/transfer", json={"amount": "5"}).status_code == 403
    assert views.DONE == ["api 5"]


def test_a_form_with_files_is_sent_again_by_whoever_sent_it(browser: Browser) -> None:
    token = browser.open("/part").root.only("input", name="csrfmiddlewaretoken")["value"]
    form = {"amount": "3", "csrfmiddlewaretoken": token}
    files = {"photo": ("photo.png", b"\x89PNG")}
    headers = {"origin": URL, "sec-fetch-mode": "navigate"}
    asked = browser.http.post("/part", data=form, files=files, headers=headers)
    assert (asked.status_code, views.DONE) == (303, [])
    browser.open(asked.headers["location"])
    browser.give_code()
    assert browser.http.post("/part", data=form, files=files, headers=headers).text == "done /part"
    assert browser.http.post("/part", data=form, files=files, headers=headers).status_code == 303
    assert views.DONE == ["part 3"]


def test_django_keeps_looking_at_forms_for_itself(browser: Browser) -> None:
    """A page of somebody else can send neither the form nor the proof that it would need."""
    browser.open("/transfer")
    browser.give_code()
    assert browser.post("/transfer", [("amount", "25")]).status == 403
    assert views.DONE == []
