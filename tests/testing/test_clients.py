"""One call through the second step, in the test client of each framework."""

import warnings
from collections.abc import Iterator

import httpx
import pytest
from flask import Flask, request, session
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from twofold import ConfigurationError
from twofold.integrations import flask as for_flask
from twofold.integrations import starlette as for_starlette
from twofold.testing import Kit, SoftwareAuthenticator, open_kit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is said to be deprecated with httpx
    from starlette.testclient import TestClient


@pytest.fixture
def kit() -> Iterator[Kit]:
    with open_kit() as opened:
        yield opened


class OfFlask:
    def __init__(self) -> None:
        app = Flask("acme")
        app.secret_key = "secret"
        self.gate = for_flask.SecondFactor(app, person=lambda: request.headers.get("x-user") or session.get("name"))

        @app.post("/login")
        def login() -> str:
            session["name"] = request.form["name"]
            return "hello"

        @app.get("/account")
        def account() -> str:
            return "yours"

        @app.post("/transfer")
        @for_flask.fresh(minutes=5, at_least="passkey")
        def transfer() -> str:
            return "done"

        self.client = app.test_client()
        self.close = self.gate.close


class OfStarlette:
    def __init__(self, base_url: str = "http://localhost") -> None:
        self.client = TestClient(self.make(), base_url=base_url)
        self.client.__enter__()

    @staticmethod
    def make() -> Starlette:
        async def login(request: Request) -> PlainTextResponse:
            request.session["name"] = (await request.form())["name"]
            return PlainTextResponse("hello")

        async def account(request: Request) -> PlainTextResponse:
            return PlainTextResponse("yours")

        @for_starlette.fresh(minutes=5, at_least="passkey")
        async def transfer(request: Request) -> PlainTextResponse:
            return PlainTextResponse("done")

        app = Starlette(
            routes=[
                Route("/login", login, methods=["POST"]),
                Route("/account", account),
                Route("/transfer", transfer, methods=["POST"]),
            ],
            middleware=[Middleware(SessionMiddleware, secret_key="secret")],
        )
        for_starlette.SecondFactor(app, person=lambda of: of.headers.get("x-user") or of.session.get("name"))
        return app

    def close(self) -> None:
        self.client.__exit__(None, None, None)


@pytest.fixture(params=[OfFlask, OfStarlette])
def application(request: pytest.FixtureRequest, kit: Kit) -> Iterator[OfFlask | OfStarlette]:
    made = request.param()
    yield made
    made.close()


def test_a_code_opens_the_application(application: OfFlask | OfStarlette, kit: Kit) -> None:
    client = application.client
    client.post("/login", data={"name": "alice"})
    assert client.get("/account").status_code == 200, "nothing is asked of who has no second factor"
    kit.enroll("alice")
    assert client.get("/account").status_code == 403
    kit.pass_second_step(client, "alice")
    assert client.get("/account").status_code == 200


def test_a_passkey_does_too_and_one_act_takes_it_once_more(application: OfFlask | OfStarlette, kit: Kit) -> None:
    client, key = application.client, SoftwareAuthenticator()
    kit.enroll_passkey("alice", key)
    client.post("/login", data={"name": "alice"})
    kit.pass_second_step(client, "alice", authenticator=key)
    assert client.get("/account").status_code == 200
    assert client.post("/transfer").status_code == 403
    kit.pass_second_step(client, "alice", authenticator=key, act="/transfer")
    assert (client.post("/transfer").status_code, client.post("/transfer").status_code) == (200, 403)


def test_a_program_with_a_token_passes_it_with_its_headers(application: OfFlask | OfStarlette, kit: Kit) -> None:
    client, headers = application.client, {"authorization": "Bearer token", "x-user": "alice"}
    kit.enroll("alice")
    assert client.get("/account", headers=headers).status_code == 403
    kit.pass_second_step(client, "alice", headers=headers)
    assert client.get("/account", headers=headers).status_code == 200
    assert client.get("/account", headers={**headers, "authorization": "Bearer other"}).status_code == 403


def test_the_session_ends_when_the_clock_says_so(application: OfFlask | OfStarlette, kit: Kit) -> None:
    client = application.client
    kit.enroll("alice")
    client.post("/login", data={"name": "alice"})
    kit.pass_second_step(client, "alice")
    kit.clock.advance(23 * 3600)
    assert client.get("/account").status_code == 200
    kit.clock.advance(2 * 3600)
    assert client.get("/account").status_code == 403


def test_what_is_refused_is_told(application: OfFlask | OfStarlette, kit: Kit) -> None:
    client = application.client
    kit.enroll("alice")
    with pytest.raises(AssertionError, match="nobody is signed in"):
        kit.pass_second_step(client, "alice")
    client.post("/login", data={"name": "alice"})
    kit.enroll("bob")
    with pytest.raises(AssertionError, match="second factor of bob was refused: wrong_code"):
        kit.pass_second_step(client, "bob")


async def test_with_an_asynchronous_client_it_is_one_line_as_well(kit: Kit) -> None:
    app = OfStarlette.make()
    kit.enroll("alice")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        await client.post("/login", data={"name": "alice"})
        assert (await client.get("/account")).status_code == 403
        await client.post("/2fa/verify", json={"code": kit.next_code("alice")})
        assert (await client.get("/account")).status_code == 200


def test_under_another_name_than_localhost_it_says_what_to_do(kit: Kit) -> None:
    application = OfStarlette("http://testserver")
    kit.enroll("alice")
    application.client.post("/login", data={"name": "alice"})
    with pytest.raises(AssertionError, match='base_url="http://localhost"'):
        kit.pass_second_step(application.client, "alice")
    application.close()


def test_an_application_with_a_public_url_is_refused(kit: Kit) -> None:
    with pytest.raises(ConfigurationError, match="for tests only: PUBLIC_URL is https://acme"):
        for_flask.SecondFactor(
            Flask("acme"), person=lambda: None, public_url="https://acme.example", database="sqlite:////nowhere/acme.db"
        )
    gate = for_flask.SecondFactor(Flask("acme"), person=lambda: None, public_url="http://localhost")
    gate.close()
