"""Hands on the keyboard: what has the focus when a page comes, and that Tab goes everywhere and is caught nowhere.

The journeys themselves are each told by keyboard alone too, in the files beside this one.
"""

import pytest
from tests.browsers import TABS_MAX, BrowserVisitor, OpenBrowser
from tests.people import NewPerson, Person
from tests.servers import Server

FOCUSED = "() => { const e = document.activeElement; return e.name || e.id || e.tagName.toLowerCase() }"
#: Everything that a mouse can use, without what is folded away or is one of a group of radio buttons.
USABLE = """() => [...document.querySelectorAll('a[href], button, input, select, textarea, summary')]
    .filter(e => e.checkVisibility({visibilityProperty: true}) && !e.disabled && e.type !== 'hidden')
    .filter(e => !(e.type === 'radio' && !e.checked && document.querySelector(`[name="${e.name}"]:checked`)))
    .map((e, number) => { e.dataset.stop = number; return e.outerHTML.slice(0, 120) })"""
#: Tab begins at the top again, wherever the page put the focus.
TO_THE_TOP = """() => {
    const top = document.createElement('i');
    top.tabIndex = -1;
    document.body.prepend(top);
    top.focus();
}"""
STOP = "() => document.activeElement.dataset.stop ?? null"


@pytest.fixture
def visitor(server: Server, open_browser: OpenBrowser) -> BrowserVisitor:
    return open_browser(f"http://localhost:{server.port}", keyboard=True)


@pytest.fixture
def bo(new_person: NewPerson, visitor: BrowserVisitor) -> Person:
    return new_person(visitor)


def focused(visitor: BrowserVisitor) -> str:
    return str(visitor.tab.evaluate(FOCUSED))


def type_and_enter(visitor: BrowserVisitor, text: str) -> None:
    """Type where the focus is and press Enter; the answer is looked at by the caller."""
    with visitor.tab.expect_navigation():
        visitor.tab.keyboard.type(text)
        visitor.tab.keyboard.press("Enter")


def test_one_signs_in_without_ever_looking_for_a_box(bo: Person, visitor: BrowserVisitor) -> None:
    visitor.open("/sign-in")
    assert focused(visitor) == "name"
    visitor.tab.keyboard.type(bo.name)
    visitor.tab.keyboard.press("Tab")
    assert focused(visitor) == "password"
    type_and_enter(visitor, bo.password)
    assert (visitor.path, focused(visitor)) == ("/sign-in/code", "code")
    type_and_enter(visitor, bo.wrong_code())
    # The mistake was announced, and the next try is typed where one is.
    assert visitor.page.alert
    assert focused(visitor) == "code"
    type_and_enter(visitor, bo.fresh_code())
    assert visitor.path == "/security"


def test_the_first_tab_skips_to_the_content(bo: Person, visitor: BrowserVisitor) -> None:
    bo.sign_in()
    visitor.open("/security")
    visitor.tab.keyboard.press("Tab")
    assert visitor.tab.evaluate("() => document.activeElement.getAttribute('href')") == "#main"
    assert visitor.tab.evaluate("() => document.activeElement.checkVisibility()")
    visitor.tab.keyboard.press("Enter")
    visitor.tab.keyboard.press("Tab")
    assert visitor.tab.evaluate("() => document.activeElement.closest('main') !== null")


def test_tab_stops_at_everything_that_can_be_used_in_the_order_of_the_page(bo: Person, visitor: BrowserVisitor) -> None:
    for path in ("/sign-in", "/sign-in/help"):
        visitor.open(path)
        assert_tab_goes_everywhere(visitor)
    bo.sign_in()
    for path in ("/security", "/security/password", "/security/activity", "/enroll", "/sign-out"):
        visitor.open(path)
        assert_tab_goes_everywhere(visitor)


def assert_tab_goes_everywhere(visitor: BrowserVisitor) -> None:
    usable = visitor.tab.evaluate(USABLE)
    visitor.tab.evaluate(TO_THE_TOP)
    stops: list[int] = []
    for _ in range(TABS_MAX):
        visitor.tab.keyboard.press("Tab")
        stop = visitor.tab.evaluate(STOP)
        if stop is None or int(stop) in stops:
            break
        stops.append(int(stop))
    missed = [html for number, html in enumerate(usable) if number not in stops]
    assert not missed, f"{visitor.path}\n" + "\n".join(missed)
    assert stops == sorted(stops), visitor.path
