"""Pictures of every page in every state, light and dark, phone and desktop, for people to look at.

    python -m tests.screens FOLDER [NAME…]

With names only the states that begin so are kept. Not run in CI; the walk itself is, in `test_accessibility.py`.
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser
from tests.browsers import DESKTOP, PHONE, BrowserVisitor, open_window, running_chromium
from tests.servers import Clock, running
from tests.walk import Walk

SIZES = {"phone": PHONE, "desktop": DESKTOP}
THEMES = ("light", "dark")


@contextmanager
def walking(browser: Browser, folder: Path) -> Iterator[Walk]:
    """A walk over a server of its own."""
    clock = Clock(folder / "clock")
    opened: list[BrowserVisitor] = []

    def new_visitor() -> BrowserVisitor:
        opened.append(BrowserVisitor(open_window(browser, url)))
        return opened[-1]

    with running(folder / "data", test_clock=str(clock.path)) as server:
        url = f"http://localhost:{server.port}"
        walk = Walk(server, clock, new_visitor)
        try:
            yield walk
        finally:
            for visitor in (*opened, *walk.elsewhere):
                visitor.close()


def take_pictures(visitor: BrowserVisitor, folder: Path, name: str) -> None:
    """The page as it is now, in each theme and size."""
    for size, (width, height) in SIZES.items():
        visitor.tab.set_viewport_size({"width": width, "height": height})
        for theme in THEMES:
            visitor.tab.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
            visitor.tab.screenshot(path=folder / f"{name}-{size}-{theme}.png", full_page=True, animations="disabled")
    visitor.tab.emulate_media(color_scheme="light")


def main(folder: Path, wanted: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as scratch,
        running_chromium() as browser,
        walking(browser, Path(scratch)) as walk,
    ):
        for name, visitor in walk.stops():
            if not wanted or name.startswith(wanted):
                take_pictures(visitor, folder, name)
                print(name, visitor.path)


if __name__ == "__main__":
    main(Path(sys.argv[1]), tuple(sys.argv[2:]))
