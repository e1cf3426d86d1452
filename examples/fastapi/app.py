"""A FastAPI application with people and doors of its own, and a second factor behind each door: `uvicorn app:app`."""

import hashlib
import secrets

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.sessions import SessionMiddleware

from twofold.integrations.starlette import SecondFactor, fresh

PEOPLE: dict[str, bytes] = {}
TOKENS, RESETS = {"Bearer token-of-alice": "alice"}, {"link-mailed-to-alice": "alice"}
FORM = '<form method="post" action="{}"><input name="{}"><input name="{}" type="{}"><button>{}</button></form>'
app = FastAPI(default_response_class=HTMLResponse)
app.add_middleware(SessionMiddleware, secret_key=secrets.token_urlsafe())


def who(request: Request) -> str | None:  # whoever came in by any door; behind "login as", the one who is really there
    token = TOKENS.get(request.headers.get("authorization", ""))
    return token or request.session.get("impersonator") or request.session.get("name")


SecondFactor(app, person=who, issuer="Acme", login_url="/", sign_out_url="/logout")


def digest(name: str, password: str) -> bytes:
    return hashlib.scrypt(password.encode(), salt=name.encode(), n=2**14, r=8, p=1)


PEOPLE |= {name: digest(name, word) for name, word in {"alice": "wonderland", "root": "treehouse"}.items()}


def let_in(request: Request, **session: str) -> RedirectResponse:
    request.session.update(session)
    return RedirectResponse("/account", 303)


@app.get("/")
def home() -> str:
    return FORM.format("/login", "name", "password", "password", "Sign in")


@app.post("/login")
def login(request: Request, name: str = Form(), password: str = Form()) -> RedirectResponse:
    if PEOPLE.get(name) != digest(name, password):
        raise HTTPException(403)
    request.session.clear()
    return let_in(request, name=name)


@app.post("/login-as")
def login_as(request: Request, name: str = Form()) -> RedirectResponse:
    if who(request) != "root":
        raise HTTPException(403)
    return let_in(request, name=name, impersonator="root")


@app.post("/reset")
def reset(request: Request, token: str = Form(), password: str = Form()) -> RedirectResponse:
    name = RESETS.pop(token)
    PEOPLE[name] = digest(name, password)
    return let_in(request, name=name)


@app.get("/logout")
def log_out(request: Request) -> RedirectResponse:
    request.session.clear()
    return RedirectResponse("/")


@app.get("/account")
def account(request: Request) -> str:
    return f"<h1>{who(request)}</h1>" + FORM.format("/transfer", "to", "amount", "number", "Transfer")


@app.post("/transfer", dependencies=[Depends(fresh(minutes=5))])
def transfer(to: str = Form(), amount: int = Form()) -> str:
    return f"<h1>{amount} for {to}</h1>"
