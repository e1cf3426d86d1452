"""Signing in with passkeys through `Verifier.passkeys`, over both stores: once, and for exactly what was asked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.deployments import add_phone
from tests.houses import ADMIN, ELSEWHERE, EXAMPLE, ORIGIN, House, a_passkey, open_house
from tests.kit import wrong_code

from twofold.core.attempt import Call
from twofold.core.clock import in_seconds
from twofold.core.decision import Confirmed, Redeemed, Rejected, Throttled, Verified
from twofold.core.entropy import Seed
from twofold.core.verification import verify_answer
from twofold.engine import Caller
from twofold.errors import Busy, InvalidInput, Refused
from twofold.factors import FACTORS
from twofold.testing.software_authenticator import UV, decode

SHOP = Caller("shop")


@pytest.fixture(params=["memory", "sqlite"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(request.param, tmp_path / "data") as opened:
        yield opened


async def refusal(attempt: Any) -> str:
    with pytest.raises(Refused) as refused:
        await attempt
    return refused.value.code


async def invalid(attempt: Any) -> str:
    with pytest.raises(InvalidInput) as wrong:
        await attempt
    return wrong.value.field


# The main path.


async def test_a_passkey_is_registered_and_lets_its_owner_in(house: House) -> None:
    pending = await house.begin(label="key")
    assert pending.expires_at == house.clock.now() + in_seconds(900)
    authenticator = a_passkey()
    response = authenticator.register(dict(pending.public_key), ORIGIN)
    confirmed = await house.passkeys.confirm("alice", pending.id, response, EXAMPLE)
    assert isinstance(confirmed, Confirmed)
    assert (confirmed.id, confirmed.factor, len(confirmed.recovery_codes)) == (pending.id, "webauthn", 10)
    asked = await house.ask()
    assert asked.expires_at == house.clock.now() + in_seconds(300)
    assert [decode(c["id"]) for c in asked.public_key["allowCredentials"]] == [authenticator.credentials[0].id]
    assert len(decode(asked.public_key["challenge"])) == 32
    verified = await house.passkeys.answer(asked.id, authenticator.answer(dict(asked.public_key), ORIGIN), EXAMPLE)
    assert isinstance(verified, Verified)
    assert (verified.factor, verified.authenticator_id) == ("webauthn", pending.id)
    assert verified.is_user_verified
    assert verified.receipt is None
    assert (await house.account()).find(pending.id).label == "key"


async def test_a_purpose_or_a_binding_earns_a_receipt_that_says_what_was_shown(house: House) -> None:
    authenticator = await house.enrolled(verifies_user=False)
    asked = await house.ask(purpose="pay", binding="b1")
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    verified = await house.passkeys.answer(asked.id, response, EXAMPLE, binding="b1")
    assert isinstance(verified, Verified)
    assert verified.receipt is not None
    redeemed = await house.deployment.verifier.redeem(verified.receipt, purpose="pay", binding="b1")
    assert isinstance(redeemed, Redeemed)
    assert (redeemed.claims.amr, redeemed.claims.acr) == (("hwk", "user"), "urn:nist:aal1")
    assert not verified.is_user_verified


async def test_a_passkey_without_a_name_is_called_what_its_maker_calls_it(house: House) -> None:
    aaguid = bytes.fromhex("ea9b8d664d011d213ce4b6b48cb575d4")
    await house.enrolled(aaguid=aaguid)
    assert (await house.account()).authenticators[0].label == "Google Password Manager"


async def test_a_label_at_the_end_takes_the_place_of_the_one_at_the_beginning(house: House) -> None:
    pending = await house.begin(label="first")
    response = a_passkey().register(dict(pending.public_key), ORIGIN)
    await house.passkeys.confirm("alice", pending.id, response, EXAMPLE, label=" second ")
    assert (await house.account()).authenticators[0].label == "second"


async def test_begun_again_it_is_the_same_registration_with_a_fresh_challenge(house: House) -> None:
    first = await house.begin()
    house.clock.advance(60)
    again = await house.begin()
    seen = await house.passkeys.see_again("alice", first.id, EXAMPLE)
    assert again == seen
    assert (again.id, again.expires_at, again.public_key["user"]) == (
        first.id,
        first.expires_at,
        first.public_key["user"],
    )
    assert again.public_key["challenge"] != first.public_key["challenge"]
    other = await house.begin(caller=SHOP)
    assert other.id != first.id
    assert other.public_key["challenge"] != again.public_key["challenge"]
    assert await refusal(house.passkeys.see_again("alice", first.id, EXAMPLE, caller=SHOP)) == "not_found"


async def test_what_the_account_has_already_is_excluded(house: House) -> None:
    authenticator = await house.enrolled()
    pending = await house.begin(caller=ADMIN)
    assert [decode(c["id"]) for c in pending.public_key["excludeCredentials"]] == [authenticator.credentials[0].id]
    elsewhere = await house.begin(rp=ELSEWHERE, caller=Caller("shop", is_admin=True))
    assert elsewhere.public_key["excludeCredentials"] == []


async def test_an_application_may_be_kept_from_adding_accounts(house: House) -> None:
    assert await refusal(house.begin(may_add_account=False)) == "not_found"
    await house.deployment.verifier.accounts.put("alice")
    assert await house.begin(may_add_account=False)


async def test_a_passkey_is_asked_for_only_where_it_works(house: House) -> None:
    assert await refusal(house.ask()) == "not_found"
    await house.begin()
    assert await refusal(house.ask()) == "no_factor", "an open registration is not asked for"
    await house.enrolled()
    assert await refusal(house.ask(rp=ELSEWHERE)) == "no_factor"
    assert (await house.ask()).public_key["rpId"] == "example.com"


async def test_a_passkey_of_one_relying_party_means_nothing_to_another(house: House) -> None:
    here, there = await house.enrolled(), a_passkey()
    assert isinstance(await house.register(there, rp=ELSEWHERE), Confirmed)
    asked = await house.ask()
    response = there.answer(dict(asked.public_key), ORIGIN, credential=there.credentials[0])
    assert await house.refuses(house.passkeys.answer(asked.id, response, EXAMPLE)) == "unknown_credential"
    response = there.answer(dict(asked.public_key), "https://example.org", credential=there.credentials[0])
    assert await house.refuses(house.passkeys.answer(asked.id, response, ELSEWHERE)) == "unknown_credential"
    assert isinstance(await house.sign_in(here), Verified)


# An assertion counts once, and for exactly what was asked (traps 43 and 59).


async def test_trap_59_an_assertion_counts_once(house: House) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask()
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    assert isinstance(await house.passkeys.answer(asked.id, response, EXAMPLE), Verified)
    assert await house.refuses(house.passkeys.answer(asked.id, response, EXAMPLE)) == "challenge_used"
    signed_anew = authenticator.answer(dict(asked.public_key), ORIGIN)
    assert await house.refuses(house.passkeys.answer(asked.id, signed_anew, EXAMPLE)) == "challenge_used"
    other = await house.ask()
    assert await house.refuses(house.passkeys.answer(other.id, response, EXAMPLE)) == "challenge_mismatch"
    assert isinstance(await house.sign_in(authenticator), Verified)


async def test_trap_59_after_a_wrong_answer_the_challenge_may_still_be_answered(house: House) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask()
    wrong = authenticator.answer(dict(asked.public_key), "https://evil.example")
    assert await house.refuses(house.passkeys.answer(asked.id, wrong, EXAMPLE)) == "wrong_origin"
    right = authenticator.answer(dict(asked.public_key), ORIGIN)
    assert isinstance(await house.passkeys.answer(asked.id, right, EXAMPLE), Verified)


@pytest.mark.parametrize(
    ("asked_with", "answered_with"),
    [
        ({"binding": "session-1"}, {"binding": "session-2"}),
        ({"binding": "session-1"}, {}),
        ({}, {"binding": "session-1"}),
        ({}, {"caller": SHOP}),
        ({"caller": SHOP}, {}),
    ],
    ids=["another session", "no session", "a session", "another application", "from another application"],
)
async def test_trap_43_an_assertion_from_elsewhere_is_refused(
    house: House, asked_with: dict[str, Any], answered_with: dict[str, Any]
) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask(**asked_with)
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    refused = house.passkeys.answer(asked.id, response, EXAMPLE, **answered_with)
    assert await house.refuses(refused) == "challenge_mismatch"
    assert isinstance(await house.passkeys.answer(asked.id, response, EXAMPLE, **asked_with), Verified)


@pytest.mark.parametrize("purpose", ["manage", None])
async def test_trap_47_an_assertion_for_another_purpose_is_refused(house: House, purpose: str | None) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask(purpose="pay")
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    ticket = house.passkeys.read_challenge(asked.id)
    call = Call(house.clock.now(), Seed(bytes(32)))
    ends = []
    for wanted in (purpose, "pay"):
        question = house.passkeys.read_answer(ticket, response, EXAMPLE, purpose=wanted, binding=None)
        keyring = house.deployment.keyring
        decision = verify_answer(await house.account(), question, call, factors=FACTORS, seals=keyring)
        ends.append(decision.outcome)
    assert ends[0] == Rejected("challenge_mismatch")
    assert isinstance(ends[1], Verified)


async def test_trap_43_a_challenge_of_one_account_is_not_answered_in_another(house: House) -> None:
    alices, bobs = await house.enrolled(), await house.enrolled("bob")
    asked = await house.ask()
    response = bobs.answer(dict(asked.public_key), ORIGIN, credential=bobs.credentials[0])
    assert await house.refuses(house.passkeys.answer(asked.id, response, EXAMPLE)) == "unknown_credential"
    ticket = house.passkeys.read_challenge(asked.id)
    question = house.passkeys.read_answer(ticket, response, EXAMPLE, purpose=None, binding=None)
    call, seals = Call(house.clock.now(), Seed(bytes(32))), house.deployment.keyring
    decision = verify_answer(await house.account("bob"), question, call, factors=FACTORS, seals=seals)
    assert decision.outcome == Rejected("challenge_mismatch")
    right = alices.answer(dict(asked.public_key), ORIGIN)
    assert isinstance(await house.passkeys.answer(asked.id, right, EXAMPLE), Verified)


@pytest.mark.parametrize(("late_s", "is_good"), [(299, True), (300, False), (86_400, False)])
async def test_trap_59_a_challenge_is_over_after_five_minutes(house: House, late_s: int, *, is_good: bool) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask()
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    house.clock.advance(late_s)
    attempt = house.passkeys.answer(asked.id, response, EXAMPLE)
    if is_good:
        assert isinstance(await attempt, Verified)
    else:
        assert await house.refuses(attempt) == "challenge_expired"
        assert isinstance(await house.sign_in(authenticator), Verified)


async def test_a_challenge_from_before_everything_was_signed_out_is_void(house: House) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask()
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    await house.deployment.verifier.accounts.record_event("alice", "signed_out_everywhere")
    assert await house.refuses(house.passkeys.answer(asked.id, response, EXAMPLE)) == "challenge_mismatch"
    assert isinstance(await house.sign_in(authenticator), Verified)


async def test_trap_59_the_challenge_of_a_registration_is_none_of_a_sign_in(house: House) -> None:
    authenticator = await house.enrolled()
    pending, asked = await house.begin(caller=ADMIN), await house.ask()
    client = {"challenge": pending.public_key["challenge"]}
    response = authenticator.answer(dict(asked.public_key), ORIGIN, client=client)
    assert await house.refuses(house.passkeys.answer(asked.id, response, EXAMPLE)) == "challenge_mismatch"
    other = a_passkey().register(dict(pending.public_key), ORIGIN, client={"challenge": asked.public_key["challenge"]})
    rejected = await house.passkeys.confirm("alice", pending.id, other, EXAMPLE, caller=ADMIN)
    assert rejected == Rejected("challenge_expired")


async def test_what_is_no_challenge_of_a_passkey_is_named(house: House) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask()
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    ticket = house.passkeys.read_challenge(asked.id)
    other = house.deployment.keyring.issue_ticket(msgspec.structs.replace(ticket, ceremony="push"))
    for challenge in (other, asked.id[:-1], asked.id + "A", "", "ticket-1.AAAA", "\ud800"):
        assert await invalid(house.passkeys.answer(challenge, response, EXAMPLE)) == "challenge"
    assert isinstance(await house.passkeys.answer(asked.id, response, EXAMPLE), Verified)


async def test_an_assertion_after_the_passkey_was_removed_is_refused(house: House) -> None:
    removed, kept = await house.enrolled(), a_passkey()
    assert isinstance(await house.register(kept), Confirmed)
    asked = await house.ask()
    response = removed.answer(dict(asked.public_key), ORIGIN)
    await house.deployment.verifier.revoke("alice", (await house.account()).authenticators[0].id, caller=ADMIN)
    assert await house.refuses(house.passkeys.answer(asked.id, response, EXAMPLE)) == "unknown_credential"
    assert isinstance(await house.sign_in(kept), Verified)


async def test_a_passkey_that_was_added_later_does_not_answer_an_older_challenge(house: House) -> None:
    first, later = await house.enrolled(), a_passkey()
    asked = await house.ask()
    assert isinstance(await house.register(later), Confirmed)
    response = later.answer(dict(asked.public_key), ORIGIN, credential=later.credentials[0])
    assert await house.refuses(house.passkeys.answer(asked.id, response, EXAMPLE)) == "unknown_credential"
    assert isinstance(await house.sign_in(first), Verified)
    assert isinstance(await house.sign_in(later), Verified)


async def test_trap_59_of_many_who_send_one_assertion_at_once_one_is_let_in(house: House) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask()
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    attempts = (house.passkeys.answer(asked.id, response, EXAMPLE) for _ in range(20))
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Verified) for end in ends) == 1
    assert {end.reason for end in ends if isinstance(end, Rejected)} == {"challenge_used"}
    assert all(isinstance(end, Verified | Rejected | Busy) for end in ends)
    assert len((await house.account()).spent) == 1


# Trying costs nothing, and leaves little.


async def test_wrong_assertions_never_throttle_never_disable_and_write_one_event_a_minute(house: House) -> None:
    authenticator = await house.enrolled()
    before = await house.account()
    for number in range(150):
        assert await house.sign_in(authenticator, off=UV, rp_id="example.org") == Rejected("wrong_credential")
        house.clock.advance(1 if number % 2 else 0)
    assert (await house.kinds()).count("code.refused") == 2, "in 75 seconds"
    event = await house.last_event()
    assert (event["reason"], event["rule"], event["factor"]) == (
        "wrong_credential",
        "WebAuthn L3 7.2 step 15",
        "webauthn",
    )
    assert event["unrecorded_before"] > 100
    after = await house.account()
    assert (after.authenticators, after.lane) == (before.authenticators, before.lane)
    assert isinstance(await house.sign_in(authenticator), Verified)


async def test_a_passkey_lets_in_while_codes_are_throttled(house: House) -> None:
    verifier = house.deployment.verifier
    phone, _ = await add_phone(verifier, "alice", house.clock)
    authenticator = a_passkey()
    assert isinstance(await house.register(authenticator), Confirmed)
    for _ in range(3):
        await verifier.verify("alice", code=wrong_code(phone, house.clock.now()))
    throttled = await verifier.verify("alice", code=phone.code(house.clock.now()))
    assert isinstance(throttled, Throttled)
    assert "webauthn" in throttled.ways
    assert isinstance(await house.sign_in(authenticator), Verified)


async def test_trap_61_a_copy_is_refused_told_to_its_owner_and_seen_in_the_list(house: House) -> None:
    authenticator = await house.enrolled(counts=1)
    for _ in range(3):
        assert isinstance(await house.sign_in(authenticator), Verified)
    for _ in range(5):
        copy = await house.sign_in(authenticator, sign_count=2)
        assert copy == Rejected("sign_count_went_back")
    assert (await house.kinds()).count("authenticator.cloned") == 1
    waiting = await house.deployment.store.take(100, house.clock.now(), 60)
    assert [row.kind for row in waiting].count("authenticator.cloned") == 1
    view = await house.deployment.verifier.accounts.get("alice")
    assert view.authenticators[0].passkey is not None
    assert view.authenticators[0].passkey.cloned_at == house.clock.now()
    assert isinstance(await house.sign_in(authenticator, sign_count=100), Verified)


async def test_d15_trap_61_of_many_answers_with_one_count_at_once_one_is_let_in(house: House) -> None:
    authenticator = await house.enrolled(counts=1)
    attempts = (house.sign_in(authenticator, sign_count=7) for _ in range(20))
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Verified) for end in ends) == 1
    assert {end.reason for end in ends if isinstance(end, Rejected)} == {"sign_count_went_back"}
    assert all(isinstance(end, Verified | Rejected | Busy) for end in ends)
    assert isinstance(await house.sign_in(authenticator, sign_count=8), Verified)


async def test_a_refusal_names_the_passkey_that_the_answer_is_of(house: House) -> None:
    await house.enrolled()
    second = await house.enrolled()
    refused = await house.sign_in(second, user_handle=b"somebody else's")
    assert refused == Rejected("unknown_credential")
    newest = (await house.account()).authenticators[-1]
    assert (await house.last_event())["authenticator"] == newest.id
    assert isinstance(await house.sign_in(second), Verified)


async def test_where_a_verifying_passkey_is_needed_the_question_has_to_ask_for_that(house: House) -> None:
    authenticator = await house.enrolled()

    async def judge(verification: str) -> Any:
        asked = await house.passkeys.challenge("alice", EXAMPLE, user_verification=verification)
        ticket = house.passkeys.read_challenge(asked.id)
        response = authenticator.answer(dict(asked.public_key), ORIGIN)
        question = house.passkeys.read_answer(ticket, response, EXAMPLE, purpose=None, binding=None, needs_passkey=True)
        call = Call(house.clock.now(), Seed(bytes(32)))
        keys = house.deployment.keyring
        return verify_answer(await house.account(), question, call, factors=FACTORS, seals=keys).outcome

    assert await judge("preferred") == Rejected("challenge_mismatch")
    assert isinstance(await judge("required"), Verified)
