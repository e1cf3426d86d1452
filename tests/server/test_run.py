"""The real thing: a process that is started, asked over a socket, and ended by a signal."""

import asyncio
import json
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from tests.certificates import Files, make_certificate

from twofold.bootstrap import open_deployment
from twofold.config import Settings
from twofold.errors import ConfigurationError
from twofold.server.protocol import HEAD_BYTES_MAX
from twofold.server.run import SHUTDOWN_S, serve
from twofold.setup_link import noted_url

PROGRAM = """
import os, sys
from twofold.config import load_settings
from twofold.server.run import serve
settings, _ = load_settings(os.environ, data_dir=sys.argv[1])
serve(settings, port=0)
"""
PATIENCE_S = 30


class Running:
    """A server process and what it said first."""

    def __init__(self, process: asyncio.subprocess.Process, data_dir: Path, url: str, link: str) -> None:
        self.process = process
        self.data_dir = data_dir
        self.url = url
        self.link = link

    async def end(self) -> tuple[int, str]:
        """Ask it to end; its exit status and what it logged."""
        self.process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        return self.process.returncode or 0, errors.decode()

    async def new_key(self) -> str:
        """A key made beside the running server, as the command line does it."""
        deployment = await open_deployment(Settings(data_dir=self.data_dir))
        _, key = await deployment.applications.create("test", scopes=("verify", "enroll", "admin"))
        await deployment.close()
        return key


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Give a function that starts a server over the test's data folder, with more environment where wanted."""
    processes: list[asyncio.subprocess.Process] = []

    async def start_one(**environment: str) -> Running:
        data_dir = tmp_path / "data"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(data_dir)),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout is not None
        said = [(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode().strip() for _ in range(2)]
        scheme = "https" if "TWOFOLD_TLS_CERT" in environment else "http"
        assert said[0].startswith(f"listening on {scheme}://localhost:"), said
        return Running(process, data_dir, said[0].removeprefix("listening on "), said[1].rpartition(" ")[2])

    yield start_one
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def ask(url: str, method: str, path: str, key: str, body: Any = None) -> Any:
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=f"{url}/api/v1/", trust_env=False, headers=headers) as client:
        return await client.request(method, path, json=body)


async def enroll(running: Running, key: str) -> pyotp.TOTP:
    await ask(running.url, "PUT", "accounts/alice", key, {})
    secret = pyotp.random_base32()
    body = {"factor": "totp", "secret": secret, "confirmed": True}
    assert (await ask(running.url, "POST", "accounts/alice/authenticators", key, body)).status_code == 201
    return pyotp.TOTP(secret)


async def test_a_server_says_where_it_listens_and_ends_when_asked(start: Start) -> None:
    running = await start()
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(f"{running.url}/health/ready")).json() == {"status": "ready"}
        page = await client.get(running.link)
        assert (page.status_code, "server" in page.headers) == (200, False)
        assert running.link.startswith(f"{running.url}/setup?token=")
    assert await running.end() == (0, "")


async def test_the_port_that_was_picked_is_part_of_receipts_and_noted_with_the_data(start: Start) -> None:
    running = await start()
    key = await running.new_key()
    phone = await enroll(running, key)
    body = {"code": phone.now(), "purpose": "manage"}
    receipt = (await ask(running.url, "POST", "accounts/alice/verify", key, body)).json()["receipt"]
    redeemed = await ask(running.url, "POST", "receipts/redeem", key, {"receipt": receipt, "purpose": "manage"})
    assert redeemed.status_code == 200
    await running.end()
    deployment = await open_deployment(Settings(data_dir=running.data_dir))
    assert await noted_url(deployment.store, deployment.keyring) == running.url
    await deployment.store.put_setting("listening_url", "https://evil.example")
    assert await noted_url(deployment.store, deployment.keyring) is None
    await deployment.close()


async def test_a_second_run_serves_the_same_data_and_a_new_link(start: Start) -> None:
    first = await start()
    key = await first.new_key()
    phone = await enroll(first, key)
    code = phone.now()
    assert (await ask(first.url, "POST", "accounts/alice/verify", key, {"code": code})).json()["verified"] is True
    await first.end()
    second = await start()
    answer = await ask(second.url, "POST", "accounts/alice/verify", key, {"code": code})
    assert answer.json()["reason"] == "code_already_used"
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(first.link.replace(first.url, second.url))).status_code == 403
        assert (await client.get(second.link)).status_code == 200


