"""What a request brings: headers, query and body, read strictly. Nothing here knows what they mean."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Generic, TypeVar
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec
from starlette.types import Receive, Scope

from twofold.errors import InvalidInput
from twofold.server.problems import Problem, explain

BODY_BYTES_MAX = 64 * 1024
BODY_S = 30
IDEMPOTENCY_KEY_MAX = 255

#: Of these, two would mean that somebody in between and we may each believe another one.
_SINGLE = (b"authorization", b"content-type", b"content-length", b"idempotency-key", b"twofold-step-up")

Headers = dict[bytes, bytes]
B = TypeVar("B", bound=msgspec.Struct)


class ClientGone(Exception):
    """The client went away before its request was complete: there is nobody to answer."""


def read_headers(scope: Scope) -> Headers:
    """The headers by lower-case name; raises `Problem` when one that counts came twice."""
    pairs: Sequence[tuple[bytes, bytes]] = scope["headers"]
    headers = dict(pairs)
    if len(headers) != len(pairs):
        names = [name for name, _ in pairs]
        for name in _SINGLE:
            if names.count(name) > 1:
                raise Problem(400, "bad_request", f"the header {name.decode()} came twice")
    return headers


def read_segments(raw: bytes) -> list[str]:
    """The parts of a path, each decoded on its own: an encoded slash stays inside its part."""
    try:
        return [(unquote_to_bytes(part) if b"%" in part else part).decode("utf-8") for part in raw.split(b"/")]
    except UnicodeDecodeError:
        raise Problem(400, "bad_request", "the path is not UTF-8") from None


def read_query(raw: bytes, known: Sequence[str]) -> dict[str, str]:
    """The query by name. Raises `Problem` for what is no query, `InvalidInput` for an unknown name."""
    try:
        pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except ValueError:
        raise Problem(400, "bad_request", "the query is not percent-encoded UTF-8") from None
    query = dict(pairs)
    if len(query) != len(pairs):
        raise Problem(400, "bad_request", "a name in the query came twice")
    for name in query:
        if name not in known:
            raise InvalidInput(name, f"only {', '.join(known)}" if known else "no query")
    return query


def read_idempotency_key(headers: Headers) -> bytes | None:
    """The key; raises `InvalidInput` unless it is 1 to 255 visible ASCII characters."""
    key = headers.get(b"idempotency-key")
    if key is not None and not (1 <= len(key) <= IDEMPOTENCY_KEY_MAX and all(0x21 <= byte <= 0x7E for byte in key)):
        raise InvalidInput("Idempotency-Key", f"1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters")
    return key


async def read_body(receive: Receive, headers: Headers) -> bytes:
    """All bytes of the body; raises `Problem` 413 beyond 64 KiB, as soon as that is known."""
    length = headers.get(b"content-length", b"0")
    if not length.isdigit():
        raise Problem(400, "bad_request", "Content-Length is not a number")
    if len(length) > 10 or int(length) > BODY_BYTES_MAX:
        raise too_large()
    body = b""
    more = True
    try:
        async with asyncio.timeout(BODY_S):
            while more and len(body) <= BODY_BYTES_MAX:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientGone
                body += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError:
        raise Problem(400, "bad_request", f"the body did not come within {BODY_S} seconds") from None
    if len(body) > BODY_BYTES_MAX:
        raise too_large()
    return body


class BodyReader(Generic[B]):
    """Reads bodies of one type. One without a required member may be left out."""

    def __init__(self, body: type[B]) -> None:
        self._body = body
        self._decode = msgspec.json.Decoder(body).decode
        self._may_be_empty = not any(field.required for field in msgspec.structs.fields(body))

    def read(self, raw: bytes, headers: Headers) -> B:
        """The body as its type says; raises `Problem`: 415, 400 for what is no sound JSON, 422 for a wrong shape."""
        if not raw and self._may_be_empty:
            return self._body()
        if headers.get(b"content-type") != b"application/json":
            _check_media_type(headers.get(b"content-type"))
        if b"content-encoding" in headers:
            raise Problem(415, "unsupported_media_type", "the body must not be compressed")
        try:
            decoded = self._decode(raw)
            # The typed decoder takes the last of two members of one name, other programs the first: so neither.
            _read_strictly(raw.decode())
        except msgspec.ValidationError as error:
            raise explain(error, self._body) from None
        except (ValueError, RecursionError):
            raise Problem(400, "bad_request", "the body is not sound JSON in UTF-8") from None
        return decoded


def too_large() -> Problem:
    """The answer to a body beyond the limit."""
    return Problem(413, "too_large", f"a body has at most {BODY_BYTES_MAX} bytes")


def _check_media_type(given: bytes | None) -> None:
    kind, _, parameters = (given or b"").lower().partition(b";")
    charset = parameters.strip().removeprefix(b"charset=").strip(b'"')
    if kind.strip() != b"application/json" or charset not in (b"", b"utf-8"):
        raise Problem(415, "unsupported_media_type", "the body must be application/json in UTF-8")


def _refuse_duplicates(pairs: list[tuple[str, object]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise Problem(400, "bad_request", "a member came twice")


_read_strictly = json.JSONDecoder(object_pairs_hook=_refuse_duplicates).decode
