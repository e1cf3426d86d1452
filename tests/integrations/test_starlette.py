"""The gate before an application of FastAPI's: every door of it leads to the second factor, and none around it."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Form, Request, WebSocket
from fastapi.responses import PlainTextResponse, RedirectResponse
from starlette.applications import Starlette
from starlette.middleware.sessions import SessionMiddleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from tests.integrations.asgi_world import ORIGIN, Browser, open_socket, running

from twofold import ConfigurationError
from twofold.integrations.guard import Happened
from twofold.integrations.starlette import SecondFactor, fresh, second_factor_exempt, second_factor_required
from twofold.testing import Kit, open_kit

TOKENS = {"Bearer token-of-alice": "alice", "Bearer token-of-alices-phone": "alice", "Bearer token-of-bob": "bob"}
JSON = {"accept": "application/json"}
DONE: list[str] = []


def find_person(request: Request) -> str | None:
    token = TOKENS.get(request.headers.get("authorization", ""))
    return token or request.session.get("impersonator") or request.session.get("name")


def let_in(request: Request, **session: str) -> RedirectResponse:
    request.session.update(session)
    return RedirectResponse("/account", 303)


class Shop:
    """An application with many doors, and with things that are worth a thief's while."""

    def __init__(self, **options: Any) -> None:
        self.app = app = FastAPI()
        self.gate = SecondFactor(app, **{"person": find_person} | options)
        app.add_middleware(SessionMiddleware, secret_key="only for tests")
        self._add_doors(app)
        self._add_things(app)

    def _add_doors(self, app: FastAPI) -> None:

        @app.get("/", response_class=PlainTextResponse)
        def home() -> str:
            return "welcome"

        @app.post("/login")
        def login(request: Request, name: str = Form()) -> RedirectResponse:
            return let_in(request, name=name)

        @app.post("/login-as")
        def login_as(request: Request, name: str = Form()) -> RedirectResponse:
            return let_in(request, name=name, impersonator="root")

        @app.get("/reset/{name}")
        def reset(request: Request, name: str) -> RedirectResponse:
            return let_in(request, name=name)

        @app.get("/logout")
        def log_out(request: Request) -> RedirectResponse:
            request.session.clear()
            return RedirectResponse("/")

        @app.get("/forget")
        def forget(request: Request) -> RedirectResponse:
            del request.session["name"]
            return RedirectResponse("/")

    def _add_things(self, app: FastAPI) -> None:
        @app.get("/account", response_class=PlainTextResponse)
        def account(request: Request) -> str:
            return f"account of {request.session.get('name') or find_person(request)}"

        @app.get("/admin", dependencies=[Depends(second_factor_required)], response_class=PlainTextResponse)
        async def admin() -> str:
            return "administration"

        @app.get("/statement", dependencies=[Depends(fresh(minutes=5))], response_class=PlainTextResponse)
        def statement(month: str = "") -> str:
            return f"statement of {month}"

        @app.post("/transfer", response_class=PlainTextResponse)
        @fresh(minutes=5)
        def transfer(to: str = Form(), amount: int = Form()) -> str:
            DONE.append(f"{amount} to {to}")
            return "done"

        @app.post("/upload", dependencies=[Depends(fresh())], response_class=PlainTextResponse)
        async def upload(request: Request) -> str:
            return f"{len(await request.body())} bytes"

        @app.get("/status", response_class=PlainTextResponse)
        @second_factor_exempt
        def status() -> str:
            return "up"

        @app.websocket("/feed")
        async def feed(socket: WebSocket) -> None:
            await socket.accept()
            await socket.close()


@pytest.fixture
def kit() -> Iterator[Kit]:
    DONE.clear()
    with open_kit() as opened:
        opened.enroll("alice")
        opened.enroll("root")
        yield opened


@pytest.fixture
def shop(kit: Kit) -> Shop:
    return Shop()


@pytest.fixture
def browser(shop: Shop, kit: Kit) -> Browser:
    return Browser(shop.app, kit)


