"""A disk that takes no more: nobody is let in, nothing acknowledged is lost, and all goes on once there is space.

The kernel refuses the server every write beyond a size of its files, as it refuses writes to a full disk.
"""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.servers import Clock, Server, running

pytestmark = pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits of a running process need Linux")


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """While the block runs, the server cannot write a single byte to any file."""
    _, hard = resource.prlimit(server.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (hard, hard))


@pytest.mark.parametrize("ending", ["goes on", "is killed"])
def test_a_full_disk_lets_nobody_in_and_loses_nothing(tmp_path: Path, ending: str) -> None:
    clock = Clock(tmp_path / "clock")
    with running(tmp_path / "data", test_clock=str(clock.path)) as server:
        key = server.create_key("verify", "enroll", "admin")
        with server.client(key) as client:
            acknowledged = [client.import_phone(f"before-{number}") for number in range(20)]
            refused = [client.import_phone(f"meanwhile-{number}") for number in range(20)]
            for phone in acknowledged:
                assert client.verify(phone.account_id, phone.code(clock.now_s)).is_verified

            with full_disk(server):
                for phone in refused:
                    answer = client.verify(phone.account_id, phone.code(clock.now_s))
                    assert (answer.status, answer.body["code"]) == (503, "unavailable")
                    # Not even a refusal that could not be recorded.
                    assert client.verify(phone.account_id, "000000").status == 503
                for phone in acknowledged:
                    assert client.verify(phone.account_id, phone.code(clock.now_s)).status == 503
                assert client.call("PUT", "/api/v1/accounts/new", {}).status == 503
                # What only reads goes on.
                assert client.call("GET", "/api/v1/accounts/before-1").body["state"] == "active"
                assert client.call("GET", "/health/live").status == 200
                # Whoever watches the server learns that nobody gets in.
                unready = client.call("GET", "/health/ready")
                assert (unready.status, unready.body["code"]) == (503, "unavailable")

        if ending == "is killed":
            server.kill()
            server.start()
        with server.client(key) as client:
            assert client.call("GET", "/health/ready").status == 200
            for phone in acknowledged:
                assert client.verify(phone.account_id, phone.code(clock.now_s)).body["reason"] == "code_already_used"
            for phone in refused:
                assert client.verify(phone.account_id, phone.code(clock.now_s)).is_verified
            assert client.call("GET", "/api/v1/accounts/new").status == 404
        assert server.command("audit", "verify").returncode == 0
        assert server.stop() == 0
