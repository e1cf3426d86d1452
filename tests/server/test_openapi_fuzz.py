"""The description is true: what it allows and what it forbids, drawn at random, is answered as it says."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
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

EXAMPLES = 15
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
TARGETS = [operation.name for operation in OPERATIONS]


class Fuzzed:
    """A server, its description as schemathesis reads it, and what every request brings along."""

    def __init__(self, app: Any, key: str, ids: dict[str, str]) -> None:
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


@pytest.mark.soak
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
@pytest.mark.parametrize("name", TARGETS)
def test_with_many_requests_too(fuzzed: Fuzzed, name: str, mode: GenerationMode) -> None:
    assert fuzzed.run(name, mode, ids=None, examples=2_000)
