"""Serving: a socket, a deployment, and uvicorn around the application until a signal ends it."""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import logging
import signal
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import msgspec
import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from twofold.bootstrap import Deployment, deployment
from twofold.certificate import ServedCertificate
from twofold.config import Settings, check_public_url
from twofold.errors import ConfigurationError
from twofold.lost_passkeys import find_lost, settle
from twofold.relying_party import check_own
from twofold.server.alone import only_server
from twofold.server.app import create_app
from twofold.server.logs import configure_logs
from twofold.server.protocol import BoundedProtocol
from twofold.setup_link import new_link, note_url

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
#: Between two looks at the files of the certificate.
CERTIFICATE_CHECKED_EVERY_S = 1
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
    find_warnings: Callable[[Settings], Iterable[str]] = lambda settings: (),
    *,
    may_lose: Callable[[str], bool] = lambda warning: False,
) -> None:
    """Serve until SIGTERM or SIGINT. What `find_warnings` finds is logged once; it is given the settings with the
    PUBLIC_URL in force, also where that was typed on the set-up page. `may_lose` is asked when passkeys would stop
    working because PUBLIC_URL has another host than at the start before; it is given the sentence that says how many.

    Raises `ConfigurationError`, one line, when it cannot begin.
    """
    if workers > 1:
        raise ConfigurationError(f"--workers {workers}: SQLite is served by one process; use --workers 1")
    configure_logs(settings.log_format)
    if settings.public_url is not None:
        settings = msgspec.structs.replace(settings, public_url=check_public_url(settings.public_url))
    certificate = ServedCertificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
    scheme = "https" if certificate else "http"
    with _bind(host, port) as listener:
        port = listener.getsockname()[1]
        door = _Door(listener, certificate, f"{scheme}://{_authority(host, port)}", f"{scheme}://localhost:{port}")
        with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
            runner.run(_serve(settings, door, find_warnings, may_lose))


class _Door(NamedTuple):
    """Where requests come in, what this place is called from this machine, and PUBLIC_URL if nobody said anything."""

    listener: socket.socket
    certificate: ServedCertificate | None
    url: str
    default_url: str


async def _serve(
    settings: Settings,
    door: _Door,
    find_warnings: Callable[[Settings], Iterable[str]],
    may_lose: Callable[[str], bool],
) -> None:
    async with deployment(settings, default_url=door.default_url) as opened:
        check_own(opened.public_url)
        with only_server(settings.sqlite_path):
            await _settle_address(opened, may_lose)
            for warning in find_warnings(msgspec.structs.replace(settings, public_url=opened.public_url)):
                log.warning("%s", warning)
            await _serve_opened(opened, door)


async def _settle_address(opened: Deployment, may_lose: Callable[[str], bool]) -> None:
    """Passkeys live and die with the host of PUBLIC_URL: a new one that ends some of them is not taken by mistake."""
    url = opened.public_url
    if lost := await find_lost(opened.store, opened.keyring, url):
        if not may_lose(f"{lost.describe()} and stop working at {url}"):
            way_on = "set it back to that host, or start once with --accept-lost-passkeys"
            raise ConfigurationError(f"PUBLIC_URL {url!r}: {lost.describe()} and would stop working; {way_on}")
        log.warning("PUBLIC_URL %s: %s and stopped working", url, lost.describe())
    await settle(opened.store, opened.keyring, url)


async def _serve_opened(opened: Deployment, door: _Door) -> None:
    await note_url(opened.store, opened.keyring, opened.public_url)
    greeting = f"listening on {door.url}"
    if opened.public_url != door.default_url:
        greeting += f"\npeople reach it at {opened.public_url}"
    if not await opened.administration.has_administrator():
        link = await new_link(opened.store, opened.keyring, opened.clock, opened.entropy, opened.public_url)
        greeting += f"\nset-up link, good for one day: {link}"

    async def follow_certificate() -> None:
        if door.certificate is not None:
            door.certificate.check()

    config = uvicorn.Config(
        create_app(opened),
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom to believe about addresses is decided in `addresses.py`.
        proxy_headers=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        backlog=BACKLOG,
        callback_notify=follow_certificate,
        timeout_notify=CERTIFICATE_CHECKED_EVERY_S,
    )
    config.load()
    config.ssl = door.certificate.context if door.certificate else None
    await opened.begin_upkeep()
    _collect_seldom()
    await _Server(config, greeting).serve(sockets=[door.listener])


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


def _authority(host: str, port: int) -> str:
    """Where to find this server from this machine: a name and the port."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"{host}:{port}"
    if address.is_unspecified or host == DEFAULT_HOST:
        return f"localhost:{port}"
    return f"[{host}]:{port}" if address.version == 6 else f"{host}:{port}"
