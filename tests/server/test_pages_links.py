"""One-time links: what a look at one shows, what using it does, and what wrong ones cost."""

import logging

import pytest
from tests.pages import Page
from tests.pseudo import PseudoWords, escaped
from tests.server.conftest import Server
from tests.server.levels import make_visitor
from tests.server.visitors import ADMIN, FIREFOX, PASSWORD, Person, Visitor, add_person

from twofold.core.administration import INVITATION_TTL_S, LINK_TTL_S
from twofold.sign_in_limits import NETWORK_PER_WINDOW


async def invite(server: Server, name: str = "cy") -> str:
    _, token = await server.deployment.administration.invite(name, caller=ADMIN)
    return f"/link?token={token}"


async def invite_again(server: Server, name: str = "cy") -> str:
    return f"/link?token={await server.deployment.administration.invite_again(name, caller=ADMIN)}"


async def reset(server: Server, name: str = "bo") -> str:
    return f"/link?token={await server.deployment.administration.reset_with_link(name, caller=ADMIN)}"


async def unlock(server: Server, name: str = "bo") -> str:
    return f"/link?token={await server.deployment.administration.unlock_with_link(name, caller=ADMIN)}"


async def enroll(server: Server, visitor: Visitor) -> Page:
    page = await visitor.send(press="factor=totp")
    return await visitor.send(code=server.code(page.secret))


