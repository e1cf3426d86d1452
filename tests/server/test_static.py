"""Stylesheet, script and icon: kept for a year under the address of their content, and nothing else is there."""

from hashlib import sha256

import httpx
import pytest
from starlette.applications import Starlette

from twofold.server.static import FILES, MEDIA_TYPES, address, static_routes


@pytest.fixture
def browser() -> httpx.AsyncClient:
    app = Starlette(routes=static_routes())
    app.router.redirect_slashes = False
    transport = httpx.ASGITransport(app=app)
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.mark.parametrize("name", FILES)
async def test_the_address_names_the_content_which_is_kept_for_a_year(browser: httpx.AsyncClient, name: str) -> None:
    answer = await browser.get(address(name))
    assert answer.status_code == 200
    assert address(name) == f"/static/{name}?v={sha256(answer.content).hexdigest()[:12]}"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].partition(";")[0] == MEDIA_TYPES[name.rpartition(".")[2]]


@pytest.mark.parametrize("query", ["", "?v=", "?v=000000000000", "?v"])
async def test_any_other_version_is_answered_but_not_kept(browser: httpx.AsyncClient, query: str) -> None:
    answer = await browser.get(f"/static/twofold.css{query}")
    assert answer.content == FILES["twofold.css"].content
    assert answer.headers["cache-control"] == "no-store"


async def test_head_tells_the_same_without_the_content(browser: httpx.AsyncClient) -> None:
    got, head = await browser.get(address("twofold.js")), await browser.head(address("twofold.js"))
    assert head.status_code == 200
    assert head.headers == got.headers
    assert head.content == b""


@pytest.mark.parametrize(
    "path",
    ["nothing.css", "", "../templates/base.html", "..%2ftemplates%2fbase.html", "twofold.css/", "%00", "Twofold.css"],
)
async def test_only_the_files_that_lie_there_exist(browser: httpx.AsyncClient, path: str) -> None:
    assert (await browser.get(f"/static/{path}")).status_code == 404


async def test_nothing_is_changed_there(browser: httpx.AsyncClient) -> None:
    assert (await browser.post(address("twofold.css"))).status_code == 405


def test_an_unknown_name_has_no_address() -> None:
    with pytest.raises(KeyError):
        address("nothing.css")
