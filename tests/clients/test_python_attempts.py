"""When the Python client sends a call again, what it makes of strange answers, and what it shows of what it holds."""

import asyncio
import inspect
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
from tests.clients.faces import FACES

from twofold.client import ApiError, AsyncClient, Client, NoAnswer, PendingEnrollment, Throttled, Verified
from twofold.errors import ConfigurationError, TwofoldError, Unavailable

URL = "https://2fa.example"
OK = {"verified": True, "factor": "totp", "authenticator_id": "a1", "receipt": None, "browser": "b1"}
Reply = httpx.Response | Exception


def problem(status: int, code: str, **more: Any) -> httpx.Response:
    body = {"title": "…", "status": status, "code": code, "detail": "a sentence", **more}
    return httpx.Response(status, json=body, headers={"content-type": "application/problem+json"})


class Server:
    """Gives its replies in turn, the last one for ever, and keeps what it was sent."""

    def __init__(self, face: Callable[..., Any], *replies: Reply, url: str = URL, **more: Any) -> None:
        self.replies = list(replies)
        self.seen: list[httpx.Request] = []
        self.client = face(url, "tf_key", transport=httpx.MockTransport(self._reply), **more)

    def _reply(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        if isinstance(reply, Exception):
            raise reply
        # A fresh one: what one face has read, the other cannot read again.
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    @property
    def keys(self) -> set[str | None]:
        return {request.headers.get("idempotency-key") for request in self.seen}


Serve = Callable[..., Server]


@pytest.fixture(params=FACES)
def serve(request: pytest.FixtureRequest) -> Iterator[Serve]:
    """Give a function from replies to a server that gives them."""
    with ExitStack() as clients:

        def begin(*replies: Reply, **more: Any) -> Server:
            server = Server(FACES[request.param], *replies, **more)
            clients.enter_context(server.client)
            return server

        yield begin


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made; none of them takes time."""
    made: list[float] = []
    sleep = asyncio.sleep

    async def pause(seconds: float) -> None:
        made.append(seconds)
        await sleep(0)

    monkeypatch.setattr(time, "sleep", made.append)
    monkeypatch.setattr("twofold.client.faces.asyncio.sleep", pause)
    return made


@pytest.mark.parametrize("code", ["busy", "unavailable", "outcome_unknown"])
def test_a_server_that_cannot_answer_now_is_asked_again_with_the_same_key(
    serve: Serve, pauses: list[float], code: str
) -> None:
    server = serve(problem(503, code, retry_after=2), httpx.Response(200, json=OK))
    assert isinstance(server.client.verify("alice", code="123456"), Verified)
    assert pauses == [2]
    assert len(server.seen) == 2
    (key,) = server.keys
    assert key


def test_two_calls_have_two_keys(serve: Serve) -> None:
    server = serve(httpx.Response(200, json=OK))
    server.client.verify("alice", code="123456")
    server.client.verify("alice", code="123456")
    assert len(server.keys) == 2


def test_three_attempts_are_all(serve: Serve, pauses: list[float]) -> None:
    server = serve(problem(503, "busy", retry_after=1))
    with pytest.raises(ApiError) as caught:
        server.client.verify("alice", code="123456")
    assert (caught.value.code, caught.value.retry_after_s) == ("busy", 1)
    assert len(server.seen) == 3
    assert pauses == [1, 1]


def test_no_pause_goes_beyond_the_time_of_the_call(serve: Serve, pauses: list[float]) -> None:
    server = serve(problem(503, "busy", retry_after=11))
    with pytest.raises(ApiError):
        server.client.verify("alice", code="123456")
    patient = serve(problem(503, "busy", retry_after=11), httpx.Response(200, json=OK), timeout_s=30)
    assert isinstance(patient.client.verify("alice", code="123456"), Verified)
    assert pauses == [11]


def test_what_was_judged_is_never_sent_again(serve: Serve) -> None:
    for status, code in ((401, "unauthorized"), (409, "no_factor"), (422, "invalid")):
        server = serve(problem(status, code))
        with pytest.raises(ApiError) as caught:
            server.client.verify("alice", code="123456")
        assert (caught.value.status, caught.value.code, len(server.seen)) == (status, code, 1)
    server = serve(problem(429, "throttled", retry_after=30, ways=["recovery_codes"]))
    assert server.client.verify("alice", code="123456") == Throttled(30, ("recovery_codes",))
    assert len(server.seen) == 1
    with pytest.raises(ApiError) as caught:
        server.client.account("alice")
    assert (caught.value.retry_after_s, caught.value.ways) == (30, ("recovery_codes",))


def test_what_must_not_be_done_twice_is_repeated_only_where_nothing_was_done(serve: Serve) -> None:
    for nothing_done in (problem(503, "busy"), httpx.ConnectError("refused"), httpx.ConnectTimeout("slow")):
        server = serve(nothing_done, httpx.Response(204))
        assert server.client.revoke("alice", "a1", step_up="proof") is None
        assert len(server.seen) == 2
    for perhaps_done in (problem(503, "outcome_unknown"), httpx.ReadError("cut"), httpx.Response(502)):
        server = serve(perhaps_done, httpx.Response(204))
        with pytest.raises(TwofoldError):
            server.client.revoke("alice", "a1", step_up="proof")
        assert len(server.seen) == 1


def test_a_lost_connection_is_tried_again_after_a_moment_and_a_longer_one(serve: Serve, pauses: list[float]) -> None:
    server = serve(httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut"), httpx.Response(200, json=OK))
    assert isinstance(server.client.verify("alice", code="123456"), Verified)
    assert pauses == [0.1, 0.2]
    assert len(server.keys) == 1


def test_opening_a_challenge_has_no_key_and_is_repeated_all_the_same(serve: Serve) -> None:
    opened = {"id": "c1", "expires_at": "2027-01-15T08:00:00Z", "prompt": {"public_key": {"challenge": "x"}}}
    server = serve(httpx.ReadError("cut"), httpx.Response(201, json=opened))
    assert server.client.challenge("alice").public_key == {"challenge": "x"}
    assert server.keys == {None}


@pytest.mark.parametrize(
    "strange",
    [
        httpx.Response(200, html="<title>Sign in to the network</title>"),
        httpx.Response(200, json={"verified": "yes"}),
        httpx.Response(200, json=[]),
        httpx.Response(200, content=b'{"verified": true, "factor": "\xff"}'),
        httpx.Response(301, headers={"location": "https://elsewhere.example/"}),
        httpx.Response(404, html="<h1>nothing here</h1>"),
        httpx.Response(502, html="<h1>Bad Gateway</h1>"),
        httpx.Response(403, json={"oops": 1}, headers={"content-type": "application/problem+json"}),
    ],
    ids=str,
)
def test_what_is_no_answer_of_twofold_lets_nobody_in(serve: Serve, strange: httpx.Response) -> None:
    server = serve(strange)
    with pytest.raises(NoAnswer) as caught:
        server.client.verify("alice", code="123456")
    assert isinstance(caught.value, Unavailable)
    assert "123456" not in str(caught.value)


def test_members_and_values_of_a_newer_server_are_no_hindrance(serve: Serve) -> None:
    server = serve(httpx.Response(200, json={**OK, "factor": "push", "moon": "full"}))
    assert server.client.verify("alice", code="123456").factor == "push"
    server = serve(httpx.Response(200, json={"verified": False, "reason": "moon_is_full"}))
    assert server.client.verify("alice", code="123456").reason == "moon_is_full"


def test_what_is_not_passed_is_not_sent_and_the_key_goes_with_every_call(serve: Serve) -> None:
    server = serve(httpx.Response(200, json=OK))
    server.client.verify("alice", code="123456")
    (request,) = server.seen
    assert str(request.url) == f"{URL}/api/v1/accounts/alice/verify"
    assert request.content == b'{"code":"123456"}'
    assert request.headers["authorization"] == "Bearer tf_key"
    assert request.headers["content-type"] == "application/json"


def test_a_server_may_live_below_a_path(serve: Serve) -> None:
    server = serve(httpx.Response(204), url="https://example.com/2fa/")
    assert server.client.delete_account("alice") is None
    assert str(server.seen[0].url) == "https://example.com/2fa/api/v1/accounts/alice"


@pytest.mark.parametrize(
    ("url", "key", "wrong"),
    [
        ("2fa.example", "tf_key", "url"),
        ("ftp://2fa.example", "tf_key", "url"),
        ("https://", "tf_key", "url"),
        ("https://2fa.example:port", "tf_key", "url"),
        ("https://2fa.example/?x=1", "tf_key", "url"),
        ("https://name@2fa.example", "tf_key", "url"),
        (URL, "", "key"),
        (URL, "tf_key\n", "key"),
        (URL, "tf key", "key"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_what_can_be_no_address_or_no_key_is_told_at_once(kind: Any, url: str, key: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{wrong}: expected") as caught:
        kind(url, key)
    assert "tf" not in str(caught.value)


def test_a_client_of_your_own_stays_open_and_theirs_is_closed() -> None:
    yours = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(204)))
    with Client(URL, "tf_key", http=yours) as client:
        client.alive()
    assert not yours.is_closed
    client = Client(URL, "tf_key")
    client.close()
    assert client._http.is_closed


def test_results_show_no_secrets() -> None:
    assert "b1" not in repr(Verified(factor="totp", authenticator_id="a1", browser="b1", receipt="r1"))
    shown = {"secret": "s3cret", "uri": "s3cret", "qr_svg": "s3cret", "qr_png": "s3cret"}
    pending = PendingEnrollment(id="a1", factor="totp", expires_at=None, **shown)  # type: ignore[arg-type]
    assert "s3cret" not in repr(pending)
    assert "tf_key" not in repr(Client(URL, "tf_key"))


def test_a_call_has_the_signature_and_the_sentence_that_its_description_has() -> None:
    for method in (Client(URL, "tf_key").verify, AsyncClient(URL, "tf_key").verify):
        assert list(inspect.signature(method).parameters)[:2] == ["account_id", "code"]
        assert inspect.getdoc(method).startswith("Judge one answer")
    assert inspect.getdoc(Client.verify).startswith("Judge one answer")


def run(program: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_without_httpx_one_line_says_what_to_install() -> None:
    ended = run("import sys; sys.modules['httpx'] = None; import twofold; import twofold.client")
    last = ended.stderr.splitlines()[-1]
    assert last == "ImportError: twofold.client needs httpx: pip install 'twofold[client]'"


def test_nothing_of_the_server_is_loaded_with_it() -> None:
    program = "import sys, twofold.client; print(*(name for name in sys.modules if name.startswith(WORDS)))"
    words = "('starlette', 'uvicorn', 'jinja2', 'twofold.server', 'twofold.commands')"
    assert run(program.replace("WORDS", words)).stdout == "\n"
