"""Every door of a Django application with the first factor only, and with both."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pyotp
import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode
from tests.integrations.django.acme import views
from tests.integrations.django.conftest import PASSWORD, PREFIX, URL, Browser, Site
from tests.pages import Page

CODE_PAGE = f"{PREFIX}/sign-in/code"
ENROLL_PAGE = f"{PREFIX}/enroll"


def by_form(browser: Browser) -> None:
    browser.give_password()


def by_magic_link(browser: Browser) -> None:
    browser.open("/magic/alice")


def by_password_reset(browser: Browser) -> None:
    person = get_user_model().objects.get(username="alice")
    uid = urlsafe_base64_encode(force_bytes(person.pk))
    browser.open(f"/reset/{uid}/{default_token_generator.make_token(person)}/")
    browser.send(new_password1="another violet 1926", new_password2="another violet 1926")


def by_the_form_of_the_admin(browser: Browser) -> None:
    browser.give_password(at="/admin/login/?next=/account")


DOORS = (by_form, by_magic_link, by_password_reset, by_the_form_of_the_admin)


@pytest.mark.parametrize("door", DOORS)
def test_no_door_opens_with_the_first_factor_alone_and_each_opens_with_both(
    site: Site, door: Callable[[Browser], None]
) -> None:
    site.add(is_staff=True)
    browser = site.open_browser()
    door(browser)
    for path in ("/account", "/", "/transfer", "/payroll", "/async", "/whole", "/admin/", "/nowhere"):
        assert browser.open(path).path == CODE_PAGE, path
        assert browser.post(path, [("amount", "1")]).path == CODE_PAGE, path
    browser.open("/account")
    assert browser.give_code().path == "/account"
    assert browser.is_in
    assert browser.open("/admin/").path == "/admin/"
    assert browser.open("/nowhere").status == 404


def test_a_page_for_everybody_stays_open_to_visitors_who_are_nobody(site: Site) -> None:
    assert site.open_browser().open("/").html == "home"


def test_after_the_code_one_is_where_one_wanted_to_go(site: Site) -> None:
    site.add()
    browser = site.open_browser()
    browser.open("/accounts/login/?next=/account%3Fa%3D1%262")
    browser.send(username="alice", password=PASSWORD)
    page = browser.give_code()
    assert (page.path, page.query) == ("/account", "a=1&2")


def test_a_wrong_code_opens_nothing(site: Site) -> None:
    site.add()
    browser = site.open_browser()
    browser.give_password()
    assert browser.send(code="000000").path == CODE_PAGE
    assert not browser.is_in


def test_an_administrator_who_acts_as_somebody_else_gives_her_own_code(site: Site) -> None:
    site.add()
    site.add("root", is_superuser=True)
    browser = site.open_browser()
    browser.give_password("root")
    browser.open("/login-as/alice")
    assert not browser.is_in
    browser.open("/account")
    browser.give_code("root")
    browser.open("/login-as/alice")
    browser.give_code("root")
    assert "account of alice" in browser.open("/account").html


def test_a_token_of_the_api_opens_with_a_code_only(site: Site) -> None:
    site.add()
    views.TOKENS["secret"] = "alice"
    with httpx.Client(transport=httpx.WSGITransport(site.wsgi), base_url=URL) as program:
        program.headers["authorization"] = "Bearer secret"
        refused = program.get("/api/account")
        assert (refused.status_code, refused.json()["code"]) == (403, "second_factor_required")
        assert refused.json()["url"] == CODE_PAGE
        assert program.post(f"{PREFIX}/verify", json={"code": "000000"}).json()["verified"] is False
        assert program.get("/api/account").status_code == 403
        assert program.post(f"{PREFIX}/verify", json={"code": site.next_code()}).json()["verified"] is True
        assert program.get("/api/account").json() == {"account": "alice"}
        views.TOKENS["other"] = "alice"
        program.headers["authorization"] = "Bearer other"
        assert program.get("/api/account").status_code == 403


def test_the_admin_lets_nobody_in_without_both(site: Site) -> None:
    site.add("root", is_staff=True, is_superuser=True)
    browser = site.open_browser()
    assert browser.give_password("root", at="/admin/login/?next=/admin/").path == CODE_PAGE
    assert browser.open("/admin/password_change/").path == CODE_PAGE
    assert browser.give_code("root").path == "/admin/password_change/"


def test_a_session_planted_in_somebodys_browser_is_worth_nothing(site: Site) -> None:
    """The attacker knows the session id of before, the one after the password, and has Twofold's cookie of before."""
    site.add()
    thief, owner = site.open_browser(), site.open_browser()
    thief.open("/remember")
    planted = thief.http.cookies["sessionid"]
    owner.plant("sessionid", planted)
    owner.give_password()
    owner.give_code()
    assert owner.is_in
    assert owner.http.cookies["sessionid"] != planted
    assert not thief.is_in
    thief.http.cookies.clear()
    thief.plant("sessionid", owner.http.cookies["sessionid"])
    assert not thief.is_in
    assert thief.page.path == CODE_PAGE


