"""The npm package over a real server: its own tests, its types by the strict compiler and by the OpenAPI document."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node import PACKAGE, build_package, run_node
from tests.servers import Clock, Server, running

from twofold.server.openapi import openapi_document


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server whose clock stands still, as the tests of the package find it."""
    build_package()
    folder = tmp_path_factory.mktemp("js")
    clock = Clock(folder / "clock")
    with running(folder / "data", test_clock=str(clock.path)) as server:
        yield {
            "TWOFOLD_URL": f"http://localhost:{server.port}",
            "TWOFOLD_KEY": create_key(server, "verify,enroll", "--return-to", "http://localhost/2fa/back"),
            "TWOFOLD_ADMIN_KEY": create_key(server, "admin"),
            "TWOFOLD_NOW_S": str(clock.now_s),
        }


def create_key(server: Server, scopes: str, *more: str) -> str:
    created = server.command("apikey", "create", "shop", "--scope", scopes, *more)
    assert created.returncode == 0, created.stderr
    return created.stdout.strip().splitlines()[-1]


def test_the_types_are_those_of_the_document() -> None:
    build_package()
    made = run_node("node", "scripts/types.mjs", stdin=openapi_document().decode())
    assert made == (PACKAGE / "src" / "schema.ts").read_text(), "npm run types < document"


def test_what_applications_write_is_accepted_by_the_strict_compiler() -> None:
    build_package()
    run_node("tsc", "--project", "test")


@pytest.mark.parametrize("suite", sorted((PACKAGE / "test").glob("*.test.mjs")), ids=lambda path: path.name)
def test_its_own_tests_pass(suite: Path, settings: dict[str, str]) -> None:
    run_node("node", "--test", str(suite), **settings)


def test_it_depends_on_nothing_and_its_files_are_all_there() -> None:
    build_package()
    listed = run_node("npm", "pack", "--dry-run", "--json", "--ignore-scripts")
    packed = {file["path"] for file in json.loads(listed)[0]["files"]}
    assert {"dist/index.js", "dist/index.d.ts", "dist/express.js", "dist/browser.mjs", "README.md"} <= packed
    assert not any(path.startswith(("test/", "node_modules/")) for path in packed)
    assert "dependencies" not in json.loads((PACKAGE / "package.json").read_text())
