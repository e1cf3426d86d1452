"""`account reset` of many, with the real program beside a real server: what it prints, what an interruption leaves."""

import asyncio
import json
import os
import re
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pexpect
import pytest
from tests.cli.conftest import Clock as CommandClock
from tests.cli.conftest import Invoke, Phone
from tests.forms import OpenForms
from tests.people import PASSWORD, Person
from tests.servers import Clock, Server, running

from twofold.bootstrap import open_deployment
from twofold.commands.shell import ADMINISTRATOR
from twofold.config import Settings
from twofold.credentials import OtpParameters
from twofold.crypto.argon2 import ONLY_FOR_TESTING
from twofold.mass_reset import GRACE_DAYS_MAX

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
CROWD = 400


async def crowd(data_dir: Path, count: int) -> None:
    """So many people with an app each."""
    deployment = await open_deployment(Settings(data_dir=data_dir), argon2=ONLY_FOR_TESTING)
    accounts = deployment.verifier.accounts

    async def add(number: int) -> None:
        name = f"p{number:05}"
        await accounts.put(name)
        secret = OtpParameters(number.to_bytes(20))
        await accounts.import_authenticator(name, "totp", secret, caller=ADMINISTRATOR)

    for start in range(0, count, 50):
        await asyncio.gather(*map(add, range(start, min(start + 50, count))))
    await deployment.close()


def stopping(data_dir: Path) -> int:
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection:
        (count,) = connection.execute("SELECT count(*) FROM accounts WHERE stops_at <> 0").fetchone()
        return int(count)


# What it prints.


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("me", "--all"),
        ("--all", "--group", "staff"),
        ("--group", "staff", "--data-key", "data-1"),
        ("--progress", "--all"),
        ("--group", ""),
        ("me", "--grace", "0"),
        ("me", "--reason", "lost"),
        ("me", "--json"),
        ("--progress", "--grace", "3"),
        ("--progress", "--reason", "lost"),
        ("--all", "--grace", "-1"),
        ("--all", "--grace", str(GRACE_DAYS_MAX + 1)),
        ("--all", "--reason", "x" * 201),
    ],
)
def test_what_does_not_go_together_is_one_line_and_changes_nothing(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], arguments: tuple[str, ...]
) -> None:
    refused = invoke("account", "reset", *arguments)
    assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (2, "", 1), refused.output
    assert "totp" in invoke("account", "list").stdout


def test_a_group_or_key_that_is_not_there_is_one_line(invoke: Invoke, enrolled: tuple[Phone, list[str]]) -> None:
    for option, said in (
        ("--group", "nobody is in the group x"),
        ("--data-key", "there is no data key x: twofold keys"),
    ):
        refused = invoke("account", "reset", option, "x")
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert said in refused.stderr
    assert "totp" in invoke("account", "list").stdout


def test_with_a_grace_it_says_until_when_and_progress_who_is_missing(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], clock: CommandClock
) -> None:
    phone, _ = enrolled
    made = invoke("account", "reset", "--all", "--grace", "14", "--reason", "a disk was sold")
    assert made.exit_code == 0
    assert re.fullmatch(rf"reset 1 person; what they have stops at {TIME}; until then .*\n", made.stdout)
    assert "1 of them have no password here" in made.stderr
    told = invoke("account", "reset", "--progress").stdout.splitlines()
    assert re.fullmatch(rf"all, begun at {TIME}: 1 person, until {TIME}", told[0])
    assert told[1] == "0 of 1 are done; 1 person still to set up a new authenticator"
    assert re.fullmatch(rf"me  {TIME}  {TIME}", told[2])
    assert invoke("account", "verify", "me", typed=f"{phone.code()}\n").exit_code == 0
    shown = json.loads(invoke("account", "reset", "--progress", "--json").stdout)
    (reset,) = shown["resets"]
    assert (reset["people"], reset["group"]) == (1, None)
    assert shown["waiting"] == [{"account": "me", "stops_at": reset["stops_at"]}]
    again = json.loads(invoke("account", "reset", "--all", "--grace", "14", "--json").stdout)
    assert (again["people"], again["resumed"], again["untrusted"]) == (0, False, [])
    clock.advance(14 * 86_400)
    assert invoke("account", "verify", "me", typed=f"{phone.code()}\n").exit_code != 0
    assert invoke("account", "reset", "--progress").stdout == "0 people still to set up a new authenticator\n"
    assert invoke("audit", "verify").exit_code == 0


def test_at_once_it_says_what_follows_and_a_key_in_use_is_warned_of(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], clock: CommandClock
) -> None:
    key = json.loads(invoke("keys", "status", "--json").stdout)
    key_id = next(row["id"] for row in (key if isinstance(key, list) else key["keys"]) if row["state"] == "active")
    made = invoke("account", "reset", "--data-key", key_id)
    assert made.stdout == "reset 1 person; the next sign-in of each leads to a new authenticator\n"
    assert f"data key {key_id} is in use" in made.stderr
    assert "totp" not in invoke("account", "list").stdout


