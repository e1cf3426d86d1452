"""`twofold doctor`: every finding beside the same deployment when it is sound. Time servers are sockets of the test."""

import asyncio
import json
import os
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.certificates import make_certificate
from tests.cli.conftest import Invoke
from tests.deployments import open_for_test

from twofold import doctor
from twofold.config import Settings
from twofold.doctor import time_server as asking
from twofold.setup_link import put_public_url

Serve = Callable[..., str]


@pytest.fixture
def time_server() -> Iterator[Serve]:
    """Start a time server on loopback whose clock is `ahead_s` ahead of ours; returns HOST:PORT."""
    sockets: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(*, ahead_s: float = 0.0, stratum: int = 2, leap: int = 0, echo: bool = True, silent: bool = False) -> str:
        server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        server.bind(("127.0.0.1", 0))
        sockets.append(server)

        def answer_once() -> None:
            request, client = server.recvfrom(512)
            if not request:
                return
            now = time.time() + ahead_s + 2_208_988_800
            stamp = struct.pack(">II", int(now) % (1 << 32), int(now % 1 * (1 << 32)))
            origin = request[40:48] if echo else bytes(8)
            if not silent:
                server.sendto(bytes((leap << 6 | 4 << 3 | 4, stratum)) + bytes(22) + origin + stamp + stamp, client)

        threads.append(threading.Thread(target=answer_once))
        threads[-1].start()
        return f"127.0.0.1:{server.getsockname()[1]}"

    yield serve
    for server, thread in zip(sockets, threads, strict=True):
        server.sendto(b"", server.getsockname())
        thread.join()
        server.close()


@pytest.fixture
def examined(invoke: Invoke, time_server: Serve) -> Callable[..., dict[str, dict[str, str]]]:
    """The findings by check, the last of each; the exit status must fit them."""

    def examine(*, ntp: str | None = None) -> dict[str, dict[str, str]]:
        result = invoke("doctor", "--json", "--ntp", ntp or time_server())
        findings = json.loads(result.stdout)
        assert result.exit_code == any(found["state"] == "problem" for found in findings)
        assert all((found["mend"] is None) == (found["state"] in ("ok", "unknown")) for found in findings)
        return {found["check"]: found for found in findings}

    return examine


def test_sound_deployment_has_only_good_findings(invoke: Invoke, time_server: Serve) -> None:
    invoke("account", "add", "me")
    examined = invoke("doctor", "--ntp", time_server())
    assert examined.exit_code == 0
    lines = examined.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["ok"] * len(lines)
    for sentence in ("opens all 5 keys", "journal_mode=wal, synchronous=FULL, quick_check ok", "MiB are free"):
        assert sentence in examined.stdout


def test_nothing_is_made_where_nothing_is_yet(
    examined: Callable[..., dict[str, dict[str, str]]], data_dir: Path
) -> None:
    assert {found["state"] for found in examined().values()} == {"ok"}
    assert not data_dir.exists()


@pytest.mark.parametrize(("ahead_s", "where"), [(90.5, "behind"), (-3600, "ahead of")])
def test_clock_that_is_off_is_measured_and_the_mend_named(
    examined: Callable[..., dict[str, dict[str, str]]], time_server: Serve, ahead_s: float, where: str
) -> None:
    clock = examined(ntp=time_server(ahead_s=ahead_s))["clock"]
    assert (clock["state"], clock["mend"]) == ("warning", "timedatectl set-ntp true")
    measured = re.match(rf"([\d.]+) s {where} 127\.0\.0\.1:", clock["finding"])
    assert measured is not None
    assert float(measured[1]) == pytest.approx(abs(ahead_s), abs=0.5)
    assert examined(ntp=time_server(ahead_s=0.3))["clock"]["state"] == "ok"


@pytest.mark.parametrize("answer", [{"stratum": 0}, {"stratum": 16}, {"leap": 3}, {"echo": False}])
def test_answer_that_proves_nothing_leaves_the_clock_unchecked(
    examined: Callable[..., dict[str, dict[str, str]]], time_server: Serve, answer: dict[str, int]
) -> None:
    clock = examined(ntp=time_server(ahead_s=90, **answer))["clock"]
    assert (clock["state"], clock["finding"][:11]) == ("unknown", "not checked")


def test_no_time_server_is_no_error(
    examined: Callable[..., dict[str, dict[str, str]]], time_server: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "NTP_TIMEOUT_S", 0.05)
    for address in (time_server(silent=True), "127.0.0.1:1", "127.0.0.1:many", "127.0.0.1:99999"):
        clock = examined(ntp=address)["clock"]
        assert (clock["state"], clock["finding"][:11]) == ("unknown", "not checked")


