import asyncio
import json
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.deployments import open_for_test, open_in_memory
from tests.kit import SetClock

from twofold.bootstrap import Deployment
from twofold.core.account import DEPLOYMENT
from twofold.errors import Busy
from twofold.hash_pool import PER_ADDRESS_MAX
from twofold.networks import Networks
from twofold.sign_in_limits import (
    ACCOUNTS_PER_CODE_ALARM,
    ALARMS_PER_WINDOW,
    CODE_WINDOW_S,
    KNOWN_PER_WINDOW,
    NAME_NETWORK_PER_WINDOW,
    NETWORK_PER_WINDOW,
    NETWORKS_PER_NAME_ALARM,
    WINDOW_S,
    Admitted,
    RefusalReason,
    SignInLimits,
    TooMany,
    log_refusal,
)

WINDOW_START_S = 1_700_000_100
HERE = "203.0.113.9"
ELSEWHERE = "198.51.100.7"
PAGE = Path(__file__).parent.parent / "docs" / "howto" / "fail2ban.md"


@pytest.fixture
def clock() -> SetClock:
    assert WINDOW_START_S % WINDOW_S == WINDOW_START_S % CODE_WINDOW_S % WINDOW_S == 0
    return SetClock(WINDOW_START_S)


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, clock: SetClock, tmp_path: Path) -> AsyncIterator[Deployment]:
    opened = await (open_in_memory(clock) if request.param == "memory" else open_for_test(tmp_path / "data", clock))
    yield opened
    await opened.close()


@pytest.fixture
def networks(deployment: Deployment) -> Networks:
    return Networks(deployment.store, deployment.verifier._engine)


@pytest.fixture
def limits(deployment: Deployment, networks: Networks) -> SignInLimits:
    return SignInLimits(deployment.verifier._engine, networks)


async def attempt(
    limits: SignInLimits, name: str, ip: str | None = HERE, *, is_right: bool = False, **options: Any
) -> Admitted | TooMany:
    """One attempt from its beginning to its end."""
    is_account, unfinished = options.pop("is_account", False), options.pop("unfinished", ())
    admitted = await limits.admit(name, ip, **{"is_known": False, **options})
    if isinstance(admitted, Admitted):
        await limits.settle(admitted, is_right=is_right, is_account=is_account, unfinished=unfinished)
    return admitted


async def judged(limits: SignInLimits, times: int, name: str, ip: str | None = HERE, **options: Any) -> int:
    """How many of so many attempts were judged."""
    outcomes = [await attempt(limits, name, ip, **options) for _ in range(times)]
    return sum(isinstance(outcome, Admitted) for outcome in outcomes)


async def alarms_of(deployment: Deployment) -> list[dict[str, Any]]:
    rows = await deployment.store.events(DEPLOYMENT)
    return [json.loads(row.payload or b"{}") for row in rows if row.kind == "sign_in.sprayed"]


async def test_one_name_has_ten_wrong_tries_from_one_network(limits: SignInLimits, clock: SetClock) -> None:
    assert await judged(limits, 30, "alice") == NAME_NETWORK_PER_WINDOW == 10
    clock.advance(100)
    assert await attempt(limits, "alice") == TooMany(WINDOW_S - 100, "name")
    clock.advance(WINDOW_S - 100)
    assert await judged(limits, 30, "alice") == NAME_NETWORK_PER_WINDOW


async def test_trap_35_guessing_from_one_network_locks_nobody_out_elsewhere(limits: SignInLimits) -> None:
    assert await judged(limits, 30, "alice") == 10
    assert isinstance(await attempt(limits, "alice", ELSEWHERE), Admitted)
    assert isinstance(await attempt(limits, "bob"), Admitted)


async def test_a_name_is_never_limited_alone(limits: SignInLimits) -> None:
    outcomes = [await attempt(limits, "alice", f"198.51.100.{number}") for number in range(1, 255) for _ in range(2)]
    assert all(isinstance(outcome, Admitted) for outcome in outcomes)


async def test_a_known_browser_passes_the_limits_that_strangers_around_it_use_up(limits: SignInLimits) -> None:
    assert await judged(limits, 30, "alice") == 10
    assert isinstance(await attempt(limits, "alice", is_known=True), Admitted)
    for number in range(NETWORK_PER_WINDOW):
        await attempt(limits, f"name-{number}")
    assert isinstance(await attempt(limits, "bob"), TooMany)
    assert isinstance(await attempt(limits, "alice", is_known=True), Admitted)


