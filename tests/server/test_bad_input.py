"""Whatever is sent, the answer is a refusal in order, never a failure; and a right code still works afterwards."""

import json
from typing import Any

import httpx
import pytest
from tests.server.conftest import Server, assert_problem

CODE = b"@@CODE@@"

MALFORMED = {
    "text": b"code",
    "half": b'{"code": "123456"',
    "two values": b'{"code": "123456"} {}',
    "trailing comma": b'{"code": "123456",}',
    "single quotes": b"{'code': '123456'}",
    "comment": b'{"code": "123456" /* x */}',
    "not a number": b'{"code": NaN}',
    "byte order mark": b'\xef\xbb\xbf{"code": "123456"}',
    "utf-16": '{"code": "123456"}'.encode("utf-16"),
    "latin-1": b'{"code": "123456", "purpose": "f\xfcr"}',
    "encoded surrogate": b'{"code": "123456", "purpose": "\xed\xa0\x80"}',
    "lone surrogate": b'{"code": "123456", "purpose": "\\ud800"}',
    "lone surrogate in the code": b'{"code": "\\udfff"}',
    "overlong": b'{"code": "\xc0\xb1"}',
    "control character": b'{"code": "123\x01456"}',
    "duplicate member": b'{"code": "000000", "code": "@@CODE@@"}',
    "duplicate member, spelled otherwise": b'{"code": "000000", "c\\u006fde": "@@CODE@@"}',
    "duplicate member inside": b'{"code": "@@CODE@@", "context": {"ip": "10.0.0.1", "ip": "10.0.0.2"}}',
}
MISSHAPEN = {
    "nothing": b"",
    "an array": b"[]",
    "null": b"null",
    "a number": b"1",
    "a string": b'"123456"',
    "no answer": b"{}",
    "two answers": b'{"code": "@@CODE@@", "codes": ["@@CODE@@", "000000", "000000"]}',
    "code as number": b'{"code": 123456}',
    "code as null": b'{"code": null}',
    "code as boolean": b'{"code": true}',
    "code as array": b'{"code": ["@@CODE@@"]}',
    "code as object": b'{"code": {"$ne": ""}}',
    "codes as string": b'{"codes": "@@CODE@@"}',
    "no codes": b'{"codes": []}',
    "one code": b'{"codes": ["@@CODE@@"]}',
    "four codes": b'{"codes": ["1", "2", "3", "4"]}',
    "a code that is none": b'{"codes": ["1", 2, "3"]}',
    "unknown member": b'{"code": "@@CODE@@", "time": 1767225600}',
    "unknown member with NUL": b'{"code": "@@CODE@@", "\\u0000": 1}',
    "unknown member inside": b'{"code": "@@CODE@@", "context": {"now": 1}}',
    "unknown factor": b'{"code": "@@CODE@@", "factor": "sms"}',
    "factor as number": b'{"code": "@@CODE@@", "factor": 1}',
    "empty purpose": b'{"code": "@@CODE@@", "purpose": ""}',
    "purpose with NUL": b'{"code": "@@CODE@@", "purpose": "a\\u0000b"}',
    "purpose with a line break": b'{"code": "@@CODE@@", "purpose": "a\\nb"}',
    "long purpose": b'{"code": "@@CODE@@", "purpose": "' + b"x" * 129 + b'"}',
    "long binding": b'{"code": "@@CODE@@", "binding": "' + b"x" * 129 + b'"}',
    "context as string": b'{"code": "@@CODE@@", "context": "10.0.0.1"}',
    "context as null": b'{"code": "@@CODE@@", "context": null}',
    "depth in the code": b'{"code": ' + b"[" * 30_000 + b"]" * 30_000 + b"}",
    "depth": b"[" * 65_000,
    "depth of objects": b'{"context": ' * 5_000 + b"{}" + b"}" * 5_000,
    "a number too long": b'{"code": ' + b"9" * 60_000 + b"}",
}
# A string is an answer, whatever is in it, and a wrong one is judged and counted once.
WRONG = {
    "empty": "",
    "letters": "abcdef",
    "five digits": "12345",
    "nine digits": "123456789",
    "5,000 digits": "1" * 5_000,
    "full-width digits": "\uff11\uff12\uff13\uff14\uff15\uff16",
    "Arabic digits": "١٢٣٤٥٦",
    "superscript digits": "¹²³⁴⁵⁶",
    "zero-width space": "123\u200b456",
    "sign": "+12345",
    "underscore": "12_456",
    "decimal point": "12345.",
    "exponent": "1e5000",
    "NUL": "12345\u0000",
    "right-to-left mark": "\u200f12345",
    "SQL": "' OR 1=1 --",
    "twenty letters": "A" * 20,
    "twenty of another script": "\u0410" * 20,
}


async def send(server: Server, raw: bytes, **headers: str) -> httpx.Response:
    raw = raw.replace(CODE, server.code().encode())
    more = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await server.call("POST", "accounts/alice/verify", headers=more, content=raw)


async def assert_a_right_code_works(server: Server) -> None:
    answer = await send(server, b'{"code": "@@CODE@@", "purpose": "sign-in"}')
    assert answer.json()["verified"] is True


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
async def test_what_is_no_sound_json_is_a_bad_request(server: Server, raw: bytes) -> None:
    await server.add()
    assert_problem(await send(server, raw), 400, "bad_request")
    await assert_a_right_code_works(server)


