"""The web application of one deployment: who gets which request.

Nothing is opened or closed here: `run.py`, a test or another program opens a deployment and hands it in.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twofold.bootstrap import Deployment
from twofold.config import is_loopback
from twofold.core.clock import MICROS_PER_S
from twofold.errors import KeyRefused, ProviderAway, Unavailable
from twofold.relying_party import list_related
from twofold.server.access import Access
from twofold.server.addresses import Addresses
from twofold.server.api import Api
from twofold.server.calls import Services
from twofold.server.cookies import Cookies
from twofold.server.hosts import Hosts
from twofold.server.metrics import Counts, Metrics
from twofold.server.openapi import openapi_document
from twofold.server.pages import page_routes
from twofold.server.pages.failures import Failures
from twofold.server.pages.house import House
from twofold.server.pages.prompt import prompt_routes
from twofold.server.problems import Problem, dump_problem
from twofold.server.security_headers import SecurityHeaders
from twofold.server.static import static_routes
from twofold.server.templates import Site, Templates
from twofold.server.words import Sentence, Words

API_BEGINNING = b"/api/"
STATIC_BEGINNING = b"/static/"
KEYS_NOT_OPENED = "the key provider does not open the keys; the log says more"
CLOCK_IS_OFF = "differs from the database's; the log says by how much"
KEYS_IN_MEMORY = "does not answer; what is in memory serves for a while, and the log says for how long"
OPENAPI_PATHS = ("/api/v1/openapi.json", "/openapi.json")
#: For machines: answered under every name of this host, while pages have one address.
MACHINE_PATHS = frozenset(
    {path.encode() for path in OPENAPI_PATHS} | {b"/.well-known/jwks.json", b"/.well-known/webauthn"}
)
#: Asked by probes that know an address and no name.
PROBE_PATHS = frozenset({b"/health/live", b"/health/ready", b"/metrics"})


def create_app(
    deployment: Deployment, *, clock: Callable[[], float] = monotonic, counts: Counts | None = None
) -> ASGIApp:
    """The application; `clock` counts the seconds of rates and of remembered keys. What it counts goes to `counts`,
    where other workers count too."""
    public_url = deployment.public_url
    metrics = Metrics(time_s=lambda: deployment.clock.now() / MICROS_PER_S - clock(), counts=counts)
    trace = deployment.keyring.masters.trace
    for operation, times in trace.counts.items():
        metrics.count_key_use(operation, times)
    trace.listener = metrics.count_key_use
    deployment.engine.tally = metrics
    addresses = Addresses(deployment.settings.proxy_networks)
    api = Api(
        Services(deployment.verifier, deployment.prompts, deployment.store, metrics, public_url),
        Access(deployment.applications, addresses, clock=clock),
        deployment.keyring.index_digest,
    )
    house = build_house(deployment, public_url, addresses)

    failures = Failures(house)
    everything_else = Starlette(
        routes=[
            *_open_routes(deployment, metrics),
            *static_routes(),
            *page_routes(house),
            *prompt_routes(house, deployment.prompts),
        ],
        exception_handlers={HTTPException: failures.show_refusal, Exception: failures.show_fault},
    )
    everything_else.router.redirect_slashes = False
    return Gate(public_url, api, everything_else, failures.tell_foreign)


class Gate:
    """What every request passes first: its Host is checked, and its answer gets the security headers."""

    def __init__(self, public_url: str, api: ASGIApp, everything_else: ASGIApp, tell_foreign: ASGIApp) -> None:
        self._public_url = public_url
        self._hosts = Hosts(public_url)
        self._headers = SecurityHeaders(public_url)
        self._api = api
        self._everything_else = everything_else
        self._tell_foreign = tell_foreign

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._everything_else(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = self._headers.complete(message["headers"])
            await send(message)

        path: bytes = scope["raw_path"]
        is_api = path.startswith(API_BEGINNING)
        try:
            # Also for the page that tells a foreign Host where this site is: it has a style too.
            is_open = path in PROBE_PATHS or path.startswith(STATIC_BEGINNING)
            redirection = None if is_open else self._check_host(scope, is_page=not is_api)
        except Problem as problem:
            await _send_problem(problem, send_with_headers)
            return
        is_call = is_api and scope["path"] not in OPENAPI_PATHS
        await (redirection or (self._api if is_call else self._everything_else))(scope, receive, send_with_headers)

    def _check_host(self, scope: Scope, *, is_page: bool) -> ASGIApp | None:
        standing = self._hosts.find(scope)
        if standing == "own":
            return None
        if standing == "foreign":
            if is_page and scope["raw_path"] not in MACHINE_PATHS:
                return self._tell_foreign
            raise Problem(421, "bad_request", f"this server answers to {self._public_url}, its PUBLIC_URL, alone")
        if not is_page or scope["raw_path"] in MACHINE_PATHS:
            return None
        query = f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
        return RedirectResponse(f"{self._public_url}{scope['raw_path'].decode('latin-1')}{query}", 307)


def _open_routes(deployment: Deployment, metrics: Metrics) -> list[Route]:
    """What needs no key."""
    document: list[bytes] = []

    async def tell_alive(_: Request) -> Response:
        return JSONResponse({"status": "live"})

    async def tell_ready(_: Request) -> Response:
        try:
            deployment.clock.now()
            await deployment.keyring.check()
            await deployment.store.check()
        except Unavailable as error:
            # Anybody may ask. Where the keys are and what their provider says is for the log.
            is_about_keys = isinstance(error, KeyRefused | ProviderAway)
            detail = KEYS_NOT_OPENED if is_about_keys else str(error)
            body, headers = dump_problem(Problem(503, "unavailable", detail, retry_after_s=1))
            return _raw_response(503, body, headers)
        told = {"status": "ready"}
        if deployment.keyring.fault:
            told["key_provider"] = KEYS_IN_MEMORY
        if deployment.node.clock_fault:
            # Not refused: it may be the database's clock that is wrong, and all servers would be away.
            told["clock"] = CLOCK_IS_OFF
        return JSONResponse(told)

    async def show_metrics(_: Request) -> Response:
        text, content_type = metrics.dump()
        return Response(text, headers={"content-type": content_type})

    async def show_keys(_: Request) -> Response:
        return JSONResponse(deployment.receipts.jwks(), media_type="application/jwk-set+json")

    async def show_related_origins(_: Request) -> Response:
        # No row is believed for what is listed here: an origin that no key was made with is refused in every ceremony.
        applications = await deployment.applications.list()
        related = list_related(applications, urlsplit(deployment.public_url).hostname or "")
        if not related:
            body, headers = dump_problem(Problem(404, "not_found", "no application has origins beyond its own domain"))
            return _raw_response(404, body, headers)
        return JSONResponse({"origins": related})

    async def show_openapi(_: Request) -> Response:
        if not document:
            document.append(openapi_document())
        return Response(document[0], media_type="application/json")

    return [
        Route("/health/live", tell_alive),
        Route("/health/ready", tell_ready),
        Route("/metrics", show_metrics),
        Route("/.well-known/jwks.json", show_keys),
        Route("/.well-known/webauthn", show_related_origins),
        *(Route(path, show_openapi) for path in OPENAPI_PATHS),
    ]


def build_house(deployment: Deployment, public_url: str, addresses: Addresses) -> House:
    """What the pages work with."""
    settings = deployment.settings
    return House(
        deployment.verifier,
        deployment.relying_party,
        deployment.sign_in,
        deployment.administration,
        deployment.networks,
        deployment.sign_in_limits,
        deployment.store,
        deployment.keyring,
        deployment.clock,
        settings,
        public_url,
        settings.public_url is not None,
        addresses,
        Cookies(public_url),
        Templates(),
        Words(),
        Site(settings.issuer, settings.support, _find_banner(public_url)),
    )


def _find_banner(public_url: str) -> Sentence | None:
    """What everybody must know on every page of this deployment."""
    parts = urlsplit(public_url)
    if parts.scheme == "https" or is_loopback(parts.hostname):
        return None
    return Sentence("This site comes over plain http: whoever is on this network can read along. Passkeys need https.")


def _raw_response(status: int, body: bytes, headers: list[tuple[bytes, bytes]]) -> Response:
    response = Response(body, status)
    response.raw_headers = headers
    return response


async def _send_problem(problem: Problem, send: Send) -> None:
    body, headers = dump_problem(problem)
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
