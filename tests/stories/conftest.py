"""One server for the stories of a file, with an application that may do everything and a clock that tests move."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.servers import Client, Clock, Server, running

SCOPES = ("verify", "enroll", "admin")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("story")


@pytest.fixture(scope="module")
def clock(folder: Path) -> Clock:
    return Clock(folder / "clock")


@pytest.fixture(scope="module")
def server(folder: Path, clock: Clock) -> Iterator[Server]:
    with running(folder / "data", test_clock=str(clock.path)) as started:
        yield started


@pytest.fixture(scope="module")
def key(server: Server) -> str:
    return server.create_key(*SCOPES)


@pytest.fixture(scope="module")
def api(server: Server, key: str) -> Iterator[Client]:
    with server.client(key) as client:
        yield client
