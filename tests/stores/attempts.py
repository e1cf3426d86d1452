"""Attempts that go on whatever happens to the database, what each of them was told, and whether that is true.

    attempts.py NODE URL BATCH ACCOUNT…

As a process it is one node that can be killed or paused: it goes on until its standard input ends, and tells what each
attempt was told as a line `TAG ENDING`. Of each account one attempt is always under way.
"""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Literal

import msgspec
from tests.stores.examples import SALT, Decide, counted

from twofold.core.account import Account, AuditHead
from twofold.core.audit import Event, verify_chain
from twofold.core.codec import Codec
from twofold.core.decision import Decision, Effect, Refusal
from twofold.crypto.digest import MacKeys
from twofold.errors import Busy, OutcomeUnknown, Unavailable
from twofold.stores.postgres import PostgresStore

ROOT = Path(__file__).parents[2]
ACCOUNTS = tuple(f"account-{n}" for n in range(12))
#: After the database answers again, an attempt of everybody is through by then.
BACK_S_MAX = 5.0
#: Nothing takes as long as that, but when all has come to a halt.
UNTIL_S_MAX = 20
#: About as long as a commit takes.
MOMENT_S_MAX = 0.02
#: Between an attempt that was turned away and the next one.
PAUSE_S = 0.01
#: What an attempt was told: its number, or one of these.
NOT_DONE, UNKNOWN = "not done", "unknown"


class Ledger:
    """What was told, attempt by attempt; each has a tag that its event carries, too."""

    def __init__(self) -> None:
        self.told: dict[str, int | str] = {}
        self.last_at: dict[str, float] = {}

    def tell(self, tag: str, ending: int | str) -> None:
        assert tag not in self.told
        self.told[tag] = ending
        if isinstance(ending, int):
            self.last_at[account_of(tag)] = time.monotonic()

    def count(self, ending: str, node: str = "") -> int:
        """How many were told so, of all nodes or of this one."""
        return sum(told == ending for tag, told in self.told.items() if node in ("", node_of(tag)))

    def count_done(self, node: str = "") -> int:
        """How many were acknowledged."""
        return sum(isinstance(told, int) for tag, told in self.told.items() if node in ("", node_of(tag)))

    async def until(self, is_so: Callable[[], bool]) -> float:
        """Wait until something was told; for how many seconds."""
        began_at = time.monotonic()
        async with asyncio.timeout(UNTIL_S_MAX):
            while True:
                if is_so():
                    return time.monotonic() - began_at
                await asyncio.sleep(0.005)

    async def some_more(self) -> None:
        """Wait until all goes on, and then for a moment that is never the same."""
        done = self.count_done()
        await self.until(lambda: self.count_done() > done)
        await asyncio.sleep(random.uniform(0, MOMENT_S_MAX))

    async def next_from_everybody(self, account_ids: Collection[str] = ACCOUNTS) -> float:
        """Wait until an attempt of each account was acknowledged from now on; for how many seconds."""
        since = time.monotonic()
        return await self.until(lambda: all(self.last_at.get(each, 0) > since for each in account_ids))

    async def check(self, url: str, *, untold_max: int = 0) -> None:
        """Whatever was acknowledged is there, as often and under the number that was told; nothing else is but what
        nobody could know. `untold_max`: so many attempts of killed nodes were under way."""
        store = await PostgresStore.open(url)
        store.use_codec(CODEC)
        there: dict[str, int] = {}
        for account_id in {account_of(tag) for tag in self.told}:
            account = await store.load(account_id)
            events = await store.events(account_id, limit=10**9)
            numbers = [json.loads(event.payload or b"")["n"] for event in events]
            assert numbers == list(range(1, len(events) + 1))
            assert (account.unguessable_failed_at if account else 0) == len(events)
            if account:
                assert verify_chain(account_id, events, account.head) is None
            tags = [json.loads(event.payload or b"")["tag"] for event in events]
            assert [tag for tag, n in Counter(tags).items() if n > 1] == []
            there |= dict(zip(tags, numbers, strict=True))
        await store.close()
        untold = [tag for tag in there if tag not in self.told]
        assert len(untold) <= untold_max, f"nobody was told of {untold}"
        for tag, ending in self.told.items():
            if ending != UNKNOWN:
                assert there.get(tag, NOT_DONE) == ending, f"{tag} was told {ending!r}"


