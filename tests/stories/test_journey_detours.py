"""What people do besides: go back, reload, send twice, use two tabs. Nothing breaks, and there is always a way on.

Told with plain forms, which can send a page again that was shown long ago; what only a browser does is at the end.
"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from playwright.sync_api import Error
from playwright.sync_api import Page as Tab
from tests.browsers import OpenBrowser
from tests.forms import FormVisitor, OpenForms
from tests.pages import Page
from tests.people import NewPerson, Person, leads_to
from tests.servers import Phone, Server

#: Also what a stale form may be answered with, as long as the page says how to go on.
STALE = frozenset({200, 400, 401, 403, 404, 409, 422})


def content_of(tab: Tab) -> str:
    """What the tab shows; a page that was kept in memory is asked for again, and may be on its way."""
    for _ in range(5):
        tab.wait_for_load_state()
        with suppress(Error):
            return tab.content()
    raise AssertionError("the page never came to rest")


@pytest.fixture
def url(server: Server) -> str:
    return f"http://localhost:{server.port}"


@pytest.fixture
def visitor(url: str, open_forms: OpenForms) -> FormVisitor:
    return open_forms(url)


@pytest.fixture
def bo(new_person: NewPerson, visitor: FormVisitor) -> Person:
    return new_person(visitor)


def assert_leads_on(page: Page) -> None:
    """There is something to press or to follow in it."""
    assert page.forms or any(page.main.all("a")), page


def test_the_sign_in_page_of_before_can_be_sent_again_at_any_time(bo: Person, visitor: FormVisitor) -> None:
    first = visitor.open("/sign-in")
    bo.give_password()
    again = visitor.send_again(first, name=bo.name, password=bo.password)
    assert again.path == "/sign-in/code"
    bo.give_code()
    assert_leads_on(visitor.send_again(first, name=bo.name, password=bo.password))
    bo.assert_signed_in() if visitor.open("/security").path == "/security" else bo.give_code()


def test_a_code_page_of_before_ends_signed_in_and_uses_no_second_code(bo: Person, visitor: FormVisitor) -> None:
    page = bo.give_password()
    code = bo.fresh_code()
    assert visitor.send_again(page, code=code).path == "/security"
    # The back button, and the same code once more.
    assert_leads_on(visitor.send_again(page, code=code, expect=STALE))
    bo.assert_signed_in()


def test_two_tabs_at_the_code_page_end_in_one_session(bo: Person, visitor: FormVisitor) -> None:
    bo.give_password()
    tabs = [visitor.open("/sign-in/code") for _ in range(2)]
    assert visitor.send_again(tabs[0], code=bo.fresh_code()).path == "/security"
    assert_leads_on(visitor.send_again(tabs[1], code=bo.fresh_code(), expect=STALE))
    bo.assert_signed_in()


def test_a_double_click_on_sign_in_ends_signed_in(bo: Person, visitor: FormVisitor) -> None:
    page = bo.give_password()
    code = bo.fresh_code()
    with ThreadPoolExecutor(2) as pool:
        ends = list(pool.map(lambda _: send_quietly(visitor, page, code=code), range(2)))
    # One of the two may come too late to count, but never as an error of ours.
    assert all(status < 500 for status in ends)
    bo.assert_signed_in()


def test_a_wrong_code_that_is_reloaded_counts_once(bo: Person, visitor: FormVisitor) -> None:
    page = bo.give_password()
    wrong = bo.wrong_code()
    for _ in range(5):
        assert visitor.send_again(page, code=wrong).path == "/sign-in/code"
    assert bo.give_code().path == "/security"


def test_a_double_click_on_confirm_shows_the_same_recovery_codes_twice(ada: Person, visitor: FormVisitor) -> None:
    cy = Person("double", visitor, ada.clock)
    cy.accept(ada.invite(cy.name))
    page = cy.begin_app()
    code = cy.code()
    first = visitor.send_again(page, code=code)
    again = visitor.send_again(page, code=code)
    assert len(first.recovery_codes) == 10
    assert again.recovery_codes == first.recovery_codes
    cy.keep_codes()
    cy.assert_signed_in()
    # Later nobody can call them up again.
    cy.clock.advance(6 * 60)
    assert not visitor.send_again(page, code=code, expect=STALE).recovery_codes


def test_two_tabs_of_enrollment_show_one_key_and_make_one_authenticator(ada: Person, visitor: FormVisitor) -> None:
    cy = Person("tabs", visitor, ada.clock)
    cy.accept(ada.invite(cy.name))
    start = visitor.page
    tabs = [visitor.send_again(start, press="factor=totp") for _ in range(2)]
    assert tabs[0].secret == tabs[1].secret
    cy.phone = Phone(cy.name, tabs[0].secret)
    cy.prove_app()
    cy.keep_codes()
    assert_leads_on(visitor.send_again(tabs[1], code=cy.fresh_code(), expect=STALE))
    assert len(cy.authenticator_paths()) == 1


def test_steps_cannot_be_skipped_and_say_where_to_go(bo: Person, ada: Person, visitor: FormVisitor) -> None:
    for path in ("/sign-in/code", "/enroll", "/enroll/totp", "/enroll/done", "/security", "/admin"):
        assert visitor.open(path).path == "/sign-in"
    bo.give_password()
    for path in ("/enroll", "/enroll/totp", "/enroll/done", "/security", "/admin", "/security/recovery-codes"):
        assert visitor.open(path).path in ("/sign-in", "/sign-in/code")
    cy = Person("skipper", visitor, ada.clock)
    cy.accept(ada.invite(cy.name))
    for path in ("/security", "/admin", "/enroll/done", "/security/password"):
        assert visitor.open(path).path.startswith("/enroll")


def test_signing_out_in_one_tab_signs_out_the_other(bo: Person, visitor: FormVisitor) -> None:
    bo.sign_in()
    password = visitor.open("/security/password")
    bo.sign_out()
    after = visitor.send_again(
        password, password=bo.password, new_password="amber lighthouse 2031", code=bo.fresh_code(), expect=STALE
    )
    assert after.path == "/sign-in" or leads_to(after, "/sign-in")
    assert_leads_on(after)
    bo.sign_in()


def test_a_browser_that_keeps_no_cookies_is_told_so(bo: Person, visitor: FormVisitor) -> None:
    page = visitor.open("/sign-in")
    visitor.http.cookies.clear()
    told = visitor.send_again(page, name=bo.name, password=bo.password, expect=STALE)
    assert "cookie" in told.text.lower()
    assert_leads_on(told)


def send_quietly(visitor: FormVisitor, page: Page, **fields: str) -> int:
    """Send a form with the cookies of now, keep none, and follow nothing; the status."""
    form = page.form(fields=fields)
    button = form.find_button(None)
    assert button is not None
    data = dict(form.filled(fields, button))
    return visitor.http.post(form.action, data=data).status_code


def test_a_double_click_in_a_browser_without_a_script_ends_signed_in(
    new_person: NewPerson, open_browser: OpenBrowser, url: str
) -> None:
    bo = new_person(open_browser(url, javascript=False))
    bo.give_password()
    tab = bo.visitor.tab
    tab.locator("[name=code]").fill(bo.fresh_code())
    tab.locator("main form button").first.dblclick()
    tab.wait_for_url("**/security")
    bo.assert_signed_in()


def test_the_back_button_of_a_browser_leads_nowhere_broken(
    new_person: NewPerson, open_browser: OpenBrowser, url: str
) -> None:
    bo = new_person(open_browser(url))
    bo.sign_in()
    bo.visitor.back()
    # Whatever is there after going back, going on ends signed in.
    bo.assert_signed_in()
    bo.sign_out()
    # Nothing of what was shown comes back out of a cache.
    bo.visitor.back()
    bo.visitor.reload()
    assert bo.visitor.path in ("/sign-in", "/sign-out")


def test_a_key_and_recovery_codes_do_not_come_back_with_the_back_button(
    ada: Person, open_browser: OpenBrowser, url: str
) -> None:
    cy = Person("backer", open_browser(url), ada.clock)
    cy.accept(ada.invite(cy.name))
    cy.begin_app()
    cy.prove_app()
    cy.keep_codes()
    cy.visitor.open("/security")
    for _ in range(6):
        try:
            cy.visitor.tab.go_back()
        except Error:  # Chromium asks before it sends a form again
            continue
        shown = content_of(cy.visitor.tab)
        assert not any(code in shown for code in cy.recovery_codes)
        assert 'id="secret"' not in shown
