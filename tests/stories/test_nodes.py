"""Three servers on one PostgreSQL database, behind nginx: whatever one of them did, the others know it."""

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.forms import OpenForms
from tests.people import Person
from tests.postgres import PostgresServer
from tests.servers import Answer, Client, Clock
from tests.stories.nodes import Nodes, running_nodes

KNOWN_WITHIN_S = 1.0


@pytest.fixture(scope="module")
def server(postgres_server: PostgresServer, folder: Path, clock: Clock) -> Iterator[Nodes]:
    name = postgres_server.create_database()
    with running_nodes(folder, database_url=postgres_server.url(name), test_clock=str(clock.path)) as nodes:
        yield nodes
    postgres_server.drop_database(name)


@pytest.fixture
def clients(server: Nodes, key: str) -> Iterator[list[Client]]:
    """Twenty connections to the nodes in turn."""
    with ExitStack() as stack:
        yield [stack.enter_context(server.client_at(n, key)) for n in range(20)]


def is_signed_in(nodes: Nodes, cookies: dict[str, str]) -> list[bool]:
    """Whether each node shows the security page to whoever has these cookies."""
    seen = []
    for node in nodes.servers:
        connection = http.client.HTTPConnection("127.0.0.1", node.port)
        cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
        connection.request("GET", "/security", headers={"Host": f"localhost:{nodes.port}", "Cookie": cookie})
        seen.append(connection.getresponse().status == 200)
        connection.close()
    return seen


def test_whoever_signs_in_meets_another_node_at_each_step(server: Nodes, ada: Person, open_forms: OpenForms) -> None:
    again = ada.at(open_forms(f"http://localhost:{server.port}"))
    again.sign_in()
    assert is_signed_in(server, again.visitor.cookies) == [True] * 3
    again.sign_out()


def test_who_signs_out_at_one_node_is_out_at_all_of_them_at_once(
    server: Nodes, ada: Person, open_forms: OpenForms
) -> None:
    again = ada.at(open_forms(f"http://localhost:{server.port}"))
    again.sign_in()
    kept = again.visitor.cookies
    assert is_signed_in(server, kept) == [True] * 3
    again.sign_out()
    assert is_signed_in(server, kept) == [False] * 3


def test_a_key_that_was_revoked_is_refused_by_all_nodes_within_a_second(server: Nodes, clock: Clock) -> None:
    key = server.create_key("verify", "admin")
    with ExitStack() as stack:
        clients = [stack.enter_context(server.client_at(n, key)) for n in range(3)]
        assert [client.call("GET", "/api/v1/accounts").status for client in clients] == [200] * 3
        revoked = server.command("apikey", "revoke", key.split("_")[1])
        assert revoked.returncode == 0, revoked.stderr
        ends_at = time.monotonic() + KNOWN_WITHIN_S
        while any(client.call("GET", "/api/v1/accounts").status != 401 for client in clients):
            assert time.monotonic() < ends_at


def test_a_call_that_is_repeated_at_another_node_is_answered_as_before(
    api: Client, clients: list[Client], clock: Clock
) -> None:
    phone = api.import_phone("repeating")
    path, body = "/api/v1/accounts/repeating/verify", {"code": phone.code(clock.now_s)}
    answers = [client.call("POST", path, body, {"Idempotency-Key": "once"}) for client in clients[:3]]
    assert answers[0].is_verified
    assert answers[1] == answers[2] == answers[0]
    # Without the key it is another attempt.
    assert clients[1].call("POST", path, body).body["reason"] == "code_already_used"


def test_a_call_that_is_sent_to_all_nodes_at_once_is_carried_out_by_one(
    api: Client, clients: list[Client], clock: Clock
) -> None:
    phone = api.import_phone("at-once")

    def send(client: Client, number: int, code: str) -> Answer:
        return client.call(
            "POST", "/api/v1/accounts/at-once/verify", {"code": code}, {"Idempotency-Key": f"at-once-{number}"}
        )

    with ThreadPoolExecutor(3) as pool:
        for number in range(20):
            clock.advance()
            code = phone.code(clock.now_s)
            sent = [pool.submit(send, client, number, code) for client in clients[:3]]
            answers = [each.result() for each in sent]
            assert all(answer == answers[0] for answer in answers), answers
            assert answers[0].is_verified


def test_twenty_copies_of_one_code_at_three_nodes_let_one_in(api: Client, clients: list[Client], clock: Clock) -> None:
    phone = api.import_phone("twenty-copies")
    with ThreadPoolExecutor(len(clients)) as pool:
        for _ in range(20):
            clock.advance()
            code = phone.code(clock.now_s)
            sent = [pool.submit(client.verify, "twenty-copies", code) for client in clients]
            answers = [each.result() for each in sent]
            assert sum(answer.is_verified for answer in answers) == 1
            assert {answer.status for answer in answers} <= {200, 429}
