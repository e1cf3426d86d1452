"""Keys are exchanged while people sign in: nobody is refused who should not be, no code counts twice, and whatever is
killed on the way, the rotation or the server, the rest can be done later."""

import asyncio
import base64
import http.client
import itertools
import json
import sqlite3
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from tests.servers import STEP_S, Clock, Phone, Server, running, secret_of

from twofold.bootstrap import open_deployment
from twofold.config import Settings
from twofold.credentials import OtpParameters
from twofold.engine import Caller

ACCOUNTS = 5_000
ACCOUNTS_OF_A_LONG_RUN = 100_000
CLIENTS = 4
AT_ONCE = 256
WAIT_S_MAX = 600


def populate(data_dir: Path, phones: Sequence[Phone], clock: Clock, **settings: str) -> None:
    """A new database in which everybody has what their phone shows."""
    asyncio.run(_import(Settings(data_dir=data_dir, test_clock=clock.path, **settings), iter(phones)))  # type: ignore[arg-type]


async def _import(settings: Settings, phones: Iterator[Phone]) -> None:
    deployment = await open_deployment(settings)
    directory = deployment.verifier.accounts

    async def import_next() -> None:
        for phone in phones:
            await directory.put(phone.account_id)
            otp = OtpParameters(base64.b32decode(phone.secret))
            factor = "totp" if phone.factor == "totp" else "hotp"
            await directory.import_authenticator(phone.account_id, factor, otp, caller=Caller(is_admin=True))

    await asyncio.gather(*(import_next() for _ in range(AT_ONCE)))
    await deployment.close()


def make_phones(count: int) -> list[Phone]:
    """Apps and tokens; a token has a right code however often it was asked, without time going on."""
    names = [f"person-{number}" for number in range(count)]
    return [Phone(name, secret_of(name), "hotp" if place % 2 else "totp") for place, name in enumerate(names)]


