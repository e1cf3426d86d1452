"""Several real servers over one PostgreSQL database: they begin at once, and each knows what another has done."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pyotp
import pytest

from twofold.bootstrap import open_deployment
from twofold.config import Settings

SERVERS = 3
PATIENCE_S = 30


class Servers:
    """All of them; they have one data folder, and with it the master key."""

    def __init__(self, url: str, data_dir: Path) -> None:
        self.settings = Settings(database_url=url, data_dir=data_dir)
        self.processes: list[asyncio.subprocess.Process] = []
        self.urls: list[str] = []
        self.links: list[str] = []

    async def start(self) -> None:
        """Start all at once, and wait until each says where it listens."""
        for _ in range(SERVERS):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "twofold", "serve", "--port", "0"),
                env={
                    "TWOFOLD_DATABASE_URL": str(self.settings.database_url),
                    "TWOFOLD_DATA_DIR": str(self.settings.data_dir),
                },
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            self.processes.append(process)
        for process in self.processes:
            assert process.stdout is not None
            said = [(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S)).decode().split() for _ in range(2)]
            self.urls.append(said[0][-1])
            self.links.append(said[1][-1])

    async def end(self) -> list[tuple[int | None, str]]:
        """Ask them to end; the exit status of each, and what it logged."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        logs = [(await asyncio.wait_for(process.communicate(), PATIENCE_S))[1] for process in self.processes]
        ends = [(process.returncode, log.decode()) for process, log in zip(self.processes, logs, strict=True)]
        self.processes.clear()
        return ends

    async def new_key(self) -> str:
        deployment = await open_deployment(self.settings)
        _, key = await deployment.applications.create("test", scopes=("verify", "enroll", "admin"))
        await deployment.close()
        return key


@pytest.fixture
async def servers(postgres_url: str, tmp_path: Path) -> AsyncIterator[Servers]:
    started = Servers(postgres_url, tmp_path / "data")
    await started.start()
    yield started
    for process in started.processes:
        process.kill()
        await process.communicate()


async def test_they_begin_at_once_and_serve_the_same_people_and_end_quietly(servers: Servers) -> None:
    headers = {"authorization": f"Bearer {await servers.new_key()}"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        first, *others = (f"{url}/api/v1/accounts/alice" for url in servers.urls)
        assert (await client.put(first, json={})).status_code == 201
        secret = pyotp.random_base32()
        body = {"factor": "totp", "secret": secret, "confirmed": True}
        assert (await client.post(f"{others[0]}/authenticators", json=body)).status_code == 201
        code = {"code": pyotp.TOTP(secret).now()}
        calls = [client.post(f"{url}/verify", json=code) for url in (first, *others) for _ in range(4)]
        answers = await asyncio.gather(*calls)
        assert [answer.json().get("verified") for answer in answers].count(True) == 1
        assert {answer.status_code for answer in answers} <= {200, 429}
        for url in servers.urls:
            assert (await client.get(f"{url}/health/ready")).json() == {"status": "ready"}
            keys = await client.get(f"{url}/.well-known/jwks.json")
            assert keys.json() == (await client.get(f"{servers.urls[0]}/.well-known/jwks.json")).json()
    for status, log in await servers.end():
        assert status == 0
        assert all(" INFO notice " in line for line in log.splitlines()), log


async def test_of_their_set_up_links_one_is_good_and_it_is_so_on_all_of_them(servers: Servers) -> None:
    tokens = [link.rpartition("/")[2] for link in servers.links]
    async with httpx.AsyncClient(trust_env=False) as client:
        for url in servers.urls:
            shown = [(await client.get(f"{url}/{token}")).status_code for token in tokens]
            assert sorted(shown) == [200, 403, 403]
            assert shown == [(await client.get(f"{servers.urls[0]}/{token}")).status_code for token in tokens]