@pytest.mark.parametrize("raw", MISSHAPEN.values(), ids=MISSHAPEN)
async def test_what_has_another_shape_is_invalid_and_named(server: Server, raw: bytes) -> None:
    await server.add()
    answer = await send(server, raw)
    assert answer.status_code in (400, 422)
    problem = assert_problem(answer, answer.status_code, "invalid" if answer.status_code == 422 else "bad_request")
    assert answer.status_code == 400 or problem["field"]
    await assert_a_right_code_works(server)


@pytest.mark.parametrize("code", WRONG.values(), ids=WRONG)
async def test_a_string_that_is_no_code_is_a_wrong_answer_counted_once(server: Server, code: str) -> None:
    await server.add()
    body = json.dumps({"code": code}).encode().replace(CODE, server.code().encode())
    answer = await send(server, body)
    assert answer.status_code == 200
    assert answer.json() == {"verified": False, "reason": "wrong_code"}
    events = await server.deployment.verifier.accounts.events("alice")
    assert [event.kind for event in events].count("code.refused") == 1
    await assert_a_right_code_works(server)


@pytest.mark.parametrize(
    "spelled", ["{0[0]}{0[1]}{0[2]} {0[3]}{0[4]}{0[5]}", "{0}\n", " {0}", "{0[0]}-{0[1]}-{0[2]}{0[3]}{0[4]}{0[5]}"]
)
async def test_spaces_and_hyphens_do_not_matter(server: Server, spelled: str) -> None:
    await server.add()
    answer = await server.post("accounts/alice/verify", {"code": spelled.format(server.code())})
    assert answer.json()["verified"] is True


async def test_leading_zeros_are_part_of_a_code(server: Server) -> None:
    await server.add()
    while not server.code().startswith("0"):
        server.clock.pass_s(30)
    without = await server.post("accounts/alice/verify", {"code": server.code().lstrip("0")})
    assert without.json() == {"verified": False, "reason": "wrong_code"}
    assert (await server.post("accounts/alice/verify", {"code": server.code()})).json()["verified"] is True


@pytest.mark.parametrize("more", [0, 1, 100_000])
async def test_a_body_over_64_kib_is_too_large(server: Server, more: int) -> None:
    await server.add()
    raw = b'{"code": "@@CODE@@"'.replace(CODE, server.code().encode())
    raw += b" " * (64 * 1024 - len(raw) - 1 + more) + b"}"
    answer = await send(server, raw)
    if more:
        assert_problem(answer, 413, "too_large")
        await assert_a_right_code_works(server)
    else:
        assert answer.json()["verified"] is True


async def test_a_body_without_a_length_is_measured_as_it_comes(server: Server) -> None:
    await server.add()

    async def stream() -> Any:
        for _ in range(70):
            yield b" " * 1024

    headers = {"content-type": "application/json"}
    answer = await server.call("POST", "accounts/alice/verify", headers=headers, content=stream())
    assert_problem(answer, 413, "too_large")
    await assert_a_right_code_works(server)


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonp",
        "application/json-patch+json",
        "multipart/form-data; boundary=x",
    ],
)
async def test_another_media_type_is_unsupported(server: Server, media_type: str) -> None:
    await server.add()
    answer = await send(server, b'{"code": "@@CODE@@"}', content_type=media_type)
    assert_problem(answer, 415, "unsupported_media_type")
    await assert_a_right_code_works(server)


@pytest.mark.parametrize("media_type", ["application/json;charset=utf-8", 'Application/JSON; charset="UTF-8"'])
async def test_json_is_json_however_it_is_spelled(server: Server, media_type: str) -> None:
    await server.add()
    answer = await send(server, b'{"code": "@@CODE@@"}', content_type=media_type)
    assert answer.json()["verified"] is True


async def test_a_compressed_body_is_unsupported(server: Server) -> None:
    await server.add()
    answer = await send(server, b'{"code": "@@CODE@@"}', content_encoding="gzip")
    assert_problem(answer, 415, "unsupported_media_type")
    await assert_a_right_code_works(server)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "9" * 30])
async def test_a_length_that_is_none_is_refused(server: Server, length: str) -> None:
    await server.add()
    answer = await send(server, b'{"code": "@@CODE@@"}', content_length=length)
    assert answer.status_code in (400, 413)
    await assert_a_right_code_works(server)


async def test_time_that_the_client_sends_has_no_effect(server: Server) -> None:
    await server.add()
    later = server.code(steps=10)
    headers = {"date": "Thu, 01 Jan 2026 00:05:00 GMT"}
    answer = await server.call("POST", "accounts/alice/verify", {"code": later}, headers=headers)
    assert answer.json()["verified"] is False


async def test_a_client_that_goes_away_is_not_answered(server: Server) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send_nothing(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost:8000"), (b"authorization", f"Bearer {server.key}".encode())]
    path = "/api/v1/accounts/alice/verify"
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": headers,
    }
    await server.app(scope, receive, send_nothing)
    assert sent == []


async def test_what_nobody_foresaw_is_unavailable_and_told_to_the_log_alone(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await server.add()

    async def fail(*_: Any, code: str, **__: Any) -> None:
        raise ZeroDivisionError(code)

    with monkeypatch.context() as patched:
        patched.setattr(server.deployment.verifier, "verify", fail)
        answer = await send(server, b'{"code": "@@CODE@@"}')
    assert_problem(answer, 503, "unavailable")
    assert server.code() not in answer.text
    assert "ZeroDivisionError" not in answer.text
    assert "ZeroDivisionError" in caplog.text
    assert server.code() not in caplog.text
    await assert_a_right_code_works(server)
