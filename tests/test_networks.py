import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import open_for_test, open_in_memory
from tests.kit import SetClock

from twofold.bootstrap import Deployment
from twofold.core.account import DEPLOYMENT
from twofold.core.attempt import Context
from twofold.core.clock import MICROS_PER_S
from twofold.engine import Caller
from twofold.errors import InvalidInput
from twofold.networks import BLOCK_S, BLOCK_S_MAX, HOURS_MAX, READ_EVERY_MS, REASON_MAX, STRIKES_KEPT_S, Networks

ATTACKER = "203.0.113.9"


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, clock: SetClock, tmp_path: Path) -> AsyncIterator[Deployment]:
    opened = await (open_in_memory(clock) if request.param == "memory" else open_for_test(tmp_path / "data", clock))
    yield opened
    await opened.close()


def networks_of(deployment: Deployment) -> Networks:
    """As one process sees them: two of these share the database."""
    return Networks(deployment.store, deployment.verifier._engine)


@pytest.fixture
def networks(deployment: Deployment) -> Networks:
    return networks_of(deployment)


async def events_of(deployment: Deployment) -> list[tuple[str, dict[str, Any]]]:
    """Kind and payload of what was recorded about the deployment."""
    rows = await deployment.store.events(DEPLOYMENT)
    return [(row.kind, json.loads(row.payload or b"{}")) for row in rows]


async def refused_for_s(networks: Networks, clock: SetClock, ip: str = ATTACKER) -> int:
    """Let the address go over its limit, and wait for the end of the block: how long was that?"""
    block = await networks.strike(ip)
    assert block is not None
    seconds = (block.until - clock.now()) // MICROS_PER_S
    clock.advance(seconds - 1)
    assert networks.find_block(ip) == block
    clock.advance(1)
    assert networks.find_block(ip) is None
    return seconds


async def test_a_network_over_its_limit_is_refused_and_its_neighbors_are_not(networks: Networks) -> None:
    assert networks.find_block(ATTACKER) is None
    await networks.strike(ATTACKER)
    assert networks.find_block(ATTACKER) is not None
    assert networks.find_block(f"::ffff:{ATTACKER}") is not None
    assert networks.find_block("203.0.113.10") is None
    assert networks.find_block("2001:db8::9") is None


async def test_behind_an_unknown_proxy_an_administrators_refusal_stays_and_the_limits_own_is_passed(
    networks: Networks,
) -> None:
    await networks.strike(ATTACKER)
    assert networks.find_block(ATTACKER) is not None
    assert networks.find_block(ATTACKER, is_behind_unknown_proxy=True) is None
    wide = await networks.add("203.0.113.0/24")
    assert networks.find_block(ATTACKER, is_behind_unknown_proxy=True) == wide
    own = await networks.add(ATTACKER)
    assert networks.find_block(ATTACKER, is_behind_unknown_proxy=True) == own
    assert networks.find_block("198.51.100.7", is_behind_unknown_proxy=True) is None


async def test_an_ipv6_network_is_refused_as_a_whole(networks: Networks) -> None:
    await networks.strike("2001:db8:0:7::1")
    assert networks.find_block("2001:db8:0:7:ffff::2") is not None
    assert networks.find_block("2001:db8:0:8::1") is None


async def test_a_block_grows_from_a_quarter_of_an_hour_to_a_day(networks: Networks, clock: SetClock) -> None:
    lengths = [await refused_for_s(networks, clock) for _ in range(9)]
    assert lengths == [900, 1800, 3600, 7200, 14400, 28800, 57600, 86400, 86400]
    assert (lengths[0], lengths[-1]) == (BLOCK_S, BLOCK_S_MAX)


async def test_strikes_are_forgotten_a_week_after_the_last_block(
    deployment: Deployment, networks: Networks, clock: SetClock
) -> None:
    assert [await refused_for_s(networks, clock) for _ in range(2)] == [900, 1800]
    clock.advance(STRIKES_KEPT_S - 1)
    assert await refused_for_s(networks, clock) == 3600
    clock.advance(STRIKES_KEPT_S)
    await networks.refresh()
    assert await deployment.store.list_blocks() == []
    assert await refused_for_s(networks, clock) == BLOCK_S


async def test_a_burst_is_one_strike_and_one_event(deployment: Deployment, networks: Networks) -> None:
    await asyncio.gather(*(networks.strike(ATTACKER) for _ in range(50)))
    (block,) = await networks.list()
    assert (block.network, block.strikes, block.by) == ("203.0.113.9/32", 1, "")
    ((kind, payload),) = await events_of(deployment)
    assert kind == "network.blocked"
    assert payload["network"] == block.network
    assert payload["until"] == "2023-11-14T22:28:30Z"
    assert payload["ip"] == ATTACKER