def test_the_cookie_of_before_the_code_does_not_open_after_it(site: Site) -> None:
    site.add()
    browser = site.open_browser()
    browser.give_password()
    before = browser.http.cookies["twofold-session"]
    browser.give_code()
    assert browser.is_in
    browser.plant("twofold-session", before)
    assert not browser.is_in


def test_signing_out_and_in_again_asks_again(site: Site) -> None:
    site.add()
    browser = site.open_browser()
    browser.give_password()
    browser.give_code()
    kept = browser.http.cookies["twofold-session"]
    assert browser.sign_out().html == "home"
    browser.plant("twofold-session", kept)
    assert browser.give_password().path == CODE_PAGE
    assert browser.give_code().path == "/account"


def test_whoever_is_half_in_can_leave_by_a_link_of_our_pages_and_by_no_other(site: Site) -> None:
    site.add()
    browser = site.open_browser()
    page = browser.give_password()
    (link,) = (link for link in page.links if link.endswith("/sign-out"))
    browser.http.get(f"{PREFIX}/leave", headers={"sec-fetch-site": "cross-site"})
    assert browser.open("/account").path == CODE_PAGE
    assert browser.open(link).path == "/accounts/login/"
    assert browser.open("/").html == "home"


def test_a_project_below_a_path_of_its_server_is_gated_there(site: Site) -> None:
    """WSGI gives the path without that of the project."""
    site.add()
    with httpx.Client(transport=httpx.WSGITransport(site.wsgi, script_name="/shop"), base_url=URL) as http:
        http.headers["accept"] = "text/html"
        http.get("/magic/alice")
        place = http.get("/account?a=1").headers["location"]
        assert place == f"/shop{CODE_PAGE}?next=%2F-%2Faccount%3Fa%3D1"
        page = Page(URL + place, 200, {}, http.get(place.removeprefix("/shop")).text)
        form = page.form(fields={"code": ""})
        assert form.action.startswith(f"{URL}/shop{CODE_PAGE}")
        pairs = dict(form.filled({"code": site.next_code()}, form.buttons[0]))
        answer = http.post(CODE_PAGE, data=pairs, headers={"origin": URL})
        assert answer.headers["location"] == "/shop/account?a=1"
        assert "account of alice" in http.get("/account").text


def test_another_person_in_the_same_browser_is_asked_for_her_own(site: Site) -> None:
    site.add()
    site.add("bo")
    browser = site.open_browser()
    browser.give_password()
    browser.give_code()
    assert browser.open("/magic/bo").path == CODE_PAGE
    assert browser.give_code("bo").path == "/account"
    assert "account of bo" in browser.page.html


def test_a_new_password_ends_what_the_old_one_began(site: Site) -> None:
    site.add()
    browser, other = site.open_browser(), site.open_browser()
    for each in (browser, other):
        each.give_password()
        each.give_code()
        assert each.is_in
    browser.open("/accounts/password/")
    new = "another violet 1926"
    assert browser.send(old_password=PASSWORD, new_password1=new, new_password2=new).path == CODE_PAGE
    assert browser.give_code().path == "/account"
    assert other.open("/account").path == "/accounts/login/"
    assert "password.changed" in site.end()


def test_a_password_that_is_only_hashed_anew_changes_nothing(site: Site) -> None:
    person = site.add()
    person.check_password(PASSWORD)
    person.first_name = "Alice"
    person.save()
    assert "password.changed" not in site.end()


def test_whoever_is_deleted_is_deleted_here_too(site: Site) -> None:
    person = site.add()
    assert site.kit.verifier.account(str(person.pk)).state == "active"
    account_id = str(person.pk)
    person.delete()
    with pytest.raises(Exception, match="no account"):
        site.kit.verifier.account(account_id)


def test_who_has_no_second_factor_is_let_through_as_ever(site: Site) -> None:
    site.add(second_factor=False)
    browser = site.open_browser()
    assert "account of alice" in browser.give_password().html


def test_enrolling_on_the_pages_asks_from_then_on(site: Site) -> None:
    person = site.add(second_factor=False)
    browser = site.open_browser()
    browser.give_password()
    browser.open(f"{PREFIX}/enroll")
    page = browser.send(factor="totp")
    browser.send(code=pyotp.TOTP(page.secret).at(site.kit.clock.now_s))
    assert browser.page.recovery_codes
    assert browser.is_in
    browser.sign_out()
    assert browser.give_password().path == CODE_PAGE
    assert site.kit.verifier.account(str(person.pk)).state == "active"


def test_an_exempt_view_is_open_and_one_beside_it_is_not(site: Site) -> None:
    site.add()
    browser = site.open_browser()
    browser.give_password()
    assert browser.open("/health").html == "ok"
    assert browser.open("/health/class").html == "ok"
    assert browser.open("/account").path == CODE_PAGE
