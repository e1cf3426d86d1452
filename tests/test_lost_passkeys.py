"""What a new PUBLIC_URL would end: counted before, on both stores, and only where the host is another one."""

import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import open_for_test, open_in_memory
from tests.passkey_owners import add_passkeys

from twofold.bootstrap import Deployment
from twofold.lost_passkeys import LostPasskeys, find_lost, settle
from twofold.setup_link import read_rp_id

OLD, NEW = "https://a.example", "https://b.example"


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    opened = await (open_in_memory() if request.param == "memory" else open_for_test(tmp_path / "data"))
    yield opened
    await opened.close()


async def lost_at(deployment: Deployment, public_url: str) -> LostPasskeys | None:
    return await find_lost(deployment.store, deployment.keyring, public_url)


async def settle_at(deployment: Deployment, public_url: str) -> None:
    await settle(deployment.store, deployment.keyring, public_url)


async def test_passkeys_of_the_host_before_are_counted_and_their_people(deployment: Deployment) -> None:
    await settle_at(deployment, OLD)
    await add_passkeys(deployment.store, "ada", "a.example", "a.example", "shop.example")
    await add_passkeys(deployment.store, "bo", "a.example")
    await add_passkeys(deployment.store, "cy", "shop.example")
    assert await lost_at(deployment, NEW) == LostPasskeys("a.example", passkeys=3, people=2)
    assert await lost_at(deployment, OLD) is None


async def test_more_people_than_one_page_are_all_counted(deployment: Deployment) -> None:
    await settle_at(deployment, OLD)
    for number in range(201):
        await add_passkeys(deployment.store, f"person-{number}", "a.example")
    assert await lost_at(deployment, NEW) == LostPasskeys("a.example", passkeys=201, people=201)


@pytest.mark.parametrize("state", ["pending", "disabled"])
async def test_only_active_ones_count(deployment: Deployment, state: str) -> None:
    await settle_at(deployment, OLD)
    await add_passkeys(deployment.store, "ada", "a.example", state=state)
    assert await lost_at(deployment, NEW) is None
    await add_passkeys(deployment.store, "bo", "a.example")
    assert await lost_at(deployment, NEW) == LostPasskeys("a.example", passkeys=1, people=1)


@pytest.mark.parametrize(
    ("public_url", "is_lost"),
    [
        ("https://a.example:8443", False),
        ("https://login.a.example", True),
        ("https://example", True),
        # There are none at all at these.
        ("http://192.168.1.5:8000", True),
        ("https://192.168.1.5", True),
    ],
)
async def test_what_counts_is_the_host_and_not_the_port(
    deployment: Deployment, public_url: str, *, is_lost: bool
) -> None:
    await settle_at(deployment, OLD)
    await add_passkeys(deployment.store, "ada", "a.example")
    assert (await lost_at(deployment, public_url) is not None) == is_lost


async def test_what_was_agreed_to_is_not_asked_again_and_going_back_is_free(deployment: Deployment) -> None:
    await settle_at(deployment, OLD)
    await add_passkeys(deployment.store, "ada", "a.example")
    for url in (NEW, "https://192.168.1.5"):
        await settle_at(deployment, url)
        assert await lost_at(deployment, url) is None
        assert await lost_at(deployment, OLD) is None
    await settle_at(deployment, OLD)
    assert await lost_at(deployment, NEW) is not None


async def test_before_the_first_start_nothing_is_lost(deployment: Deployment) -> None:
    await add_passkeys(deployment.store, "ada", "a.example")
    assert await lost_at(deployment, NEW) is None


async def test_a_host_that_somebody_else_wrote_counts_as_none(deployment: Deployment) -> None:
    await settle_at(deployment, OLD)
    kept = await deployment.store.get_setting("rp_id")
    assert kept is not None
    assert await read_rp_id(deployment.store, deployment.keyring) == "a.example"
    await deployment.store.put_setting("rp_id", kept.replace("a.example", "b.example"))
    assert await read_rp_id(deployment.store, deployment.keyring) is None


async def test_whoever_was_changed_from_outside_is_not_counted(tmp_path: Path) -> None:
    deployment = await open_for_test(tmp_path / "data")
    await settle_at(deployment, OLD)
    for name in ("ada", "bo"):
        await add_passkeys(deployment.store, name, "a.example")
    with sqlite3.connect(tmp_path / "data" / "twofold.db") as connection:
        connection.execute("UPDATE accounts SET mac = zeroblob(40) WHERE id = 'ada'")
    connection.close()
    assert await lost_at(deployment, NEW) == LostPasskeys("a.example", passkeys=1, people=1)
    await deployment.close()


@pytest.mark.parametrize(
    ("passkeys", "people", "line"),
    [
        (1, 1, "1 passkey of 1 person was made for a.example"),
        (2, 1, "2 passkeys of 1 person were made for a.example"),
        (12, 9, "12 passkeys of 9 people were made for a.example"),
    ],
)
def test_it_is_told_in_a_line(passkeys: int, people: int, line: str) -> None:
    assert LostPasskeys("a.example", passkeys, people).describe() == line


async def test_an_address_that_stays_is_not_written_again(deployment: Deployment, monkeypatch: Any) -> None:
    await settle_at(deployment, OLD)
    monkeypatch.setattr(deployment.store, "put_setting", None)
    await settle_at(deployment, "https://a.example:8443")
    assert await read_rp_id(deployment.store, deployment.keyring) == "a.example"
