"""The configurations of `docs/howto/https.md` run: real web servers in front of the real server.

Only the names of files and the ports are changed.
"""

import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from tests.certificates import make_certificate
from tests.servers import Server, running

from twofold.certificate import read_certificate
from twofold.config import Settings
from twofold.server.addresses import Addresses

PAGE = (Path(__file__).parent.parent / "docs" / "howto" / "https.md").read_text(encoding="utf-8")
NAME = "login.example.com"
URL = f"https://{NAME}"
PATIENCE_S = 30
#: At its first start Caddy may tidy up the folder in which it keeps its new certificate, and then waits a minute.
CADDY_STUMBLED = '"msg":"will retry"'
NGINX_SURROUNDINGS = """
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
CADDY_SURROUNDINGS = """
{{
	admin off
	local_certs
	skip_install_trust
	http_port {http}
	https_port {https}
	default_bind 127.0.0.1
	storage file_system {folder}
}}
{sites}
"""


class Ports(NamedTuple):
    """Where the proxy is to listen, and where the server behind it does."""

    http: int
    https: int
    behind: int


def block(language: str) -> str:
    """The one block of that language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def nginx_command(program: str, folder: Path, ports: Ports) -> tuple[list[str], Path]:
    """The command line, and the certificate that a client has to trust."""
    files = make_certificate(folder, NAME)
    servers = re.sub(r" *listen \[::\].*\n", "", block("nginx"))
    for there, here in {
        f"/etc/letsencrypt/live/{NAME}/fullchain.pem": str(files.cert),
        f"/etc/letsencrypt/live/{NAME}/privkey.pem": str(files.key),
        "listen 443": f"listen 127.0.0.1:{ports.https}",
        "listen 80": f"listen 127.0.0.1:{ports.http}",
        "127.0.0.1:8000": f"127.0.0.1:{ports.behind}",
    }.items():
        assert there in servers
        servers = servers.replace(there, here)
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX_SURROUNDINGS.format(folder=folder, servers=servers))
    return [program, "-p", str(folder), "-c", str(configuration), "-e", "stderr"], files.cert


def caddy_command(program: str, folder: Path, ports: Ports) -> tuple[list[str], Path]:
    """The same for Caddy, which makes its certificate."""
    sites = block("caddyfile")
    assert "127.0.0.1:8000" in sites
    sites = sites.replace("127.0.0.1:8000", f"127.0.0.1:{ports.behind}")
    configuration = folder / "Caddyfile"
    configuration.write_text(CADDY_SURROUNDINGS.format(folder=folder, sites=sites, http=ports.http, https=ports.https))
    command = [program, "run", "--config", str(configuration), "--adapter", "caddyfile"]
    return command, folder / "pki" / "authorities" / "local" / "root.crt"


COMMANDS = {"nginx": nginx_command, "caddy": caddy_command}


class Proxy:
    """A web server in front, as somebody meets it who opens the public address."""

    def __init__(self, ports: Ports, certificate: Path) -> None:
        self.ports = ports
        self.certificate = certificate

    def get(self, path: str, *, headers: dict[str, str] | None = None, source: str = "127.0.0.1") -> httpx.Response:
        """An answer over https; `source` is the address to come from."""
        trusting = ssl.create_default_context(cafile=self.certificate)
        transport = httpx.HTTPTransport(verify=trusting, local_address=source)
        with httpx.Client(transport=transport, base_url=f"https://127.0.0.1:{self.ports.https}") as client:
            return client.get(path, headers={"host": NAME, **(headers or {})}, extensions={"sni_hostname": NAME})


StartProxy = Callable[[int], Proxy]


