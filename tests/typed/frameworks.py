"""The gate in front of an application in each framework, as a type checker reads it."""

from typing import Annotated, Any, assert_type

from django.dispatch import Signal
from django.http import HttpRequest, HttpResponse
from fastapi import Depends, FastAPI
from flask import Flask, session
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from twofold import BlockingVerifier, Verifier
from twofold.integrations import django, flask, starlette
from twofold.integrations.arrival import Happened, Person


def tell(happened: Happened) -> None:
    """What the application hears of."""
    print(happened.kind, happened.account_id)


def in_flask(app: Flask) -> None:
    """The gate, a switch, an ear, and what single views ask for."""
    gate = flask.SecondFactor(app, lambda: session.get("user"), issuer="Acme")
    gate.require(lambda user: user == "root", ["root"])
    gate.on("session.opened", tell)
    assert_type(gate.verifier, BlockingVerifier)

    @app.get("/account")
    @flask.second_factor_required
    def account() -> str:
        return "account"

    @app.post("/transfer")
    @flask.fresh(minutes=5, at_least="passkey")
    def transfer() -> str:
        return "sent"

    @app.get("/")
    @flask.second_factor_exempt
    def home() -> str:
        return "home"


def in_fastapi(app: FastAPI) -> None:
    """The same; a demand is a decorator, or a dependency."""

    def find_person(request: Request) -> Person | None:
        name = request.session.get("user")
        return Person(name, name.title()) if name else None

    gate = starlette.SecondFactor(app, person=find_person, issuer="Acme")
    gate.require(lambda user: user == "root", lambda: ["root"])
    gate.on("session.opened", tell)
    assert_type(gate.verifier, Verifier)

    @app.get("/account")
    @starlette.second_factor_required
    async def account(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"account of {request.session['user']}")

    @app.post("/transfer", dependencies=[Depends(starlette.fresh(minutes=5, at_least="passkey"))])
    def transfer(amount: int, proof: Annotated[Any, Depends(starlette.second_factor_required)]) -> str:
        return f"sent {amount}"

    @app.get("/")
    @starlette.second_factor_exempt
    def home() -> str:
        return "home"


@django.second_factor_required
def account(request: HttpRequest) -> HttpResponse:
    """A view of Django's."""
    return HttpResponse("account")


@django.fresh(minutes=5, at_least="passkey")
def transfer(request: HttpRequest, amount: int) -> HttpResponse:
    """Another one, with something of its path."""
    return HttpResponse(f"sent {amount}")


@django.second_factor_exempt
def home(request: HttpRequest) -> HttpResponse:
    """For everybody."""
    return HttpResponse("home")


MIDDLEWARE = [f"{django.SecondFactorMiddleware.__module__}.{django.SecondFactorMiddleware.__name__}"]
assert_type(django.happened, Signal)
assert_type(django.open_guard().verifier, BlockingVerifier)
