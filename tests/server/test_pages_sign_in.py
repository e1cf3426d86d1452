"""Signing in on the pages: both steps with all their refusals, help, and signing out."""

import asyncio
import base64
import re

import pytest
from tests.pages import Page
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import OpenServer, Server
from tests.server.levels import make_visitor
from tests.server.visitors import FIREFOX, IPHONE, PASSWORD, STEP_S, Person, Visitor, add_app, add_person

from twofold import setup_link
from twofold.core.account import FIRST_FACTOR
from twofold.core.throttle import BUDGET_PPM, COST_MIN_PPM, FAILURES_MAX, GRAINS_PER_PPM
from twofold.engine import Caller
from twofold.server.pages.second_step import read_codes

#: What is new in every page: tokens, and the challenge of a passkey.
FRESH = re.compile(r'(name="(?:csrf|form|challenge)" value=|data-options=)"[^"]*"')
OTHER_SECRET = base64.b32encode(b"another phone's seed").decode()


@pytest.fixture
async def codes(server: Server) -> list[str]:
    """The recovery codes of bo, who has a password, an app, and these."""
    return await add_person(server)


@pytest.fixture
async def bo(server: Server, codes: list[str]) -> Person:
    return Person(server)


@pytest.fixture
async def at_code(bo: Person) -> Person:
    """Bo, where the code is asked for."""
    await bo.give_password()
    assert (bo.page.path, bo.page.status, bo.page.alert) == ("/sign-in/code", 200, "")
    return bo


def box_of(page: Page, name: str = "code") -> dict[str, str]:
    """The attributes of a box."""
    return page.form(fields={name: ""}).control(name).attributes


