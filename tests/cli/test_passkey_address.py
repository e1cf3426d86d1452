"""The address that passkeys are for, in the shell: `serve` at another one, and `apikey create` with one of its own."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pexpect
import pytest
from tests.cli.conftest import Invoke
from tests.passkey_owners import add_passkeys

from twofold.bootstrap import open_deployment
from twofold.config import Settings
from twofold.lost_passkeys import settle

OLD, NEW = "https://a.example", "https://b.example"
COMMAND = [sys.executable, "-m", "twofold", "serve", "--port", "0"]
TOLD = "2 passkeys of 1 person were made for a.example"


@pytest.fixture
def owner(data_dir: Path) -> None:
    """Somebody with two passkeys, made when the server was at the old address."""

    async def make() -> None:
        deployment = await open_deployment(Settings(data_dir=data_dir))
        await settle(deployment.store, deployment.keyring, OLD)
        await add_passkeys(deployment.store, "ada", "a.example", "a.example")
        await deployment.close()

    asyncio.run(make())


def environment(public_url: str) -> dict[str, str]:
    return {**os.environ, "TWOFOLD_PUBLIC_URL": public_url, "TWOFOLD_TRUSTED_PROXIES": "none"}


def refused(public_url: str, *flags: str) -> str:
    """The one line with which the real program does not start."""
    ended = subprocess.run(
        [*COMMAND, *flags],
        env=environment(public_url),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1), ended
    return ended.stderr


@contextmanager
def started(public_url: str, *flags: str) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """The real program, and where it listens."""
    with subprocess.Popen(
        [*COMMAND, *flags],
        env=environment(public_url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            greeting = process.stdout.readline()
            assert greeting.startswith("listening on http://"), process.communicate(timeout=20)
            yield greeting.removeprefix("listening on ").strip(), process
        finally:
            process.kill()


@pytest.mark.usefixtures("owner")
class TestServe:
    def test_at_another_host_it_does_not_start_unless_somebody_agrees(self) -> None:
        told = refused(NEW)
        assert told.startswith(f"twofold: PUBLIC_URL '{NEW}': {TOLD} and would stop working; set it back to that host")
        assert "--accept-lost-passkeys" in told
        assert refused(NEW) == told, "asked again and again"
        with started(NEW, "--accept-lost-passkeys") as (_, process):
            process.terminate()
            assert f"{TOLD} and stopped working" in process.communicate(timeout=20)[1]
        with started(NEW):
            pass

    @pytest.mark.parametrize("public_url", [OLD, f"{OLD}:8443"])
    def test_at_the_same_host_it_starts(self, public_url: str) -> None:
        with started(public_url):
            pass

    def test_where_there_are_no_passkeys_at_all_it_asks_too_and_works_without_them(self) -> None:
        url = "http://127.0.0.1:8000"
        assert TOLD in refused(url)
        with started(url, "--accept-lost-passkeys") as (listening, _):
            assert httpx.get(f"{listening}/health/ready", trust_env=False).status_code == 200

    @pytest.mark.parametrize(("typed", "agrees"), [("y", True), ("n", False), ("", False)])
    def test_on_a_terminal_it_asks(
        self,
        terminal: Callable[..., "pexpect.spawn[str]"],
        monkeypatch: pytest.MonkeyPatch,
        typed: str,
        *,
        agrees: bool,
    ) -> None:
        monkeypatch.setenv("TWOFOLD_PUBLIC_URL", NEW)
        child = terminal("serve", "--port", "0")
        child.expect_exact(f"{TOLD} and stop working at {NEW}. Go on? [y/N]: ")
        child.sendline(typed)
        child.expect_exact("listening on http://" if agrees else "set it back to that host")
        if not agrees:
            child.expect(pexpect.EOF)
            child.wait()
            assert child.exitstatus == 1

    def test_ctrl_c_is_no_answer_and_ends_it(
        self, terminal: Callable[..., "pexpect.spawn[str]"], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TWOFOLD_PUBLIC_URL", NEW)
        child = terminal("serve", "--port", "0")
        child.expect_exact("[y/N]: ")
        child.sendintr()
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 130
        assert TOLD in refused(NEW)

    def test_other_commands_never_ask(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TWOFOLD_PUBLIC_URL", NEW)
        for command in (("account", "list"), ("keys", "check"), ("apikey", "create", "shop"), ("setup-link",)):
            assert invoke(*command).exit_code == 0
        assert TOLD in refused(NEW)


def test_trap_57_it_does_not_start_on_a_public_suffix_and_does_below_it() -> None:
    assert refused("https://github.io").startswith("twofold: PUBLIC_URL 'https://github.io': anybody can have a name")
    with started("https://login.github.io"):
        pass


def test_on_an_address_it_starts_and_has_no_passkeys(invoke: Invoke) -> None:
    with started("http://127.0.0.1:8000") as (listening, _):
        assert httpx.get(f"{listening}/health/ready", trust_env=False).status_code == 200


class TestApikey:
    def test_who_makes_a_key_is_told_what_its_passkeys_are_for(self, invoke: Invoke) -> None:
        created = invoke("apikey", "create", "shop", "--origin", "HTTPS://Shop.Example.com:443")
        assert created.exit_code == 0
        assert created.stdout.startswith("tf_")
        assert created.stderr.splitlines()[1:] == ["passkeys for shop.example.com, on https://shop.example.com"]
        plain = invoke("apikey", "create", "plain")
        assert plain.stderr.count("\n") == 1

    def test_an_origin_elsewhere_is_allowed_and_it_is_said_what_it_needs(
        self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        command = ("apikey", "create", "shop", "--rp-id", "example.com")
        origins = ("--origin", "https://shop.example.com", "--origin", "https://shop.example.org")
        told = invoke(*command, *origins).stderr.splitlines()
        asked = "https://example.com/.well-known/webauthn"
        answer = '{"origins":["https://shop.example.org"]}'
        line = f"related origins: https://shop.example.org; browsers ask {asked}, which must answer {answer}"
        assert told[2:] == [line]
        monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "https://example.com")
        assert invoke(*command, *origins).stderr.splitlines()[2].endswith(f"{asked}, which is served here")

    def test_more_names_than_browsers_look_at_are_warned_about(self, invoke: Invoke) -> None:
        def warning(count: int) -> bool:
            origins = [word for number in range(count) for word in ("--origin", f"https://shop-{number}.example")]
            made = invoke("apikey", "create", "shop", "--rp-id", "shop-0.example", *origins)
            assert made.exit_code == 0
            return "warning" in made.stderr

        assert not warning(6)  # one of them is the rp_id itself
        assert warning(7)

    @pytest.mark.parametrize(
        ("flags", "line"),
        [
            (("--rp-id", "github.io"), "rp_id: expected a domain of your own: anybody can have a name under github.io"),
            (("--rp-id", "192.0.2.1"), "rp_id: expected a domain such as example.com: browsers make no passkeys"),
            (("--rp-id", "example.org"), "rp_id: expected the host of an origin, or a domain above it"),
            (("--origin", "http://shop.example.com"), "origin: expected https, or http on localhost"),
            (("--origin", "https://other.example"), "rp_id: expected the domain of the passkeys, because"),
        ],
    )
    def test_what_browsers_refuse_is_refused_in_one_line(
        self, invoke: Invoke, flags: tuple[str, ...], line: str
    ) -> None:
        refused = invoke("apikey", "create", "shop", "--origin", "https://shop.example.com", *flags)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert refused.stderr.startswith(f"twofold: {line}")
        assert refused.stderr.count("\n") == 1
        assert json.loads(invoke("apikey", "list", "--json").stdout) == []