async def sign_in(browser: Browser, name: str = "alice") -> None:
    """By the form and with both factors."""
    assert (await browser.post("/login", name=name)).path == "/2fa/sign-in/code"
    assert (await browser.give_code(name)).html == f"account of {name}"


DOORS = {
    "form": lambda browser: browser.post("/login", name="alice"),
    "login as": lambda browser: browser.post("/login-as", name="alice"),
    "password reset": lambda browser: browser.open("/reset/alice"),
}


@pytest.mark.parametrize("door", DOORS)
async def test_a_door_opens_with_both_factors_and_not_with_the_first_alone(door: str, browser: Browser) -> None:
    page = await DOORS[door](browser)
    assert (page.path, page.query) == ("/2fa/sign-in/code", "next=%2F-%2Faccount")
    for path in ("/account", "/statement", "/nowhere", "/docs", "/admin"):
        assert (await browser.open(path)).path == "/2fa/sign-in/code"
    assert (await browser.post("/transfer", to="eve", amount="1")).path == "/2fa/sign-in/code"
    assert DONE == []

    await browser.open("/account")
    assert (await browser.give_code("root" if door == "login as" else "alice")).html == "account of alice"


async def test_who_has_no_second_factor_and_who_is_nobody_pass_as_before(browser: Browser) -> None:
    assert (await browser.open("/")).html == "welcome"
    assert (await browser.post("/login", name="bob")).html == "account of bob"


# ---- whose login it is ----


async def test_a_session_that_somebody_planted_is_worth_nothing(shop: Shop, browser: Browser, kit: Kit) -> None:
    thief = Browser(shop.app, kit)
    await thief.post("/login", name="alice")
    browser.http.cookies.set("session", thief.http.cookies["session"], domain="localhost.local")
    assert (await browser.open("/account")).path == "/2fa/sign-in/code"
    assert (await browser.give_code()).html == "account of alice"
    assert (await thief.open("/account")).path == "/2fa/sign-in/code"
    thief.http.cookies.set("session", browser.http.cookies["session"], domain="localhost.local")
    assert (await thief.open("/account")).path == "/2fa/sign-in/code"


@pytest.mark.parametrize("way", ["/logout", "/forget"])
async def test_signing_out_ends_it_and_signing_in_again_asks_again(browser: Browser, way: str) -> None:
    await sign_in(browser)
    kept = [(cookie.name, cookie.value or "") for cookie in browser.http.cookies.jar]
    assert (await browser.open(way)).html == "welcome"
    assert (await browser.post("/login", name="alice")).path == "/2fa/sign-in/code"
    # A session in a signed cookie cannot be ended by who signed it; what was tied to it was.
    browser.http.cookies.clear()
    for name, value in kept:
        browser.http.cookies.set(name, value)
    assert (await browser.open("/account")).path == "/2fa/sign-in/code"


async def test_somebody_else_in_the_same_browser_is_asked_for_her_own(browser: Browser) -> None:
    await sign_in(browser)
    assert (await browser.post("/login", name="root")).path == "/2fa/sign-in/code"
    assert (await browser.give_code("root")).html == "account of root"
    assert (await browser.post("/login", name="alice")).path == "/2fa/sign-in/code"


async def test_an_administrator_looks_at_the_application_as_somebody_else_without_being_asked_again(
    browser: Browser,
) -> None:
    await sign_in(browser, "root")
    assert (await browser.post("/login-as", name="alice")).html == "account of alice"


async def test_the_second_of_two_tabs_goes_on_when_the_first_is_through(browser: Browser) -> None:
    await browser.post("/login", name="alice")
    second = await browser.open("/statement")
    await browser.open("/account")
    assert (await browser.give_code()).html == "account of alice"
    # Its form is over, and what it was for is open.
    assert (await browser.send(second, code="123456")).status == 200
    assert (await browser.open("/account")).html == "account of alice"


# ---- clients that show no pages ----


