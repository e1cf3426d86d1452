"""The text-book applications of examples/textbook as processes, under a clock that tests move, and who visits them."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, NamedTuple

from tests.node import build_package
from tests.servers import START_S_MAX, Clock, Server, running

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples" / "textbook"

#: Found by Python at its start; applications in it see the time that a file tells.
_PYTHON_CLOCK = """\
import os, time

time.time = lambda: float(open(os.environ["CLOCK"]).read())
time.time_ns = lambda: int(time.time()) * 10**9
"""
_NODE_CLOCK = 'Date.now = () => Number(require("node:fs").readFileSync(process.env.CLOCK, "utf8")) * 1000;\n'


class Answer(NamedTuple):
    """A status and what the JSON says."""

    status: int
    body: Any

    @property
    def error(self) -> str:
        return str(self.body.get("error", ""))


class Application:
    """One application over a folder of its own. A Twofold `server` behind it shares its fate."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        clock: Clock,
        *,
        environment: Mapping[str, str] | None = None,
        server: Server | None = None,
    ) -> None:
        self.folder = folder
        self.clock = clock
        self.port = _free_port()
        self._command = [word.format(port=self.port) for word in command]
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TWOFOLD_")},
            "DATA_DIR": str(folder),
            "CLOCK": str(clock.path),
            "PORT": str(self.port),
            "SECRET_KEY": "of the tests",
            **(environment or {}),
        }
        self._server = server
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start, and wait until it listens."""
        if self._server is not None:
            self._environment["TWOFOLD_URL"] = f"http://localhost:{self._server.port}"
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=EXAMPLES, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_S_MAX
        while not _listens(self.port):
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(START_S_MAX)

    def restart(self) -> None:
        """A power cut, and what stands behind it comes back too."""
        self.kill()
        if self._server is not None:
            self._server.kill()
            self._server.start()
        self.start()

    def stolen(self) -> bytes:
        """What a copy of its database holds: every file but that of the key, which is kept apart."""
        left = {"log", "clock", "sitecustomize.py", "clock.js"}
        files = (file for file in self.folder.rglob("*") if file.is_file() and file.suffix != ".key")
        return b"".join(file.read_bytes() for file in files if file.name not in left)

    def visitor(self, *, address: str = "127.0.0.1") -> "Visitor":
        """Somebody with a browser of his own."""
        return Visitor(self.port, address)


class Visitor:
    """A browser that keeps cookies; each request has a connection of its own."""

    def __init__(self, port: int, address: str) -> None:
        self._port = port
        self._address = address
        self._cookies: dict[str, str] = {}

    def post(self, path: str, **body: str) -> Answer:
        return self._call("POST", path, json.dumps(body))

    @property
    def is_in(self) -> bool:
        """Whether the application takes this browser for that of alice, with all that she may do."""
        return self._call("GET", "/").body == {"user": "alice"}

    def sign_in(self) -> Answer:
        """The first step."""
        answer = self.post("/login", username="alice", password="wonderland")
        assert answer.status == 200, answer
        return answer

    def gets_in(self, code: str) -> bool:
        """Whether the password and this code are enough."""
        self.sign_in()
        self.post("/verify-2fa", code=code)
        return self.is_in

    def leave(self) -> None:
        """End the session; other cookies stay."""
        self._cookies = {name: value for name, value in self._cookies.items() if name == "known"}

    def _call(self, method: str, path: str, body: str | None = None) -> Answer:
        source = (self._address, 0)
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S_MAX, source_address=source)
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        try:
            connection.request(method, path, body, {"Content-Type": "application/json", "Cookie": cookies})
            response = connection.getresponse()
            for line in response.headers.get_all("Set-Cookie") or ():
                self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
            return Answer(response.status, json.loads(response.read()))
        finally:
            connection.close()


@contextmanager
def flask(name: str, folder: Path, clock: Clock) -> Iterator[Application]:
    """An application of examples/textbook as its first lines say."""
    (folder / "sitecustomize.py").write_text(_PYTHON_CLOCK)
    command = [sys.executable, "-m", "flask", "--app", name, "run", "--port", "{port}"]
    with _started(Application(command, folder, clock, environment={"PYTHONPATH": str(folder)})) as application:
        yield application


@contextmanager
def express(name: str, node: str, folder: Path, clock: Clock) -> Iterator[Application]:
    """The same; that on Twofold has a Twofold server behind it."""
    shim = folder / "clock.js"
    shim.write_text(_NODE_CLOCK)
    environment = {"NODE_PATH": str(_node_modules(folder))}
    command = [node, "--require", str(shim), f"{name}.js"]
    if not name.startswith("twofold"):
        with _started(Application(command, folder, clock, environment=environment)) as application:
            yield application
        return
    with running(folder / "data", test_clock=str(clock.path)) as server:
        environment["TWOFOLD_KEY"] = server.create_key("verify", "enroll")
        with _started(Application(command, folder, clock, environment=environment, server=server)) as application:
            yield application


def _node_modules(folder: Path) -> Path:
    """What `require` finds: the packages that clients/js is tested with, and clients/js itself."""
    package, modules = build_package(), folder.with_name(f"{folder.name}-modules")
    (modules / "@twofold").mkdir(parents=True)
    (modules / "@twofold" / "client").symlink_to(package)
    (modules / "express").symlink_to(package / "node_modules" / "express5")
    (modules / "express-session").symlink_to(package / "node_modules" / "express-session")
    return modules


@contextmanager
def _started(application: Application) -> Iterator[Application]:
    try:
        application.start()
        yield application
    finally:
        application.kill()


def _listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
