"""What every request meets first and last: the Host that it names, and the headers of its answer."""

import re
from typing import Any

import httpx
import pytest
from tests.server.conftest import URL, OpenServer, Server, assert_problem

from twofold.server.security_headers import SecurityHeaders

ROUTES = [
    ("GET", "/", 303),
    ("GET", "/sign-in", 200),
    ("GET", "/setup", 403),
    ("GET", "/nothing", 404),
    ("POST", "/sign-in", 415),
    ("PUT", "/sign-in", 405),
    ("GET", "/security", 302),
    ("POST", "/security/password", 401),
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


PAGE_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "object-src": "'none'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
POLICY_OF_THE_REST = dict.fromkeys(("default-src", "form-action", "base-uri", "frame-ancestors"), "'none'")


def assert_security_headers(answer: httpx.Response) -> None:
    """ASVS 3.4.1 to 3.4.8 over plain http, where HSTS has no place."""
    headers = answer.headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-resource-policy"] == "same-origin"
    assert headers["cache-control"] == "no-store"
    is_page = headers.get("content-type", "").startswith("text/html")
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy == (PAGE_POLICY if is_page else POLICY_OF_THE_REST)
    # With "no-referrer" a browser sends the forms of our own pages as if they came from nowhere.
    assert headers["referrer-policy"] == ("same-origin" if is_page else "no-referrer")
    features = dict(part.split("=") for part in headers["permissions-policy"].split(", "))
    assert {name for name, who in features.items() if who == "(self)"} == {
        "publickey-credentials-get",
        "publickey-credentials-create",
        "clipboard-write",
    }
    assert {"camera", "geolocation", "microphone", "payment", "usb"} <= features.keys()
    assert set(features.values()) == {"(self)", "()"}
    for name in ("server", "strict-transport-security", "etag", "last-modified"):
        assert name not in headers
    assert is_page or "set-cookie" not in headers
    assert not any(name.startswith("access-control-") for name in headers)
    assert all(len(headers.get_list(name)) == 1 for name in headers if name != "set-cookie")


@pytest.mark.parametrize(("method", "path", "status"), ROUTES)
async def test_asvs_3_4_every_answer_carries_the_security_headers(
    server: Server, method: str, path: str, status: int
) -> None:
    answer = await server.call(method, path, headers={"origin": "https://evil.example"})
    assert answer.status_code == status
    assert_security_headers(answer)


async def test_asvs_3_4_answers_that_are_refusals_carry_them_too(server: Server) -> None:
    big = {"factor": "totp", "secret": "A" * 100_000, "confirmed": True}
    refusals = {
        400: await ask(server, "/sign-in", "a b"),
        413: await server.post("accounts/alice/authenticators", big),
        421: await ask(server, "/sign-in", "evil.example"),
        422: await server.call("PUT", "accounts/alice", {"unknown": 1}),
    }
    for status, answer in refusals.items():
        assert answer.status_code == status
        assert_security_headers(answer)
    assert_security_headers(await ask(server, "/sign-in", "127.0.0.1:8000"))


async def test_asvs_3_4_what_fails_inside_carries_them_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("inside")

    for name in ("get_setting", "check"):
        monkeypatch.setattr(server.deployment.store, name, fail)
    monkeypatch.setattr(server.deployment.applications, "authenticate", fail)
    # What is raised again behind the answer is for the log of the process.
    transport = httpx.ASGITransport(server.app, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {server.key}"}
    async with httpx.AsyncClient(transport=transport, base_url=URL, headers=headers) as client:
        for path in ("/setup?token=x", "/health/ready", "/api/v1/accounts"):
            answer = await client.get(path)
            assert answer.status_code in (500, 503)
            assert "inside" not in answer.text
            assert_security_headers(answer)


def test_an_answer_that_says_how_long_it_may_be_kept_is_believed() -> None:
    headers = SecurityHeaders("http://localhost:8000")
    own = [(b"content-type", b"text/css"), (b"cache-control", b"public, max-age=31536000, immutable")]
    completed = headers.complete(own)
    assert completed[:2] == own
    assert [value for name, value in completed if name == b"cache-control"] == [own[1][1]]
    assert (b"cache-control", b"no-store") in headers.complete(own[:1])


async def test_asvs_3_4_1_over_https_browsers_are_told_to_stay_there(open_server: OpenServer) -> None:
    server = await open_server(public_url="https://login.example.com")
    for path in ("/sign-in", "/nothing", "/health/live", "/api/v1/nothing"):
        answer = await server.get(path, base_url="https://login.example.com")
        assert answer.headers["strict-transport-security"] == "max-age=63072000", "for neighbors decides who runs them"
    # A browser would keep to it for every port of this machine, and for years.
    server = await open_server(public_url="https://localhost:8000")
    assert "strict-transport-security" not in (await server.get("/sign-in")).headers


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
    for path in ("/api/v1/accounts", "/openapi.json", "/.well-known/jwks.json"):
        problem = assert_problem(await ask(server, path, host), 421, "bad_request")
        assert "http://localhost:8000" in problem["detail"]
        assert "evil" not in problem["detail"]
    for path in ("/sign-in", "/setup", "/"):
        page = await ask(server, path, host)
        assert (page.status_code, page.headers["content-type"]) == (421, "text/html; charset=utf-8")
        # In its words, and in no address: what somebody sends as Host leads nowhere.
        assert f"<bdi>{host}</bdi>" in page.text
        assert re.findall(r'href="(http[^"]*)"', page.text) == ["http://localhost:8000"]
        assert f"<bdi>TWOFOLD_PUBLIC_URL=http://{host}</bdi>" in page.text
        # Which would lead here again.
        assert "/sign-in/help" not in page.text
    assert "/sign-in/help" in (await ask(server, "/sign-in", "localhost:8000")).text


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


async def test_a_page_loads_scripts_and_styles_of_our_own_and_nothing_else(server: Server) -> None:
    for path in ("/sign-in", "/setup", "/nothing"):
        answer = await server.get(path)
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.text.startswith("<!doctype html>")
        assert 'lang="en"' in answer.text
        loaded = re.findall(r'<(?:link|script|img|iframe|source)[^>]* (?:href|src)="([^"]*)"', answer.text)
        assert loaded
        for address in loaded:
            assert re.fullmatch(r"/static/[a-z-]+\.[a-z]+\?v=[0-9a-f]{12}", address)
            assert (await server.get(address)).status_code == 200
        assert "http:" not in answer.text
        assert "https:" not in answer.text
        assert " style=" not in answer.text
    assert (await server.call("HEAD", "/sign-in")).content == b""
