"""`twofold keys`: rotation, status, the end of a key, the trace, the passphrase; also beside a server that serves."""

import json
import os
import re
import signal
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pexpect
import pyotp
import pytest
from tests.cli.conftest import Clock, Invoke, Phone
from tests.servers import PROGRAM, Answer, Server, running
from tests.servers import Clock as ServerClock

from twofold.key_ports import Node
from twofold.keys.local import write_line

DAY_S = 86_400
Enrolled = tuple[Phone, list[str]]


def status(invoke: Invoke, *arguments: str) -> list[dict[str, Any]]:
    shown = invoke("keys", "status", "--json", *arguments)
    assert shown.exit_code == 0, shown.output
    told: list[dict[str, Any]] = json.loads(shown.stdout)
    return told


def seeds(invoke: Invoke) -> dict[str, int]:
    return {key["id"]: key["seeds"] for key in status(invoke)}


def verify(invoke: Invoke, phone: Phone, clock: Clock) -> bool:
    clock.advance(30)
    return invoke("account", "verify", "me", typed=f"{phone.code()}\n").exit_code == 0


def events(data_dir: Path) -> list[tuple[str, dict[str, Any]]]:
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection:
        rows = connection.execute("SELECT kind, payload FROM events WHERE account_id = '' ORDER BY seq").fetchall()
    return [(kind, json.loads(payload)) for kind, payload in rows if payload]


# Status.


def test_status_tells_seeds_age_uses_and_last_unwrap(invoke: Invoke, enrolled: Enrolled, clock: Clock) -> None:
    clock.advance(3 * DAY_S)
    (key,) = status(invoke)
    assert key["state"] == "active"
    assert (key["seeds"], key["age_days"], key["created_at"]) == (1, 3, "2026-03-01T12:00:00Z")
    assert key["uses"] > 0
    assert key["master"].startswith("master-")
    assert (key["retired_at"], key["may_be_destroyed_at"]) == (None, None)
    (again,) = status(invoke)
    assert again["last_unwrap_at"] == "2026-03-04T12:00:30Z"
    cells = invoke("keys", "status").stdout.split()
    assert cells[:5] == [key["id"], "active", "1", "2026-03-01T12:00:00Z", "3"]
    assert cells[-1] == key["master"]


def test_status_of_all_names_every_key_and_the_provider_of_each_master_key(
    invoke: Invoke, enrolled: Enrolled, data_dir: Path
) -> None:
    keys = status(invoke, "--all")
    assert sorted(key.get("purpose", "data") for key in keys) == [
        "data",
        "index",
        "integrity",
        "master",
        "receipt",
        "ticket",
    ]
    (master,) = (key for key in keys if key.get("purpose") == "master")
    assert master["provider"] == f"file:{data_dir}/twofold.key"
    assert f"file:{data_dir}/twofold.key" in invoke("keys", "status", "--all").stdout


# Rotation.


def test_after_a_rotation_everything_is_under_new_keys_and_still_opens(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, data_dir: Path
) -> None:
    before = status(invoke, "--all")
    rotated = invoke("keys", "rotate", "--reason", "an employee left")
    assert rotated.exit_code == 0, rotated.output
    old, new = status(invoke)
    assert (old["state"], old["seeds"], new["state"], new["seeds"]) == ("decrypt_only", 0, "active", 1)
    assert rotated.stdout.splitlines()[-1].endswith(
        f"accounts were put under new keys; everything is under {new['id']}"
    )
    assert old["retired_at"] == "2026-03-01T12:00:30Z"
    assert old["may_be_destroyed_at"] == "2026-03-31T12:00:30Z"
    active = {key.get("purpose", "data"): key["id"] for key in status(invoke, "--all") if key["state"] == "active"}
    for key in before:
        is_kept = key.get("purpose") in ("master", "index")
        assert (active[key.get("purpose", "data")] == key["id"]) == is_kept
    assert invoke("keys", "check").stdout == "every account opens\n"
    assert invoke("audit", "verify").exit_code == 0
    assert verify(invoke, enrolled[0], clock)
    told = [payload for kind, payload in events(data_dir) if kind == "key.rotated"]
    assert {payload["purpose"] for payload in told} == {"data", "receipt", "ticket", "integrity"}
    assert {payload["reason"] for payload in told} == {"an employee left"}
    assert all(payload["caller"].endswith(" keys rotate") for payload in told)


