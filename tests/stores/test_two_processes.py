"""A busy server and the command line beside it: both right, neither starved."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from tests.stores.examples import count, counted

from twofold.core.audit import verify_chain
from twofold.core.codec import Codec
from twofold.stores.sqlite import SqliteStore

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "twofold.db"


@pytest.fixture
def store(path: Path, codec: Codec) -> Iterator[SqliteStore]:
    store = SqliteStore.open(path)
    store.use_codec(codec)
    yield store
    asyncio.run(store.close())


def start_counting(path: Path, *account_ids: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stores.counting_process", str(path), *account_ids],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


async def test_two_processes_count_on_one_account_without_losing_one(store: SqliteStore, path: Path) -> None:
    with start_counting(path, "shared", "theirs") as other:
        assert other.stdout
        other.stdout.readline()
        mine = [counted(await store.transact("shared", count("shared"))) for _ in range(100)]
        told, _ = await asyncio.to_thread(other.communicate, "")
    theirs = [int(line.split()[1]) for line in told.splitlines() if line.startswith("shared")]
    assert mine == sorted(set(mine))
    assert not set(mine) & set(theirs)
    account = await store.load("shared")
    assert account is not None
    events = await store.events("shared", limit=10**9)
    assert account.unguessable_failed_at == max(*mine, *theirs) == len(events)
    assert verify_chain("shared", events, account.head) is None


async def test_a_lone_attempt_beside_a_busy_process_waits_for_a_few_of_its_commits_only(
    store: SqliteStore, path: Path
) -> None:
    # `pace` is counted once in each of its commits, for one attempt of it is always under way.
    with start_counting(path, "pace", *(f"account-{n}" for n in range(40))) as busy:
        assert busy.stdout
        busy.stdout.readline()
        reader = asyncio.create_task(asyncio.to_thread(busy.stdout.read))
        paces = []
        for _ in range(50):
            await store.transact("mine", count("mine"))
            pace = await store.load("pace")
            paces.append(pace.unguessable_failed_at if pace else 0)
        assert busy.stdin
        busy.stdin.close()
        await reader
    between = sorted(after - before for before, after in pairwise(paces))
    # Three of them may have met a pause of this process itself, when it was not in line.
    assert between[-4] <= 5
    assert sum(between) >= 5


async def test_after_a_kill_everything_acknowledged_is_there(path: Path, codec: Codec) -> None:
    for round_number in range(1, 4):
        acknowledged: dict[str, int] = {}
        names = [f"account-{n}" for n in range(30)]
        with start_counting(path, *names) as killed:
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
        store = SqliteStore.open(path)
        store.use_codec(codec)
        for name, n in acknowledged.items():
            account = await store.load(name)
            assert account is not None
            events = await store.events(name, limit=10**9)
            # At most the one attempt whose answer was on its way may be there unacknowledged.
            assert account.unguessable_failed_at in (n, n + 1)
            assert len(events) == account.unguessable_failed_at
            assert verify_chain(name, events, account.head) is None
        await store.close()
