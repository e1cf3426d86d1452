"""What stands before every page: which sessions reach it, for how long, from which browser and from which network."""

import re
from collections.abc import Awaitable, Callable

import httpx
import pytest
from starlette.routing import Route
from tests.pages import Page
from tests.server.conftest import URL, OpenServer, Server
from tests.server.levels import LEVELS, ROWS, Row, csrf_of, make_visitor
from tests.server.visitors import FIREFOX, IPHONE, PASSWORD, STEP_S, Person, Visitor, add_person

from twofold.core.session import (
    ENROLLING_TTL_S,
    PENDING_TTL_S,
    SESSION_IDLE_TTL_S,
    SESSION_TTL_S,
    STRICT_SESSION_IDLE_TTL_S,
    STRICT_SESSION_TTL_S,
)
from twofold.engine import Caller
from twofold.errors import Unavailable
from twofold.networks import BLOCK_S
from twofold.server.pages import PAGES
from twofold.sign_in_limits import NETWORK_PER_WINDOW

#: Told to sign in, or led to the step that is missing.
TURNED_AWAY = (302, 303, 401, 403)
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def routes_of(server: Server) -> list[Route]:
    """Every route but those of the API, which takes no sessions."""
    routes = server.app._everything_else.routes
    assert all(isinstance(route, Route) for route in routes)
    return list(routes)


class TestTheInventory:
    async def test_asvs_6_1_3_every_route_is_documented_and_nothing_else_is(self, server: Server) -> None:
        served = {
            (method, route.path) for route in routes_of(server) for method in (route.methods or ()) if method != "HEAD"
        }
        assert served == {(row.method, row.path) for row in ROWS}
        assert len(ROWS) == len(served)

    def test_asvs_6_3_4_who_reaches_a_page_is_documented_as_it_is(self) -> None:
        told = {(row.method, row.path): row.who for row in ROWS}
        for page in PAGES:
            for method, handler in (("GET", page.show), ("POST", page.take)):
                if handler is not None:
                    assert told[method, page.path] == page.reach, page.path

    def test_signing_in_is_all_that_strangers_reach(self) -> None:
        posts = {row.path for row in ROWS if row.method == "POST" and "anybody" in row.who}
        assert posts == {"/setup", "/link", "/sign-in", "/sign-in/passkey", "/sign-out"}


#: These take a link, or origins of an application.
NOT_ALWAYS_THERE = {"/setup", "/link", "/.well-known/webauthn"}


@pytest.mark.parametrize("level", LEVELS)
async def test_trap_39_a_session_reaches_what_its_level_reaches_and_nothing_else(server: Server, level: str) -> None:
    visitor = await make_visitor(server, level)
    own = {"csrf": await csrf_of(visitor)}
    documented = {(row.method, row.path) for row in ROWS}
    let_in = []
    for row in ROWS:
        for method in METHODS:
            if (method, row.path) not in documented:
                answer = await visitor.http.request(method, row.example)
                # HEAD is GET without a body.
                is_head = method == "HEAD" and ("GET", row.path) in documented
                assert is_head or answer.status_code == 405, (method, row.path)
                if is_head and not row.is_reached_by(level):
                    assert answer.status_code in TURNED_AWAY
            elif method == row.method and not row.is_reached_by(level):
                answer = await visitor.http.request(method, row.example, data=own if method == "POST" else None)
                assert answer.status_code in TURNED_AWAY, row
                assert "twofold-session" not in answer.headers.get("set-cookie", "")
            elif method == row.method == "GET" and "{" not in row.path and row.path not in NOT_ALWAYS_THERE:
                answer = await visitor.http.get(row.example)
                assert answer.status_code in (200, 303), (row, answer.status_code)
                let_in.append(row.path)
    assert let_in
    # Whoever was turned away so often is where he was.
    assert (await visitor.open("/")).path == {
        "nobody": "/sign-in",
        "pending": "/sign-in/code",
        "enrolling": "/enroll",
        "full": "/security",
        "administrator": "/security",
    }[level]


async def test_trap_39_a_session_is_no_api_key(server: Server) -> None:
    document = (await server.get("/openapi.json")).json()
    visitor = await make_visitor(server, "administrator")
    for path, calls in document["paths"].items():
        for method in calls:
            url = re.sub(r"\{\w+\}", "the-administrator", path)
            answer = await visitor.http.request(method, url, json={} if method != "get" else None)
            needs_key = url.startswith("/api/v1/") and not url.endswith("openapi.json")
            assert (answer.status_code == 401) == needs_key, (method, path)


