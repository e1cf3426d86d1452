"""A deployment on a clock that the test moves, its server in this process, and a phone that is not Twofold's own."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest

from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.server.app import create_app

START_S = 1_767_225_600  # a whole number of steps: a code has its 30 seconds before it
URL = "http://localhost:8000"
SECRET = base64.b32encode(b"12345678901234567890").decode()


class SetClock:
    """A clock that stands still until a test moves it; it serves as wall clock and as the server's stop watch."""

    def __init__(self) -> None:
        self.now_s = float(START_S)

    def now(self) -> int:
        return int(self.now_s * 1_000_000)

    def monotonic(self) -> float:
        return self.now_s

    def pass_s(self, seconds: float) -> None:
        self.now_s += seconds


class Server:
    """The server under test as an application with its keys sees it."""

    def __init__(self, deployment: Deployment, clock: SetClock, app: Any) -> None:
        self.deployment = deployment
        self.clock = clock
        self.app = app
        self.key = ""

    async def new_key(self, *scopes: str, **limits: Any) -> str:
        """A new application's key."""
        _, key = await self.deployment.applications.create("test", scopes=scopes, **limits)
        return key

    async def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        base_url: str = URL,
        peer: tuple[str, int] = ("127.0.0.1", 4000),
        **more: Any,
    ) -> httpx.Response:
        """One request; a path that does not begin with a slash is one of the API, called with a key of all scopes."""
        if not path.startswith("/"):
            path = f"/api/v1/{path}"
            headers = {"authorization": f"Bearer {self.key if key is None else key}", **(headers or {})}
        transport = httpx.ASGITransport(self.app, client=peer)
        async with httpx.AsyncClient(transport=transport, base_url=base_url, trust_env=False) as client:
            return await client.request(method, path, json=json, headers=headers, **more)

    async def post(self, path: str, json: Any = None, **more: Any) -> httpx.Response:
        return await self.call("POST", path, json, **more)

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.call("GET", path, **more)

    def code(self, secret: str = SECRET, *, steps: int = 0) -> str:
        """What the phone shows now, or `steps` steps from now."""
        return pyotp.TOTP(secret).at(int(self.clock.now_s) + 30 * steps)

    async def add(self, account_id: str = "alice", secret: str = SECRET) -> str:
        """An account with one imported TOTP authenticator, whose id it gives."""
        await self.call("PUT", f"accounts/{account_id}", {})
        body = {"factor": "totp", "secret": secret, "confirmed": True}
        answer = await self.post(f"accounts/{account_id}/authenticators", body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def step_up(self, account_id: str = "alice", *, key: str | None = None) -> str:
        """A receipt for management, by the next code of the account's phone."""
        self.clock.pass_s(30)
        body = {"code": self.code(), "purpose": "manage"}
        answer = await self.post(f"accounts/{account_id}/verify", body, key=key)
        assert answer.json()["verified"] is True, answer.text
        return str(answer.json()["receipt"])


def assert_problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem document that an answer is, if it is the expected one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = answer.json()
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    return problem


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


OpenServer = Callable[..., Awaitable[Server]]


@pytest.fixture
async def open_server(tmp_path: Path, clock: SetClock) -> AsyncIterator[OpenServer]:
    """Give a function from settings to a server over a database of its own."""
    opened: list[Deployment] = []

    async def open_one(**settings: Any) -> Server:
        data_dir = tmp_path / f"data-{len(opened)}"
        chosen = Settings(data_dir=data_dir, public_url=settings.pop("public_url", URL), **settings)
        deployment = await open_deployment(chosen, clock=clock, argon2=ONLY_FOR_TESTING)
        opened.append(deployment)
        server = Server(deployment, clock, create_app(deployment, clock=clock.monotonic))
        server.key = await server.new_key("verify", "enroll", "admin")
        return server

    yield open_one
    for deployment in opened:
        await deployment.close()


@pytest.fixture
async def server(open_server: OpenServer) -> Server:
    """A server on http://localhost:8000, as far as it knows."""
    return await open_server()
