"""The API as one table, and what carries a request through it: path, key, scope, body, call, answer.

The same table makes the OpenAPI document (`openapi.py`), so neither knows a call that the other does not.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Mapping
from time import perf_counter
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from twofold.core.account import check_account_id
from twofold.core.idempotency import IdempotencyKey
from twofold.engine import Caller
from twofold.errors import TwofoldError
from twofold.server import wire
from twofold.server.access import Access
from twofold.server.calls import Reply, Request, Services, accounts, answers, authenticators, prompts
from twofold.server.problems import Problem, as_problem, dump_problem, unavailable
from twofold.server.reading import (
    BodyReader,
    ClientGone,
    Headers,
    read_body,
    read_headers,
    read_idempotency_key,
    read_query,
    read_segments,
)

PREFIX = "/api/v1"
log: logging.Logger = logging.getLogger("twofold")

#: Scopes: `admin` opens what `enroll` opens, and never `verify`: a key that manages lets nobody in.
VERIFY = frozenset({"verify"})
READ = frozenset({"verify", "admin"})
ENROLL = frozenset({"enroll", "admin"})
ADMIN = frozenset({"admin"})


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the table: a call, who may make it, what it takes and what it answers (the types by status)."""

    method: str
    path: str
    scopes: frozenset[str]
    run: Callable[[Services, Request[Any]], Awaitable[Reply]]
    answers: Mapping[int, tuple[type, ...]]
    body: type[wire.Body] | None = None
    query: tuple[str, ...] = ()
    takes_step_up_header: bool = False

    @property
    def name(self) -> str:
        """How OpenAPI, metrics and logs call it."""
        return self.run.__name__


_ACCOUNT = "/accounts/{id}"
_AUTHENTICATOR = "/accounts/{id}/authenticators/{aid}"

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path=f"{_ACCOUNT}/verify",
        scopes=VERIFY,
        run=answers.verify,
        body=wire.VerifyBody,
        answers={200: (wire.VerifiedAnswer, wire.RejectedAnswer)},
    ),
    Operation(
        method="PUT",
        path=_ACCOUNT,
        scopes=ENROLL,
        run=accounts.put_account,
        body=wire.AccountBody,
        answers={200: (wire.AccountAnswer,), 201: (wire.AccountAnswer,)},
    ),
    Operation(
        method="GET",
        path=_ACCOUNT,
        scopes=READ,
        run=accounts.get_account,
        answers={200: (wire.AccountAnswer,)},
    ),
    Operation(
        method="GET",
        path="/accounts",
        scopes=ADMIN,
        run=accounts.list_accounts,
        query=("cursor", "factor", "state"),
        answers={200: (wire.AccountPageAnswer,)},
    ),
    Operation(
        method="DELETE",
        path=_ACCOUNT,
        scopes=ADMIN,
        run=accounts.delete_account,
        answers={204: ()},
    ),
    Operation(
        method="POST",
        path=f"{_ACCOUNT}/events",
        scopes=ENROLL,
        run=accounts.record_event,
        body=wire.EventBody,
        answers={204: ()},
    ),
    Operation(
        method="POST",
        path=f"{_ACCOUNT}/authenticators",
        scopes=ENROLL,
        run=authenticators.add_authenticator,
        body=wire.AuthenticatorBody,
        answers={201: (wire.EnrollmentAnswer,)},
    ),
    Operation(
        method="POST",
        path=f"{_AUTHENTICATOR}/confirm",
        scopes=ENROLL,
        run=authenticators.confirm_authenticator,
        body=wire.ConfirmBody,
        answers={200: (wire.ConfirmedAnswer,)},
    ),
    Operation(
        method="PATCH",
        path=_AUTHENTICATOR,
        scopes=ENROLL,
        run=authenticators.rename_authenticator,
        body=wire.LabelBody,
        answers={200: (wire.AuthenticatorAnswer,)},
    ),
    Operation(
        method="DELETE",
        path=_AUTHENTICATOR,
        scopes=ENROLL,
        run=authenticators.delete_authenticator,
        takes_step_up_header=True,
        answers={204: ()},
    ),
    Operation(
        method="POST",
        path=f"{_ACCOUNT}/recovery-codes",
        scopes=ENROLL,
        run=authenticators.renew_recovery_codes,
        body=wire.RecoveryCodesBody,
        answers={201: (wire.RecoveryCodesAnswer,)},
    ),
    Operation(
        method="POST",
        path=f"{_ACCOUNT}/challenges",
        scopes=VERIFY,
        run=answers.open_challenge,
        body=wire.ChallengeBody,
        answers={201: (wire.ChallengeAnswer,)},
    ),
    Operation(
        method="POST",
        path="/challenges/answer",
        scopes=VERIFY,
        run=answers.answer_challenge,
        body=wire.ChallengeAnswerBody,
        answers={200: (wire.VerifiedAnswer, wire.RejectedAnswer)},
    ),
    Operation(
        method="POST",
        path="/receipts/redeem",
        scopes=VERIFY,
        run=answers.redeem_receipt,
        body=wire.RedeemBody,
        answers={200: (wire.RedeemedAnswer,)},
    ),
    Operation(
        method="POST",
        path="/prompts",
        scopes=VERIFY,
        run=prompts.open_prompt,
        body=wire.PromptBody,
        answers={201: (wire.PromptAnswer,)},
    ),
    Operation(
        method="POST",
        path="/prompts/redeem",
        scopes=VERIFY,
        run=prompts.redeem_prompt,
        body=wire.RedeemPromptBody,
        answers={200: (wire.VerifiedAnswer,)},
    ),
)

