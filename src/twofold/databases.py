"""Where the data are: a SQLite file that one server serves, or a PostgreSQL database that many do.

These are the questions that a program has before it opens the store, and in which the two differ; what is read and
written is the business of `twofold.stores`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Union

from twofold.config import Settings
from twofold.errors import ConfigurationError
from twofold.stores._sqlite_keys import find_master_address
from twofold.stores.memory import MemoryStore
from twofold.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from twofold.stores.postgres import PostgresStore

Store = Union[MemoryStore, SqliteStore, "PostgresStore"]


class Database(Protocol):
    """A database that may not be there yet. Every method raises `ConfigurationError`, one line, where it is of no use.

    `str` gives its name as people may read it, without a password.
    """

    async def is_there(self) -> bool:
        """Whether somebody has made it."""
        ...

    def first_start(self) -> AbstractAsyncContextManager[bool]:
        """Tell whether it is new, which is when its keys are made and never again: until the block is over, nobody else
        makes them."""
        ...

    async def open(self) -> Store:
        """The store, made or brought up to date."""
        ...

    async def find_master_address(self) -> str | None:
        """Where the master key in use is, as the database says: for a message, anybody may have written it."""
        ...


def find_database(settings: Settings) -> Database:
    """The database of these settings."""
    url = settings.postgres_url
    return _SqliteFile(settings.sqlite_path) if url is None else _Postgres(url, settings.batch)


class _SqliteFile:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __str__(self) -> str:
        return str(self._path)

    async def is_there(self) -> bool:
        return self._path.exists()

    @asynccontextmanager
    async def first_start(self) -> AsyncIterator[bool]:
        # Two first starts at once find one key file: it is made in one step (`twofold.keys.file`).
        yield not self._path.exists() or self._path.stat().st_size == 0

    async def open(self) -> Store:
        return SqliteStore.open(self._path)

    async def find_master_address(self) -> str | None:
        return find_master_address(self._path)


class _Postgres:
    """Its library is an extra, so it is imported where such a database is named."""

    def __init__(self, url: str, batch: Literal["on", "off"]) -> None:
        try:
            from twofold.stores import _postgres_glance  # noqa: PLC0415
            from twofold.stores._postgres_connection import without_password  # noqa: PLC0415
            from twofold.stores.postgres import PostgresStore  # noqa: PLC0415
        except ModuleNotFoundError as error:
            if error.name != "asyncpg":
                raise
            raise ConfigurationError(
                "DATABASE_URL postgresql: needs asyncpg: pip install 'twofold[postgres]'"
            ) from None
        self._url, self._batch, self._name = url, batch, without_password(url)
        self._glance, self._store = _postgres_glance, PostgresStore

    def __str__(self) -> str:
        return self._name

    async def is_there(self) -> bool:
        return await self._glance.is_there(self._url)

    def first_start(self) -> AbstractAsyncContextManager[bool]:
        return self._glance.first_start(self._url)

    async def open(self) -> Store:
        return await self._store.open(self._url, batch=self._batch)

    async def find_master_address(self) -> str | None:
        return await self._glance.find_master_address(self._url)
