"""Where signing in may lead: to pages of ours that somebody can want to go to, and nowhere else."""

from urllib.parse import urlencode, urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import URL, Server
from tests.server.visitors import PASSWORD, Person, add_person

from twofold.server.next_path import NEXT_MAX, read_next

OWN = [
    "/security",
    "/security/activity",
    "/security/authenticators/au_abc-123",
    "/enroll",
    "/enroll?replaces=au_abc",
    "/admin",
    "/admin/people?q=ann&state=active",
    "/admin/people?q=a%20b+c",
    "/admin/people/ann@example.com",
    "/admin/people/ann.o-neill_~",
]
TRICKS = [
    *("https://evil.example", "http:evil.example", "https:/evil.example", "https:///evil.example", "HTTPS://EVIL"),
    *("//evil.example", "///evil.example", "////evil.example/%2f..", "//evil.example/security", "//security@evil"),
    *("/\\evil.example", "\\\\evil.example", "\\/evil.example", "/\\/evil.example", "/security\\..\\..\\evil"),
    *("/\t/evil.example", "\t//evil.example", "/\n/evil.example", "/\r\n/evil.example", "/%09/evil.example"),
    *("/%2f%2fevil.example", "/%2fevil.example", "%2f%2fevil.example", "/%5cevil.example", "/%00/security"),
    *(
        "javascript:alert(1)",
        "JaVaScRiPt:alert(1)",
        " javascript:alert(1)",
        "java\nscript:alert(1)",
        "data:text/html,x",
    ),
    *(
        "https://localhost:8000@evil.example",
        "https://good@evil",
        "http://localhost:8000",
        "http://localhost:8000/security",
    ),
    *("/security@evil.example:", "@evil.example", ".evil.example", "/.evil.example", "evil.example/security"),
    *("/security/..//evil.example", "/security/../../evil", "/./security", "/security/.", "/security/.."),
    *("/security/%2e%2e/x", "/security//evil.example", "/security/;@evil", "/security#//evil.example", "/security?x#y"),
    *("/security\n", "/security\r\nSet-Cookie: x=1", "/security ", " /security", "/security\x00", "/security\u2028"),
    *("/sécurité", "/security/\uff0fevil", "\uff0f\uff0fevil.example", "/\u2215evil", "/security\u202e", "/ security"),
    *("/sign-out", "/sign-in", "/sign-in/code", "/setup?token=x", "/link?token=x", "/api/v1/accounts", "/static/x.js"),
    *("/metrics", "/health/live", "/", "", "?", "#", "/securityx", "/adminx/people", "/enrollment", "/Security"),
    *("/security?next=https://evil.example", "/security?x=//evil", "/security?x='><script>", '/security?a="b'),
    "/security/" + "a" * NEXT_MAX,
]


@pytest.mark.parametrize("path", OWN)
def test_a_page_of_ours_is_taken_as_it_is(path: str) -> None:
    assert read_next(path) == path


@pytest.mark.parametrize("trick", TRICKS)
def test_trap_54_whatever_a_browser_may_read_as_another_place_leads_to_the_start_page(trick: str) -> None:
    assert read_next(trick) == ""


def test_nothing_leads_to_the_start_page() -> None:
    assert read_next(None) == ""


@given(st.text(alphabet=st.sampled_from("/\\.:@%?#&=;\t\n\r \x00aeils2fF\u2215\uff0f"), max_size=24))
def test_trap_54_no_text_leads_to_another_host(text: str) -> None:
    for value in (text, f"/security{text}", f"/admin/{text}"):
        taken = read_next(value)
        assert taken in ("", value)
        if taken:
            assert taken.startswith(("/security", "/admin", "/enroll"))
            assert not {"\\", "\t", "\n", "\r", " ", "#", ":"} & set(taken)
            assert "//" not in taken.partition("?")[0]
            assert urlsplit(urljoin(URL, taken)).netloc == urlsplit(URL).netloc


@pytest.mark.parametrize("trick", ["https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example"])
async def test_trap_54_and_asvs_3_7_2_after_both_steps_the_start_page_comes(server: Server, trick: str) -> None:
    await add_person(server)
    bo = Person(server)
    for place in ("link", "form"):
        page = await bo.open("/sign-in")
        if place == "link":
            page = await bo.open(f"/sign-in?{urlencode({'next': trick})}")
        assert "evil" not in page.html
        form = page.form(fields={"name": "", "password": ""})
        button = form.find_button(None)
        assert button is not None
        pairs = dict(form.filled({"name": "bo", "password": PASSWORD}, button))
        if place == "form":
            pairs["next"] = trick
        answer = await bo.http.post("/sign-in", data=pairs)
        assert answer.headers["location"] == "/sign-in/code"
        await bo.open("/sign-in/code")
        after = await bo.send(code=bo.fresh_code())
        assert (after.path, after.query) == ("/security", "")
        # Signed in already, it is no way out either.
        assert (await bo.open(f"/sign-in?{urlencode({'next': trick})}")).path == "/security"
        await bo.open("/sign-out")
        await bo.send(to="/sign-out")
    own = await bo.open("/sign-in?next=/security/activity")
    assert own.form(fields={"name": ""}).control("next")["value"] == "/security/activity"
