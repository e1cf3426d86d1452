"""What is around an ASGI application: a server that begins and ends it, browsers, web sockets; all in this process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
from starlette.types import ASGIApp, Message
from tests.pages import Page, Value

from twofold.testing import Kit

ORIGIN = "http://localhost:8000"
NAVIGATION = {"accept": "text/html,*/*;q=0.8", "sec-fetch-mode": "navigate", "sec-fetch-site": "same-origin"}


class Browser:
    """Keeps cookies, follows redirects, fills in forms. `page` is what it shows."""

    def __init__(self, app: ASGIApp, kit: Kit, root_path: str = "") -> None:
        self._kit = kit
        transport = httpx.ASGITransport(app, root_path=root_path)
        self.http = httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=NAVIGATION)
        self.page: Page

    async def open(self, path: str) -> Page:
        return await self._take("GET", path)

    async def post(self, path: str, **fields: str) -> Page:
        """A form of the application's."""
        return await self._take("POST", path, data=fields, headers={"origin": ORIGIN})

    async def send(self, page: Page | None = None, *, press: str | None = None, **fields: Value) -> Page:
        """Fill in a form of ours, on the page that is shown or an earlier one, and send it."""
        form = (page or self.page).form(press=press, fields=fields)
        button = form.find_button(press)
        assert button is not None
        filled = form.filled(fields, button)
        content = str(httpx.QueryParams(filled))
        headers = {"origin": ORIGIN, "content-type": "application/x-www-form-urlencoded"}
        return await self._take("POST", form.action, content=content, headers=headers)

    async def give_code(self, name: str = "alice") -> Page:
        """What stands in the app of this person now, into the page that is shown."""
        return await self.send(code=self._kit.next_code(name))

    async def _take(self, method: str, path: str, **more: Any) -> Page:
        url = urljoin(ORIGIN, path)
        answer = await self.http.request(method, url, **more)
        for _ in range(6):
            if not answer.is_redirect:
                break
            url = urljoin(url, answer.headers["location"])
            assert url.startswith(ORIGIN), url
            answer = await self.http.get(url)
        else:
            raise AssertionError(f"{path} redirects without end")
        self.page = Page(url, answer.status_code, answer.headers, answer.text)
        return self.page


@asynccontextmanager
async def running(app: ASGIApp) -> AsyncIterator[None]:
    """The life of the application, as a server leads it through; RuntimeError if it does not begin."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    life = asyncio.create_task(app(scope, to_app.get, from_app.put))  # type: ignore[arg-type]
    await to_app.put({"type": "lifespan.startup"})
    begun = await from_app.get()
    if begun["type"] != "lifespan.startup.complete":
        await asyncio.wait([life])
        raise RuntimeError(begun["message"])
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        assert (await from_app.get())["type"] == "lifespan.shutdown.complete"
        await life


async def open_socket(app: ASGIApp, path: str, cookies: httpx.Cookies) -> Message:
    """What the application answers first to somebody who wants to open a web socket."""
    request = httpx.Request("GET", urljoin(ORIGIN, path))
    cookies.set_cookie_header(request)
    parts = urlsplit(str(request.url))
    scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": parts.path,
        "raw_path": parts.path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 50_000),
        "server": ("localhost", 8000),
        "subprotocols": [],
        "state": {},
    }
    asked = [{"type": "websocket.connect"}]
    said: list[Message] = []

    async def receive() -> Message:
        return asked.pop() if asked else {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope, receive, send)
    return said[0]
