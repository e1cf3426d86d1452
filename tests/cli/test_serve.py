"""`serve` and `setup-link`, and the other commands beside a running server, on the same file."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Clock, Invoke, Phone

from twofold.bootstrap import open_deployment
from twofold.clocks import SystemClock
from twofold.config import Settings
from twofold.setup_link import put_public_url

OBEY_S = 1.0


@pytest.fixture
def server(clock: Clock) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The real program, serving on a free port: the process, and the URL that it prints."""
    command = [sys.executable, "-m", "twofold", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        assert greeting.startswith("listening on http://localhost:")
        try:
            yield process, greeting.removeprefix("listening on ").strip()
        finally:
            process.kill()


def call(url: str, key: str, body: object) -> tuple[int, Any]:
    """POST with an API key: the status and the answer."""
    answer = httpx.post(url, json=body, headers={"Authorization": f"Bearer {key}"}, trust_env=False)
    return answer.status_code, answer.json()


def test_code_is_good_once_whichever_door_it_comes_to(
    server: tuple[subprocess.Popen[str], str], invoke: Invoke, enrolled: tuple[Phone, list[str]], clock: Clock
) -> None:
    _, url = server
    key = invoke("apikey", "create", "shop").stdout.strip()
    phone, recovery_codes = enrolled
    verify = f"{url}/api/v1/accounts/me/verify"

    code = phone.code()
    assert invoke("account", "verify", "me", typed=f"{code}\n").stdout == "verified (totp)\n"
    assert call(verify, key, {"code": code})[1]["reason"] == "code_already_used"

    clock.advance(30)
    code = phone.code()
    assert call(verify, key, {"code": code})[1]["verified"] is True
    assert invoke("account", "verify", "me", typed=f"{code}\n").exit_code == 1
    assert call(verify, key, {"code": recovery_codes[0]})[1]["recovery_codes_left"] == 9
    assert json.loads(invoke("account", "show", "me", "--json").stdout)["recovery_codes_left"] == 9

    assert invoke("keys", "check").stdout == "every account opens\n"
    assert invoke("keys", "status").stdout.split()[1:3] == ["active", "1"]
    assert invoke("audit", "verify").exit_code == 0


def test_running_server_obeys_within_a_second_when_a_key_is_revoked(
    server: tuple[subprocess.Popen[str], str], invoke: Invoke
) -> None:
    _, url = server
    invoke("account", "add", "me")
    key = invoke("apikey", "create", "shop").stdout.strip()
    assert call(f"{url}/api/v1/accounts/me/verify", key, {"code": "123456"})[0] == 409
    invoke("apikey", "revoke", key.split("_")[1])
    revoked_at = SystemClock().now()
    while (status := call(f"{url}/api/v1/accounts/me/verify", key, {"code": "123456"})[0]) == 409:
        assert SystemClock().now() - revoked_at < OBEY_S * 1_000_000
        time.sleep(0.05)
    assert status == 401


def test_links_printed_beside_a_server_lead_to_it_and_only_the_newest_is_good(
    server: tuple[subprocess.Popen[str], str], invoke: Invoke
) -> None:
    _, url = server
    older, newer = (invoke("setup-link").stdout.strip() for _ in range(2))
    assert older.startswith(f"{url}/setup?token=")
    assert httpx.get(newer, trust_env=False).status_code == 200
    assert httpx.get(older, trust_env=False).status_code == 403


def test_setup_link_carries_the_public_url_where_one_is_set(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    invoke("account", "add", "me")
    assert invoke("setup-link").stdout.startswith("http://localhost:8000/setup?token=")
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "https://login.example.com/")
    assert invoke("setup-link").stdout.startswith("https://login.example.com/setup?token=")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_server_ends_cleanly_by_a_signal(server: tuple[subprocess.Popen[str], str], number: signal.Signals) -> None:
    process, _ = server
    process.send_signal(number)
    assert process.wait(timeout=20) == 0


def test_server_that_cannot_begin_says_so_in_one_line(
    server: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    def refused(*arguments: str) -> str:
        command = [sys.executable, "-m", "twofold", "serve", "--data-dir", str(tmp_path / "other"), *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr.count("\n") == 1
        return ended.stderr

    port = server[1].rpartition(":")[2]
    assert refused("--port", port).startswith(f"twofold: port {port} is taken")
    assert refused("--port", "0", "--workers", "2").startswith("twofold: --workers 2: SQLite")


def test_many_commands_at_once_beside_a_server_count_each_code_once(
    server: tuple[subprocess.Popen[str], str],
    enrolled: tuple[Phone, list[str]],
) -> None:
    code = enrolled[0].code()
    command = [sys.executable, "-m", "twofold", "account", "verify", "me"]
    running = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for process in running:
        assert process.stdin is not None
        process.stdin.write(f"{code}\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=20)[0] for process in running]
    assert sorted(process.returncode for process in running) == [0, 1, 1, 1], printed
    assert printed.count("verified (totp)\n") == 1


@pytest.mark.parametrize(("proxies", "is_warned"), [(None, True), ("none", False)])
def test_a_public_url_typed_on_the_set_up_page_is_warned_about_as_one_that_was_set(
    invoke: Invoke, data_dir: Path, monkeypatch: pytest.MonkeyPatch, *, proxies: str | None, is_warned: bool
) -> None:
    async def type_url() -> None:
        deployment = await open_deployment(Settings(data_dir=data_dir))
        await put_public_url(deployment.store, deployment.keyring, "https://login.example.com")
        await deployment.close()

    asyncio.run(type_url())
    if proxies is not None:
        monkeypatch.setenv("TWOFOLD_TRUSTED_PROXIES", proxies)
    command = [sys.executable, "-m", "twofold", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            assert process.stdout.readline() == "people reach it at https://login.example.com\n"
            process.send_signal(signal.SIGTERM)
            _, logged = process.communicate(timeout=20)
        finally:
            process.kill()
    assert ("set TWOFOLD_TRUSTED_PROXIES=127.0.0.1" in logged) == is_warned, logged
    assert logged.count("\n") == is_warned


def test_serving_says_where_people_reach_it_if_that_is_elsewhere(clock: Clock) -> None:
    command = [sys.executable, "-m", "twofold", "serve", "--port", "0"]
    environment = {**os.environ, "TWOFOLD_PUBLIC_URL": "https://login.example.com", "TWOFOLD_TRUSTED_PROXIES": "none"}
    environment.pop("TWOFOLD_TEST_CLOCK", None)
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        try:
            assert run.stdout.readline().startswith("listening on http://localhost:")
            assert run.stdout.readline() == "people reach it at https://login.example.com\n"
            assert "https://login.example.com/setup?token=" in run.stdout.readline()
        finally:
            run.kill()
