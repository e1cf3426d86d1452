"""The description stays true along the way, from the first call of a person's journey to the last.

Each of its steps is what would be right now, such as the code that the phone shows; between them come calls as
schemathesis draws them, half of them for the same account.
"""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import pyotp
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi import checks
from tests.servers import secret_of

from twofold.bootstrap import open_deployment
from twofold.config import Settings
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.server.api import OPERATIONS
from twofold.server.app import create_app
from twofold.testing import FixedClock, NotAllowed, SoftwareAuthenticator

CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
ORIGIN = "https://shop.example"
BACK = f"{ORIGIN}/back"
SECRETS = [secret_of(f"phone {number}") for number in range(3)]
EVENTS = ("password_changed", "signed_out_everywhere", "compromised", "disabled", "enabled")
#: What a prompt ends with comes by way of a browser.
NEEDS_A_BROWSER = {"redeem_prompt"}
TARGETS = [operation.name for operation in OPERATIONS]
#: What people do, in order; another epoch and the end of the account come last, for they end what was begun.
JOURNEY = """put_account get_account add_authenticator confirm_authenticator verify redeem_receipt add_authenticator
    confirm_authenticator open_challenge answer_challenge redeem_receipt renew_recovery_codes rename_authenticator
    open_prompt redeem_prompt list_accounts delete_authenticator record_event delete_account"""

Json = dict[str, Any]


@dataclass
class Thing:
    """An authenticator: pending, or active since it was confirmed."""

    id: str = "none"
    factor: str = "totp"
    secret: str = SECRETS[0]
    presses: int = 0
    options: Json = field(default_factory=dict)


@dataclass
class Person:
    """What is known of somebody from the answers so far."""

    name: str
    pending: Thing = field(default_factory=Thing)
    phone: Thing = field(default_factory=Thing)
    passkey: SoftwareAuthenticator = field(default_factory=SoftwareAuthenticator)
    challenge: Json = field(default_factory=dict)
    receipt: str = "none"


class Deployed:
    """A server, its description, and what has gone well so far."""

    def __init__(self, data_dir: Path) -> None:
        self.clock = FixedClock(1_800_000_000)
        self.deployment, self.key = asyncio.run(self._begin(data_dir))
        schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(self.deployment))
        self.operations = {name: schema.find_operation_by_id(name) for name in TARGETS}
        #: Requests that the description allows, by call.
        self.cases = {
            name: operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
            for name, operation in self.operations.items()
        }
        self.went_well: set[str] = set()

    async def _begin(self, data_dir: Path) -> tuple[Any, str]:
        # The name under which schemathesis calls an application in its own process.
        chosen = Settings(data_dir=data_dir, public_url="http://testserver")
        deployment = await open_deployment(chosen, clock=self.clock, argon2=ONLY_FOR_TESTING)
        scopes = ("verify", "enroll", "admin")
        _, key = await deployment.applications.create("drawn", scopes=scopes, origins=[ORIGIN], return_to=[BACK])
        return deployment, key

    def close(self) -> None:
        asyncio.run(self.deployment.close())


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    opened = Deployed(tmp_path_factory.mktemp("drawn") / "data")
    yield opened
    opened.close()


