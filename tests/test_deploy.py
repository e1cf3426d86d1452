"""The files of `deploy/` that no test can install: what they name exists, and what can be run of them runs.

nginx is real, in front of real nodes; systemd reads the unit where it is installed. No container is built.
"""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml
from tests.conftest import find_program
from tests.servers import Server, running

from twofold.cli import main
from twofold.config import load_settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
UNIT = (DEPLOY / "systemd" / "twofold.service").read_text(encoding="utf-8")
CONTAINERFILE = (DEPLOY / "container" / "Containerfile").read_text(encoding="utf-8").replace("\\\n", "")
COMPOSE = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text(encoding="utf-8"))
NGINX = (DEPLOY / "compose" / "nginx.conf").read_text(encoding="utf-8")
NODES = ("twofold-1:8000", "twofold-2:8000")
PATIENCE_S = 30
SURROUNDINGS = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    {servers}
}}
"""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def nginx(program: str, folder: Path, *nodes: int) -> Iterator[httpx.Client]:
    """The nginx of the compose file in front of these ports, and a client of it."""
    port, servers = free_port(), NGINX
    for there, here in {"listen 8080": f"listen 127.0.0.1:{port}", **dict(zip(NODES, nodes, strict=True))}.items():
        assert there in servers
        servers = servers.replace(there, here if isinstance(here, str) else f"127.0.0.1:{here}")
    configuration = folder / "nginx.conf"
    configuration.write_text(SURROUNDINGS.format(folder=folder, servers=servers))
    command = [program, "-p", folder, "-c", configuration, "-e", "stderr"]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_for(port)
        # A connection for each request: what is looked at is the way from nginx on.
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"connection": "close"}) as client:
            yield client
    finally:
        process.terminate()
        process.wait()


def wait_for(port: int) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        else:
            return


@contextmanager
def node_that_dies_over_each_request() -> Iterator[tuple[int, list[bytes]]]:
    """Takes requests and ends the connection without an answer; gives its port and the first lines that came."""
    lines: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            while True:
                connection, _ = listener.accept()
                with connection:
                    line = connection.recv(4096).partition(b"\r\n")[0]
                    if line == b"":
                        return
                    lines.append(line)

        thread = threading.Thread(target=take)
        thread.start()
        yield listener.getsockname()[1], lines
        with socket.create_connection(listener.getsockname()) as last:
            last.shutdown(socket.SHUT_WR)
            thread.join()


@pytest.fixture
def program(require_program: Callable[[str], str]) -> str:
    return require_program("nginx")


@pytest.fixture
def nodes(postgres_url: str, tmp_path: Path) -> Iterator[tuple[Server, Server]]:
    """Two nodes as in the compose file: one database, one master key, one address."""
    settings = {
        "database_url": postgres_url,
        "key_provider": "env:",
        "master_key": "b25lIG1hc3RlciBrZXkgZm9yIHR3byBzZXJ2ZXJzISE=",
        "public_url": "http://localhost:8080",
        "trusted_proxies": "127.0.0.1",
    }
    with running(tmp_path / "one", **settings) as one, running(tmp_path / "two", **settings) as two:
        yield one, two


def test_people_and_programs_go_on_when_a_node_dies(program: str, nodes: tuple[Server, Server], tmp_path: Path) -> None:
    one, two = nodes
    key = one.create_key("admin", "verify")
    with nginx(program, tmp_path, one.port, two.port) as client:
        client.headers.update({"host": "localhost:8080", "authorization": f"Bearer {key}"})

        def ask() -> list[int]:
            """A page, a change and a question, each some times in turn."""
            return [
                client.request(method, path, json=body).status_code
                for _ in range(6)
                for method, path, body in (
                    ("GET", "/sign-in", None),
                    ("PUT", "/api/v1/accounts/ada", {}),
                    ("POST", "/api/v1/accounts/ada/verify", {"code": "123456"}),
                )
            ]

        first, *others = ask()
        answered = {first, *others}
        assert max(answered) < 500
        one.kill()
        assert set(ask()) <= answered
        assert client.get("/metrics").status_code == 404, "kept inside"
        two.kill()
        assert set(ask()) == {502}


def test_what_may_have_been_done_is_not_sent_again(program: str, tmp_path: Path) -> None:
    with (
        node_that_dies_over_each_request() as (one, first),
        node_that_dies_over_each_request() as (two, second),
        nginx(program, tmp_path, one, two) as client,
    ):
        assert client.post("/api/v1/accounts/ada/verify").status_code == 502
        assert len(first + second) == 1
        assert client.get("/sign-in").status_code == 502
        assert len(first + second) == 3, "a page is asked for at the other node, too"


def test_what_was_not_taken_is_sent_to_the_other_node(
    program: str, nodes: tuple[Server, Server], tmp_path: Path
) -> None:
    key = nodes[0].create_key("verify")
    with nginx(program, tmp_path, free_port(), nodes[1].port) as client:
        client.headers.update({"host": "localhost:8080", "authorization": f"Bearer {key}"})
        for _ in range(4):
            assert client.post("/api/v1/accounts/nobody/verify", json={"code": "123456"}).status_code == 404


def known_settings(variables: dict[str, str]) -> list[str]:
    """What `twofold` would warn of. Files that are not here are not read."""
    named = {name.removesuffix("_FILE"): value for name, value in variables.items() if name.startswith("TWOFOLD_")}
    plain = {
        name: "postgresql://twofold@localhost/twofold" if name == "TWOFOLD_DATABASE_URL" else value
        for name, value in named.items()
    }
    _, warnings = load_settings(plain)
    return warnings


def check_command(arguments: list[str]) -> None:
    """Parse as the program would, and run nothing."""
    command: click.Command = main
    while isinstance(command, click.Group):
        name, *arguments = arguments
        command = command.commands[name]
    command.make_context("twofold", arguments)


def test_the_checks_of_this_file_bite() -> None:
    assert known_settings({"TWOFOLD_TRUSTED_PROXY": "127.0.0.1"}) != []
    with pytest.raises(click.UsageError):
        check_command(["serve", "--worker", "2"])


def entries(text: str) -> list[tuple[str, str]]:
    """The lines `name=value` of a unit or of an environment file."""
    lines = (line.partition("=") for line in text.splitlines() if not line.startswith("#"))
    return [(name, value) for name, equals, value in lines if equals]


def test_the_unit_starts_a_command_that_exists_as_a_user_of_its_own() -> None:
    service = dict(entries(UNIT))
    program, *arguments = shlex.split(service["ExecStart"])
    assert Path(program).name == "twofold"
    check_command(arguments)
    assert service["User"] == "twofold"
    assert service["StateDirectory"] == "twofold"
    for name, value in {"NoNewPrivileges": "yes", "ProtectSystem": "strict", "CapabilityBoundingSet": ""}.items():
        assert service[name] == value
    assert int(service["TimeoutStopSec"]) > 30, "requests under way are finished"


def test_the_settings_of_the_unit_are_known() -> None:
    settings = dict(entries((DEPLOY / "systemd" / "twofold.env").read_text(encoding="utf-8")))
    assert known_settings(settings) == []
    assert settings["TWOFOLD_DATA_DIR"] == "/var/lib/twofold"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    analyze = find_program("systemd-analyze")

    def verify(text: str) -> str:
        unit = tmp_path / "twofold.service"
        unit.write_text(text.replace("/opt/twofold/bin/twofold", str(Path(sys.executable).with_name("twofold"))))
        found = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, check=False)
        return found.stderr

    assert verify(UNIT) == ""
    assert "NoNewPrivilege" in verify(UNIT.replace("NoNewPrivileges", "NoNewPrivilege"))


def test_the_container_is_made_from_files_that_are_here_and_is_not_root() -> None:
    instructions = [tuple(line.split(maxsplit=1)) for line in CONTAINERFILE.splitlines() if line[:1].isupper()]
    sent = {line.removeprefix("!") for line in ignored() if line.startswith("!")}
    for source in [source for name, rest in instructions if name == "COPY" for source in rest.split()[:-1]]:
        if not source.startswith(("--from=", "/opt/")):
            assert (ROOT / source).exists()
            assert source in sent
    assert [rest for name, rest in instructions if name == "USER"] == ["10001"]
    (command,) = (rest for name, rest in instructions if name == "CMD")
    check_command(yaml.safe_load(command))
    variables = dict(part.split("=", 1) for name, rest in instructions if name == "ENV" for part in rest.split())
    assert known_settings(variables) == []
    assert "requirements.lock" in CONTAINERFILE
    assert "--require-hashes" in CONTAINERFILE


def ignored() -> list[str]:
    return (DEPLOY / "container" / "Containerfile.dockerignore").read_text(encoding="utf-8").splitlines()


def test_the_library_for_postgresql_is_taken_out_of_the_lock_with_its_hashes(tmp_path: Path) -> None:
    (script,) = re.findall(r"sed -n '\S+' requirements-dev\.lock > postgres\.lock", CONTAINERFILE)
    shutil.copy(ROOT / "requirements-dev.lock", tmp_path)
    subprocess.run(["sh", "-ec", script], cwd=tmp_path, check=True)
    pinned = (tmp_path / "postgres.lock").read_text()
    assert re.fullmatch(r"asyncpg==[\d.]+( \\\n {4}--hash=sha256:[0-9a-f]{64})+\n", pinned)


@pytest.mark.parametrize("node", ["twofold-1", "twofold-2"])
def test_each_node_of_the_compose_file_finds_what_it_needs(node: str) -> None:
    service: dict[str, Any] = COMPOSE["services"][node]
    assert f"{node}:8000" in NGINX
    assert (DEPLOY / "compose" / service["build"]["context"] / service["build"]["dockerfile"]).resolve().is_file()
    assert known_settings(service["environment"]) == []
    files = {Path(value).name for value in service["environment"].values() if value.startswith("/run/secrets/")}
    assert files == set(service["secrets"]) <= set(COMPOSE["secrets"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    (network,) = COMPOSE["networks"]["inside"]["ipam"]["config"]
    assert service["environment"]["TWOFOLD_TRUSTED_PROXIES"] == network["subnet"]


def test_only_nginx_is_reached_from_outside_and_only_from_this_machine() -> None:
    ports = {name: service["ports"] for name, service in COMPOSE["services"].items() if "ports" in service}
    assert ports == {"nginx": ["127.0.0.1:8080:8080"]}
    assert "listen 8080;" in NGINX
    (mounted,) = COMPOSE["services"]["nginx"]["volumes"]
    assert (DEPLOY / "compose" / mounted.partition(":")[0]).is_file()


def test_the_secrets_that_the_page_makes_are_those_of_the_compose_file(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("openssl")
    page = (DEPLOY / "compose" / "README.md").read_text(encoding="utf-8")
    made, started = re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[0].split("\n\n")
    subprocess.run(["sh", "-ec", made], cwd=tmp_path, check=True)
    files = {f"secrets/{path.name}" for path in (tmp_path / "secrets").iterdir()}
    assert files == {secret["file"] for secret in COMPOSE["secrets"].values()}
    assert (tmp_path / "secrets").stat().st_mode & 0o077 == 0
    url = (tmp_path / "secrets" / "database-url").read_text().strip()
    settings, _ = load_settings({"TWOFOLD_DATABASE_URL": url})
    assert settings.postgres_url == url
    for line in re.findall(r"twofold-\d twofold (.+?)[`\n]", page):
        check_command(line.split())
    assert "docker compose up --build --detach" in started
