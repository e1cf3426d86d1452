"""`kill -9` under load: what was acknowledged before has happened, and everything else can simply be sent again."""

import http.client
import itertools
import json
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.servers import STEP_S, Answer, Client, Clock, Phone, Server, running

CLIENTS = 8


class Sent(NamedTuple):
    """A code that a phone showed, and the idempotency key of its call."""

    phone: Phone
    code: str
    key: str


class Load:
    """Eight clients with phones of their own verify until a number of answers is acknowledged; then the server is
    killed, whatever is under way."""

    def __init__(self, server: Server, key: str, *, acknowledgements: int) -> None:
        self._server = server
        self._key = key
        self._wanted = acknowledgements
        self._lock = threading.Lock()
        self.acknowledged: list[Sent] = []
        self.unanswered: list[Sent] = []

    def run(self, phones: Sequence[Phone], now_s: int) -> None:
        shares = [phones[number::CLIENTS] for number in range(CLIENTS)]
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda share: self._send(share, now_s), shares))

    def _send(self, phones: Sequence[Phone], now_s: int) -> None:
        with self._server.client(self._key) as client:
            for sent in _codes(phones, now_s):
                try:
                    answer = send_once(client, sent)
                except (OSError, http.client.HTTPException):
                    self.unanswered.append(sent)
                    return
                assert answer.is_verified, answer
                with self._lock:
                    self.acknowledged.append(sent)
                    if len(self.acknowledged) == self._wanted:
                        self._server.kill()


def send_once(client: Client, sent: Sent) -> Answer:
    """A call that may be repeated: it ends as it did the first time."""
    path = f"/api/v1/accounts/{sent.phone.account_id}/verify"
    return client.call("POST", path, {"code": sent.code}, {"Idempotency-Key": sent.key})


def _codes(phones: Sequence[Phone], now_s: int) -> Iterator[Sent]:
    """Right codes of these phones in turn: of an app three, which is its window; of a token any number."""
    for turn in itertools.count(-1):
        for phone in phones:
            if phone.factor == "hotp" or turn <= 1:
                yield Sent(phone, phone.next_code(now_s + turn * STEP_S), f"{now_s}-{turn}")


def check_after_restart(server: Server, key: str, clock: Clock, load: Load) -> None:
    with server.client(key) as client:
        for sent in load.acknowledged:
            assert client.verify(sent.phone.account_id, sent.code).body["reason"] == "code_already_used"
        for sent in load.unanswered:
            assert send_once(client, sent).is_verified
        clock.advance(10 * STEP_S)
        for phone in {sent.phone.account_id: sent.phone for sent in load.acknowledged + load.unanswered}.values():
            assert client.verify(phone.account_id, phone.next_code(clock.now_s)).is_verified
    report = server.command("audit", "verify", "--json")
    assert json.loads(report.stdout)["ok"] is True


def count_accepted(server: Server) -> Counter[str]:
    with closing(sqlite3.connect(f"file:{server.database}?mode=ro", uri=True)) as database:
        sql = "SELECT account_id, count(*) FROM events WHERE kind = 'code.accepted' GROUP BY account_id"
        return Counter(dict(database.execute(sql).fetchall()))


def kill_again_and_again(folder: Path, times: int) -> None:
    clock = Clock(folder / "clock")
    with running(folder / "data", test_clock=str(clock.path)) as server:
        key = server.create_key("verify", "enroll", "admin")
        with server.client(key) as client:
            phones = [client.import_phone(f"{f}-{n}", factor=f) for f in ("totp", "hotp") for n in range(2 * CLIENTS)]
        expected: Counter[str] = Counter()
        for number in range(times):
            clock.advance(10 * STEP_S)
            load = Load(server, key, acknowledgements=1 + 7 * number % 100)
            load.run(phones, clock.now_s)
            assert not server.is_running
            server.start()
            check_after_restart(server, key, clock, load)
            # Each code that was sent is accepted exactly once by now, and so is the next one of each phone.
            senders = [sent.phone.account_id for sent in load.acknowledged + load.unanswered]
            expected += Counter(senders) + Counter(set(senders))
            assert count_accepted(server) == expected


def test_a_server_killed_twenty_times_under_load_forgets_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 20)


@pytest.mark.soak
def test_a_server_killed_three_hundred_times_under_load_forgets_nothing_that_it_acknowledged(tmp_path: Path) -> None:
    kill_again_and_again(tmp_path, 300)
