"""`examine` names the doors that the gate does not stand before, of every kind, and calls none that was opened."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from flask import Blueprint, Flask
from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from twofold import ConfigurationError
from twofold.integrations import flask as of_flask
from twofold.integrations import starlette as of_starlette
from twofold.integrations.doors import examine
from twofold.integrations.routes import fill
from twofold.testing import open_kit

CALLED: list[str] = []


@pytest.fixture(autouse=True)
def _kit() -> Iterator[None]:
    CALLED.clear()
    with open_kit():
        yield


def states(app: Any, **options: Any) -> dict[str, str]:
    return {found.route: found.state for found in examine(app, **options)}


def show(request: Request) -> PlainTextResponse:
    CALLED.append(request.url.path)
    return PlainTextResponse("shown")


async def listen(socket: WebSocket) -> None:
    CALLED.append(socket.url.path)
    await socket.accept()
    await socket.close()


def open_show(request: Request) -> PlainTextResponse:
    return show(request)


of_starlette.second_factor_exempt(open_show)


def make_starlette(*more: Any) -> Starlette:
    routes = [Route("/account", show, methods=["GET", "POST"]), Route("/health", open_show), *more]
    app = Starlette(routes=routes)
    of_starlette.SecondFactor(app, person=lambda _: None)
    return app


# ---- Starlette and FastAPI ----


def test_every_route_of_starlette_is_tried_and_none_is_called(tmp_path: Path) -> None:
    app = make_starlette(
        Route("/orders/{id:int}/{day}", show),
        WebSocketRoute("/feed", listen),
        Mount("/inside", routes=[Route("/deep", show), Mount("/deeper", Starlette(routes=[Route("/", show)]))]),
        Mount("/static", StaticFiles(directory=tmp_path)),
        Mount("/plain", PlainTextResponse("plain")),
        Host("api.example", Starlette(routes=[Route("/v1", show)])),
    )
    found = examine(app)
    assert [(each.route, each.state, each.methods) for each in found] == [
        ("/account", "gated", ("GET", "POST")),
        ("/health", "open on purpose", ("GET",)),
        ("/orders/{id}/{day}", "gated", ("GET",)),
        ("/feed", "gated", ("WEBSOCKET",)),
        ("/inside/deep", "gated", ("GET",)),
        ("/inside/deeper/", "gated", ("GET",)),
        ("/static/{path}", "open on purpose", ()),
        ("/plain/…", "gated", ()),
        ("/v1", "gated", ("GET",)),
    ]
    assert CALLED == []


def test_routers_that_fastapi_includes_and_applications_below_are_tried() -> None:
    app, router, below = FastAPI(), APIRouter(prefix="/v1"), FastAPI(openapi_url=None)
    router.get("/orders/{id}")(lambda id: CALLED.append("order"))  # noqa: A006 - a parameter's name in a path
    below.post("/pay")(lambda: CALLED.append("pay"))
    below.get("/open")(of_starlette.second_factor_exempt(lambda: CALLED.append("open")))
    of_starlette.SecondFactor(app, person=lambda _: None)
    app.include_router(router)
    app.mount("/below", below)
    found = states(app)
    assert (
        found.items()
        >= {
            "/v1/orders/{id}": "gated",
            "/below/pay": "gated",
            "/below/open": "open on purpose",
            "/docs": "gated",
            "/openapi.json": "gated",
        }.items()
    )
    assert "not gated" not in found.values()
    assert CALLED == []


def test_an_application_beside_the_gate_is_found() -> None:
    app = Starlette(routes=[Mount("/legacy", Starlette(routes=[Route("/report", show)])), Mount("/", make_starlette())])
    found = {each.route: (each.state, each.detail) for each in examine(app)}
    assert found["/legacy/report"] == ("not gated", "200")
    assert found["/account"] == ("gated", "")


def test_an_application_under_another_name_beside_the_gate_is_found() -> None:
    other = Host("api.example", Starlette(routes=[Route("/v1", show)]))
    assert states(Starlette(routes=[other, Mount("/", make_starlette())])) == {
        "/v1": "not gated",
        "/account": "gated",
        "/health": "open on purpose",
    }


def test_a_web_socket_beside_the_gate_is_found() -> None:
    app = Starlette(routes=[WebSocketRoute("/feed", listen), Mount("/shop", make_starlette())])
    found = {each.route: (each.state, each.detail) for each in examine(app)}
    assert found["/feed"] == ("not gated", "websocket.accept")


def test_middleware_that_answers_before_the_gate_is_found() -> None:
    async def answer_reports(request: Request, go_on: Callable[[Request], Any]) -> Response:
        return PlainTextResponse("report") if request.url.path == "/account" else await go_on(request)

    app = make_starlette()
    app.add_middleware(BaseHTTPMiddleware, dispatch=answer_reports)
    assert states(app) == {"/account": "not gated", "/health": "open on purpose"}


def test_a_gate_around_an_application_is_seen_through() -> None:
    inner = Starlette(routes=[Route("/account", show)])
    around = of_starlette.SecondFactor(inner.router, person=lambda _: None)
    assert states(around) == {"/account": "gated"}


def test_a_view_that_fails_or_never_answers_beside_the_gate_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(_: Request) -> Response:
        raise ValueError("a fault")

    async def sleep(_: Request) -> Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("twofold.integrations.knocking.ANSWER_S", 0.05)
    app = Starlette(routes=[Route("/fail", fail), Route("/sleep", sleep), Mount("/shop", make_starlette())])
    found = {each.route: each.detail for each in examine(app) if each.state == "not gated"}
    assert found == {"/fail": "500", "/sleep": "TimeoutError: "}


def test_without_any_gate_it_says_so_and_calls_nothing() -> None:
    with pytest.raises(ConfigurationError, match="there is no gate before this application"):
        examine(Starlette(routes=[Route("/account", show)]))
    assert CALLED == []


# ---- Flask ----


def make_flask() -> Flask:
    app = Flask("shop")
    app.secret_key = "only for tests"
    of_flask.SecondFactor(app, person=lambda: None)
    below = Blueprint("below", "below", url_prefix="/below", static_folder="static")
    below.get("/<uuid:id>/<any(a, b):kind>")(called("below"))
    app.get("/account")(called("account"))
    app.post("/pay")(called("pay"))
    app.get("/health")(of_flask.second_factor_exempt(called("health")))
    app.register_blueprint(below)
    return app


def called(name: str) -> Callable[..., str]:
    def view(**_: object) -> str:
        CALLED.append(name)
        return name

    view.__name__ = name
    return view


FLASK = {
    "/static/<path:filename>": "open on purpose",
    "/account": "gated",
    "/pay": "gated",
    "/health": "open on purpose",
    "/below/static/<path:filename>": "open on purpose",
    "/below/<uuid:id>/<any(a, b):kind>": "gated",
}


def test_every_route_of_flask_is_tried_and_none_is_called() -> None:
    assert states(make_flask()) == FLASK
    assert CALLED == []


def test_a_function_that_answers_before_the_gate_is_found() -> None:
    app = make_flask()
    app.before_request_funcs[None].insert(0, lambda: "maintenance")
    with pytest.raises(ConfigurationError, match="no gate"):
        examine(app)


def test_a_function_that_answers_for_one_route_before_the_gate_is_found() -> None:
    from flask import request  # noqa: PLC0415 - a proxy that only means something in a request

    app = make_flask()
    app.before_request_funcs[None].insert(0, lambda: "cached" if request.path == "/account" else None)
    assert states(app) == FLASK | {"/account": "not gated"}


def test_wsgi_applications_beside_the_gate_are_found() -> None:
    app, legacy = make_flask(), Flask("legacy", static_folder=None)
    legacy.get("/report")(called("report"))

    def plain(_: Any, start: Any) -> list[bytes]:
        start("200 OK", [])
        return [b"plain"]

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/legacy": legacy, "/plain": plain})  # type: ignore[method-assign]
    assert states(app) == FLASK | {"/legacy/report": "not gated", "/plain/…": "not gated"}
    assert CALLED == ["report"]


# ---- parameters ----


@pytest.mark.parametrize(
    ("route", "path"),
    [
        ("/a/<int:id>/b", "/a/1/b"),
        ("/<uuid>", "/00000000-0000-0000-0000-000000000000"),
        ("/{word}/{odd}", "/x/1"),
        ("/plain", "/plain"),
    ],
)
def test_parameters_get_values_that_fit(route: str, path: str) -> None:
    assert fill(route, {"id": r"\d+", "uuid": "[0-9a-f-]{36}", "word": "[a-z]+", "odd": "[A-Z]{7}"}) == path