async def test_a_request_under_way_is_finished_before_the_end(start: Start) -> None:
    running = await start()
    key = await running.new_key()
    phone = await enroll(running, key)
    host = running.url.removeprefix("http://")
    body = json.dumps({"code": phone.now()}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(host.partition(":")[2]))
    head = f"POST /api/v1/accounts/alice/verify HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {key}\r\n"
    writer.write(f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body[:5])
    await writer.drain()
    # Answered on another connection after the first half was sent: the server has that half by now.
    assert (await ask(running.url, "GET", "accounts/alice", key)).status_code == 200
    running.process.send_signal(signal.SIGTERM)
    assert running.process.stdout is not None
    writer.write(body[5:])
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    assert b"200 OK" in answer
    assert b'"verified":true' in answer
    writer.close()
    assert await asyncio.wait_for(running.process.wait(), PATIENCE_S) == 0


async def test_the_test_clock_is_the_only_clock(start: Start, tmp_path: Path) -> None:
    clock = tmp_path / "clock"
    clock.write_text("1000000000")
    running = await start(TWOFOLD_TEST_CLOCK=str(clock))
    key = await running.new_key()
    phone = await enroll(running, key)
    for now in (1_000_000_000, 1_000_000_030):
        wrong = {"code": phone.at(now + 600)}
        right = {"code": phone.at(now)}
        clock.write_text(str(now))
        assert (await ask(running.url, "POST", "accounts/alice/verify", key, wrong)).json()["verified"] is False
        assert (await ask(running.url, "POST", "accounts/alice/verify", key, right)).json()["verified"] is True


async def test_a_key_revoked_beside_a_running_server_is_refused_within_a_second(start: Start) -> None:
    running = await start()
    key = await running.new_key()
    assert (await ask(running.url, "GET", "accounts", key)).status_code == 200
    deployment = await open_deployment(Settings(data_dir=running.data_dir))
    assert await deployment.applications.revoke(key.split("_")[1])
    await deployment.close()
    revoked_at = asyncio.get_running_loop().time()
    while (await ask(running.url, "GET", "accounts", key)).status_code == 200:
        assert asyncio.get_running_loop().time() - revoked_at < 1
    assert (await ask(running.url, "GET", "accounts", key)).status_code == 401


async def test_the_log_is_json_when_asked_and_holds_no_code_and_no_key(start: Start) -> None:
    running = await start(TWOFOLD_LOG_FORMAT="json")
    key = await running.new_key()
    phone = await enroll(running, key)
    code = phone.now()
    await ask(running.url, "POST", "accounts/alice/verify", key, {"code": code})
    # The notice of the import is delivered within a second or two; its line is the first of the log.
    assert running.process.stderr is not None
    first = (await asyncio.wait_for(running.process.stderr.readline(), PATIENCE_S)).decode()
    assert "authenticator.added" in json.loads(first)["message"]
    status, rest = await running.end()
    errors = first + rest
    assert status == 0
    for line in errors.splitlines():
        assert {"time", "level", "logger", "message"} <= set(json.loads(line))
    assert code not in errors
    assert phone.secret not in errors
    assert key not in errors


def test_a_port_that_is_taken_is_told_in_one_line_before_anything_is_made(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"^port {port} is taken on 127\.0\.0\.1: .*--port$"):
            serve(Settings(data_dir=tmp_path / "data"), port=port)
    assert not (tmp_path / "data").exists()


def test_more_than_one_worker_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^--workers 2: SQLite"):
        serve(Settings(data_dir=tmp_path / "data"), port=0, workers=2)


@pytest.mark.parametrize("host", ["192.0.2.1"])
def test_an_address_that_is_not_of_this_machine_is_told_in_one_line(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        serve(Settings(data_dir=tmp_path / "data"), host=host, port=0)
    assert host in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_public_url_that_cannot_be_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="PUBLIC_URL"):
        serve(Settings(data_dir=tmp_path / "data", public_url="http://example.com"), port=0)
    assert not (tmp_path / "data").exists()


async def test_a_second_server_on_the_same_data_is_refused_and_harms_nothing(start: Start) -> None:
    running = await start()
    second = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "twofold", "serve", "--port", "0", "--data-dir", str(running.data_dir)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, errors = await asyncio.wait_for(second.communicate(), PATIENCE_S)
    assert (second.returncode, told) == (1, b"")
    assert b"another server serves" in errors
    assert errors.count(b"\n") == 1
    async with httpx.AsyncClient() as client:
        assert (await client.get(running.link)).status_code == 200, "the first one's link is still good"
    running.process.kill()
    await running.process.wait()
    await start()


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return make_certificate(tmp_path, "localhost", "127.0.0.1")


async def start_with(start: Start, files: Files) -> Running:
    return await start(TWOFOLD_TLS_CERT=str(files.cert), TWOFOLD_TLS_KEY=str(files.key))


