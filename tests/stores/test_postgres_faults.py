"""Faults of PostgreSQL, of the network and of nodes under load: what each attempt was told is true, and all goes on as
soon as it can."""

import asyncio
import os
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import asyncpg
import pytest
from tests.postgres import PostgresServer
from tests.stores.attempts import (
    ACCOUNTS,
    BACK_S_MAX,
    CODEC,
    NOT_DONE,
    UNKNOWN,
    Ledger,
    attempt,
    counting,
    counting_process,
)
from tests.stores.examples import opening, signed_in
from tests.stores.proxy import Fault, proxy_to

from twofold.stores import _postgres_connection, _postgres_line
from twofold.stores._postgres_writer import BATCHES_AT_ONCE
from twofold.stores.postgres import PostgresStore

StartPostgres = Callable[..., PostgresServer]
Batch = Literal["on", "off"]
END_CONNECTIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'twofold'"
HELD = """
    SELECT count(*) FROM pg_stat_activity
    WHERE state = 'idle in transaction' AND clock_timestamp() - state_change > interval '40 ms'"""
DISK_MB = 160


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


@pytest.fixture
def server(own_postgres: StartPostgres) -> PostgresServer:
    return own_postgres()


@pytest.fixture
def url(server: PostgresServer) -> str:
    return server.url(server.create_database())


def at_port(url: str, server: PostgresServer, ports: str) -> str:
    """The same database behind another port."""
    return url.replace(f":{server.port}/", f":{ports}/")


# PostgreSQL itself.


@pytest.mark.parametrize("batch", ["on", "off"])
async def test_connections_that_are_ended_again_and_again(
    postgres_server: PostgresServer, postgres_url: str, ledger: Ledger, batch: Batch
) -> None:
    async with counting(ledger, postgres_url, postgres_url, batch=batch):
        administrator = await asyncpg.connect(postgres_server.url("postgres"))
        for _ in range(20):
            await administrator.execute(END_CONNECTIONS)
            await ledger.some_more()
        await administrator.close()
        assert await ledger.next_from_everybody() < BACK_S_MAX
    await ledger.check(postgres_url)


async def kill_a_backend(server: PostgresServer) -> None:
    """`kill -9` of one connection's process: PostgreSQL ends all the others and recovers."""
    find = "SELECT pid FROM pg_stat_activity WHERE application_name = 'twofold' LIMIT 1"
    for (pid,) in await asyncio.to_thread(server.sql, find):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    while not await asyncio.to_thread(server.answers):
        pass


async def kill_the_server(server: PostgresServer) -> None:
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.start)


async def stop_at_once(server: PostgresServer) -> None:
    await asyncio.to_thread(server.restart, "immediate")


async def stop_in_order(server: PostgresServer) -> None:
    await asyncio.to_thread(server.restart, "fast")


FAULTS = (kill_a_backend, kill_the_server, stop_at_once, stop_in_order)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_server_that_goes_down_under_load_and_comes_back(
    server: PostgresServer, url: str, ledger: Ledger, fault: Callable[[PostgresServer], Awaitable[None]]
) -> None:
    async with counting(ledger, url, url):
        await fault(server)
        assert await ledger.next_from_everybody() < BACK_S_MAX
    await ledger.check(url)


async def test_who_waits_for_a_server_that_stays_away_is_told_so_and_it_is_used_again_when_it_is_back(
    server: PostgresServer, url: str, ledger: Ledger
) -> None:
    async with counting(ledger, url):
        await asyncio.to_thread(server.kill)
        assert await ledger.until(lambda: ledger.count(NOT_DONE) >= len(ACCOUNTS)) < 2 * BACK_S_MAX
        await asyncio.to_thread(server.start)
        assert await ledger.next_from_everybody() < BACK_S_MAX
    await ledger.check(url)


