"""The description is true: what it allows and what it forbids, drawn at random, is answered as it says."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from tests.server.conftest import SECRET

from twofold.bootstrap import open_deployment
from twofold.config import Settings
from twofold.credentials import OtpParameters
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.engine import Caller
from twofold.factors.otpauth import decode_secret
from twofold.server.api import OPERATIONS
from twofold.server.app import create_app
from twofold.server.openapi import openapi_document

EXAMPLES = 15
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
#: Of these, what can be said without knowing what was drawn.
BY_ANSWER_ALONE = CHECKS[:-1]
TARGETS = [operation.name for operation in OPERATIONS]
#: What needs no key.
OPEN = [
    operation["operationId"]
    for item in json.loads(openapi_document())["paths"].values()
    for operation in item.values()
    if operation["operationId"] not in TARGETS
]

#: What somebody may send besides, and in it something, or anything.
NAMES = [
    "accept", "accept-encoding", "accept-language", "authorization", "connection", "content-encoding",
    "content-language", "content-length", "content-type", "cookie", "expect", "forwarded", "host", "idempotency-key",
    "if-match", "if-none-match", "origin", "range", "te", "transfer-encoding", "twofold-step-up", "upgrade",
    "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-http-method-override",
]  # fmt: skip
VALUES = (
    b"application/json", b"application/json; charset=utf-8", b"application/json;charset=utf-16", b"APPLICATION/JSON",
    b"application/problem+json", b"text/json", b"text/html, */*;q=0", b"multipart/form-data; boundary=x", b"x/y;;=",
    b"gzip", b"identity", b"chunked", b"-1", b"1e3", b"99999999999999999999", b"\xff\xfe", b'"', b",", b"", b"*",
    b"100-continue", b"bytes=0-", b"localhost", b"testserver:0", b"[::1", b"127.0.0.1, evil", b"Bearer", b"Basic eDp5",
    b"for=unknown;host=evil", b"x" * 300, b"a\tb", b"eyJhbGciOiJub25lIn0..",
)  # fmt: skip
HEADERS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES) | st.binary(max_size=20)), min_size=1, max_size=4
)
BODIES = st.sampled_from([b"", b"{}", b'{"code": "123456"}', b"[]", b"\x1f\x8b"]) | st.binary(max_size=40)


class Fuzzed:
    """A server, its description as schemathesis reads it, and what every request brings along."""

    def __init__(self, app: Any, key: str, ids: dict[str, str]) -> None:
        self.app = app
        self.schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        self.headers = {"authorization": f"Bearer {key}"}
        self.ids = ids

    def run(self, name: str, mode: GenerationMode, *, ids: dict[str, str] | None, examples: int) -> set[int]:
        """Draw requests for one call; the statuses of their answers."""
        operation = self.schema.find_operation_by_id(name)
        statuses: set[int] = set()

        @settings(
            max_examples=examples,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        )
        @given(case=operation.as_strategy(generation_mode=mode, path_parameters=ids))
        def draw(case: schemathesis.Case) -> None:
            answer = case.call(headers=self.headers)
            statuses.add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        draw()
        return statuses

    def run_with_headers(self, name: str, examples: int) -> set[int]:
        """Send what was drawn beside the key, or instead of it; the statuses of the answers."""
        operation = self.schema.find_operation_by_id(name)
        path = operation.full_path.format_map(self.ids)
        known = operation.Case(path_parameters=self.ids if "{" in operation.path else None)
        statuses: set[int] = set()

        @settings(max_examples=examples, database=None, phases=(Phase.generate,))
        @given(headers=HEADERS, body=BODIES, is_keyed=st.booleans())
        def draw(headers: list[tuple[str, bytes]], body: bytes, is_keyed: bool) -> None:
            key = [("authorization", self.headers["authorization"].encode())] if is_keyed else []
            answer = asyncio.run(self._send(operation.method.upper(), path, key + headers, body))
            statuses.add(answer.status_code)
            known.validate_response(answer, checks=BY_ANSWER_ALONE)

        draw()
        return statuses

    async def _send(self, method: str, path: str, headers: list[Any], body: bytes) -> httpx.Response:
        transport = httpx.ASGITransport(self.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers={}) as client:
            answer = await client.request(method, path, headers=headers, content=body)
            # What was sent is not for those eyes: another library would refuse to have it.
            answer.request = client.build_request(method, path)
            return answer


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    async def begin(data_dir: Path) -> tuple[Any, str, dict[str, str]]:
        # The name under which schemathesis calls an application in its own process.
        chosen = Settings(data_dir=data_dir, public_url="http://testserver")
        deployment = await open_deployment(chosen, argon2=ONLY_FOR_TESTING)
        _, key = await deployment.applications.create("fuzzed", scopes=("verify", "enroll", "admin"))
        accounts = deployment.verifier.accounts
        await accounts.put("alice")
        otp = OtpParameters(decode_secret(SECRET))
        added = await accounts.import_authenticator("alice", "totp", otp, caller=Caller(is_admin=True))
        return deployment, key, {"id": "alice", "aid": added.id}

    deployment, key, ids = asyncio.run(begin(tmp_path_factory.mktemp("fuzzed") / "data"))
    yield Fuzzed(create_app(deployment), key, ids)
    asyncio.run(deployment.close())


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_allowed_is_answered_as_described(fuzzed: Fuzzed, name: str) -> None:
    assert fuzzed.run(name, GenerationMode.POSITIVE, ids=None, examples=EXAMPLES)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_forbidden_is_refused(fuzzed: Fuzzed, name: str) -> None:
    assert fuzzed.run(name, GenerationMode.NEGATIVE, ids=None, examples=EXAMPLES)


@pytest.mark.parametrize(
    "name", ["verify", "add_authenticator", "put_account", "confirm_authenticator", "record_event"]
)
def test_an_account_that_exists_is_treated_as_described(fuzzed: Fuzzed, name: str) -> None:
    statuses = fuzzed.run(name, GenerationMode.POSITIVE, ids=fuzzed.ids, examples=EXAMPLES)
    # An authenticator that was drawn is none of this account's, but the account is found.
    assert statuses - {404}


@pytest.mark.parametrize("name", TARGETS + OPEN)
def test_strange_headers_and_bodies_are_answered_as_described(fuzzed: Fuzzed, name: str) -> None:
    assert fuzzed.run_with_headers(name, EXAMPLES)


@pytest.mark.soak
@pytest.mark.parametrize("name", TARGETS + OPEN)
def test_many_strange_headers_too(fuzzed: Fuzzed, name: str) -> None:
    assert fuzzed.run_with_headers(name, 2_000)


@pytest.mark.soak
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", TARGETS)
def test_with_many_requests_too(fuzzed: Fuzzed, name: str, mode: GenerationMode) -> None:
    assert fuzzed.run(name, mode, ids=None, examples=2_000)
