"""PostgreSQL and servers that fail while people sign in: each code counts once, no acknowledged one is forgotten, and
whoever repeats a call that was not answered gets through."""

import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count

import pytest
from tests.postgres import PostgresServer
from tests.servers import Clock, Phone
from tests.stories.nodes import Nodes, running_nodes

PHONES = 6
#: After the database answers again, or another server does.
BACK_S_MAX = 5.0
LONGEST_S = 60
PAUSED_S = 2.5
END_CONNECTIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'twofold'"
ACCEPTED = "SELECT account_id, count(*) FROM twofold.events WHERE kind = 'code.accepted' GROUP BY account_id"


class Traffic:
    """Phones whose codes are sent one after the other, each to the next server until one has acknowledged it."""

    def __init__(self, nodes: Nodes, key: str, phones: Sequence[Phone]) -> None:
        self._nodes = nodes
        self._key = key
        self._is_over = threading.Event()
        #: Of each phone.
        self.acknowledged: dict[str, list[str]] = {phone.account_id: [] for phone in phones}

    def next_from_everybody(self) -> float:
        """Wait until a code of each phone was acknowledged from now on; for how many seconds."""
        began_at = time.monotonic()
        before = {account_id: len(codes) for account_id, codes in self.acknowledged.items()}
        while any(len(codes) == before[account_id] for account_id, codes in self.acknowledged.items()):
            assert time.monotonic() < began_at + LONGEST_S, "nobody gets through any more"
            time.sleep(0.01)
        return time.monotonic() - began_at

    def end(self) -> None:
        """What is under way is sent until it is acknowledged, too."""
        self._is_over.set()

    def send(self, phone: Phone, begins_at: int) -> None:
        """Send its codes, to one server after the other, until the end."""
        turns = count(begins_at)
        while not self._is_over.is_set():
            code, key, ends_at = phone.next_code(0), f"press-{phone.presses}", time.monotonic() + LONGEST_S
            while not self._is_acknowledged(phone, code, key, next(turns)):
                assert time.monotonic() < ends_at
                time.sleep(0.02)
            self.acknowledged[phone.account_id].append(code)

    def _is_acknowledged(self, phone: Phone, code: str, key: str, turn: int) -> bool:
        path = f"/api/v1/accounts/{phone.account_id}/verify"
        try:
            with self._nodes.client_at(turn, self._key) as client:
                answer = client.call("POST", path, {"code": code}, {"Idempotency-Key": key})
        except (OSError, http.client.HTTPException):
            return False
        assert answer.is_verified or answer.status in (429, 503), answer
        return answer.is_verified


@contextmanager
def sending(nodes: Nodes, key: str, phones: Sequence[Phone]) -> Iterator[Traffic]:
    """While the block runs, these phones are used without a pause."""
    traffic = Traffic(nodes, key, phones)
    with ThreadPoolExecutor(len(phones)) as pool:
        senders = [pool.submit(traffic.send, phone, number) for number, phone in enumerate(phones)]
        try:
            traffic.next_from_everybody()
            yield traffic
        finally:
            traffic.end()
    for sender in senders:
        sender.result()


def kill_a_server(_: PostgresServer, nodes: Nodes) -> None:
    nodes.servers[0].kill()


def start_it_again(_: PostgresServer, nodes: Nodes) -> None:
    nodes.servers[0].start()


def pause_a_server(_: PostgresServer, nodes: Nodes) -> None:
    """It keeps its connections, and is asked by those who do not know."""
    os.kill(nodes.servers[1].pid, signal.SIGSTOP)
    threading.Timer(PAUSED_S, os.kill, (nodes.servers[1].pid, signal.SIGCONT)).start()


def cut_the_connections(postgres: PostgresServer, _: Nodes) -> None:
    for _ in range(10):
        postgres.sql(END_CONNECTIONS)


def kill_postgresql(postgres: PostgresServer, _: Nodes) -> None:
    postgres.kill()
    time.sleep(0.5)
    postgres.start()


def stop_postgresql_at_once(postgres: PostgresServer, _: Nodes) -> None:
    postgres.restart("immediate")


FAULTS = (
    kill_a_server,
    start_it_again,
    pause_a_server,
    cut_the_connections,
    kill_postgresql,
    stop_postgresql_at_once,
)


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.soak)])
def test_people_get_through_whatever_fails_and_each_code_counts_once(
    own_postgres: Callable[..., PostgresServer], tmp_path_factory: pytest.TempPathFactory, rounds: int
) -> None:
    postgres, folder = own_postgres(), tmp_path_factory.mktemp("nodes")
    clock, database = Clock(folder / "clock"), postgres.create_database()
    with running_nodes(folder, 2, database_url=postgres.url(database), test_clock=str(clock.path)) as nodes:
        key = nodes.create_key("verify", "enroll", "admin")
        with nodes.client_at(0, key) as client:
            phones = [client.import_phone(f"person-{n}", factor="hotp") for n in range(PHONES)]
        with sending(nodes, key, phones) as traffic:
            for fault in FAULTS * rounds:
                fault(postgres, nodes)
                assert traffic.next_from_everybody() < BACK_S_MAX + PAUSED_S * (fault is pause_a_server), fault
        acknowledged = {account_id: len(codes) for account_id, codes in traffic.acknowledged.items()}
        assert dict(postgres.sql(ACCEPTED, database=database)) == acknowledged
        for number in range(2):
            with nodes.client_at(number, key) as client:
                for account_id, codes in traffic.acknowledged.items():
                    assert client.verify(account_id, codes[-1 - number]).body["reason"] == "code_already_used"
        report = nodes.command("audit", "verify", "--json")
        assert json.loads(report.stdout)["ok"] is True
        assert [node.stop() for node in nodes.servers] == [0, 0]
