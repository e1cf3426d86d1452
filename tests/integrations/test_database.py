"""An application whose own database is PostgreSQL: Twofold keeps to its schema there, beside its tables."""

import time
from pathlib import Path

import asyncpg
import pyotp
import pytest
from flask import Flask, redirect, request, session

from twofold.core.decision import Confirmed
from twofold.integrations.flask import SecondFactor

JSON = {"Accept": "application/json"}


def make_app(url: str) -> tuple[Flask, SecondFactor]:
    app = Flask("Shop")
    app.secret_key = "for tests"
    second_factor = SecondFactor(app, person=lambda: session.get("user"), database=url)

    @app.post("/login")
    def login() -> object:
        session["user"] = request.form["user"]
        return redirect("/account")

    @app.get("/account")
    def account() -> str:
        return "account"

    return app, second_factor


async def test_two_processes_of_it_share_what_they_know(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE public.orders (id int)")
    app, first = make_app(postgres_url)
    beside, second = make_app(postgres_url)
    beside.secret_key = app.secret_key
    pending = first.verifier.enroll("alice")
    phone, now = pyotp.TOTP(pending.secret), time.time()
    assert isinstance(first.verifier.confirm("alice", pending.id, code=phone.at(now)), Confirmed)

    browser = app.test_client()
    browser.post("/login", data={"user": "alice"})
    assert browser.get("/account", headers=JSON).status_code == 403
    code = phone.at(now + 30)
    assert browser.post("/2fa/verify", json={"code": code}).json == {"verified": True}
    assert browser.get("/account", headers=JSON).status_code == 200

    other = beside.test_client()
    other.post("/login", data={"user": "alice"})
    again = other.post("/2fa/verify", json={"code": code}).json
    assert again is not None
    assert again["reason"] == "code_already_used"
    for name in ("session", "twofold-session"):
        cookie = browser.get_cookie(name)
        assert cookie is not None
        other.set_cookie(name, cookie.value)
    assert other.get("/account", headers=JSON).status_code == 200
    second.verifier.record_event("alice", "compromised")
    assert browser.get("/account", headers=JSON).status_code == 403

    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    assert [table["tablename"] for table in tables] == ["orders"]
    await connection.close()
    first.close()
    second.close()
