"""Passkeys over the API under attack: each answer is refused with its reason and changes nothing; the owner gets in."""

from typing import Any

import pytest
from tests.lying_authenticator import LyingAuthenticator
from tests.server.conftest import URL, Server, assert_problem
from tests.server.shops import Json, Shop

PHISHING = {
    "another host": "https://evil.example",
    "the name inside another": "https://shop.example.evil.com",
    "the name at the end of another": "https://evilshop.example",
    "a name below": "https://www.shop.example",
    "another port": "https://shop.example:8443",
    "plain http": "http://shop.example",
    "a slash": "https://shop.example/",
    "a dot": "https://shop.example.",
    "capitals": "https://SHOP.example",
    "Twofold's own": URL,
    "nothing": "null",
}


@pytest.fixture
async def shop(server: Server) -> Shop:
    shop = await Shop.open(server)
    await shop.add()
    return shop


def refused(reason: str) -> Json:
    return {"verified": False, "reason": reason}


async def assert_the_owner_gets_in(shop: Shop, account_id: str = "alice") -> None:
    assert (await shop.sign_in(account_id))["verified"] is True


async def document(shop: Shop, account_id: str = "alice") -> Any:
    """All that an answer may not change: neither spent nor counted nor let in."""
    account = await shop.server.deployment.store.load(account_id)
    assert account is not None
    return account.authenticators, account.spent, account.known_browsers, account.lane, account.epoch


@pytest.mark.parametrize("origin", PHISHING.values(), ids=PHISHING)
async def test_trap_57_an_answer_made_elsewhere_is_refused_and_changes_nothing(shop: Shop, origin: str) -> None:
    challenge, before = await shop.ask(), await document(shop)
    assert await shop.answer(challenge, shop.touch(challenge, origin=origin)) == refused("wrong_origin")
    assert await document(shop) == before
    assert (await shop.answer(challenge, shop.touch(challenge)))["verified"] is True


@pytest.mark.parametrize("origin", PHISHING.values(), ids=PHISHING)
async def test_trap_57_nothing_is_registered_elsewhere(server: Server, origin: str) -> None:
    shop = await Shop.open(server)
    pending = await shop.enroll()
    assert_problem(await shop.confirm(pending, shop.register(pending, origin=origin)), 422, "wrong_origin")
    assert (await shop.confirm(pending, shop.register(pending))).status_code == 200


async def test_trap_59_an_answer_counts_once(shop: Shop) -> None:
    challenge = await shop.ask()
    credential = shop.touch(challenge)
    assert (await shop.answer(challenge, credential))["verified"] is True
    before = await document(shop)
    assert await shop.answer(challenge, credential) == refused("challenge_used")
    assert await shop.answer(challenge, shop.touch(challenge)) == refused("challenge_used")
    assert await shop.answer(await shop.ask(), credential) == refused("challenge_mismatch")
    assert await document(shop) == before
    await assert_the_owner_gets_in(shop)


async def test_trap_59_a_challenge_lives_five_minutes(shop: Shop) -> None:
    challenge = await shop.ask()
    shop.server.clock.pass_s(300)
    assert await shop.answer(challenge, shop.touch(challenge)) == refused("challenge_expired")
    challenge = await shop.ask()
    shop.server.clock.pass_s(299)
    assert (await shop.answer(challenge, shop.touch(challenge)))["verified"] is True


async def test_trap_59_a_registration_is_no_sign_in_and_a_sign_in_no_registration(shop: Shop) -> None:
    challenge = await shop.ask()
    as_registration = shop.touch(challenge, client={"type": "webauthn.create"})
    assert await shop.answer(challenge, as_registration) == refused("wrong_credential")
    pending = await shop.enroll("bob")
    as_sign_in = shop.register(pending, "bob", client={"type": "webauthn.get"})
    assert_problem(await shop.confirm(pending, as_sign_in, "bob"), 422, "wrong_credential")
    of_sign_in = shop.register(pending, "bob", client={"challenge": challenge["prompt"]["public_key"]["challenge"]})
    shop.server.clock.pass_s(2)
    assert_problem(await shop.confirm(pending, of_sign_in, "bob"), 422, "challenge_expired")
    to_registration = shop.touch(challenge, client={"challenge": pending["public_key"]["challenge"]})
    assert await shop.answer(challenge, to_registration) == refused("challenge_mismatch")
    await assert_the_owner_gets_in(shop)


@pytest.mark.parametrize("text", ["", "x", "tk_1.AAAA", "\u0000", "é" * 100, "x" * 60_000])
async def test_trap_59_a_challenge_that_was_not_made_here_is_none(shop: Shop, text: str) -> None:
    challenge = await shop.ask()
    problem = assert_problem(await shop.send({"id": text}, shop.touch(challenge)), 422, "invalid")
    assert problem["field"] == "challenge"
    changed = {"id": challenge["id"][:-2] + ("AA" if challenge["id"][-2:] != "AA" else "BB")}
    assert_problem(await shop.send(changed, shop.touch(challenge)), 422, "invalid")
    assert (await shop.answer(challenge, shop.touch(challenge)))["verified"] is True