def right_body(name: str, person: Person, clock: FixedClock, dice: random.Random) -> Json:
    """The body with which this call would go well now, as far as is known."""
    bound = {"purpose": "pay", "binding": "4711"}
    secret = {"factor": "totp", "secret": dice.choice(SECRETS), "confirmed": True}
    is_passkey = person.pending.factor == "webauthn"
    make: dict[str, Callable[[], Json]] = {
        "put_account": lambda: {"display_name": person.name.title()},
        "record_event": lambda: {"type": dice.choice(EVENTS)},
        "add_authenticator": lambda: dice.choice(
            [{"factor": "totp"}, {"factor": "hotp"}, {"factor": "webauthn"}, secret]
        ),
        "confirm_authenticator": lambda: (
            {"credential": register(person)} if is_passkey else {"code": code(person.pending, clock)}
        ),
        "rename_authenticator": lambda: {"label": "another"},
        "verify": lambda: {"code": code(person.phone, clock), **bound},
        "open_challenge": lambda: {"factor": "webauthn", **bound},
        "answer_challenge": lambda: {
            "challenge": person.challenge.get("id", "none"),
            "credential": touch(person),
            "binding": "4711",
        },
        "redeem_receipt": lambda: {"receipt": person.receipt, **bound},
        "renew_recovery_codes": dict,
        "open_prompt": lambda: {
            "account": person.name,
            "return_to": BACK,
            "binding": "4711",
            "code_challenge": "x" * 43,
        },
        "redeem_prompt": lambda: {"code": "none", "code_verifier": "x" * 43, "binding": "4711"},
    }
    return make[name]()


def code(thing: Thing, clock: FixedClock) -> str:
    if thing.factor == "hotp":
        thing.presses += 1
        return pyotp.HOTP(thing.secret).at(thing.presses - 1)
    clock.advance(30)
    return pyotp.TOTP(thing.secret).at(int(clock.now_s))


def register(person: Person) -> Json:
    return person.passkey.register({**person.pending.options, "excludeCredentials": []}, ORIGIN)


def touch(person: Person) -> Json:
    try:
        return person.passkey.answer(person.challenge["prompt"]["public_key"], ORIGIN)
    except (KeyError, NotAllowed):
        return {"id": "none", "type": "public-key", "response": {}}


def learn(name: str, person: Person, said: Json) -> None:
    """Keep what an answer gave for the calls after it."""
    match name:
        case "add_authenticator":
            shown = said.get(said["factor"], {})
            added = Thing(said["id"], said["factor"], shown.get("secret", ""), options=said.get("public_key", {}))
            person.pending = added if said["state"] == "pending" else person.pending
        case "confirm_authenticator" if person.pending.secret:
            person.phone = person.pending
        case "open_challenge":
            person.challenge = said
        case "verify" | "answer_challenge" if said.get("receipt"):
            person.receipt = said["receipt"]


def right_case(operation: APIOperation, person: Person, deployed: Deployed, dice: random.Random) -> schemathesis.Case:
    """The request with which this call would go well now."""
    ids = {"id": person.name, "aid": person.pending.id}
    named = {name: value for name, value in ids.items() if f"{{{name}}}" in operation.path}
    if operation.method.upper() not in ("POST", "PUT", "PATCH"):
        return operation.Case(path_parameters=named)
    body = right_body(operation.definition.raw["operationId"], person, deployed.clock, dice)
    return operation.Case(path_parameters=named, body=body, media_type="application/json")


@pytest.mark.parametrize("calls", [400, pytest.param(10_000, marks=pytest.mark.soak)])
def test_calls_in_any_order_are_answered_as_described(deployed: Deployed, calls: int) -> None:
    dice = random.Random(0)
    person = Person("alice")
    journey = cycle(JOURNEY.split())

    def send(name: str, case: schemathesis.Case) -> None:
        answer = case.call(headers={"authorization": f"Bearer {deployed.key}"})
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code < 300:
            deployed.went_well.add(name)
            learn(name, person, answer.json() if answer.content else {})

    @settings(max_examples=calls, database=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(drawn=st.sampled_from(TARGETS).flatmap(lambda name: st.tuples(st.just(name), deployed.cases[name])))
    def draw(drawn: tuple[str, schemathesis.Case]) -> None:
        name = next(journey)
        send(name, right_case(deployed.operations[name], person, deployed, dice))
        name, case = drawn
        if case.path_parameters and dice.random() < 0.5:
            case.path_parameters |= {"id": person.name}
        send(name, case)

    draw()
    assert deployed.went_well == set(TARGETS) - NEEDS_A_BROWSER