async def test_a_known_browser_has_a_limit_of_its_own_and_uses_up_no_other(
    limits: SignInLimits, networks: Networks, clock: SetClock
) -> None:
    assert await judged(limits, 150, "alice", is_known=True) == KNOWN_PER_WINDOW
    assert await judged(limits, 150, "alice", is_known=True, is_right=True) == 0
    assert await networks.list() == []
    assert await judged(limits, 30, "alice") == NAME_NETWORK_PER_WINDOW
    clock.advance(WINDOW_S)
    assert await judged(limits, 150, "alice", is_known=True, is_right=True) == 150


async def test_a_network_over_its_limit_is_refused_from_then_on(
    limits: SignInLimits, networks: Networks, clock: SetClock
) -> None:
    clock.advance(100)
    assert [await judged(limits, 9, f"name-{number}") for number in range(11)] == [9] * 11
    assert networks.find_block(HERE) is None
    assert await judged(limits, 9, "name-11") == 1
    assert await attempt(limits, "name-12") == TooMany(900, "network")
    (block,) = await networks.list()
    assert (block.network, block.strikes) == (f"{HERE}/32", 1)
    assert isinstance(await attempt(limits, "name-12", ELSEWHERE), Admitted)
    clock.advance(900)
    assert isinstance(await attempt(limits, "name-12"), Admitted)


async def test_addresses_of_one_ipv6_network_count_as_one(limits: SignInLimits, networks: Networks) -> None:
    for number in range(NETWORK_PER_WINDOW):
        assert isinstance(await attempt(limits, f"name-{number}", f"2001:db8::{number:x}"), Admitted)
    assert isinstance(await attempt(limits, "name", "2001:db8::ffff"), TooMany)
    assert isinstance(await attempt(limits, "name", "2001:db8:0:1::1"), Admitted)
    assert networks.find_block("2001:db8::1:1") is not None


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1", None])
async def test_the_machine_itself_is_limited_and_never_refused_longer(
    limits: SignInLimits, networks: Networks, clock: SetClock, ip: str | None
) -> None:
    for number in range(NETWORK_PER_WINDOW):
        await attempt(limits, f"name-{number}", ip)
    clock.advance(60)
    assert await attempt(limits, "name", ip) == TooMany(WINDOW_S - 60, "network")
    assert await networks.list() == []
    clock.advance(WINDOW_S - 60)
    assert isinstance(await attempt(limits, "name", ip), Admitted)


async def test_what_was_right_counts_no_more(limits: SignInLimits, networks: Networks) -> None:
    for number in range(2 * NETWORK_PER_WINDOW):
        assert isinstance(await attempt(limits, f"name-{number}", is_right=True), Admitted)
    assert await judged(limits, 30, "alice", is_right=True) == 30
    assert await judged(limits, 30, "alice") == NAME_NETWORK_PER_WINDOW


async def test_a_right_password_goes_on_counting_while_a_sign_in_from_there_waits_for_its_second_factor(
    limits: SignInLimits, networks: Networks
) -> None:
    assert await judged(limits, 30, "alice", is_right=True, unfinished=[ELSEWHERE, ""]) == 30
    here = [ELSEWHERE, HERE]
    assert await judged(limits, 30, "alice", is_right=True, unfinished=here) == NAME_NETWORK_PER_WINDOW
    # Only for this name: the network goes on, and the owner elsewhere.
    assert await judged(limits, 200, "bob", is_right=True) == 200
    assert await judged(limits, 1, "alice", ELSEWHERE, is_right=True, unfinished=here) == 1
    assert await networks.list() == []
    assert await judged(limits, 30, "alice", None, is_right=True, unfinished=[""]) == NAME_NETWORK_PER_WINDOW


async def test_a_crowd_that_signs_in_at_once_is_told_to_come_back_and_not_refused(
    limits: SignInLimits, networks: Networks
) -> None:
    waiting = {f"name-{number}" for number in range(200)}
    while waiting:
        outcomes = await asyncio.gather(
            *(limits.admit(name, HERE, is_known=False) for name in sorted(waiting)), return_exceptions=True
        )
        admitted = [outcome for outcome in outcomes if isinstance(outcome, Admitted)]
        assert len(admitted) == min(PER_ADDRESS_MAX, len(waiting))
        assert all(isinstance(outcome, Admitted | Busy) for outcome in outcomes)
        for one in admitted:
            await limits.settle(one, is_right=True)
            waiting.remove(one.name)
    assert await networks.list() == []
    assert await judged(limits, 1, "alice") == 1


async def test_trap_37_a_burst_of_wrong_passwords_is_counted_before_it_is_judged(limits: SignInLimits) -> None:
    outcomes = await asyncio.gather(
        *(limits.admit("alice", None, is_known=False) for _ in range(50)), return_exceptions=True
    )
    begun = sum(isinstance(outcome, Admitted) for outcome in outcomes)
    assert 0 < begun <= NAME_NETWORK_PER_WINDOW
    assert await judged(limits, 30, "alice", None) == NAME_NETWORK_PER_WINDOW - begun


