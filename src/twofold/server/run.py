"""Serving: a socket, a deployment, and uvicorn around the application until a signal ends it.

With several workers this process prepares everything and serves nothing; how they are kept up is in `workers.py`.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvicorn
from uvicorn.loops.auto import auto_loop_factory

from twofold.bootstrap import Deployment, deployment
from twofold.certificate import ServedCertificate
from twofold.config import Settings, check_public_url
from twofold.errors import ConfigurationError, TwofoldError
from twofold.lost_passkeys import find_lost, settle
from twofold.relying_party import check_own
from twofold.server.alone import only_server
from twofold.server.app import create_app
from twofold.server.logs import configure_logs
from twofold.server.metrics import Counts, SharedCounts, shared_folder
from twofold.server.protocol import BoundedProtocol
from twofold.server.workers import BACKLOG, READY, Workers, share_out
from twofold.setup_link import new_link, note_url

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
#: Between two looks at the files of the certificate.
CERTIFICATE_CHECKED_EVERY_S = 1
log: logging.Logger = logging.getLogger("twofold")
#: Requests under way when the end comes are finished; one that takes longer than this is let go.
SHUTDOWN_S = 30
#: What a worker may take beyond that, to let the database go.
CLOSE_S = 5
#: `-P`: whoever can write into the folder that the server was started in is not thereby who serves.
WORKER = (sys.executable, "-P", "-m", "twofold.server")
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
    if workers > 1 and settings.postgres_url is None:
        raise ConfigurationError(f"--workers {workers}: SQLite is served by one process; use --workers 1")
    configure_logs(settings.log_format)
    if settings.public_url is not None:
        settings = msgspec.structs.replace(settings, public_url=check_public_url(settings.public_url))
    certificate = _open_certificate(settings)
    scheme = "https" if certificate else "http"
    with _bind(host, port) as listener:
        port = listener.getsockname()[1]
        door = _Door(listener, certificate, f"{scheme}://{_authority(host, port)}", f"{scheme}://localhost:{port}")

        async def prepare(opened: Deployment) -> str:
            await _settle_address(opened, may_lose)
            for warning in find_warnings(msgspec.structs.replace(settings, public_url=opened.public_url)):
                log.warning("%s", warning)
            return await _greet(opened, door)

        if workers > 1:
            asyncio.run(_serve_by(workers, settings, door, prepare))
        else:
            with asyncio.Runner(loop_factory=auto_loop_factory()) as runner:
                runner.run(_serve_alone(settings, door, prepare))


class _Brief(msgspec.Struct, frozen=True):
    """What a worker is told: settings, the descriptor of the socket, PUBLIC_URL if nobody said anything, and the file
    for what it counts."""

    settings: Settings
    listener: int
    default_url: str
    counts: Path


def work(line: bytes) -> None:
    """Be one of several workers until standard input, where `line` came from, closes; or until SIGTERM."""
    brief = msgspec.json.decode(line, type=_Brief, dec_hook=lambda kind, value: kind(value))
    configure_logs(brief.settings.log_format)
    try:
        certificate = _open_certificate(brief.settings)
        with (
            socket.socket(fileno=brief.listener) as listener,
            asyncio.Runner(loop_factory=auto_loop_factory()) as runner,
        ):
            runner.run(_work(brief, _Door(listener, certificate, "", brief.default_url)))
    except TwofoldError as error:
        log.error("%s", error)
        sys.exit(1)


class _Door(NamedTuple):
    """Where requests come in, what this place is called from this machine, and PUBLIC_URL if nobody said anything."""

    listener: socket.socket
    certificate: ServedCertificate | None
    url: str
    default_url: str


Prepare = Callable[[Deployment], Awaitable[str]]


async def _serve_alone(settings: Settings, door: _Door, prepare: Prepare) -> None:
    async with deployment(settings, default_url=door.default_url) as opened:
        check_own(opened.public_url)
        with only_server(settings.sqlite_path) if settings.postgres_url is None else nullcontext():
            await _serve_opened(opened, door, await prepare(opened))


async def _serve_by(workers: int, settings: Settings, door: _Door, prepare: Prepare) -> None:
    async with deployment(settings, default_url=door.default_url) as opened:
        check_own(opened.public_url)
        greeting = await prepare(opened)
    listeners = share_out(door.listener, workers)
    with shared_folder() as folder:
        briefs = [
            _Brief(settings, listener.fileno(), door.default_url, folder / str(place))
            for place, listener in enumerate(listeners)
        ]
        await Workers(
            WORKER,
            [msgspec.json.encode(brief, enc_hook=str) + b"\n" for brief in briefs],
            listeners,
            on_ready=lambda: print(greeting, flush=True),
            end_s=SHUTDOWN_S + CLOSE_S,
        ).run()


async def _work(brief: _Brief, door: _Door) -> None:
    with closing(SharedCounts(brief.counts)) as counts:
        async with deployment(brief.settings, default_url=door.default_url) as opened:
            await _serve_opened(opened, door, READY, counts=counts, lifeline=sys.stdin.fileno())


async def _settle_address(opened: Deployment, may_lose: Callable[[str], bool]) -> None:
    """Passkeys live and die with the host of PUBLIC_URL: a new one that ends some of them is not taken by mistake."""
    url = opened.public_url
    if lost := await find_lost(opened.store, opened.keyring, url):
        if not may_lose(f"{lost.describe()} and stop working at {url}"):
            way_on = "set it back to that host, or start once with --accept-lost-passkeys"
            raise ConfigurationError(f"PUBLIC_URL {url!r}: {lost.describe()} and would stop working; {way_on}")
        log.warning("PUBLIC_URL %s: %s and stopped working", url, lost.describe())
    await settle(opened.store, opened.keyring, url)


async def _greet(opened: Deployment, door: _Door) -> str:
    """What is printed when requests are served."""
    await note_url(opened.store, opened.keyring, opened.public_url)
    greeting = f"listening on {door.url}"
    if opened.public_url != door.default_url:
        greeting += f"\npeople reach it at {opened.public_url}"
    if not await opened.administration.has_administrator():
        link = await new_link(opened.store, opened.keyring, opened.clock, opened.entropy, opened.public_url)
        greeting += f"\nset-up link, good for one day: {link}"
    return greeting


async def _serve_opened(
    opened: Deployment, door: _Door, greeting: str, *, counts: Counts | None = None, lifeline: int | None = None
) -> None:
    async def follow_certificate() -> None:
        if door.certificate is not None:
            door.certificate.check()

    config = uvicorn.Config(
        create_app(opened, counts=counts),
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
    await _Server(config, greeting, lifeline).serve(sockets=[door.listener])


class _Server(uvicorn.Server):
    """uvicorn that says when it listens, and that ends by returning, so that what is open gets closed. It ends too when
    the other end of `lifeline`, a pipe that nobody writes to, is closed."""

    def __init__(self, config: uvicorn.Config, greeting: str, lifeline: int | None) -> None:
        super().__init__(config)
        self._greeting = greeting
        self._lifeline = lifeline

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The signals that end the server. uvicorn's own way raises them again at the end, which kills the process
        before the database is closed."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        if self._lifeline is not None:
            loop.add_reader(self._lifeline, self._let_go, self._lifeline)
        yield

    def _let_go(self, lifeline: int) -> None:
        asyncio.get_running_loop().remove_reader(lifeline)
        self.handle_exit(signal.SIGTERM, None)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._greeting, flush=True)


def _open_certificate(settings: Settings) -> ServedCertificate | None:
    return ServedCertificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None


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
