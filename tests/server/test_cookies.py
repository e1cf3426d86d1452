"""Every cookie as it is set: which attributes, for how long, and what is taken back."""

from http.cookies import Morsel, SimpleCookie

import httpx
import pytest
from starlette.requests import Request
from tests.server.conftest import URL, OpenServer, Server
from tests.server.visitors import PASSWORD, STEP_S, Person, add_person

from twofold.core.account import KNOWN_BROWSER_TTL_S
from twofold.server.cookies import SESSION, VALUE_MAX, Cookies

SITE = "https://login.example.com"
NAMES = {"twofold-session", "twofold-csrf", "twofold-known"}


async def set_cookies(server: Server, url: str) -> list["Morsel[str]"]:
    """Every cookie that a browser is given from the first page to the end of a session."""
    await add_person(server)
    given: list[Morsel[str]] = []

    def keep(answer: httpx.Response) -> None:
        for line in answer.headers.get_list("set-cookie"):
            given.extend(SimpleCookie(line).values())

    transport = httpx.ASGITransport(server.app, client=("203.0.113.9", 4000))
    async with httpx.AsyncClient(transport=transport, base_url=url, trust_env=False) as client:

        async def send(path: str, **fields: str) -> None:
            page = await client.get(path)
            keep(page)
            token = page.text.partition('name="csrf" value="')[2].partition('"')[0]
            answer = await client.post(path, data={"csrf": token, **fields})
            assert answer.status_code == 303, answer.text
            keep(answer)

        await send("/sign-in", name="bo", password=PASSWORD)
        server.clock.pass_s(STEP_S)
        await send("/sign-in/code", code=server.code())
        await send("/sign-out")
    return given


async def test_asvs_3_3_over_https_every_cookie_wears_the_prefix_and_what_it_demands(open_server: OpenServer) -> None:
    cookies = await set_cookies(await open_server(public_url=SITE), SITE)
    assert {cookie.key for cookie in cookies} == {f"__Host-{name}" for name in NAMES}
    for cookie in cookies:
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == (True, True, "lax")
        assert (cookie["path"], cookie["domain"]) == ("/", "")


async def test_over_plain_http_there_is_no_prefix_and_no_secure(server: Server) -> None:
    cookies = await set_cookies(server, URL)
    assert {cookie.key for cookie in cookies} == NAMES
    for cookie in cookies:
        assert (cookie["secure"], cookie["httponly"], cookie["samesite"]) == ("", True, "lax")
        assert (cookie["path"], cookie["domain"]) == ("/", "")


async def test_a_known_browser_is_kept_for_half_a_year_and_a_session_until_the_browser_is_closed(
    server: Server,
) -> None:
    cookies = await set_cookies(server, URL)
    for cookie in cookies:
        is_dropped = cookie.value == ""
        wanted = "0" if is_dropped else str(KNOWN_BROWSER_TTL_S) if cookie.key == "twofold-known" else ""
        assert cookie["max-age"] == wanted, cookie
    assert [cookie.value for cookie in cookies if cookie.key == "twofold-session"][-1] == ""


@pytest.mark.parametrize("value", ["", "x" * (VALUE_MAX + 1)])
def test_what_cannot_be_one_of_our_values_is_not_read(value: str) -> None:
    assert read(Cookies(URL), f"{SESSION}={value}") is None
    assert read(Cookies(URL), f"{SESSION}=abc") == "abc"


def test_over_https_a_cookie_without_the_prefix_is_none_of_ours() -> None:
    assert read(Cookies(SITE), f"{SESSION}=planted") is None
    assert read(Cookies(SITE), f"{SESSION}=planted; __Host-{SESSION}=own") == "own"


async def test_cookies_with_any_bytes_in_them_are_answered(server: Server) -> None:
    await add_person(server)
    bo = Person(server)
    for value in (b"\xff\xfe", b"a\x80b", b'"quoted"', b"=;;=,", b"x" * 5000):
        headers = [(b"cookie", b"twofold-session=" + value + b"; twofold-csrf=" + value + b"; twofold-known=" + value)]
        assert (await bo.http.get("/sign-in", headers=headers)).status_code == 200
        assert (await bo.http.get("/security", headers=headers)).status_code in (302, 401)


def read(cookies: Cookies, header: str) -> str | None:
    return cookies.read(Request({"type": "http", "headers": [(b"cookie", header.encode())]}), SESSION)