def test_a_rotation_of_the_data_key_alone_leaves_those_that_sign(invoke: Invoke, enrolled: Enrolled) -> None:
    before = {key["id"]: key["state"] for key in status(invoke, "--all")}
    assert invoke("keys", "rotate", "--data").exit_code == 0
    after = {key["id"]: key["state"] for key in status(invoke, "--all")}
    assert [key_id for key_id in before if after[key_id] != before[key_id]] == [next(iter(seeds(invoke)))]
    assert len(after) == len(before) + 1


def test_resumed_with_nothing_left_to_do_it_makes_no_key(invoke: Invoke, enrolled: Enrolled) -> None:
    before = status(invoke, "--all")
    resumed = invoke("keys", "rotate", "--resume")
    assert resumed.exit_code == 0
    assert resumed.stdout.startswith("0 of ")
    assert [key["id"] for key in status(invoke, "--all")] == [key["id"] for key in before]


@pytest.mark.parametrize(
    "flags", [["--data", "--resume"], ["--data", "--provider", "env:X"], ["--resume", "--provider", "env:X"]]
)
def test_what_cannot_be_meant_together_is_refused(invoke: Invoke, enrolled: Enrolled, flags: list[str]) -> None:
    before = status(invoke, "--all")
    refused = invoke("keys", "rotate", *flags)
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "exclude each other" in refused.stderr
    assert [key["id"] for key in status(invoke, "--all")] == [key["id"] for key in before]


def test_an_account_that_cannot_be_read_is_named_and_the_others_are_done(
    invoke: Invoke, enrolled: Enrolled, data_dir: Path
) -> None:
    invoke("account", "add", "you")
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute("UPDATE accounts SET document = CAST(document || x'00' AS BLOB) WHERE id = 'you'")
    rotated = invoke("keys", "rotate")
    assert rotated.exit_code == 1
    assert "not done: you: account you was changed by something else than Twofold" in rotated.stderr
    assert "everything is under" not in rotated.stdout
    assert sorted(seeds(invoke).values()) == [0, 1]


# Another provider.


