"""The OpenAPI 3.1 document, made from the table of calls and the types of their bodies and answers."""

from __future__ import annotations

from typing import Any

import msgspec

from twofold import __version__
from twofold.server.api import OPERATIONS, PREFIX, Operation
from twofold.server.calls.accounts import LISTED_FACTORS, LISTED_STATES
from twofold.server.problems import MEDIA_TYPE, ProblemAnswer
from twofold.server.reading import IDEMPOTENCY_KEY_MAX

Json = dict[str, Any]

_PARAMETERS: dict[str, Json] = {
    "id": {"in": "path", "required": True, "description": "The account, by the application's id for it."},
    "aid": {"in": "path", "required": True, "description": "The authenticator."},
    "cursor": {"in": "query", "description": "The next_cursor of the page before."},
    "factor": {"in": "query", "description": "Only accounts with an active authenticator of this factor."},
    "state": {"in": "query", "description": "Only accounts in this state."},
}
_PARAMETER_SCHEMAS: dict[str, Json] = {
    "id": {"type": "string", "minLength": 1, "maxLength": 128},
    "aid": {"type": "string", "minLength": 1},
    "cursor": {"type": "string"},
    "factor": {"type": "string", "enum": list(LISTED_FACTORS)},
    "state": {"type": "string", "enum": list(LISTED_STATES)},
}
_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key with the same body gets the same answer for five minutes.",
    "schema": {"type": "string", "pattern": f"^[!-~]{{1,{IDEMPOTENCY_KEY_MAX}}}$"},
}
_STEP_UP: Json = {
    "name": "Twofold-Step-Up",
    "in": "header",
    "description": 'A receipt made with purpose "manage"; needed where the account has an active authenticator.',
    "schema": {"type": "string"},
}

#: What the statuses mean here; 400 to 403, 421 and from 429 on any call may answer, the others where they can happen.
_REFUSALS = {
    "400": "Not sound HTTP or JSON.",
    "401": "The key.",
    "403": "The scope of the key, or `step_up_required`, or `receipt_mismatch`.",
    "404": "No such thing.",
    "409": "The state does not allow it.",
    "413": "A body over 64 KiB.",
    "415": "A body that is not JSON.",
    "421": "A name that this server does not answer to.",
    "422": "Understood and refused.",
    "429": "`throttled`: not judged; `retry_after` tells when, `ways` how else.",
    "503": "`busy`, `unavailable` or `outcome_unknown`: repeat it with the same Idempotency-Key.",
}
_WITH_BODY_ONLY = ("413", "415")


def openapi_document() -> bytes:
    """The document as JSON."""
    types: list[type] = [ProblemAnswer]
    for operation in OPERATIONS:
        types += [operation.body] if operation.body else []
        types += [answer for answers in operation.answers.values() for answer in answers]
    _, schemas = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    paths: dict[str, Json] = {}
    for operation in OPERATIONS:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _describe(operation)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Twofold",
            "version": __version__,
            "summary": "A second factor for any sign-in.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "paths": {**paths, **_OPEN_PATHS},
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "`twofold apikey create` prints a key."}
            },
        },
    }
    return msgspec.json.encode(document)


def _describe(operation: Operation) -> Json:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    parameters = [
        {"name": name, **_PARAMETERS[name], "schema": _PARAMETER_SCHEMAS[name]} for name in (*names, *operation.query)
    ]
    if operation.method == "POST":
        parameters.append(_IDEMPOTENCY_KEY)
    if operation.takes_step_up_header:
        parameters.append(_STEP_UP)
    described: Json = {
        "operationId": operation.name,
        "summary": (operation.run.__doc__ or operation.name).rstrip("."),
        "description": f"Scope: {' or '.join(sorted(operation.scopes))}.",
        "parameters": parameters,
        "responses": {str(status): _answer(types) for status, types in operation.answers.items()},
    }
    for status, meaning in _REFUSALS.items():
        if operation.body is not None or status not in _WITH_BODY_ONLY:
            described["responses"][status] = _refusal(meaning)
    if operation.body is not None:
        is_required = any(field.required for field in msgspec.structs.fields(operation.body))
        described["requestBody"] = {"required": is_required, "content": _json(operation.body)}
    return described


def _answer(types: tuple[type, ...]) -> Json:
    if not types:
        return {"description": "Done; there is nothing to say."}
    return {"description": (types[0].__doc__ or "").strip(), "content": _json(*types)}


def _refusal(meaning: str) -> Json:
    content = {MEDIA_TYPE.decode(): {"schema": _ref(ProblemAnswer)}}
    return {"description": meaning, "content": content}


def _json(*types: type) -> Json:
    references = [_ref(kind) for kind in types]
    return {"application/json": {"schema": references[0] if len(references) == 1 else {"oneOf": references}}}


def _ref(kind: type) -> Json:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


def _open(name: str, summary: str, media_type: str, *, refusals: tuple[str, ...] = ()) -> Json:
    responses: Json = {"200": {"description": summary, "content": {media_type: {}}}}
    responses.update({status: _refusal(_REFUSALS[status]) for status in refusals})
    return {"get": {"operationId": name, "summary": summary, "security": [], "responses": responses}}


#: What needs no key (`app.py`).
_OPEN_PATHS = {
    "/health/live": _open("tell_alive", "The process answers", "application/json"),
    "/health/ready": _open("tell_ready", "The store and the keys can be used", "application/json", refusals=("503",)),
    "/metrics": _open("show_metrics", "What the server counts, for Prometheus", "text/plain"),
    "/.well-known/jwks.json": _open(
        "show_keys", "The public keys of receipts", "application/jwk-set+json", refusals=("400", "421")
    ),
    "/.well-known/webauthn": _open(
        "show_related_origins",
        "The origins beyond its own domain where passkeys of this site work",
        "application/json",
        refusals=("400", "404", "421"),
    ),
    "/openapi.json": _open("show_openapi", "This document", "application/json", refusals=("400", "421")),
    f"{PREFIX}/openapi.json": _open(
        "show_openapi_of_version", "This document", "application/json", refusals=("400", "421")
    ),
}
