"""Refused networks on the pages: seen, lifted, refused."""

import pytest
from tests.pages import Page
from tests.server.administrators import add_administrator
from tests.server.conftest import Server
from tests.server.visitors import PASSWORD, Person, Visitor

from twofold.core.attempt import Context
from twofold.engine import Caller
from twofold.networks import BLOCK_S

STRANGER = "198.51.100.7"


@pytest.fixture
async def ada(server: Server) -> Person:
    return await add_administrator(server)


def rows_on(page: Page) -> list[list[str]]:
    """The cells of the list, without the last one, which holds the button."""
    return [
        [cell.only(class_="cell").text for cell in row.all("td")[:-1]]
        for row in page.root.only("table").only("tbody").all("tr")
    ]


def error_at(page: Page, name: str) -> str:
    box = page.root.only(id=f"field-{name}")
    return page.root.only(id=f"field-{name}-error").text if box["aria-invalid"] == "true" else ""


async def is_let_in(server: Server, address: str = STRANGER) -> bool:
    """Whether somebody whom nobody knows reaches the page where one signs in."""
    return (await Visitor(server, address=address).open("/sign-in")).status == 200


async def refuse(ada: Person, network: str, **fields: str) -> Page:
    await ada.open("/admin/networks")
    return await ada.send(to="/admin/networks", network=network, code=ada.fresh_code(), **fields)


async def test_refused_networks_are_listed_with_why_and_by_whom_the_newest_first(ada: Person, server: Server) -> None:
    assert "No network is refused" in (await ada.open("/admin/networks")).text
    networks = server.deployment.networks
    await networks.strike(STRANGER)
    server.clock.pass_s(1)
    caller = Caller(by="ada", context=Context(ip="203.0.113.9"))
    await networks.add("2001:db8::/32", reason="<b>Known", caller=caller)
    page = await ada.open("/admin/networks")
    assert rows_on(page) == [
        ["2001:db8::/32", "Until it is lifted", "<b>Known", "ada", "0"],
        [f"{STRANGER}/32", "in 15 minutes", "Over its limit", "The limits", "1"],
    ]
    assert "<b>" not in page.html
    server.clock.pass_s(BLOCK_S)
    assert len(rows_on(await ada.open("/admin/networks"))) == 1


async def test_a_network_is_refused_for_as_long_as_was_chosen(ada: Person, server: Server) -> None:
    assert await is_let_in(server)
    page = await refuse(ada, "198.51.100.0/24", hours="1", reason="guessing")
    assert (page.status, page.path) == (200, "/admin/networks")
    assert page.root.all(class_="notice-good")
    assert rows_on(page) == [["198.51.100.0/24", "in 1 hour", "guessing", "ada", "0"]]
    assert not await is_let_in(server)
    assert await is_let_in(server, "192.0.2.1")
    await refuse(ada, "192.0.2.1", hours="")
    server.clock.pass_s(3600)
    assert await is_let_in(server)
    assert not await is_let_in(server, "192.0.2.1")


async def test_lifting_lets_a_network_in_again_and_takes_no_code(ada: Person, server: Server) -> None:
    await server.deployment.networks.strike(STRANGER)
    assert not await is_let_in(server)
    page = await ada.open("/admin/networks")
    page = await ada.send(page, to="/admin/networks/lift")
    assert "Lifted" in page.root.only(class_="notice-good").text
    assert await is_let_in(server)


async def test_lifting_what_was_lifted_meanwhile_says_so(ada: Person, server: Server) -> None:
    await server.deployment.networks.strike(STRANGER)
    form = await ada.open("/admin/networks")
    for words in ("Lifted", "let in already"):
        assert words in (await ada.send(form, to="/admin/networks/lift")).text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("network", ""),
        ("network", "example.com"),
        ("network", "198.51.100.0/33"),
        ("network", "203.0.113.0/24"),  # the administrator's own
        ("network", "0.0.0.0/0"),
        ("network", "127.0.0.1"),
        ("network", "::1"),
        ("hours", "0"),
        ("hours", "8761"),
        ("hours", "-1"),
        ("hours", "1.5"),
        ("hours", "\u0661"),
        ("hours", "9" * 30),
        ("reason", "x" * 201),
        ("reason", "a\nb"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field_and_nothing_typed_is_lost(
    ada: Person, server: Server, name: str, value: str
) -> None:
    typed = {"network": "198.51.100.0/24", "hours": "168", "reason": "guessing", name: value}
    page = await ada.open("/admin/networks")
    form = page.form(press=None, to="/admin/networks", fields={})
    page = await ada.post(form.action, form.filled({**typed, "code": ada.fresh_code()}, form.buttons[0]))
    assert (page.status, page.title[:6]) == (422, "Error:")
    assert error_at(page, name)
    assert page.root.only("input", id="field-network")["value"] == typed["network"]
    assert page.root.only("input", id="field-reason")["value"] == typed["reason"]
    assert await server.deployment.networks.list() == []


@pytest.mark.parametrize(("network", "words"), [("203.0.113.0/24", "shut yourself out"), ("127.0.0.0/8", "itself")])
async def test_nobody_shuts_himself_or_the_server_out(ada: Person, server: Server, network: str, words: str) -> None:
    assert words in error_at(await refuse(ada, network), "network")
    assert (await ada.open("/security")).status == 200


async def test_refusing_takes_a_fresh_code_because_it_may_shut_people_out(ada: Person, server: Server) -> None:
    for code in ("", ada.wrong_code()):
        await ada.open("/admin/networks")
        page = await ada.send(to="/admin/networks", network="198.51.100.0/24", reason="guessing", code=code)
        assert page.status == 422
        assert page.root.only("input", id="field-network")["value"] == "198.51.100.0/24"
        assert await server.deployment.networks.list() == []
    await refuse(ada, "198.51.100.0/24")
    assert len(await server.deployment.networks.list()) == 1


async def test_whoever_is_signed_in_goes_on_from_a_refused_network(ada: Person, server: Server) -> None:
    eve = await add_administrator(server, "eve")
    eve_elsewhere = Person(server, "eve", secret=eve.secret, address=STRANGER)
    await eve_elsewhere.sign_in()
    await refuse(ada, "198.51.100.0/24")
    assert (await eve_elsewhere.open("/admin/networks")).status == 200
    assert (await Person(server, "eve", address=STRANGER).open("/sign-in")).status == 429
    assert PASSWORD not in eve_elsewhere.page.html


async def test_what_was_refused_and_lifted_is_recorded_with_who_did_it(ada: Person, server: Server) -> None:
    await refuse(ada, "198.51.100.0/24", reason="guessing")
    await ada.send(to="/admin/networks/lift")
    rows = await server.deployment.verifier.accounts.events("")
    told = [(row.kind, row.payload or b"") for row in rows if row.kind.startswith("network.")]
    assert [kind for kind, _ in told] == ["network.blocked", "network.lifted"]
    assert all(b'"by":"ada"' in payload for _, payload in told)
