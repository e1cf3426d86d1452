"""The description of the API: complete, sound, and true."""

import json
from typing import Any

import pytest
from starlette.routing import Route
from tests.server.conftest import Server

from twofold.server.api import OPERATIONS, PREFIX
from twofold.server.openapi import openapi_document
from twofold.server.pages import PAGES, prompt

DOCUMENT: dict[str, Any] = json.loads(openapi_document())
HTTP_METHODS = {"get", "put", "post", "patch", "delete"}


def described() -> set[tuple[str, str]]:
    return {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}


def test_it_is_sound_openapi() -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    assert DOCUMENT["openapi"].startswith("3.1")
    validator.validate(DOCUMENT)


def test_every_call_is_in_it_and_it_has_no_other(server: Server) -> None:
    table = {(operation.method, PREFIX + operation.path) for operation in OPERATIONS}
    pages = (
        {page.path for page in PAGES} | {f"/prompt/{{link}}{page.path}" for page in prompt.PAGES} | {"/static/{name}"}
    )
    routes = [route for route in server.app._everything_else.routes if isinstance(route, Route)]
    open_routes = {("GET", route.path) for route in routes if route.path not in pages}
    assert described() == table | open_routes
    assert {route.path for route in routes} >= pages


def test_every_call_has_a_name_of_its_own_a_sentence_and_its_refusals() -> None:
    operations = [item[method] for item in DOCUMENT["paths"].values() for method in item]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] for operation in operations)
    for path, item in DOCUMENT["paths"].items():
        if "{id}" in path:
            for operation in item.values():
                assert {"400", "401", "403", "404", "409", "422", "429", "503"} <= set(operation["responses"])


def test_every_reference_in_it_leads_somewhere() -> None:
    schemas = set(DOCUMENT["components"]["schemas"])
    references = {part.split('"')[0] for part in json.dumps(DOCUMENT).split("#/components/schemas/")[1:]}
    assert references == schemas


def test_every_path_parameter_is_described() -> None:
    for path, item in DOCUMENT["paths"].items():
        named = {part[1:-1] for part in path.split("/") if part.startswith("{")}
        for operation in item.values():
            parameters = operation.get("parameters", [])
            assert {p["name"] for p in parameters if p["in"] == "path"} == named


def test_every_post_takes_an_idempotency_key_and_the_key_is_needed_everywhere_but_in_the_open() -> None:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            headers = {p["name"] for p in operation.get("parameters", []) if p["in"] == "header"}
            assert ("Idempotency-Key" in headers) == (method == "post")
            is_open = operation.get("security") == []
            keyed = tuple(f"{PREFIX}/{kind}" for kind in ("accounts", "challenges", "receipts", "prompts"))
            assert is_open == (not path.startswith(keyed))


async def test_it_is_served_without_a_key_under_both_names(server: Server) -> None:
    for path in ("/openapi.json", "/api/v1/openapi.json"):
        answer = await server.get(path)
        assert answer.headers["content-type"] == "application/json"
        assert answer.json() == DOCUMENT
