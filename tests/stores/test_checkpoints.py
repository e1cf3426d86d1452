import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.stores.examples import count, counted

from twofold.core.codec import Codec
from twofold.stores import _checkpoints
from twofold.stores._checkpoints import Checkpointer
from twofold.stores._turnstile import Turnstile
from twofold.stores.sqlite import SqliteStore

PAGE = 4096


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():  # noqa: ASYNC110 - the size of a file sets no event
            await asyncio.sleep(0.005)


async def test_the_log_stays_bounded_though_commits_never_pause(
    tmp_path: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "twofold.db"
    copy = Checkpointer._copy
    turnstile = Turnstile(path)

    def copy_and_be_overtaken(self: Checkpointer, mode: str) -> int:
        pages = copy(self, mode)
        if mode == "PASSIVE":
            with turnstile, closing(sqlite3.connect(path)) as another, another:
                another.execute("INSERT OR REPLACE INTO settings VALUES ('overtaken', ?)", (pages,))
        return pages

    monkeypatch.setattr(Checkpointer, "_copy", copy_and_be_overtaken)
    monkeypatch.setattr(_checkpoints, "CHANGES_MAX", 40)
    monkeypatch.setattr(_checkpoints, "LOG_PAGES_MAX", 100)
    store = SqliteStore.open(path)
    store.use_codec(codec)

    async def keep_counting(account_id: str) -> None:
        for n in range(1, 201):
            assert counted(await store.transact(account_id, count(account_id))) == n

    await asyncio.gather(*(keep_counting(f"account-{n}") for n in range(20)))
    assert await store.get_setting("overtaken") is not None
    assert path.with_name("twofold.db-wal").stat().st_size < 500 * PAGE
    await store.close()
    turnstile.close()


async def test_an_idle_store_has_an_empty_log(tmp_path: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkpoints, "IDLE_S", 0.01)
    log = tmp_path / "twofold.db-wal"
    store = SqliteStore.open(tmp_path / "twofold.db")
    store.use_codec(codec)
    for n in (1, 2):
        assert counted(await store.transact("alice", count("alice"))) == n
        await until(lambda: log.stat().st_size == 0)
    await store.close()


async def test_a_reader_of_an_old_state_keeps_no_commit_waiting(
    tmp_path: Path, codec: Codec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_checkpoints, "IDLE_S", 0.01)
    path = tmp_path / "twofold.db"
    store = SqliteStore.open(path)
    store.use_codec(codec)
    await store.transact("alice", count("alice"))
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        old = reader.execute("SELECT document FROM accounts").fetchall()
        for n in range(2, 50):
            assert counted(await store.transact("alice", count("alice"))) == n
        assert reader.execute("SELECT document FROM accounts").fetchall() == old
    await until(lambda: path.with_name("twofold.db-wal").stat().st_size == 0)
    await store.close()
