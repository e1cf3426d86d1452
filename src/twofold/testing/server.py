"""A Twofold server inside the test's own process, for applications that call one over HTTP."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from twofold.applications import DEFAULT_SCOPES
from twofold.bootstrap import Deployment
from twofold.config import Settings
from twofold.portal import Portal
from twofold.server.app import create_app
from twofold.server.protocol import BoundedProtocol
from twofold.testing.kit import Kit


class Server:
    """What an application has to know: `url`, without a path, and its `api_key`, which may verify and enroll."""

    def __init__(self, url: str, deployment: Deployment, portal: Portal) -> None:
        self.url = url
        self._deployment = deployment
        self._portal = portal
        self.api_key: str = self.new_key()

    def new_key(self, *scopes: str) -> str:
        """The key of another application."""
        created = self._deployment.applications.create("test", scopes=scopes or DEFAULT_SCOPES)
        return self._portal.wait(created)[1]


@contextmanager
def serve(kit: Kit) -> Iterator[Server]:
    """A server on a free port of this machine, over the accounts and the time of the kit, until the block ends."""
    portal = Portal()
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://localhost:{listener.getsockname()[1]}"
            deployment = portal.wait(kit.open_deployment(Settings(public_url=url), role="serve"))
            config = uvicorn.Config(
                create_app(deployment, clock=lambda: kit.clock.now_s),
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
            )
            running = _Running(config, listener)
            try:
                portal.wait(running.begin())
                yield Server(url, deployment, portal)
            finally:
                portal.wait(running.end())
                portal.wait(deployment.close())
    finally:
        portal.close()


class _Running:
    """uvicorn as a task of the event loop that `begin` runs in."""

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        self._server = uvicorn.Server(config)
        self._listener = listener

    async def begin(self) -> None:
        # Whoever connects before it listens waits in the socket's own line.
        self._task = asyncio.create_task(self._server.serve(sockets=[self._listener]))

    async def end(self) -> None:
        self._server.should_exit = True
        await self._task
