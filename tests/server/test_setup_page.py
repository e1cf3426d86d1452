"""The one-time set-up link: good for a day, voided by a newer one, and known to nobody but its reader."""

from tests.server.conftest import URL, Server

from twofold.clocks import SystemEntropy
from twofold.setup_link import new_link


async def make_link(server: Server) -> str:
    deployment = server.deployment
    link = await new_link(deployment.store, deployment.keyring, deployment.clock, SystemEntropy(), URL)
    assert link.startswith(f"{URL}/setup?token=")
    return link.removeprefix(URL)


async def test_a_link_opens_the_page_more_than_once(server: Server) -> None:
    link = await make_link(server)
    for _ in range(2):
        page = await server.get(link)
        assert page.status_code == 200
        assert "twofold account add" in page.text


async def test_without_a_link_there_is_no_page(server: Server) -> None:
    assert (await server.get("/setup?token=")).status_code == 403
    link = await make_link(server)
    for path in ("/setup", "/setup?token=", f"{link}A", link[:-1], "/setup?token=%00", "/setup?token=%FF"):
        page = await server.get(path)
        assert page.status_code == 403
        assert "twofold setup-link" in page.text
    assert (await server.get(link)).status_code == 200


async def test_a_newer_link_voids_the_one_before(server: Server) -> None:
    old, new = await make_link(server), await make_link(server)
    assert old != new
    assert (await server.get(old)).status_code == 403
    assert (await server.get(new)).status_code == 200


async def test_a_link_is_good_for_a_day(server: Server) -> None:
    link = await make_link(server)
    server.clock.pass_s(86_399)
    assert (await server.get(link)).status_code == 200
    server.clock.pass_s(1)
    assert (await server.get(link)).status_code == 403


async def test_what_is_stored_is_no_link_and_cannot_be_made_to_last(server: Server) -> None:
    link = await make_link(server)
    stored = await server.deployment.store.get_setting("setup_link")
    assert stored is not None
    assert link.partition("=")[2] not in stored
    expiry, _, digest = stored.partition(":")
    for edited in (f"{int(expiry) + 10**12}:{digest}", "", ":", f"x:{digest}", expiry, f"\u0661:{digest}"):
        await server.deployment.store.put_setting("setup_link", edited)
        assert (await server.get(link)).status_code == 403
    await server.deployment.store.put_setting("setup_link", stored)
    assert (await server.get(link)).status_code == 200
