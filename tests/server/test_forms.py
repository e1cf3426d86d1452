"""What is read as a form: percent-encoded fields, each once, in UTF-8, and no more of them than a form of ours has."""

import pytest
from starlette.requests import Request
from starlette.types import Message

from twofold.server.forms import FIELDS_MAX, read_form
from twofold.server.problems import Problem
from twofold.server.reading import BODY_BYTES_MAX

FORM = b"application/x-www-form-urlencoded"


async def read(body: bytes, *headers: tuple[bytes, bytes]) -> dict[str, str]:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    given = headers or ((b"content-type", FORM),)
    return dict(await read_form(Request({"type": "http", "method": "POST", "headers": list(given)}, receive)))


async def status_of(body: bytes, *headers: tuple[bytes, bytes]) -> int:
    with pytest.raises(Problem) as caught:
        await read(body, *headers)
    return caught.value.status


@pytest.mark.parametrize(
    ("body", "form"),
    [
        (b"", {}),
        (b"name=ada&code=", {"name": "ada", "code": ""}),
        (b"name=J%C3%B6rg+M&x=%2B%26%3D%00", {"name": "Jörg M", "x": "+&=\0"}),
        (b"a=1;b=2", {"a": "1;b=2"}),
        (b"%6Eame=x", {"name": "x"}),
    ],
)
async def test_fields_are_read_by_their_names(body: bytes, form: dict[str, str]) -> None:
    assert await read(body) == form


@pytest.mark.parametrize(
    "body",
    [
        *(b"a=1&a=1", b"a=1&%61=2", b"csrf=x&name=y&csrf=z", b"codes=111111&codes=222222"),
        *(b"name=%FF", b"name=%C0%80", b"name=%ED%A0%80", "name=ö".encode(), b"name=\xff", b"a", b"a&b=c"),
        b"&".join(b"f%d=" % number for number in range(FIELDS_MAX + 1)),
    ],
)
async def test_asvs_15_3_7_what_no_form_of_ours_sends_is_refused(body: bytes) -> None:
    assert await status_of(body) == 400


async def test_as_many_fields_as_a_form_can_have_are_read() -> None:
    assert len(await read(b"&".join(b"f%d=" % number for number in range(FIELDS_MAX)))) == FIELDS_MAX


@pytest.mark.parametrize("kind", [FORM, FORM + b"; charset=UTF-8", FORM.upper(), b" " + FORM + b" "])
async def test_a_form_may_name_its_type_in_any_spelling(kind: bytes) -> None:
    assert await read(b"a=1", (b"content-type", kind)) == {"a": "1"}


@pytest.mark.parametrize("kind", [b"text/plain", b"application/json", b"multipart/form-data", b"", FORM + b"x"])
async def test_trap_50_another_type_is_refused(kind: bytes) -> None:
    assert await status_of(b"a=1", (b"content-type", kind)) == 415


async def test_two_types_are_refused() -> None:
    assert await status_of(b"a=1", (b"content-type", FORM), (b"content-type", b"text/plain")) == 400


async def test_a_body_beyond_the_limit_is_refused() -> None:
    assert await status_of(b"a=" + b"x" * BODY_BYTES_MAX) == 413
    assert len((await read(b"a=" + b"x" * (BODY_BYTES_MAX - 2)))["a"]) == BODY_BYTES_MAX - 2
