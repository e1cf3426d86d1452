"""`backup` and `restore` by the real program: beside a server, cut off in the middle, on a full disk, at a terminal."""

import base64
import hashlib
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pexpect
import pytest
from tests.cli.conftest import Clock, Invoke, Phone
from tests.forms import FormVisitor
from tests.people import Person, setup_link
from tests.servers import Client, Server, running
from tests.servers import Clock as ServerClock

from twofold.backup import write_backup
from twofold.clocks import SystemClock, SystemEntropy

PASSPHRASE = "correct horse battery staple"
Spawn = Callable[..., "pexpect.spawn[str]"]


@pytest.fixture
def passphrase_file(tmp_path: Path) -> str:
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    return str(tmp_path / "passphrase")


@pytest.fixture
def backed_up(invoke: Invoke, enrolled: tuple[Phone, list[str]], tmp_path: Path, passphrase_file: str) -> Path:
    """A backup of a deployment with the account `me`."""
    made = invoke("backup", str(tmp_path / "b"), "--passphrase-file", passphrase_file)
    assert made.exit_code == 0, made.output
    return tmp_path / "b"


def contents(folder: Path) -> dict[str, str]:
    """Every file in there with a digest of what it holds."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


#: A program that is started in the background, or with its files held down as on a disk that is full.
_PRELUDE = """
import resource, runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
limit = int(sys.argv.pop(1))
if limit >= 0:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
runpy.run_module("twofold", run_name="__main__")
"""


def start(*arguments: str, limit: int = -1, **settings: str) -> "subprocess.Popen[str]":
    """The real program. `limit`: how many bytes its files may have; `settings` become `TWOFOLD_*`."""
    return subprocess.Popen(
        [sys.executable, "-c", _PRELUDE, str(limit), *arguments],
        env={**os.environ, **{f"TWOFOLD_{name.upper()}": value for name, value in settings.items()}},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments: str, **options: Any) -> str:
    """What it prints; it must succeed."""
    with start(*arguments, **options) as process:
        out, error = process.communicate(timeout=60)
    assert process.returncode == 0, error
    return out


def fail(*arguments: str, status: int = 1, **options: Any) -> str:
    """The one line in which it fails."""
    with start(*arguments, **options) as process:
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out) == (status, ""), error
    assert error.startswith("twofold: ")
    assert error.count("\n") == 1
    return error


# The whole journey.


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Server, ServerClock]]:
    at = ServerClock(tmp_path / "server-clock")
    with running(tmp_path / "first", test_clock=str(at.path)) as server:
        yield server, at


def move(visitor: FormVisitor, server: Server) -> FormVisitor:
    """The same browser, with its cookies, at another server of the same name."""
    moved = FormVisitor(f"http://localhost:{server.port}")
    for cookie in visitor.http.cookies.jar:
        moved.http.cookies.jar.set_cookie(cookie)
    return moved


def test_a_deployment_comes_back_elsewhere_without_what_was_in_force(
    served: tuple[Server, ServerClock], tmp_path: Path, passphrase_file: str
) -> None:
    server, clock = served
    ada = Person("ada", FormVisitor(f"http://localhost:{server.port}"), clock)
    ada.set_up(setup_link(server))
    ada.enroll()
    ada.sign_out()
    ada.sign_in()
    key = server.create_key("verify", "enroll", "admin")
    with server.client(key) as api:
        phone, recovery_codes = api.enroll_phone("bob", clock.now_s)
        token = api.import_phone("carol", factor="hotp")
        clock.advance()
        first = api.verify("bob", phone.code(clock.now_s))
        assert first.is_verified
        made = server.command("backup", str(tmp_path / "b"), "--passphrase-file", passphrase_file)
        assert made.returncode == 0, made.stderr
        assert made.stdout.startswith("backed up 3 accounts to ")
        # What happens after the backup is what a restore must not undo.
        clock.advance()
        used = phone.code(clock.now_s)
        assert api.verify("bob", used).is_verified
        pressed = token.next_code(clock.now_s)
        assert api.verify("carol", pressed).is_verified
        ada.assert_signed_in()
    assert server.stop() == 0

    second = Server(tmp_path / "second", test_clock=str(clock.path))
    restored = second.command("restore", str(tmp_path / "b"), "--passphrase-file", passphrase_file)
    assert restored.returncode == 0, restored.stderr
    assert restored.stdout.startswith("restored 3 accounts as of ")
    assert re.search(r"^  administrators +ada$", restored.stdout, re.MULTILINE)
    assert re.search(r"^  API keys +story \([a-z2-7]{8}\)$", restored.stdout, re.MULTILINE)
    assert re.search(r"^  recovery codes +20 of 2 accounts", restored.stdout, re.MULTILINE)
    assert re.search(r"^  code tokens +1: to be pressed up to ten times", restored.stdout, re.MULTILINE)
    try:
        second.start()
        ada.at(move(ada.visitor, second)).assert_signed_out()
        with second.client(key) as api:
            assert api.verify("bob", used).body["reason"] == "code_already_used"
            known = api.verify("bob", used, context={"browser": first.body["browser"]})
            assert known.body["reason"] == "code_already_used"
            assert api.verify("carol", pressed).body["reason"] == "code_already_used"
            clock.advance(4 * 30)
            assert api.verify("bob", phone.code(clock.now_s)).is_verified
            assert api.verify("bob", recovery_codes[0]).is_verified
            answers = [api.verify("carol", token.next_code(clock.now_s)).is_verified for _ in range(10)]
            assert answers[-1]
        at_second = ada.at(FormVisitor(f"http://localhost:{second.port}"))
        at_second.sign_in()
    finally:
        if second.is_running:
            assert second.stop() == 0
    assert second.command("audit", "verify").returncode == 0
    assert second.command("keys", "check").returncode == 0
    events = sqlite3.connect(second.database).execute("SELECT kind FROM events WHERE kind LIKE '%.restored'").fetchall()
    assert sorted(kind for (kind,) in events) == ["account.restored"] * 3 + ["deployment.restored"]


def test_a_backup_beside_people_who_sign_in_is_whole_and_turns_nobody_away(
    served: tuple[Server, ServerClock], tmp_path: Path, passphrase_file: str
) -> None:
    server, clock = served
    key = server.create_key("verify", "enroll", "admin")
    with server.client(key) as api:
        phones = [api.import_phone(f"person{number}") for number in range(12)]
    done = threading.Event()
    answers: list[bool] = []

    def sign_in(api: Client) -> None:
        with api:
            while not done.is_set():
                answers.extend(api.verify(p.account_id, p.code(clock.now_s)).status == 200 for p in phones)

    people = threading.Thread(target=sign_in, args=(server.client(key),))
    people.start()
    try:
        for number in range(3):
            clock.advance()
            made = server.command("backup", str(tmp_path / f"b{number}"), "--passphrase-file", passphrase_file)
            assert made.returncode == 0, made.stderr
    finally:
        done.set()
        people.join()
    assert answers
    assert all(answers)
    for number in range(3):
        file = str(tmp_path / f"b{number}")
        checked = server.command("restore", file, "--check", "--json", "--passphrase-file", passphrase_file)
        assert checked.returncode == 0, checked.stderr
        shown = json.loads(checked.stdout)
        assert (shown["ok"], shown["accounts"], shown["seeds"]) == (True, 12, 12)
    assert not any("backing-up" in name for name in contents(server.data_dir))


# Looking into a backup.


def test_check_tells_what_is_inside_and_changes_nothing_anywhere(
    invoke: Invoke, backed_up: Path, data_dir: Path, passphrase_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path = backed_up.parent
    before = contents(data_dir)
    out = run("restore", str(backed_up), "--check", "--passphrase-file", passphrase_file)
    assert re.fullmatch(
        r"made        2026-03-01T12:00:30Z by Twofold \S+\n"
        r"accounts    1\n"
        r"audit log   \d+ events, the newest of 2026-03-01T12:00:00Z\n"
        r"master key  inside\n"
        r"seeds       1\n"
        r"settings    none\n"
        r"everything opens, and every audit chain holds\n",
        out,
    )
    assert contents(data_dir) == before
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path / "nowhere"))
    shown = json.loads(
        invoke("restore", str(backed_up), "--check", "--json", "--passphrase-file", passphrase_file).stdout
    )
    assert (shown["ok"], shown["files"], shown["problems"]) == (True, ["twofold.key", "twofold.db"], [])
    assert not (tmp_path / "nowhere").exists()


def test_check_says_when_no_seed_shows_that_one_would_open(
    invoke: Invoke, clock: Clock, tmp_path: Path, passphrase_file: str
) -> None:
    invoke("account", "add", "me")
    invoke("backup", str(tmp_path / "b"), "--passphrase-file", passphrase_file)
    checked = invoke("restore", str(tmp_path / "b"), "--check", "--passphrase-file", passphrase_file)
    assert "seeds       none, so nothing shows that one would open\n" in checked.stdout
    assert checked.exit_code == 0


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE accounts SET document = CAST(document || x'00' AS BLOB) WHERE id = 'me'",
        "DELETE FROM events WHERE account_id = 'me' AND seq = 2",
        "DELETE FROM accounts WHERE id = 'me'",
    ],
)
@pytest.mark.usefixtures("enrolled")
def test_check_names_what_does_not_hold(
    invoke: Invoke, data_dir: Path, tmp_path: Path, passphrase_file: str, damage: str
) -> None:
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        assert connection.execute(damage).rowcount > 0
    invoke("backup", str(tmp_path / "b"), "--passphrase-file", passphrase_file)
    checked = invoke("restore", str(tmp_path / "b"), "--check", "--passphrase-file", passphrase_file)
    assert checked.exit_code == 1
    assert re.search("^me: ", checked.stdout, re.MULTILINE)
    assert "everything opens" not in checked.stdout
    assert checked.stderr == "twofold: the backup opens, and not everything in it does\n"


@pytest.mark.parametrize("mode", [["--check"], []])
def test_what_cannot_be_opened_is_told_in_one_line_and_leaves_nothing(
    invoke: Invoke, backed_up: Path, tmp_path: Path, passphrase_file: str, mode: list[str]
) -> None:
    whole = backed_up.read_bytes()
    (tmp_path / "wrong").write_text("another long passphrase")
    cases = {
        "passphrase is wrong": (whole, str(tmp_path / "wrong")),
        "is damaged": (whole[:-20], passphrase_file),
        "damaged: it was changed": (whole[:5000] + b"\0\0\0" + whole[5003:], passphrase_file),
        "no backup of Twofold": (b"something else", passphrase_file),
    }
    for problem, (data, passphrase) in cases.items():
        (tmp_path / "case").write_bytes(data)
        arguments = ["restore", str(tmp_path / "case"), *mode, "--passphrase-file", passphrase]
        refused = invoke(*arguments, "--data-dir", str(tmp_path / "other"))
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert problem in refused.stderr
        assert (refused.stderr[:9], refused.stderr.count("\n")) == ("twofold: ", 1)
        assert contents(tmp_path / "other") == {}
    missing = invoke("restore", str(tmp_path / "none"), *mode)
    assert (missing.exit_code, missing.stderr.count("\n")) == (2, 1)
    assert "does not exist" in missing.stderr


# What is in the way.


def test_an_existing_database_is_left_as_it_is_and_the_line_that_moves_it_aside_helps(
    backed_up: Path, data_dir: Path, passphrase_file: str
) -> None:
    before = contents(data_dir)
    error = fail("restore", str(backed_up), "--passphrase-file", passphrase_file)
    assert "nothing is overwritten; stop its server and move it aside: mkdir " in error
    assert contents(data_dir) == before
    subprocess.run(error.strip().rpartition("aside: ")[2], shell=True, check=True)  # noqa: S602 - as its reader would
    run("restore", str(backed_up), "--passphrase-file", passphrase_file)
    assert contents(data_dir)["before-restore/twofold.db"] == before["twofold.db"]


def test_another_master_key_is_left_as_it_is(backed_up: Path, tmp_path: Path, passphrase_file: str) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "twofold.key").write_text("another one")
    error = fail("restore", str(backed_up), "--passphrase-file", passphrase_file, data_dir=str(other))
    assert f"{other / 'twofold.key'} is another one than in the backup" in error
    assert {path.name for path in other.iterdir()} == {"twofold.key"}
    elsewhere = f"file:{other / 'restored.key'}"
    command = ["restore", str(backed_up), "--passphrase-file", passphrase_file]
    run(*command, data_dir=str(other), key_provider=elsewhere)
    assert (other / "twofold.key").read_text() == "another one"
    run("keys", "check", data_dir=str(other), key_provider=elsewhere)


def test_settings_that_name_a_postgresql_database_are_not_followed_and_show_no_password(
    backed_up: Path, data_dir: Path, tmp_path: Path, passphrase_file: str
) -> None:
    (data_dir / "twofold.toml").write_text('database_url = "postgresql://twofold:hunter2@db.example.com/twofold"\n')
    here = {"data_dir": str(data_dir), "database_url": f"sqlite:///{data_dir}/twofold.db"}
    run("backup", str(tmp_path / "b2"), "--passphrase-file", passphrase_file, **here)
    said = fail("restore", str(tmp_path / "b2"), "--passphrase-file", passphrase_file, data_dir=str(tmp_path / "other"))
    assert "set TWOFOLD_DATABASE_URL to the SQLite file to make" in said
    assert "hunter2" not in said
    assert contents(tmp_path / "other") == {}


def test_settings_come_back_and_say_where_the_rest_goes_unless_there_are_some(
    invoke: Invoke, backed_up: Path, data_dir: Path, tmp_path: Path, passphrase_file: str
) -> None:
    vault = tmp_path / "vault"
    toml = f'issuer = "Acme"\nkey_provider = "file:{vault}/master.key"\ndatabase_url = "sqlite:///{vault}/t.db"\n'
    vault.mkdir()
    (data_dir / "twofold.key").rename(vault / "master.key")
    (data_dir / "twofold.db").rename(vault / "t.db")
    (data_dir / "twofold.toml").write_text(toml)
    made = invoke("backup", str(tmp_path / "b2"), "--passphrase-file", passphrase_file)
    assert made.exit_code == 0, made.output
    vault.rename(tmp_path / "gone")
    command = ["restore", str(tmp_path / "b2"), "--passphrase-file", passphrase_file]
    # Whoever made a backup would lead us anywhere: where it says, nothing goes before somebody has agreed.
    said = fail(*command, data_dir=str(tmp_path / "other"))
    assert f"the settings in this backup say KEY_PROVIDER 'file:{vault}/master.key'" in said
    assert contents(tmp_path / "other") == {}
    assert not vault.exists()
    agreed = {"key_provider": f"file:{vault}/master.key", "database_url": f"sqlite:///{vault}/t.db"}
    run(*command, data_dir=str(tmp_path / "other"), **agreed)
    assert (tmp_path / "other" / "twofold.toml").read_text() == toml
    assert contents(vault).keys() == {"master.key", "t.db"}
    assert contents(tmp_path / "other").keys() == {"twofold.toml"}
    # What the operator has written stays, and says where everything goes.
    third = tmp_path / "third"
    third.mkdir()
    (third / "twofold.toml").write_text('issuer = "Mine"\n')
    with start(*command, data_dir=str(third)) as process:
        _, told = process.communicate(timeout=60)
    assert (process.returncode, told) == (0, f"twofold: {third / 'twofold.toml'} is there already and stays as it is\n")
    assert (third / "twofold.toml").read_text() == 'issuer = "Mine"\n'
    assert contents(third).keys() == {"twofold.toml", "twofold.key", "twofold.db"}


def test_a_master_key_that_came_from_the_environment_is_inside_and_comes_back_either_way(
    tmp_path: Path, passphrase_file: str
) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    ours = {"data_dir": str(tmp_path / "first"), "key_provider": "env:", "master_key": key}
    with_passphrase = ("--passphrase-file", passphrase_file)
    run("account", "add", "me", **ours)
    run("backup", str(tmp_path / "b"), *with_passphrase, **ours)
    run("restore", str(tmp_path / "b"), *with_passphrase, data_dir=str(tmp_path / "as-file"))
    assert (tmp_path / "as-file" / "twofold.key").read_text() == f"twofold-master-key-1 {key}\n"
    run("keys", "check", data_dir=str(tmp_path / "as-file"))
    there = {**ours, "data_dir": str(tmp_path / "as-variable")}
    run("restore", str(tmp_path / "b"), *with_passphrase, **there)
    assert contents(tmp_path / "as-variable").keys() == {"twofold.db"}
    run("keys", "check", **there)
    other = {**ours, "data_dir": str(tmp_path / "other"), "master_key": base64.b64encode(bytes(32)).decode()}
    assert "does not open this database" in fail("restore", str(tmp_path / "b"), *with_passphrase, **other)
    assert contents(tmp_path / "other") == {}


@pytest.mark.usefixtures("enrolled")
def test_a_backup_whose_master_key_is_elsewhere_asks_for_it_and_opens_with_it(
    invoke: Invoke, data_dir: Path, tmp_path: Path, passphrase_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = (data_dir / "twofold.key").read_text()
    write_backup(
        data_dir / "twofold.db",
        {},
        tmp_path / "b",
        passphrase=PASSPHRASE.encode(),
        key_provider="aws-kms:alias/twofold",
        version="1.0",
        clock=SystemClock(),
        entropy=SystemEntropy(),
    )
    command = ["restore", str(tmp_path / "b"), "--passphrase-file", passphrase_file]
    monkeypatch.setenv("TWOFOLD_DATA_DIR", str(tmp_path / "other"))
    monkeypatch.delenv("TWOFOLD_TEST_CLOCK")
    for mode in (["--check"], []):
        refused = invoke(*command, *mode)
        assert refused.exit_code == 1
        what = "the master key is not in this backup: set TWOFOLD_KEY_PROVIDER to what holds it (aws-kms:alias/twofold)"
        assert refused.stderr == f"twofold: {what}\n"
    # Another holder of the same key stands for the service.
    monkeypatch.setenv("TWOFOLD_KEY_PROVIDER", "env:")
    monkeypatch.setenv("TWOFOLD_MASTER_KEY", line)
    checked = invoke(*command, "--check")
    assert checked.exit_code == 0, checked.output
    assert "master key  not inside: it is in aws-kms:alias/twofold\n" in checked.stdout
    assert invoke(*command).exit_code == 0
    assert contents(tmp_path / "other").keys() == {"twofold.db"}
    assert invoke("keys", "check").exit_code == 0


def test_a_key_file_under_a_passphrase_of_its_own_needs_that_one_too(tmp_path: Path, passphrase_file: str) -> None:
    ours = {"data_dir": str(tmp_path / "first"), "key_passphrase": "for the key alone"}
    command = ("restore", str(tmp_path / "b"), "--passphrase-file", passphrase_file)
    run("account", "add", "me", **ours)
    run("backup", str(tmp_path / "b"), "--passphrase-file", passphrase_file, **ours)
    assert "is under a passphrase: set TWOFOLD_KEY_PASSPHRASE" in fail(*command, data_dir=str(tmp_path / "second"))
    assert contents(tmp_path / "second") == {}
    run(*command, **{**ours, "data_dir": str(tmp_path / "second")})
    run("keys", "check", **{**ours, "data_dir": str(tmp_path / "second")})


def test_seeds_with_keys_of_their_own_open_too(tmp_path: Path, passphrase_file: str) -> None:
    ours = {"data_dir": str(tmp_path / "first"), "data_keys": "per-seed"}
    run("account", "add", "me", **ours)
    with start("account", "enroll", "me", **ours) as begun:
        assert "otpauth://" in begun.communicate(timeout=60)[0]
    run("backup", str(tmp_path / "b"), "--passphrase-file", passphrase_file, **ours)
    shown = json.loads(run("restore", str(tmp_path / "b"), "--check", "--json", "--passphrase-file", passphrase_file))
    assert (shown["ok"], shown["seeds"]) == (True, 1)


def test_a_clock_that_is_behind_the_backup_is_set_first(
    invoke: Invoke, backed_up: Path, clock: Clock, tmp_path: Path, passphrase_file: str
) -> None:
    command = ["restore", str(backed_up), "--passphrase-file", passphrase_file, "--data-dir", str(tmp_path / "other")]
    clock.advance(-3600)
    refused = invoke(*command)
    assert refused.exit_code == 1
    assert "clock is behind the backup" in refused.stderr
    assert contents(tmp_path / "other") == {}
    clock.advance(7200)
    assert invoke(*command).exit_code == 0


# Cut off.


@pytest.mark.parametrize("seen", [".restoring", ".restoring/twofold.db", ".restoring/twofold.db-wal", "twofold.key"])
def test_killed_in_the_middle_there_is_nothing_or_everything_and_the_same_command_goes_on(
    backed_up: Path, tmp_path: Path, passphrase_file: str, seen: str
) -> None:
    other = tmp_path / "other"
    command = ["restore", str(backed_up), "--passphrase-file", passphrase_file]
    with start(*command, data_dir=str(other)) as process:
        while not (other / seen).exists() and process.poll() is None:
            pass
        process.kill()
    if not (other / "twofold.db").exists():
        run(*command, data_dir=str(other))
        assert contents(other).keys() == {"twofold.db", "twofold.key"}
    run("audit", "verify", data_dir=str(other))
    run("keys", "check", data_dir=str(other))
    with closing(sqlite3.connect(other / "twofold.db")) as connection:
        found = connection.execute("SELECT kind FROM events WHERE kind LIKE '%.restored' ORDER BY kind").fetchall()
    assert found == [("account.restored",), ("deployment.restored",)]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_everything_unfinished_is_removed(
    monkeypatch: pytest.MonkeyPatch, backed_up: Path, tmp_path: Path, passphrase_file: str, how: signal.Signals
) -> None:
    places = tmp_path / "other", tmp_path / "tmp"
    for place in places:
        place.mkdir()
    for mode, place in (([], places[0]), (["--check"], places[1])):
        command = ["restore", str(backed_up), *mode, "--passphrase-file", passphrase_file]
        monkeypatch.setenv("TMPDIR", str(places[1]))
        with start(*command, data_dir=str(places[0])) as process:
            while not any(place.glob("*/*")) and process.poll() is None:
                pass
            process.send_signal(how)
            _, error = process.communicate(timeout=60)
        assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[how], error
        assert list(place.iterdir()) == []


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of a process need Linux")
@pytest.mark.parametrize("limit", [0, 20_000, 90_000])
def test_on_a_full_disk_nothing_half_done_stays(
    backed_up: Path, data_dir: Path, tmp_path: Path, passphrase_file: str, limit: int
) -> None:
    target, other = tmp_path / "new", tmp_path / "other"
    assert fail("backup", str(target), "--passphrase-file", passphrase_file, limit=limit)
    assert not target.exists()
    assert not any("backing-up" in name for name in contents(data_dir))
    command = ["restore", str(backed_up), "--passphrase-file", passphrase_file]
    assert fail(*command, data_dir=str(other), limit=limit)
    assert contents(other) == {}
    run(*command, data_dir=str(other))
    assert {path.name for path in tmp_path.iterdir() if "draft" in path.name} == set()


# The passphrase, and the file.


def finish(child: "pexpect.spawn[str]") -> tuple[str, int]:
    child.expect(pexpect.EOF)
    return child.before.replace("\r\n", "\n"), child.wait()


def test_a_terminal_is_asked_twice_until_the_passphrase_is_a_good_one_and_never_shows_it(
    terminal: Spawn, enrolled: object, tmp_path: Path
) -> None:
    child = terminal("backup", str(tmp_path / "b"))
    for typed, answer in (("short", "at least 12 characters"), (PASSPHRASE, "The same again: ")):
        child.expect_exact("Passphrase of the backup: ")
        child.sendline(typed)
        child.expect_exact(answer)
    child.sendline("something else")
    child.expect_exact("They differ.")
    for prompt in ("Passphrase of the backup: ", "The same again: "):
        child.expect_exact(prompt)
        child.sendline(PASSPHRASE)
    printed, status = finish(child)
    assert "backed up 1 account" in printed
    assert (PASSPHRASE in printed, status) == (False, 0)
    child = terminal("restore", str(tmp_path / "b"), "--check")
    child.expect_exact("Passphrase of the backup: ")
    child.sendline(PASSPHRASE)
    printed, status = finish(child)
    assert "everything opens, and every audit chain holds" in printed
    assert (PASSPHRASE in printed, status) == (False, 0)


def test_without_a_terminal_the_passphrase_is_a_line_a_variable_or_a_file(
    invoke: Invoke, enrolled: object, tmp_path: Path, passphrase_file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, typed in enumerate([f"{PASSPHRASE}\n", f"{PASSPHRASE}\r\n"]):
        assert invoke("backup", str(tmp_path / f"b{number}"), typed=typed).exit_code == 0
    monkeypatch.setenv("TWOFOLD_BACKUP_PASSPHRASE", PASSPHRASE)
    checked = invoke("restore", str(tmp_path / "b0"), "--check")
    assert (checked.exit_code, checked.stderr) == (0, "")
    monkeypatch.delenv("TWOFOLD_BACKUP_PASSPHRASE")
    monkeypatch.setenv("TWOFOLD_BACKUP_PASSPHRASE_FILE", passphrase_file)
    checked = invoke("restore", str(tmp_path / "b1"), "--check")
    assert (checked.exit_code, checked.stderr) == (0, "")
    monkeypatch.delenv("TWOFOLD_BACKUP_PASSPHRASE_FILE")
    for typed in ("", "short\n", "111111111111\n"):
        refused = invoke("backup", str(tmp_path / "bad"), typed=typed)
        assert refused.exit_code == 2
        assert refused.stderr.startswith("twofold: passphrase: expected ")
    (tmp_path / "latin").write_bytes("violeta de outono às três".encode("latin-1"))
    refused = invoke("backup", str(tmp_path / "bad"), "--passphrase-file", str(tmp_path / "latin"))
    assert (refused.exit_code, refused.stderr) == (2, "twofold: passphrase file: expected text in UTF-8\n")
    assert not (tmp_path / "bad").exists()


def test_a_backup_replaces_no_file_unless_it_is_told_to_and_never_anything_else(
    invoke: Invoke, backed_up: Path, passphrase_file: str, tmp_path: Path
) -> None:
    before = backed_up.read_bytes()
    refused = invoke("backup", str(backed_up), "--passphrase-file", passphrase_file)
    assert refused.exit_code == 1
    assert refused.stderr == f"twofold: {backed_up} is there already: choose another name, or replace it with --force\n"
    assert backed_up.read_bytes() == before
    assert invoke("backup", str(backed_up), "--force", "--passphrase-file", passphrase_file).exit_code == 0
    assert backed_up.read_bytes() != before
    for other in (str(tmp_path), "/dev/null"):
        assert invoke("backup", other, "--force", "--passphrase-file", passphrase_file).exit_code == 1
    nowhere = invoke("backup", str(tmp_path / "no folder" / "b"), "--passphrase-file", passphrase_file)
    assert (nowhere.exit_code, nowhere.stderr.count("\n")) == (1, 1)
    assert "No such file or directory" in nowhere.stderr


def test_where_there_is_no_database_there_is_no_backup(invoke: Invoke, tmp_path: Path, passphrase_file: str) -> None:
    refused = invoke("backup", str(tmp_path / "b"), "--passphrase-file", passphrase_file)
    assert refused.exit_code == 1
    assert "there is no database" in refused.stderr
    assert not (tmp_path / "b").exists()