async def connect(running: Running, trusting: ssl.SSLContext) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    port = int(running.url.rpartition(":")[2])
    return await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")


async def test_with_a_certificate_it_speaks_https_and_says_so(start: Start, files: Files) -> None:
    running = await start_with(start, files)
    assert running.url.startswith("https://localhost:")
    assert running.link.startswith(f"{running.url}/setup?token=")
    async with httpx.AsyncClient(trust_env=False, verify=files.trusting()) as client:
        assert (await client.get(running.link)).status_code == 200
        by_address = await client.get(f"https://127.0.0.1:{running.url.rpartition(':')[2]}/health/live")
        assert by_address.json() == {"status": "live"}
    async with httpx.AsyncClient(trust_env=False) as stranger:
        with pytest.raises(httpx.ConnectError):
            await stranger.get(running.link)
    await running.end()
    deployment = await open_deployment(Settings(data_dir=running.data_dir))
    assert await noted_url(deployment.store, deployment.keyring) == running.url
    await deployment.close()


async def test_what_is_no_tls_gets_no_answer_and_leaves_no_trace_in_the_log(start: Start, files: Files) -> None:
    running = await start_with(start, files)
    port = int(running.url.rpartition(":")[2])
    for said in (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(600), b"\xff" * 100):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        assert b"HTTP" not in await asyncio.wait_for(_read_all(reader), PATIENCE_S)
        writer.close()
    async with httpx.AsyncClient(trust_env=False, verify=files.trusting()) as client:
        assert (await client.get(f"{running.url}/health/live")).status_code == 200
    assert await running.end() == (0, "")


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_heads_are_bounded_under_tls_and_bodies_arrive_whole(start: Start, files: Files) -> None:
    running = await start_with(start, files)
    reader, writer = await connect(running, files.trusting())
    body = b" " * 60_000 + b"{}"
    host = running.url.removeprefix("https://").encode()
    head = b"PUT /api/v1/accounts/alice HTTP/1.1\r\nhost: %s\r\ncontent-type: application/json\r\n" % host
    key = (await running.new_key()).encode()
    writer.write(b"%sauthorization: Bearer %s\r\ncontent-length: %d\r\n\r\n%s" % (head, key, len(body), body))
    assert b" 201 " in await asyncio.wait_for(reader.readline(), PATIENCE_S)
    writer.close()
    reader, writer = await connect(running, files.trusting())
    writer.write(head + b"x: " + b"a" * 2 * HEAD_BYTES_MAX)
    assert await asyncio.wait_for(_read_all(reader), PATIENCE_S) == b""
    writer.close()
    assert await running.end() == (0, "")


async def test_a_new_certificate_is_served_while_the_server_runs(start: Start, files: Files) -> None:
    running = await start_with(start, files)
    old = files.trusting()
    _, kept = await connect(running, old)
    new = make_certificate(files.cert.parent, "localhost", is_rsa=True).trusting()
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while True:
        try:
            _, writer = await connect(running, new)
            break
        except ssl.SSLCertVerificationError:
            assert asyncio.get_running_loop().time() < deadline
    with pytest.raises(ssl.SSLCertVerificationError):
        await connect(running, old)
    assert not kept.is_closing(), "who is connected stays so"
    for one in (kept, writer):
        one.close()
    status, errors = await running.end()
    assert (status, errors.count("\n")) == (0, 1)
    assert f"the certificate was read again from {files.cert}" in errors


async def test_an_idle_connection_under_tls_does_not_hold_up_the_end(start: Start, files: Files) -> None:
    running = await start_with(start, files)
    raw = socket.create_connection(("127.0.0.1", int(running.url.rpartition(":")[2])))
    with files.trusting().wrap_socket(raw, server_hostname="localhost") as idle:
        idle.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert idle.recv(15) == b"HTTP/1.1 200 OK"
        # It reads nothing more, so it does not answer the farewell.
        asked_at = asyncio.get_running_loop().time()
        assert await running.end() == (0, "")
        assert asyncio.get_running_loop().time() - asked_at < SHUTDOWN_S / 2


def test_a_certificate_that_cannot_be_served_is_told_in_one_line_before_anything_is_made(
    tmp_path: Path, files: Files
) -> None:
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other", "localhost")
    for cert, key in ((tmp_path / "gone.pem", files.key), (files.cert, other.key), (files.cert, None)):
        with pytest.raises(ConfigurationError, match=r"^TLS_(CERT|KEY) /") as refused:
            serve(Settings(data_dir=tmp_path / "data", tls_cert=cert, tls_key=key), port=0)
        assert "\n" not in str(refused.value)
    assert not (tmp_path / "data").exists()