def test_an_account_that_cannot_be_trusted_is_named_and_the_others_are_reset(
    invoke: Invoke, enrolled: tuple[Phone, list[str]], data_dir: Path
) -> None:
    assert invoke("account", "add", "bo").exit_code == 0
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection, connection:
        connection.execute("UPDATE accounts SET version = version + 1 WHERE id = 'bo'")
    made = invoke("account", "reset", "--all")
    assert made.exit_code == 1
    assert made.stdout.startswith("reset 1 person;")
    assert "twofold: bo was not reset: its record cannot be trusted\n" in made.stderr


# Interrupted.


def test_ctrl_c_says_how_to_go_on_and_the_same_command_does(
    data_dir: Path, invoke: Invoke, terminal: Callable[..., "pexpect.spawn[str]"]
) -> None:
    asyncio.run(crowd(data_dir, CROWD))
    child = terminal("account", "reset", "--all", "--grace", "3")
    child.expect("looking at the accounts")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert "Traceback" not in str(child.before)
    if child.exitstatus == 130:
        assert "the same command goes on within a day" in str(child.before)
        assert stopping(data_dir) < CROWD
    report = json.loads(invoke("account", "reset", "--all", "--grace", "3", "--json").stdout)
    assert stopping(data_dir) == CROWD
    if report["resumed"]:
        assert report["people"] == CROWD


def test_killed_in_the_middle_it_does_no_harm_and_goes_on(data_dir: Path, invoke: Invoke) -> None:
    asyncio.run(crowd(data_dir, CROWD))
    server = Server(data_dir)
    command = server.command_process("account", "reset", "--all", "--grace", "3")
    while not (half := stopping(data_dir)) and command.poll() is None:
        pass
    os.kill(command.pid, signal.SIGKILL)
    command.communicate()
    assert half > 0
    told = invoke("account", "reset", "--progress").stdout
    assert "interrupted; the same command goes on with it" in told or stopping(data_dir) == CROWD
    report = json.loads(invoke("account", "reset", "--all", "--grace", "3", "--json").stdout)
    assert stopping(data_dir) == CROWD
    assert report["people"] == (CROWD if report["resumed"] else 0)
    assert invoke("audit", "verify").exit_code == 0
    with closing(sqlite3.connect(data_dir / "twofold.db")) as connection:
        sql = "SELECT count(*), count(DISTINCT account_id) FROM events WHERE kind = 'account.reset_begun'"
        assert connection.execute(sql).fetchone() == (CROWD, CROWD), "nobody was signed out twice"


# Beside a server.


@pytest.fixture(scope="module")
def server_clock(tmp_path_factory: pytest.TempPathFactory) -> Clock:
    return Clock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, server_clock: Clock) -> Iterator[Server]:
    data_dir = tmp_path_factory.mktemp("served") / "data"
    asyncio.run(crowd(data_dir, CROWD))
    with running(data_dir, test_clock=str(server_clock.path)) as started:
        yield started


def test_a_server_that_serves_obeys_at_once_and_is_not_kept_waiting(
    server: Server, server_clock: Clock, open_forms: OpenForms
) -> None:
    adding = server.command_process("account", "add", "ann", "--password")
    adding.communicate(f"{PASSWORD}\n", timeout=30)
    ann = Person("ann", open_forms(f"http://localhost:{server.port}"), server_clock)
    assert ann.give_password().path == "/enroll"
    ann.enroll()
    ann.assert_signed_in()
    server_clock.advance(60)
    with server.client(server.create_key("verify", "enroll", "admin")) as client:
        phone = client.import_phone("api")
        server_clock.advance(60)
        command = server.command_process("account", "reset", "--all", "--grace", "14")
        answered = 0
        while command.poll() is None:
            server_clock.advance(30)
            assert client.verify("api", phone.code(server_clock.now_s)).is_verified
            answered += 1
        said, _ = command.communicate()
        assert said.startswith(f"reset {CROWD + 2} people;"), said
        assert answered > 1
        server_clock.advance(30)
        answer = client.verify("api", phone.code(server_clock.now_s))
        assert "reenroll_by" in answer.body, answer
    ann.assert_signed_out()
    ann.give_password()
    assert ann.give_code().path == "/enroll"
    ann.visitor.send(code=ann.fresh_code())
    ann.begin_app()
    ann.prove_app()
    ann.keep_codes()
    ann.assert_signed_in()
    progress = server.command("account", "reset", "--progress").stdout
    assert f"1 of {CROWD + 2} are done; {CROWD + 1} people still to set up a new authenticator" in progress
    assert "ann" not in progress