async def test_a_token_opens_with_a_code_and_for_no_other_token(shop: Shop, kit: Kit) -> None:
    token = {**JSON, "authorization": "Bearer token-of-alice"}
    transport = httpx.ASGITransport(shop.app)
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN, headers=token) as client:
        refused = await client.get("/account")
        assert (refused.status_code, refused.headers["content-type"]) == (403, "application/problem+json")
        assert (refused.json()["code"], refused.json()["url"]) == ("second_factor_required", "/2fa/sign-in/code")
        assert (await client.post("/2fa/verify", json={"code": "12345"})).json()["verified"] is False
        assert (await client.post("/2fa/verify", json={"code": kit.next_code("alice")})).json() == {"verified": True}
        assert (await client.get("/account")).text == "account of alice"
        other = {"authorization": "Bearer token-of-alices-phone"}
        assert (await client.get("/account", headers=other)).status_code == 403


async def test_a_client_without_cookies_is_never_let_in(shop: Shop, kit: Kit) -> None:
    token = {**JSON, "authorization": "Bearer token-of-alice"}
    for _ in range(2):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url=ORIGIN, headers=token) as client:
            assert (await client.get("/account")).status_code == 403
            assert (await client.post("/2fa/verify", json={"code": kit.next_code("alice")})).is_success


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND"])
async def test_every_method_is_gated_and_answered(browser: Browser, method: str) -> None:
    await browser.post("/login", name="alice")
    answer = await browser.http.request(method, "/account", headers=JSON | {"sec-fetch-mode": "cors"})
    assert answer.status_code == 403
    assert bool(answer.content) == (method != "HEAD")
    assert (await browser.http.request(method, "/2fa/security", headers=JSON)).status_code < 500


# ---- web sockets ----


async def test_a_web_socket_is_refused_before_it_opens_unless_both_factors_were_shown(
    shop: Shop, browser: Browser
) -> None:
    await browser.post("/login", name="alice")
    refused = await open_socket(shop.app, "/feed", browser.http.cookies)
    assert (refused["type"], refused["code"]) == ("websocket.close", 1008)
    await browser.open("/account")
    await browser.give_code()
    assert (await open_socket(shop.app, "/feed", browser.http.cookies))["type"] == "websocket.accept"
    assert (await open_socket(shop.app, "/2fa/security", browser.http.cookies))["type"] == "websocket.close"
    assert (await open_socket(shop.app, "/feed", httpx.Cookies()))["type"] == "websocket.accept"


