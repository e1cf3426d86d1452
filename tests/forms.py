"""A person without JavaScript: keeps cookies, follows redirects, fills in forms and sends them, and nothing else."""

from collections.abc import Callable, Collection, Iterator
from urllib.parse import urljoin

import httpx
import pytest
from tests.pages import Page, Value

#: What the answer to a form may be without anybody having asked for a refusal.
USUAL = frozenset({200, 401, 409, 422, 429})


class FormVisitor:
    """A browser without scripts, on one server. `page` is what it shows; an older `Page` can be sent again."""

    def __init__(self, url: str, *, address: str = "127.0.0.1", **headers: str) -> None:
        self.url = url
        # Each address of 127.0.0.0/8 is this machine, so one test can come from many places.
        # A browser opens a new connection when the server has ended an idle one; this one never keeps any.
        no_idle = httpx.Limits(max_keepalive_connections=0)
        transport = httpx.HTTPTransport(local_address=address, limits=no_idle)
        self.http = httpx.Client(base_url=url, transport=transport, headers=headers, timeout=30)
        self.history: list[Page] = []

    @property
    def page(self) -> Page:
        """What is shown now."""
        return self.history[-1]

    @property
    def path(self) -> str:
        """Where it is now; nowhere at first."""
        return self.page.path if self.history else ""

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.name: cookie.value or "" for cookie in self.http.cookies.jar}

    def open(self, path: str, *, expect: Collection[int] = USUAL) -> Page:
        """Go to an address of the server."""
        return self._take("GET", urljoin(self.url, path), expect)

    def send(
        self, *, press: str | None = None, to: str | None = None, expect: Collection[int] = USUAL, **fields: Value
    ) -> Page:
        """Fill in fields by their names and press a button of the first form that has them all."""
        return self.send_again(self.page, press=press, to=to, expect=expect, **fields)

    def send_again(
        self,
        page: Page,
        *,
        press: str | None = None,
        to: str | None = None,
        expect: Collection[int] = USUAL,
        **fields: Value,
    ) -> Page:
        """As `send`, with the form of a page that was shown earlier: the back button, or another tab."""
        form = page.form(press=press, to=to, fields=fields)
        button = form.find_button(press)
        assert button is not None
        pairs = form.filled(fields, button)
        action = urljoin(page.url, button["formaction"]) if button["formaction"] else form.action
        # As browsers do it: a page that gives no referrer has no origin either.
        origin = "null" if page.headers.get("referrer-policy") == "no-referrer" else self.url
        headers = {"origin": origin, "sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate"}
        if form.method == "GET":
            return self._take("GET", str(httpx.URL(action, params=pairs)), expect)
        return self._take("POST", action, expect, content=str(httpx.QueryParams(pairs)), headers=headers)

    def follow(self, path: str, *, expect: Collection[int] = USUAL) -> Page:
        """Click the link to this path; what comes after a question mark in it need not be said."""
        found = next((link for link in self.page.links if link in (path, path.partition("?")[0])
                      or link.partition("?")[0] == path), None)  # fmt: skip
        assert found is not None, f"no link to {path} among {self.page.links} on {self.page!r}"
        return self.open(found, expect=expect)

    def back(self) -> Page:
        """What was shown before, as it was: nothing is fetched."""
        self.history.pop()
        return self.page

    def reload(self) -> Page:
        """GET the address that is shown."""
        return self._take("GET", self.page.url, USUAL)

    def close(self) -> None:
        self.http.close()

    def _take(self, method: str, url: str, expect: Collection[int], **more: object) -> Page:
        if "headers" in more:
            more["headers"]["content-type"] = "application/x-www-form-urlencoded"  # type: ignore[index]
        response = self.http.request(method, url, **more)  # type: ignore[arg-type]
        assert method == "GET" or response.status_code not in (301, 302), f"{url} redirects a POST ambiguously"
        for _ in range(6):
            if not response.is_redirect:
                break
            assert response.headers["location"].startswith("/"), response.headers["location"]
            response = self.http.get(urljoin(str(response.url), response.headers["location"]))
        else:
            raise AssertionError(f"{url} redirects without end")
        page = Page(str(response.url), response.status_code, response.headers, response.text)
        assert page.status in expect, f"{method} {url}: {page!r}"
        page.check()
        self.history.append(page)
        return page


OpenForms = Callable[..., FormVisitor]


@pytest.fixture
def open_forms() -> Iterator[OpenForms]:
    """Give a function from a server's URL to a new person without JavaScript."""
    opened: list[FormVisitor] = []

    def open_one(url: str, **more: str) -> FormVisitor:
        opened.append(FormVisitor(url, **more))
        return opened[-1]

    yield open_one
    for visitor in opened:
        visitor.close()
