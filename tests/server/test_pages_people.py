"""Other people on the pages: found, invited, looked at and acted on; each refusal next to what succeeds."""

import asyncio
import logging
import re
import unicodedata
from urllib.parse import quote

import httpx
import pytest
from tests.pages import Page
from tests.server.administrators import act_on, add_administrator, add_somebody, secret_of
from tests.server.conftest import URL, Server
from tests.server.visitors import ADMIN, PASSWORD, Person, Visitor

from twofold.administration import PAGE_PEOPLE
from twofold.core.account import Account
from twofold.core.administration import INVITATION_TTL_S
from twofold.core.decision import Verified
from twofold.core.idempotency import KEPT_S
from twofold.directory import AccountView, ProfileInput
from twofold.server.pages.people_words import ACTS
from twofold.sign_in import Guest

NOTHING = "\N{EN DASH}"
LINK = re.compile(rf"{re.escape(URL)}/link\?token=([\w.-]+)")


@pytest.fixture
async def ada(server: Server) -> Person:
    return await add_administrator(server)


@pytest.fixture
async def bo(server: Server) -> Person:
    return await add_somebody(server)


async def view_of(server: Server, name: str) -> AccountView:
    return await server.deployment.verifier.accounts.get(name)


async def events_of(server: Server, name: str) -> list[str]:
    return [row.kind for row in await server.deployment.verifier.accounts.events(name)]


def token_on(page: Page) -> str:
    """The token of the one-time link that the page shows."""
    found = LINK.search(page.root.only("code", id="link").text)
    assert found is not None, page.text
    return found[1]


def names_on(page: Page) -> list[str]:
    """Who is in the list, in order."""
    rows = page.root.only("table").only("tbody").all("tr")
    return [row.all("td")[0].only("a").text for row in rows]


def error_at(page: Page, name: str) -> str:
    """What is written under a field of the page."""
    box = next(box for box in page.root.all("input", "select") if box["name"] == name)
    if box["aria-invalid"] != "true":
        return ""
    return page.root.only(id=box["aria-describedby"].split()[0]).text


# The list.


async def test_people_are_listed_with_how_they_stand(ada: Person, server: Server, bo: Person) -> None:
    await server.deployment.administration.invite("cy", caller=ADMIN)
    await server.deployment.verifier.accounts.put("bo", ProfileInput(display_name="Bo Example"))
    page = await ada.open("/admin/people")
    rows = [
        [cell.only(class_="cell").text for cell in row.all("td")]
        for row in page.root.only("table").only("tbody").all("tr")
    ]
    assert rows == [
        ["ada", "Administrator", "Protected", "App", "10", "just now"],
        ["bo Bo Example", NOTHING, "Protected", "App", "10", "never"],
        ["cy", NOTHING, "Invited", NOTHING, "0", "never"],
    ]


@pytest.mark.parametrize(
    ("show", "names", "count"),
    [
        ("", ["ada", "bo", "cy", "dee"], "4"),
        ("protected", ["ada", "bo"], "2"),
        ("unprotected", ["cy"], "1"),
        ("disabled", ["dee"], "1"),
        ("administrators", ["ada"], "1"),
    ],
)
async def test_a_filter_leaves_its_people_and_says_how_many(
    ada: Person, server: Server, show: str, names: list[str], count: str
) -> None:
    await add_somebody(server)
    for name in ("cy", "dee"):
        await server.deployment.administration.invite(name, caller=ADMIN)
    await server.deployment.administration.set_disabled("dee", is_disabled=True, caller=ADMIN)
    page = await ada.open(f"/admin/people?show={show}")
    assert names_on(page) == names
    (current,) = page.root.only(class_="chips").all("a", **{"aria-current": "true"})
    assert current.only(class_="chip-count").text == count


async def test_a_search_finds_parts_of_names_however_their_letters_are_composed(ada: Person, server: Server) -> None:
    for name in ("jürgen@example.com", "bo@example.com"):
        await server.deployment.administration.invite(name, caller=ADMIN)
    decomposed = unicodedata.normalize("NFD", "ÜRG")
    page = await ada.open(f"/admin/people?q={quote(decomposed)}")
    assert names_on(page) == ["jürgen@example.com"]
    assert page.root.only("input", id="field-q")["value"] == "ÜRG"
    assert names_on(await ada.open("/admin/people?q=EXAMPLE.com")) == ["bo@example.com", "jürgen@example.com"]


