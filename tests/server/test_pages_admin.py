"""The administration at a glance, and who reaches any of it at all."""

import re

import pytest
from tests.pages import Page
from tests.pseudo import PseudoWords, escaped
from tests.server.administrators import act_on, add_administrator, add_somebody
from tests.server.conftest import Server
from tests.server.visitors import ADMIN, PASSWORD, Person, Visitor

from twofold.core.attempt import Context
from twofold.engine import Caller
from twofold.server.pages import ADMINISTRATOR, PAGES
from twofold.server.pages.people_words import ACTS

PATHS = [page.path.format(id="bo", act="reset") for page in PAGES if page.reach == ADMINISTRATOR]
TAKING = [page.path.format(id="bo", act="reset") for page in PAGES if page.reach == ADMINISTRATOR and page.take]


@pytest.fixture
async def ada(server: Server) -> Person:
    return await add_administrator(server)


def numbers(page: Page) -> dict[str, str]:
    """The tiles of a page."""
    tiles = page.root.all("li", class_="tile")
    return {tile.only(class_="tile-label").text: tile.only(class_="tile-value").text for tile in tiles}


async def send_anything(visitor: Visitor, path: str, page: Page) -> Page:
    """A form with the csrf token of another page, which is good for this one too."""
    csrf = page.root.all("input", name="csrf")[0]["value"]
    return await visitor.post(path, [("csrf", csrf), ("name", "cy"), ("network", "192.0.2.1"), ("code", "123456")])


# Who reaches it.


def test_every_address_of_the_administration_is_for_administrators() -> None:
    assert [page.path for page in PAGES if page.path.startswith("/admin")] == [
        page.path for page in PAGES if page.reach == ADMINISTRATOR
    ]


async def test_an_administrator_reaches_every_page_of_it(ada: Person, server: Server) -> None:
    await add_somebody(server)
    for path in PATHS:
        assert (await ada.open(path)).status == 200, path


async def test_a_stranger_is_led_to_sign_in_and_changes_nothing(server: Server) -> None:
    stranger = Visitor(server)
    for path in PATHS:
        assert (await stranger.open(path)).path == "/sign-in", path
    for path in TAKING:
        assert (await send_anything(stranger, path, await stranger.open("/sign-in"))).status == 401, path


async def test_who_is_no_administrator_is_refused_by_get_and_by_post(server: Server) -> None:
    bo = await add_somebody(server)
    await bo.sign_in()
    for path in PATHS:
        assert (await bo.open(path)).status == 403, path
    own = await bo.open("/security")
    for path in TAKING:
        assert (await send_anything(bo, path, own)).status == 403, path
    assert (await server.deployment.administration.count()).total == 1
    assert await server.deployment.networks.list() == []


async def test_c1_an_administrator_without_a_second_factor_reaches_only_enrollment(server: Server) -> None:
    await server.deployment.administration.invite("ada", role="administrator", caller=ADMIN)
    await server.deployment.verifier.accounts.set_password("ada", PASSWORD)
    ada = Person(server, "ada")
    assert (await ada.give_password()).path == "/enroll"
    for path in PATHS:
        assert (await ada.open(path)).path == "/enroll", path
    page = await ada.open("/enroll")
    for path in TAKING:
        assert (await send_anything(ada, path, page)).status == 403, path


async def test_between_password_and_code_an_administrator_is_nobody_yet(server: Server) -> None:
    ada = await add_somebody(server, "ada")
    await server.deployment.administration.set_role("ada", "administrator", caller=ADMIN)
    page = await ada.give_password()
    for path in PATHS:
        assert (await ada.open(path)).path == "/sign-in/code", path
    for path in TAKING:
        assert (await send_anything(ada, path, page)).status == 403, path


async def test_a_demoted_administrator_is_out_at_the_next_request(ada: Person, server: Server) -> None:
    eve = await add_administrator(server, "eve")
    form = await eve.open("/admin/invite")
    assert form.status == 200
    await act_on(ada, "eve", "unmake-administrator")
    assert (await eve.send(form, name="mallory", code=eve.fresh_code())).status == 401
    assert not await eve.is_signed_in()
    await eve.sign_in()
    assert (await eve.open("/admin")).status == 403
    assert (await server.deployment.administration.count()).total == 2


# What it shows.


