"""Where the data are: what a first start makes, what a server finds that comes later, and what each is told."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import add_phone, open_for_test
from tests.kit import SetClock
from tests.postgres import PostgresServer

from twofold import BlockingVerifier, Verified
from twofold.bootstrap import Deployment, open_deployment
from twofold.config import Settings
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.databases import find_database
from twofold.errors import ConfigurationError
from twofold.stores import _postgres_glance as glance
from twofold.verifier import Verifier

WITHOUT_ASYNCPG = """
import sys
sys.modules["asyncpg"] = None
from twofold.databases import find_database
from twofold.config import Settings
assert find_database(Settings()) is not None
find_database(Settings(database_url="postgresql://localhost/twofold"))
"""


@asynccontextmanager
async def opened(url: str, folder: Path, **settings: Any) -> AsyncIterator[Deployment]:
    chosen = Settings(database_url=url, data_dir=folder, **settings)
    deployment = await open_deployment(chosen, argon2=ONLY_FOR_TESTING)
    try:
        yield deployment
    finally:
        await deployment.close()


@pytest.fixture(params=["tables", "nothing"])
def new_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """A database in which nobody has started yet, with the tables or without."""
    name = postgres_server.create_database(is_prepared=request.param == "tables")
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


async def test_of_many_first_starts_on_machines_of_their_own_one_makes_the_keys(new_url: str, tmp_path: Path) -> None:
    folders = [tmp_path / f"machine-{n}" for n in range(4)]

    async def start(folder: Path) -> str:
        try:
            async with opened(new_url, folder) as deployment:
                return deployment.keyring.active_key_id
        except ConfigurationError as error:
            return str(error)

    ends = await asyncio.gather(*map(start, folders))
    (maker,) = [folder for folder in folders if (folder / "twofold.key").exists()]
    for folder, end in zip(folders, ends, strict=True):
        if folder == maker:
            assert end.startswith("data-")
        else:
            assert end.startswith(f"the master key {folder}/twofold.key is missing")
            assert f"copy {maker}/twofold.key from a server that has it" in end
    # With a copy of it the others serve, too.
    other = next(folder for folder in folders if folder != maker)
    other.mkdir(exist_ok=True)
    (other / "twofold.key").write_bytes((maker / "twofold.key").read_bytes())
    assert await start(other) == await start(maker)


async def test_of_many_first_starts_on_one_machine_all_use_the_same_key(new_url: str, tmp_path: Path) -> None:
    async def start() -> str:
        async with opened(new_url, tmp_path / "data") as deployment:
            return deployment.keyring.active_key_id

    assert len(set(await asyncio.gather(*(start() for _ in range(4))))) == 1


async def test_a_first_start_that_failed_is_begun_again(postgres_url: str, tmp_path: Path) -> None:
    async with glance.first_start(postgres_url) as is_new:
        assert is_new
    with pytest.raises(ConfigurationError, match="KEY_PROVIDER"):
        async with opened(postgres_url, tmp_path, key_provider="clay-tablet:"):
            pass
    async with opened(postgres_url, tmp_path), glance.first_start(postgres_url) as is_new:
        assert not is_new


async def test_what_goes_wrong_during_a_first_start_is_told_as_it_is(postgres_url: str) -> None:
    with pytest.raises(ValueError, match="of somebody else"):
        async with glance.first_start(postgres_url):
            raise ValueError("of somebody else")


async def test_another_key_file_is_never_taken_for_the_one_of_the_database(postgres_url: str, tmp_path: Path) -> None:
    async with opened(postgres_url, tmp_path / "a"), opened(f"sqlite:///{tmp_path}/b/twofold.db", tmp_path / "b"):
        pass
    with pytest.raises(ConfigurationError, match="does not open this database"):
        async with opened(postgres_url, tmp_path / "b"):
            pass
    assert (tmp_path / "b" / "twofold.key").exists(), "it is that of another database"


async def test_a_command_makes_no_database_and_names_the_one_that_is_missing(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    url = postgres_server.url(postgres_server.create_database(is_prepared=False))
    database = find_database(Settings(database_url=url))
    assert not await database.is_there()
    assert await database.find_master_address() is None
    async with opened(url, tmp_path):
        assert await database.is_there()
        assert await database.find_master_address() == f"file:{tmp_path}/twofold.key"


@pytest.mark.parametrize("wrong", ["database", "password", "port"])
async def test_a_database_that_cannot_be_asked_is_one_line_without_the_password(
    postgres_server: PostgresServer, wrong: str
) -> None:
    url = postgres_server.url("postgres")
    user, _, place = url.partition("@")
    password = user.rpartition(":")[2]
    wrong_url, why = {
        "database": (f"{url}_", "does not exist"),
        "password": (f"{user}hunter2@{place}", "password authentication failed"),
        "port": (f"{user}@127.0.0.1:1/postgres?password={password}", "Connect call failed"),
    }[wrong]
    assert not await find_database(Settings(database_url=url)).is_there()
    with pytest.raises(ConfigurationError, match=f"cannot be used .*{why}") as error:
        await find_database(Settings(database_url=wrong_url)).is_there()
    assert password not in str(error.value)
    assert "\n" not in str(error.value)


def test_without_its_library_the_line_says_what_installs_it() -> None:
    command = [sys.executable, "-c", WITHOUT_ASYNCPG]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.stderr.endswith("DATABASE_URL postgresql: needs asyncpg: pip install 'twofold[postgres]'\n")


async def test_what_was_done_over_one_server_counts_on_another(postgres_url: str, tmp_path: Path) -> None:
    clock = SetClock()
    one = await open_for_test(tmp_path, clock, database_url=postgres_url)
    two = await open_for_test(tmp_path, clock, database_url=postgres_url, seed=1, batch="off")
    phone, _ = await add_phone(one.verifier, "alice", clock)
    code = phone.code(clock.now())
    ends = await asyncio.gather(*(server.verifier.verify("alice", code=code) for server in (one, two)))
    assert sum(isinstance(end, Verified) for end in ends) == 1
    await one.close()
    await two.close()


async def test_a_verifier_inside_an_application_has_the_settings_of_all_servers(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path))
    await (await Verifier.open(postgres_url)).close()
    assert (tmp_path / "twofold.key").exists()
    (tmp_path / "twofold.key").rename(tmp_path / "master.key")
    with pytest.raises(ConfigurationError, match="is missing"):
        await Verifier.open(postgres_url)
    monkeypatch.setenv("TWOFOLD_KEY_PROVIDER", f"file:{tmp_path}/master.key")
    await (await Verifier.open(postgres_url)).close()


def test_the_blocking_face_works_over_postgresql(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path))
    with BlockingVerifier.open(postgres_url) as verifier:
        pending = verifier.enroll("alice", "hotp")
        assert verifier.account("alice").id == "alice"
        assert pending.uri.startswith("otpauth://hotp/")