async def test_a_web_socket_that_demands_a_second_factor_does_not_open_without(kit: Kit) -> None:
    shop = Shop()

    @shop.app.websocket("/prices")
    @second_factor_required
    async def prices(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    browser = Browser(shop.app, kit)
    assert (await open_socket(shop.app, "/prices", browser.http.cookies))["type"] == "websocket.close"
    await sign_in(browser)
    assert (await open_socket(shop.app, "/prices", browser.http.cookies))["type"] == "websocket.accept"


# ---- what was opened on purpose ----


async def test_what_was_opened_is_open_and_its_neighbors_are_not(kit: Kit, tmp_path: Any) -> None:
    (tmp_path / "style.css").write_text("p {}")
    shop, router, inside = Shop(), APIRouter(prefix="/v1"), FastAPI()
    for app in (router, inside):
        app.get("/open")(second_factor_exempt(lambda: "open"))
        app.get("/shut")(lambda: "shut")
    shop.app.include_router(router)
    shop.app.mount("/inside", inside)
    shop.app.mount("/static", StaticFiles(directory=tmp_path))
    shop.app.mount("/all", second_factor_exempt(Starlette(routes=[Route("/shut", lambda _: PlainTextResponse("all"))])))
    browser = Browser(shop.app, kit)
    await browser.post("/login", name="alice")
    for path in ("/status", "/v1/open", "/inside/open", "/static/style.css", "/all/shut"):
        assert (await browser.open(path)).path == path
    for path in ("/v1/shut", "/inside/shut", "/v1/open/", "/static", "/inside/static/style.css", "/status%2f"):
        assert (await browser.open(path)).path == "/2fa/sign-in/code", path
    assert (await browser.post("/status")).path == "/2fa/sign-in/code"  # only GET was opened


async def test_an_open_view_is_open_to_sockets_too(kit: Kit) -> None:
    shop = Shop()

    @shop.app.websocket("/ticker")
    @second_factor_exempt
    async def ticker(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    browser = Browser(shop.app, kit)
    await browser.post("/login", name="alice")
    assert (await open_socket(shop.app, "/ticker", browser.http.cookies))["type"] == "websocket.accept"
    assert (await open_socket(shop.app, "/feed", browser.http.cookies))["type"] == "websocket.close"


# ---- fresh ----


async def test_a_page_that_is_to_be_fresh_asks_and_then_shows_itself(browser: Browser, kit: Kit) -> None:
    await sign_in(browser)
    assert (await browser.open("/statement?month=5")).path == "/2fa/fresh"
    assert (await browser.give_code()).html == "statement of 5"
    assert (await browser.open("/statement?month=5")).html == "statement of 5"
    kit.clock.advance(301)
    assert (await browser.open("/statement?month=5")).path == "/2fa/fresh"


async def test_a_form_waits_for_the_proof_and_is_then_sent_once(browser: Browser) -> None:
    await sign_in(browser)
    asked = await browser.post("/transfer", to="bob & son", amount="7")
    assert (asked.status, DONE) == (403, [])
    resumed = await browser.give_code()
    assert DONE == []
    assert (await browser.send(resumed)).html == "done"
    assert DONE == ["7 to bob & son"]
    # The same form once more: the proof is used up.
    assert (await browser.send(resumed)).status == 403
    assert (await browser.post("/transfer", to="bob & son", amount="7")).status == 403
    assert DONE == ["7 to bob & son"]


async def test_a_proof_for_one_form_is_none_for_another(browser: Browser) -> None:
    await sign_in(browser)
    await browser.post("/transfer", to="bob", amount="7")
    await browser.give_code()
    assert (await browser.post("/transfer", to="eve", amount="7000")).status == 403
    assert DONE == []


async def test_a_program_proves_itself_for_one_act(shop: Shop, kit: Kit) -> None:
    token = {**JSON, "authorization": "Bearer token-of-alice"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url=ORIGIN, headers=token) as client:
        assert (await client.post("/2fa/verify", json={"code": kit.next_code("alice")})).is_success
        refused = await client.post("/transfer", data={"to": "bob", "amount": "7"})
        assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
        proof = {"code": kit.next_code("alice"), "act": refused.json()["act"]}
        assert (await client.post("/2fa/verify", json=proof)).json() == {"verified": True}
        assert (await client.post("/transfer", data={"to": "bob", "amount": "7"})).text == "done"
        assert (await client.post("/transfer", data={"to": "bob", "amount": "7"})).status_code == 403
        assert DONE == ["7 to bob"]


@pytest.mark.parametrize("size", [0, 10, 64 * 1024, 64 * 1024 + 1, 3_000_000])
async def test_the_view_gets_the_whole_body_after_it_was_looked_at(shop: Shop, kit: Kit, size: int) -> None:
    token = {**JSON, "authorization": "Bearer token-of-alice"}

    async def stream() -> Any:
        for start in range(0, size, 10_000):
            yield b"x" * min(10_000, size - start)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(shop.app), base_url=ORIGIN, headers=token) as client:
        await client.post("/2fa/verify", json={"code": kit.next_code("alice")})
        assert (await client.post("/upload", content=stream())).json()["code"] == "step_up_required"
        await client.post("/2fa/verify", json={"code": kit.next_code("alice"), "act": "/upload"})
        assert (await client.post("/upload", content=stream())).text == f"{size} bytes"


async def test_a_form_that_is_too_long_for_a_page_of_ours_is_told_so(browser: Browser) -> None:
    await browser.post("/login", name="alice")
    answer = await browser.http.post("/2fa/sign-in/code", content=b"x" * 70_000, headers={"origin": ORIGIN})
    assert 400 <= answer.status_code < 500


async def test_a_view_asks_in_a_mounted_application_with_its_own_errors_too(kit: Kit) -> None:
    shop, inside = Shop(), FastAPI(exception_handlers={403: lambda *_: PlainTextResponse("no", 418)})
    inside.get("/secret", dependencies=[Depends(fresh())])(lambda: "secret")
    shop.app.mount("/inside", inside)
    browser = Browser(shop.app, kit)
    await sign_in(browser)
    assert (await browser.open("/inside/secret")).path == "/2fa/fresh"
    assert (await browser.give_code()).html == '"secret"'


async def test_views_of_starlette_are_decorated_and_get_their_request(kit: Kit) -> None:
    @fresh()
    async def pay(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"paid {(await request.form())['amount']}")

    @second_factor_required
    def ledger(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"ledger of {request.session['name']}")

    async def login(request: Request) -> RedirectResponse:
        return let_in(request, name=str((await request.form())["name"]))

    routes = [Route("/pay", pay, methods=["POST"]), Route("/account", ledger), Route("/login", login, methods=["POST"])]
    app = Starlette(routes=[Mount("/bank", routes=routes)])
    app.add_middleware(SessionMiddleware, secret_key="only for tests")
    SecondFactor(app, person=find_person)
    browser = Browser(app, kit)
    assert (await browser.open("/bank/account")).path == "/login"
    await browser.post("/bank/login", name="alice")
    await browser.open("/bank/account")
    assert (await browser.give_code()).html == "ledger of alice"
    await browser.post("/bank/pay", amount="3")
    assert (await browser.send(await browser.give_code())).html == "paid 3"


async def test_without_a_gate_nothing_that_demands_one_is_reached() -> None:
    app = FastAPI()
    app.get("/secret", dependencies=[Depends(fresh())])(lambda: "secret")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        with pytest.raises(ConfigurationError, match="there is no gate before this application"):
            await client.get("/secret")


# ---- require, events, layout ----


async def test_it_does_not_begin_to_require_while_no_administrator_could_help(kit: Kit) -> None:
    shop = Shop()
    shop.gate.require(lambda user: True, administrators=["carol"])
    with pytest.raises(RuntimeError, match="no administrator has a second factor yet"):
        async with running(shop.app):
            pass


async def test_who_must_have_a_second_factor_is_led_to_enroll(kit: Kit) -> None:
    shop = Shop()
    shop.gate.require(lambda user: user != "eve", administrators=lambda: ["root"])
    async with running(shop.app):
        browser = Browser(shop.app, kit)
        assert (await browser.post("/login", name="bob")).path == "/2fa/enroll"
        assert (await browser.open("/account")).path == "/2fa/enroll"
        assert (await Browser(shop.app, kit).post("/login", name="eve")).html == "account of eve"


async def test_somebody_enrolls_on_the_pages_and_goes_on_where_he_wanted_to(shop: Shop, kit: Kit) -> None:
    browser = Browser(shop.app, kit)
    await browser.post("/login", name="bob")
    assert (await browser.open("/admin")).path == "/2fa/enroll"
    assert (await browser.send(press="factor=totp")).path == "/2fa/enroll/totp"
    await browser.send(code=kit.current_code("bob"))
    assert (await browser.send(saved=True)).path == "/2fa/enroll/done"
    assert (await browser.open("/admin")).html == "administration"


async def test_the_application_hears_what_happens(kit: Kit) -> None:
    shop, heard = Shop(), list[Happened]()
    shop.gate.on("code.accepted", heard.append)
    async with running(shop.app):
        await sign_in(Browser(shop.app, kit))
    assert [(event.account_id, event.kind) for event in heard] == [("alice", "code.accepted")]
