"""What holds for every address and every page there is, whoever looks at it."""

import re
from pathlib import Path

import pytest
from tests.server.conftest import Server
from tests.server.levels import LEVELS, ROWS, make_visitor
from tests.server.visitors import Person, add_person

SERVER = Path(__file__).parents[2] / "src" / "twofold" / "server"
SCRIPTS = [*(SERVER / "static").glob("*.js"), *(SERVER / "templates").rglob("*.html")]
#: Reading what is kept for years is all that may be kept.
IS_STATIC = "/static/"


@pytest.mark.parametrize("level", LEVELS)
async def test_trap_56_and_asvs_3_4_6_no_address_can_be_framed_for_anybody(server: Server, level: str) -> None:
    visitor = await make_visitor(server, level)
    for row in ROWS:
        answer = await visitor.http.request(row.method, row.example)
        policy = answer.headers["content-security-policy"].split("; ")
        assert "frame-ancestors 'none'" in policy, row
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("level", LEVELS)
async def test_asvs_14_3_2_nothing_but_the_static_files_is_kept_by_any_cache(server: Server, level: str) -> None:
    visitor = await make_visitor(server, level)
    for row in ROWS:
        answer = await visitor.http.request(row.method, row.example)
        assert answer.headers["cache-control"] == "no-store" or row.path.startswith(IS_STATIC), row


async def test_asvs_3_5_8_another_site_can_load_no_picture_of_a_key(server: Server) -> None:
    enrolling = await make_visitor(server, "enrolling")
    page = await enrolling.send(await enrolling.open("/enroll"), press="factor=totp")
    drawn = page.root.all("svg", role="img")
    assert drawn, "the QR code is part of the page"
    assert not any(image["src"] for image in page.root.all("img"))
    for row in ROWS:
        answer = await enrolling.http.request(row.method, row.example, headers={"sec-fetch-site": "cross-site"})
        assert answer.headers["cross-origin-resource-policy"] == "same-origin", row
        is_picture = answer.headers.get("content-type", "").startswith("image/")
        assert not is_picture or row.path.startswith(IS_STATIC)


def test_asvs_6_2_7_nothing_of_ours_listens_to_pasting() -> None:
    assert SCRIPTS
    for path in SCRIPTS:
        found = re.findall(r"onpaste|oncopy|[\"'](?:paste|beforeinput)[\"']", path.read_text(encoding="utf-8"))
        assert found == [], path


def test_asvs_6_4_2_no_form_asks_for_a_hint_or_a_secret_answer() -> None:
    words = {
        word for path in (SERVER / "templates").rglob("*.html") for word in re.findall(r"\w+", path.read_text("utf-8"))
    }
    assert "password" in words
    assert {
        word for word in words if re.search("(?i)maiden|secret_?answer|security_?question|password_?hint", word)
    } == set()


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/code"])
async def test_nist_2_4_5_help_is_a_link_on_each_page_that_asks_who_one_is(server: Server, path: str) -> None:
    await add_person(server)
    bo = Person(server)
    await bo.give_password()
    page = await bo.open(path)
    assert "/sign-in/help" in {link.partition("?")[0] for link in page.links}
    assert (await bo.open("/sign-in/help")).status == 200
