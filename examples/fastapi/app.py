"""A FastAPI application with many doors, and a second factor behind each of them: `uvicorn app:app`."""

import hashlib
import os
import secrets
from html import escape

from fastapi import Depends, FastAPI, Form, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.middleware.sessions import SessionMiddleware

from twofold.integrations.starlette import SecondFactor, fresh

SALT = secrets.token_bytes(16)


def digest(password):
    return hashlib.scrypt(password.encode(), salt=SALT, n=2**14, r=8, p=1)


app = FastAPI(default_response_class=HTMLResponse)
app.add_middleware(SessionMiddleware, secret_key=secrets.token_hex())
passwords = {name: digest("correct horse") for name in ("alice", "root")}
tokens, resets = {"Bearer the-token-of-alice": "alice"}, {"mailed-to-alice": "alice"}
FORM = "<form method=post action={}><input name={}><input name={} type={}><button>{}</button></form>"


def whoever_is_there(request: Request):  # by whatever door; behind "login as" the one who is really there
    token = tokens.get(request.headers.get("authorization"))
    return token or request.session.get("impersonator") or request.session.get("name")


data = f"sqlite:///{os.environ.get('DATA_DIR', '.')}/twofold.db"
SecondFactor(app, person=whoever_is_there, issuer="FastAPI example", database=data, login_url="/", sign_out_url="/logout")


def let_in(request, **whom):
    request.session.update(whom)
    return RedirectResponse("/account", 303)


@app.get("/")
def home():
    return FORM.format("/login", "name autocomplete=username", "password", "password autocomplete=off", "Sign in")


@app.post("/login")
def login(request: Request, name: str = Form(), password: str = Form()):
    if not secrets.compare_digest(passwords.get(name, b""), digest(password)):
        raise HTTPException(403)
    return let_in(request, name=name)


@app.post("/login-as/{name}")
def login_as(request: Request, name: str):
    if whoever_is_there(request) != "root" or name not in passwords:
        raise HTTPException(403)
    return let_in(request, name=name, impersonator="root")


@app.post("/reset/{link}")
def reset(request: Request, link: str, password: str = Form()):
    if (name := resets.pop(link, None)) is None:
        raise HTTPException(404)
    passwords[name] = digest(password)
    return let_in(request, name=name)


@app.get("/logout")
def log_out(request: Request):
    request.session.clear()
    return RedirectResponse("/")


@app.get("/account")
def account(request: Request):
    name = request.session.get("name") or whoever_is_there(request)
    return f"<h1>{name}</h1>" + FORM.format("/transfer", "to", "amount", "number", "Send")


@app.post("/transfer", dependencies=[Depends(fresh(minutes=5))])
def transfer(to: str = Form(), amount: int = Form()):
    return f"<h1>{amount} for {escape(to)}</h1>"