class Crowd:
    """People who sign in again and again, each with a right code that nobody has sent before.

    When the server goes away, they wait until it is back and send what was not answered once more. Anything but a yes
    is kept in `refused`.
    """

    def __init__(self, server: Server, phones: Sequence[Phone], clock: Clock) -> None:
        self._server = server
        self._key = server.create_key("verify")
        self._phones = phones
        self._clock = clock
        self._is_over = threading.Event()
        self._is_served = threading.Event()
        self._is_served.set()
        self.accepted: Counter[str] = Counter()
        self.refused: list[object] = []
        self.repeated = 0

    @contextmanager
    def signing_in(self) -> Iterator[None]:
        """They do while the block runs."""
        share = len(self._phones) // CLIENTS
        shares = [self._phones[number * share :][:share] for number in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            done: list[Future[Counter[str]]] = [pool.submit(self._sign_in, share) for share in shares]
            try:
                yield
            finally:
                self._is_over.set()
                self._is_served.set()
            self.accepted = sum((each.result() for each in done), Counter())

    def restart_server(self) -> None:
        """A power cut, and the power is back."""
        self._is_served.clear()
        self._server.kill()
        self._server.start()
        self._is_served.set()

    def _sign_in(self, phones: Sequence[Phone]) -> "Counter[str]":
        accepted: Counter[str] = Counter()
        codes = self._codes(phones)
        unanswered: tuple[str, str, str] | None = None
        while not self._is_over.is_set() or unanswered:
            assert self._is_served.wait(WAIT_S_MAX)
            with self._server.client(self._key) as client:
                try:
                    for account_id, code, key in itertools.chain([unanswered] if unanswered else [], codes):
                        unanswered = account_id, code, key
                        path = f"/api/v1/accounts/{account_id}/verify"
                        answer = client.call("POST", path, {"code": code}, {"Idempotency-Key": key})
                        unanswered = None
                        accepted[account_id] += answer.is_verified
                        if not answer.is_verified:
                            self.refused.append((account_id, key, answer))
                        if self._is_over.is_set():
                            break
                except (OSError, http.client.HTTPException):
                    self.repeated += 1
        return accepted

    def _codes(self, phones: Sequence[Phone]) -> Iterator[tuple[str, str, str]]:
        """Whose code, the code, and the idempotency key of the call: of an app the three of its window."""
        for turn in itertools.count(-1):
            for phone in phones:
                if phone.factor == "hotp" or turn <= 1:
                    yield phone.account_id, phone.next_code(self._clock.now_s + turn * STEP_S), f"turn{turn}"


def read(server: Server, sql: str, *values: object) -> "list[tuple[str | int, ...]]":
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        return database.execute(sql, values).fetchall()


def keys_of(server: Server) -> dict[str, Mapping[str, object]]:
    status = server.command("keys", "status", "--all", "--json")
    assert status.returncode == 0, status.stderr
    return {key["id"]: key for key in json.loads(status.stdout)}


def keys_for(server: Server, purpose: str) -> "list[tuple[str | int, ...]]":
    """The keys for it and their states, as they were made."""
    return read(server, "SELECT id, state FROM keyring WHERE purpose = ? ORDER BY rowid", purpose)


def active_key(server: Server) -> str:
    ((key_id,),) = read(server, "SELECT id FROM keyring WHERE purpose = 'data' AND state = 'active'")
    return str(key_id)


def count_under(server: Server, key_id: str) -> int:
    """How many accounts hold something that was sealed with this key."""
    ((count,),) = read(server, "SELECT count(*) FROM accounts WHERE instr(document, CAST(? AS BLOB))", key_id)
    return int(count)


def wait_until(is_so: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Return once it is so, which has to be before the process ends."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end_of(process: "subprocess.Popen[str]") -> str:
    said, _ = process.communicate(timeout=WAIT_S_MAX)
    assert process.returncode == 0, said
    return said


def check_all_is_well(server: Server, crowd: Crowd, phones: Sequence[Phone], clock: Clock) -> None:
    """Everybody was let in each time, counted once each time, and is let in now."""
    assert crowd.refused == []
    counted = "SELECT account_id, count(*) FROM events WHERE kind = 'code.accepted' GROUP BY account_id"
    assert crowd.accepted == Counter(dict(read(server, counted)))
    assert sum(crowd.accepted.values()) > len(phones) // 10
    clock.advance(10 * STEP_S)
    with server.client(server.create_key("verify")) as client:
        for phone in phones[:: len(phones) // 100]:
            assert client.verify(phone.account_id, phone.next_code(clock.now_s)).is_verified
    checked = server.command("keys", "check")
    assert (checked.returncode, checked.stdout) == (0, "every account opens\n")
    verified = server.command("audit", "verify", "--json")
    assert json.loads(verified.stdout)["ok"] is True


def check_empty(server: Server, key_id: str) -> None:
    """Nothing whatever is under this key any more: a first look of those that come before its destruction."""
    looked = server.command("keys", "destroy", key_id, "--yes")
    assert looked.returncode == 1
    assert f"nothing is under {key_id} any more" in looked.stderr


def rotate_under_load(folder: Path, accounts: int) -> None:
    """Rotate; kill the rotation in the middle; resume it; kill the server in the middle of that."""
    clock, phones = Clock(folder / "clock"), make_phones(accounts)
    populate(folder / "data", phones, clock)
    with running(folder / "data", test_clock=str(clock.path)) as server:
        before = keys_of(server)
        old = active_key(server)
        assert before[old]["seeds"] == accounts
        crowd = Crowd(server, phones, clock)
        with crowd.signing_in():
            with server.command_process("keys", "rotate") as rotation:
                wait_until(lambda: active_key(server) != old, rotation)
                new = active_key(server)
                wait_until(lambda: count_under(server, old) < accounts * 4 // 5, rotation)
                rotation.kill()
            halfway = keys_of(server)
            assert halfway[old]["state"] == "decrypt_only"
            assert 0 < int(str(halfway[old]["seeds"])) < accounts
            with server.command_process("keys", "rotate", "--resume") as resumed:
                wait_until(lambda: count_under(server, old) < accounts // 2, resumed)
                assert resumed.poll() is None
                crowd.restart_server()
                said = end_of(resumed)
        assert f"everything is under {new}" in said
        assert crowd.repeated > 0

        after = keys_of(server)
        retired = [key_id for key_id in before if after[key_id]["state"] == "decrypt_only"]
        assert {key_id.partition("-")[0] for key_id in retired} == {"data", "integrity", "receipt", "ticket"}
        assert (after[old]["seeds"], after[new]["seeds"]) == (0, accounts)
        for key_id in retired:
            check_empty(server, key_id)
        check_all_is_well(server, crowd, phones, clock)
        assert server.stop() == 0


def test_keys_rotate_under_load_and_survive_every_kill(tmp_path: Path) -> None:
    rotate_under_load(tmp_path, ACCOUNTS)


@pytest.mark.soak
def test_the_keys_of_a_hundred_thousand_accounts_rotate_under_load(tmp_path: Path) -> None:
    rotate_under_load(tmp_path, ACCOUNTS_OF_A_LONG_RUN)


def test_a_rotation_killed_before_its_signing_keys_were_used_is_finished_by_resume(tmp_path: Path) -> None:
    clock, phones = Clock(tmp_path / "clock"), make_phones(10)
    populate(tmp_path / "data", phones, clock)
    with running(tmp_path / "data", test_clock=str(clock.path)) as server:
        before = keys_of(server)
        # It cannot say that it knows the new keys, and nobody knows for a while that it is gone.
        server.kill()
        with server.command_process("keys", "rotate") as rotation:
            wait_until(lambda: len(keys_for(server, "integrity")) > 1, rotation)
            rotation.kill()
        clock.advance(60)
        server.start()
        assert [state for _, state in keys_for(server, "integrity")] == ["active", "decrypt_only"]
        assert server.command("keys", "rotate", "--resume").returncode == 0
        for purpose in ("integrity", "receipt", "ticket"):
            assert [state for _, state in keys_for(server, purpose)] == ["decrypt_only", "active"]
        for key_id in before:
            if not key_id.startswith(("index-", "master-")):
                check_empty(server, key_id)
        with server.client(server.create_key("verify")) as client:
            assert client.verify(phones[0].account_id, phones[0].next_code(clock.now_s)).is_verified


@pytest.mark.parametrize("data_keys", ["shared", "per-seed"])
def test_everything_moves_to_another_master_key_under_load(tmp_path: Path, data_keys: str) -> None:
    clock, phones = Clock(tmp_path / "clock"), make_phones(ACCOUNTS // 10)
    populate(tmp_path / "data", phones, clock, data_keys=data_keys)
    settings = {"test_clock": str(clock.path), "data_keys": data_keys}
    address = f"file:{tmp_path / 'elsewhere.key'}"
    with running(tmp_path / "data", **settings) as server:
        before = keys_of(server)
        crowd = Crowd(server, phones, clock)
        with crowd.signing_in(), server.command_process("keys", "rotate", "--provider", address) as rotation:
            said = end_of(rotation)
        assert f"every key is under {address} now: set KEY_PROVIDER to it" in said
        assert server.stop() == 0

        refused = server.command("serve", "--port", "0")
        assert refused.returncode == 1
        assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)
        assert address in refused.stderr

    with running(tmp_path / "data", key_provider=address, **settings) as server:
        after = keys_of(server)
        (master,) = (key_id for key_id, key in after.items() if key.get("provider") == address)
        assert after[master]["state"] == "active"
        assert {key["master"] for key in after.values() if "master" in key} == {master}
        for key_id in before:
            if before[key_id].get("purpose") in (None, "master"):
                check_empty(server, key_id)
        check_all_is_well(server, crowd, phones, clock)
