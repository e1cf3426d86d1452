"""The pages of a hosted prompt: one browser, one link, one way back, and nothing else."""

import asyncio

import pytest
from tests.server.askers import BACK, Answerer, Asker, asked
from tests.server.conftest import URL, Server
from tests.server.passkey_holders import add_passkey
from tests.server.visitors import FIREFOX, IPHONE

from twofold.core.prompt import PROMPT_TTL_S
from twofold.core.session import PENDING_TTL_S
from twofold.core.ticket import TICKET_TTL_S


async def count_sessions(server: Server, account_id: str = "alice") -> int:
    return len(await server.deployment.store.list_sessions(account_id))


class TestTheWayThroughIt:
    async def test_a_code_leads_back_with_code_and_state(self, server: Server) -> None:
        _, alice, link = await asked(server)
        page = await alice.open(link)
        assert "test asks whether you are alice" in page.text
        assert "Somebody else" not in page.text
        page = await alice.send(code=alice.fresh_code())
        assert alice.back.startswith(f"{BACK}?code=")
        assert (set(alice.told), alice.told["state"]) == ({"code", "state"}, "s1")
        assert page.links[-1] == alice.back
        assert not alice.token
        assert await count_sessions(server) == 0

    async def test_a_wrong_code_stays_where_it_is(self, server: Server) -> None:
        _, alice, link = await asked(server)
        await alice.open(link)
        page = await alice.send(code=alice.wrong_code())
        assert (page.status, page.path.rpartition("/prompt/")[2].partition("/")[2]) == (401, "sign-in/code")
        await alice.send(code=alice.fresh_code())
        assert alice.told["code"]

    async def test_who_has_no_second_factor_enrolls_and_keeps_the_codes(self, server: Server) -> None:
        await server.call("PUT", "accounts/alice", {"display_name": "Alice A."})
        shop = await Asker.open(server)
        alice = Answerer(server)
        code = await alice.enroll(await shop.ask(enroll=True))
        answer = (await shop.redeem(code)).json()
        assert (answer["verified"], answer["factor"], answer["enrolled"]) == (True, "totp", True)
        again = Answerer(server, secret=alice.secret)
        assert (await shop.redeem(await again.answer(await shop.ask(enroll=True)))).json()["enrolled"] is False

    async def test_the_page_calls_her_by_her_name(self, server: Server) -> None:
        await server.call("PUT", "accounts/4711", {"display_name": "Alice A."})
        alice = Answerer(server)
        page = await alice.open(await (await Asker.open(server)).ask("4711", enroll=True))
        assert "asks whether you are Alice A." in page.text
        assert "4711" not in page.text

    async def test_sent_again_the_first_code_shows_the_recovery_codes_again(self, server: Server) -> None:
        await server.call("PUT", "accounts/alice", {})
        alice = Answerer(server)
        await alice.open(await (await Asker.open(server)).ask(enroll=True))
        page = await alice.send(press="factor=totp")
        alice.secret = page.secret
        first = (await alice.send(page, code=alice.code())).recovery_codes
        assert len(first) == 10
        assert (await alice.send(page, code=alice.code())).recovery_codes == first

    async def test_a_passkey_answers_for_what_it_is(self, server: Server) -> None:
        shop, alice, link = await asked(server)
        await add_passkey(server, "alice", alice.authenticator)
        await alice.open(link)
        await alice.show_passkey()
        answer = (await shop.redeem(alice.told["code"])).json()
        assert (answer["factor"], answer["user_verified"]) == ("webauthn", True)
        redeem = {"receipt": answer["receipt"], "purpose": None, "binding": "c2Vzc2lvbi0x"}
        stated = (await server.post("receipts/redeem", redeem, key=shop.key)).json()
        assert (stated["amr"], stated["acr"]) == (["hwk", "user", "mfa"], "urn:nist:aal2")

    async def test_a_passkey_can_be_the_first_factor_of_all(self, server: Server) -> None:
        await server.call("PUT", "accounts/alice", {})
        shop, alice = await Asker.open(server), Answerer(server)
        await alice.open(await shop.ask(enroll=True))
        await alice.send(press="factor=webauthn")
        await alice.show_passkey()
        await alice.send(saved=True)
        answer = (await shop.redeem(alice.told["code"])).json()
        assert (answer["factor"], answer["enrolled"], answer["user_verified"]) == ("webauthn", True, True)

    async def test_canceling_leads_back_and_says_so(self, server: Server) -> None:
        _, alice, link = await asked(server)
        await alice.open(link)
        page = await alice.open(f"{link}/sign-out")
        assert page.heading == "Back without an answer?"
        await alice.send(to=f"{link.removeprefix(URL)}/sign-out")
        assert alice.told == {"error": "access_denied", "state": "s1"}
        assert alice.back.startswith(BACK)
        assert await count_sessions(server) == 0
        assert (await alice.open(f"{link}/sign-in/code")).status == 401

    async def test_the_answer_goes_behind_a_query_that_is_there(self, server: Server) -> None:
        await server.add()
        url = "https://shop.example/index.php?route=2fa/back"
        shop, alice = await Asker.open(server, return_to=(url,)), Answerer(server)
        await alice.answer(await shop.ask(return_to=url))
        assert alice.back.startswith(f"{url}&code=")

    async def test_codes_that_ran_out_and_offers_lead_back_too(self, server: Server) -> None:
        _, alice, link = await asked(server)
        renewed = await server.post("accounts/alice/recovery-codes", {})
        page = await alice.open(link)
        assert not page.root.all("input", name="able")
        await alice.send(code=renewed.json()["recovery_codes"][3])
        assert alice.told["code"]

    async def test_every_page_there_leads_on(self, server: Server) -> None:
        _, alice, link = await asked(server)
        await alice.open(link)
        for path in ("/sign-in/help", "/sign-out", "/sign-in/code"):
            page = await alice.open(link + path)
            assert page.status == 200
            for href in page.links:
                target = (await alice.http.get(href)).status_code if href.startswith("/") else 200
                assert target in (200, 302, 303), (path, href)


