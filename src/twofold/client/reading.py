"""How the answers of the API become results: an answer that was judged is one, whichever way; errors are raised."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TypeVar

import msgspec

from twofold.client.call import Answer, error_in
from twofold.client.errors import NoAnswer
from twofold.client.results import (
    Challenge,
    Confirmed,
    HostedPrompt,
    Json,
    PendingEnrollment,
    Rejected,
    Throttled,
    Verified,
)

T = TypeVar("T")

#: Codes of 422 that mean the request; any other is the reason why an answer was not right.
_REQUEST_REFUSED = ("invalid", "idempotency_mismatch")


class Judged(msgspec.Struct, frozen=True):
    """Which of two an answer is."""

    verified: bool


class Secret(msgspec.Struct, frozen=True, kw_only=True):
    """What the person's app needs."""

    secret: str
    uri: str
    qr_svg: str
    qr_png: str


class Enrollment(msgspec.Struct, frozen=True, kw_only=True):
    """A pending authenticator of codes, with its secret under the name of its factor."""

    id: str
    factor: str
    expires_at: datetime
    totp: Secret | None = None
    hotp: Secret | None = None


class Prompt(msgspec.Struct, frozen=True):
    """What is put to the person, under the name of who takes it."""

    public_key: Json


class OpenChallenge(msgspec.Struct, frozen=True):
    """A challenge, with its prompt."""

    id: str
    expires_at: datetime
    prompt: Prompt


class OpenPrompt(msgspec.Struct, frozen=True):
    """A hosted prompt, as the server knows it."""

    url: str
    expires_at: datetime


def read_as(kind: type[T]) -> Callable[[Answer], T]:
    """A reader of one type of answer."""

    def read(answer: Answer) -> T:
        check(answer)
        return answer.read(kind)

    return read


def read_nothing(answer: Answer) -> None:
    """There is nothing to say but that it was done."""
    check(answer)


def read_text(answer: Answer) -> str:
    """The body as it is."""
    check(answer)
    return answer.body.decode()


def read_verdict(answer: Answer) -> Verified | Rejected | Throttled:
    """How an answer was judged, or that it was not."""
    if answer.status == 429:
        return _throttled(answer)
    check(answer)
    return answer.read(Verified) if answer.read(Judged).verified else answer.read(Rejected)


def read_confirmed(answer: Answer) -> Confirmed | Rejected | Throttled:
    """How the answer to an enrollment was judged: what does not confirm it comes as an error of the API."""
    if answer.status == 429:
        return _throttled(answer)
    if answer.status == 422:
        error = error_in(answer)
        if error.code in _REQUEST_REFUSED:
            raise error
        return Rejected(error.code, error.retry_after_s)
    return read_as(Confirmed)(answer)


def read_enrollment(answer: Answer) -> PendingEnrollment:
    """A pending authenticator and its secret."""
    pending = read_as(Enrollment)(answer)
    secret = pending.totp or pending.hotp
    if secret is None:
        raise NoAnswer("an enrollment came without its secret")
    return PendingEnrollment(
        id=pending.id,
        factor=pending.factor,
        expires_at=pending.expires_at,
        **msgspec.structs.asdict(secret),
    )


def read_challenge(answer: Answer) -> Challenge:
    """An open question to a passkey."""
    opened = read_as(OpenChallenge)(answer)
    return Challenge(id=opened.id, expires_at=opened.expires_at, public_key=opened.prompt.public_key)


def read_prompt(code_verifier: str) -> Callable[[Answer], HostedPrompt]:
    """A reader of a hosted prompt, which adds what only this side knows."""

    def read(answer: Answer) -> HostedPrompt:
        opened = read_as(OpenPrompt)(answer)
        return HostedPrompt(url=opened.url, expires_at=opened.expires_at, code_verifier=code_verifier)

    return read


def check(answer: Answer) -> None:
    """Raise the error that an answer is, if it is one."""
    if not 200 <= answer.status < 300:
        raise error_in(answer)


def _throttled(answer: Answer) -> Throttled:
    error = error_in(answer)
    return Throttled(error.retry_after_s or 1, error.ways)