async def test_a_search_keeps_its_filter_and_a_filter_its_search(ada: Person, bo: Person) -> None:
    page = await ada.open("/admin/people?q=b&show=protected")
    assert names_on(page) == ["bo"]
    assert page.root.only("input", type="hidden", name="show")["value"] == "protected"
    assert "/admin/people?q=b&show=disabled" in page.links
    assert page.root.only(class_="chips").all(class_="chip-count") == [], "the numbers are not those of the search"


@pytest.mark.parametrize("query", ["q=nobody", "show=disabled", "after=zzz", "q=[*?", "q=%ff", "show=x&q=zz"])
async def test_where_nobody_is_found_it_says_so(ada: Person, query: str) -> None:
    page = await ada.open(f"/admin/people?{query}")
    assert page.status == 200
    assert "Nobody" in page.text
    assert page.root.all("table") == []


async def test_a_long_list_is_shown_a_page_at_a_time(ada: Person, server: Server) -> None:
    for number in range(PAGE_PEOPLE + 1):
        await server.deployment.administration.invite(f"person{number:03}", caller=ADMIN)
    first = await ada.open("/admin/people?q=person")
    assert len(names_on(first)) == PAGE_PEOPLE
    (following,) = [link for link in first.links if "after=" in link]
    last = await ada.open(following)
    assert names_on(last) == [f"person{PAGE_PEOPLE:03}"]
    assert "/admin/people?q=person" in last.links
    assert not [link for link in last.links if "after=" in link and "#" not in link]


async def test_names_are_shown_as_text_and_linked_whole(ada: Person, server: Server) -> None:
    name = "<i>a?b#c%64&é\u202e"[:-1]
    await server.deployment.verifier.accounts.put(name)
    page = await ada.open("/admin/people")
    assert "<i>" not in page.html
    assert name in names_on(page)
    link = next(a["href"] for a in page.root.only("table").all("a") if a.text == name)
    assert (await ada.open(link)).heading == name


async def test_what_is_searched_for_is_shown_as_text(ada: Person) -> None:
    words = '"><i>x'
    page = await ada.open(f"/admin/people?q={quote(words)}")
    assert "<i>" not in page.html
    assert words in page.text
    assert page.root.only("input", id="field-q")["value"] == words


async def test_no_page_reads_more_accounts_than_it_shows(
    ada: Person, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2 * PAGE_PEOPLE):
        await server.deployment.administration.invite(f"person{number:03}", caller=ADMIN)
    loaded: list[str] = []
    load = server.deployment.store.load

    async def load_and_note(account_id: str) -> Account | None:
        loaded.append(account_id)
        return await load(account_id)

    monkeypatch.setattr(server.deployment.store, "load", load_and_note)
    for path, most in (("/admin", 12), ("/admin/people", PAGE_PEOPLE + 2), ("/admin/people/person000", 4)):
        loaded.clear()
        await ada.open(path)
        assert 0 < len(loaded) <= most, path


# Inviting.


async def test_an_invited_person_gets_in_by_the_link_that_is_shown_once(ada: Person, server: Server) -> None:
    await ada.open("/admin/invite")
    page = await ada.send(name="Bo@Example.com", code=ada.fresh_code())
    assert (page.status, page.path) == (200, "/admin/invite")
    token = token_on(page)
    view = await view_of(server, "bo@example.com")
    assert (view.role, view.invited_until) == ("", server.deployment.clock.now() + INVITATION_TTL_S * 1_000_000)
    begun = await server.deployment.sign_in.use_link(token, PASSWORD, Guest())
    assert begun.session
    shown = [await ada.open(path) for path in ("/admin", "/admin/people/bo@example.com", "/admin/invite")]
    assert not [page for page in shown if token in page.html]


async def test_an_administrator_is_invited_by_a_tick(ada: Person, server: Server) -> None:
    await ada.open("/admin/invite")
    await ada.send(name="eve", administrator=True, code=ada.fresh_code())
    assert (await view_of(server, "eve")).role == "administrator"