class TestThePasswordStep:
    async def test_password_and_code_let_in(self, bo: Person) -> None:
        await bo.sign_in()
        assert await bo.is_signed_in()

    async def test_asvs_6_2_6_and_6_2_7_fields_are_masked_and_named_for_password_managers(self, bo: Person) -> None:
        await bo.open("/sign-in")
        assert box_of(bo.page, "name")["autocomplete"] == "username webauthn"
        password = box_of(bo.page, "password")
        assert (password["type"], password["autocomplete"]) == ("password", "current-password")

    async def test_a_wrong_password_keeps_the_name_and_never_the_password(self, bo: Person) -> None:
        await bo.open("/sign-in")
        page = await bo.send(name="bo", password="violet harbour 1927")
        assert (page.path, page.status) == ("/sign-in", 401)
        assert page.title.startswith("Error: ")
        assert page.alert
        assert (box_of(page, "name")["value"], box_of(page, "password").get("value")) == ("bo", None)
        assert "violet harbour" not in page.html
        assert (await bo.send(name="bo", password=PASSWORD)).path == "/sign-in/code"

    @pytest.mark.parametrize(("name", "password"), [("", PASSWORD), ("bo", ""), ("  ", PASSWORD), ("bo", "x" * 129)])
    async def test_what_cannot_be_right_is_told_on_the_page(self, bo: Person, name: str, password: str) -> None:
        await bo.open("/sign-in")
        page = await bo.send(name=name, password=password)
        assert (page.path, page.status) == ("/sign-in", 422)
        assert page.alert
        assert not bo.token

    @pytest.mark.parametrize("name", [" bo ", "BO", "Bo"])
    async def test_a_name_made_here_is_found_in_any_case_and_between_spaces(self, bo: Person, name: str) -> None:
        await bo.open("/sign-in")
        assert (await bo.send(name=name, password=PASSWORD)).path == "/sign-in/code"

    async def test_asvs_6_3_8_an_unknown_name_looks_like_a_wrong_password(self, bo: Person, server: Server) -> None:
        pages = []
        for name in ("bo", "nobody"):
            visitor = Visitor(server)
            await visitor.open("/sign-in")
            pages.append(await visitor.send(name=name, password="violet harbour 1927"))
        known, unknown = (
            re.sub(FRESH, r"\1", page.html).replace(f'"{name}"', "")
            for page, name in zip(pages, ("bo", "nobody"), strict=True)
        )
        assert known == unknown
        assert pages[0].status == pages[1].status
        assert {name for name in pages[0].headers if name != "set-cookie"} == set(pages[1].headers) - {"set-cookie"}

    async def test_a_disabled_account_is_told_so_after_the_right_password_only(
        self, bo: Person, server: Server
    ) -> None:
        await server.deployment.verifier.accounts.record_event("bo", "disabled")
        await bo.open("/sign-in")
        wrong = await bo.send(name="bo", password="violet harbour 1927")
        assert (wrong.status, "disabled" in wrong.text) == (401, False)
        told = await bo.send(name="bo", password=PASSWORD)
        assert (told.status, told.heading) == (403, "Your account is disabled")
        assert not bo.token

    async def test_ten_wrong_passwords_for_a_name_are_enough_and_the_page_says_how_long(
        self, bo: Person, server: Server
    ) -> None:
        await bo.open("/sign-in")
        for _ in range(10):
            assert (await bo.send(name="bo", password="wrong " * 3)).status == 401
        page = await bo.send(name="bo", password=PASSWORD)
        assert (page.path, page.status) == ("/sign-in", 429)
        assert int(page.headers["retry-after"]) == 900
        assert "15 minutes" in page.alert
        server.clock.pass_s(900)
        assert (await bo.send(name="bo", password=PASSWORD)).path == "/sign-in/code"

    async def test_someone_without_a_second_factor_reaches_enrolment_alone(self, server: Server) -> None:
        await server.deployment.verifier.accounts.put("cy")
        await server.deployment.verifier.accounts.set_password("cy", PASSWORD)
        cy = Person(server, "cy")
        await cy.give_password()
        assert cy.page.path == "/enroll"
        assert (await cy.open("/security")).path == "/enroll"

    async def test_whoever_is_enrolling_is_led_back_to_it_and_may_still_sign_in_as_somebody_else(
        self, bo: Person, server: Server
    ) -> None:
        await server.deployment.verifier.accounts.put("cy")
        await server.deployment.verifier.accounts.set_password("cy", PASSWORD)
        before = await bo.open("/sign-in")
        assert (await bo.send(name="cy", password=PASSWORD)).path == "/enroll"
        assert (await bo.open("/sign-in")).path == "/enroll"
        assert (await bo.open("/sign-in?next=/security/activity")).path == "/enroll"
        assert (await bo.send(before, name="bo", password=PASSWORD)).path == "/sign-in/code"
        # A step further back there is another name to type.
        assert (await bo.open("/sign-in")).path == "/sign-in"

    async def test_before_set_up_the_page_says_how_to_begin_and_not_afterwards(self, server: Server) -> None:
        visitor = Visitor(server)
        assert "twofold setup-link" in (await visitor.open("/sign-in")).text
        # An account of no administrator changes nothing.
        await add_person(server)
        assert "twofold setup-link" in (await visitor.open("/sign-in")).text
        await server.deployment.administration.set_role("bo", "administrator", caller=Caller("test", is_admin=True))
        assert "twofold setup-link" not in (await visitor.open("/sign-in")).text

    async def test_after_set_up_nobody_is_looked_for(self, server: Server) -> None:
        await setup_link.spend(server.deployment.store)
        assert "twofold setup-link" not in (await Visitor(server).open("/sign-in")).text