async def test_a_server_that_takes_no_writes_for_a_while(server: PostgresServer, url: str, ledger: Ledger) -> None:
    async with counting(ledger, url, url):
        await asyncio.to_thread(server.configure, default_transaction_read_only="on")
        await asyncio.sleep(0.5)
        done = ledger.count_done()
        await asyncio.sleep(0.5)
        assert ledger.count_done() == done
        await asyncio.to_thread(server.configure, default_transaction_read_only="off")
        assert await ledger.next_from_everybody() < BACK_S_MAX
    # A server that refuses has done nothing, and says so.
    assert ledger.count(UNKNOWN) == 0
    await ledger.check(url)


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of its own, where the account of the server gets at it."""
    with TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", folder]
        if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
            pytest.skip("to fill a disk takes the right to mount a small one: run this as root")
        yield Path(folder)
        subprocess.run(["umount", "--lazy", folder], check=True)


async def test_a_disk_that_is_full_for_a_while(own_postgres: StartPostgres, small_disk: Path, ledger: Ledger) -> None:
    server = own_postgres(data=small_disk / "data", max_wal_size="64MB", min_wal_size="32MB", wal_keep_size="0")
    url = server.url(server.create_database())
    async with counting(ledger, url):
        (full := small_disk / "full").touch()
        with suppress(OSError), full.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        # What the disk still has room for is told truly, and then nobody gets through.
        await ledger.until(lambda: ledger.count(NOT_DONE) >= len(ACCOUNTS))
        full.unlink()
        # It may have given up meanwhile: without room for its log PostgreSQL ends.
        await asyncio.to_thread(server.restart, "immediate")
        assert await ledger.next_from_everybody() < BACK_S_MAX
    await ledger.check(url)


# Another server takes over.


@asynccontextmanager
async def followed(server: PostgresServer) -> AsyncIterator[PostgresServer]:
    """A standby that each commit waits for."""
    with await asyncio.to_thread(server.make_standby) as standby:
        await asyncio.to_thread(server.wait_for_standby)
        yield standby


async def test_a_standby_takes_over_and_has_all_that_was_acknowledged(
    server: PostgresServer, url: str, ledger: Ledger
) -> None:
    async with followed(server) as standby:
        both = at_port(url, server, f"{server.port},127.0.0.1:{standby.port}")
        async with counting(ledger, both, both):
            await asyncio.to_thread(server.kill)
            await asyncio.to_thread(standby.promote)
            assert await ledger.next_from_everybody() < BACK_S_MAX
        await ledger.check(both)


async def test_a_server_that_follows_its_successor_is_not_taken_for_the_one_that_takes_writes(
    server: PostgresServer, url: str, ledger: Ledger
) -> None:
    async with followed(server) as standby:
        both = at_port(url, server, f"{server.port},127.0.0.1:{standby.port}")
        async with counting(ledger, both, both):
            await asyncio.to_thread(server.stop, "fast")
            await asyncio.to_thread(standby.promote)
            (server.data / "standby.signal").touch()
            server.configure(primary_conninfo=standby.url("postgres"), synchronous_standby_names="")
            await asyncio.to_thread(server.start)
            assert await ledger.next_from_everybody() < BACK_S_MAX
            # Also for whoever has no connection yet.
            await asyncio.to_thread(standby.sql, END_CONNECTIONS)
            assert await ledger.next_from_everybody() < BACK_S_MAX
        await ledger.check(both)


async def test_an_address_that_says_nothing_hides_none_behind_it(
    postgres_server: PostgresServer, postgres_url: str, ledger: Ledger
) -> None:
    # As that of a machine without power.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        both = at_port(postgres_url, postgres_server, f"{port},127.0.0.1:{postgres_server.port}")
        async with counting(ledger, both):
            await asyncio.to_thread(postgres_server.sql, END_CONNECTIONS)
            assert await ledger.next_from_everybody() < BACK_S_MAX
        await ledger.check(both)


# The network.


async def test_a_network_that_is_cut_again_and_again(
    postgres_server: PostgresServer, postgres_url: str, ledger: Ledger
) -> None:
    async with proxy_to(postgres_server.port) as proxy:
        theirs = at_port(postgres_url, postgres_server, f"{proxy.port}")
        async with counting(ledger, theirs, theirs):
            for _ in range(20):
                proxy.cut()
                await ledger.some_more()
            assert await ledger.next_from_everybody() < BACK_S_MAX
    await ledger.check(postgres_url)


@pytest.mark.parametrize("batch", ["on", "off"])
@pytest.mark.parametrize("does_more", [False, True])
@pytest.mark.parametrize("fault", ["cut before", "cut after", "silent before", "silent after"])
async def test_a_connection_lost_at_each_moment_of_an_attempt(  # noqa: PLR0917 - three of them are the cases
    postgres_server: PostgresServer,
    postgres_url: str,
    ledger: Ledger,
    monkeypatch: pytest.MonkeyPatch,
    fault: Fault,
    does_more: bool,
    batch: Batch,
) -> None:
    monkeypatch.setattr(_postgres_line, "ANSWER_TIMEOUT_S", 0.2)
    monkeypatch.setattr(_postgres_connection, "IDLE_IN_TRANSACTION_S", 0.1)
    endings = []

    async def try_it(tag: str) -> int | str:
        effects = [opening(signed_in(tag, "alice"), tag)] if does_more else []
        ledger.tell(tag, ending := await attempt(store, tag, *effects))
        return ending

    async with proxy_to(postgres_server.port) as proxy:
        store = await PostgresStore.open(at_port(postgres_url, postgres_server, f"{proxy.port}"), batch=batch)
        store.use_codec(CODEC)
        for moment in range(1, 30):
            # All connections that commit in turn know all statements then: each is one message.
            for turn in range(BATCHES_AT_ONCE):
                await try_it(f"alice/before-{turn}/{moment}")
            proxy.order(fault, at_message=moment)
            endings.append(await try_it(f"alice/with/{moment}"))
            if proxy.cancel():
                break
        await store.close()
    # The last one had no such moment any more. What was lost before the commit was simply done again.
    assert len(endings) > 2
    assert endings.count(UNKNOWN) == 1
    assert endings.count(NOT_DONE) == 0
    await ledger.check(postgres_url)


# Other nodes.


async def test_a_killed_node_takes_nothing_along_and_holds_up_nobody(postgres_url: str, ledger: Ledger) -> None:
    async with counting(ledger, postgres_url):
        for name in ("first", "second", "third"):
            async with counting_process(ledger, name, postgres_url) as killed:
                os.kill(killed, signal.SIGKILL)
                assert await ledger.next_from_everybody() < BACK_S_MAX
    await ledger.check(postgres_url, untold_max=3 * len(ACCOUNTS))


@pytest.mark.parametrize("batch", ["on", "off"])
async def test_a_node_that_is_paused_in_the_midst_wakes_up_with_old_work_and_does_no_harm(
    postgres_server: PostgresServer, postgres_url: str, ledger: Ledger, batch: Batch
) -> None:
    async with counting(ledger, postgres_url), counting_process(ledger, "paused", postgres_url, batch=batch) as paused:
        for _ in range(200):
            os.kill(paused, signal.SIGSTOP)
            await asyncio.sleep(0.06)
            # Where everybody goes alone there is a transaction at nearly each moment: it is to be caught in one.
            if batch == "on" or await asyncio.to_thread(postgres_server.sql, HELD) != [(0,)]:
                break
            os.kill(paused, signal.SIGCONT)
            await asyncio.sleep(0.01)
        else:
            pytest.fail("it was never caught in a transaction")
        # Also whom it holds gets through: the server ends its transaction.
        assert await ledger.next_from_everybody() < BACK_S_MAX
        await asyncio.sleep(1)
        done = ledger.count_done("paused")
        os.kill(paused, signal.SIGCONT)
        await ledger.until(lambda: ledger.count_done("paused") > done + len(ACCOUNTS))
    await ledger.check(postgres_url)


# Everything.


@pytest.mark.soak
@pytest.mark.parametrize("batch", ["on", "off"])
async def test_faults_of_all_kinds_in_any_order(server: PostgresServer, url: str, ledger: Ledger, batch: Batch) -> None:
    killed = 0
    async with proxy_to(server.port) as proxy:
        theirs = at_port(url, server, f"{proxy.port}")
        async with counting(ledger, url, theirs, batch=batch):
            for n in range(60):
                fault = random.choice([*FAULTS, "cut", "silent before", "silent after", "kill", "pause"])
                if callable(fault):
                    await fault(server)
                elif fault == "cut":
                    proxy.cut()
                elif fault in ("silent before", "silent after"):
                    proxy.order(fault, at_message=random.randrange(1, 30))  # type: ignore[arg-type]
                else:
                    async with counting_process(ledger, f"other-{n}", theirs, batch=batch) as other:
                        if fault == "kill":
                            os.kill(other, signal.SIGKILL)
                            killed += 1
                        else:
                            os.kill(other, signal.SIGSTOP)
                            await asyncio.sleep(random.uniform(0, 3))
                            os.kill(other, signal.SIGCONT)
                # A connection that stays silent is noticed after as long again.
                assert await ledger.next_from_everybody() < 2 * BACK_S_MAX, fault
    await ledger.check(url, untold_max=killed * len(ACCOUNTS))
