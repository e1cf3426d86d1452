"""`twofold serve --workers 2` over PostgreSQL: processes behind one port, asked, killed, and ended by a signal."""

import asyncio
import contextlib
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.certificates import make_certificate

from twofold.bootstrap import open_deployment
from twofold.config import Settings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")

WORKERS = 2
PATIENCE_S = 30
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


class Running:
    """A server of several processes, and what it said first."""

    def __init__(self, process: asyncio.subprocess.Process, settings: Settings, url: str, link: str) -> None:
        self.process = process
        self.settings = settings
        self.url = url
        self.port = int(url.rpartition(":")[2])
        self.link = link
        self.key = "none"

    @property
    def workers(self) -> set[int]:
        """The processes that serve."""
        pid = self.process.pid
        return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """A call of the API over a new connection, so that any of the workers may be asked."""
        headers = {"authorization": f"Bearer {self.key}"}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S, headers=headers, **more) as client:
            return await client.request(method, f"{self.url}{path}", json=body)

    async def verify(self, code: str) -> Any:
        return (await self.call("POST", "/api/v1/accounts/alice/verify", {"code": code, "factor": "totp"})).json()

    async def count(self) -> dict[str, float]:
        """What whichever worker is asked tells of calls, without those that this is itself."""
        text = (await self.call("GET", "/metrics")).text
        return {
            sample.name + "".join(f",{value}" for value in sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def kill_one(self, pid: int) -> None:
        """End a worker as a fault would; return when it is gone."""
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not Path(f"/proc/{pid}").exists())

    async def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str, str]:
        """Ask it to end; its exit status, and what it still said and logged."""
        self.process.send_signal(number)
        said, logged = await asyncio.wait_for(self.process.communicate(), PATIENCE_S)
        return self.process.returncode or 0, said.decode(), logged.decode()


