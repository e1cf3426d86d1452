"""The command line over PostgreSQL: what differs from a SQLite file, and that nothing else does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import STEP_S, Clock, Invoke, Phone
from tests.postgres import PostgresServer


@pytest.fixture(autouse=True)
def database_url(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("TWOFOLD_DATABASE_URL", postgres_url)
    return postgres_url


def test_a_person_gets_a_second_factor_and_both_are_found_again(
    enrolled: tuple[Phone, list[str]], invoke: Invoke, clock: Clock, data_dir: Path
) -> None:
    phone, recovery_codes = enrolled
    assert len(recovery_codes) == 10
    assert invoke("account", "verify", "me", typed=f"{phone.code()}\n").exit_code == 0
    assert invoke("account", "verify", "me", typed=f"{phone.code()}\n").exit_code == 1
    clock.advance(STEP_S)
    assert invoke("keys", "rotate").exit_code == 0
    assert invoke("account", "verify", "me", typed=f"{phone.code()}\n").exit_code == 0
    assert "me" in invoke("account", "list").stdout
    assert invoke("audit", "verify").exit_code == 0
    assert invoke("keys", "check").exit_code == 0
    assert [file.name for file in data_dir.iterdir()] == ["twofold.key"]


@pytest.mark.parametrize("command", [["account", "list"], ["account", "show", "me"], ["keys", "check"]], ids=str)
def test_a_database_that_nobody_made_is_named_without_its_password_and_nothing_is_made(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, invoke: Invoke, data_dir: Path, command: list[str]
) -> None:
    name = postgres_server.create_database(is_prepared=False)
    monkeypatch.setenv("TWOFOLD_DATABASE_URL", postgres_server.url(name))
    refused = invoke(*command)
    assert refused.exit_code == 1
    there = f"postgresql://twofold@127.0.0.1:{postgres_server.port}/{name}"
    assert (
        refused.stderr
        == f"twofold: there is no database {there}: `twofold account add ID` or `twofold serve` makes one\n"
    )
    assert not data_dir.exists()
    assert postgres_server.sql("SELECT 1 FROM pg_namespace WHERE nspname = 'twofold'", database=name) == []


def test_a_database_that_cannot_be_reached_is_one_line(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_DATABASE_URL", "postgresql://twofold:hunter2@127.0.0.1:1/twofold")
    for command in (["account", "add", "me"], ["account", "list"], ["serve", "--port", "0"]):
        refused = invoke(*command)
        assert refused.exit_code == 1
        assert refused.stderr.startswith(
            "twofold: the database postgresql://twofold@127.0.0.1:1/twofold cannot be used ("
        )
        assert refused.stderr.count("\n") == 1


def test_backup_files_are_for_sqlite_and_the_line_says_what_to_use(invoke: Invoke, tmp_path: Path) -> None:
    for command in (["backup", str(tmp_path / "b")], ["restore", __file__]):
        refused = invoke(*command)
        assert (refused.exit_code, "pg_dump" in refused.stderr) == (1, True)
    assert not (tmp_path / "b").exists()


def test_commands_that_begin_at_once_on_a_new_database_all_succeed(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch, invoke: Invoke
) -> None:
    name = postgres_server.create_database(is_prepared=False)
    monkeypatch.setenv("TWOFOLD_DATABASE_URL", postgres_server.url(name))
    commands = [[sys.executable, "-m", "twofold", "account", "add", person] for person in ("alice", "bob", "carol")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 3
    people = json.loads(invoke("account", "list", "--json").stdout)
    assert [person["id"] for person in people] == ["alice", "bob", "carol"]