class TestOneBrowser:
    async def test_only_the_first_browser_that_opens_the_link_goes_on(self, server: Server) -> None:
        _, alice, link = await asked(server)
        await alice.open(link)
        other = Answerer(server)
        page = await other.open(link)
        assert (page.status, page.heading) == (403, "This link cannot be used any more")
        assert not other.token
        assert (await other.open(f"{link}/sign-in/code")).status == 401
        assert (await alice.open(link)).status == 200
        await alice.send(code=alice.fresh_code())
        assert alice.told["code"]

    async def test_of_many_browsers_at_once_one_gets_it(self, server: Server) -> None:
        _, _, link = await asked(server)
        browsers = [Answerer(server) for _ in range(8)]
        pages = await asyncio.gather(*(browser.open(link) for browser in browsers))
        assert sorted(page.status for page in pages) == [200, *[403] * 7]
        assert await count_sessions(server) == 1

    @pytest.mark.parametrize(
        ("method", "headers"),
        [("HEAD", {}), ("GET", {"sec-purpose": "prefetch;prerender"}), ("GET", {"purpose": "prefetch"})],
    )
    async def test_looking_ahead_does_not_use_the_link_up(
        self, server: Server, method: str, headers: dict[str, str]
    ) -> None:
        _, alice, link = await asked(server)
        ahead = await Answerer(server).http.request(method, link, headers=headers)
        assert ahead.status_code == 403
        assert (await alice.open(link)).status == 200

    async def test_a_link_opens_for_five_minutes(self, server: Server) -> None:
        shop, alice, link = await asked(server)
        server.clock.pass_s(TICKET_TTL_S)
        page = await alice.open(link)
        assert (page.status, "within five minutes" in page.text) == (403, True)
        later = await shop.ask()
        server.clock.pass_s(TICKET_TTL_S - 1)
        assert (await alice.open(later)).status == 200

    async def test_it_is_answered_within_ten_minutes_more(self, server: Server) -> None:
        shop, alice, link = await asked(server)
        await alice.open(link)
        server.clock.pass_s(PENDING_TTL_S)
        page = await alice.open(f"{link}/sign-in/code")
        assert (page.status, page.heading) == (401, "This is over")
        again = await shop.ask()
        await alice.open(again)
        server.clock.pass_s(PENDING_TTL_S - 31)
        await alice.send(code=alice.fresh_code())
        assert alice.told["code"]

    async def test_enrolling_in_it_has_the_same_end(self, server: Server) -> None:
        await server.call("PUT", "accounts/alice", {})
        alice = Answerer(server)
        link = await (await Asker.open(server)).ask(enroll=True)
        await alice.open(link)
        server.clock.pass_s(PROMPT_TTL_S - 1)
        assert (await alice.open(f"{link}/enroll")).status == 200
        server.clock.pass_s(1)
        assert (await alice.open(f"{link}/enroll")).status == 401

    async def test_a_proof_that_nobody_took_back_for_ten_minutes_is_too_old(self, server: Server) -> None:
        await server.call("PUT", "accounts/alice", {})
        alice = Answerer(server)
        link = await (await Asker.open(server)).ask(enroll=True)
        await alice.open(link)
        await alice.send(press="factor=totp")
        alice.secret = alice.page.secret
        page = await alice.send(code=alice.code())
        server.clock.pass_s(PENDING_TTL_S)
        page = await alice.send(page, saved=True)
        assert (page.status, page.heading) == (401, "This is over")

    async def test_a_link_is_void_once_the_account_was_secured_anew(self, server: Server) -> None:
        shop, alice, link = await asked(server)
        await server.post("accounts/alice/events", {"type": "compromised"})
        assert (await alice.open(link)).status == 403
        link = await shop.ask()
        await alice.open(link)
        await server.post("accounts/alice/events", {"type": "compromised"})
        assert (await alice.open(f"{link}/sign-in/code")).status == 401

    async def test_of_two_that_enroll_the_second_is_over_when_the_first_has(self, server: Server) -> None:
        """Mallory knows alice's password, and waits in a prompt of his until one code of hers comes his way."""
        await server.call("PUT", "accounts/alice", {})
        shop, mallory, alice = await Asker.open(server), Answerer(server), Answerer(server)
        his = await shop.ask(enroll=True)
        await mallory.open(his)
        form = await mallory.send(press="factor=totp")
        mallory.secret = form.secret
        assert (await mallory.open(f"{his}/enroll")).status == 200
        await alice.enroll(await shop.ask(enroll=True))
        for path in ("", "/enroll", "/enroll/totp"):
            page = await mallory.open(his + path)
            assert (page.status, page.heading) == (401, "This is over")
        assert (await mallory.send(form, code=mallory.code())).status == 401
        active = (await server.get("accounts/alice")).json()["authenticators"]
        assert [each["state"] for each in active].count("active") == 1

    async def test_a_revoked_key_asks_nobody_any_more(self, server: Server) -> None:
        await server.call("PUT", "accounts/alice", {})
        shop, alice = await Asker.open(server), Answerer(server)
        link, unopened = await shop.ask(enroll=True), await shop.ask(enroll=True)
        assert (await alice.open(link)).status == 200
        form = await alice.send(press="factor=totp")
        alice.secret = form.secret
        await server.deployment.applications.revoke(shop.id)
        assert (await alice.send(form, code=alice.code())).status == 403
        page = await alice.open(unopened)
        assert (page.status, page.heading) == (403, "This link is not right")
        assert (await server.get("accounts/alice")).json()["state"] == "empty"

    @pytest.mark.parametrize("event", ["disabled", "removed"])
    async def test_it_says_why_it_cannot_begin(self, server: Server, event: str) -> None:
        _, alice, link = await asked(server)
        authenticator_id = (await server.get("accounts/alice")).json()["authenticators"][0]["id"]
        if event == "disabled":
            await server.post("accounts/alice/events", {"type": "disabled"})
        else:
            await server.call("DELETE", f"accounts/alice/authenticators/{authenticator_id}")
        page = await alice.open(link)
        assert page.status == 403
        assert ("is disabled" if event == "disabled" else "no second factor") in page.text
        assert f"{BACK}?error=access_denied" in page.links

    async def test_another_kind_of_browser_with_the_cookie_is_nobody(self, server: Server) -> None:
        _, alice, link = await asked(server)
        await alice.open(link)
        for user_agent, status in ((IPHONE, 401), (FIREFOX, 200)):
            thief = Answerer(server, user_agent=user_agent)
            thief.http.cookies.set("twofold-prompt", alice.token, domain="localhost.local")
            assert (await thief.open(f"{link}/sign-in/code")).status == status

    @pytest.mark.parametrize("link", ["", "x", "ticket-00000000.AAAA", "%00", "a.b/sign-in/code", "\u00e4"])
    async def test_what_is_no_link_of_ours_is_told_so(self, server: Server, link: str) -> None:
        page = await Answerer(server).open(f"/prompt/{link}")
        assert page.status == (404 if link == "" else 403)
        assert not page.headers.get("set-cookie", "").startswith("twofold-prompt")