CODEC = Codec(MacKeys({"k1": bytes(32)}, signing="k1"))


def account_of(tag: str) -> str:
    """Whose attempt that is."""
    return tag.partition("/")[0]


def node_of(tag: str) -> str:
    """Where it was made."""
    return tag.split("/")[1]


def count_with(tag: str, *effects: Effect) -> Decide:
    """Count one, and leave the tag in the event."""

    def decide(account: Account | None) -> Decision:
        if account is None:
            account = Account(account_of(tag), b"epoch---", 5, AuditHead(0, b""))
        n = account.unguessable_failed_at + 1
        changed = msgspec.structs.replace(account, unguessable_failed_at=n)
        event = Event("account.changed", 1, SALT, {"n": n, "tag": tag})
        return Decision(Refusal("conflict", str(n)), changed, (event,), effects)

    return decide


async def attempt(store: PostgresStore, tag: str, *effects: Effect) -> int | str:
    """What one attempt is told."""
    try:
        return counted(await store.transact(account_of(tag), count_with(tag, *effects)))
    except OutcomeUnknown:
        return UNKNOWN
    except (Busy, Unavailable):
        return NOT_DONE


async def keep_counting(
    store: PostgresStore,
    node: str,
    account_id: str,
    tell: Callable[[str, int | str], None],
    is_over: Callable[[], bool],
) -> None:
    """One attempt after the other."""
    for n in itertools.count():
        if is_over():
            return
        tag = f"{account_id}/{node}/{n}"
        ending = await attempt(store, tag)
        tell(tag, ending)
        if not isinstance(ending, int):
            await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def counting(
    ledger: Ledger, *urls: str, batch: Literal["on", "off"] = "on", account_ids: Collection[str] = ACCOUNTS
) -> AsyncIterator[None]:
    """While the block runs, a node for each of these addresses counts on all accounts."""
    over = asyncio.Event()
    async with AsyncExitStack() as stores, asyncio.TaskGroup() as tasks:
        for n, url in enumerate(urls):
            store = await PostgresStore.open(url, batch=batch)
            stores.push_async_callback(store.close)
            store.use_codec(CODEC)
            for account_id in account_ids:
                tasks.create_task(keep_counting(store, f"node-{n}", account_id, ledger.tell, over.is_set))
        await ledger.next_from_everybody(account_ids)
        yield
        over.set()


@asynccontextmanager
async def counting_process(
    ledger: Ledger, node: str, url: str, *, batch: Literal["on", "off"] = "on", account_ids: Collection[str] = ACCOUNTS
) -> AsyncIterator[int]:
    """While the block runs, a node in a process of its own counts, too: the id of the process."""
    command = (sys.executable, "-m", "tests.stores.attempts", node, url, batch, *account_ids)
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    reading = asyncio.create_task(_read(process, ledger))
    try:
        await ledger.until(lambda: ledger.count_done(node) > len(account_ids))
        yield process.pid
        assert process.stdin
        process.stdin.close()
        await reading
    finally:
        reading.cancel()
        # `process.kill` looks whether it has ended, and then nobody else learns of it.
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        await process.wait()


async def _read(process: asyncio.subprocess.Process, ledger: Ledger) -> None:
    assert process.stdout
    async for line in process.stdout:
        # A killed one may not have come to the end of its last line: then it has told nobody.
        if line.endswith(b"\n"):
            tag, _, ending = line.decode().strip().partition(" ")
            ledger.tell(tag, int(ending) if ending.isdigit() else ending)


async def main(node: str, url: str, batch: Literal["on", "off"], *account_ids: str) -> None:
    store = await PostgresStore.open(url, batch=batch)
    store.use_codec(CODEC)
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    def tell(tag: str, ending: int | str) -> None:
        sys.stdout.write(f"{tag} {ending}\n")
        sys.stdout.flush()

    await asyncio.gather(*(keep_counting(store, node, account_id, tell, ended.done) for account_id in account_ids))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))  # type: ignore[arg-type]
