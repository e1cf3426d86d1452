"""One request at the gate, in the words of ASGI: how it arrives, what it brings, and how it is answered. To decide is
the guard's business, and no framework is known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

import msgspec

from twofold.errors import TwofoldError
from twofold.integrations.answers import FORM
from twofold.integrations.arrival import Answer, Arrival, Demand, Login, Person
from twofold.integrations.guard import Guard
from twofold.integrations.loop_guard import LoopGuard

Scope = MutableMapping[str, Any]
Message = Scope
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Of a body at most so much is looked at; the application gets all of it.
BODY_BYTES_MAX = 64 * 1024
BODY_S = 30
POLICY_VIOLATION, REASON = 1008, "second factor required"
_TOO_SLOW = Answer(408, (("content-type", "text/plain"), ("connection", "close")), b"the body took too long\n", None)


class ClientGone(Exception):
    """The client went away before its request was complete: there is nobody to answer."""


class Body:
    """What a client sends, for two readers: what one of them took, up to a limit, is there for the other."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._ahead: list[Message] = []
        self._seen, self._is_whole = b"", False

    async def receive(self) -> Message:
        """The next message, for the application."""
        return self._ahead.pop(0) if self._ahead else await self._listen()

    async def read(self) -> bytes:
        """The body from its beginning; of one beyond the limit a byte more than the limit."""
        async with asyncio.timeout(BODY_S):
            while not self._is_whole and len(self._seen) <= BODY_BYTES_MAX:
                message = await self._listen()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                self._ahead.append(message)
        return self._seen

    async def _listen(self) -> Message:
        message = await self._receive()
        self._seen += message.get("body", b"")[: BODY_BYTES_MAX + 1 - len(self._seen)]
        self._is_whole = not message.get("more_body", False)
        return message


class Passage:
    """One request at the gate. `answer` is what it gets in place of the application's, once there is a reason."""

    def __init__(self, guard: Guard, scope: Scope, person: Person | None, login: Login, body: Body) -> None:
        self.answer: Answer | None = None
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self._guard, self._who, self._body = guard, (person, login), body
        self._arrival = read_arrival(scope)

    async def enter(self, prefix: str, is_exempt: Callable[[], bool]) -> bool:
        """Whether the request goes on to the application. Below `prefix` are pages of ours."""
        arrival, path = self._arrival, self._arrival.path
        if path == prefix or path.startswith(f"{prefix}/"):
            below = msgspec.structs.replace(arrival, path=path.removeprefix(prefix) or "/")
            return await self._ask(lambda body: self._guard.serve(below, *self._who, body))
        answer = await self._guard.admit(arrival, *self._who)
        self.answer = None if answer is not None and is_exempt() else answer
        return self.answer is None

    async def check(self, demand: Demand) -> bool:
        """Whether the request goes on to a view that demands this. Forms can wait for a proof; all else is not read."""
        kind = self._arrival.header(b"content-type").partition(";")[0].strip().lower()
        return await self._ask(partial(self._guard.check, self._arrival, *self._who, demand), reads=kind == FORM)

    async def leave(self) -> None:
        """The person signed out with this request."""
        await self._guard.admit(self._arrival, None, Login(self._who[1].name, has_ended=True))

    async def _ask(self, ask: Callable[[Any], Awaitable[Answer | None]], *, reads: bool = True) -> bool:
        try:
            body = await self._body.read() if reads else None
        except TimeoutError:
            self.answer = _TOO_SLOW
        else:
            self.answer = await ask(body)
        return self.answer is None


def read_arrival(scope: Scope) -> Arrival:
    """The request as the guard knows it. The path is as it was sent, if the server tells, and without `root_path`."""
    root, path = scope.get("root_path", "").rstrip("/"), scope["path"]
    below = path[len(root) :] if root and f"{path}/".startswith(f"{root}/") else path
    sent = scope.get("raw_path", b"").decode("latin-1").removeprefix(quote(root))
    return Arrival(
        method=scope.get("method", "GET"),
        path=(sent if unquote(sent) == below else quote(below)) or "/",
        query=scope["query_string"].decode("latin-1"),
        headers=tuple(scope["headers"]),
        client=scope.get("client"),
        scheme="https" if scope["scheme"] in ("https", "wss") else "http",
        root=quote(root),
    )


async def send_answer(answer: Answer, body: bytes, scope: Scope, send: Send) -> None:
    """Send it; a web socket, which has not been accepted yet, is refused."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": REASON})
        return
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def live(app: App, scope: Scope, receive: Receive, send: Send, *, life: LoopGuard) -> None:
    """The life of an application: the guard opens before its beginning, and closes after its end."""
    first = [await receive()]
    try:
        await life.find_guard()
    except TwofoldError as error:
        await send({"type": "lifespan.startup.failed", "message": str(error)})
        raise  # servers go by the message, and the client of a test by the exception

    async def receive_all() -> Message:
        return first.pop() if first else await receive()

    async def send_last(message: Message) -> None:
        if message["type"] != "lifespan.startup.complete":
            await life.close()
        await send(message)

    await app(scope, receive_all, send_last)