class TestTheCodeStep:
    async def test_the_box_is_one_field_for_password_managers_and_phones(self, at_code: Person) -> None:
        box = box_of(at_code.page)
        assert (box["autocomplete"], box["inputmode"]) == ("one-time-code", "numeric")
        assert "autofocus" in box

    @pytest.mark.parametrize("spelling", ["{0}{1}", " {0} {1} ", "{0}-{1}"])
    async def test_trap_11_spaces_and_hyphens_do_not_matter(self, at_code: Person, spelling: str) -> None:
        code = at_code.fresh_code()
        assert (await at_code.send(code=spelling.format(code[:3], code[3:]))).path == "/security"

    @pytest.mark.parametrize("typed", ["", "   ", "abc", "12345", "١٢٣٤٥٦", "<script>", "1" * 60])
    async def test_trap_10_what_is_no_code_stays_on_the_page(self, at_code: Person, typed: str) -> None:
        page = await at_code.send(code=typed)
        assert (page.path, page.status) == ("/sign-in/code", 401 if typed.strip() else 422)
        assert box_of(page)["aria-invalid"] == "true"
        assert (await at_code.send(code=at_code.fresh_code())).path == "/security"

    async def test_a_wrong_code_stays_here_and_says_why_at_the_box(self, at_code: Person) -> None:
        page = await at_code.send(code=at_code.wrong_code())
        assert (page.path, page.status) == ("/sign-in/code", 401)
        assert page.title.startswith("Error: ")
        assert page.alert
        box = box_of(page)
        assert (box["aria-invalid"], box.get("value", "")) == ("true", "")
        assert page.root.only(id=box["aria-describedby"].split()[0]).text
        assert (await at_code.send(code=at_code.fresh_code())).path == "/security"

    @pytest.mark.parametrize("typed", ["12", "123 45", "12-34", "1" * 9])
    async def test_half_a_code_is_called_so_and_judged_like_any_other(
        self, at_code: Person, server: Server, typed: str
    ) -> None:
        page = await at_code.send(code=typed)
        assert (page.path, page.status) == ("/sign-in/code", 401)
        assert "six digits" in page.alert
        assert "another account" not in page.text
        account = await server.deployment.store.load("bo")
        assert account is not None
        assert account.lane.spent == COST_MIN_PPM * GRAINS_PER_PPM
        for whole in (at_code.wrong_code(), "12345678"):
            assert "another account" in (await at_code.send(code=whole)).alert

    async def test_trap_1_a_used_code_is_called_used_and_the_next_one_is_announced(
        self, bo: Person, server: Server
    ) -> None:
        await bo.sign_in()
        thief = Person(server, address="198.51.100.7")
        await thief.give_password()
        server.clock.pass_s(12)
        page = await thief.send(code=bo.code())
        assert (page.status, page.path) == (401, "/sign-in/code")
        assert "used" in page.alert
        assert page.root.only(class_="wait")["data-wait"] == "18"
        assert (await thief.send(code=thief.fresh_code())).path == "/security"

    async def test_a_clock_that_is_off_is_named_after_two_codes_of_it(self, at_code: Person, server: Server) -> None:
        server.clock.pass_s(3600)
        await at_code.give_password()
        assert "minutes" not in (await at_code.send(code=at_code.code(-8))).alert
        server.clock.pass_s(STEP_S)
        page = await at_code.send(code=at_code.code(-8))
        assert "4 minutes behind" in page.alert
        assert "UTC" in page.alert
        # The phone may be right, and the server wrong.
        assert "tell whoever runs this site" in page.text
        assert (await at_code.send(code=at_code.fresh_code())).path == "/security"

    async def test_a_late_code_is_wrong(self, at_code: Person, server: Server) -> None:
        server.clock.pass_s(300)
        assert (await at_code.send(code=at_code.code(-2))).status == 401
        server.clock.pass_s(STEP_S)
        assert (await at_code.send(code=at_code.code(-1))).path == "/security"

    async def test_after_the_third_wrong_code_the_page_says_how_long_and_what_works_meanwhile(
        self, at_code: Person, server: Server
    ) -> None:
        for _ in range(3):
            await at_code.send(code=at_code.wrong_code())
        page = await at_code.send(code=at_code.code())
        assert (page.path, page.status) == ("/sign-in/code", 429)
        assert int(page.headers["retry-after"]) == 1
        assert page.root.only(class_="wait")["data-wait"] == "1"
        # Three codes take a minute and more: they are for a longer wait, as under attack.
        assert ("code" in page.fields, "codes" in page.fields) == (True, False)
        assert "three codes in a row" not in page.alert
        assert "a recovery code" in page.alert
        assert "browser" not in page.alert.partition("Without waiting")[2]
        server.clock.pass_s(2)
        assert (await at_code.send(code=at_code.fresh_code())).path == "/security"

    async def test_the_same_form_sent_again_is_judged_once(self, at_code: Person) -> None:
        shown, wrong = at_code.page, at_code.wrong_code()
        for _ in range(5):
            page = await at_code.send(shown, code=wrong)
            assert page.status == 401
        # The same page filled in otherwise, as after the back button, is another answer.
        assert (await at_code.send(shown, code=at_code.fresh_code())).path == "/security"

    async def test_a_double_click_ends_signed_in_once(self, at_code: Person, server: Server) -> None:
        shown, code = at_code.page, at_code.fresh_code()
        await asyncio.gather(*(at_code.send(shown, code=code) for _ in range(2)))
        assert await at_code.is_signed_in()
        account = await server.deployment.store.load("bo")
        assert account is not None
        assert len([s for s in await server.deployment.sign_in.list_sessions(account) if s.level == "full"]) == 1

    async def test_the_second_click_does_not_drop_the_cookie_of_the_first(
        self, at_code: Person, server: Server
    ) -> None:
        shown, code, old = at_code.page, at_code.fresh_code(), at_code.token
        await at_code.send(shown, code=code)
        late = Visitor(server)
        late.http.cookies = at_code.http.cookies.__class__(at_code.cookies | {"twofold-session": old})
        form = shown.form(fields={"code": ""})
        button = form.find_button(None)
        assert button is not None
        page = await late.post("/sign-in/code", form.filled({"code": code}, button))
        assert page.status == 401
        assert "set-cookie" not in page.headers
        # Only a look at a page, which no click before it can overtake, does.
        assert "twofold-session=" in (await late.open("/security")).headers["set-cookie"]

    async def test_a_code_form_of_before_leads_on_when_signed_in(self, at_code: Person) -> None:
        shown = at_code.page
        await at_code.send(code=at_code.fresh_code())
        assert (await at_code.send(shown, code="000000")).path == "/security"