@pytest.mark.parametrize("ip", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1", None, "", "a socket"])
async def test_the_machine_itself_is_never_refused_by_a_limit(networks: Networks, ip: str | None) -> None:
    assert await networks.strike(ip) is None
    await networks.strike(ATTACKER)
    assert networks.find_block(ip) is None


async def test_an_administrator_refuses_a_network_until_it_is_lifted(
    deployment: Deployment, networks: Networks, clock: SetClock
) -> None:
    block = await networks.add("198.51.100.0/24", reason="a botnet", caller=Caller(by="ada"))
    clock.advance(10 * 365 * 86_400)
    await networks.refresh()
    assert networks.find_block("198.51.100.77") == block
    assert networks.find_block("198.51.101.77") is None
    assert await networks.list() == [block]
    assert await networks.lift("198.51.100.0/24", caller=Caller(by="bob"))
    assert networks.find_block("198.51.100.77") is None
    assert await networks.list() == []
    assert not await networks.lift("198.51.100.0/24")
    (_, blocked), (kind, lifted) = await events_of(deployment)
    assert (blocked["by"], blocked["reason"], "until" in blocked) == ("ada", "a botnet", False)
    assert (kind, lifted["network"], lifted["by"]) == ("network.lifted", "198.51.100.0/24", "bob")


async def test_an_administrator_refuses_a_network_for_some_hours(networks: Networks, clock: SetClock) -> None:
    await networks.add("198.51.100.0/24", hours=2)
    clock.advance(2 * 3600 - 1)
    assert networks.find_block("198.51.100.1") is not None
    clock.advance(1)
    assert networks.find_block("198.51.100.1") is None
    assert await networks.list() == []


async def test_a_lifted_network_begins_anew(networks: Networks, clock: SetClock) -> None:
    assert [await refused_for_s(networks, clock) for _ in range(2)] == [900, 1800]
    await networks.strike(ATTACKER)
    assert await networks.lift("203.0.113.9/32")
    assert await refused_for_s(networks, clock) == BLOCK_S


async def test_an_administrator_does_not_make_strikes_forgotten(networks: Networks, clock: SetClock) -> None:
    assert [await refused_for_s(networks, clock) for _ in range(2)] == [900, 1800]
    await networks.add(ATTACKER, hours=1)
    clock.advance(3600)
    assert await refused_for_s(networks, clock) == 3600


@pytest.mark.parametrize(
    ("written", "network", "ip"),
    [
        ("198.51.100.7", "198.51.100.7/32", "198.51.100.7"),
        (" 198.51.100.7/24 ", "198.51.100.0/24", "198.51.100.99"),
        ("::ffff:198.51.100.7", "198.51.100.7/32", "198.51.100.7"),
        ("::ffff:198.51.100.0/120", "198.51.100.0/24", "::ffff:198.51.100.99"),
        ("2001:DB8:0:0::/48", "2001:db8::/48", "2001:db8:0:99::1"),
        ("2001:db8::7", "2001:db8::7/128", "2001:db8:0::7%eth0"),
    ],
)
async def test_a_network_may_be_written_in_several_ways(
    networks: Networks, written: str, network: str, ip: str
) -> None:
    assert (await networks.add(written)).network == network
    assert networks.find_block(ip) is not None
    assert networks.find_block("2001:db9::7") is networks.find_block("198.51.101.7") is None


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        *(
            ("network", {"network": network})
            for network in (
                *("", "home", "198.51.100.0/33", "198.51.100", "1.2.3.4 5.6.7.8", "2001:db8::/129"),
                *("127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "64.0.0.0/2", "::1", "::/0", "::/64", "::ffff:127.0.0.1"),
                *("192.0.2.1", "192.0.2.0/24", "::ffff:192.0.2.0/120"),
            )
        ),
        ("hours", {"hours": 0}),
        ("hours", {"hours": HOURS_MAX + 1}),
        ("reason", {"reason": "x" * (REASON_MAX + 1)}),
        ("reason", {"reason": "two\nlines"}),
    ],
)
async def test_what_cannot_be_refused_is_named(
    deployment: Deployment, networks: Networks, field: str, arguments: dict[str, Any]
) -> None:
    caller = Caller(context=Context(ip="192.0.2.1"))
    with pytest.raises(InvalidInput) as invalid:
        await networks.add(**{"network": "198.51.100.0/24", **arguments}, caller=caller)
    assert invalid.value.field == field
    assert await events_of(deployment) == []
    fair = {"hours": HOURS_MAX, "reason": "x" * REASON_MAX}
    assert await networks.add("192.0.3.0/24", **fair, caller=caller) in await networks.list()


async def test_a_process_sees_what_another_one_changed_within_seconds(
    deployment: Deployment, networks: Networks, clock: SetClock
) -> None:
    other = networks_of(deployment)
    await networks.refresh_if_old()
    await other.add("198.51.100.0/24")
    await networks.refresh_if_old()
    assert networks.find_block("198.51.100.1") is None
    clock.advance(READ_EVERY_MS / 1000)
    await networks.refresh_if_old()
    assert networks.find_block("198.51.100.1") is not None
    await other.lift("198.51.100.0/24")
    clock.advance(-3600)
    await networks.refresh_if_old()
    assert networks.find_block("198.51.100.1") is None


async def test_processes_count_the_strikes_of_each_other(
    deployment: Deployment, networks: Networks, clock: SetClock
) -> None:
    other = networks_of(deployment)
    assert await refused_for_s(networks, clock) == 900
    assert await refused_for_s(other, clock) == 1800
    assert await refused_for_s(networks, clock) == 3600


async def test_rows_are_read_once_however_many_requests_come(
    deployment: Deployment, networks: Networks, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = 0
    list_blocks = deployment.store.list_blocks

    async def counted() -> Any:
        nonlocal reads
        reads += 1
        return await list_blocks()

    monkeypatch.setattr(deployment.store, "list_blocks", counted)
    await asyncio.gather(*(networks.refresh_if_old() for _ in range(100)))
    assert reads == 1
