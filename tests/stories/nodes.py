"""Several real servers on one PostgreSQL database, behind nginx: as an organization runs them."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.conftest import find_program
from tests.servers import Client, Server

START_S_MAX = 30
CONFIGURATION = """
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
    upstream nodes {{
        {nodes}
        keepalive 64;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://nodes;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            # What was sent to one node is not sent to another one, too.
            proxy_next_upstream off;
        }}
    }}
}}
"""


class Nodes:
    """What a test needs of a `Server`, of all of them together. `port` is nginx's, which goes around in turns."""

    def __init__(self, servers: list[Server], port: int) -> None:
        self.servers = servers
        self.port = port

    @property
    def data_dir(self) -> Path:
        """That of one of them."""
        return self.servers[0].data_dir

    def create_key(self, *scopes: str) -> str:
        return self.servers[0].create_key(*scopes)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.servers[0].command(*arguments)

    def command_process(self, *arguments: str) -> "subprocess.Popen[str]":
        return self.servers[0].command_process(*arguments)

    def client(self, key: str) -> Client:
        return Client(self.port, key)

    def client_at(self, number: int, key: str) -> Client:
        """A connection to one of them, past nginx; numbers go around."""
        client = self.servers[number % len(self.servers)].client(key)
        client.headers["Host"] = f"localhost:{self.port}"
        return client


@contextmanager
def running_nodes(folder: Path, count: int = 3, **settings: str) -> Iterator[Nodes]:
    """Nodes with these settings, each with a folder of its own and the same key file."""
    port = _free_port()
    with ExitStack() as ends:
        servers = [
            Server(folder / f"node-{n}", public_url=f"http://localhost:{port}", **settings) for n in range(count)
        ]
        for server in servers:
            if server is not servers[0]:
                server.data_dir.mkdir(mode=0o700, parents=True)
                server.key_file.touch(mode=0o600)
                server.key_file.write_bytes(servers[0].key_file.read_bytes())
            server.start()
            ends.callback(lambda server: server.is_running and server.kill(), server)
        ends.enter_context(_nginx(folder, port, servers))
        yield Nodes(servers, port)


@contextmanager
def _nginx(folder: Path, port: int, servers: list[Server]) -> Iterator[None]:
    configuration = folder / "nginx.conf"
    nodes = "".join(f"server 127.0.0.1:{server.port};" for server in servers)
    configuration.write_text(CONFIGURATION.format(folder=folder, nodes=nodes, port=port))
    command = [find_program("nginx"), "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    with (folder / "nginx.log").open("wb") as log, subprocess.Popen(command, stderr=log) as process:
        try:
            deadline = time.monotonic() + START_S_MAX
            while not _listens(port):
                assert process.poll() is None, (folder / "nginx.log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)
            yield
        finally:
            process.terminate()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
