"""What every request meets first and last: the Host that it names, and the headers of its answer."""

from typing import Any

import httpx
import pytest
from tests.server.conftest import OpenServer, Server, assert_problem

ROUTES = [
    ("GET", "/", 303),
    ("GET", "/sign-in", 200),
    ("GET", "/setup", 403),
    ("GET", "/nothing", 404),
    ("POST", "/sign-in", 405),
    ("GET", "/health/live", 200),
    ("GET", "/health/ready", 200),
    ("GET", "/metrics", 200),
    ("GET", "/.well-known/jwks.json", 200),
    ("GET", "/openapi.json", 200),
    ("GET", "/api/v1/openapi.json", 200),
    ("GET", "/api/v1/accounts", 401),
    ("GET", "/api/v1/nothing", 404),
    ("GET", "/api/v2/accounts", 404),
    ("GET", "/api/", 404),
    ("GET", "/api/x/api/v1/accounts", 404),
    ("PATCH", "/api/v1/accounts", 405),
    ("GET", "accounts", 200),
    ("GET", "accounts/nobody", 404),
    ("PUT", "accounts/alice", 201),
]


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
async def test_every_answer_carries_the_security_headers(server: Server, method: str, path: str, status: int) -> None:
    answer = await server.call(method, path)
    assert answer.status_code == status
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "server" not in headers
    assert "strict-transport-security" not in headers
    assert "access-control-allow-origin" not in headers
    assert "set-cookie" not in headers
    for name in ("cache-control", "content-type", "content-security-policy"):
        assert len(headers.get_list(name)) <= 1


async def test_over_https_browsers_are_told_to_stay_there(open_server: OpenServer) -> None:
    server = await open_server(public_url="https://login.example.com")
    answer = await server.get("/sign-in", base_url="https://login.example.com")
    assert answer.status_code == 200
    assert "max-age=63072000" in answer.headers["strict-transport-security"]


async def ask(server: Server, path: str, host: str | None, **more: Any) -> httpx.Response:
    headers: Any = {"authorization": f"Bearer {server.key}"}
    if host is not None:
        headers["host"] = host.encode("latin-1")
    return await server.get(path, headers=headers, **more)


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST:8000"])
async def test_the_loopback_names_are_one_host_for_the_api(server: Server, host: str) -> None:
    for path in ("/api/v1/accounts", "/openapi.json", "/.well-known/jwks.json", "/health/live"):
        assert (await ask(server, path, host)).status_code == 200


@pytest.mark.parametrize("public_url", ["http://localhost:8000", "http://127.0.0.1:8000", "http://[::1]:8000"])
async def test_pages_opened_under_another_loopback_name_go_to_the_public_one(
    open_server: OpenServer, public_url: str
) -> None:
    server = await open_server(public_url=public_url)
    for host in ("localhost:8000", "127.0.0.1:8000", "[::1]:8000"):
        answer = await ask(server, "/sign-in?next=%2Fa", host)
        if public_url.endswith(host):
            assert answer.status_code == 200
        else:
            assert answer.status_code == 307
            assert answer.headers["location"] == f"{public_url}/sign-in?next=%2Fa"


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost", "localhost:8001", "localhost.evil.example:8000", "127.0.0.1.:8000", "[::2]:8000"],
)
async def test_a_foreign_host_is_told_that_it_is_elsewhere(server: Server, host: str) -> None:
    for path in ("/api/v1/accounts", "/sign-in", "/openapi.json", "/.well-known/jwks.json", "/setup", "/"):
        problem = assert_problem(await ask(server, path, host), 421, "bad_request")
        assert "http://localhost:8000" in problem["detail"]
        assert "evil" not in problem["detail"]


@pytest.mark.parametrize("host", ["evil.example", "10.0.0.7:8000", "", "a b", "localhost:8001"])
async def test_probes_are_answered_under_any_name(server: Server, host: str) -> None:
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert (await ask(server, path, host)).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "a b",
        "a/b",
        "localhost:8000/",
        "user@localhost:8000",
        "localhost:",
        "localhost:x",
        "[::1",
        "h\u00f6st",
        "x" * 300,
    ],
)
async def test_a_malformed_host_is_a_bad_request(server: Server, host: str) -> None:
    assert_problem(await ask(server, "/sign-in", host), 400, "bad_request")


async def test_two_hosts_are_a_bad_request(server: Server) -> None:
    headers: Any = [(b"host", b"localhost:8000"), (b"host", b"evil.example")]
    assert_problem(await server.get("/sign-in", headers=headers), 400, "bad_request")


@pytest.mark.parametrize(
    ("public_url", "own", "foreign"),
    [
        (
            "https://login.example.com",
            ["login.example.com", "login.example.com:443", "LOGIN.example.com"],
            ["localhost", "login.example.com:80", "example.com"],
        ),
        ("https://login.example.com:8443", ["login.example.com:8443"], ["login.example.com", "localhost:8443"]),
        ("http://10.0.0.7", ["10.0.0.7", "10.0.0.7:80"], ["10.0.0.8", "localhost"]),
        ("http://localhost", ["localhost", "localhost:80", "127.0.0.1", "[::1]:80"], ["localhost:8000"]),
    ],
)
async def test_elsewhere_only_the_public_name_counts(
    open_server: OpenServer, public_url: str, own: list[str], foreign: list[str]
) -> None:
    server = await open_server(public_url=public_url)
    for host in own:
        assert (await ask(server, "/api/v1/accounts", host)).status_code == 200
    for host in foreign:
        assert (await ask(server, "/api/v1/accounts", host)).status_code == 421


async def test_forwarding_headers_change_nothing(server: Server) -> None:
    headers = {"x-forwarded-host": "evil.example", "x-forwarded-proto": "https", "forwarded": "host=evil.example"}
    answer = await server.get("/", headers=headers)
    assert answer.headers["location"] == "/sign-in"


async def test_no_page_loads_anything_from_anywhere(server: Server) -> None:
    for path in ("/sign-in", "/setup", "/nothing"):
        page = (await server.get(path)).text
        assert page.startswith("<!doctype html>")
        assert 'lang="en"' in page
        assert "http" not in page
        assert "<script" not in page
        assert "style" not in page


async def test_pages_tell_the_commands_that_do_the_same(server: Server) -> None:
    page = await server.get("/sign-in")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "twofold account verify" in page.text
    assert (await server.call("HEAD", "/sign-in")).content == b""