@pytest.mark.parametrize(("binding", "other"), [("session-1", "session-2"), ("session-1", None), (None, "session-1")])
async def test_trap_43_a_challenge_of_one_session_is_not_answered_in_another(
    shop: Shop, binding: str | None, other: str | None
) -> None:
    challenge, before = await shop.ask(binding=binding), await document(shop)
    answer = await shop.answer(challenge, shop.touch(challenge), binding=other)
    assert answer == refused("challenge_mismatch")
    assert await document(shop) == before
    assert (await shop.answer(challenge, shop.touch(challenge), binding=binding))["verified"] is True


async def test_trap_47_what_a_challenge_was_for_is_in_the_receipt_whoever_answers(shop: Shop) -> None:
    challenge = await shop.ask(purpose="look", binding="4711")
    answer = await shop.answer(challenge, shop.touch(challenge), binding="4711")
    for_more = {"receipt": answer["receipt"], "purpose": "transfer", "binding": "4711"}
    assert_problem(await shop.post("receipts/redeem", for_more), 403, "receipt_mismatch")
    assert (await shop.post("receipts/redeem", {**for_more, "purpose": "look"})).status_code == 200
    added = {"purpose": "manage"}
    problem = assert_problem(await shop.send(await shop.ask(), shop.touch(challenge), **added), 422, "invalid")
    assert problem["field"] == "purpose"


async def test_trap_43_another_application_cannot_answer(shop: Shop) -> None:
    """Neither one with an origin of its own, nor one that shares this one."""
    twin = await Shop.open(shop.server)
    stranger = await Shop.open(shop.server, "https://elsewhere.example")
    owner = Shop(shop.server, shop.server.key)
    challenge, before = await shop.ask(), await document(shop)
    for other in (twin, stranger, owner):
        assert (await other.answer(challenge, shop.touch(challenge)))["verified"] is False
        assert (await other.answer(challenge, shop.touch(challenge, origin=other.origin)))["verified"] is False
    assert await twin.answer(challenge, shop.touch(challenge)) == refused("challenge_mismatch")
    assert await document(shop) == before
    assert (await shop.answer(challenge, shop.touch(challenge)))["verified"] is True


async def test_a_passkey_of_one_domain_is_none_of_another(shop: Shop) -> None:
    other = await Shop.open(shop.server, "https://elsewhere.example")
    step_up = (await shop.sign_in(purpose="manage"))["receipt"]
    assert_problem(
        await other.post("accounts/alice/authenticators", {"factor": "webauthn", "step_up": step_up}),
        403,
        "step_up_required",
    )
    pending = await shop.server.post("accounts/alice/authenticators", {"factor": "webauthn"}, key=await _admin(other))
    mine = LyingAuthenticator()
    assert pending.json()["public_key"]["excludeCredentials"] == []
    confirmed = await shop.server.post(
        f"accounts/alice/authenticators/{pending.json()['id']}/confirm",
        {"credential": mine.register(pending.json()["public_key"], other.origin)},
        key=other.key,
    )
    assert confirmed.status_code == 200
    challenge = await other.ask()
    (theirs,) = shop.authenticators["alice"].credentials
    forged = mine.answer(challenge["prompt"]["public_key"], other.origin, credential=theirs)
    assert await other.answer(challenge, forged) == refused("unknown_credential")
    other.authenticators["alice"] = mine
    await assert_the_owner_gets_in(other)
    await assert_the_owner_gets_in(shop)
    handles = {shop.authenticators["alice"].credentials[0].user_handle, mine.credentials[0].user_handle}
    assert len(handles) == 2


async def _admin(shop: Shop) -> str:
    """The same origin under a key that may manage without a step-up."""
    shop.key = await shop.server.new_key("verify", "enroll", "admin", origins=[shop.origin])
    return shop.key


async def test_trap_60_the_challenge_of_one_person_is_not_answered_by_another(shop: Shop) -> None:
    await shop.add("bob")
    of_alice, of_bob = await shop.ask("alice"), await shop.ask("bob")
    before = await document(shop, "alice"), await document(shop, "bob")
    bobs = shop.authenticators["bob"].credentials[0]
    by_bob = shop.touch(of_alice, credential=bobs)
    assert await shop.answer(of_alice, by_bob) == refused("unknown_credential")
    as_alice = shop.touch(
        of_alice, credential=bobs, user_handle=shop.authenticators["alice"].credentials[0].user_handle
    )
    assert await shop.answer(of_alice, as_alice) == refused("unknown_credential")
    with_handle_of_bob = shop.touch(of_alice, user_handle=bobs.user_handle)
    assert await shop.answer(of_alice, with_handle_of_bob) == refused("unknown_credential")
    under_her_id = shop.touch(of_alice, credential=bobs, credential_id=shop.authenticators["alice"].credentials[0].id)
    assert (await shop.answer(of_alice, under_her_id))["verified"] is False
    assert await shop.answer(of_bob, shop.touch(of_alice)) == refused("unknown_credential")
    assert (await document(shop, "alice"), await document(shop, "bob")) == before
    for name in ("alice", "bob"):
        await assert_the_owner_gets_in(shop, name)