async def test_every_sentence_goes_through_the_catalogue(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twofold.server.words.Words.choose", PseudoWords.choose)
    monkeypatch.setattr(Page, "check", lambda page: None)  # which knows English titles only
    await add_person(server)
    visitor = Visitor(server)
    shown = [await visitor.open("/link?token=x"), await visitor.open(await invite(server))]
    shown += [await visitor.send(new_password="short")]
    shown += [await visitor.open(await link(server)) for link in (unlock, reset)]
    for page in shown:
        assert escaped(page.html) == [], page


class TestAnInvitation:
    async def test_it_leads_from_a_password_to_a_second_factor(self, server: Server) -> None:
        cy = Visitor(server)
        page = await cy.open(await invite(server))
        assert "cy" in page.heading
        page = await cy.send(new_password=PASSWORD)
        assert (page.path, page.status) == ("/enroll", 200)
        assert (await cy.open("/security")).path == "/enroll"
        await cy.open("/enroll")
        await enroll(server, cy)
        assert (await cy.open("/security")).status == 200

    async def test_looking_uses_nothing_up(self, server: Server) -> None:
        link = await invite(server)
        for _ in range(20):
            preview = Visitor(server, user_agent="Slackbot-LinkExpanding 1.0")
            assert (await preview.open(link)).status == 200
            assert (await preview.http.head(link)).status_code == 200
            assert not preview.token
        cy = Visitor(server)
        await cy.open(link)
        assert (await cy.send(new_password=PASSWORD)).path == "/enroll"

    async def test_trap_52_and_asvs_6_4_1_it_works_once(self, server: Server) -> None:
        link = await invite(server)
        first, second = Visitor(server), Visitor(server)
        for visitor in (first, second):
            await visitor.open(link)
        assert (await first.send(new_password=PASSWORD)).path == "/enroll"
        refused = await second.send(new_password="amber lighthouse 2031")
        assert (refused.status, refused.path) == (403, "/link")
        assert not second.token
        assert (await Visitor(server).open(link)).status == 403
        # The password is the first one's.
        cy = Person(server, "cy")
        assert (await cy.give_password()).path == "/enroll"

    async def test_a_newer_one_voids_it(self, server: Server) -> None:
        old, new = await invite(server), await invite_again(server)
        assert (await Visitor(server).open(old)).status == 403
        assert (await Visitor(server).open(new)).status == 200

    async def test_it_is_good_for_three_days(self, server: Server) -> None:
        link = await invite(server)
        server.clock.pass_s(INVITATION_TTL_S - 1)
        assert (await Visitor(server).open(link)).status == 200
        server.clock.pass_s(1)
        assert (await Visitor(server).open(link)).status == 403

    @pytest.mark.parametrize("password", ["", "short", "password1", "x" * 129])
    async def test_a_password_that_cannot_be_taken_leaves_the_link_as_it_is(
        self, server: Server, password: str
    ) -> None:
        cy = Visitor(server)
        await cy.open(await invite(server))
        page = await cy.send(new_password=password)
        assert (page.path, page.status) == ("/link", 422)
        assert page.title.startswith("Error: ")
        assert page.alert
        control = page.form(fields={"new_password": ""}).control("new_password")
        assert (control["aria-invalid"], control["value"]) == ("true", "")
        assert not cy.token
        assert (await cy.send(new_password=PASSWORD)).path == "/enroll"


class TestAWayBackIn:
    async def test_after_a_reset_the_old_factors_are_gone_and_the_password_stays(self, server: Server) -> None:
        codes = await add_person(server)
        bo = Person(server)
        await bo.sign_in()
        link = await reset(server)
        assert not await bo.is_signed_in()
        page = await bo.open(link)
        assert "bo" in page.heading
        assert (await bo.send(to="/link")).path == "/enroll"
        await enroll(server, bo)
        assert await bo.is_signed_in()
        again = Person(server, address="198.51.100.7")
        await again.give_password()
        assert (await again.send(code=again.fresh_code())).status == 401
        assert (await again.send(code=codes[0])).status == 401

    async def test_a_new_password_can_be_chosen_with_it(self, server: Server) -> None:
        await add_person(server)
        bo = Person(server)
        await bo.open(await reset(server))
        refused = await bo.send(new_password="short")
        assert (refused.status, refused.path) == (422, "/link")
        # What is wrong is in sight, though it stands in a part that is closed at first.
        assert "open" in refused.root.only("details").attributes
        bo.password = "amber lighthouse 2031"
        assert (await bo.send(new_password=bo.password)).path == "/enroll"
        other = Person(server, address="198.51.100.7")
        assert (await other.give_password()).status == 401
        other.password = bo.password
        assert (await other.give_password()).path == "/enroll"

    async def test_after_unlocking_it_leads_to_enrolment_alone_and_what_was_there_works(self, server: Server) -> None:
        await add_person(server)
        bo = Person(server)
        await bo.open(await unlock(server))
        assert (await bo.send(to="/link")).path == "/enroll"
        # One proof, the link, is not two: nothing but a new factor is reached by it.
        for path in ("/security", "/security/recovery-codes", "/security/password"):
            assert (await bo.open(path)).path == "/enroll"
        await Person(server, address="198.51.100.7").sign_in()

    async def test_it_is_good_for_a_quarter_of_an_hour(self, server: Server) -> None:
        await add_person(server)
        link = await reset(server)
        server.clock.pass_s(LINK_TTL_S - 1)
        assert (await Visitor(server).open(link)).status == 200
        server.clock.pass_s(1)
        assert (await Visitor(server).open(link)).status == 403

    @pytest.mark.parametrize("event", ["disabled", "signed_out_everywhere", "compromised", "password_changed"])
    async def test_a_new_epoch_voids_it(self, server: Server, event: str) -> None:
        await add_person(server)
        link = await reset(server)
        await server.deployment.verifier.accounts.record_event("bo", event)  # type: ignore[arg-type]
        assert (await Visitor(server).open(link)).status == 403

    async def test_an_account_that_is_gone_has_none(self, server: Server) -> None:
        await add_person(server)
        link = await reset(server)
        await server.deployment.verifier.accounts.delete("bo", caller=ADMIN)
        assert (await Visitor(server).open(link)).status == 403

    async def test_trap_41_the_session_of_before_ends(self, server: Server) -> None:
        await add_person(server)
        full = await make_visitor(server, "full")
        before = full.token
        await full.open(await unlock(server))
        assert (await full.send(to="/link")).path == "/enroll"
        assert await server.deployment.sign_in.find(before, FIREFOX) is None


class TestWrongLinks:
    @pytest.mark.parametrize(
        "token",
        ["", "x", ".", "YQ.", ".secret", "Ym8.wrong", "bm9ib2R5.wrong", "%00.x", "%FF.x", "a" * 3000, "=.=", "Ym8"],
    )
    async def test_a_token_of_no_link_is_told_so(self, server: Server, token: str) -> None:
        await add_person(server)
        link = await reset(server)
        page = await Visitor(server).open(f"/link?token={token}")
        assert (page.status, page.fields) == (403, set())
        assert "new link" in page.text
        assert (await Visitor(server).open(link)).status == 200

    async def test_asvs_6_3_8_a_known_and_an_unknown_name_are_refused_alike(self, server: Server) -> None:
        await add_person(server)
        await reset(server)
        known = await Visitor(server).open("/link?token=Ym8.wrong")
        unknown = await Visitor(server).open("/link?token=bm9ib2R5.wrong")
        assert (known.status, known.html) == (unknown.status, unknown.html)

    async def test_the_secret_of_one_persons_link_is_none_of_anothers(self, server: Server) -> None:
        await add_person(server)
        await add_person(server, "cy")
        link = await reset(server)
        await reset(server, "cy")
        _, _, secret = link.partition(".")
        assert (await Visitor(server).open(f"/link?token=Y3k.{secret}")).status == 403
        assert (await Visitor(server).open(f"/link?token=Ym8.{secret}")).status == 200

    async def test_asvs_9_2_2_a_token_of_another_kind_is_no_link(self, server: Server) -> None:
        full = await make_visitor(server, "full")
        for value in (*full.cookies.values(), *(f"dGhlLWZ1bGw.{value}" for value in full.cookies.values())):
            assert (await Visitor(server).open(f"/link?token={value}")).status == 403

    async def test_one_that_is_sent_is_logged_without_the_token(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        visitor = Visitor(server)
        page = await visitor.open(await invite(server))
        caplog.set_level(logging.INFO, "twofold.sign_in")
        assert (await visitor.send(page, token="Ym8.guess", new_password=PASSWORD)).status == 403
        assert caplog.messages == ["refused sign-in from 203.0.113.9: wrong_link"]

    async def test_looking_at_wrong_ones_counts_for_nothing_or_any_page_could_shut_its_visitors_out(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "twofold.sign_in")
        visitor = Visitor(server)
        for number in range(NETWORK_PER_WINDOW + 1):
            path = ("/link", "/setup")[number % 2]
            assert (await visitor.open(f"{path}?token=Y3k.guess{number}")).status == 403
        assert caplog.messages == []
        assert (await visitor.open("/sign-in")).status == 200

    async def test_many_that_are_sent_refuse_the_network_like_passwords(self, server: Server) -> None:
        link = await invite(server)
        guesser, neighbor = Visitor(server, address="198.51.100.66"), Visitor(server)
        page = await guesser.open(link)
        for number in range(NETWORK_PER_WINDOW):
            sent = await guesser.send(page, token=f"Y3k.guess{number}", new_password=PASSWORD)
            assert sent.status == 403
        assert (await guesser.send(page, token="Y3k.another", new_password=PASSWORD)).status == 429
        assert (await guesser.open(link)).status == 429
        assert (await guesser.open("/sign-in")).status == 429
        await neighbor.open(link)
        assert (await neighbor.send(new_password=PASSWORD)).path == "/enroll"

    async def test_one_old_link_opened_again_and_again_is_no_attack(self, server: Server) -> None:
        old = await invite(server)
        new = await invite_again(server)
        visitor = Visitor(server)
        for _ in range(30):
            assert (await visitor.open(old)).status == 403
        assert (await visitor.open(new)).status == 200

    async def test_a_form_whose_link_was_used_meanwhile_counts_as_a_wrong_one(
        self, server: Server, caplog: pytest.LogCaptureFixture
    ) -> None:
        cy = Visitor(server)
        page = await cy.open(await invite(server))
        await invite_again(server)
        caplog.set_level(logging.INFO, "twofold.sign_in")
        assert (await cy.send(page, new_password=PASSWORD)).status == 403
        assert caplog.messages == ["refused sign-in from 203.0.113.9: wrong_link"]


async def test_the_name_is_shown_as_text(server: Server) -> None:
    name = "<img src=x onerror=alert(1)>"
    page = await Visitor(server).open(await invite(server, name))
    assert (page.status, "<img" in page.html) == (200, False)
    assert name in page.heading


async def test_what_is_kept_is_no_link(server: Server) -> None:
    link = await invite(server)
    _, _, secret = link.partition(".")
    stored = b"".join(file.read_bytes() for file in server.deployment.settings.data_dir.iterdir())
    assert secret.encode() not in stored


async def test_an_administrators_link_is_told_to_the_audit_log(server: Server) -> None:
    await add_person(server)
    bo = Visitor(server)
    await bo.open(await reset(server))
    await bo.send(to="/link")
    events = await server.deployment.verifier.accounts.events("bo")
    assert [event.kind for event in events][-3:] == ["account.reset", "link.made", "link.used"]
