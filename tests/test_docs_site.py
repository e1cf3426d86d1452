"""The documentation as a site: built whole and strictly, then looked at as files, and as Chromium shows it."""

import base64
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.sync_api import Page
from tests.browsers import OpenWindow, assert_accessible
from tests.test_docs import DOCS, ROOT
from tests.test_docs_examples import SHOWN

from twofold.server.api import OPERATIONS

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
#: The narrowest that WCAG 2.2 asks for (1.4.10).
NARROW = (320, 700)
#: What of a page is fetched by itself; a link is followed by a reader alone.
FETCHED = {"img": "src", "script": "src", "source": "srcset", "iframe": "src", "video": "src", "audio": "src"}
FETCHED_RELATIONS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}
#: What the theme leaves to whoever writes: contrasts, names of links and images, the order of headings, tables.
ACCESSIBLE = (
    "color-contrast",
    "heading-order",
    "image-alt",
    "link-in-text-block",
    "link-name",
    "svg-img-alt",
    "td-headers-attr",
)
#: Where a page of the site shows which color scheme is in force.
SCHEME = "document.body.getAttribute('data-md-color-scheme')"


class Site(NamedTuple):
    """A built site: its folder, what the program said while it was built, and whether it was content."""

    folder: Path
    said: str
    is_sound: bool

    @property
    def pages(self) -> list[Path]:
        """All but the theme's own for what is not there, which takes the site to lie at the root of a host."""
        return sorted(page for page in self.folder.rglob("*.html") if page.name != "404.html")


class Contents(HTMLParser):
    """What a built page links to, fetches, names and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.names: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.names |= {name for name in (given.get("id"), given.get("name")) if name}
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag == "img":
            self.images.append(given)
        if tag in FETCHED and given.get(FETCHED[tag]):
            self.fetched.append(str(given[FETCHED[tag]]))
        if tag == "link" and FETCHED_RELATIONS & set(str(given.get("rel")).split()):
            self.fetched.append(str(given["href"]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """The site, built as `CONTRIBUTING.md` says, but strictly and elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    (how,) = re.findall(r"^\$ \.venv/bin/python (-m mkdocs build) ", CONTRIBUTING, re.MULTILINE)
    command = [sys.executable, *how.split(), "--strict", "--site-dir", str(folder)]
    # The theme advertises what comes after it.
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return Site(folder, built.stdout + built.stderr, built.returncode == 0)


@pytest.fixture(scope="module")
def contents(site: Site) -> dict[Path, Contents]:
    return {page: Contents(page.read_text(encoding="utf-8")) for page in site.pages}