async def test_trap_65_a_credential_of_somebody_else_is_not_registered_again(shop: Shop) -> None:
    pending = await shop.enroll("mallory")
    hers = shop.authenticators["alice"].credentials[0].id
    stolen = shop.register(pending, "mallory", credential_id=hers)
    assert_problem(await shop.confirm(pending, stolen, "mallory"), 422, "already_registered")
    shop.server.clock.pass_s(2)
    shop.authenticators["mallory"] = LyingAuthenticator()
    assert (await shop.confirm(pending, shop.register(pending, "mallory"), "mallory")).status_code == 200
    await assert_the_owner_gets_in(shop)


async def test_trap_51_another_application_does_not_confirm_what_this_one_began(server: Server) -> None:
    shop = await Shop.open(server)
    twin = await Shop.open(server)
    pending = await shop.enroll()
    assert_problem(await twin.confirm(pending, shop.register(pending)), 404, "not_found")
    assert (await shop.confirm(pending, shop.register(pending))).status_code == 200


@pytest.mark.parametrize("sign_count", [0, 3, 4])
async def test_trap_61_a_counter_that_goes_back_is_refused_and_told(server: Server, sign_count: int) -> None:
    shop = await Shop.open(server)
    shop.authenticators["alice"] = LyingAuthenticator(counts=2)
    await shop.add()
    await assert_the_owner_gets_in(shop)
    challenge = await shop.ask()
    answer = await shop.answer(challenge, shop.touch(challenge, sign_count=sign_count))
    assert answer == refused("sign_count_went_back")
    kinds = [event.kind for event in await server.deployment.verifier.accounts.events("alice")]
    assert kinds[-1] == "authenticator.cloned"
    await assert_the_owner_gets_in(shop)


@pytest.mark.parametrize("client", [{"crossOrigin": True}, {"topOrigin": "https://evil.example"}])
async def test_trap_63_an_answer_from_a_frame_on_another_site_is_refused(shop: Shop, client: Json) -> None:
    challenge = await shop.ask()
    assert await shop.answer(challenge, shop.touch(challenge, client=client)) == refused("wrong_origin")
    assert (await shop.answer(challenge, shop.touch(challenge)))["verified"] is True


@pytest.mark.parametrize("event", ["password_changed", "signed_out_everywhere", "compromised"])
async def test_a_challenge_from_before_the_account_was_secured_anew_is_void(shop: Shop, event: str) -> None:
    challenge = await shop.ask()
    await shop.post("accounts/alice/events", {"type": event})
    assert await shop.answer(challenge, shop.touch(challenge)) == refused("challenge_mismatch")
    await assert_the_owner_gets_in(shop)


async def test_a_passkey_that_was_removed_answers_nothing_any_more(shop: Shop) -> None:
    challenge = await shop.ask()
    (passkey,) = (await shop.server.get("accounts/alice")).json()["authenticators"]
    await shop.server.add()
    removed = await shop.server.call("DELETE", f"accounts/alice/authenticators/{passkey['id']}")
    assert removed.status_code == 204
    assert_problem(await shop.send(challenge, shop.touch(challenge)), 409, "no_factor")
    await shop.server.call("DELETE", "accounts/alice")
    assert_problem(await shop.send(challenge, shop.touch(challenge)), 404, "not_found")
    fresh = await Shop.open(shop.server)
    fresh.authenticators = {"alice": LyingAuthenticator()}
    await fresh.add()
    assert await shop.answer(challenge, shop.touch(challenge)) == refused("challenge_mismatch")
    await assert_the_owner_gets_in(fresh)


async def test_wrong_passkeys_neither_throttle_nor_disable_nor_fill_the_log(shop: Shop) -> None:
    await shop.server.add()
    before = len(await shop.server.deployment.verifier.accounts.events("alice"))
    challenge = await shop.ask()
    forged = shop.touch(challenge)
    forged["response"]["signature"] = shop.touch(await shop.ask())["response"]["signature"]
    for _ in range(120):
        assert await shop.answer(challenge, forged) == refused("wrong_credential")
    after = await shop.server.deployment.verifier.accounts.events("alice")
    assert [event.kind for event in after[before:]] == ["code.refused"]
    shown = (await shop.server.get("accounts/alice")).json()
    assert shown["throttle"]["state"] == "open"
    assert {a["state"] for a in shown["authenticators"]} == {"active"}
    await assert_the_owner_gets_in(shop)


async def test_with_the_budget_of_guesses_used_up_a_passkey_is_a_way_that_stays_open(shop: Shop) -> None:
    await shop.server.add()
    for _ in range(4):
        answer = await shop.post("accounts/alice/verify", {"code": "000000"})
    assert "webauthn" in assert_problem(answer, 429, "throttled")["ways"]
    await assert_the_owner_gets_in(shop)


async def test_a_body_over_64_kib_is_not_even_read(shop: Shop) -> None:
    challenge = await shop.ask()
    long = shop.touch(challenge)
    long["response"]["signature"] = "A" * 70_000
    assert_problem(await shop.send(challenge, long), 413, "too_large")
    assert (await shop.answer(challenge, shop.touch(challenge)))["verified"] is True