_PREFIX = f"{PREFIX}/".encode()
_encode = msgspec.json.Encoder().encode


class _Route(msgspec.Struct, frozen=True):
    """An operation with what need not be made anew for each request."""

    operation: Operation
    name: str
    body: BodyReader[wire.Body] | None


class Api:
    """The ASGI application behind `/api/v1`."""

    def __init__(self, services: Services, access: Access, keyed_digest: Callable[..., bytes]) -> None:
        self._services = services
        self._access = access
        self._keyed_digest = keyed_digest
        self._running: dict[bytes, asyncio.Event] = {}
        self._routes: dict[int, dict[tuple[str | None, ...], dict[str, _Route]]] = {}
        for operation in OPERATIONS:
            pattern = tuple(None if part.startswith("{") else part for part in operation.path[1:].split("/"))
            body = None if operation.body is None else BodyReader(operation.body)
            alike = self._routes.setdefault(len(pattern), {})
            alike.setdefault(pattern, {})[operation.method] = _Route(operation, operation.name, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        name = "none"
        status, headers, body = 204, [], b""
        try:
            route, ids = self._find(scope["method"], scope["raw_path"])
            name = route.name
            status, answer = await self._answer(route, ids, scope, receive)
            if answer is not None:
                body = _encode(answer)
                headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - the last resort: whatever it was, the answer is a refusal
            problem = _as_problem(error, name)
            if problem.status == 403:
                log.warning("refused %s: %s", name, problem.code)
            if problem.status == 429:
                self._services.metrics.count_throttled()
            status = problem.status
            body, headers = dump_problem(problem)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        self._services.metrics.observe(name, perf_counter() - started)

    def _find(self, method: str, raw_path: bytes) -> tuple[_Route, list[str]]:
        segments = read_segments(raw_path.removeprefix(_PREFIX))
        for pattern, methods in self._routes.get(len(segments), {}).items():
            if all(given == part if part else given for part, given in zip(pattern, segments, strict=True)):
                route = methods.get(method)
                if route is None:
                    allow = ", ".join(sorted(methods))
                    detail = f"here only {allow} will do"
                    raise Problem(405, "method_not_allowed", detail, headers=[(b"allow", allow.encode())])
                return route, [given for part, given in zip(pattern, segments, strict=True) if part is None]
        raise Problem(404, "not_found", "there is nothing at this path")

    async def _answer(self, route: _Route, ids: list[str], scope: Scope, receive: Receive) -> Reply:
        operation = route.operation
        headers = read_headers(scope)
        application = await self._access.admit(headers.get(b"authorization"), scope)
        if operation.scopes.isdisjoint(application.scopes):
            raise Problem(403, "forbidden", f"this needs the scope {' or '.join(sorted(operation.scopes))}")
        query = read_query(scope["query_string"], operation.query) if scope["query_string"] else {}
        account_id = check_account_id(ids[0]) if ids else ""
        body, key = None, None
        if route.body is not None:
            raw = await read_body(receive, headers)
            body = route.body.read(raw, headers)
            if operation.method == "POST":
                key = self._read_idempotency_key(application.id, scope, headers, raw)
        request = Request(
            application,
            Caller(application.id, "admin" in application.scopes, idempotency=key),
            account_id,
            ids[1] if len(ids) > 1 else "",
            body,
            query,
            _read_step_up(headers) if operation.takes_step_up_header else None,
        )
        if key is None:
            return await operation.run(self._services, request)
        return await self._run_once(operation, request, key)

    def _read_idempotency_key(
        self, application_id: str, scope: Scope, headers: Headers, raw: bytes
    ) -> IdempotencyKey | None:
        key = read_idempotency_key(headers)
        if key is None:
            return None
        # Keyed, because they are kept in a readable place, and a body with a code or a password is soon guessed.
        place = (application_id.encode(), scope["method"].encode(), scope["raw_path"], key)
        return IdempotencyKey(
            self._keyed_digest(b"idempotency key", *place)[:16],
            self._keyed_digest(b"idempotency body", raw)[:16],
            self._keyed_digest(b"idempotency secret", *place),
        )

    async def _run_once(self, operation: Operation, request: Request[Any], key: IdempotencyKey) -> Reply:
        """One at a time under one key: a repeated call waits for the first, and then finds its kept answer."""
        while (running := self._running.get(key.key_digest)) is not None:
            await running.wait()
        ended = self._running[key.key_digest] = asyncio.Event()
        try:
            return await operation.run(self._services, request)
        finally:
            del self._running[key.key_digest]
            ended.set()


def _read_step_up(headers: Headers) -> str | None:
    value = headers.get(b"twofold-step-up")
    return None if value is None else value.decode("latin-1")


def _as_problem(error: Exception, name: str) -> Problem:
    if isinstance(error, Problem):
        return error
    if isinstance(error, TwofoldError):
        problem = as_problem(error)
        if problem.status == 503:
            log.warning("%s was not answered: %s", name, error)
        return problem
    # Into the log go the kind and the lines of code, not the message: it may quote what was sent.
    log.error("%s failed: %s\n%s", name, type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))
    return unavailable()