@pytest.fixture(scope="module")
def url(site: Site) -> Iterator[str]:
    """Where the site is served."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(site.folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def in_navigation() -> list[str]:
    """The pages that `mkdocs.yml` lists."""
    _, _, navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")
    return re.findall(r"^ .*?([\w/-]+\.md)$", navigation, re.MULTILINE)


def leads_somewhere(site: Site, contents: dict[Path, Contents], link: str) -> bool:
    """Whether a link of the site leads to a file of it and, where it names a place on a page, to that place."""
    target = urlsplit(link)
    if target.scheme != "file":
        return True
    file = Path(unquote(target.path))
    file = file / "index.html" if file.is_dir() else file
    if not file.is_file() or not file.is_relative_to(site.folder):
        return False
    return not target.fragment or file not in contents or unquote(target.fragment) in contents[file].names


def test_the_site_is_built_without_a_warning(site: Site) -> None:
    assert site.is_sound, site.said
    assert [line for line in site.said.splitlines() if not line.startswith("INFO ")] == []


def test_every_page_is_in_the_navigation_once() -> None:
    assert sorted(in_navigation()) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_no_link_and_no_anchor_is_dead(site: Site, contents: dict[Path, Contents]) -> None:
    dead = [
        (page.name, link) for page, content in contents.items() for link in [*content.links, *content.fetched]
        if not leads_somewhere(site, contents, urljoin(page.as_uri(), link))
    ]  # fmt: skip
    assert dead == []


def test_a_dead_link_would_be_found(site: Site, contents: dict[Path, Contents]) -> None:
    index = (site.folder / "index.html").as_uri()
    for link in ("api.html#receipts", "decisions/", ".", "https://example.com/gone"):
        assert leads_somewhere(site, contents, urljoin(index, link)), link
    for link in ("gone.html", "api.html#nowhere", "../outside.html"):
        assert not leads_somewhere(site, contents, urljoin(index, link)), link


def test_nothing_is_fetched_from_another_host(site: Site, contents: dict[Path, Contents]) -> None:
    fetched = [(page.name, place) for page, content in contents.items() for place in content.fetched]
    assert [(page, place) for page, place in fetched if urlsplit(place).netloc] == []
    sheets = [sheet.read_text(encoding="utf-8") for sheet in site.folder.rglob("*.css")]
    assert [place for sheet in sheets for place in re.findall(r"url\(['\"]?((?:https?:)?//[^)]+)\)", sheet)] == []


def test_every_image_says_what_it_shows(contents: dict[Path, Contents]) -> None:
    images = [(page.name, image) for page, content in contents.items() for image in content.images]
    assert [(page, image.get("src")) for page, image in images if not image.get("alt")] == []


def test_every_drawing_tells_what_it_shows_and_has_both_color_schemes() -> None:
    for drawing in sorted((DOCS / "img").glob("*.svg")):
        text = drawing.read_text(encoding="utf-8")
        if drawing.name != "mark.svg":  # the mark is the same in both
            assert re.search(r"<title id=.+</title>\s*<desc id=.+?</desc>", text, re.DOTALL), drawing
            assert "@media (prefers-color-scheme: dark)" in text, drawing
        assert not re.search(r"(?:href|src)=|url\((?!#)", text), f"{drawing} asks for something"


def test_the_reference_of_the_api_has_every_call_and_every_type(site: Site, contents: dict[Path, Contents]) -> None:
    names = contents[site.folder / "api-reference.html"].names
    text = (site.folder / "api-reference.html").read_text(encoding="utf-8")
    for operation in OPERATIONS:
        assert f">{operation.method} {operation.path}<" in text
        bodies = [operation.body] if operation.body else []
        for kind in [*bodies, *(answer for answers in operation.answers.values() for answer in answers)]:
            assert kind.__name__.lower() in names


def test_files_of_the_repository_that_pages_point_to_are_on_the_site(site: Site) -> None:
    source = (site.folder / "repository" / "src" / "twofold" / "core" / "verification.py.html").read_text("utf-8")
    assert "verify_answer" in source
    assert (site.folder / "repository" / "SECURITY.html").is_file()


def test_the_examples_of_all_pages_that_are_shown_are_asked_for_a_test(site: Site) -> None:
    shown = site.folder / "repository"
    texts = [page.relative_to(shown).with_suffix(".md") for page in shown.rglob("*.html")]
    pages = {ROOT / (text.with_name("README.md") if text.name == "index.md" else text) for text in texts}
    assert {page for page in pages if page.is_file()} - set(SHOWN) == set()


def test_notes_to_the_tests_are_not_for_readers(site: Site) -> None:
    for page in site.pages:
        text = page.read_text(encoding="utf-8")
        assert "<!-- run by:" not in text, page
        assert "<!-- not run:" not in text, page


def test_no_page_is_wider_than_a_phone(site: Site, url: str, new_window: OpenWindow) -> None:
    # Scripts change no width, and without them 80 pages are shown in seconds.
    tab = new_window(url, size=NARROW, theme="dark", javascript=False).new_tab()
    wide = []
    for page in site.pages:
        tab.goto(f"{url}/{page.relative_to(site.folder).as_posix()}")
        if tab.evaluate("document.documentElement.scrollWidth") > NARROW[0]:
            wide.append(page.name)
    assert wide == []


def test_a_reader_who_goes_from_page_to_page_asks_no_other_host(url: str, new_window: OpenWindow) -> None:
    tab = new_window(url).new_tab()  # which complains of every such request, and of errors
    for page in ("index", "gate", "howto/personal", "api-reference", "decisions/index", "repository/SECURITY"):
        tab.goto(f"{url}/{page}.html", wait_until="networkidle")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("page", ["index.html", "second-factor.html", "api-reference.html"])
def test_pages_are_accessible_in_both_color_schemes(url: str, new_window: OpenWindow, page: str, theme: str) -> None:
    tab = new_window(url, theme=theme).new_tab()
    tab.goto(f"{url}/{page}")
    assert tab.evaluate(SCHEME) == {"light": "default", "dark": "slate"}[theme]
    assert_accessible(tab, ACCESSIBLE)


def test_pictures_follow_the_switch_of_the_site_and_not_only_the_system(url: str, new_window: OpenWindow) -> None:
    tab = new_window(url, theme="dark").new_tab()
    tab.goto(f"{url}/index.html")
    light, dark = (
        tab.locator("img[src$='enroll-light.png#only-light']"),
        tab.locator("img[src$='enroll-dark.png#only-dark']"),
    )
    assert (light.is_visible(), dark.is_visible()) == (False, True)
    tab.get_by_title("As the system has it; switch to light").click()
    assert (light.is_visible(), dark.is_visible()) == (True, False)


def test_drawings_follow_the_switch_of_the_site_as_well(url: str, new_window: OpenWindow) -> None:
    tab = new_window(url, theme="dark").new_tab()
    tab.goto(f"{url}/gate.html")
    drawing = tab.locator("img[src$='gate.svg']")
    dark = drawing.screenshot()
    tab.get_by_title("As the system has it; switch to light").click()
    assert brightness(tab, dark) < 100
    assert brightness(tab, drawing.screenshot()) > 200


def test_the_search_finds_a_page(url: str, new_window: OpenWindow) -> None:
    tab = new_window(url).new_tab()
    tab.goto(f"{url}/index.html")
    tab.get_by_role("textbox", name="Search").fill("lost phone recovery")
    found = tab.locator(".md-search-result__link").first
    found.wait_for()
    assert "recovery_codes.html" in " ".join(
        str(link.get_attribute("href")) for link in tab.locator(".md-search-result__link").all()
    )


def test_pages_can_be_read_without_javascript(url: str, new_window: OpenWindow) -> None:
    tab = new_window(url, javascript=False).new_tab()
    tab.goto(f"{url}/api-reference.html")
    assert tab.get_by_role("heading", name="POST /accounts/{id}/verify").is_visible()
    tab.get_by_role("link", name="Limits").first.click()
    assert tab.get_by_role("heading", level=1, name="Limits").is_visible()


def brightness(tab: Page, png: bytes) -> float:
    """The mean of all pixels of a screenshot, from 0 to 255."""
    picture = "data:image/png;base64," + base64.b64encode(png).decode()
    return float(
        tab.evaluate(
            """async picture => {
                const image = new Image();
                image.src = picture;
                await image.decode();
                const canvas = new OffscreenCanvas(image.width, image.height);
                const context = canvas.getContext('2d');
                context.drawImage(image, 0, 0);
                const pixels = context.getImageData(0, 0, image.width, image.height).data;
                let sum = 0;
                for (let i = 0; i < pixels.length; i += 4) sum += pixels[i] + pixels[i + 1] + pixels[i + 2];
                return sum / (pixels.length / 4 * 3);
            }""",
            picture,
        )
    )
