"""All components in a real browser, under the policy of the pages: what axe, a thumb and a printer find there."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, Route
from tests.browsers import OpenWindow, assert_accessible, chromium, new_window  # noqa: F401 the fixtures of this file
from tests.pseudo import PSEUDO
from tests.server.gallery import gallery

from twofold.server.static import FILES
from twofold.server.words import Speech, Words

URL = "http://localhost:9"  # answered by the test itself: nothing listens there
NOW = 1_767_225_600_000_000
ENGLISH = Words().choose("en")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
NARROW, WIDE = (320, 640), (1440, 900)
CODE = "7KQ2-M4XD-9TRB-H0WZ-3NVC"

OpenGallery = Callable[..., Page]


@pytest.fixture
def open_gallery(new_window: OpenWindow) -> OpenGallery:  # noqa: F811
    """Give a function from a language and the options of a window to the gallery in it."""

    def open_one(speech: Speech = ENGLISH, **options: object) -> Page:
        window = new_window(URL, **options)

        def answer(route: Route) -> None:
            name = route.request.url.partition("/static/")[2].partition("?")[0]
            if name:
                route.fulfill(body=FILES[name].content, content_type=FILES[name].media_type)
            else:
                html = gallery(speech, NOW)
                route.fulfill(body=html, headers={"content-type": "text/html", "content-security-policy": POLICY})

        window.context.route("**/*", answer)
        tab = window.new_tab()
        tab.goto(f"{URL}/gallery")
        return tab

    return open_one


@pytest.mark.parametrize("size", [NARROW, WIDE])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_no_violation(open_gallery: OpenGallery, theme: str, size: tuple[int, int]) -> None:
    assert_accessible(open_gallery(theme=theme, size=size))


@pytest.mark.parametrize("speech", [ENGLISH, PSEUDO], ids=["left to right", "right to left"])
@pytest.mark.parametrize("width", [320, 768])
def test_nothing_is_wider_than_the_screen(open_gallery: OpenGallery, speech: Speech, width: int) -> None:
    tab = open_gallery(speech, size=(width, 640))
    assert tab.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("size", [NARROW, WIDE])
def test_what_is_pressed_is_large_enough_for_a_thumb(open_gallery: OpenGallery, size: tuple[int, int]) -> None:
    tab = open_gallery(size=size)
    small = tab.evaluate(
        """() => [...document.querySelectorAll("a, button, input, select, summary")].filter((element) => {
            const area = (element.type === "checkbox" ? element.labels[0] : element).getBoundingClientRect();
            return area.height > 0 && area.height < 44 && !element.closest(".skip");
        }).map((element) => element.outerHTML)"""
    )
    assert small == []


def test_a_problem_has_the_focus_so_that_it_is_read_first(open_gallery: OpenGallery) -> None:
    for javascript in (True, False):
        tab = open_gallery(javascript=javascript)
        assert tab.get_by_role("alert").evaluate("element => element === document.activeElement")


def test_without_a_script_nothing_is_offered_that_needs_one(open_gallery: OpenGallery) -> None:
    tab = open_gallery(javascript=False)
    for name in ("Copy", "Download", "Print", "Show the password"):
        assert tab.get_by_role("button", name=name, exact=True).count() == 0
    assert tab.get_by_role("button", name="Continue").is_visible()
    assert "12 seconds" in tab.locator("#notices").inner_text()


def test_a_key_is_copied_without_its_spaces_and_that_is_said(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    tab.locator(".secret").get_by_role("button", name="Copy").click()
    tab.get_by_role("status").get_by_text("Copied").wait_for(state="attached")
    assert tab.evaluate("navigator.clipboard.readText()") == "GEZDGNBVGY3TQOJQ" * 2


def test_recovery_codes_are_copied_and_saved_with_whose_they_are(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    text = f"Recovery codes for Twofold\nAnn Example, January 1, 2026. Each code works once.\n{(CODE + chr(10)) * 10}"
    tab.locator(".recovery").get_by_role("button", name="Copy").click()
    tab.get_by_role("status").get_by_text("All codes copied").wait_for(state="attached")
    assert tab.evaluate("navigator.clipboard.readText()") == text
    with tab.expect_download() as download:
        tab.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == "recovery-codes.txt"
    assert download.value.path().read_text(encoding="utf-8") == text


def test_only_the_recovery_codes_are_printed(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    assert tab.locator(".recovery-head").first.is_hidden()
    tab.emulate_media(media="print")
    printed = tab.locator("body").inner_text()
    assert printed.count(CODE) == 10
    assert "Recovery codes for Twofold" in printed
    assert "Ann Example, January 1, 2026" in printed
    for other in ("Sign out", "Authenticators", "Download", "GEZD", "Your security"):
        assert other not in printed


def test_a_password_is_shown_and_hidden_again(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    box = tab.locator("#field-password")
    button = tab.get_by_role("button", name="Show the password").first
    for kind, pressed in (("text", "true"), ("password", "false")):
        button.click()
        assert box.get_attribute("type") == kind
        assert button.get_attribute("aria-pressed") == pressed
        assert box.evaluate("element => element === document.activeElement")


def test_the_code_box_changes_to_letters_where_it_stands(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    tab.get_by_role("link", name="Type a recovery code instead").click()
    assert tab.locator("#field-code").get_attribute("inputmode") == "text"
    assert tab.url == f"{URL}/gallery"


def test_a_form_is_sent_once_however_often_it_is_pressed(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    sent: list[str] = []

    def take(route: Route) -> None:
        sent.append(route.request.post_data or "")
        route.fulfill(status=204)  # the page stays, as it does while a server thinks

    tab.context.route("**/gallery", take)
    choice = tab.locator("button[value=totp]")
    for _ in range(3):
        choice.dispatch_event("click")
    assert choice.get_attribute("aria-disabled") == "true"
    assert sent == ["csrf=token&factor=totp"]


def test_a_form_that_was_stopped_on_its_way_can_be_sent_again_after_eight_seconds(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    tab.clock.install(time=NOW // 1_000_000)
    tab.reload()
    tab.clock.pause_at(NOW // 1_000_000 + 600)
    sent: list[str] = []

    def take(route: Route) -> None:
        sent.append(route.request.post_data or "")
        route.fulfill(status=204)

    tab.context.route("**/gallery", take)
    choice = tab.locator("button[value=totp]")
    with tab.expect_response("**/gallery"):
        choice.dispatch_event("click")
    tab.clock.run_for(7_900)
    choice.dispatch_event("click")
    assert (len(sent), choice.get_attribute("aria-disabled")) == (1, "true")
    tab.clock.run_for(200)
    assert choice.get_attribute("aria-disabled") is None
    with tab.expect_response("**/gallery"):
        choice.dispatch_event("click")
    assert sent == ["csrf=token&factor=totp"] * 2


def test_a_wait_counts_down_and_says_when_it_is_over(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    tab.clock.install(time=NOW // 1_000_000)
    tab.reload()
    tab.clock.run_for(5_000)
    assert "comes in 7 seconds" in tab.locator("#notices").inner_text()
    assert "comes in 1 hour and 2 minutes" in tab.locator("#notices").inner_text()
    tab.clock.run_for(3_725_000)
    tab.get_by_role("status").get_by_text("The next one is there.").wait_for(state="attached")
    assert "The next one is there." in tab.locator("#notices").inner_text()


def test_a_device_that_goes_offline_says_so_and_keeps_what_was_typed(open_gallery: OpenGallery) -> None:
    tab = open_gallery()
    notice = tab.get_by_text("This device is offline.").first
    tab.locator("#field-name").fill("ann")
    assert notice.is_hidden()
    tab.context.set_offline(True)
    notice.wait_for(state="visible")
    assert tab.locator("#field-name").input_value() == "ann"
    tab.context.set_offline(False)
    notice.wait_for(state="hidden")


def test_high_contrast_keeps_the_edges(open_gallery: OpenGallery) -> None:
    tab = open_gallery(forced_colors="active")
    for edged in (".card", ".notice", ".choice", ".tile"):
        assert tab.locator(edged).first.evaluate("element => getComputedStyle(element).borderTopStyle") == "solid"
    assert_accessible(tab)