@pytest.mark.parametrize(("name", "code"), [("bo", ""), ("", "fresh"), ("a/b", "fresh"), ("ADA", "fresh")])
async def test_what_is_wrong_with_an_invitation_is_said_at_its_field_and_nothing_typed_is_lost(
    ada: Person, server: Server, name: str, code: str
) -> None:
    fresh = ada.fresh_code()
    await ada.open("/admin/invite")
    page = await ada.send(name=name, administrator=True, code=fresh if code else "")
    assert (page.status, page.title[:6]) == (422, "Error:")
    assert error_at(page, "name" if code else "code")
    assert page.root.only("input", id="field-name")["value"] == name
    assert "checked" in page.root.only("input", id="field-administrator").attributes
    assert page.root.only("input", id="field-code")["value"] == ""
    assert (await server.deployment.administration.count()).total == 1
    # The code was not looked at, so it is as good for the name that is typed next.
    assert token_on(await ada.send(name="bo", code=fresh))


async def test_a_name_that_is_taken_leads_to_whoever_has_it(ada: Person, bo: Person) -> None:
    await ada.open("/admin/invite")
    page = await ada.send(name="Bo", code=ada.fresh_code())
    assert "already" in error_at(page, "name")
    assert "/admin/people/bo" in page.links


async def test_a_wrong_code_invites_nobody_and_stays_on_the_page(
    ada: Person, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    await ada.open("/admin/invite")
    with caplog.at_level(logging.INFO, "twofold.sign_in"):
        page = await ada.send(name="bo", code=ada.wrong_code())
    assert (page.status, page.root.only("input", id="field-name")["value"]) == (422, "bo")
    assert page.alert
    assert "wrong_code" in caplog.text
    assert (await server.deployment.administration.count()).total == 1
    assert token_on(await ada.send(name="bo", code=ada.fresh_code()))


async def test_after_several_wrong_codes_it_says_how_long_to_wait(ada: Person) -> None:
    await ada.open("/admin/invite")
    for _ in range(4):
        page = await ada.send(name="bo", code=ada.wrong_code())
    assert page.status == 429
    assert int(page.headers["retry-after"]) >= 1


async def test_the_same_form_sent_again_shows_the_same_link_and_invites_nobody_else(
    ada: Person, server: Server
) -> None:
    form = await ada.open("/admin/invite")
    code = ada.fresh_code()
    token = token_on(await ada.send(form, name="bo", code=code))
    token_of_session = ada.token
    assert token_on(await ada.send(form, name="bo", code=code)) == token, "reload, or a second press"
    assert ada.token == token_of_session
    assert await events_of(server, "bo") == ["account.added", "link.made"]
    server.clock.pass_s(KEPT_S)
    assert "already" in error_at(await ada.send(form, name="bo", code=code), "name")


async def test_a_double_press_ends_in_one_person_and_one_link(ada: Person, server: Server) -> None:
    page = await ada.open("/admin/invite")
    form = page.form(press=None, to="/admin/invite", fields={})
    pairs = form.filled({"name": "bo", "code": ada.fresh_code()}, form.buttons[0])
    again = Person(server, "ada")
    again.http.cookies = httpx.Cookies(ada.http.cookies)
    answers = await asyncio.gather(ada.post(form.action, pairs), again.post(form.action, pairs))
    assert token_on(answers[0]) == token_on(answers[1])
    assert ada.token == again.token
    assert await events_of(server, "bo") == ["account.added", "link.made"]


async def test_a_form_of_another_tab_still_works_after_the_session_got_its_next_token(
    ada: Person, server: Server
) -> None:
    first, second = await ada.open("/admin/invite"), await ada.open("/admin/invite")
    before = ada.token
    assert token_on(await ada.send(first, name="bo", code=ada.fresh_code()))
    assert ada.token != before
    assert token_on(await ada.send(second, name="cy", code=ada.fresh_code()))


async def test_a_recovery_code_proves_an_administrator_too(server: Server, ada: Person) -> None:
    codes = (await server.deployment.verifier.renew_recovery_codes("ada", caller=ADMIN)).recovery_codes
    await ada.open("/admin/invite?letters=1")
    assert token_on(await ada.send(name="bo", code=codes[0]))
    assert (await view_of(server, "ada")).recovery_codes_left == 9


# One person.


async def test_a_person_is_shown_with_all_but_what_is_secret(ada: Person, server: Server, bo: Person) -> None:
    codes = (await server.deployment.verifier.renew_recovery_codes("bo", caller=ADMIN)).recovery_codes
    label = "<u>Bo's phone"
    (authenticator,) = (await view_of(server, "bo")).second_factors
    await server.deployment.verifier.rename("bo", authenticator.id, label, caller=ADMIN)
    page = await ada.open("/admin/people/bo")
    assert page.heading == "bo"
    assert label in page.text
    assert "<u>" not in page.html
    for words in ("10 left", "Authenticator app", "added on", "never used", "10 recovery codes were made"):
        assert words in page.text, words
    secrets = [secret_of("bo"), *codes, *(bo.code(steps) for steps in range(-3, 4))]
    assert not [secret for secret in secrets if secret in page.html.replace(" ", "")]
    assert {link.rpartition("/")[2] for link in page.links if link.startswith("/admin/people/bo/")} == {
        "unlock",
        "reset",
        "make-administrator",
        "sign-out",
        "disable",
    }


async def test_who_is_not_here_and_what_cannot_be_done_is_not_found(ada: Person, bo: Person) -> None:
    for path in ("/admin/people/nobody", "/admin/people/nobody/reset", "/admin/people/bo/delete", "/admin/people/Bo"):
        assert (await ada.open(path)).status == 404, path
    form = (await ada.open("/admin/people/bo/reset")).form(press=None, to=None, fields={"reason": ""})
    pairs = form.filled({"reason": "lost phone", "code": ada.fresh_code()}, form.buttons[0])
    for path in ("/admin/people/nobody/reset", "/admin/people/bo/delete"):
        assert (await ada.post(path, pairs)).status == 404, path
    assert (await ada.open("/admin/people/bo")).status == 200


STATES = {
    "an invitation is open": ("Invited", "invite"),
    "never came": ("Never came", "invite"),
    "only a password": ("No second factor", ""),
    "disabled": ("Disabled", "enable"),
    "guessed at": ("Somebody is guessing", "unlock"),
    "has to wait": ("Has to wait", "unlock"),
    "no recovery codes": ("No recovery codes", ""),
    "switched off": ("Switched off", "unlock"),
}


async def bring_about(server: Server, state: str) -> None:
    """Bring somebody named bo into this state."""
    deployment = server.deployment
    if state in ("an invitation is open", "never came"):
        await deployment.administration.invite("bo", caller=ADMIN)
        server.clock.pass_s(0 if state == "an invitation is open" else INVITATION_TTL_S)
        return
    if state == "only a password":
        await deployment.verifier.accounts.put("bo")
        await deployment.verifier.accounts.set_password("bo", PASSWORD)
        return
    bo = await add_somebody(server)
    if state == "disabled":
        await deployment.administration.set_disabled("bo", is_disabled=True, caller=ADMIN)
    if state == "no recovery codes":
        codes = next(a.id for a in (await view_of(server, "bo")).authenticators if a.factor == "recovery_codes")
        await deployment.verifier.revoke("bo", codes, caller=ADMIN)
    failures, pause_s = {"guessed at": (10, 120), "switched off": (100, 2 * 86_400)}.get(state, (0, 0))
    for _ in range(failures):
        server.clock.pass_s(pause_s)
        await deployment.verifier.verify("bo", code=bo.wrong_code())


@pytest.mark.parametrize("state", STATES)
async def test_each_state_has_its_words_and_what_mends_it(server: Server, state: str) -> None:
    await bring_about(server, state)
    ada = await add_administrator(server)
    if state == "has to wait":
        bo = Person(server, "bo", secret=secret_of("bo"))
        for _ in range(4):
            await server.deployment.verifier.verify("bo", code=bo.wrong_code())
    page = await ada.open("/admin/people/bo")
    word, act = STATES[state]
    notice = page.root.all(class_="notice")[0]
    assert notice.only(class_="notice-title").text == word
    assert [link["href"] for link in notice.all("a")] == ([f"/admin/people/bo/{act}"] if act else [])
    if act:
        path = f"/admin/people/bo/{act}"
        assert (await ada.open(path)).status == 200


async def test_a_record_that_was_changed_from_outside_can_be_looked_at_and_not_acted_on(
    ada: Person, server: Server, bo: Person
) -> None:
    await server.deployment.store._execute("UPDATE accounts SET mac = x'00' WHERE id = 'bo'")  # type: ignore[union-attr]
    page = await ada.open("/admin/people/bo")
    assert page.status == 200
    assert "Cannot be read" in page.text
    assert not [link for link in page.links if link.startswith("/admin/people/bo/")]
    assert names_on(await ada.open("/admin/people")) == ["ada", "bo"]
    for act in ACTS:
        assert (await ada.open(f"/admin/people/bo/{act.name}")).status == 409


# Acts.


async def test_an_act_says_what_will_happen_and_changes_nothing_yet(ada: Person, server: Server, bo: Person) -> None:
    before = await events_of(server, "bo")
    for act in ("unlock", "reset", "disable", "make-administrator"):
        page = await ada.open(f"/admin/people/bo/{act}")
        assert (page.status, "bo" in page.text) == (200, True)
        assert "code" in page.fields
        assert "/admin/people/bo" in page.links
    assert await events_of(server, "bo") == before


@pytest.mark.parametrize("act", ["unlock", "reset", "make-administrator", "disable"])
async def test_an_act_takes_a_fresh_code_of_the_administrator(
    ada: Person, server: Server, bo: Person, act: str
) -> None:
    before = await events_of(server, "bo")
    reason = {"reason": "lost phone"} if act == "reset" else {}
    used = ada.fresh_code()
    await ada.open("/admin/invite")
    await ada.send(name="cy", code=used)
    for code in (used, "", ada.wrong_code(), bo.code()):
        page = await act_on(ada, "bo", act, code=code, **reason)
        assert (page.status, page.path) == (422, f"/admin/people/bo/{act}")
        assert await events_of(server, "bo") == before
        server.clock.pass_s(120)
    page = await act_on(ada, "bo", act, **reason)
    assert (page.status, page.path) == (200, "/admin/people/bo")
    assert page.root.all(class_="notice-good")
    assert len(await events_of(server, "bo")) == len(before) + 1


@pytest.mark.parametrize("act", [act.name for act in ACTS])
async def test_trap_77_nobody_acts_on_the_own_account(ada: Person, server: Server, bo: Person, act: str) -> None:
    page = await ada.open("/admin/people/ada")
    assert "This is you" in page.text
    assert not [link for link in page.links if link.startswith("/admin/people/ada/")]
    assert (await ada.open(f"/admin/people/ada/{act}")).status == 409
    before = await view_of(server, "ada")
    form = (await ada.open("/admin/people/bo/reset")).form(press=None, to=None, fields={"reason": ""})
    pairs = form.filled({"reason": "lost phone", "code": ada.fresh_code()}, form.buttons[0])
    assert (await ada.post(f"/admin/people/ada/{act}", pairs)).status == 409
    assert await view_of(server, "ada") == before


async def test_trap_76_a_reset_asks_why_kills_every_session_and_shows_no_link(
    ada: Person, server: Server, bo: Person
) -> None:
    await bo.sign_in()
    half = Person(server, "bo", secret=bo.secret)
    assert (await half.give_password()).path == "/sign-in/code"
    fresh = ada.fresh_code()
    for reason in ("", " ", "x" * 201, "a\nb"):
        page = await act_on(ada, "bo", "reset", reason=reason, code=fresh)
        assert page.status == 422
        assert error_at(page, "reason")
        assert page.root.only("input", id="field-reason")["value"] == reason
    page = await act_on(ada, "bo", "reset", reason="lost phone, called back", code=fresh)
    assert page.path == "/admin/people/bo"
    assert "/link?token=" not in page.html
    assert not await bo.is_signed_in()
    assert (await half.open("/sign-in/code")).path != "/sign-in/code" or half.page.status == 401
    assert (await half.give_password()).path == "/enroll"
    assert (await half.open("/security")).path == "/enroll"
    assert not (await view_of(server, "bo")).second_factors
    rows = await server.deployment.verifier.accounts.events("bo")
    (payload,) = [row.payload for row in rows if row.kind == "account.reset"]
    assert payload is not None
    assert b'"reason":"lost phone, called back"' in payload
    assert b'"by":"ada"' in payload


async def test_who_has_no_password_gets_a_new_invitation_by_a_reset(ada: Person, server: Server) -> None:
    await server.add("bo")
    page = await ada.open("/admin/people/bo/reset")
    assert "no password" in page.text
    page = await act_on(ada, "bo", "reset", reason="lost phone")
    assert (await server.deployment.sign_in.use_link(token_on(page), PASSWORD, Guest())).session


async def test_a_disabled_person_is_out_at_once_and_back_when_enabled(ada: Person, server: Server, bo: Person) -> None:
    await bo.sign_in()
    page = await act_on(ada, "bo", "disable")
    assert "Disabled" in page.text
    assert not await bo.is_signed_in()
    assert (await bo.give_password()).status == 403
    for act in ("unlock", "reset", "disable"):
        assert (await ada.open(f"/admin/people/bo/{act}")).status == 409
    await act_on(ada, "bo", "enable")
    await bo.sign_in()


async def test_an_unlocked_person_is_let_in_with_one_code(ada: Person, server: Server, bo: Person) -> None:
    for _ in range(10):
        server.clock.pass_s(120)
        await server.deployment.verifier.verify("bo", code=bo.wrong_code())
    assert (await view_of(server, "bo")).throttle == "empty"
    page = await act_on(ada, "bo", "unlock")
    assert "/link?token=" not in page.html
    assert (await view_of(server, "bo")).throttle == "open"
    assert isinstance(await server.deployment.verifier.verify("bo", code=bo.fresh_code()), Verified)


async def test_administrators_are_made_and_unmade(ada: Person, server: Server, bo: Person) -> None:
    await bo.sign_in()
    await act_on(ada, "bo", "make-administrator")
    assert not await bo.is_signed_in(), "the session of the role before is over"
    await bo.sign_in()
    assert (await bo.open("/admin")).status == 200
    await act_on(ada, "bo", "unmake-administrator")
    assert (await view_of(server, "bo")).role == ""
    assert not await bo.is_signed_in()


async def test_somebody_who_never_came_is_invited_again_and_the_first_link_is_void(ada: Person, server: Server) -> None:
    await ada.open("/admin/invite")
    first = token_on(await ada.send(name="bo", code=ada.fresh_code()))
    second = token_on(await act_on(ada, "bo", "invite"))
    sign_in = server.deployment.sign_in
    assert [await is_open(server, token) for token in (first, second)] == [False, True]
    await sign_in.use_link(second, PASSWORD, Guest())
    assert (await ada.open("/admin/people/bo/invite")).status == 409


async def is_open(server: Server, token: str) -> bool:
    page = await Visitor(server).open(f"/link?token={token}")
    return page.status == 200


async def test_an_act_sent_twice_is_done_once(ada: Person, server: Server, bo: Person) -> None:
    form, code = await ada.open("/admin/people/bo/disable"), ada.fresh_code()
    first = await ada.send(form, to="/admin/people/bo/disable", code=code)
    second = await ada.send(form, to="/admin/people/bo/disable", code=code)
    assert (first.url, first.text) == (second.url, second.text)
    assert (await events_of(server, "bo")).count("account.disabled") == 1


async def test_a_proof_for_one_act_is_none_for_another(ada: Person, server: Server, bo: Person) -> None:
    await add_somebody(server, "cy")
    form, code = await ada.open("/admin/people/bo/disable"), ada.fresh_code()
    await ada.send(form, to="/admin/people/bo/disable", code=code)
    pairs = form.form(press=None, to="/admin/people/bo/disable", fields={}).filled(
        {"code": code}, form.forms[0].buttons[0]
    )
    page = await ada.post("/admin/people/cy/disable", pairs)
    assert page.status == 422
    assert not (await view_of(server, "cy")).is_disabled
