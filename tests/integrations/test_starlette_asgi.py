"""The gate in the life of an ASGI application: beginning and end, middleware and mounts, odd requests, odd clients."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import Depends, FastAPI
from jinja2 import DictLoader, Environment
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.templating import Jinja2Templates
from starlette.types import ASGIApp, Message, Scope
from tests.integrations.asgi_world import ORIGIN, Browser, running

from twofold import ConfigurationError, Unavailable
from twofold.engine import Engine
from twofold.integrations import asgi
from twofold.integrations.starlette import Person, SecondFactor, fresh
from twofold.testing import Kit, open_kit

JSON = {"accept": "application/json"}


@pytest.fixture
def kit() -> Iterator[Kit]:
    with open_kit() as opened:
        opened.enroll("alice")
        opened.enroll(7)
        yield opened


def sign_in(request: Request) -> PlainTextResponse:
    request.session["name"] = request.path_params["name"]
    return PlainTextResponse("signed in")


def show_account(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"account of {request.session.get('name')}")


ROUTES = [Route("/sign-in/{name}", sign_in), Route("/account", show_account)]


def find_person(request: Request) -> str | None:
    return request.session.get("name")


def make_app(**options: Any) -> Starlette:
    app = Starlette(routes=ROUTES)
    app.add_middleware(SessionMiddleware, secret_key="only for tests")
    SecondFactor(app, **{"person": find_person} | options)
    return app


def client_of(app: ASGIApp, base_url: str = ORIGIN, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app, **options), base_url=base_url, headers=JSON)


async def assert_gated(client: httpx.AsyncClient, path: str = "") -> None:
    await client.get(f"{path}/sign-in/alice")
    assert (await client.get(f"{path}/account")).json()["code"] == "second_factor_required"


# ---- beginning and end ----


async def test_the_verifier_is_there_from_the_beginning_of_the_application_to_its_end(kit: Kit) -> None:
    said: list[str] = []

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        said.append((await gate.verifier.accounts.get("alice")).state)
        yield
        said.append((await gate.verifier.accounts.get("alice")).state)

    app = Starlette(routes=ROUTES, lifespan=life)
    gate = SecondFactor(app, person=find_person)
    with pytest.raises(ConfigurationError, match="not begun yet"):
        assert gate.verifier
    async with running(app):
        assert said == ["active"]
    assert said == ["active", "active"]
    with pytest.raises(ConfigurationError, match="not begun yet"):
        assert gate.verifier


async def test_an_application_whose_database_cannot_be_opened_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match="cannot be"):
        async with running(make_app(database=f"sqlite:///{tmp_path}/file/nowhere.db")):
            pass


async def test_who_does_not_tell_the_application_of_its_beginning_is_served_as_well(kit: Kit) -> None:
    async with client_of(make_app()) as client:
        await assert_gated(client)


async def ask_as_bob(app: ASGIApp) -> str:
    async with client_of(app) as client:
        await client.get("/sign-in/bob")
        return (await client.get("/account")).text


def count_open_databases() -> int:
    return sum(thread.name == "twofold-writer" for thread in threading.enumerate())


def test_each_event_loop_of_a_test_finds_the_gate_and_leaves_no_other_open(tmp_path: Path) -> None:
    app, others = make_app(database=f"sqlite:///{tmp_path}/twofold.db"), count_open_databases()
    for _ in range(3):
        assert asyncio.run(ask_as_bob(app)) == "account of bob"
        assert count_open_databases() == others + 1

    async def live() -> list[str]:
        async with running(app):
            return await asyncio.gather(*(ask_as_bob(app) for _ in range(5)))

    assert asyncio.run(live()) == ["account of bob"] * 5
    assert count_open_databases() == others


def test_no_guard_serves_another_event_loop_than_its_own(kit: Kit) -> None:
    gate = SecondFactor(Starlette(), person=find_person)
    assert asyncio.run(gate.find_guard()) is not asyncio.run(gate.find_guard())


async def test_an_application_that_does_not_begin_leaves_no_database_open(tmp_path: Path) -> None:
    app, others = Starlette(), count_open_databases()
    SecondFactor(app, person=find_person, database=f"sqlite:///{tmp_path}/twofold.db").require(bool, [])
    with pytest.raises(RuntimeError, match="no administrator has a second factor yet"):
        async with running(app):
            pass
    assert count_open_databases() == others


# ---- middleware and mounts ----


@pytest.mark.parametrize("order", ["before", "after", "constructor", "middleware", "around"])
async def test_the_gate_stands_in_whatever_order_it_was_built(kit: Kit, order: str) -> None:
    sessions = Middleware(SessionMiddleware, secret_key="only for tests")
    gate = Middleware(SecondFactor, person=find_person)
    app: Any = Starlette(
        routes=ROUTES, middleware={"constructor": [sessions], "middleware": [sessions, gate]}.get(order)
    )
    if order == "before":
        app.add_middleware(SessionMiddleware, secret_key="only for tests")
    if order in ("before", "after", "constructor"):
        SecondFactor(app, person=find_person)
    if order == "after":
        app.add_middleware(SessionMiddleware, secret_key="only for tests")
    if order == "around":
        app = SessionMiddleware(SecondFactor(Starlette(routes=ROUTES).router, person=find_person), "only for tests")
    async with client_of(app) as client:
        await assert_gated(client)


async def test_a_gate_that_comes_after_the_first_request_is_refused(kit: Kit) -> None:
    app = Starlette(routes=ROUTES)
    async with client_of(app) as client:
        await client.get("/nowhere")
    with pytest.raises(ConfigurationError, match="comes too late"):
        SecondFactor(app, person=find_person)


async def test_without_anything_that_names_the_login_it_says_what_is_missing() -> None:
    with open_kit():
        app = Starlette(routes=ROUTES)
        SecondFactor(app, person=lambda _: "alice")
        async with client_of(app) as client:
            with pytest.raises(ConfigurationError, match="session middleware, or say login="):
                await client.get("/account")


async def test_a_login_can_be_named_by_the_application(kit: Kit) -> None:
    async def find(request: Request) -> str | None:
        return request.headers.get("x-person")

    app = Starlette(routes=[Route("/account", lambda _: PlainTextResponse("account"))])
    SecondFactor(app, person=find, login=lambda request: request.headers["x-login"])
    async with client_of(app) as client:
        assert (await client.get("/account")).text == "account"
        client.headers.update({"x-person": "alice", "x-login": "1"})
        assert (await client.get("/account")).status_code == 403
        assert (await client.post("/2fa/verify", json={"code": kit.next_code("alice")})).json()["verified"]
        assert (await client.get("/account")).text == "account"
        assert (await client.get("/account", headers={"x-login": "2"})).status_code == 403


@pytest.mark.parametrize("found", [7, "7", Person("7", "Sieben")])
@pytest.mark.parametrize("is_async", [True, False])
async def test_a_person_is_an_id_or_a_person_found_with_waiting_or_without(
    kit: Kit, found: Any, is_async: bool
) -> None:
    async def wait(_: Request) -> Any:
        await asyncio.sleep(0)
        return found

    async with client_of(make_app(person=wait if is_async else lambda _: found)) as client:
        assert (await client.get("/account")).status_code == 403
        assert (await client.post("/2fa/verify", json={"code": kit.next_code(7)})).json()["verified"]
        assert (await client.get("/account")).text == "account of None"


async def test_under_a_root_path_all_addresses_have_it(kit: Kit) -> None:
    browser = Browser(make_app(), kit, root_path="/shop")
    await browser.open("/shop/sign-in/alice")
    page = await browser.open("/shop/account/a%2Fb?a=%2F1")
    assert (page.path, page.query) == ("/shop/2fa/sign-in/code", "next=%2F-%2Faccount%2Fa%252Fb%3Fa%3D%252F1")
    page = await browser.give_code()
    assert (page.path, page.query, page.status) == ("/shop/account/a%2Fb", "a=%2F1", 404)
    assert (await browser.open("/shop/account")).html == "account of alice"


async def test_behind_a_proxy_that_takes_the_root_path_away_all_addresses_have_it(kit: Kit) -> None:
    async with client_of(make_app(), root_path="/shop") as client:
        await client.get("/sign-in/alice")
        refused = await client.get("/account", headers={"accept": "text/html"})
        assert refused.headers["location"] == "/shop/2fa/sign-in/code?next=%2F-%2Faccount"
        assert 'action="/shop/2fa/sign-in/code' in (await client.get("/2fa/sign-in/code")).text


async def test_an_application_below_another_has_a_gate_of_its_own(kit: Kit) -> None:
    app = Starlette(routes=[Mount("/shop", make_app()), Route("/", lambda _: PlainTextResponse("beside"))])
    browser = Browser(app, kit)
    await browser.open("/shop/sign-in/alice")
    assert (await browser.open("/shop/account")).path == "/shop/2fa/sign-in/code"
    assert (await browser.give_code()).html == "account of alice"
    assert (await browser.open("/")).html == "beside"


# ---- the layout of the application ----


async def test_pages_are_shown_in_the_layout_of_the_application(kit: Kit) -> None:
    head = "<!doctype html><title>{{ twofold.title }} at Acme</title>{{ twofold.head }}"
    layout = head + "<b>Acme</b><main>{{ twofold.body }}</main>"
    templates = Jinja2Templates(env=Environment(loader=DictLoader({"twofold/base.html": layout}), autoescape=True))
    browser = Browser(make_app(templates=templates), kit)
    await browser.open("/sign-in/alice")
    page = await browser.open("/account")
    assert page.html.startswith("<!doctype html><title>Enter your code")
    assert page.html.count("<b>Acme</b>") == 1
    assert page.headers["content-length"] == str(len(page.html.encode()))
    assert (await browser.give_code()).html == "account of alice"


async def test_templates_without_a_layout_for_the_pages_leave_them_as_they_are(kit: Kit) -> None:
    templates = Jinja2Templates(env=Environment(loader=DictLoader({}), autoescape=True))
    browser = Browser(make_app(templates=templates), kit)
    await browser.open("/sign-in/alice")
    assert (await browser.open("/account")).heading == "Enter your code"


# ---- odd requests ----


async def test_under_a_foreign_name_nobody_is_let_in(kit: Kit) -> None:
    async with client_of(make_app()) as client:
        await client.get("/sign-in/alice")
        assert (await client.post("/2fa/verify", json={"code": kit.next_code("alice")})).json()["verified"]
        assert (await client.get("/account")).text == "account of alice"
        foreign = {"host": "evil.example", "cookie": "; ".join(f"{c.name}={c.value}" for c in client.cookies.jar)}
        assert (await client.get("/account", headers=foreign)).status_code in (403, 421)
        assert (await client.get("/2fa/sign-in/code", headers=foreign)).status_code == 421


async def test_with_a_public_url_the_pages_are_under_that_name_alone(kit: Kit) -> None:
    app = make_app(public_url="http://127.0.0.1:9000")
    async with client_of(app, "http://127.0.0.1:9000") as client:
        await client.get("/sign-in/alice")
        assert (await client.get("/2fa/sign-in/code")).status_code == 200
    async with client_of(app) as client:
        await client.get("/sign-in/alice")
        assert (await client.get("/2fa/sign-in/code")).status_code == 421


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:8001"])
async def test_a_form_of_another_site_is_refused(kit: Kit, origin: str) -> None:
    browser = Browser(make_app(), kit)
    await browser.open("/sign-in/alice")
    await browser.open("/account")
    form = browser.page.form(fields={"code": ""})
    button = form.find_button(None)
    assert button is not None
    filled = dict(form.filled({"code": kit.next_code("alice")}, button))
    foreign = await browser.http.post(form.action, data=filled, headers={"origin": origin})
    assert foreign.status_code == 403
    unmarked = await browser.http.post(form.action, data=filled | {"csrf": ""}, headers={"origin": ORIGIN})
    assert unmarked.status_code == 403
    assert (await browser.http.post(form.action, data=filled, headers={"origin": ORIGIN})).status_code == 303


PATHS = [
    "/2fa",
    "/2fa/",
    "/2fa//",
    "/2fa/../account",
    "/2fa/%2e%2e/account",
    "/2FA/",
    "//account",
    "/%61ccount",
    "/a%ff",
]


@pytest.mark.parametrize("path", PATHS)
async def test_no_spelling_of_a_path_leads_around_the_gate(kit: Kit, path: str) -> None:
    async with client_of(make_app()) as client:
        await client.get("/sign-in/alice")
        answer = await client.get(httpx.URL(ORIGIN).copy_with(raw_path=path.encode()))
        assert "account of" not in answer.text
        assert answer.status_code < 500


@pytest.mark.parametrize("path", ["/2fast", "/2fa-", "/2fa.html"])
async def test_a_path_that_begins_like_ours_is_the_applications(kit: Kit, path: str) -> None:
    app = make_app()
    app.add_route(path, lambda _: PlainTextResponse("the application's"))
    async with client_of(app) as client:
        assert (await client.get(path)).text == "the application's"
        await client.get("/sign-in/alice")
        assert (await client.get(path)).json()["code"] == "second_factor_required"


async def send_raw(
    app: ASGIApp, path: str, messages: list[Message], cookies: str, method: str = "POST"
) -> list[Message]:
    """What is answered to a client that sends these messages and then nothing."""
    scope: Scope = {
        "type": "http", "method": method, "path": path, "query_string": b"", "root_path": "", "scheme": "http",
        "headers": [(b"host", b"localhost:8000"), (b"cookie", cookies.encode()), (b"accept", b"text/html"),
            (b"content-type", b"application/x-www-form-urlencoded")],
    }  # fmt: skip
    said: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Message) -> None:
        said.append(message)

    await app(scope, receive, send)
    return said


async def test_who_goes_away_in_the_middle_is_answered_nothing_and_who_never_ends_is_told_so(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asgi, "BODY_S", 0.05)
    app = make_app()
    app.add_route("/pay", fresh()(lambda _: PlainTextResponse("paid")), methods=["POST"])
    async with client_of(app) as client:
        await client.get("/sign-in/alice")
        await client.post("/2fa/verify", json={"code": kit.next_code("alice")})
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    part: Message = {"type": "http.request", "body": b"code=1", "more_body": True}
    for path in ("/2fa/fresh", "/pay"):
        assert await send_raw(app, path, [part, {"type": "http.disconnect"}], cookies) == []
        assert (await send_raw(app, path, [part], cookies))[0]["status"] == 408


async def test_of_a_long_body_no_more_is_read_than_is_looked_at(kit: Kit) -> None:
    app = make_app()
    app.add_route("/pay", fresh()(lambda _: PlainTextResponse("paid")), methods=["POST"])
    async with client_of(app) as client:
        await client.get("/sign-in/alice")
        await client.post("/2fa/verify", json={"code": kit.next_code("alice")})
        cookies = "; ".join(f"{cookie.name}={cookie.value}" for cookie in client.cookies.jar)
    parts: list[Message] = [{"type": "http.request", "body": b"x" * 1024, "more_body": True} for _ in range(1000)]
    assert (await send_raw(app, "/pay", parts, cookies))[0]["status"] == 303
    assert len(parts) == 1000 - 65


async def test_an_answer_to_head_has_no_body(kit: Kit) -> None:
    said = await send_raw(make_app(), "/2fa/static/icon.svg", [{"type": "http.request"}], "", "HEAD")
    assert (said[0]["status"], said[1]["body"]) == (200, b"")
    assert int(dict(said[0]["headers"])[b"content-length"]) > 0


async def test_a_fault_of_the_application_stays_one(kit: Kit) -> None:
    async def fail(_: Request) -> PlainTextResponse:
        raise ValueError("a fault")

    app = make_app()
    app.add_route("/fail", fail)
    async with client_of(app, raise_app_exceptions=False) as client:
        assert (await client.get("/fail")).status_code == 500


async def test_while_the_database_is_away_nobody_is_let_in(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise Unavailable("the database is away")

    async with client_of(make_app()) as client:
        await client.get("/sign-in/alice")
        monkeypatch.setattr(Engine, "load", fail)
        assert (await client.get("/account")).status_code == 503
        assert (await client.get("/account", headers={"accept": "text/html"})).status_code == 503


async def test_a_dependency_waits_beside_others(kit: Kit) -> None:
    """FastAPI calls ours in a thread: fifty at once, more than it has threads, all come through."""
    app = FastAPI()
    app.get("/secret", dependencies=[Depends(fresh())])(lambda: "secret")
    SecondFactor(app, person=lambda _: "alice", login=lambda _: "1")
    async with client_of(app) as client:
        answers = await asyncio.gather(*(client.get("/secret") for _ in range(50)))
    assert {answer.status_code for answer in answers} == {403}


def test_one_gate_is_enough(kit: Kit) -> None:
    app = Starlette()
    SecondFactor(app, find_person)
    with pytest.raises(ConfigurationError, match="there is a gate before this application already"):
        SecondFactor(app, find_person)


async def test_who_begins_the_application_hears_why_it_cannot_begin(kit: Kit) -> None:
    app = Starlette()
    SecondFactor(app, find_person).require(lambda _: True, administrators=["nobody"])
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        sent.append(message)

    with pytest.raises(ConfigurationError, match="no administrator has a second factor yet"):
        await app({"type": "lifespan", "state": {}}, receive, send)
    assert [message["type"] for message in sent] == ["lifespan.startup.failed"]
