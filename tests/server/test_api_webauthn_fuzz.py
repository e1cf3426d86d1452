"""Whatever a browser, or somebody instead of it, sends as a credential: a refusal in order, and never a failure."""

import asyncio
import copy
import itertools
import string
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tests.server.conftest import URL, Server, SetClock
from tests.server.shops import Json, Shop

from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.server.app import create_app
from twofold.testing.software_authenticator import decode, encode

BASE64URL = st.text(string.ascii_letters + string.digits + "-_", max_size=600)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(
    SCALARS | BASE64URL | st.just("public-key"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=6),
    max_leaves=12,
)
INNER = ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]
SHAPED = st.fixed_dictionaries(
    {"id": BASE64URL, "type": st.just("public-key"), "response": st.dictionaries(st.sampled_from(INNER), BASE64URL)},
    optional={"rawId": BASE64URL, "clientExtensionResults": JSON},
)
CALLS = pytest.mark.parametrize("call", ["answer", "confirm"])
Send = Callable[[Any], Awaitable[httpx.Response]]


async def stage(shop: Shop, call: str, name: str = "alice") -> tuple[Json, Send]:
    """A credential that is right, made by somebody new, and how to send one in its place."""
    if call == "confirm":
        pending = await shop.enroll(name)
        return shop.register(pending, name), lambda credential: shop.confirm(pending, credential, name)
    await shop.add(name)
    challenge = await shop.ask(name)
    return shop.touch(challenge, name), lambda credential: shop.send(challenge, credential)


class Stages:
    """A server that is asked again and again, by new people."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop
        self._people = itertools.count()

    def play(self, call: str, change: Callable[[Json], Any]) -> httpx.Response:
        """The answer to a genuine credential that was changed like this."""

        async def run() -> httpx.Response:
            credential, send = await stage(self._shop, call, f"person-{next(self._people)}")
            return await send(change(credential))

        return asyncio.run(run())


@pytest.fixture
def stages(tmp_path: Path) -> Iterator[Stages]:
    clock = SetClock()

    async def begin() -> tuple[Deployment, Stages]:
        chosen = Settings(data_dir=tmp_path / "data", public_url=URL)
        deployment = await open_deployment(chosen, clock=clock, argon2=ONLY_FOR_TESTING)
        server = Server(deployment, clock, create_app(deployment, clock=clock.monotonic))
        server.key = await server.new_key("enroll")
        return deployment, Stages(await Shop.open(server))

    deployment, ready = asyncio.run(begin())
    yield ready
    asyncio.run(deployment.close())


def assert_in_order(call: str, answer: httpx.Response, *, may_succeed: bool = False) -> None:
    """Judged, or not even understood, and said so; never a failure of ours."""
    body = answer.json()
    if answer.status_code == 200:
        is_right = body["verified"] if call == "answer" else True
        assert may_succeed or not is_right, body
    else:
        assert answer.status_code in (400, 422), body
        assert body["detail"]


@CALLS
def test_any_json_as_a_credential_is_refused_in_order(stages: Stages, call: str) -> None:
    @settings(max_examples=80)
    @given(credential=JSON | SHAPED)
    def draw(credential: Any) -> None:
        assert_in_order(call, stages.play(call, lambda _: credential))

    draw()


@CALLS
def test_a_genuine_credential_with_something_changed_is_refused_in_order(stages: Stages, call: str) -> None:
    @settings(max_examples=120)
    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        def change(credential: Json) -> Json:
            response: Json = credential["response"]
            name = data.draw(st.sampled_from([name for name in INNER if name in response]))
            is_replaced = data.draw(st.integers(0, 3)) == 0
            response[name] = data.draw(JSON if is_replaced else damaged(response[name]))
            # Without a handle the person is the one who was asked.
            assume((name, response[name]) != ("userHandle", None))
            return credential

        # A registration without attestation is signed by nobody: what it says of itself may well be something else.
        assert_in_order(call, stages.play(call, change), may_succeed=call == "confirm")

    draw()


@st.composite
def damaged(draw: st.DrawFn, text: str) -> str:
    """Other bytes than these: some flipped, the end cut off, or something behind it."""
    raw = bytearray(decode(text))
    match draw(st.sampled_from(["flip", "cut", "add"])):
        case "flip":
            for place in draw(st.sets(st.integers(0, len(raw) - 1), min_size=1, max_size=4)):
                raw[place] ^= draw(st.integers(1, 255))
        case "cut":
            del raw[draw(st.integers(0, len(raw) - 1)) :]
        case _:
            raw += draw(st.binary(min_size=1, max_size=40))
    return encode(bytes(raw))


@CALLS
@pytest.mark.parametrize("member", ["id", "type", "response"])
async def test_a_member_that_is_missing_is_named(server: Server, call: str, member: str) -> None:
    credential, send = await stage(await Shop.open(server), call)
    for change in ({}, {member: 1}):
        changed = {name: value for name, value in credential.items() if name != member} | change
        answer = await send(changed)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert answer.json()["field"] == f"credential.{member}"
    assert (await send(credential)).status_code == 200


@CALLS
@pytest.mark.parametrize("value", [..., None, 1, ["AA"], {"$ne": ""}, "a b", "AA==", "A", "+/+/", "\u00e9"])
async def test_a_member_of_the_response_that_is_not_base64url_is_named(server: Server, call: str, value: Any) -> None:
    credential, send = await stage(await Shop.open(server), call)
    members = ["clientDataJSON", "attestationObject"] if call == "confirm" else INNER[:1] + INNER[2:4]
    for member in members:
        changed = copy.deepcopy(credential)
        changed["response"][member] = value
        if value is ...:
            del changed["response"][member]
        answer = await send(changed)
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
        assert answer.json()["field"] == f"credential.response.{member}"
    assert (await send(credential)).status_code == 200
