"""A thread that reads a SQLite file over a connection of its own, as the file stands at each question."""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from twofold.errors import Unavailable
from twofold.stores._sqlite_file import connect


class Reader:
    """One question at a time, in the order in which they came."""

    def __init__(self, path: Path, *, cache_kib: int) -> None:
        self._connection = connect(path, cache_kib=cache_kib)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="twofold-reader")

    async def fetch(self, sql: str, *values: object) -> list[Any]:
        """All rows; raises `Unavailable`."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, lambda: self._connection.execute(sql, values).fetchall())
        except sqlite3.Error as error:
            raise Unavailable(f"the database cannot be read: {error}") from None

    def close(self) -> None:
        """End the thread after what waits."""
        self._thread.shutdown()
        self._connection.close()