def test_everything_moves_to_another_key_file_and_from_then_on_that_alone_opens_it(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"file:{tmp_path}/new.key"
    moved = invoke("keys", "rotate", "--provider", address)
    assert moved.exit_code == 0, moved.output
    assert f"every key is under {address} now: set KEY_PROVIDER to it" in moved.stdout
    assert (tmp_path / "new.key").stat().st_mode & 0o777 == 0o600
    refused = invoke("keys", "status")
    assert refused.exit_code == 1
    assert refused.stderr.count("\n") == 1
    assert address in refused.stderr
    monkeypatch.setenv("TWOFOLD_KEY_PROVIDER", address)
    assert verify(invoke, enrolled[0], clock)
    masters = [key for key in status(invoke, "--all") if key.get("purpose") == "master"]
    assert [(key["state"], key["provider"]) for key in masters][1] == ("active", address)
    assert {key["master"] for key in status(invoke)} == {masters[1]["id"]}


def test_moved_to_where_it_is_already_it_is_refused(invoke: Invoke, enrolled: Enrolled, data_dir: Path) -> None:
    refused = invoke("keys", "rotate", "--provider", f"file:{data_dir}/twofold.key")
    assert refused.exit_code == 1
    assert "holds the master key in use already" in refused.stderr


@pytest.mark.parametrize("address", ["floppy:a", "nothing", "env:NOT_SET", "file:/proc/nowhere/new.key"])
def test_a_provider_that_cannot_be_used_is_refused_in_one_line_and_nothing_is_changed(
    invoke: Invoke, enrolled: Enrolled, address: str, clock: Clock
) -> None:
    before = status(invoke, "--all")
    refused = invoke("keys", "rotate", "--provider", address)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.startswith("twofold: ")
    assert refused.stderr.count("\n") == 1
    assert [key["id"] for key in status(invoke, "--all")] == [key["id"] for key in before]
    assert verify(invoke, enrolled[0], clock)


def test_a_key_file_is_entered_with_its_whole_path_for_servers_start_elsewhere(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    moved = invoke("keys", "rotate", "--provider", "file:new.key")
    assert moved.exit_code == 0, moved.output
    assert f"every key is under file:{tmp_path}/new.key now" in moved.stdout
    monkeypatch.chdir("/")
    monkeypatch.setenv("TWOFOLD_KEY_PROVIDER", f"file:{tmp_path}/new.key")
    assert verify(invoke, enrolled[0], clock)


# The end of a key.


def test_a_retired_data_key_is_destroyed_after_two_scans_a_day_apart_and_its_grace(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, data_dir: Path
) -> None:
    (old,) = seeds(invoke)
    invoke("keys", "rotate", "--data")
    first = invoke("keys", "destroy", old, "--yes")
    assert (first.exit_code, first.stdout) == (1, "")
    assert "a second look a day from now has to find the same" in first.stderr
    clock.advance(DAY_S)
    early = invoke("keys", "destroy", old, "--yes")
    assert early.exit_code == 1
    assert f"{old} may be destroyed in 29 days" in early.stderr
    clock.advance(29 * DAY_S)
    unanswered = invoke("keys", "destroy", old)
    assert unanswered.exit_code == 1
    assert "--yes answers the question" in unanswered.stderr
    destroyed = invoke("keys", "destroy", old, "--yes", "--reason", "over")
    assert (destroyed.exit_code, destroyed.stdout) == (0, f"{old} is destroyed\n")
    assert {key["id"]: key["state"] for key in status(invoke)}[old] == "destroyed"
    assert events(data_dir)[-1][0] == "key.destroyed"
    assert verify(invoke, enrolled[0], clock)
    again = invoke("keys", "destroy", old, "--yes")
    assert again.exit_code == 1
    assert "only a retired key is destroyed" in again.stderr


def test_a_shorter_grace_still_takes_two_scans_a_day_apart(invoke: Invoke, enrolled: Enrolled, clock: Clock) -> None:
    (old,) = seeds(invoke)
    invoke("keys", "rotate", "--data")
    assert invoke("keys", "destroy", old, "--yes", "--grace", "0").exit_code == 1
    clock.advance(DAY_S - 1)
    assert invoke("keys", "destroy", old, "--yes", "--grace", "0").exit_code == 1
    clock.advance(1)
    assert invoke("keys", "destroy", old, "--yes", "--grace", "0").exit_code == 0


def test_a_key_that_something_is_under_is_not_destroyed(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, data_dir: Path
) -> None:
    (old,) = seeds(invoke)
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        kept = connection.execute("SELECT document, mac, version FROM accounts WHERE id = 'me'").fetchone()
    invoke("keys", "rotate", "--data")
    assert "a second look" in invoke("keys", "destroy", old, "--yes").stderr
    # As an older copy of the row that somebody put back.
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute("UPDATE accounts SET document = ?, mac = ?, version = ? WHERE id = 'me'", kept)
    clock.advance(40 * DAY_S)
    refused = invoke("keys", "destroy", old, "--yes")
    assert refused.exit_code == 1
    assert re.search(rf"\d+ values are still under {old}: twofold keys rotate --resume", refused.stderr)
    assert invoke("keys", "rotate", "--resume").exit_code == 0
    assert "a second look" in invoke("keys", "destroy", old, "--yes").stderr
    clock.advance(DAY_S)
    assert invoke("keys", "destroy", old, "--yes").exit_code == 0


def test_while_an_account_cannot_be_read_nothing_is_destroyed(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, data_dir: Path
) -> None:
    (old,) = seeds(invoke)
    invoke("account", "add", "you")
    invoke("keys", "rotate", "--data")
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute("UPDATE accounts SET document = CAST(document || x'00' AS BLOB) WHERE id = 'you'")
    for _ in range(2):
        refused = invoke("keys", "destroy", old, "--yes", "--grace", "0")
        assert refused.exit_code == 1
        assert "1 accounts cannot be read" in refused.stderr
        clock.advance(DAY_S)


@pytest.mark.parametrize("which", ["active", "unknown"])
def test_only_a_retired_key_is_destroyed(invoke: Invoke, enrolled: Enrolled, which: str) -> None:
    (active,) = seeds(invoke)
    refused = invoke("keys", "destroy", active if which == "active" else "data-none", "--yes")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert list(seeds(invoke)) == [active]


def test_the_file_of_a_destroyed_master_key_is_overwritten_and_removed(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = data_dir.parent
    (old,) = (key["id"] for key in status(invoke, "--all") if key.get("purpose") == "master")
    invoke("keys", "rotate", "--provider", f"file:{tmp_path}/new.key")
    monkeypatch.setenv("TWOFOLD_KEY_PROVIDER", f"file:{tmp_path}/new.key")
    (data_dir / "hard link").hardlink_to(data_dir / "twofold.key")
    assert invoke("keys", "destroy", old, "--yes").exit_code == 1
    clock.advance(30 * DAY_S)
    destroyed = invoke("keys", "destroy", old, "--yes")
    assert destroyed.exit_code == 0, destroyed.output
    assert f"{data_dir}/twofold.key was overwritten and removed" in destroyed.stdout
    assert not (data_dir / "twofold.key").exists()
    assert set((data_dir / "hard link").read_bytes()) == {0}
    assert verify(invoke, enrolled[0], clock)


# The trace.


def test_every_use_of_the_master_key_is_listed(invoke: Invoke, enrolled: Enrolled, clock: Clock) -> None:
    verify(invoke, enrolled[0], clock)
    uses = json.loads(invoke("keys", "trace", "--json").stdout)
    names = {"at", "use", "key", "master", "request", "reason", "account", "why", "caller", "node"}
    assert all(set(use) == names for use in uses)
    by_verify = [use for use in uses if use["caller"].endswith(" account verify")]
    assert {use["use"] for use in by_verify} == {"unwrapped"}
    assert {use["reason"] for use in by_verify} == {"start"}
    assert any(use["use"] == "wrapped" and use["reason"] == "new database" for use in uses)
    lines = invoke("keys", "trace").stdout.splitlines()
    assert len(lines) >= len(uses)
    assert lines[0].split()[1] == "wrapped"


def test_the_trace_looks_back_so_many_days(invoke: Invoke, enrolled: Enrolled, clock: Clock) -> None:
    clock.advance(3 * DAY_S)
    assert json.loads(invoke("keys", "trace", "--json", "--days", "1").stdout) == []
    assert json.loads(invoke("keys", "trace", "--json", "--days", "4").stdout) != []


def test_with_a_key_for_each_seed_the_trace_names_the_account(
    invoke: Invoke, new_phone: Callable[[str], Phone], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWOFOLD_DATA_KEYS", "per-seed")
    invoke("account", "add", "me")
    phone = new_phone(invoke("account", "enroll", "me").stdout)
    assert invoke("account", "enroll", "me", typed=f"{phone.code()}\n").exit_code == 0
    assert verify(invoke, phone, clock)
    uses = json.loads(invoke("keys", "trace", "--json").stdout)
    mine = [use for use in uses if use["account"] == "me"]
    assert {use["reason"] for use in mine} == {"new seed", "seed"}
    assert all(use["key"].startswith("seed-") for use in mine)
    (master,) = (key for key in status(invoke, "--all") if key.get("purpose") == "master")
    assert master["seeds"] == 1


# The passphrase.


def test_the_key_file_comes_under_a_passphrase_and_out_of_it_again(
    invoke: Invoke, enrolled: Enrolled, clock: Clock, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protected = invoke("keys", "protect", typed="correct horse\ncorrect horse\n")
    assert protected.exit_code == 0, protected.output
    assert protected.stdout == f"{data_dir}/twofold.key is under the new passphrase\n"
    assert "correct horse" not in protected.output
    refused = invoke("keys", "status")
    assert refused.exit_code == 1
    assert "passphrase" in refused.stderr
    monkeypatch.setenv("TWOFOLD_KEY_PASSPHRASE", "correct horse")
    assert verify(invoke, enrolled[0], clock)
    removed = invoke("keys", "protect", "--remove")
    assert removed.stdout == f"{data_dir}/twofold.key is without a passphrase\n"
    monkeypatch.delenv("TWOFOLD_KEY_PASSPHRASE")
    assert verify(invoke, enrolled[0], clock)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("one\ntwo\n", "these are not the same"),
        ("one\n", "two lines on standard input"),
        ("", "two lines on standard input"),
        ("\n\n", "empty"),
    ],
)
def test_a_passphrase_that_was_not_given_twice_changes_nothing(
    invoke: Invoke, enrolled: Enrolled, data_dir: Path, typed: str, said: str
) -> None:
    before = (data_dir / "twofold.key").read_bytes()
    refused = invoke("keys", "protect", typed=typed)
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert said in refused.stderr
    assert (data_dir / "twofold.key").read_bytes() == before
    assert invoke("keys", "check").exit_code == 0


# Beside a server that serves.


@pytest.fixture
def server_clock(tmp_path: Path) -> ServerClock:
    return ServerClock(tmp_path / "server-clock")


SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


class Application:
    """An application at a server, and the phone of its one account."""

    def __init__(self, server: Server, clock: ServerClock) -> None:
        self._clock = clock
        self._key = server.create_key("verify", "enroll", "admin")
        with server.client(self._key) as client:
            client.add_account("me")
            body = {"factor": "totp", "secret": SECRET, "confirmed": True}
            assert client.call("POST", "/api/v1/accounts/me/authenticators", body).status == 201

    def verify(self, server: Server) -> Answer:
        """With the next code."""
        self._clock.advance()
        with server.client(self._key) as client:
            return client.verify("me", pyotp.TOTP(SECRET).at(self._clock.now_s))

    def is_ready(self, server: Server) -> Answer:
        with server.client(self._key) as client:
            return client.call("GET", "/health/ready")


def test_a_server_goes_on_while_everything_moves_to_another_key_file(tmp_path: Path, server_clock: ServerClock) -> None:
    address = f"file:{tmp_path}/new.key"
    with running(tmp_path / "data", test_clock=str(server_clock.path)) as server:
        application = Application(server, server_clock)
        # The clock stands still from its last report on: it is there, and it is waited for.
        moved = server.command("keys", "rotate", "--provider", address)
        assert (moved.returncode, moved.stderr) == (0, "")
        assert "set KEY_PROVIDER to it" in moved.stdout
        after = application.verify(server)
        assert after.is_verified, after
        assert application.is_ready(server).body == {"status": "ready"}
        server.stop()
    with running(tmp_path / "data", test_clock=str(server_clock.path), key_provider=address) as server:
        assert application.verify(server).is_verified
        assert server.command("keys", "check").stdout == "every account opens\n"


def test_where_a_server_cannot_go_along_nothing_is_changed_and_it_says_why(
    tmp_path: Path, server_clock: ServerClock
) -> None:
    with running(tmp_path / "data", test_clock=str(server_clock.path)) as server:
        application = Application(server, server_clock)
        before = json.loads(server.command("keys", "status", "--json").stdout)
        # It is in the environment of this command and not in that of the server.
        line = write_line(b"a master key of thirty-two bytes")
        environment = {**os.environ, "TWOFOLD_DATA_DIR": str(server.data_dir), "NEW_MASTER": line}
        environment["TWOFOLD_TEST_CLOCK"] = str(server_clock.path)
        refused = subprocess.run(
            [*PROGRAM, "keys", "rotate", "--provider", "env:NEW_MASTER"],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert (refused.returncode, refused.stdout) == (1, "")
        assert refused.stderr.count("\n") == 1
        assert "cannot go along: NEW_MASTER" in refused.stderr
        assert "what it would not understand is not in use" in refused.stderr
        after = json.loads(server.command("keys", "status", "--json").stdout)
        assert [key["id"] for key in after] == [key["id"] for key in before]
        assert application.verify(server).is_verified


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_stopped_in_the_middle_it_says_how_to_go_on_and_goes_on(
    invoke: Invoke, data_dir: Path, terminal: Callable[..., "pexpect.spawn[str]"], clock: Clock, how: signal.Signals
) -> None:
    for number in range(3):
        invoke("account", "add", f"p{number}")
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        # A server that does not follow holds the rotation up, as long as this test needs.
        now = clock.now_s * 1_000_000
        sql = "INSERT INTO nodes (id, seen_at, document) VALUES ('slow-1', ?, ?)"
        connection.execute(sql, (now, _slow_node(now)))
    child = terminal("keys", "rotate")
    # The new data key is there, and it waits.
    while len(_data_keys(data_dir)) < 2:
        assert child.isalive()
    child.kill(how)
    child.expect("stopped; twofold keys rotate --resume goes on")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute("DELETE FROM nodes")
    resumed = invoke("keys", "rotate", "--resume")
    assert resumed.exit_code == 0, resumed.output
    assert len(_data_keys(data_dir)) == 2
    assert invoke("keys", "check").exit_code == 0


def _data_keys(data_dir: Path) -> list[str]:
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM keyring WHERE purpose = 'data'")]


def _slow_node(now: int) -> bytes:
    return msgspec.json.encode(Node("slow-1", "slow", now, now, (), "", "another stamp"))


@pytest.mark.parametrize("spelling", ["{}/new.key", "{}/./data/../new.key", "new.key"])
def test_whatever_the_row_of_a_retired_master_key_says_no_other_file_is_removed(
    invoke: Invoke, clock: Clock, data_dir: Path, monkeypatch: pytest.MonkeyPatch, spelling: str
) -> None:
    tmp_path = data_dir.parent
    invoke("account", "add", "me")
    (old,) = (key["id"] for key in status(invoke, "--all") if key.get("purpose") == "master")
    invoke("keys", "rotate", "--provider", f"file:{tmp_path}/new.key")
    monkeypatch.setenv("TWOFOLD_KEY_PROVIDER", f"file:{tmp_path}/new.key")
    monkeypatch.chdir(tmp_path)
    invoke("keys", "destroy", old, "--yes")
    clock.advance(30 * DAY_S)
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute("UPDATE keyring SET uri = ? WHERE id = ?", (f"file:{spelling.format(tmp_path)}", old))
    destroyed = invoke("keys", "destroy", old, "--yes")
    assert destroyed.exit_code == 0, destroyed.output
    assert "now destroy the master key at" in destroyed.stdout
    assert (tmp_path / "new.key").exists()
    assert (data_dir / "twofold.key").exists()
    assert invoke("keys", "check").exit_code == 0


def test_a_link_to_the_key_file_in_use_is_no_other_master_key(
    invoke: Invoke, enrolled: Enrolled, data_dir: Path
) -> None:
    link = data_dir.parent / "link.key"
    link.symlink_to(data_dir / "twofold.key")
    refused = invoke("keys", "rotate", "--provider", f"file:{link}")
    assert refused.exit_code == 1
    assert "take another master key" in refused.stderr
    assert invoke("keys", "check").exit_code == 0
