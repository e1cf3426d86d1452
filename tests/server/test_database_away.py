"""The database goes away while a server serves: who is told what meanwhile, and that everything goes on by itself."""

import asyncio
import logging
from collections.abc import Callable
from time import monotonic

import pytest
from tests.postgres import PostgresServer
from tests.server.conftest import OpenServer, Server, assert_problem

from twofold.engine import Caller
from twofold.errors import OutcomeUnknown

BACK_S_MAX = 5


@pytest.fixture
def postgres(own_postgres: Callable[..., PostgresServer]) -> PostgresServer:
    return own_postgres()


@pytest.fixture
async def server(postgres: PostgresServer, open_server: OpenServer) -> Server:
    return await open_server(database_url=postgres.url(postgres.create_database()))


async def test_while_it_is_away_nobody_is_let_in_and_then_everything_goes_on(
    server: Server, postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twofold")
    await server.add()
    await server.deployment.begin_upkeep()
    assert (await server.get("/health/ready")).status_code == 200
    server.clock.pass_s(30)
    body = {"code": server.code()}
    postgres.stop("immediate")
    answer, page, begun, ready = await asyncio.gather(
        server.post("accounts/alice/verify", body),
        server.get("/sign-in"),
        server.call("POST", "/sign-in", data={"name": "alice", "password": "correct horse"}),
        server.get("/health/ready"),
    )
    assert_problem(answer, 503, "unavailable")
    assert (page.status_code, begun.status_code) == (503, 503)
    assert "This does not work just now" in page.text
    assert "the database" in assert_problem(ready, 503, "unavailable")["detail"]
    assert (await server.get("/health/live")).json() == {"status": "live"}

    postgres.start()
    began = monotonic()
    while (await server.get("/health/ready")).status_code != 200:
        assert monotonic() - began < BACK_S_MAX
        await asyncio.sleep(0.05)
    assert (await server.post("accounts/alice/verify", body)).json()["verified"] is True
    assert (await server.get("/sign-in")).status_code == 200
    await server.deployment.administration.set_role("alice", "administrator", caller=Caller(is_admin=True))
    began = monotonic()
    while "notice account.role_changed account='alice'" not in caplog.text:
        assert monotonic() - began < BACK_S_MAX
        await asyncio.sleep(0.05)
    assert not [record for record in caplog.records if record.exc_info], "what is expected leaves no trace"
    again = [record for record in caplog.records if record.getMessage().startswith("not done, tried again")]
    assert again, "upkeep said what it could not do"
    assert all(record.levelno == logging.WARNING for record in again)


async def test_a_commit_whose_answer_was_lost_is_called_neither_done_nor_not_done(
    open_server: OpenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await open_server()
    await server.add()

    async def lose(*_: object) -> None:
        raise OutcomeUnknown("the connection to the database was lost")

    monkeypatch.setattr(server.deployment.store, "transact", lose)
    server.clock.pass_s(30)
    told = assert_problem(await server.post("accounts/alice/verify", {"code": server.code()}), 503, "outcome_unknown")
    assert told["retry_after"] == 1
