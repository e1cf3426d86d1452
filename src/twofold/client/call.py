"""One call as data, and how a description of it becomes a method: one that waits, or one to await.

Every call is written once (`calls.py`). Here stands what both faces share; who sends, and again when, is elsewhere.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload
from urllib.parse import quote

import msgspec

from twofold.client.errors import ApiError, NoAnswer
from twofold.errors import InvalidInput

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S")


class Answer(msgspec.Struct, frozen=True):
    """What came back. A body of Twofold's is JSON, or a problem document; `media_type` tells."""

    status: int
    media_type: str
    body: bytes

    def read(self, kind: type[S]) -> S:
        """The body as that type; raises `NoAnswer` for anything else."""
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise NoAnswer(f"an answer came ({self.status}) that is not Twofold's") from None


class _Problem(msgspec.Struct, frozen=True):
    status: int
    code: str
    detail: str
    field: str | None = None
    retry_after: int | None = None
    ways: tuple[str, ...] = ()


def error_in(answer: Answer) -> ApiError:
    """The error that an answer is; raises `NoAnswer` where it is none of Twofold's."""
    if answer.media_type != "application/problem+json":
        raise NoAnswer(f"an answer came ({answer.status}) that is not Twofold's: is the address right?")
    problem = answer.read(_Problem)
    return ApiError(
        answer.status,
        problem.code,
        problem.detail,
        field=problem.field,
        retry_after_s=problem.retry_after,
        ways=problem.ways,
    )


class Call(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A request, and how its answer is read. `is_repeatable`: sent twice, it does no more than once, with the
    Idempotency-Key of its own that one which `takes_key` is sent with."""

    method: str
    path: str
    read: Callable[[Answer], T]
    body: bytes | None = None
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    takes_key: bool = False
    is_repeatable: bool = True


def path_of(template: str, **ids: str) -> str:
    """The path with ids in it. A dot is written out: "." and ".." in a path are ways, and here they are names."""
    try:
        return template.format_map({name: quote(value, safe="").replace(".", "%2E") for name, value in ids.items()})
    except UnicodeEncodeError:
        raise InvalidInput("id", "text in Unicode") from None


def body_of(members: Mapping[str, object]) -> bytes:
    """A body of what was passed: None leaves a member out."""
    try:
        return msgspec.json.encode({name: value for name, value in members.items() if value is not None})
    except UnicodeEncodeError:
        raise InvalidInput("body", "text in Unicode") from None


class Blocking(ABC):
    """The root of the face whose methods wait."""

    @abstractmethod
    def _send(self, call: Call[T]) -> T: ...


class Awaiting(ABC):
    """The root of the face whose methods are awaited."""

    @abstractmethod
    async def _send(self, call: Call[T]) -> T: ...


class described(Generic[P, T]):  # noqa: N801 - a decorator
    """Makes a method of the description of a call: it sends the call and gives what its answer says."""

    def __init__(self, describe: Callable[Concatenate[Any, P], Call[T]]) -> None:
        self._describe = describe
        self.__doc__ = describe.__doc__

    @overload
    def __get__(self, face: None, kind: type) -> Callable[Concatenate[Any, P], Call[T]]: ...
    @overload
    def __get__(self, face: Blocking, kind: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, face: Awaiting, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, face: Blocking | Awaiting | None, kind: type) -> Callable[..., Any]:
        if face is None:
            return self._describe

        @functools.wraps(self._describe.__get__(face))
        def send(*args: P.args, **kwargs: P.kwargs) -> Any:
            return face._send(self._describe(face, *args, **kwargs))

        return send