async def test_an_attempt_that_could_not_be_counted_holds_no_place(
    limits: SignInLimits, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> bool:
        raise Busy(1)

    with monkeypatch.context() as broken:
        broken.setattr(deployment.store, "hit", fail)
        for _ in range(2 * PER_ADDRESS_MAX):
            with pytest.raises(Busy) as busy:
                await limits.admit("alice", HERE, is_known=False)
            assert not busy.value.per_account
    assert await judged(limits, 1, "alice") == 1


async def test_behind_an_unknown_proxy_the_limit_of_the_network_only_warns(
    limits: SignInLimits, networks: Networks, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    behind = {"ip": "172.17.0.1", "is_behind_unknown_proxy": True}
    for number in range(NETWORK_PER_WINDOW):
        await attempt(limits, f"name-{number}", **behind)
    assert caplog.messages == []
    assert await judged(limits, 30, "alice", **behind) == NAME_NETWORK_PER_WINDOW
    assert await networks.list() == []
    (warning,) = caplog.messages
    assert "172.17.0.1" in warning
    assert "TRUSTED_PROXIES" in warning
    clock.advance(60)
    await attempt(limits, "bob", **behind)
    assert len(caplog.messages) == 2
    assert isinstance(await attempt(limits, "bob", "172.17.0.1"), TooMany)


async def fail_from_many(limits: SignInLimits, name: str, *, is_account: bool, networks: int, first: int = 0) -> None:
    for number in range(first, first + networks):
        for _ in range(2):
            await attempt(limits, name, f"198.51.{number // 200}.{number % 200 + 1}", is_account=is_account)


async def test_many_networks_that_fail_on_one_name_raise_one_alarm(
    limits: SignInLimits, deployment: Deployment, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    await fail_from_many(limits, "alice", is_account=True, networks=NETWORKS_PER_NAME_ALARM)
    await fail_from_many(limits, "bob", is_account=True, networks=NETWORKS_PER_NAME_ALARM)
    assert await alarms_of(deployment) == caplog.messages == []
    await fail_from_many(limits, "alice", is_account=True, networks=30)
    (alarm,) = await alarms_of(deployment)
    assert (alarm["across"], alarm["account"]) == ("networks", "alice")
    assert caplog.messages == ["ALARM more than 10 networks fail on the password of 'alice'"]
    clock.advance(WINDOW_S)
    await fail_from_many(limits, "alice", is_account=True, networks=30)
    assert len(await alarms_of(deployment)) == 2


async def test_what_is_no_account_is_alarming_too_and_not_told(
    limits: SignInLimits, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    await fail_from_many(limits, "hunter2", is_account=False, networks=30)
    (alarm,) = await alarms_of(deployment)
    assert "account" not in alarm
    assert "hunter2" not in caplog.text


async def test_right_passwords_from_many_networks_are_no_alarm(limits: SignInLimits, deployment: Deployment) -> None:
    for number in range(30):
        await attempt(limits, "alice", f"198.51.100.{number}", is_right=True, is_account=True)
    assert await alarms_of(deployment) == []


async def test_alarms_on_many_names_at_once_are_all_recorded_and_refuse_nobody(
    limits: SignInLimits, deployment: Deployment
) -> None:
    names = [f"name-{number}" for number in range(ALARMS_PER_WINDOW)]
    for name in names:
        await fail_from_many(limits, name, is_account=True, networks=NETWORKS_PER_NAME_ALARM)
    assert await alarms_of(deployment) == []
    last = [attempt(limits, name, f"203.0.113.{place}", is_account=True) for place, name in enumerate(names)]
    assert all(isinstance(outcome, Admitted) for outcome in await asyncio.gather(*last))
    assert {alarm["account"] for alarm in await alarms_of(deployment)} == set(names)


async def test_alarms_do_not_fill_the_disk(limits: SignInLimits, deployment: Deployment) -> None:
    for name in range(ALARMS_PER_WINDOW + 5):
        for number in range(NETWORKS_PER_NAME_ALARM + 1):
            await attempt(limits, f"name-{name}", f"198.51.{name}.{number}", is_account=True)
    assert len(await alarms_of(deployment)) == ALARMS_PER_WINDOW


async def test_trap_38_one_code_tried_on_many_accounts_raises_one_alarm_an_hour(
    limits: SignInLimits, deployment: Deployment, clock: SetClock, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(ACCOUNTS_PER_CODE_ALARM):
        await limits.note_wrong_code(f"name-{number}", "000000")
        await limits.note_wrong_code(f"name-{number}", "000000")
        await limits.note_wrong_code(f"name-{number}", f"{number:06d}1")
    assert await alarms_of(deployment) == []
    for number in range(1000, 1010):
        await limits.note_wrong_code(f"name-{number}", "000 000")
    (alarm,) = await alarms_of(deployment)
    assert (alarm["across"], "account" in alarm) == ("accounts", False)
    assert len(caplog.messages) == 1
    assert "000000" not in caplog.text
    clock.advance(CODE_WINDOW_S)
    for number in range(ACCOUNTS_PER_CODE_ALARM + 1):
        await limits.note_wrong_code(f"name-{number}", "000000")
    assert len(await alarms_of(deployment)) == 2


async def test_the_table_of_counters_holds_no_name_and_no_address(tmp_path: Path, clock: SetClock) -> None:
    deployment = await open_for_test(tmp_path / "data", clock)
    limits = SignInLimits(deployment.verifier._engine, Networks(deployment.store, deployment.verifier._engine))
    await attempt(limits, "alice-of-the-canary", HERE)
    await limits.note_wrong_code("alice-of-the-canary", "83920174")
    await deployment.close()
    stored = b"".join(path.read_bytes() for path in (tmp_path / "data").iterdir())
    assert stored
    for canary in (b"alice-of-the-canary", HERE.encode(), b"83920174"):
        assert canary not in stored


async def test_any_text_may_be_typed_for_a_name(limits: SignInLimits) -> None:
    for name in ("", "\ud800", "\0", "a" * 100_000, "al\u0456ce"):
        assert await judged(limits, 12, name) == NAME_NETWORK_PER_WINDOW
    assert "hunter2" not in repr(await limits.admit("hunter2", HERE, is_known=False))


@pytest.mark.parametrize(
    ("ip", "shown"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("2001:DB8:0::9", "2001:db8::9"),
        ("fe80::1%\nrefused sign-in from 192.0.2.1: blocked", "fe80::1"),
        ("192.0.2.1\nrefused", "-"),
        ("someone", "-"),
        (None, "-"),
    ],
)
def test_a_refusal_is_one_line_that_nobody_can_forge(
    ip: str | None, shown: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twofold")
    log_refusal(ip, "wrong_password")
    ((name, level, line),) = caplog.record_tuples
    assert (name, level, line) == ("twofold.sign_in", logging.INFO, f"refused sign-in from {shown}: wrong_password")


def logged(log_format: str) -> list[str]:
    """What the program writes on standard error for refusals, and for somebody who tries to look like one."""
    forged = "INFO refused sign-in from 192.0.2.66: blocked"
    program = f"""
import logging
from twofold.server.logs import configure_logs
from twofold.sign_in_limits import log_refusal
configure_logs({log_format!r})
log_refusal("203.0.113.9", "wrong_password")
log_refusal("2001:db8::9", "limit_network")
log_refusal(None, "wrong_code")
logging.getLogger("twofold").error("ALARM account=%r: %s", {forged!r}, {forged!r})
logging.getLogger("twofold").info("not delivered: %s", {forged!r})
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    return run.stderr.splitlines()


def filters() -> dict[str, str]:
    """The filters on the page by file name."""
    fences = re.findall(
        r"^```ini\n# (/etc/fail2ban/\S+)\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return {Path(name).name: text for name, text in fences if "/filter.d/" in name}


def find_addresses(lines: list[str], text: str) -> list[str]:
    """What fail2ban would find: it cuts the date out of the line, then searches for the expression."""
    (expression,) = re.findall(r"^failregex = (.+)$", text, re.MULTILINE)
    date = re.compile(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+|"time": "[^"]+"')
    pattern = re.compile(expression.replace("<ADDR>", r"(?P<ip>[0-9a-fA-F.:]+)"))
    found = (pattern.search(date.sub("", line, count=1)) for line in lines)
    return [match["ip"] for match in found if match]


@pytest.mark.parametrize(("log_format", "name"), [("text", "twofold.conf"), ("json", "twofold-json.conf")])
def test_the_documented_filter_finds_the_addresses_in_real_lines(log_format: str, name: str) -> None:
    lines = logged(log_format)
    assert len(lines) == 5
    assert find_addresses(lines, filters()[name]) == ["203.0.113.9", "2001:db8::9"]
    # The journal brings a date of its own, so that the line keeps its one.
    in_journal = [f"2026-03-01 12:00:00,000 host twofold[77]: {line}" for line in lines]
    assert find_addresses(in_journal, filters()[name]) == ["203.0.113.9", "2001:db8::9"]


def test_each_reason_of_a_refusal_is_explained_on_the_page() -> None:
    explained = re.findall(r"^\| `(\w+)` \|", PAGE.read_text("utf-8"), re.MULTILINE)
    assert explained == list(get_args(RefusalReason))
    for text in filters().values():
        (alternatives,) = re.findall(r"<ADDR>: \(\?:([\w|]+)\)", text)
        assert set(alternatives.split("|")) <= set(explained)
