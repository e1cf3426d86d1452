"""PostgreSQL for tests: clusters of their own in temporary folders, as durable as in production, on free ports.

One cluster serves the whole run and starts with the first test that asks for it. A test that stops, fills or
replicates a cluster makes one of its own. Nothing here knows what Twofold writes.
"""

import asyncio
import atexit
import functools
import itertools
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import asyncpg
import pytest
from tests.conftest import find_program

from twofold.stores._postgres_schema import prepare

T = TypeVar("T")

USER = "twofold"
PASSWORD = secrets.token_urlsafe(16)
START_S_MAX = 30
#: What differs from a server as it is installed: durable it is without our help.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "cluster_name": "twofold-tests",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    # A standby copies what it is sent, and asks for what it has missed meanwhile.
    "wal_keep_size": "128MB",
}
_INITDB = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--data-checksums", "--no-sync")
_BASEBACKUP = ("--wal-method=stream", "--checkpoint=fast", "--no-sync")
_STOPS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class PostgresServer:
    """One cluster. `data` may be a file system of its own; `log` is what it says, over all its starts."""

    def __init__(self, data: Path | None = None) -> None:
        self._account = _account()
        # Not in a folder of pytest: those are closed to the account that the server runs under.
        self.folder = Path(tempfile.mkdtemp(prefix="twofold-pg-"))
        self.data = data or self.folder / "data"
        self.log = self.folder / "log"
        self.port = _free_port()
        self._settings = SETTINGS | {"port": str(self.port), "unix_socket_directories": str(self.folder)}
        self._numbers = itertools.count(1)
        self._template = ""
        self._process: subprocess.Popen[bytes] | None = None
        _own(self.folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def url(self, database: str) -> str:
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    # A server's life.

    def create(self) -> None:
        """Make an empty cluster; it is not started."""
        subprocess.run(["cp", "-pR", f"{_new_cluster()}/.", self.data], check=True)

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self._process is None
        deadline = time.monotonic() + START_S_MAX
        self._write_settings()
        while not self._starts():
            # What a killed server has left behind is still ending, and keeps a new one away.
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def stop(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        """As `pg_ctl stop --mode` does."""
        self._end(_STOPS[mode])

    def kill(self) -> None:
        """`kill -9` of the process that all others depend on."""
        self._end(signal.SIGKILL)

    def restart(self, mode: Literal["smart", "fast", "immediate"] = "fast") -> None:
        self.stop(mode)
        self.start()

    def reload(self) -> None:
        """Read the settings again; each new connection has them then."""
        loaded = "SELECT pg_conf_load_time() > $1::timestamptz"
        before = self.sql("SELECT pg_conf_load_time()")[0][0]
        os.kill(self.pid, signal.SIGHUP)
        self._wait(lambda: self.sql(loaded, before)[0][0])

    def configure(self, **settings: str) -> None:
        """Change settings of `postgresql.conf`; a running server takes over those that need no restart."""
        self._settings |= settings
        self._write_settings()
        if self._process is not None:
            self.reload()

    def remove(self) -> None:
        """Stop at once, and leave nothing."""
        if self._process is not None:
            self.stop("immediate")
        shutil.rmtree(self.folder)

    # Databases.

    def sql(self, statement: str, *values: object, database: str = "postgres") -> list[Any]:
        """All rows of one statement, over a connection of its own; an event loop of the test's own may be running."""

        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.url(database))
            try:
                return await connection.fetch(statement, *values)
            finally:
                await connection.close()

        return _in_its_own_loop(run())

    def answers(self) -> bool:
        """Whether it takes connections now."""
        try:
            return bool(self.sql("SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            return False

    def create_database(self, *, is_prepared: bool = True) -> str:
        """The name of a new database: with the tables of Twofold, as they are made once and copied then, or empty."""
        name = f"test_{next(self._numbers)}"
        if not is_prepared:
            self.sql(f"CREATE DATABASE {name}")
            return name
        if not self._template:
            self._template = self.create_database(is_prepared=False)
            _in_its_own_loop(prepare(self.url(self._template)))
        self.sql(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    def drop_database(self, name: str) -> None:
        """Whoever is connected is thrown out."""
        self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    # Replication.

    def make_standby(self, name: str = "standby") -> "PostgresServer":
        """A second server, started, that follows this one under that name; the caller removes it."""
        standby = PostgresServer()
        primary = f"{self.url('postgres')}?application_name={name}"
        command = [_program("pg_basebackup"), f"--pgdata={standby.data}", f"--dbname={primary}", *_BASEBACKUP]
        subprocess.run(command, cwd=standby.folder, check=True, **self._account)
        (standby.data / "standby.signal").touch()
        standby.configure(primary_conninfo=primary)
        standby.start()
        self._wait(lambda: self.sql("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"))
        return standby

    def wait_for_standby(self, name: str = "standby") -> None:
        """Have each commit wait from now on until that one has it, too."""
        self.configure(synchronous_standby_names=name)
        self._wait(lambda: self.sql("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))

    def promote(self) -> None:
        """Make a standby the server that takes writes."""
        assert self.sql("SELECT pg_promote()")[0][0]

    # Inside.

    def _starts(self) -> bool:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self.data, "-c", f"config_file={self.folder / 'postgresql.conf'}"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account,
            )
        while self._process.poll() is None:
            if self._says_ready():
                return True
            time.sleep(0.005)
        self._process = None
        return False

    def _says_ready(self) -> bool:
        """Its first line is the process, its last one the state: that of a server before may still be there."""
        try:
            lines = (self.data / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        return lines[:1] == [str(self.pid)] and lines[-1] in ("ready", "standby")

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        assert process is not None
        process.send_signal(how)
        process.wait(START_S_MAX)

    def _write_settings(self) -> None:
        lines = (f"{name} = '{value}'\n" for name, value in self._settings.items())
        file = self.folder / "postgresql.conf"
        file.write_text("".join(lines))
        _own(file)

    def _wait(self, is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + START_S_MAX
        while not is_so():
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.01)


@functools.cache
def _new_cluster() -> Path:
    """A cluster that was never started: making one takes longer than all else, so each is a copy."""
    initdb = _program("initdb")
    folder = Path(tempfile.mkdtemp(prefix="twofold-pg-"))
    atexit.register(shutil.rmtree, folder)
    _own(folder)
    (secret := folder / "password").write_text(PASSWORD)
    _own(secret)
    command = [initdb, f"--pgdata={folder / 'data'}", f"--username={USER}", f"--pwfile={secret}", *_INITDB]
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True, **_account())
    return folder / "data"


def _program(name: str) -> Path:
    """One of the programs that come with the server."""
    return Path(find_program("postgres")).resolve().with_name(name)


def _account() -> dict[str, Any]:
    """Whom the server runs as: the one who runs the tests, but never root."""
    if os.geteuid() != 0:
        return {}
    accounts = {account.pw_name: account for account in pwd.getpwall()}
    account = accounts.get("postgres") or accounts["nobody"]
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": ()}


def _own(path: Path) -> None:
    """Give a file to the account that the server runs under."""
    if account := _account():
        os.chown(path, account["user"], account["group"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _in_its_own_loop(work: Coroutine[Any, Any, T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The cluster of this run. Its settings and its life belong to all tests."""
    with PostgresServer() as server:
        server.create()
        server.start()
        yield server


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with the tables of Twofold and nothing in them."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def own_postgres() -> Iterator[Callable[..., PostgresServer]]:
    """Make and start clusters that a test may stop, kill and configure: `own_postgres(data=…, **settings)`."""
    with ExitStack() as servers:

        def start(*, data: Path | None = None, **settings: str) -> PostgresServer:
            server = servers.enter_context(PostgresServer(data))
            server.create()
            server.configure(**settings)
            server.start()
            return server

        yield start
