"""`migrate-store` by the real program: there and back, cut off in the middle, refused while somebody serves."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pexpect
import pytest
from click.testing import Result
from tests.cli.conftest import STEP_S, Clock, Invoke, Phone
from tests.postgres import PostgresServer
from tests.servers import Server, running

from twofold.errors import ConfigurationError
from twofold.server.alone import only_server

Spawn = Callable[..., "pexpect.spawn[str]"]
#: So many rows take some seconds, and there is a middle of the move to be hit.
MANY = 100_000
HOLD_S_MAX = 20
#: Of `account verify`: the code was not looked at.
EX_UNAVAILABLE = 69


def url_of(data_dir: Path) -> str:
    return f"sqlite:///{data_dir / 'twofold.db'}"


def fill(data_dir: Path, rows: int = MANY) -> None:
    """Counters, which need no key to be made."""
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute(
            """WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
            INSERT INTO rate SELECT i, CAST(i AS BLOB), 1 FROM n""",
            (rows,),
        )


def start(*arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "twofold", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + HOLD_S_MAX
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def count_rates(server: PostgresServer, url: str) -> int:
    ((count,),) = server.sql("SELECT count(*) FROM twofold.rate", database=url.rpartition("/")[2])
    return int(count)


def without_password(url: str) -> str:
    return re.sub(r":[^:@/]+@", "@", url)


def verify(invoke: Invoke, phone: Phone, *arguments: str) -> Result:
    return invoke("account", "verify", "me", *arguments, typed=f"{phone.code()}\n")


# There and back.


def test_a_deployment_goes_to_postgresql_and_back_and_is_used_in_one_place_at_a_time(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], data_dir: Path, clock: Clock, postgres_url: str
) -> None:
    phone, _ = enrolled
    first, third = url_of(data_dir), f"sqlite:///{data_dir / 'back.db'}"
    moved = invoke("migrate-store", first, postgres_url)
    assert (moved.exit_code, moved.stderr) == (0, "")
    assert moved.stdout == (
        f"moved {moved.stdout.split()[1]} rows to {without_password(postgres_url)}: "
        "all are the same there, and every audit chain holds\n"
        f"Set TWOFOLD_DATABASE_URL to it. The master key stays where it is: file:{data_dir / 'twofold.key'}\n"
    )
    there = ("--database-url", postgres_url)
    assert verify(invoke, phone, *there).exit_code == 0
    clock.advance(STEP_S)
    assert verify(invoke, phone).exit_code == EX_UNAVAILABLE
    assert invoke("account", "list").stderr == (
        f"twofold: the data of this database were moved to {without_password(postgres_url)}: set DATABASE_URL to it; "
        "to go back, move the data back with twofold migrate-store\n"
    )
    back = invoke("migrate-store", postgres_url, third, "--json")
    assert back.exit_code == 0, back.output
    rows = json.loads(back.stdout)
    assert (rows["from"], rows["to"]) == (without_password(postgres_url), third)
    assert rows["rows"]["accounts"] == 2
    assert verify(invoke, phone, "--database-url", third).exit_code == 0
    assert verify(invoke, phone, *there).exit_code == EX_UNAVAILABLE
    assert invoke("audit", "verify", "--database-url", third).exit_code == 0


def test_who_moved_it_is_in_the_trace_of_the_keys(
    invoke: Invoke, enrolled: object, data_dir: Path, postgres_url: str
) -> None:
    assert invoke("migrate-store", url_of(data_dir), postgres_url).exit_code == 0
    trace = json.loads(invoke("keys", "trace", "--json", "--database-url", postgres_url).stdout)
    assert any(use["caller"].endswith(" migrate-store") for use in trace)


def test_the_same_command_again_says_that_it_is_done(
    invoke: Invoke, enrolled: object, data_dir: Path, postgres_url: str, tmp_path: Path
) -> None:
    for target in (postgres_url, f"sqlite:///{tmp_path / 'other.db'}"):
        again = invoke("migrate-store", url_of(data_dir), target)
        if target == postgres_url:
            assert again.exit_code == 0
            again = invoke("migrate-store", url_of(data_dir), target)
            assert (again.exit_code, again.stderr) == (0, "")
            assert again.stdout == f"{url_of(data_dir)} was moved to {without_password(target)} before\n"
    assert again.exit_code == 1
    assert (
        again.stderr
        == f"twofold: the data of {url_of(data_dir)} were moved to {without_password(postgres_url)} already\n"
    )


@pytest.mark.parametrize("parts", ["2", "8"])
def test_the_tables_are_divided_if_wanted(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], data_dir: Path, postgres_server: PostgresServer, parts: str
) -> None:
    name = postgres_server.create_database(is_prepared=False)
    url = postgres_server.url(name)
    try:
        assert invoke("migrate-store", url_of(data_dir), url, "--partitions", parts).exit_code == 0
        assert verify(invoke, enrolled[0], "--database-url", url).exit_code == 0
        sql = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'twofold.events'::regclass"
        assert postgres_server.sql(sql, database=name)[0][0] == int(parts)
    finally:
        postgres_server.drop_database(name)


# Cut off.


def test_after_kill_9_the_target_is_shut_and_the_same_command_goes_on(
    invoke: Invoke,
    enrolled: tuple[Phone, list[str]],
    data_dir: Path,
    postgres_server: PostgresServer,
    postgres_url: str,
) -> None:
    fill(data_dir)
    source = url_of(data_dir)
    with start("migrate-store", source, postgres_url) as process:
        wait_for(lambda: count_rates(postgres_server, postgres_url))
        process.kill()
    assert 0 < count_rates(postgres_server, postgres_url) < MANY
    shut = invoke("account", "list", "--database-url", postgres_url)
    assert shut.exit_code == 1
    assert shut.stderr == (
        f"twofold: the move from {source} into this database is not finished: run twofold migrate-store again\n"
    )
    # Who gives it up goes on where he was.
    assert invoke("account", "list").exit_code == 0
    gone_on = invoke("migrate-store", source, postgres_url, "--json")
    assert gone_on.exit_code == 0, gone_on.output
    assert json.loads(gone_on.stdout)["rows"]["rate"] == count_rates(postgres_server, postgres_url) == MANY
    assert verify(invoke, enrolled[0], "--database-url", postgres_url).exit_code == 0


def test_when_postgresql_is_killed_it_is_one_line_and_the_same_command_goes_on(
    invoke: Invoke,
    enrolled: tuple[Phone, list[str]],
    data_dir: Path,
    own_postgres: Callable[..., PostgresServer],
) -> None:
    fill(data_dir)
    server = own_postgres()
    url = server.url(server.create_database())
    with start("migrate-store", url_of(data_dir), url) as process:
        wait_for(lambda: count_rates(server, url))
        server.kill()
        out, error = process.communicate(timeout=HOLD_S_MAX)
    assert (process.returncode, out) == (1, "")
    assert re.fullmatch(rf"twofold: {re.escape(without_password(url))} cannot be read or written: .+\n", error)
    server.start()
    assert invoke("migrate-store", url_of(data_dir), url).exit_code == 0
    assert count_rates(server, url) == MANY
    assert verify(invoke, enrolled[0], "--database-url", url).exit_code == 0


def test_a_terminal_shows_how_far_it_is_and_ctrl_c_is_one_line(
    terminal: Spawn, invoke: Invoke, enrolled: object, data_dir: Path, tmp_path: Path
) -> None:
    fill(data_dir)
    target = f"sqlite:///{tmp_path / 'other.db'}"
    child = terminal("migrate-store", url_of(data_dir), target)
    child.expect(rf"copying rate.*\d+/{MANY}")
    child.sendintr()
    child.expect("twofold: interrupted; the same command goes on\r\n")
    child.expect(pexpect.EOF)
    child.wait()
    assert child.exitstatus == 128 + signal.SIGINT
    assert invoke("migrate-store", url_of(data_dir), target).exit_code == 0


# Refused.


def test_nothing_is_moved_while_a_server_runs(invoke: Invoke, tmp_path: Path, postgres_url: str) -> None:
    with running(tmp_path / "first") as server:
        refused = migrate(server, url_of(server.data_dir), postgres_url)
        assert refused.returncode == 1
        assert "another server serves" in refused.stderr
        server.stop()
    moved = migrate(server, url_of(server.data_dir), postgres_url)
    assert moved.returncode == 0, moved.stderr
    with running(server.data_dir, database_url=postgres_url) as server:
        refused = migrate(server, postgres_url, f"sqlite:///{tmp_path / 'back.db'}")
        assert refused.returncode == 1
        assert re.fullmatch(
            rf"twofold: {re.escape(without_password(postgres_url))} is served on \S+: stop it first; "
            r"one that was killed is forgotten after 30 s\n",
            refused.stderr,
        )
        server.stop()
        moved = migrate(server, postgres_url, f"sqlite:///{tmp_path / 'back.db'}")
        assert moved.returncode == 0, moved.stderr


def migrate(server: Server, source: str, target: str) -> "subprocess.CompletedProcess[str]":
    return server.command("migrate-store", source, target)


def test_a_server_does_not_start_while_its_data_are_moved(
    enrolled: object, data_dir: Path, postgres_server: PostgresServer, postgres_url: str
) -> None:
    fill(data_dir)
    with start("migrate-store", url_of(data_dir), postgres_url) as process:
        wait_for(lambda: count_rates(postgres_server, postgres_url))
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(ConfigurationError, match="another server serves"), only_server(data_dir / "twofold.db"):
            pass
        process.kill()
    with only_server(data_dir / "twofold.db"):
        pass


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("mysql://u:secret@h/d", "sqlite:b.db"), "FROM: expected sqlite:///path/to/file.db or postgresql://"),
        (("sqlite:a.db", "postgresql://u:secret@h"), "TO: expected sqlite:///path/to/file.db or postgresql://"),
        (("sqlite:a.db", "postgresql://u:sec/ret@h/d"), "TO: / ? # @ in a password are written as"),
        (("sqlite:a.db", "sqlite:"), "TO: expected"),
        (("sqlite:a.db", "sqlite:b.db", "--partitions", "8"), "--partitions is for a TO in PostgreSQL"),
        (("sqlite:a.db", "sqlite:///./a.db"), "FROM and TO are the same database"),
        (("sqlite:a.db", "postgresql://h/d", "--partitions", "1"), "'--partitions': 1 is not in the range"),
    ],
)
def test_what_cannot_be_meant_is_named_without_a_password(
    invoke: Invoke, arguments: tuple[str, ...], problem: str
) -> None:
    refused = invoke("migrate-store", *arguments)
    assert refused.exit_code == 2
    assert problem in refused.stderr
    assert refused.stderr.count("\n") == 1
    assert not {"secret", "sec/ret"} & set(re.split(r"[:@ ]", refused.stderr))


def test_what_is_not_there_is_not_made(invoke: Invoke, tmp_path: Path, postgres_server: PostgresServer) -> None:
    missing, target = f"sqlite:///{tmp_path / 'none.db'}", f"sqlite:///{tmp_path / 'target.db'}"
    refused = invoke("migrate-store", missing, target)
    assert (refused.exit_code, refused.stderr) == (1, f"twofold: there is no database {tmp_path / 'none.db'}\n")
    name = postgres_server.create_database(is_prepared=False)
    refused = invoke("migrate-store", postgres_server.url(name), target)
    assert refused.exit_code == 1
    assert refused.stderr == f"twofold: there is no database {without_password(postgres_server.url(name))}\n"
    postgres_server.drop_database(name)
    assert not list(tmp_path.glob("*.db"))


def test_without_the_key_nothing_is_moved(
    invoke: Invoke, enrolled: object, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = f"sqlite:///{tmp_path / 'target.db'}"
    monkeypatch.setenv("TWOFOLD_KEY_PROVIDER", f"file:{tmp_path / 'other.key'}")
    refused = invoke("migrate-store", url_of(data_dir), target)
    assert (refused.exit_code, refused.stderr.count("\n")) == (1, 1)
    assert "other.key" in refused.stderr
    assert not (tmp_path / "other.key").exists()
    monkeypatch.delenv("TWOFOLD_KEY_PROVIDER")
    assert invoke("migrate-store", url_of(data_dir), target).exit_code == 0


def test_what_was_changed_from_outside_is_one_line_and_everything_stays(
    invoke: Invoke, enrolled: object, data_dir: Path, tmp_path: Path
) -> None:
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute("UPDATE events SET at = at + 1 WHERE account_id = 'me' AND seq = 2")
    refused = invoke("migrate-store", url_of(data_dir), f"sqlite:///{tmp_path / 'target.db'}")
    assert refused.exit_code == 1
    assert refused.stderr == ("twofold: the row 'me', 2 of the table events: the event or one before it was changed\n")
    assert invoke("account", "list").exit_code == 0
    assert invoke("account", "list", "--database-url", f"sqlite:///{tmp_path / 'target.db'}").exit_code == 1