class TestSwaps:
    async def test_two_prompts_in_one_browser_are_not_mixed_up(self, server: Server) -> None:
        """Somebody leads alice to a prompt of his while hers is open: her code never counts for his."""
        shop, alice, link = await asked(server)
        await server.add("mallory", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJR")
        form = await alice.open(link)
        his = await shop.ask("mallory")
        page = await alice.open(his)
        assert "mallory" in page.text
        assert (await alice.send(form, code=alice.fresh_code())).status == 401
        assert (await alice.open(f"{link}/sign-in/code")).status == 401
        events = await server.deployment.verifier.accounts.events("mallory")
        assert "code.accepted" not in [event.kind for event in events]

    async def test_the_form_of_one_prompt_is_not_taken_by_another_of_the_same_person(self, server: Server) -> None:
        shop, alice, link = await asked(server)
        form = await alice.open(link)
        other = await shop.ask()
        await alice.open(other)
        pairs = form.form(fields={"code": ""}).filled({"code": alice.fresh_code()}, form.forms[0].buttons[0])
        page = await alice.post(f"{other}/sign-in/code", pairs)
        assert (page.status, page.heading) == (403, "That form cannot be used any more")

    async def test_the_session_of_a_prompt_counts_under_its_own_link_alone(self, server: Server) -> None:
        shop, alice, link = await asked(server)
        await alice.open(link)
        for other in (await shop.ask(), await (await Asker.open(server)).ask(), await shop.ask(enroll=True)):
            answer = await alice.http.get(f"{other}/sign-in/code")
            assert answer.status_code == 401
        assert (await alice.http.get(f"{link}/sign-in/code")).status_code == 200

    async def test_a_code_goes_to_no_session_but_the_one_that_asked(self, server: Server) -> None:
        """Mallory knows alice's password, and has her answer his prompt: his session has no code, hers no verifier."""
        shop, alice, link = await asked(server)
        code = await alice.answer(link)
        refused = await shop.redeem(code, code_verifier="", binding="")
        assert (refused.status_code, refused.json()["code"]) == (403, "prompt_mismatch")
        # Should he see it in time after all: it is void already.
        assert (await shop.redeem(code)).status_code == 409
