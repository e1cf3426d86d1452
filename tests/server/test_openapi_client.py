"""A generator of clients accepts the description, and what it makes works: here openapi-python-client, on Python."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pyotp
import pytest
from openapi_python_client import cli
from tests.servers import running, secret_of
from typer.testing import CliRunner

from twofold.server.api import OPERATIONS
from twofold.server.openapi import openapi_document

NAME = "twofold_generated"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The generated package; `import twofold_generated` finds it."""
    folder = tmp_path_factory.mktemp("generated")
    (folder / "openapi.json").write_bytes(openapi_document())
    # Its code need not be formatted here.
    (folder / "config.json").write_text(json.dumps({"post_hooks": []}))
    places = ["--path", folder / "openapi.json", "--config", folder / "config.json", "--output-path", folder / NAME]
    ended = CliRunner().invoke(cli.app, ["generate", "--meta", "none", "--fail-on-warning", *map(str, places)])
    assert ended.exit_code == 0, ended.output
    sys.path.insert(0, str(folder))
    yield folder / NAME
    sys.path.remove(str(folder))
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(f"{NAME}.{name}")


def test_it_makes_a_function_of_every_call(generated: Path) -> None:
    modules = {path.stem for path in (generated / "api" / "default").glob("*.py")}
    assert {operation.name for operation in OPERATIONS} <= modules
    for path in generated.rglob("*.py"):
        parts = path.relative_to(generated).with_suffix("").parts
        module(".".join(part for part in parts if part != "__init__") or "client")


def test_what_it_makes_signs_somebody_in(generated: Path, tmp_path: Path) -> None:
    models = module("models")
    with running(tmp_path / "data") as server:
        key = server.create_key("verify", "enroll", "admin")
        client = module("client").AuthenticatedClient(base_url=f"http://127.0.0.1:{server.port}", token=key)

        def call(operation: str, *ids: str, **members: Any) -> Any:
            return module(f"api.default.{operation}").sync(*ids, client=client, **members)

        with client:
            account = call("put_account", "alice", body=models.AccountBody(display_name="Alice"))
            assert (account.id, account.state) == ("alice", "empty")
            token = models.AuthenticatorBody(
                factor=models.AuthenticatorBodyFactor.HOTP, secret=secret_of("alice"), confirmed=True
            )
            added = call("add_authenticator", "alice", body=token)
            wrong = call("verify", "alice", body=models.VerifyBody(code="not it"))
            assert isinstance(wrong, models.RejectedAnswer)
            assert wrong.reason == "wrong_code"
            code = pyotp.HOTP(secret_of("alice")).at(0)
            right = call("verify", "alice", body=models.VerifyBody(code=code, authenticator_id=added.id))
            assert isinstance(right, models.VerifiedAnswer)
            assert right.factor == "hotp"
            nobody = call("get_account", "bob")
            assert isinstance(nobody, models.ProblemAnswer)
            assert (nobody.status, nobody.code) == (404, "not_found")
