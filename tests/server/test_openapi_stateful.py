"""The description stays true along the way: calls in any order, each with what the answers before it gave.

schemathesis draws the calls and their members; mostly, what it drew is exchanged for what would be right now,
such as the code that the person's phone shows. So every call is answered in every way that it can be.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyotp
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks

from twofold.bootstrap import open_deployment
from twofold.config import Settings
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.server.api import OPERATIONS
from twofold.server.app import create_app
from twofold.testing import FixedClock, NotAllowed, SoftwareAuthenticator

CALLS = 800
#: How often what was drawn is exchanged for what would be right.
RIGHT_SHARE = 0.8
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]
ORIGIN = "https://shop.example"
BACK = f"{ORIGIN}/back"
SECRETS = [pyotp.random_base32() for _ in range(3)]
EVENTS = ("password_changed", "signed_out_everywhere", "compromised", "disabled", "enabled")
#: What a prompt ends with comes by way of a browser.
NEEDS_A_BROWSER = {"redeem_prompt"}
TARGETS = [operation.name for operation in OPERATIONS]
#: Mostly what goes on: an account that is gone, or another epoch, ends what the calls before have begun.
WEIGHTS = {"delete_account": 1, "record_event": 1, "delete_authenticator": 3, "confirm_authenticator": 12}
ORDER = [name for name in TARGETS for _ in range(WEIGHTS.get(name, 6))]

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
    """A server, its description, and how it answered so far."""

    def __init__(self, data_dir: Path) -> None:
        self.clock = FixedClock(1_800_000_000)
        self.deployment, self.key = asyncio.run(self._begin(data_dir))
        schema = schemathesis.openapi.from_asgi("/openapi.json", create_app(self.deployment))
        allowed = GenerationMode.POSITIVE
        #: Requests that the description allows, by call.
        self.cases = {name: schema.find_operation_by_id(name).as_strategy(generation_mode=allowed) for name in TARGETS}
        self.answers: Counter[tuple[str, int]] = Counter()

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
        case "verify" | "answer_challenge" if said["verified"] and said["receipt"]:
            person.receipt = said["receipt"]


def exchange(case: schemathesis.Case, name: str, person: Person, deployed: Deployed, dice: random.Random) -> None:
    """What would be right now, instead of what was drawn."""
    right = {"id": person.name, "aid": person.pending.id}
    case.path_parameters = {parameter: right[parameter] for parameter in case.path_parameters}
    case.query = {}
    case.headers = {}
    if case.method in ("POST", "PUT", "PATCH"):
        case.body = right_body(name, person, deployed.clock, dice)


def test_calls_in_any_order_are_answered_as_described(deployed: Deployed) -> None:
    dice = random.Random(0)
    person = Person("alice")

    @settings(max_examples=CALLS, database=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(drawn=st.sampled_from(ORDER).flatmap(lambda name: st.tuples(st.just(name), deployed.cases[name])))
    def draw(drawn: tuple[str, schemathesis.Case]) -> None:
        name, case = drawn
        if dice.random() < RIGHT_SHARE:
            exchange(case, name, person, deployed, dice)
        answer = case.call(headers={"authorization": f"Bearer {deployed.key}"})
        deployed.answers[name, answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code in (200, 201):
            learn(name, person, answer.json())

    draw()
    went_well = {name for name, status in deployed.answers if status < 300}
    assert went_well == set(TARGETS) - NEEDS_A_BROWSER
