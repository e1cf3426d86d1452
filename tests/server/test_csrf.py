"""Forms come from our own pages, in the same browser and session; whatever else asks for a change gets none."""

import pytest
from tests.server.conftest import URL, Server
from tests.server.levels import LEVELS, ROWS, Row, csrf_of, make_visitor, token_on
from tests.server.visitors import PASSWORD, Person, Visitor, add_person

REFUSED = "That form cannot be used any more"
#: Those of prompts are in `test_prompt_reach.py`.
POSTS = [row for row in ROWS if row.method == "POST" and "prompt" not in row.who]
#: What browsers say of a form that another site sends, or that is sent from a frame without an origin.
FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://localhost:8001"},
    {"origin": "https://localhost:8000"},
    {"origin": "http://localhost:8000.evil.example"},
    {"origin": "http://evil.example?http://localhost:8000"},
    {"origin": ""},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"origin": URL, "sec-fetch-site": "cross-site"},
    {"origin": "null", "sec-fetch-site": "same-origin"},
]

OTHER_TYPES = ("text/plain", "application/json", "multipart/form-data; boundary=x", "", "application/x-www-form")


def level_for(row: Row) -> str:
    """The least that reaches the page."""
    return next(level for level in LEVELS if row.is_reached_by(level))


async def refuses(visitor: Visitor, row: Row, token: str | None, **headers: str) -> bool:
    """Whether a POST with this token and these headers is told that it is no form of ours."""
    data = {} if token is None else {"csrf": token}
    answer = await visitor.http.post(row.example, data={**data, "x": ""}, headers=headers)
    is_refused = REFUSED in answer.text
    assert not is_refused or answer.status_code == 403
    return is_refused


@pytest.mark.parametrize("row", POSTS, ids=lambda row: row.path)
async def test_asvs_3_5_1_and_trap_50_every_post_needs_the_token_of_its_browser_and_session(
    server: Server, row: Row
) -> None:
    visitor = await make_visitor(server, level_for(row))
    own = await csrf_of(visitor)
    stranger = await csrf_of(Visitor(server))
    elsewhere = await csrf_of(await make_visitor(server, "full", "somebody-else"))
    for token in (None, "", "x", own[:-1], own + "A", own.swapcase(), stranger, elsewhere):
        assert await refuses(visitor, row, token)
    for headers in FOREIGN:
        assert await refuses(visitor, row, own, **headers), headers
    # Next to all of that, the same POST as a browser sends it is none of theirs.
    for headers in ({}, {"origin": URL}, {"origin": URL, "sec-fetch-site": "same-origin"}, {"sec-fetch-site": "none"}):
        assert not await refuses(visitor, row, await fresh(visitor, own), **headers), headers


async def fresh(visitor: Visitor, token: str) -> str:
    """The token still, unless the POST before ended the session."""
    return token if visitor.token else await csrf_of(visitor)


@pytest.mark.parametrize("level", LEVELS)
async def test_trap_50_nothing_but_a_form_is_read(server: Server, level: str) -> None:
    visitor = await make_visitor(server, level)
    body = f"csrf={await csrf_of(visitor)}&x="
    for row in POSTS:
        if level_for(row) == level:
            for kind in (
                "text/plain",
                "application/json",
                "multipart/form-data; boundary=x",
                "",
                "application/x-www-form",
            ):
                answer = await visitor.http.post(row.example, content=body, headers={"content-type": kind})
                assert answer.status_code == 415, (row, kind)
    kind = "application/x-www-form-urlencoded; charset=UTF-8"
    answer = await visitor.http.post("/sign-out", content=body, headers={"content-type": kind})
    assert answer.status_code == 303


async def test_asvs_3_5_1_a_token_of_the_step_before_does_not_fit_the_next_account(server: Server) -> None:
    """Same browser, same cookie, another person's session: his token is not hers."""
    await add_person(server, "bo")
    await add_person(server, "cy")
    bo = Person(server, "bo")
    await bo.sign_in()
    token = await csrf_of(bo)
    await bo.open("/sign-out")
    await bo.send(to="/sign-out")
    bo.name = "cy"
    await bo.sign_in()
    row = next(row for row in POSTS if row.path == "/security/sessions")
    assert await refuses(bo, row, token)
    assert not await refuses(bo, row, await csrf_of(bo))


async def test_a_token_from_before_signing_in_is_good_for_open_pages_alone(server: Server) -> None:
    await add_person(server)
    bo = Person(server)
    before = token_on(await bo.open("/sign-in"))
    await bo.sign_in()
    for row in POSTS:
        if "full" in row.who:
            assert await refuses(bo, row, before), row
    # The sign-in page of before, in another tab, still signs in.
    answer = await bo.http.post("/sign-in", data={"csrf": before, "name": "bo", "password": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in/code")


async def test_asvs_7_6_2_nobody_is_signed_in_by_somebody_elses_form(server: Server) -> None:
    """Sign-in forgery: the attacker's own name and password, sent by the victim's browser."""
    await add_person(server, "mallory")
    token = token_on(await Visitor(server).open("/sign-in"))
    victim = Visitor(server)
    await victim.open("/sign-in")
    fields = {"csrf": token, "name": "mallory", "password": PASSWORD}
    assert (await victim.http.post("/sign-in", data=fields)).status_code == 403
    assert not victim.token
    fields["csrf"] = token_on(victim.page)
    assert (await victim.http.post("/sign-in", data=fields)).status_code == 303


async def test_a_browser_without_cookies_is_told_what_to_do(server: Server) -> None:
    visitor = Visitor(server)
    page = await visitor.open("/sign-in")
    visitor.http.cookies.clear()
    told = await visitor.send(page, name="bo", password=PASSWORD)
    assert (told.status, told.heading) == (403, REFUSED)
    assert "cookies" in told.text
    assert "/sign-in" in told.links


async def test_the_token_is_not_the_value_of_the_cookie(server: Server) -> None:
    visitor = Visitor(server)
    page = await visitor.open("/sign-in")
    assert visitor.cookies["twofold-csrf"] not in page.html
    assert len(token_on(page)) == 43


@pytest.mark.parametrize("level", LEVELS)
async def test_asvs_3_5_3_a_get_with_the_same_fields_changes_nothing(server: Server, level: str) -> None:
    visitor = await make_visitor(server, level)
    before = visitor.token
    fields = {"csrf": await csrf_of(visitor), "name": "bo", "password": PASSWORD, "new_password": PASSWORD}
    for row in POSTS:
        if level_for(row) == level:
            answer = await visitor.http.get(row.example, params=fields)
            assert answer.status_code in (200, 303, 403, 404), row
            assert PASSWORD not in answer.text
    assert visitor.token == before
    # It is a session still, if it was one.
    assert not before or (await visitor.open("/sign-out")).heading == "Sign out?"