async def test_asvs_2_3_1_each_level_is_led_to_its_missing_step(server: Server) -> None:
    for level, step in (("nobody", "/sign-in"), ("pending", "/sign-in/code"), ("enrolling", "/enroll")):
        visitor = await make_visitor(server, level)
        for path in ("/security", "/admin", "/security/recovery-codes"):
            answer = await visitor.http.get(path)
            assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (302, step)
        refused = await visitor.http.post("/security/password", data={"csrf": await csrf_of(visitor)})
        assert refused.status_code == (401 if level == "nobody" else 403)


async def test_asvs_8_2_1_somebody_who_is_no_administrator_is_told_so(server: Server) -> None:
    page = await (await make_visitor(server, "full")).open("/admin")
    assert (page.status, page.path, page.heading) == (403, "/admin", "This is for administrators")
    assert (await (await make_visitor(server, "administrator")).open("/admin")).status == 200


async def test_asvs_8_3_2_a_role_that_was_taken_away_is_gone_at_once(server: Server) -> None:
    boss = await make_visitor(server, "administrator")
    caller = Caller("test", is_admin=True)
    await server.deployment.administration.set_role("the-administrator", "", caller=caller)
    assert (await boss.open("/admin")).status == 401


@pytest.mark.parametrize(
    "path", ["/security/", "//security", "/SECURITY", "/security;x", "/security%2f", "/security%00"]
)
async def test_other_spellings_of_an_address_lead_nowhere(server: Server, path: str) -> None:
    for level in ("pending", "full"):
        visitor = await make_visitor(server, level)
        answer = await visitor.http.get(httpx.URL(URL, raw_path=path.encode()))
        assert answer.status_code == 404


async def test_an_encoded_spelling_passes_the_same_gate(server: Server) -> None:
    pending = await make_visitor(server, "pending")
    answer = await pending.http.get(httpx.URL(URL, raw_path=b"/%73ecurity"))
    assert (answer.status_code, answer.headers["location"]) == (302, "/sign-in/code")


class TestTokens:
    async def test_asvs_7_2_4_and_trap_41_every_step_has_a_new_token_and_the_old_one_is_dead(
        self, server: Server
    ) -> None:
        await add_person(server)
        bo = Person(server)
        tokens = [bo.token]

        async def step(act: Callable[[], Awaitable[object]]) -> None:
            await act()
            assert bo.token not in tokens
            assert await is_alive(server, bo.token)
            if tokens[-1]:
                assert not await is_alive(server, tokens[-1])
            tokens.append(bo.token)

        await step(bo.give_password)
        await step(bo.give_password)
        await step(lambda: bo.send(code=bo.fresh_code()))
        await bo.open("/security/test")
        # Showing a second factor again is a step too.
        await bo.open("/enroll")
        await step(lambda: bo.send(code=bo.fresh_code()))

    async def test_trap_41_a_token_that_was_planted_is_never_taken_over(self, server: Server) -> None:
        await add_person(server)
        bo = Person(server)
        bo.http.cookies.set("twofold-session", "planted" * 6, domain="localhost.local")
        await bo.sign_in()
        assert bo.token != "planted" * 6
        assert not await is_alive(server, "planted" * 6)

    async def test_asvs_7_2_3_a_token_has_256_bits_and_is_not_in_the_database(self, server: Server) -> None:
        full = await make_visitor(server, "full")
        assert len(full.token) >= 43
        data_dir = server.deployment.settings.data_dir
        stored = b"".join(file.read_bytes() for file in data_dir.iterdir())
        assert full.token.encode() not in stored

    async def test_asvs_9_2_2_the_value_of_another_cookie_is_no_session(self, server: Server) -> None:
        full = await make_visitor(server, "full")
        for name in ("twofold-known", "twofold-csrf"):
            thief = Visitor(server)
            thief.http.cookies.set("twofold-session", full.cookies[name], domain="localhost.local")
            assert (await thief.open("/security")).status == 401

    async def test_what_is_no_token_is_told_and_dropped(self, server: Server) -> None:
        visitor = Visitor(server)
        visitor.http.cookies.set("twofold-session", "nothing", domain="localhost.local")
        page = await visitor.open("/security")
        assert page.status == 401
        assert not visitor.token
        assert (await visitor.open("/security")).path == "/sign-in"

    async def test_a_token_of_another_family_of_browsers_is_nothing(self, server: Server) -> None:
        full = await make_visitor(server, "full")
        newer = FIREFOX.replace("140", "153")
        for user_agent, status in ((newer, 200), (IPHONE, 401), ("", 401)):
            other = Visitor(server, user_agent=user_agent)
            other.http.cookies.set("twofold-session", full.token, domain="localhost.local")
            assert (await other.open("/security")).status == status


