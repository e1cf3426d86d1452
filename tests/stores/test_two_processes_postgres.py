"""Several nodes on one database: all right, none starved, and what one of them has acknowledged outlives it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.stores.examples import count, counted

from twofold.core.audit import verify_chain
from twofold.core.codec import Codec
from twofold.stores.postgres import PostgresStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def store(postgres_url: str, codec: Codec) -> AsyncIterator[PostgresStore]:
    store = await PostgresStore.open(postgres_url)
    store.use_codec(codec)
    yield store
    await store.close()


def start_counting(url: str, *account_ids: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stores.counting_process", url, *account_ids],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_three_processes_count_on_one_account_without_losing_one(store: PostgresStore, postgres_url: str) -> None:
    with start_counting(postgres_url, "shared") as one, start_counting(postgres_url, "shared", "theirs") as two:
        for other in (one, two):
            assert other.stdout
            other.stdout.readline()
        numbers = [counted(await store.transact("shared", count("shared"))) for _ in range(100)]
        said = await asyncio.gather(*(asyncio.to_thread(other.communicate, "") for other in (one, two)))
    assert numbers == sorted(set(numbers))
    numbers += [int(line.split()[1]) for told, _ in said for line in told.splitlines() if line.startswith("shared")]
    assert len(numbers) == len(set(numbers))
    account = await store.load("shared")
    assert account is not None
    events = await store.events("shared", limit=10**9)
    assert account.unguessable_failed_at == max(numbers) == len(events)
    assert verify_chain("shared", events, account.head) is None


async def test_an_account_that_everybody_wants_is_counted_in_turns(store: PostgresStore, postgres_url: str) -> None:
    with start_counting(postgres_url, *["hot"] * 8) as busy:
        assert busy.stdout
        busy.stdout.readline()
        reader = asyncio.create_task(asyncio.to_thread(busy.stdout.read))
        for _ in range(50):
            await store.transact("hot", count("hot"))
        assert busy.stdin
        busy.stdin.close()
        await reader


async def test_after_a_kill_everything_acknowledged_is_there(store: PostgresStore, postgres_url: str) -> None:
    names = [f"account-{n}" for n in range(30)]
    for round_number in range(1, 4):
        acknowledged: dict[str, int] = {}
        with start_counting(postgres_url, *names) as killed:
            assert killed.stdout
            for _ in range(200 * round_number):
                name, n = killed.stdout.readline().split()
                acknowledged[name] = int(n)
            os.kill(killed.pid, signal.SIGKILL)
            for line in killed.stdout:
                if line.endswith("\n"):
                    name, n = line.split()
                    acknowledged[name] = int(n)
        assert killed.returncode == -signal.SIGKILL
        # What it had sent already may still be committed: behind this nothing comes.
        for name, n in acknowledged.items():
            behind = counted(await store.transact(name, count(name)))
            # At most the one attempt whose answer was on its way may be there unacknowledged.
            assert behind in (n + 1, n + 2)
            account = await store.load(name)
            assert account is not None
            events = await store.events(name, limit=10**9)
            assert len(events) == behind
            assert verify_chain(name, events, account.head) is None