class TestTheWays:
    async def test_every_way_is_offered_the_last_used_first(self, bo: Person, server: Server) -> None:
        tablet = await add_app(server, "bo", OTHER_SECRET, label="my tablet")
        await bo.give_password()
        await bo.send(code=server.code(OTHER_SECRET))
        await bo.open("/sign-out")
        await bo.send(to="/sign-out")
        await bo.give_password()
        rows = [row.text for row in bo.page.root.only(id="ways").all("li")]
        assert "my tablet" in rows[0]
        assert "10 codes left" in rows[2]
        assert f"/sign-in/code?way={tablet}" in bo.page.links
        assert "/sign-in/help" in bo.page.links

    async def test_another_way_is_there_with_one_app_too(self, at_code: Person) -> None:
        ways = at_code.page.root.only(id="ways")
        assert next(row.text for row in ways.all("li")).startswith("A recovery code")

    async def test_a_chosen_way_alone_judges_and_is_charged(self, bo: Person, server: Server) -> None:
        tablet = await add_app(server, "bo", OTHER_SECRET, label="my tablet")
        await bo.give_password()
        page = await bo.open(f"/sign-in/code?way={tablet}")
        assert "my tablet" in page.heading + page.text
        # The phone's code is none of the tablet's, and the choice is kept.
        assert (await bo.send(code=bo.fresh_code())).status == 401
        assert "my tablet" in bo.page.text
        account = await server.deployment.store.load("bo")
        assert account is not None
        assert account.lane.spent == COST_MIN_PPM * GRAINS_PER_PPM
        assert (await bo.send(code=server.code(OTHER_SECRET))).path == "/security"

    async def test_recovery_codes_are_a_way_with_a_box_for_letters(
        self, at_code: Person, codes: list[str], server: Server
    ) -> None:
        (href,) = {link for link in at_code.page.links if "way=" in link}
        page = await at_code.open(href)
        box = box_of(page)
        assert (box["inputmode"], page.heading) == ("text", "Enter a recovery code")
        wrong = await at_code.send(code="AAAA-AAAA-AAAA-AAAA-AAAA")
        assert (wrong.status, wrong.heading) == (401, "Enter a recovery code")
        assert "recovery code" in wrong.alert
        after = await at_code.send(code=codes[0].lower().replace("-", " "))
        assert after.path == "/security"
        assert "9" in after.text

    async def test_a_recovery_code_fits_into_every_box_and_works_once(
        self, bo: Person, codes: list[str], server: Server
    ) -> None:
        tablet = await add_app(server, "bo", OTHER_SECRET, label="my tablet")
        await bo.give_password()
        await bo.open(f"/sign-in/code?way={tablet}")
        assert (await bo.send(code=codes[0])).path == "/security"
        again = Person(server, address="198.51.100.7")
        await again.give_password()
        refused = await again.send(code=codes[0])
        assert (refused.status, "used" in refused.alert) == (401, True)
        assert (await again.send(code=codes[1])).path == "/security"

    async def test_a_recovery_code_is_called_so_at_a_later_proof_too(self, at_code: Person, codes: list[str]) -> None:
        await at_code.send(code=codes[0])
        await at_code.open("/security/recovery-codes")
        used = await at_code.send(code=codes[0])
        assert (used.status, "recovery code was already used" in used.alert) == (422, True)
        assert "another one of your list" in used.text
        assert "another account" in (await at_code.send(code=at_code.wrong_code())).alert
        assert (await at_code.send(code=codes[1])).status == 200

    async def test_an_app_code_fits_into_the_box_for_recovery_codes(self, at_code: Person) -> None:
        await at_code.open(next(link for link in at_code.page.links if "way=" in link))
        assert (await at_code.send(code=at_code.fresh_code())).path == "/security"

    @pytest.mark.parametrize("way", ["au_nothing", "", "<script>", "%00"])
    async def test_a_way_that_is_none_is_no_choice(self, at_code: Person, way: str) -> None:
        page = await at_code.open(f"/sign-in/code?way={way}")
        assert page.status == 200
        assert "<script>" not in page.html
        assert (await at_code.send(code=at_code.fresh_code())).path == "/security"

    async def test_someone_elses_authenticator_is_none(self, at_code: Person, server: Server) -> None:
        await add_person(server, "cy", OTHER_SECRET)
        cy = await server.deployment.store.load("cy")
        assert cy is not None
        theirs = next(a.id for a in cy.authenticators if a.factor == "totp")
        await at_code.open(f"/sign-in/code?way={theirs}")
        server.clock.pass_s(STEP_S)
        assert (await at_code.send(code=server.code(OTHER_SECRET))).status == 401
        assert (await at_code.send(code=at_code.fresh_code())).path == "/security"

    async def test_nothing_of_the_ways_shows_before_the_password(self, bo: Person, server: Server) -> None:
        visitor = Visitor(server)
        assert (await visitor.open("/sign-in/code")).path == "/sign-in"
        assert "recovery" not in visitor.page.main.text


