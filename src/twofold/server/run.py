"""Serving: a socket, a deployment, and uvicorn around the application until a signal ends it."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from twofold.bootstrap import Deployment, deployment
from twofold.clocks import SystemEntropy
from twofold.config import Settings, check_public_url
from twofold.errors import ConfigurationError
from twofold.server.alone import only_server
from twofold.server.app import create_app
from twofold.server.logs import configure_logs
from twofold.server.protocol import BoundedProtocol
from twofold.setup_link import new_link, note_url

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
BACKLOG = 2048
log = logging.getLogger("twofold")
#: Requests under way when the end comes are finished; one that takes longer than this is let go.
SHUTDOWN_S = 30
#: New objects, less those freed, between two runs of the garbage collector; Python's own 700 is made for programs that
#: leave cycles behind, which requests hardly do.
GC_THRESHOLD = 50_000


def serve(
    settings: Settings,
    host: str = DEFAULT_HOST,
    port: int = DEFAULT_PORT,
    workers: int = 1,
    warnings: Sequence[str] = (),
) -> None:
    """Serve until SIGTERM or SIGINT; `warnings` are logged once it has begun.

    Raises `ConfigurationError`, one line, when it cannot begin.
    """
    if workers > 1:
        raise ConfigurationError(f"--workers {workers}: SQLite is served by one process; use --workers 1")
    configure_logs(settings.log_format)
    with _bind(host, port) as listener:
        # Settled before anything is opened: receipts and links carry it.
        default_url = f"http://localhost:{listener.getsockname()[1]}"
        public_url = check_public_url(settings.public_url) if settings.public_url else default_url
        settings = msgspec.structs.replace(settings, public_url=public_url)
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            url = _url(host, listener.getsockname()[1])
            runner.run(_serve(settings, public_url, listener, url, warnings))


async def _serve(
    settings: Settings, public_url: str, listener: socket.socket, url: str, warnings: Sequence[str]
) -> None:
    async with deployment(settings) as opened:
        with only_server(settings.sqlite_path):
            for warning in warnings:
                log.warning("%s", warning)
            await _serve_opened(opened, public_url, listener, url)


async def _serve_opened(opened: Deployment, public_url: str, listener: socket.socket, url: str) -> None:
    await note_url(opened.store, opened.keyring, public_url)
    link = await new_link(opened.store, opened.keyring, opened.clock, SystemEntropy(), public_url)
    config = uvicorn.Config(
        create_app(opened),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # An address that a stranger can write into a header is none.
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        backlog=BACKLOG,
    )
    await opened.begin_upkeep()
    _collect_seldom()
    greeting = f"listening on {url}\nset-up link, good for one day: {link}"
    await _Server(config, greeting).serve(sockets=[listener])


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, and that ends by returning, so that what is open gets closed."""

    def __init__(self, config: uvicorn.Config, greeting: str) -> None:
        super().__init__(config)
        self._greeting = greeting

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals that end the server. uvicorn's own way raises them again at the end, which kills the process
        before the database is closed."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._greeting, flush=True)


def _collect_seldom() -> None:
    """Have the garbage collector leave alone what start-up made, and come more rarely: requests leave few cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)


def _bind(host: str, port: int) -> socket.socket:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise ConfigurationError(f"--host {host}: {error.strerror}") from None
    # A name may have addresses of both kinds; without IPv6 the second would fail.
    family, kind, protocol, _, address = min(found, key=lambda entry: entry[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise ConfigurationError(f"port {port} is taken on {host}: choose another one with --port") from None
        raise ConfigurationError(f"cannot listen on {host}, port {port}: {error.strerror}") from None
    return listener


def _url(host: str, port: int) -> str:
    """Where to find this server from this machine."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host}:{port}"
    if address.is_unspecified or host == DEFAULT_HOST:
        return f"http://localhost:{port}"
    return f"http://[{host}]:{port}" if address.version == 6 else f"http://{host}:{port}"
