"""The calls of hosted prompts: who may open one for whom, and what a code is exchanged for, once."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.server.askers import BACK, BINDING, VERIFIER, Answerer, Asker, challenge_of
from tests.server.conftest import START_S, URL, OpenServer, Server, assert_problem
from tests.server.shops import Shop
from tests.server.test_step_up import read_receipt

from twofold.applications import RETURN_TO_MAX
from twofold.core.prompt import CODE_TTL_S, STATE_MAX
from twofold.engine import Caller
from twofold.errors import InvalidInput


class TestReturnAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            BACK,
            "https://shop.example:8443/",
            "https://shop.example/a%20b/c;d?route=2fa/back&x=%2F",
            "https://shop.example/*",
            "http://localhost:5000/back",
            "http://127.0.0.1:5000/back",
            "http://[::1]:5000/back",
            "https://192.0.2.7/back",
            "https://shop.example/" + "a" * (RETURN_TO_MAX - 21),
        ],
    )
    async def test_an_address_is_kept_as_it_is(self, server: Server, url: str) -> None:
        application, key = await server.deployment.applications.create("shop", return_to=[url, url])
        assert application.return_to == (url,)
        assert await server.deployment.applications.authenticate(key) == application

    @pytest.mark.parametrize(
        "url",
        [
            "",
            "shop.example/back",
            "//shop.example/back",
            "http://shop.example/back",
            "http://localhost.evil.example/back",
            "http://192.168.0.7/back",
            "ftp://shop.example/back",
            "javascript:alert(1)//shop.example/back",
            "HTTPS://shop.example/back",
            "https://SHOP.example/back",
            "https://shop.example",
            "https://shop.example/back#",
            "https://shop.example/back#there",
            "https://shop@evil.example/back",
            "https://shop:pass@evil.example/back",
            "https:///back",
            "https://shop.example\\@evil.example/back",
            "https://shop.example/\\evil",
            "https://shop.example/a/../back",
            "https://shop.example/./back",
            "https://shop.example/%2e%2E/back",
            "https://shop.example/%zz",
            "https://shop.example/back ",
            " https://shop.example/back",
            "https://shop.example/back\n",
            "https://shop.example/b\tack",
            "https://shöp.example/back",
            "https://shop.example/back?code=mine",
            "https://shop.example/back?a=b&state=mine",
            "https://shop.example/back?error",
            "https://shop.example/back?%63ode=mine",
            "https://shop.example/" + "a" * (RETURN_TO_MAX - 20),
        ],
    )
    async def test_what_two_programs_could_read_in_two_ways_is_refused(self, server: Server, url: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            await server.deployment.applications.create("shop", return_to=[url])
        assert refused.value.field == "return_to"

    @pytest.mark.parametrize(
        "url",
        [
            BACK + "/",
            BACK + "/more",
            BACK + "?x=1",
            BACK + "?",
            BACK + "#",
            BACK[:-1],
            BACK.upper(),
            BACK.replace("shop", "Shop"),
            BACK.replace("https", "http"),
            BACK.replace("shop.example", "shop.example:443"),
            BACK.replace("shop.example", "shop.example."),
            BACK.replace("shop.example", "shop.example.evil.example"),
            BACK.replace("shop.example", "shop.example@evil.example"),
            BACK.replace("//", "//evil@"),
            BACK.replace("/back", "/x/../back"),
            BACK.replace("/back", "/b%61ck"),
            BACK + " ",
            "",
            "/2fa/back",
            "https://shop.example/*/x",
        ],
    )
    async def test_nothing_but_exactly_a_registered_address_will_do(self, server: Server, url: str) -> None:
        await server.add()
        shop = await Asker.open(server, return_to=(BACK, "https://shop.example/*"))
        problem = assert_problem(await shop.begin(return_to=url), 422, "invalid")
        assert problem["field"] == "return_to"
        assert (await shop.begin()).status_code == 201

    async def test_the_address_of_another_application_will_not_do(self, server: Server) -> None:
        await server.add()
        other = await Asker.open(server, return_to=("https://other.example/back",))
        await Asker.open(server)
        assert_problem(await other.begin(), 422, "invalid")
        assert_problem(await (await Asker.open(server, return_to=())).begin(), 422, "invalid")

    async def test_keys_from_before_there_were_prompts_go_on(self, server: Server) -> None:
        applications = server.deployment.applications
        application, key = await applications.create("shop", origins=["https://shop.example"], rate_per_s=5)
        secret = key.split("_", 2)[2]
        before = msgspec.structs.asdict(msgspec.structs.replace(application, mac=b""))
        assert before.pop("return_to") == ()
        digest = server.deployment.keyring.index_digest(b"application", secret.encode(), msgspec.json.encode(before))
        assert application.mac == digest
        widened = msgspec.structs.replace(application, return_to=(BACK,))
        await server.deployment.store.revoke_application(application.id)
        await server.deployment.store.add_application(widened)
        assert await applications.authenticate(key) is None


class TestOpening:
    async def test_a_prompt_is_a_link_that_opens_for_five_minutes(self, server: Server) -> None:
        await server.add()
        begun = (await (await Asker.open(server)).begin()).json()
        assert begun["url"].startswith(f"{URL}/prompt/")
        assert begun["expires_at"] == "2026-01-01T00:05:00Z"

    async def test_it_takes_the_scope_verify_and_to_enroll_in_it_enroll_too(self, server: Server) -> None:
        await server.add()
        for scopes in (["enroll"], ["admin"], ["enroll", "admin"]):
            shop = await Asker.open(server, *scopes)
            assert_problem(await shop.begin(), 403, "forbidden")
            assert_problem(await shop.redeem("x"), 403, "forbidden")
        for scopes in (["verify"], ["verify", "admin"]):
            shop = await Asker.open(server, *scopes)
            assert_problem(await shop.begin(enroll=True), 403, "forbidden")
            assert (await shop.begin()).status_code == 201
        assert (await (await Asker.open(server)).begin(enroll=True)).status_code == 201

    async def test_who_has_no_second_factor_is_asked_only_to_enroll(self, server: Server) -> None:
        await server.call("PUT", "accounts/alice", {})
        shop = await Asker.open(server)
        assert_problem(await shop.begin(), 409, "no_factor")
        assert (await shop.begin(enroll=True)).status_code == 201
        assert_problem(await shop.begin("nobody", enroll=True), 404, "not_found")
        await server.post("accounts/alice/events", {"type": "disabled"})
        assert_problem(await shop.begin(enroll=True), 409, "disabled")

    async def test_who_has_nothing_but_passkeys_of_another_address_cannot_answer_here(self, server: Server) -> None:
        shop = await Shop.open(server)
        await shop.add()
        desk = await Asker.open(server)
        assert (await desk.begin()).status_code == 201, "a recovery code would do"
        view = await server.deployment.verifier.accounts.get("alice")
        codes = next(a.id for a in view.authenticators if a.factor == "recovery_codes")
        await server.deployment.verifier.revoke("alice", codes, caller=Caller(is_admin=True))
        assert_problem(await desk.begin(enroll=True), 409, "no_factor")
        await server.add()
        assert (await desk.begin()).status_code == 201

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("code_challenge", None),
            ("code_challenge", ""),
            ("code_challenge", VERIFIER[:42]),
            ("code_challenge", VERIFIER[:43] + "="),
            ("code_challenge", challenge_of(VERIFIER)[:-1] + "."),
            ("code_challenge", challenge_of(VERIFIER) + "\n"),
            ("code_challenge_method", "plain"),
            ("state", ""),
            ("state", "a b"),
            ("state", "s" * (STATE_MAX + 1)),
            ("state", "\u00e4"),
            ("binding", None),
            ("binding", ""),
            ("binding", "b" * 129),
            ("purpose", ""),
            ("purpose", "a\nb"),
            ("account", None),
            ("account", "a/b"),
            ("account", ""),
            ("more", "x"),
        ],
    )
    async def test_what_is_missing_or_malformed_is_named(self, server: Server, field: str, value: Any) -> None:
        await server.add()
        shop = await Asker.open(server)
        problem = assert_problem(await shop.begin(**{field: value}), 422, "invalid")
        assert problem["field"] == field

    async def test_state_may_be_left_out_and_is_long_enough_for_a_token(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        alice = Answerer(server)
        await alice.answer(await shop.ask(state=None))
        assert set(alice.told) == {"code"}
        await alice.answer(await shop.ask(state="~" * STATE_MAX))
        assert alice.told["state"] == "~" * STATE_MAX

    async def test_opening_writes_nothing_but_under_an_idempotency_key(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        before = await server.deployment.store.load("alice")
        await shop.ask()
        assert await server.deployment.store.load("alice") == before
        one, again = [(await shop.begin(headers={"idempotency-key": "k"})).json() for _ in range(2)]
        assert one == again
        assert (await shop.begin(headers={"idempotency-key": "l"})).json() != one


class TestRedeeming:
    async def test_a_code_is_worth_the_answer_of_verify_with_its_receipt(self, server: Server) -> None:
        authenticator_id = await server.add()
        shop = await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask(purpose="pay"))
        server.clock.pass_s(5)
        answer = (await shop.redeem(code)).json()
        claims = await read_receipt(server, answer.pop("receipt"))
        assert answer == {
            "verified": True,
            "factor": "totp",
            "authenticator_id": authenticator_id,
            "browser": None,
            "account_id": "alice",
            "enrolled": False,
        }
        assert claims.pop("jti")
        assert claims.pop("epoch")
        assert claims == {
            "iss": URL,
            "aud": shop.id,
            "sub": "alice",
            "iat": START_S + 35,
            "exp": START_S + 155,
            "auth_time": START_S + 30,
            "amr": ["otp"],
            "acr": "urn:nist:aal1",
            "via": authenticator_id,
            "purpose": "pay",
            "bnd": BINDING,
        }

    async def test_the_receipt_is_redeemed_and_steps_up_like_one_of_verify(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        paid = (await shop.redeem(await Answerer(server).answer(await shop.ask(purpose="pay")))).json()
        redeem = {"receipt": paid["receipt"], "purpose": "pay", "binding": BINDING}
        other = await Asker.open(server)
        assert_problem(await server.post("receipts/redeem", redeem, key=other.key), 403, "receipt_mismatch")
        assert (await server.post("receipts/redeem", redeem, key=shop.key)).status_code == 200
        managing = (await shop.redeem(await Answerer(server).answer(await shop.ask(purpose="manage")))).json()
        renewing = {"step_up": managing["receipt"]}
        assert (await server.post("accounts/alice/recovery-codes", renewing, key=shop.key)).status_code == 201

    async def test_of_many_redemptions_at_once_one_succeeds(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask())
        answers = await asyncio.gather(*(shop.redeem(code) for _ in range(8)))
        assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
        assert_problem(await shop.redeem(code), 409, "prompt_used")

    @pytest.mark.parametrize(
        "change",
        [
            {"code_verifier": "another-verifier-of-another-session-00000000"},
            {"code_verifier": challenge_of(VERIFIER)},
            {"code_verifier": VERIFIER + "0"},
            {"code_verifier": VERIFIER[:-1]},
            {"code_verifier": VERIFIER + "\n"},
            {"code_verifier": "\u00e4" * 43},
            {"code_verifier": ""},
            {"binding": "c2Vzc2lvbi0y"},
            {"binding": ""},
            {"binding": "\u00e4"},
        ],
    )
    async def test_without_verifier_and_binding_of_the_session_that_asked_it_is_void(
        self, server: Server, change: dict[str, str]
    ) -> None:
        """It came back in another browser. Whoever asked for it must not get at it there."""
        await server.add()
        shop = await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask())
        assert_problem(await shop.redeem(code, **change), 403, "prompt_mismatch")
        assert_problem(await shop.redeem(code), 409, "prompt_used")
        *_, last = await server.deployment.verifier.accounts.events("alice")
        assert last.kind == "prompt.refused"
        assert (await shop.redeem(await Answerer(server).answer(await shop.ask()))).status_code == 200

    async def test_another_application_cannot_redeem_it(self, server: Server) -> None:
        await server.add()
        shop, other = await Asker.open(server), await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask())
        assert_problem(await other.redeem(code), 403, "prompt_mismatch")
        assert (await shop.redeem(code)).status_code == 200

    async def test_a_code_changed_anywhere_or_another_kind_of_ticket_is_none(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        link = await shop.ask()
        code = await Answerer(server).answer(link)
        for position in range(len(code) - 40, len(code)):
            flipped = "A" if code[position] != "A" else "B"
            forged = code[:position] + flipped + code[position + 1 :]
            assert_problem(await shop.redeem(forged), 403, "prompt_mismatch")
        for none in ("", "x", "ticket-00000000.AAAA", "\u00e4", link.rpartition("/")[2]):
            assert_problem(await shop.redeem(none), 403, "prompt_mismatch")
        assert (await shop.redeem(code)).status_code == 200
        asked = await server.post("challenges/answer", {"challenge": code, "credential": CREDENTIAL}, key=shop.key)
        assert_problem(asked, 422, "invalid")

    async def test_a_code_lives_a_minute(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        for wait_s, status in ((CODE_TTL_S - 1, 200), (CODE_TTL_S, 403)):
            code = await Answerer(server).answer(await shop.ask())
            server.clock.pass_s(wait_s)
            assert (await shop.redeem(code)).status_code == status

    @pytest.mark.parametrize("event", ["password_changed", "signed_out_everywhere", "compromised"])
    async def test_a_code_is_void_once_the_account_was_secured_anew(self, server: Server, event: str) -> None:
        await server.add()
        shop = await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask())
        await server.post("accounts/alice/events", {"type": event})
        assert_problem(await shop.redeem(code), 403, "prompt_mismatch")

    async def test_a_code_is_void_once_what_earned_it_was_removed(self, server: Server) -> None:
        authenticator_id = await server.add()
        shop = await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask())
        await server.call("DELETE", f"accounts/alice/authenticators/{authenticator_id}")
        assert_problem(await shop.redeem(code), 403, "prompt_mismatch")

    async def test_a_deleted_account_has_no_codes(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask())
        await server.call("DELETE", "accounts/alice")
        assert_problem(await shop.redeem(code), 403, "prompt_mismatch")

    async def test_a_lost_answer_is_repeated_under_its_idempotency_key(self, server: Server) -> None:
        await server.add()
        shop = await Asker.open(server)
        code = await Answerer(server).answer(await shop.ask())
        one, again = [(await shop.redeem(code, headers={"idempotency-key": "k"})).json() for _ in range(2)]
        assert one["verified"] is True
        assert one == again

    async def test_a_recovery_code_tells_how_many_are_left(self, open_server: OpenServer) -> None:
        server = await open_server()
        await server.add()
        shop = await Asker.open(server)
        renewed = await server.post("accounts/alice/recovery-codes", {})
        alice = Answerer(server)
        await alice.open(await shop.ask())
        await alice.send(code=renewed.json()["recovery_codes"][0])
        answer = (await shop.redeem(alice.told["code"])).json()
        assert (answer["factor"], answer["recovery_codes_left"]) == ("recovery_codes", 9)


CREDENTIAL = {
    "id": "AAAA",
    "rawId": "AAAA",
    "type": "public-key",
    "response": {"clientDataJSON": "AAAA", "authenticatorData": "AAAA", "signature": "AAAA"},
    "clientExtensionResults": {},
}