class TestUnderAttack:
    async def empty(self, server: Server) -> None:
        """Somebody who knows the password guesses until nothing is left of the budget of new browsers."""
        guesser = Person(server, address="198.51.100.66")
        for _ in range(BUDGET_PPM // COST_MIN_PPM):
            server.clock.pass_s(61)
            await guesser.give_password()
            assert (await guesser.send(code=guesser.wrong_code())).status == 401

    async def test_the_page_says_that_somebody_is_guessing_and_lets_in_by_three_codes(
        self, bo: Person, server: Server
    ) -> None:
        await self.empty(server)
        await bo.give_password()
        page = await bo.send(code=bo.fresh_code())
        assert (page.status, page.path) == (429, "/sign-in/code")
        assert "guessing" in page.alert
        assert "three codes in a row" in page.alert
        assert page.fields >= {"code", "codes"}
        wrong = await bo.send(codes="000000 000000 000001")
        assert (wrong.status, wrong.path) == (401, "/sign-in/code")
        assert "codes" in wrong.fields
        server.clock.pass_s(3 * STEP_S)
        page = await bo.send(codes=" ".join(bo.code(steps) for steps in (-2, -1, 0)))
        assert page.path == "/security"
        assert "/security/password" in page.links

    async def test_a_known_browser_needs_one_code_and_a_new_one_is_told_of_it(self, bo: Person, server: Server) -> None:
        await bo.sign_in()
        await bo.open("/sign-out")
        await bo.send(to="/sign-out")
        await self.empty(server)
        stranger = Person(server, address="198.51.100.7")
        await stranger.give_password()
        assert "a browser in which you signed in before" in (await stranger.send(code=bo.fresh_code())).alert
        await bo.sign_in()

    async def test_the_strict_profile_offers_no_three_codes(self, open_server: OpenServer) -> None:
        server = await open_server(profile="strict")
        await add_person(server)
        await self.empty(server)
        bo = Person(server)
        await bo.give_password()
        page = await bo.send(code=bo.fresh_code())
        assert page.status == 429
        assert "codes" not in page.fields
        assert "a recovery code" in page.alert

    async def test_too_few_codes_in_a_row_are_not_judged(self, at_code: Person, server: Server) -> None:
        await self.empty(server)
        await at_code.give_password()
        await at_code.send(code=at_code.wrong_code())
        page = await at_code.send(codes="123456 234567")
        assert (page.status, page.path) == (422, "/sign-in/code")
        assert box_of(page, "codes")["aria-invalid"] == "true"

    async def test_switched_off_authenticators_leave_recovery_codes(
        self, bo: Person, server: Server, codes: list[str]
    ) -> None:
        guesser = Person(server, address="198.51.100.66")
        await guesser.sign_in()
        for _ in range(FAILURES_MAX):
            # A browser that is known anew each time: only the count of the authenticator grows.
            server.clock.pass_s(2 * 86_400)
            await self.fail_once(guesser)
        await bo.give_password()
        assert bo.page.status == 200
        assert "switched off" in bo.page.alert
        assert bo.page.root.only("h1").text == "Enter a recovery code"
        refused = await bo.send(code=bo.fresh_code())
        assert (refused.status, "switched off" in refused.alert) == (409, True)
        assert (await bo.send(code=codes[0])).path == "/security"
        # With the last recovery code goes the last way in.
        for code in codes[1:]:
            bo = Person(server)
            await bo.give_password()
            await bo.send(code=code)
        page = await Person(server).give_password()
        assert (page.path, page.fields) == ("/sign-in/code", set())
        assert "Ask an administrator" in page.alert
        assert {"/sign-in/help", "/sign-in"} <= {link.partition("?")[0] for link in page.links}

    async def fail_once(self, guesser: Person) -> None:
        await guesser.give_password()
        await guesser.send(code=guesser.wrong_code())


class TestTheTimeOfASignIn:
    async def test_trap_42_a_pending_sign_in_lives_ten_minutes_whatever_happens_in_it(
        self, at_code: Person, server: Server
    ) -> None:
        assert "10 minutes" in at_code.page.text
        server.clock.pass_s(540)
        await at_code.send(code=at_code.wrong_code())
        assert "1 minute" in at_code.page.text
        server.clock.pass_s(59)
        assert (await at_code.open("/sign-in/code")).status == 200
        server.clock.pass_s(1)
        page = await at_code.send(code=at_code.code())
        assert page.status == 401
        assert "ends after 10 minutes" in page.text
        assert "/sign-in" in page.links
        assert (await at_code.open("/security")).path != "/security" or at_code.page.status == 401
        await at_code.sign_in()

    async def test_where_somebody_wanted_to_go_survives_every_step(self, bo: Person, server: Server) -> None:
        aim = "/security/activity"
        await bo.open(aim)
        assert bo.page.path == "/sign-in"
        await bo.send(name="bo", password="violet harbour 1927")
        await bo.send(name="bo", password=PASSWORD)
        await bo.send(code=bo.wrong_code())
        await bo.open(next(link for link in bo.page.links if "way=" in link))
        page = await bo.send(code=bo.fresh_code())
        assert page.path == aim

    async def test_where_somebody_wanted_to_go_survives_the_end_of_a_sign_in(self, bo: Person, server: Server) -> None:
        await bo.open("/security/activity")
        await bo.send(name="bo", password=PASSWORD)
        server.clock.pass_s(601)
        page = await bo.send(code=bo.code())
        assert page.status == 401
        await bo.open(next(link for link in page.links if link.startswith("/sign-in?")))
        await bo.send(name="bo", password=PASSWORD)
        assert (await bo.send(code=bo.fresh_code())).path == "/security/activity"

    async def test_after_a_recovery_code_it_is_still_known(self, bo: Person, codes: list[str]) -> None:
        await bo.open("/security/activity")
        await bo.send(name="bo", password=PASSWORD)
        page = await bo.send(code=codes[0])
        assert (page.path, "next=%2Fsecurity%2Factivity" in page.query) == ("/security", True)

    async def test_trap_41_a_second_sign_in_in_the_same_browser_ends_the_first(
        self, bo: Person, server: Server
    ) -> None:
        before = await bo.open("/sign-in")
        await bo.sign_in()
        first = bo.token
        again = await bo.send(before, name="bo", password=PASSWORD)
        assert again.path == "/sign-in/code"
        assert await server.deployment.sign_in.find(first, FIREFOX) is None


class TestSigningOut:
    async def test_looking_does_not_sign_out_and_the_button_does(self, bo: Person, server: Server) -> None:
        await bo.sign_in()
        token = bo.token
        assert (await bo.open("/sign-out")).heading == "Sign out?"
        assert await bo.is_signed_in()
        await bo.open("/sign-out")
        page = await bo.send(to="/sign-out")
        assert (page.path, page.status) == ("/sign-in", 200)
        assert "signed out" in page.text
        assert not bo.token
        # asvs 7.4.1: it is the server that forgot it.
        assert await server.deployment.sign_in.find(token, FIREFOX) is None

    async def test_asvs_14_3_1_the_browser_is_told_to_drop_what_it_kept(self, bo: Person) -> None:
        await bo.sign_in()
        page = await bo.open("/sign-out")
        form = page.form(to="/sign-out", fields={})
        data = {control["name"]: control["value"] for control in form.controls if control["name"]}
        answer = await bo.http.post("/sign-out", data=data)
        assert answer.headers["clear-site-data"] == '"cache", "storage"'
        # The browser stays known: that is worth keeping, and says nothing of who is signed in.
        assert "twofold-known" in bo.cookies

    async def test_whoever_came_there_by_mistake_stays_signed_in(self, bo: Person) -> None:
        await bo.sign_in()
        stay = (await bo.open("/sign-out")).main.only("a")
        assert stay.text == "Stay signed in"
        assert (await bo.open(stay["href"])).path == "/security"

    async def test_a_pending_sign_in_can_be_left_or_gone_on_with(self, at_code: Person, server: Server) -> None:
        token = at_code.token
        go_on = (await at_code.open("/sign-out")).main.only("a")
        assert go_on.text == "Go on"
        assert (await at_code.open(go_on["href"])).path == "/sign-in/code"
        await at_code.open("/sign-out")
        await at_code.send(to="/sign-out")
        assert await server.deployment.sign_in.find(token, FIREFOX) is None

    async def test_without_a_session_there_is_nothing_to_end(self, server: Server) -> None:
        assert (await Visitor(server).open("/sign-out")).path == "/sign-in"


class TestHelp:
    @pytest.mark.parametrize(
        ("support", "href"),
        [
            ("https://help.example.com/2fa", "https://help.example.com/2fa"),
            ("help@example.com", "mailto:help@example.com"),
            ("Call Ann, 555-0100", None),
            (None, None),
        ],
    )
    async def test_it_says_whom_to_ask(self, open_server: OpenServer, support: str | None, href: str | None) -> None:
        page = await Visitor(await open_server(support=support)).open("/sign-in/help")
        assert page.status == 200
        links = {link["href"] for link in page.main.all("a")}
        assert (href in links) if href else not any(link.startswith(("https:", "mailto:")) for link in links)
        if support:
            assert support in page.main.text

    @pytest.mark.parametrize(
        ("level", "words", "home"),
        [
            ("nobody", "Back to signing in", "/sign-in"),
            ("pending", "Back to signing in", "/sign-in/code"),
            ("enrolling", "Back", "/enroll"),
            ("full", "Back", "/security"),
        ],
    )
    async def test_it_is_open_at_every_step_and_leads_back_to_it(
        self, server: Server, level: str, words: str, home: str
    ) -> None:
        visitor = await make_visitor(server, level)
        back = (await visitor.open("/sign-in/help")).main.all("a")[-1]
        assert back.text == words
        assert (await visitor.open(back["href"])).path == home

    async def test_it_is_offered_to_whoever_is_signing_in_and_to_nobody_else(self, server: Server) -> None:
        for level, is_offered in (("nobody", True), ("pending", True), ("enrolling", False), ("full", False)):
            visitor = await make_visitor(server, level)
            page = await visitor.open("/" if level != "nobody" else "/sign-in")
            assert ("/sign-in/help" in page.links) == is_offered, level


async def test_the_same_token_from_another_kind_of_browser_is_nothing(bo: Person, server: Server) -> None:
    await bo.sign_in()
    assert await server.deployment.sign_in.find(bo.token, FIREFOX) is not None
    thief = Visitor(server, user_agent=IPHONE)
    thief.http.cookies.set("twofold-session", bo.token, domain="localhost.local")
    assert (await thief.open("/security")).status == 401
    assert await bo.is_signed_in()


async def test_a_password_alone_is_never_a_way(bo: Person, server: Server) -> None:
    account = await server.deployment.store.load("bo")
    assert account is not None
    password = next(a.id for a in account.authenticators if a.factor == FIRST_FACTOR)
    await bo.give_password()
    page = await bo.open(f"/sign-in/code?way={password}")
    assert password not in page.html


async def test_every_sentence_goes_through_the_catalogue(
    bo: Person, codes: list[str], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    monkeypatch.setattr(Page, "check", lambda page: None)  # which knows English titles only
    await add_app(server, "bo", OTHER_SECRET, label="my tablet")
    shown = [await bo.open("/sign-in"), await bo.send(name="bo", password=""), await bo.send(name="bo", password="no")]
    shown += [await bo.open("/sign-in/help"), await bo.give_password()]
    shown += [await bo.open(link) for link in bo.page.links if "way=" in link]
    shown += [await bo.send(code="x"), await bo.send(code=codes[0][:-1]), await bo.send(code=bo.wrong_code())]
    shown += [await bo.send(code=bo.wrong_code()), await bo.open("/sign-out")]
    server.clock.pass_s(601)
    shown += [await bo.open("/sign-in/code"), await bo.open("/sign-in?signed-out=1")]
    for page in shown:
        assert escaped(page.html, names=("Twofold", "UTC")) == [], page


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("111111 222222 333333", ["111111", "222222", "333333"]),
        (" 111111,222222, 333333\n", ["111111", "222222", "333333"]),
        ("111 111 222 222 333 333", ["111111", "222222", "333333"]),
        ("111-111 222-222 333-333", ["111-111", "222-222", "333-333"]),
        ("111111222222333333", ["111111", "222222", "333333"]),
        ("", []),
        ("1111", ["1111"]),
        ("111111 222222", ["111111", "222222"]),
    ],
)
def test_three_codes_are_read_however_they_are_spaced(text: str, codes: list[str]) -> None:
    assert read_codes(text) == codes
