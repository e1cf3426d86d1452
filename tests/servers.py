"""Real servers for stories: `twofold serve` as a process of its own, a plain HTTP client, and the phones of people.

Nothing here looks inside: what a test knows of a server comes over HTTP, from the command line or out of its files.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import pyotp

GREETING = re.compile(rb"listening on http://localhost:(\d+)\n")
PROGRAM = (sys.executable, "-m", "twofold")
START_S_MAX = 30
#: The server lets go of a connection that is quiet for 5 s, perhaps just when something is sent over it.
KEPT_S_MAX = 2
STEP_S = 30


class Answer(NamedTuple):
    """A status and what the body says."""

    status: int
    body: Any

    @property
    def is_verified(self) -> bool:
        return self.status == 200 and self.body.get("verified") is True


class Clock:
    """The file that `TWOFOLD_TEST_CLOCK` names. It stands still until a test moves it."""

    def __init__(self, path: Path, at_s: int = 1_800_000_000) -> None:
        self.path = path
        self.set(at_s)

    def set(self, at_s: int) -> None:
        # Exchanged whole: a server that reads it at this moment finds a number.
        draft = self.path.with_suffix(".draft")
        draft.write_text(str(at_s))
        draft.replace(self.path)
        self.now_s = at_s

    def advance(self, seconds: int = STEP_S) -> None:
        self.set(self.now_s + seconds)


def run_command(data_dir: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A command of the program that asks nothing, however it ends."""
    environment = _environment(data_dir, settings)
    command = [*PROGRAM, *arguments]
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
    )