def test_timestamps_after_2036_are_read_in_the_next_round() -> None:
    assert asking.read_timestamp(struct.pack(">II", (1 << 32) - 1, 0)) == 2_085_978_495
    assert asking.read_timestamp(struct.pack(">II", 0, 1 << 31)) == 2_085_978_496.5


def test_clock_of_tests_is_never_overlooked(
    examined: Callable[..., dict[str, dict[str, str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "clock").write_text("1772366400")
    monkeypatch.setenv("TWOFOLD_TEST_CLOCK", str(tmp_path / "clock"))
    assert examined()["clock"]["mend"] == "unset TWOFOLD_TEST_CLOCK"


@pytest.mark.parametrize(
    ("url", "state"),
    [("https://login.example.com", "ok"), ("http://localhost:8000", "ok"), ("http://192.168.1.5:8000", "warning")],
)
def test_public_url_over_a_network_wants_tls(
    examined: Callable[..., dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch, url: str, state: str
) -> None:
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", url)
    assert examined()["public url"]["state"] == state


@pytest.mark.parametrize(
    ("url", "state", "finding"),
    [
        (None, "ok", "are for localhost"),
        ("https://login.example.com:8443", "ok", "are for login.example.com"),
        ("http://127.0.0.1:8000", "warning", "browsers make none for an address such as 127.0.0.1"),
        ("http://192.168.1.5:8000", "warning", "browsers make none for an address such as 192.168.1.5"),
        ("https://github.io", "problem", "anybody can have a name under github.io"),
    ],
)
def test_whose_passkeys_are_made_is_said_and_why_there_are_none(
    examined: Callable[..., dict[str, dict[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    state: str,
    finding: str,
) -> None:
    if url is not None:
        monkeypatch.setenv("TWOFOLD_PUBLIC_URL", url)
    found = examined()["passkeys"]
    assert found["state"] == state
    assert finding in found["finding"]


@pytest.mark.parametrize("setting", ["FIDO_METADATA", "ATTESTATION_ROOTS"])
def test_a_bad_file_about_makers_is_named_and_stops_no_command(
    examined: Callable[..., dict[str, dict[str, str]]],
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    setting: str,
) -> None:
    assert examined()["attestation"]["state"] == "ok"
    (tmp_path / "nonsense").write_text("nonsense")
    monkeypatch.setenv(f"TWOFOLD_{setting}", str(tmp_path / "nonsense"))
    found = examined()["attestation"]
    assert (found["state"], setting in found["finding"]) == ("problem", True)
    assert invoke("account", "add", "alice").exit_code == 0
    assert invoke("account", "reset", "alice").exit_code == 0


def test_certificate_is_checked_against_its_key_its_host_and_the_day(
    examined: Callable[..., dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def find(**made: float) -> tuple[str, str]:
        make_certificate(tmp_path, "login.example.com", **made)
        found = examined()["certificate"]
        return found["state"], found["finding"]

    assert examined()["certificate"]["state"] == "ok"
    files = make_certificate(tmp_path, "login.example.com")
    monkeypatch.setenv("TWOFOLD_TLS_CERT", str(files.cert))
    monkeypatch.setenv("TWOFOLD_TLS_KEY", str(files.key))
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "https://login.example.com")
    assert find(days=90.5) == ("ok", f"{files.cert}: for login.example.com, good for 90 days")
    assert find(days=13.5) == ("warning", f"{files.cert}: for login.example.com, good for 13 days")
    state, finding = find(days=-1.5)
    assert state == "problem"
    assert re.fullmatch(rf"{files.cert} ran out on \d{{4}}-\d\d-\d\d", finding)
    make_certificate(tmp_path)
    assert "for no name, good for" in examined()["certificate"]["finding"]
    make_certificate(tmp_path, "login.example.com")
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "https://sign-in.example.com")
    assert examined()["certificate"]["mend"] == "get a certificate for sign-in.example.com"
    files.key.write_bytes(files.cert.read_bytes())
    assert examined()["certificate"]["finding"] == f"TLS_KEY {files.key}: holds no private key (PEM)"


def test_key_of_the_certificate_that_everybody_can_read_is_a_problem(
    examined: Callable[..., dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = make_certificate(tmp_path, "localhost")
    monkeypatch.setenv("TWOFOLD_TLS_CERT", str(files.cert))
    monkeypatch.setenv("TWOFOLD_TLS_KEY", str(files.key))
    # A group for those who need certificates is usual.
    files.key.chmod(0o640)
    assert examined()["certificate"]["state"] == "ok"
    files.key.chmod(0o644)
    found = examined()["certificate"]
    assert (found["state"], found["mend"]) == ("problem", f"chmod o= {files.key}")


def test_web_server_in_front_that_is_not_named_is_noticed(
    examined: Callable[..., dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert examined()["proxies"]["state"] == "ok"
    monkeypatch.setenv("TWOFOLD_PUBLIC_URL", "https://login.example.com")
    found = examined()["proxies"]
    assert found["state"] == "warning"
    assert found["mend"].startswith("set TWOFOLD_TRUSTED_PROXIES=127.0.0.1")
    for proxies, finding in (("127.0.0.1", "believed from 127.0.0.1/32"), ("none", "none is named")):
        monkeypatch.setenv("TWOFOLD_TRUSTED_PROXIES", proxies)
        found = examined()["proxies"]
        assert found["state"] == "ok"
        assert finding in found["finding"]


def test_open_modes_are_named_with_the_line_that_closes_them(
    invoke: Invoke, examined: Callable[..., dict[str, dict[str, str]]], data_dir: Path
) -> None:
    invoke("account", "add", "me")
    (data_dir / "twofold.key").chmod(0o640)
    assert examined()["modes"] == {
        "check": "modes",
        "state": "problem",
        "finding": "others can read or write twofold.key",
        "mend": f"chmod 600 {data_dir / 'twofold.key'}",
    }
    (data_dir / "twofold.key").chmod(0o600)
    data_dir.chmod(0o755)
    assert examined()["modes"]["mend"] == f"chmod 700 {data_dir}"
    data_dir.chmod(0o700)
    assert examined()["modes"]["state"] == "ok"


def test_key_that_is_missing_or_of_another_database_is_a_problem(
    invoke: Invoke, examined: Callable[..., dict[str, dict[str, str]]], data_dir: Path, tmp_path: Path
) -> None:
    invoke("account", "add", "me")
    right = (data_dir / "twofold.key").read_bytes()
    assert examined()["master key"]["state"] == "ok"
    (data_dir / "twofold.key").unlink()
    assert "is missing" in examined()["master key"]["finding"]
    assert not (data_dir / "twofold.key").exists()
    invoke("account", "add", "me", "--data-dir", str(tmp_path / "other"))
    (data_dir / "twofold.key").write_bytes((tmp_path / "other" / "twofold.key").read_bytes())
    assert examined()["master key"]["mend"] == f"put the right {data_dir / 'twofold.key'} back from a backup"
    (data_dir / "twofold.key").write_bytes(right)
    assert examined()["master key"]["state"] == "ok"


def test_database_that_this_user_may_not_write_is_a_problem(
    invoke: Invoke,
    examined: Callable[..., dict[str, dict[str, str]]],
    data_dir: Path,
    time_server: Serve,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    invoke("account", "add", "me")
    database = data_dir / "twofold.db"
    assert examined()["database"]["state"] == "ok"
    monkeypatch.setattr("os.access", lambda path, _: path != database)
    told = invoke("doctor", "--ntp", time_server())
    assert told.exit_code == 1
    assert f"problem  database    this user may not write {database}" in told.stdout
    assert f"mend: chown {os.geteuid()} {database}" in told.stdout


def test_damaged_database_is_a_problem(
    invoke: Invoke, examined: Callable[..., dict[str, dict[str, str]]], data_dir: Path
) -> None:
    invoke("account", "add", "me")
    assert examined()["database"]["state"] == "ok"
    (data_dir / "twofold.db").write_bytes(b"no database" * 1000)
    found = examined()
    assert (found["database"]["state"], found["senders"]["state"]) == ("problem", "unknown")
    # Nobody is sent to exchange a good key for it.
    assert found["master key"]["state"] == "unknown"


def test_full_disk_is_a_problem_before_it_is_full(
    invoke: Invoke, examined: Callable[..., dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    invoke("account", "add", "me")
    assert examined()["disk"]["state"] == "ok"
    for free, state in ((900 << 20, "warning"), (50 << 20, "problem")):
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: type("Usage", (), {"free": free}))
        assert examined()["disk"]["state"] == state


def test_the_address_that_was_chosen_at_set_up_is_looked_at_unless_another_one_is_set(tmp_path: Path) -> None:
    async def choose() -> None:
        deployment = await open_for_test(tmp_path)
        await put_public_url(deployment.store, deployment.keyring, "https://login.example.com")
        await deployment.close()

    asyncio.run(choose())

    def find(settings: Settings) -> dict[str, str]:
        return {found.check: found.finding for found in doctor.examine(settings, ntp_server="127.0.0.1:9")}

    stored = find(Settings(data_dir=tmp_path))
    assert stored["public url"] == "https://login.example.com"
    assert "share its address" in stored["proxies"]
    assert find(Settings(data_dir=tmp_path, public_url="http://localhost"))["public url"] == "http://localhost"
