"""When a call is sent again: only where that cannot do a thing twice, a few times, and within the time of the call.

Nothing waits here: the two faces send and pause (`faces.py`), and both go by the same rules.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any, Generic, TypeVar

import httpx
import msgspec

from twofold.client.call import Answer, Call, error_in
from twofold.client.errors import NoAnswer

ATTEMPTS_MAX = 3
#: Before the second attempt after a connection that was lost; before the third, twice as long.
PAUSE_S = 0.1
#: The connection never stood, so nothing was sent over it.
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError)

T = TypeVar("T")


class Server(msgspec.Struct, frozen=True):
    """Whom calls are sent to, with which headers, and how long one may take in all."""

    url: str
    headers: Mapping[str, str]
    timeout_s: float


class Again(msgspec.Struct, frozen=True):
    """The same once more, after this pause."""

    pause_s: float


class Attempts(Generic[T]):
    """The attempts at one call, all with the same Idempotency-Key. `clock` counts seconds and never goes back."""

    def __init__(self, call: Call[T], server: Server, clock: Callable[[], float] = monotonic) -> None:
        self._call = call
        self._server = server
        self._clock = clock
        self._deadline = clock() + server.timeout_s
        self._made = 0
        self._headers = {**server.headers, **call.headers}
        if call.body is not None:
            self._headers["Content-Type"] = "application/json"
        if call.takes_key:
            self._headers["Idempotency-Key"] = secrets.token_urlsafe(18)

    def next_request(self) -> dict[str, Any]:
        """What httpx is to send now."""
        self._made += 1
        return {
            "method": self._call.method,
            "url": self._server.url + self._call.path,
            "params": self._call.query or None,
            "headers": self._headers,
            "content": self._call.body,
            "timeout": max(self._deadline - self._clock(), 0.001),
        }

    def judge(self, response: httpx.Response) -> T | Again:
        """What the call gives, or that it is sent again; raises what the client raises."""
        media_type = response.headers.get("content-type", "").partition(";")[0]
        answer = Answer(response.status_code, media_type, response.content)
        if answer.status in (502, 503, 504):
            return self._judge_absence(answer)
        return self._call.read(answer)

    def lose(self, error: httpx.TransportError) -> Again:
        """The connection failed; raises `NoAnswer` when this attempt was the last."""
        why = f"no answer from {self._server.url}: {str(error) or type(error).__name__}"
        return self._repeat(was_sent=not isinstance(error, _NOT_SENT), otherwise=NoAnswer(why))

    def _judge_absence(self, answer: Answer) -> Again:
        """503 of Twofold: nothing was judged, or nobody knows. The others are of something in between."""
        try:
            error = error_in(answer)
        except NoAnswer as unknown:
            return self._repeat(was_sent=True, otherwise=unknown)
        return self._repeat(was_sent=error.code != "busy", otherwise=error, pause_s=error.retry_after_s)

    def _repeat(self, *, was_sent: bool, otherwise: Exception, pause_s: float | None = None) -> Again:
        pause_s = PAUSE_S * self._made if pause_s is None else pause_s
        is_in_time = self._clock() + pause_s < self._deadline
        if (self._call.is_repeatable or not was_sent) and self._made < ATTEMPTS_MAX and is_in_time:
            return Again(pause_s)
        raise otherwise