async def is_alive(server: Server, token: str) -> bool:
    """Whether the server takes the token for a session."""
    return isinstance(await server.deployment.sign_in.find(token, FIREFOX), tuple)


class TestEndings:
    @pytest.mark.parametrize(
        ("level", "ttl_s"), [("pending", PENDING_TTL_S), ("enrolling", ENROLLING_TTL_S), ("full", SESSION_TTL_S)]
    )
    async def test_trap_42_and_asvs_7_3_2_a_session_has_an_end_that_nothing_moves(
        self, server: Server, level: str, ttl_s: int
    ) -> None:
        visitor = await make_visitor(server, level)
        began_s = server.clock.now_s
        home = {"pending": "/sign-in/code", "enrolling": "/enroll", "full": "/security"}[level]
        every_s = min(ttl_s, SESSION_IDLE_TTL_S) / 2
        while server.clock.now_s + every_s < began_s + ttl_s:
            server.clock.pass_s(every_s)
            assert (await visitor.open(home)).status == 200
        server.clock.now_s = began_s + ttl_s - 1
        assert (await visitor.open(home)).path == home
        server.clock.pass_s(1)
        page = await visitor.open(home)
        assert (page.status, page.heading) == (401, "Your session is over")
        assert ("ends after 10 minutes" in page.text) == (level == "pending")
        assert ("time was up" in page.text) == (level != "pending")
        assert (await visitor.open(home)).path == "/sign-in"

    async def test_asvs_7_3_1_a_full_session_ends_after_an_hour_without_a_request(self, server: Server) -> None:
        visitor = await make_visitor(server, "full")
        server.clock.pass_s(SESSION_IDLE_TTL_S - 1)
        assert (await visitor.open("/security")).status == 200
        server.clock.pass_s(SESSION_IDLE_TTL_S)
        page = await visitor.open("/security")
        assert (page.status, "long time" in page.text) == (401, True)

    async def test_the_strict_profile_is_stricter(self, open_server: OpenServer) -> None:
        server = await open_server(profile="strict")
        visitor = await make_visitor(server, "full")
        for _ in range(STRICT_SESSION_TTL_S // (STRICT_SESSION_IDLE_TTL_S - 1)):
            server.clock.pass_s(STRICT_SESSION_IDLE_TTL_S - 1)
            assert (await visitor.open("/security")).status == 200
        server.clock.pass_s(STRICT_SESSION_IDLE_TTL_S - 1)
        assert (await visitor.open("/security")).status == 401

    async def test_a_clock_that_was_set_back_ends_sessions(self, server: Server) -> None:
        visitor = await make_visitor(server, "full")
        server.clock.pass_s(-3600)
        assert (await visitor.open("/security")).status == 401

    @pytest.mark.parametrize("level", ["pending", "enrolling", "full"])
    @pytest.mark.parametrize(
        "event", ["disabled", "password_changed", "signed_out_everywhere", "compromised", "deleted", "reset"]
    )
    async def test_asvs_7_4_2_and_trap_28_a_new_epoch_ends_every_session(
        self, server: Server, level: str, event: str
    ) -> None:
        visitor = await make_visitor(server, level)
        bystander = await make_visitor(server, "administrator")
        accounts, caller = server.deployment.verifier.accounts, Caller("test", is_admin=True)
        name = f"the-{level}"
        if event == "deleted":
            await accounts.delete(name)
        elif event == "reset":
            await server.deployment.administration.reset(name, reason="lost phone", caller=caller)
        else:
            await accounts.record_event(name, event)  # type: ignore[arg-type]
        home = {"pending": "/sign-in/code", "enrolling": "/enroll", "full": "/security"}[level]
        page = await visitor.open(home)
        assert page.status == 401
        assert "/sign-in" in {link.partition("?")[0] for link in page.links}
        assert (await bystander.open("/security")).status == 200

    async def test_ending_all_other_sessions_ends_pending_ones_too(self, server: Server) -> None:
        full = await make_visitor(server, "full")
        pending = Person(server, "the-full", address="198.51.100.7")
        await pending.give_password()
        await full.open("/security")
        await full.send(to="/security/sessions")
        assert (await pending.open("/sign-in/code")).status == 401
        assert (await full.open("/security")).status == 200

    async def test_a_post_after_the_end_changes_nothing_and_says_so(self, server: Server) -> None:
        full = await make_visitor(server, "full")
        csrf = await csrf_of(full)
        server.clock.pass_s(SESSION_TTL_S)
        answer = await full.http.post("/security/sessions", data={"csrf": csrf})
        assert answer.status_code == 401
        assert "Nothing was changed" in answer.text

    @pytest.mark.parametrize(
        ("sent", "aim"),
        [
            ("/security/password", "/security/password"),
            ("/security/sessions", "/security"),
            ("/admin/networks/lift", "/admin/networks"),
        ],
    )
    async def test_a_form_that_came_too_late_is_where_signing_in_again_leads(
        self, server: Server, sent: str, aim: str
    ) -> None:
        boss = await make_visitor(server, "administrator")
        assert isinstance(boss, Person)
        server.clock.pass_s(SESSION_TTL_S)
        ended = await boss.post(sent, [("csrf", "x")])
        assert ended.status == 401
        await boss.open(next(link for link in ended.links if link.startswith("/sign-in?")))
        await boss.send(name=boss.name, password=PASSWORD)
        assert (await boss.send(code=boss.fresh_code())).path == aim

    async def test_the_end_of_a_step_of_signing_in_leads_to_its_begin(self, server: Server) -> None:
        pending = await make_visitor(server, "pending")
        server.clock.pass_s(PENDING_TTL_S)
        ended = await pending.post("/sign-in/code", [("csrf", "x"), ("code", "123456")])
        assert (ended.status, "/sign-in" in ended.links) == (401, True)


class TestAWayOn:
    """A page that says what went wrong never is the end of the way."""

    @pytest.fixture
    async def full(self, server: Server) -> Visitor:
        return await make_visitor(server, "full")

    async def test_a_form_that_fails_leads_to_its_page(self, full: Visitor) -> None:
        csrf = await csrf_of(full)
        for path, form in (("/security/browsers/nothing", "/security"), ("/enroll?replaces=x", "/enroll")):
            refused = await full.post(path, [("csrf", csrf)])
            assert (refused.status, link_to(refused, "Open the page again")) == (404, form)
            assert (await full.open(form)).status == 200

    async def test_a_form_that_cannot_be_read_leads_to_its_page(self, full: Visitor) -> None:
        page = await full.post("/security/password", [("csrf", "a"), ("csrf", "b")])
        assert (page.status, link_to(page, "Open the page again")) == (400, "/security/password")

    async def test_a_look_that_fails_leads_to_the_start(self, full: Visitor, server: Server) -> None:
        page = await full.open("/security/authenticators/au_nothing")
        assert (page.status, link_to(page, "To the start")) == (404, "/")
        assert (await full.open("/")).path == "/security"

    async def test_what_cannot_be_reached_now_leads_on_too(
        self, full: Visitor, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        csrf = await csrf_of(full)

        async def fail(*_: object) -> None:
            raise Unavailable("the store is away")

        with monkeypatch.context() as patch:
            patch.setattr(server.deployment.store, "find_session", fail)
            away = await full.post("/security/sessions", [("csrf", csrf)])
        assert (away.status, link_to(away, "Open the page again")) == (503, "/security")
        assert (await full.open("/security")).status == 200


def link_to(page: Page, words: str) -> str:
    """Where the link of these words leads."""
    (href,) = (link["href"] for link in page.main.all("a") if link.text == words)
    return href


class TestRefusedNetworks:
    async def block(self, server: Server, address: str = "203.0.113.9") -> None:
        assert await server.deployment.networks.strike(address) is not None

    async def test_open_pages_are_refused_and_signed_in_ones_are_not(self, server: Server) -> None:
        full = await make_visitor(server, "full")
        await self.block(server)
        stranger = Visitor(server)
        for row in ROWS:
            if row.method == "GET" and "{" not in row.path and row.is_reached_by("nobody") and is_page(row):
                page = await stranger.open(row.path)
                assert (page.status, page.heading) == (429, "Too many attempts from your network"), row
                assert int(page.headers["retry-after"]) == BLOCK_S
        assert (await stranger.open("/security")).status == 429
        assert (await Visitor(server, address="198.51.100.7").open("/sign-in")).status == 200
        assert (await full.open("/security")).status == 200
        server.clock.pass_s(BLOCK_S)
        assert (await stranger.open("/sign-in")).status == 200

    async def test_what_machines_ask_for_is_answered(self, server: Server) -> None:
        await self.block(server)
        for path in ("/health/live", "/static/twofold.css", "/.well-known/jwks.json"):
            assert (await Visitor(server).http.get(path)).status_code == 200

    async def test_a_known_browser_of_the_account_signs_in_and_no_other_one(self, server: Server) -> None:
        await add_person(server)
        await add_person(server, "cy")
        bo = Person(server)
        await bo.sign_in()
        await bo.open("/sign-out")
        await bo.send(to="/sign-out")
        await self.block(server)
        await bo.open("/sign-in")
        assert bo.page.status == 200
        # It is known to bo's account, and to no other.
        assert (await bo.send(name="cy", password=PASSWORD)).status == 429
        await bo.open("/sign-in")
        assert (await bo.send(name="bo", password=PASSWORD)).path == "/sign-in/code"
        assert (await bo.send(code=bo.fresh_code())).path == "/security"

    async def test_a_session_of_ones_own_is_no_way_around_it(self, server: Server) -> None:
        """Whoever has an account here must not try the passwords of others from a refused network."""
        before = await Visitor(server).open("/sign-in")
        assert before.status == 200
        mallory = await make_visitor(server, "pending")
        await add_person(server, "cy")
        await self.block(server)
        await mallory.open("/sign-in")
        assert mallory.page.status == 200
        assert (await mallory.send(name="cy", password=PASSWORD)).status == 429

    async def test_a_header_of_a_proxy_does_not_lift_what_an_administrator_refused(self, server: Server) -> None:
        inside = Visitor(server, address="10.0.0.7")
        inside.http.headers["x-forwarded-for"] = "1"
        await self.block(server, "10.0.0.7")
        # The limits took one behind this proxy for all of them, so theirs is passed.
        assert (await inside.open("/sign-in")).status == 200
        await server.deployment.networks.add("10.0.0.0/24")
        assert (await inside.open("/sign-in")).status == 429
        await server.deployment.networks.lift("10.0.0.0/24")
        assert (await inside.open("/sign-in")).status == 200

    async def test_what_is_refused_until_it_is_lifted_has_no_time_and_what_is_refused_for_hours_has(
        self, server: Server
    ) -> None:
        networks, visitor = server.deployment.networks, Visitor(server)
        await networks.add("203.0.113.0/24", hours=24)
        page = await visitor.open("/sign-in")
        assert (page.status, page.headers["retry-after"]) == (429, str(24 * 3600))
        assert page.root.all(class_="wait")
        await networks.lift("203.0.113.0/24")
        assert (await visitor.open("/sign-in")).status == 200
        await networks.add("203.0.113.0/24")
        page = await visitor.open("/sign-in")
        assert (page.status, page.heading) == (429, "Your network is refused")
        assert "until further notice" in page.text
        assert not page.root.all(class_="wait")
        assert "retry-after" not in page.headers

    async def test_too_many_wrong_passwords_refuse_the_network(self, server: Server) -> None:
        visitor = Visitor(server)
        await visitor.open("/sign-in")
        for number in range(NETWORK_PER_WINDOW):
            page = await visitor.send(name=f"name{number}", password="wrong " * 3)
            assert page.status == 401
        assert (await visitor.send(name="another", password="wrong " * 3)).status == 429
        assert (await visitor.open("/sign-in")).status == 429


def is_page(row: Row) -> bool:
    return row.path in {page.path for page in PAGES}


async def test_a_step_of_the_second_factor_needs_the_first_one_of_the_same_session(server: Server) -> None:
    """Trap 43: the code of one person in the session of another one."""
    other = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJA"
    await add_person(server, "bo")
    await add_person(server, "cy", other)
    bo, cy = Person(server, "bo"), Person(server, "cy", secret=other)
    await bo.give_password()
    await cy.give_password()
    server.clock.pass_s(STEP_S)
    assert (await bo.send(code=cy.code())).status == 401
    assert (await cy.send(code=cy.code())).path == "/security"
    assert (await cy.open("/security")).root.only("span", class_="top-name").text == "cy"
    assert (await bo.send(code=bo.fresh_code())).path == "/security"
