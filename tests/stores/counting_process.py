"""Another process on the same database: counts on some accounts until its standard input ends or it is killed.

    counting_process.py DATABASE ACCOUNT…

DATABASE is the path of a SQLite file or the URL of a PostgreSQL database. One attempt of each account is always under
way. Each acknowledged one is told as a line `ACCOUNT NUMBER`.
"""

import asyncio
import sys
from pathlib import Path

from tests.stores.examples import count, counted

from twofold.core.codec import Codec
from twofold.crypto.digest import MacKeys
from twofold.stores.postgres import PostgresStore
from twofold.stores.sqlite import SqliteStore


async def main(database: str, account_ids: list[str]) -> None:
    store = await PostgresStore.open(database) if "://" in database else SqliteStore.open(Path(database))
    store.use_codec(Codec(MacKeys({"k1": bytes(32)}, signing="k1")))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

    async def keep_counting(account_id: str) -> None:
        while not ended.done():
            n = counted(await store.transact(account_id, count(account_id)))
            sys.stdout.write(f"{account_id} {n}\n")
            sys.stdout.flush()

    await asyncio.gather(*map(keep_counting, account_ids))
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2:]))
