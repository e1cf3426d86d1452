"""The Python client and the description of the API agree: neither has a call or a member that the other lacks."""

import inspect
import json
import re
import typing
from typing import Any, Literal, get_args, get_origin

import msgspec
import pytest
from tests.clients.faces import names_of

from twofold.client import AsyncClient, Client, call, calls, reading, results
from twofold.client.call import Call
from twofold.client.calls import Calls
from twofold.server.openapi import openapi_document

Json = dict[str, Any]
DOCUMENT: Json = json.loads(openapi_document())
SCHEMAS: Json = DOCUMENT["components"]["schemas"]
NAMES = sorted(names_of(Calls))
#: What is passed for the parameter of that name; for all others, text will do.
SAMPLES: dict[str, Any] = {
    "codes": ["1", "2"],
    "credential": {"id": "x"},
    "groups": ["a"],
    "digits": 6,
    "period": 30,
    "enroll": True,
}
#: What an answer is read as. One that is not here is not read at all.
READ_AS: dict[str, tuple[type[msgspec.Struct], ...]] = {
    "AccountAnswer": (results.Account,),
    "AccountPageAnswer": (results.AccountPage,),
    "AuthenticatorAnswer": (results.Authenticator,),
    "ChallengeAnswer": (reading.OpenChallenge,),
    "ConfirmedAnswer": (results.Confirmed,),
    "EnrollmentAnswer": (reading.Enrollment, results.PendingPasskey),
    "PasskeyAnswer": (results.Passkey,),
    "ProblemAnswer": (call._Problem,),
    "Prompt": (reading.Prompt,),
    "PromptAnswer": (reading.OpenPrompt,),
    "RecoveryCodesAnswer": (results.Renewed,),
    "RedeemedAnswer": (results.Redeemed,),
    "RejectedAnswer": (reading.Judged, results.Rejected),
    "SecretAnswer": (reading.Secret,),
    "ThrottleAnswer": (results.Throttle,),
    "VerifiedAnswer": (reading.Judged, results.Verified),
}
#: What a method tells by its name, or a person reads elsewhere.
NOT_READ = {"EnrollmentAnswer": {"state"}, "ConfirmedAnswer": {"state"}, "ProblemAnswer": {"title"}}
#: A pending authenticator always has it; an imported one, which the same document describes, has not.
PENDING = {"expires_at"}


def sample(name: str) -> Call[Any]:
    """The call that a method describes when everything is passed that it takes."""
    describe = getattr(Calls, name)
    parameters = list(inspect.signature(describe).parameters)[1:]
    return describe(None, **{parameter: SAMPLES.get(parameter, "x") for parameter in parameters})


def find(described: Call[Any]) -> tuple[str, Json]:
    """The path and the operation that a call is about."""
    for path, item in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))
        if re.fullmatch(pattern, described.path) and described.method.lower() in item:
            return path, item[described.method.lower()]
    raise AssertionError(f"the document has no {described.method} {described.path}")


def body_schema(operation: Json) -> Json:
    if "requestBody" not in operation:
        return {}
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    schema: Json = SCHEMAS[reference.rpartition("/")[2]]
    return schema


def methods_of(operation_id: str) -> list[str]:
    return [name for name in NAMES if find(sample(name))[1]["operationId"] == operation_id]


def literals(annotation: object) -> set[str]:
    """The values of a Literal in an annotation, wherever in it."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    return {value for part in get_args(annotation) for value in literals(part)}


OPERATIONS = {operation["operationId"]: operation for item in DOCUMENT["paths"].values() for operation in item.values()}
#: The same document, under a second path.
OPERATIONS.pop("show_openapi")


def test_both_faces_have_every_call() -> None:
    assert names_of(Client) == names_of(AsyncClient) == set(NAMES)


@pytest.mark.parametrize("operation_id", OPERATIONS)
def test_every_operation_has_its_method_and_every_member_of_its_body_can_be_sent(operation_id: str) -> None:
    methods = methods_of(operation_id)
    assert methods
    schema = body_schema(OPERATIONS[operation_id])
    sent: Json = {}
    for name in methods:
        sent |= json.loads(sample(name).body or b"{}")
    assert set(sent) == set(schema.get("properties", {}))
    if "context" in sent:
        assert set(sent["context"]) == set(SCHEMAS["ContextBody"]["properties"])


@pytest.mark.parametrize("name", NAMES)
def test_a_method_sends_what_its_operation_takes_and_nothing_else(name: str) -> None:
    described = sample(name)
    path, operation = find(described)
    schema = body_schema(operation)
    members = json.loads(described.body or b"{}")
    assert set(members) <= set(schema.get("properties", {}))
    taken = {(parameter["in"], parameter["name"]) for parameter in operation.get("parameters", [])}
    sent = {("query", query) for query in described.query} | {("header", header) for header in described.headers}
    if described.takes_key:
        sent.add(("header", "Idempotency-Key"))
    sent |= {("path", part[1:-1]) for part in path.split("/") if part.startswith("{")}
    # A challenge and a prompt are opened without a key: so that writes nothing.
    optional = {("header", "Idempotency-Key")} if name in ("challenge", "open_prompt") else set()
    assert sent == taken - optional


@pytest.mark.parametrize("name", NAMES)
def test_only_values_that_the_document_lists_can_be_chosen(name: str) -> None:
    _, operation = find(sample(name))
    properties = body_schema(operation).get("properties", {})
    for parameter, annotation in typing.get_type_hints(getattr(Calls, name)).items():
        if offered := literals(annotation) - {None}:
            assert offered <= set(choices(properties["type" if parameter == "event" else parameter]))


def choices(schema: Json) -> list[str]:
    """The values of a member that has a list of them."""
    options: list[Json] = schema.get("anyOf", [schema])
    return [value for option in options for value in option.get("enum", [])]


def test_every_value_of_a_choice_can_be_chosen() -> None:
    assert set(get_args(calls.Event)) == set(choices(SCHEMAS["EventBody"]["properties"]["type"]))
    listed = choices(SCHEMAS["ChallengeBody"]["properties"]["user_verification"])
    assert set(get_args(calls.UserVerification)) == set(listed)
    algorithms = typing.get_type_hints(Calls.import_authenticator)["algorithm"]
    assert literals(algorithms) == set(choices(SCHEMAS["AuthenticatorBody"]["properties"]["algorithm"])) - {None}


def test_every_answer_is_read() -> None:
    assert {name for name in SCHEMAS if not name.endswith("Body")} == set(READ_AS)


@pytest.mark.parametrize("name", READ_AS)
def test_every_member_of_an_answer_is_read_and_none_is_expected_that_may_be_absent(name: str) -> None:
    schema = SCHEMAS[name]
    kinds = READ_AS[name]
    read = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    assert read | NOT_READ.get(name, set()) == set(schema["properties"])
    required = {field.encode_name for field in msgspec.structs.fields(kinds[0]) if field.required}
    assert required - PENDING <= set(schema["required"])
