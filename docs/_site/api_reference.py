"""The reference of the HTTP API as Markdown, written from the OpenAPI document that the server itself gives out."""

# ruff: noqa: INP001 - MkDocs loads this file by its path

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from twofold.server.openapi import openapi_document

Json = dict[str, Any]

_METHODS = ("get", "put", "post", "patch", "delete")
_PREFIX = "/api/v1"


def write_reference() -> str:
    """All calls with their bodies and answers, then the types that these consist of."""
    document = json.loads(openapi_document())
    calls = [
        (method, path, described[method])
        for path, described in document["paths"].items()
        for method in _METHODS
        if method in described
    ]
    keyed = [call for call in calls if call[2].get("security") != []]
    lines = ["[The document itself](openapi.json), for generators of clients.", ""]
    lines += ["## Refusals", "", *_refusals(keyed)]
    for method, path, call in keyed:
        lines += ["", f"## {method.upper()} {path.removeprefix(_PREFIX)}", "", *_call(call)]
    lines += ["", "## Without a key", "", *_open_calls(call for call in calls if call not in keyed)]
    lines += ["", "## Types", ""]
    for name, schema in sorted(document["components"]["schemas"].items()):
        lines += [f"### {name}", "", *_type(schema), ""]
    return "\n".join(lines)


def _refusals(calls: list[tuple[str, str, Json]]) -> Iterator[str]:
    """What each status means, once for all calls."""
    meanings: dict[str, str] = {}
    for _, _, call in calls:
        for status, answer in call["responses"].items():
            if not status.startswith("2"):
                meanings.setdefault(status, answer["description"])
    yield "Each has the body [ProblemAnswer](#problemanswer); [reasons](reasons.md) explains its `code`."
    yield ""
    yield "| status | what it says |"
    yield "|---|---|"
    yield from (f"| {status} | {_cell(meaning)} |" for status, meaning in sorted(meanings.items()))


def _call(call: Json) -> Iterator[str]:
    yield f"{call['summary']}. {call['description']}"
    if call.get("parameters"):
        yield ""
        yield "| parameter | where | form | |"
        yield "|---|---|---|---|"
        for parameter in call["parameters"]:
            form = _form(parameter["schema"])
            yield f"| `{parameter['name']}` | {parameter['in']} | {form} | {_cell(parameter['description'])} |"
    if "requestBody" in call:
        yield ""
        yield f"**Body:** {_form(_schema(call['requestBody']))}"
    answers = {status: answer for status, answer in call["responses"].items() if status.startswith("2")}
    told = (_form(_schema(answer)) if "content" in answer else "nothing" for answer in answers.values())
    yield ""
    yield f"**Answer:** {'; '.join(f'{status}, {body}' for status, body in zip(answers, told, strict=True))}"
    yield ""
    yield f"**Refusals:** {', '.join(status for status in call['responses'] if status not in answers)}"


def _open_calls(calls: Iterator[tuple[str, str, Json]]) -> Iterator[str]:
    yield "| call | gives | as |"
    yield "|---|---|---|"
    for method, path, call in calls:
        media_types = ", ".join(f"`{name}`" for name in call["responses"]["200"]["content"])
        yield f"| `{method.upper()} {path}` | {_cell(call['summary'])} | {media_types} |"


def _type(schema: Json) -> Iterator[str]:
    if "description" in schema:
        yield _cell(schema["description"])
        yield ""
    if schema.get("type") != "object":
        yield _form(schema)
        return
    yield "| member | form | |"
    yield "|---|---|---|"
    for name, member in schema["properties"].items():
        is_required = name in schema.get("required", ())
        meaning = " ".join(part for part in ("" if is_required else "optional", member.get("description", "")) if part)
        yield f"| `{name}` | {_form(member)} | {_cell(meaning)} |"


def _schema(described: Json) -> Json:
    ((_, content),) = described["content"].items()
    schema: Json = content["schema"]
    return schema


def _form(schema: Json) -> str:
    """A JSON schema in a few words, with links to the types that have a heading here."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(_form(form) for form in schema[choice])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        return f"list of {_form(schema.get('items', {}))}"
    kind = {"date-time": "time"}.get(schema.get("format", ""), schema.get("type", "anything"))
    bounds = _bounds(schema)
    return f"{kind} ({bounds})" if bounds else str(kind)


def _bounds(schema: Json) -> str:
    unit = " characters" if schema.get("type") == "string" else ""
    low = schema.get("minLength", schema.get("minimum"))
    high = schema.get("maxLength", schema.get("maximum"))
    if low is None and high is None:
        return ""
    if high is None:
        return f"at least {low}{unit}"
    return f"at most {high}{unit}" if low is None else f"{low} to {high}{unit}"


def _cell(text: str) -> str:
    """Text for one cell of a table: on one line, without what would end the cell."""
    return " ".join(text.split()).replace("|", "\\|")
