"""`account unlock` and `reset`: a link for somebody who is locked out, made where only the operator is."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pexpect
import pytest
from tests.cli.conftest import Clock, Invoke
from tests.forms import OpenForms
from tests.people import PASSWORD, Person
from tests.servers import Clock as ServerClock
from tests.servers import Server, running

from twofold.administration import Administration
from twofold.bootstrap import open_deployment
from twofold.commands.shell import ADMINISTRATOR
from twofold.config import Settings
from twofold.core.administration import LINK_TTL_S

LINK = re.compile(r"(https?://[^/\s]+)/link\?token=[\w.-]+\n")
COMMANDS = ("unlock", "reset")


@pytest.fixture
def bo(invoke: Invoke) -> str:
    assert invoke("account", "add", "bo", "--password", typed=f"{PASSWORD}\n").exit_code == 0
    return "bo"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_link_alone_is_on_standard_output(invoke: Invoke, bo: str, command: str) -> None:
    made = invoke("account", command, bo)
    assert made.exit_code == 0
    assert LINK.fullmatch(made.stdout)
    assert made.stderr.count("\n") == 1
    assert f"within {LINK_TTL_S // 60} minutes" in made.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_nobody_gets_a_link_who_is_not_here(invoke: Invoke, bo: str, command: str) -> None:
    refused = invoke("account", command, "nobody")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr == "twofold: there is no account of that id\n"
    assert invoke("account", command, "a/b").exit_code == 2
    assert invoke("account", command).exit_code == 2


@pytest.mark.parametrize("command", COMMANDS)
def test_a_container_without_a_terminal_nor_standard_input_gets_the_link(
    clock: Clock, data_dir: Path, bo: str, command: str
) -> None:
    program = [sys.executable, "-m", "twofold", "account", command, bo]
    made = subprocess.run(
        program, env=os.environ | {"TERM": ""}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    assert LINK.fullmatch(made.stdout)


def test_a_terminal_gets_the_same_link_in_one_piece(
    terminal: Callable[..., "pexpect.spawn[str]"], clock: Clock, bo: str
) -> None:
    child = terminal("account", "reset", bo)
    child.expect(pexpect.EOF)
    assert LINK.search(str(child.before).replace("\r\n", "\n")), child.before


def test_links_lead_to_the_public_url(invoke: Invoke, bo: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "https://id.example.com")
    found = LINK.fullmatch(invoke("account", "reset", bo).stdout)
    assert found is not None
    assert found[1] == "https://id.example.com"


def test_what_was_made_is_in_the_audit_log_and_the_link_is_not(invoke: Invoke, data_dir: Path, bo: str) -> None:
    token = invoke("account", "reset", bo).stdout.strip().rpartition(".")[2]
    assert invoke("audit", "verify").exit_code == 0
    written = b"".join(path.read_bytes() for path in data_dir.iterdir())
    assert b"account.reset" in written
    assert b"link.made" in written
    assert token.encode() not in written


async def administer(data_dir: Path, act: Callable[[Administration], Awaitable[object]]) -> None:
    """What an administrator does on the pages."""
    deployment = await open_deployment(Settings(data_dir=data_dir))
    try:
        await act(deployment.administration)
    finally:
        await deployment.close()


def test_list_and_show_tell_who_administers_and_who_is_invited(
    invoke: Invoke, clock: Clock, bo: str, data_dir: Path
) -> None:
    assert invoke("account", "list").stdout == "bo  empty  password  0\n"
    assert "role" not in invoke("account", "show", bo).stdout
    asyncio.run(administer(data_dir, lambda people: people.set_role(bo, "administrator", caller=ADMINISTRATOR)))
    assert invoke("account", "list").stdout == "bo  empty  password  0  administrator\n"
    assert "role            administrator\n" in invoke("account", "show", bo).stdout
    asyncio.run(administer(data_dir, lambda people: people.invite("cy", caller=ADMINISTRATOR)))
    assert "invited until   20" in invoke("account", "show", "cy").stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disabled_account_stays_shut(invoke: Invoke, bo: str, data_dir: Path, command: str) -> None:
    for is_disabled in (True, False):
        asyncio.run(
            administer(data_dir, lambda p, to=is_disabled: p.set_disabled(bo, is_disabled=to, caller=ADMINISTRATOR))
        )
        made = invoke("account", command, bo)
        assert bool(made.stdout) != is_disabled
        assert (made.exit_code, "disabled" in made.stderr) == (int(is_disabled), is_disabled)


# On the pages of a server that runs meanwhile.


@pytest.fixture(scope="module")
def server_clock(tmp_path_factory: pytest.TempPathFactory) -> ServerClock:
    return ServerClock(tmp_path_factory.mktemp("clock") / "clock")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, server_clock: ServerClock) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("served") / "data", test_clock=str(server_clock.path)) as started:
        yield started


@pytest.fixture
def new_person(server: Server, server_clock: ServerClock, open_forms: OpenForms) -> Callable[[str], Person]:
    """Somebody with a password, at a browser at the server."""

    def add(name: str) -> Person:
        adding = server.command_process("account", "add", name, "--password")
        said, _ = adding.communicate(f"{PASSWORD}\n", timeout=30)
        assert adding.returncode == 0, said
        return Person(name, open_forms(f"http://localhost:{server.port}"), server_clock)

    return add


def make_link(server: Server, command: str, name: str) -> str:
    """Path and query of the link that the command prints; it leads to the server that runs."""
    made = server.command("account", command, name)
    assert made.returncode == 0, made.stderr
    parts = urlsplit(made.stdout.strip())
    assert f"{parts.scheme}://{parts.netloc}" == f"http://localhost:{server.port}"
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_link_signs_in_once_and_ends_in_enrollment(
    server: Server, server_clock: ServerClock, new_person: Callable[[str], Person], command: str
) -> None:
    bo = new_person(f"by-{command}")
    link = make_link(server, command, bo.name)
    bo.accept(link, new_password=False)
    assert bo.visitor.open("/security").path == "/enroll"
    bo.enroll()
    bo.assert_signed_in()
    assert bo.visitor.open(link, expect={403}).alert or bo.page.status == 403
    bo.sign_out()
    bo.sign_in()
    assert link.rpartition(".")[2] not in server.log.read_text()


def test_a_reset_from_the_shell_ends_the_sessions_of_the_running_server(
    server: Server, new_person: Callable[[str], Person]
) -> None:
    bo = new_person("lost")
    bo.accept(make_link(server, "reset", bo.name), new_password=False)
    bo.enroll()
    bo.assert_signed_in()
    make_link(server, "unlock", bo.name)
    bo.assert_signed_in()
    make_link(server, "reset", bo.name)
    bo.assert_signed_out()


def test_a_link_is_too_old_after_a_quarter_of_an_hour_and_void_after_a_newer_one(
    server: Server, server_clock: ServerClock, new_person: Callable[[str], Person]
) -> None:
    bo = new_person("late")
    first, second = (make_link(server, "reset", bo.name) for _ in range(2))
    bo.visitor.open(first, expect={403})
    server_clock.advance(LINK_TTL_S - 1)
    bo.visitor.open(second, expect={200})
    server_clock.advance(1)
    bo.visitor.open(second, expect={403})
