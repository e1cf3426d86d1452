import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.deployments import open_for_test, open_in_memory

from twofold.bootstrap import Deployment
from twofold.errors import InvalidInput


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Deployment]:
    opened = await (open_in_memory() if request.param == "memory" else open_for_test(tmp_path / "data"))
    yield opened
    await opened.close()


async def test_a_key_is_shown_once_and_names_its_application(deployment: Deployment) -> None:
    application, key = await deployment.applications.create(
        "shop", origins=["https://shop.example.com"], rp_id="example.com", rate_per_s=5, networks=["10.0.0.0/8"]
    )
    assert re.fullmatch(rf"tf_{application.id}_[A-Za-z0-9_-]{{43}}", key)
    assert application.scopes == ("verify", "enroll")
    assert await deployment.applications.authenticate(key) == application
    assert await deployment.applications.list() == [application]
    assert key.split("_", 2)[2] not in repr(application)


async def test_two_applications_have_different_keys(deployment: Deployment) -> None:
    made = [await deployment.applications.create("shop") for _ in range(20)]
    assert len({key for _, key in made}) == len({application.id for application, _ in made}) == 20


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: "",
        lambda key: key[:-1],
        lambda key: key + "A",
        lambda key: key + "\n",
        lambda key: key.upper(),
        lambda key: key[:-1] + ("A" if key[-1] != "A" else "B"),
        lambda key: key.replace("tf_", "tf-"),
        lambda key: "tf_aaaaaaaa_" + key[12:],
        lambda key: "\ud800" + key,
        lambda key: "x" * 100_000,
    ],
)
async def test_a_wrong_key_is_nobodys(deployment: Deployment, spoil: Any) -> None:
    application, key = await deployment.applications.create("shop")
    assert await deployment.applications.authenticate(spoil(key)) is None
    assert await deployment.applications.authenticate(key) == application


async def test_the_key_of_one_application_does_not_open_another(deployment: Deployment) -> None:
    (one, one_key), (two, two_key) = [await deployment.applications.create(name) for name in ("one", "two")]
    mixed = one_key.replace(one.id, two.id)
    assert await deployment.applications.authenticate(mixed) is None
    assert await deployment.applications.authenticate(two_key) == two


async def test_a_revoked_key_is_refused_at_once(deployment: Deployment) -> None:
    application, key = await deployment.applications.create("shop")
    assert await deployment.applications.revoke(application.id)
    assert await deployment.applications.authenticate(key) is None
    assert not await deployment.applications.revoke(application.id)
    assert not await deployment.applications.revoke("aaaaaaaa")
    assert await deployment.applications.list() == []


async def test_what_happens_to_keys_is_recorded(deployment: Deployment) -> None:
    application, key = await deployment.applications.create("shop")
    await deployment.applications.revoke(application.id)
    events = await deployment.verifier.accounts.events("")
    assert [event.kind for event in events] == ["application.added", "application.revoked"]
    assert not any(key.split("_", 2)[2].encode() in (event.payload or b"") for event in events)


@pytest.mark.parametrize(
    "change",
    [
        {"scopes": ("verify", "enroll", "admin")},
        {"name": "other"},
        {"rate_per_s": None},
        {"networks": ()},
        {"origins": ("https://evil.example.com",)},
        {"rp_id": "evil.example.com"},
        {"created_at": 0},
        {"mac": b""},
    ],
    ids=str,
)
async def test_trap_74_a_row_that_was_widened_in_the_database_opens_nothing(change: dict[str, Any]) -> None:
    deployment = await open_in_memory()
    application, key = await deployment.applications.create("shop", rate_per_s=5, networks=["10.0.0.0/8"])
    deployment.store._applications[application.id] = msgspec.structs.replace(application, **change)  # type: ignore[union-attr]
    assert await deployment.applications.authenticate(key) is None
    deployment.store._applications[application.id] = application  # type: ignore[union-attr]
    assert await deployment.applications.authenticate(key) == application
    await deployment.close()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 65}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": []}, "scope"),
        ({"scopes": ["verify", "root"]}, "scope"),
        ({"origins": ["shop.example.com"]}, "origin"),
        ({"origins": ["https://shop.example.com/"]}, "origin"),
        ({"origins": ["https://shop.example.com/path"]}, "origin"),
        ({"origins": ["ftp://shop.example.com"]}, "origin"),
        ({"origins": ["https://"]}, "origin"),
        ({"origins": ["http://["]}, "origin"),
        ({"rate_per_s": 0}, "rate"),
        ({"rate_per_s": 1_000_001}, "rate"),
        ({"networks": ["10.0.0.1/8"]}, "cidr"),
        ({"networks": ["everything"]}, "cidr"),
    ],
    ids=str,
)
async def test_what_cannot_be_meant_is_named_and_nothing_is_made(options: dict[str, Any], field: str) -> None:
    deployment = await open_in_memory()
    with pytest.raises(InvalidInput) as invalid:
        await deployment.applications.create(**{"name": "shop", **options})
    assert invalid.value.field == field
    assert await deployment.applications.list() == []
    await deployment.close()


async def test_networks_of_both_kinds_and_scopes_in_any_order_are_taken(deployment: Deployment) -> None:
    application, _ = await deployment.applications.create(
        "shop", scopes=["admin", "verify", "verify"], networks=["192.0.2.1", "2001:db8::/32"]
    )
    assert application.scopes == ("verify", "admin")
    assert application.networks == ("192.0.2.1/32", "2001:db8::/32")