class Server:
    """One `twofold serve`. `settings` become `TWOFOLD_*`; `surroundings` are further variables of its environment.

    Over all its starts, `log` is the file with what it writes on standard error, and `said` is its standard output.
    """

    def __init__(self, data_dir: Path, *, surroundings: Mapping[str, str] | None = None, **settings: str) -> None:
        self.data_dir = data_dir
        self.log = data_dir.with_name(f"{data_dir.name}.log")
        self.said = b""
        self.port = 0
        self._settings = settings
        self._surroundings = surroundings or {}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        return self.data_dir / "twofold.db"

    @property
    def key_file(self) -> Path:
        return self.data_dir / "twofold.key"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start on a free port, and wait until it listens."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*PROGRAM, "serve", "--port", "0"],
                env=_environment(self.data_dir, self._settings) | dict(self._surroundings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self._process.stdout is not None
        said = _read_until(self._process.stdout, GREETING, START_S_MAX)
        self.said += said
        self.port = int(GREETING.findall(said)[0])

    def stop(self) -> int:
        """End it as an operator would; its exit status."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a power cut would end the process."""
        self._end(signal.SIGKILL)

    @property
    def is_running(self) -> bool:
        return self._process is not None

    def _end(self, how: signal.Signals) -> int:
        process, self._process = self._process, None
        assert process is not None
        assert process.stdout is not None
        process.send_signal(how)
        rest, _ = process.communicate(timeout=START_S_MAX)
        self.said += rest
        return process.returncode

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command over the same data with the same settings."""
        return run_command(self.data_dir, *arguments, **self._settings)

    def command_process(self, *arguments: str) -> "subprocess.Popen[str]":
        """The same, waiting for its input."""
        return subprocess.Popen(
            [*PROGRAM, *arguments],
            env=_environment(self.data_dir, self._settings),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def create_key(self, *scopes: str) -> str:
        """A new API key."""
        created = self.command("apikey", "create", "story", "--scope", ",".join(scopes))
        assert created.returncode == 0, created.stderr
        return created.stdout.strip()

    def client(self, key: str) -> "Client":
        """A connection of its own."""
        return Client(self.port, key)


@contextmanager
def running(data_dir: Path, **options: Any) -> Iterator[Server]:
    """A server that ends with the block, however that ends."""
    server = Server(data_dir, **options)
    try:
        server.start()
        yield server
    finally:
        if server.is_running:
            server.kill()


class Client:
    """One application with one kept connection, opened anew when it was cut or quiet for a while."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._connection: http.client.HTTPConnection | None = None
        self._used_at = 0.0
        self._imported = 0
        self.headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(
        self, method: str, path: str, body: object | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """One call of the API; raises `OSError` or `http.client.HTTPException` when the server goes away."""
        if time.monotonic() - self._used_at > KEPT_S_MAX:
            self.close()
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S_MAX)
        try:
            raw = None if body is None else json.dumps(body).encode()
            self._connection.request(method, path, raw, {**self.headers, **(headers or {})})
            response = self._connection.getresponse()
            text = response.read()
        except BaseException:
            self.close()
            raise
        self._used_at = time.monotonic()
        is_json = "json" in response.headers.get("content-type", "")
        return Answer(response.status, json.loads(text) if is_json else text.decode())

    def verify(self, account_id: str, code: str, **more: object) -> Answer:
        return self.call("POST", f"/api/v1/accounts/{account_id}/verify", {"code": code, **more})

    def add_account(self, account_id: str, **profile: object) -> None:
        answer = self.call("PUT", f"/api/v1/accounts/{account_id}", profile)
        assert answer.status in (200, 201), answer

    def import_phone(self, account_id: str, *, factor: str = "totp") -> "Phone":
        """A new account with an authenticator whose seed is known here; needs a key with scope admin."""
        self.add_account(account_id)
        phone = Phone(account_id, secret_of(account_id), factor)
        body = {"factor": factor, "secret": phone.secret, "confirmed": True}
        answer = self.call("POST", f"/api/v1/accounts/{account_id}/authenticators", body)
        assert answer.status == 201, answer
        phone.id = answer.body["id"]
        return phone

    def import_another(self, account_id: str) -> str:
        """One authenticator more for an account; its id."""
        self._imported += 1
        body = {"factor": "totp", "secret": secret_of(f"{account_id} {self._imported}"), "confirmed": True}
        answer = self.call("POST", f"/api/v1/accounts/{account_id}/authenticators", body)
        assert answer.status == 201, answer
        return str(answer.body["id"])

    def enroll_phone(self, account_id: str, now_s: int) -> tuple["Phone", list[str]]:
        """A new account that was enrolled as people do it; its phone and its recovery codes. Uses up a code."""
        self.add_account(account_id)
        begun = self.call("POST", f"/api/v1/accounts/{account_id}/authenticators", {"factor": "totp"})
        assert begun.status == 201, begun
        phone = Phone(account_id, begun.body["totp"]["secret"], id=begun.body["id"])
        path = f"/api/v1/accounts/{account_id}/authenticators/{phone.id}/confirm"
        confirmed = self.call("POST", path, {"code": phone.code(now_s)})
        assert confirmed.status == 200, confirmed
        return phone, confirmed.body["recovery_codes"]


@dataclass
class Phone:
    """An authenticator app or token, by the arithmetic of another library than ours."""

    account_id: str
    secret: str
    factor: str = "totp"
    id: str = ""
    presses: int = 0

    def code(self, now_s: int) -> str:
        """What it shows: at this time, or after the presses so far."""
        if self.factor == "totp":
            return pyotp.TOTP(self.secret).at(now_s)
        return pyotp.HOTP(self.secret).at(self.presses)

    def next_code(self, now_s: int) -> str:
        """As `code`; a token is pressed for it, and again where its code repeats one of the last hundred: that one
        counts as used."""
        if self.factor == "totp":
            return self.code(now_s)
        token = pyotp.HOTP(self.secret)
        used = {token.at(counter) for counter in range(max(0, self.presses - 100), self.presses)}
        while (code := token.at(self.presses)) in used:
            self.presses += 1
        self.presses += 1
        return code


def secret_of(name: str) -> str:
    """A secret that is the same in each run, so that codes which happen to be equal are always the same ones."""
    return base64.b32encode(hashlib.sha256(name.encode()).digest()[:20]).decode()


def _environment(data_dir: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """What surrounds the tests, without settings of their own machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TWOFOLD_")}
    return kept | {"TWOFOLD_DATA_DIR": str(data_dir)} | {f"TWOFOLD_{k.upper()}": v for k, v in settings.items()}


def _read_until(stream: IO[bytes], wanted: re.Pattern[bytes], seconds_max: float) -> bytes:
    """What a pipe says until the wanted words; fails when it ends before, or does not say them in time."""
    deadline, said = time.monotonic() + seconds_max, b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while not wanted.search(said):
            assert selector.select(deadline - time.monotonic()), f"no {wanted.pattern!r} within {seconds_max} s"
            read = os.read(stream.fileno(), 65536)
            assert read, f"the server ended; it had said: {said!r}"
            said += read
    return said