async def until(is_so: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110 - other processes set no event
            await asyncio.sleep(0.01)


Start = Callable[..., Awaitable[Running]]


@pytest.fixture
async def start(postgres_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Give a function that starts the workers over the test's database, with more environment where wanted."""
    processes: list[asyncio.subprocess.Process] = []

    async def start_one(**environment: str) -> Running:
        settings = Settings(data_dir=tmp_path / "data", database_url=postgres_url)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "twofold", "serve", "--port", "0", "--workers", str(WORKERS)),
            env={"TWOFOLD_DATA_DIR": str(settings.data_dir), "TWOFOLD_DATABASE_URL": postgres_url, **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        assert process.stdout is not None
        said = [(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode().strip() for _ in range(2)]
        return Running(process, settings, said[0].removeprefix("listening on "), said[1].rpartition(" ")[2])

    yield start_one
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.communicate()


@pytest.fixture
async def running(start: Start) -> Running:
    """Workers with an API key and an account, alice, with a phone."""
    running = await start()
    deployment = await open_deployment(running.settings)
    _, running.key = await deployment.applications.create("test", scopes=("verify", "enroll", "admin"))
    await deployment.close()
    await running.call("PUT", "/api/v1/accounts/alice", {})
    body = {"factor": "totp", "secret": SECRET, "confirmed": True}
    assert (await running.call("POST", "/api/v1/accounts/alice/authenticators", body)).status_code == 201
    return running


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_they_greet_once_and_end_when_asked(start: Start, number: signal.Signals) -> None:
    running = await start()
    assert running.url.startswith("http://localhost:")
    assert len(running.workers) == WORKERS
    assert (await running.call("GET", "/health/ready")).json() == {"status": "ready"}
    async with httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(running.link)).status_code == 200
    assert await running.end(number) == (0, "", "")


async def test_one_code_is_good_once_over_all_of_them(running: Running) -> None:
    code = pyotp.TOTP(SECRET).now()
    answers = await asyncio.gather(*(running.verify(code) for _ in range(8)))
    assert sum(answer.get("verified", False) for answer in answers) == 1


async def test_a_request_under_way_is_finished_before_the_end(running: Running) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    head = f"PUT /api/v1/accounts/bob HTTP/1.1\r\nhost: localhost:{running.port}\r\nauthorization: Bearer {running.key}"
    writer.write(
        f"{head}\r\ncontent-type: application/json\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n".encode()
    )
    assert b"100" in await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    running.process.send_signal(signal.SIGTERM)
    await until_refused(running.port)
    writer.write(b"{}")
    assert b" 201 " in await asyncio.wait_for(reader.readline(), PATIENCE_S)
    await hang_up(writer)
    assert await asyncio.wait_for(running.process.wait(), PATIENCE_S) == 0


async def until_refused(port: int) -> None:
    """Return when nobody listens there."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # it was still in the queue
            await hang_up(writer)


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_any_of_them_tells_the_sum_of_what_all_counted_and_nothing_is_forgotten_with_one(
    running: Running,
) -> None:
    for _ in range(3):
        assert (await running.verify("000000"))["verified"] is False
    wrong, calls = "twofold_verifications_total,totp,wrong_code", "twofold_call_seconds_count,verify"
    kept = ("twofold_enrollments_total", "twofold_key_unwraps_total", wrong, calls)
    counted = await running.count()
    assert (counted[wrong], counted[calls], counted["twofold_enrollments_total"]) == (3, 3, 1)
    for _ in range(12):
        assert [(await running.count())[name] for name in kept] == [counted[name] for name in kept]

    for pid in running.workers:
        await running.kill_one(pid)
    # While nobody serves, callers are told so at once.
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(httpx.TransportError):
            await running.count()
            break
    for _ in range(12):
        later = await running.count()
        assert all(later[name] >= counted[name] for name in kept)
        assert (later[wrong], later[calls]) == (3, 3)
        assert abs(later["twofold_clock_offset_seconds"]) < 1


async def test_one_that_was_killed_is_replaced_and_nobody_is_turned_away_meanwhile(running: Running) -> None:
    before = running.workers
    killed = min(before)
    await running.kill_one(killed)
    for _ in range(20):
        assert (await running.call("GET", "/health/live")).status_code == 200
    await until(lambda: len(running.workers) == WORKERS)
    assert running.workers & before == before - {killed}
    status, said, logged = await running.end()
    assert (status, said) == (0, "")
    warned = [line for line in logged.splitlines() if "WARNING" in line]
    assert [line.partition("WARNING ")[2] for line in warned] in (
        ["worker 1 ended (SIGKILL); it is started again"],
        ["worker 2 ended (SIGKILL); it is started again"],
    )


async def test_without_the_process_that_keeps_them_up_they_end_by_themselves(running: Running) -> None:
    workers = running.workers
    running.process.kill()
    await running.process.wait()
    await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    await until_refused(running.port)


async def test_no_setting_stands_on_a_command_line(running: Running) -> None:
    assert running.settings.database_url is not None
    password = running.settings.database_url.partition("@")[0].rpartition(":")[2]
    for pid in {running.process.pid, *running.workers}:
        line = Path(f"/proc/{pid}/cmdline").read_text()  # noqa: ASYNC240 - it is no disk
        assert "twofold" in line
        assert password not in line
        assert "postgresql" not in line


async def test_all_of_them_have_the_settings_of_the_start(start: Start, tmp_path: Path) -> None:
    file = tmp_path / "data" / "twofold.toml"
    file.parent.mkdir(mode=0o700)
    file.write_text('issuer = "Acme"\nlog_format = "json"\n')
    running = await start()
    file.write_text('issuer = "Nobody"\n')
    await running.kill_one(min(running.workers))
    for _ in range(12):
        assert "Acme" in (await running.call("GET", "/sign-in")).text


async def test_each_of_them_follows_the_certificate(start: Start, tmp_path: Path) -> None:
    files = make_certificate(tmp_path, "localhost", "127.0.0.1")
    running = await start(TWOFOLD_TLS_CERT=str(files.cert), TWOFOLD_TLS_KEY=str(files.key))
    assert (await running.call("GET", "/health/live", verify=files.trusting())).status_code == 200
    new = make_certificate(tmp_path, "localhost", "127.0.0.1", is_rsa=True).trusting()
    in_a_row = 0
    async with asyncio.timeout(PATIENCE_S):
        while in_a_row < 12:
            in_a_row = in_a_row + 1 if await _is_trusted(running, new) else 0
    status, _, logged = await running.end()
    assert (status, logged.count("the certificate was read again")) == (0, WORKERS)


async def _is_trusted(running: Running, trusting: ssl.SSLContext) -> bool:
    try:
        return (await running.call("GET", "/health/live", verify=trusting)).status_code == 200
    except httpx.ConnectError:
        return False