@pytest.fixture(params=COMMANDS)
def start_proxy(
    request: pytest.FixtureRequest, tmp_path: Path, require_program: Callable[[str], str]
) -> Iterator[StartProxy]:
    """Give a function that starts the proxy in front of a port."""
    program, started = require_program(request.param), []

    def start(behind: int) -> Proxy:
        ports = Ports(free_port(), free_port(), behind)
        command, certificate = COMMANDS[request.param](program, tmp_path, ports)
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}

        def run() -> None:
            with (tmp_path / "proxy.log").open("wb") as log:
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))

        run()
        proxy = Proxy(ports, certificate)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                proxy.get("/")
            except (httpx.TransportError, FileNotFoundError, ssl.SSLError):  # its certificate may be half written
                said = (tmp_path / "proxy.log").read_text()
                assert started[-1].poll() is None, said
                assert time.monotonic() < deadline, said
                if CADDY_STUMBLED in said:
                    started[-1].terminate()
                    started[-1].wait()
                    run()
            else:
                return proxy

    yield start
    for process in started:
        process.terminate()
        process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """`twofold serve` with the settings of the page."""
    with running(tmp_path / "data", public_url=URL, trusted_proxies="127.0.0.1") as started:
        yield started


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def test_the_settings_of_the_page_are_those_of_the_test() -> None:
    assert f"export TWOFOLD_PUBLIC_URL={URL} TWOFOLD_TRUSTED_PROXIES=127.0.0.1\n" in PAGE


def test_through_the_web_server_of_the_page_everything_is_as_without_it(
    start_proxy: StartProxy, server: Server
) -> None:
    key = server.create_key("verify")
    proxy = start_proxy(server.port)
    page = proxy.get("/sign-in")
    assert page.status_code == 200
    for name in ("strict-transport-security", "content-security-policy", "x-frame-options", "cache-control"):
        assert len(page.headers.get_list(name)) == 1
    assert proxy.get("/", headers={"x-forwarded-host": "evil.example"}).headers["location"] == "/sign-in"
    answer = proxy.get("/api/v1/accounts/nobody", headers={"authorization": f"Bearer {key}"})
    assert answer.json()["code"] == "not_found"
    assert proxy.get("/health/live").status_code == 200
    assert proxy.get("/metrics").status_code == 404, "kept inside"


def test_plain_http_is_sent_to_https(start_proxy: StartProxy, server: Server) -> None:
    proxy = start_proxy(server.port)
    answer = httpx.get(f"http://127.0.0.1:{proxy.ports.http}/sign-in?next=%2Fa", headers={"host": NAME})
    assert answer.status_code == 308
    # Caddy names the port that it was given here in place of 443.
    assert answer.headers["location"].replace(f":{proxy.ports.https}", "") == f"{URL}/sign-in?next=%2Fa"


@contextmanager
def telling_senders(addresses: Addresses) -> Iterator[int]:
    """A server that answers where it takes each request to come from; gives its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = [(name.lower().encode(), value.encode()) for name, value in self.headers.items()]
            scope: dict[str, Any] = {"client": self.client_address, "headers": headers}
            sender = addresses.find(scope)
            body = json.dumps([sender.address, sender.is_behind_unknown_proxy, self.headers["host"]]).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as telling:
        thread = threading.Thread(target=telling.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield telling.server_port
        finally:
            telling.shutdown()
            thread.join()


# Other systems have one loopback address, unless somebody adds more.
@pytest.mark.skipif(sys.platform != "linux", reason="comes from a second address of this machine")
def test_the_address_is_that_of_the_person_whatever_is_written_into_the_headers(start_proxy: StartProxy) -> None:
    forged = {"x-forwarded-for": "203.0.113.1", "forwarded": "for=203.0.113.2", "x-real-ip": "203.0.113.3"}
    with telling_senders(Addresses(Settings(trusted_proxies="127.0.0.1").proxy_networks)) as port:
        proxy = start_proxy(port)
        for headers in ({}, forged):
            assert proxy.get("/", source="127.0.0.7", headers=headers).json() == ["127.0.0.7", False, NAME]


def test_a_web_server_that_is_not_named_is_noticed(start_proxy: StartProxy, caplog: pytest.LogCaptureFixture) -> None:
    addresses = Addresses(Settings().proxy_networks)
    with telling_senders(addresses) as port:
        assert start_proxy(port).get("/").json() == ["127.0.0.1", True, NAME]
    assert addresses.suggestion == "TWOFOLD_TRUSTED_PROXIES=127.0.0.1/32"
    assert caplog.text.count(addresses.suggestion) == 1


def test_the_certificate_that_the_page_makes_can_be_served(
    tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("openssl")
    commands = re.findall(r"^\$ (openssl req .+|chmod 600 .+)$", PAGE, re.MULTILINE)
    assert len(commands) == 2
    subprocess.run(["bash", "-ec", "\n".join(commands)], cwd=tmp_path, check=True, capture_output=True)
    certificate = read_certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    assert certificate.names == ("login.lan", "192.168.1.5")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