async def test_the_numbers_are_those_of_all_people(ada: Person, server: Server) -> None:
    await add_somebody(server, "bo")
    await server.deployment.administration.set_disabled("bo", is_disabled=True, caller=ADMIN)
    await server.deployment.administration.invite("cy", caller=ADMIN)
    await server.deployment.networks.add("192.0.2.0/24", caller=ADMIN)
    page = await ada.open("/admin")
    assert numbers(page) == {
        "People": "3",
        "With a second factor": "1",
        "Without one": "1",
        "Disabled": "1",
        "Administrators": "1",
        "Networks refused": "1",
    }
    assert [term.text for term in page.root.only(class_="bars").all("dt")] == [
        "Authenticator app",
        "Recovery codes",
        "Password",
    ]
    assert {"/admin/people/bo", "/admin/people/cy", "/admin/invite"} <= set(page.links)
    assert "Never came" in page.text or "Invited" in page.text


async def test_charts_come_before_forms_and_lists(ada: Person) -> None:
    order = re.findall(r'class="(tiles|bars|search|rows|empty)"', (await ada.open("/admin")).html)
    assert order[:3] == ["tiles", "bars", "search"]


async def test_where_nobody_needs_anything_it_says_so(ada: Person) -> None:
    page = await ada.open("/admin")
    assert "Everybody has a second factor" in page.text
    assert "Alarms" not in page.text


async def test_alarms_say_what_to_do_and_where_to_look(ada: Person, server: Server) -> None:
    deployment = server.deployment
    await add_somebody(server)
    await deployment.networks.strike("198.51.100.7")
    await deployment.sign_in_limits._record("networks", "bo")
    await deployment.sign_in_limits._record("accounts", None)
    await deployment.store._execute("UPDATE accounts SET mac = x'00' WHERE id = 'bo'")  # type: ignore[union-attr]
    await ada.open("/admin/people")
    page = await ada.open("/admin")
    alarms = page.root.only("section", id="alarms")
    assert [row.only(class_="row-title").only("a")["href"] for row in alarms.all("li", class_="row")] == [
        "/admin/people/bo",
        "/admin/people?show=unprotected",
        "/admin/people/bo",
        "/admin/networks",
    ]
    assert "The network 198.51.100.7/32 went over its limit" in alarms.text


async def test_what_an_administrator_refused_is_no_alarm(ada: Person, server: Server) -> None:
    caller = Caller(by="ada", context=Context(ip="203.0.113.9"))
    await server.deployment.networks.add("192.0.2.0/24", caller=caller)
    assert "Alarms" not in (await ada.open("/admin")).text


async def test_the_line_that_mends_a_proxy_is_shown_where_one_is_not_trusted(ada: Person, server: Server) -> None:
    assert "TRUSTED_PROXIES" not in (await ada.open("/admin")).text
    headers = {"x-forwarded-for": "198.51.100.7"}
    await server.get("/sign-in", headers=headers, peer=("172.18.0.2", 4000))
    for path in ("/admin", "/admin/networks"):
        page = await ada.open(path)
        assert "TWOFOLD_TRUSTED_PROXIES=172.18.0.2/32" in [code.text for code in page.root.all("code")], path


async def test_what_other_people_typed_is_shown_as_text(ada: Person, server: Server) -> None:
    await server.deployment.verifier.accounts.put("<b>x<&b>")
    page = await ada.open("/admin")
    assert "<b>" not in page.html
    assert "<b>x<&b>" in page.text


async def test_every_word_of_it_can_be_translated(ada: Person, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment = server.deployment
    await add_somebody(server, "bo")
    await deployment.administration.invite("cy", caller=ADMIN)
    await deployment.networks.strike("198.51.100.7")
    await deployment.networks.add("192.0.2.0/24", reason="Known", caller=Caller(by="ada"))
    await deployment.sign_in_limits._record("networks", "bo")
    await server.get("/sign-in", headers={"x-forwarded-for": "198.51.100.7"}, peer=("172.18.0.2", 4000))
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    monkeypatch.setattr(Page, "check", lambda _: None)  # its titles begin with a bracket, not with "Error:"
    paths = ["/admin", "/admin/people", "/admin/people?q=nobody", "/admin/invite", "/admin/networks"]
    paths += [f"/admin/people/{name}" for name in ("ada", "bo", "cy", "bo?done=unlock")]
    paths += [f"/admin/people/{name}/{act.name}" for act in ACTS for name in ("ada", "bo", "cy")]
    for path in paths:
        assert escaped((await ada.open(path)).html) == [], path
    for path in ("/admin/networks", "/admin/invite"):
        for fields in ({"network": "x"} if path == "/admin/networks" else {"name": "bo"}, {}):
            for code in ("", ada.wrong_code(), ada.fresh_code()):
                await ada.open(path)
                assert escaped((await ada.send(to=path, code=code, **fields)).html) == [], (path, fields, code)
    await ada.open("/admin/invite")
    assert escaped((await ada.send(name="dee", code=ada.fresh_code())).html) == []
