"""Registering through `Verifier.passkeys`, over both stores: whose credential it is, and what its owner is called."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from tests.deployments import add_phone
from tests.houses import ADMIN, ELSEWHERE, EXAMPLE, ORIGIN, House, a_passkey, open_house
from tests.lying_authenticator import LyingAuthenticator

from twofold.core.decision import Confirmed, Outcome, Rejected, Throttled, Verified
from twofold.core.idempotency import IdempotencyKey
from twofold.engine import Caller
from twofold.errors import Busy, InvalidInput, Refused
from twofold.testing.software_authenticator import decode

HOUR_S = 3600


@pytest.fixture(params=["memory", "sqlite"])
async def house(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[House]:
    async with open_house(request.param, tmp_path / "data") as opened:
        yield opened


async def handle_of(house: House, account_id: str = "alice", rp_id: str = "example.com") -> bytes:
    handle = (await house.account(account_id)).find_handle(rp_id)
    assert handle is not None
    return handle


async def remove_all(house: House, account_id: str = "alice") -> None:
    for authenticator in (await house.account(account_id)).authenticators:
        if authenticator.factor == "webauthn":
            await house.deployment.verifier.revoke(account_id, authenticator.id, caller=ADMIN)


async def register_again(house: House, authenticator: LyingAuthenticator, account_id: str = "alice") -> Outcome:
    """Register another key under the id of this authenticator's credential."""
    return await house.register(a_passkey(), account_id, credential_id=authenticator.credentials[0].id)


# Whose credential it is: section 7.1 step 26, trap 65.


async def test_trap_65_a_credential_id_that_somebody_holds_is_refused_to_everybody_else(house: House) -> None:
    alices = await house.enrolled()
    for _ in range(3):
        assert await register_again(house, alices, "mallory") == Rejected("already_registered")
        house.clock.advance(400 * 86_400)
    assert (await house.last_event("mallory"))["rule"] == "WebAuthn L3 7.1 step 26"
    assert isinstance(await house.sign_in(alices), Verified)
    assert isinstance(await house.register(a_passkey(), "mallory"), Confirmed), "another id is no trouble"


async def test_webauthn_7_1_step_26_one_account_does_not_register_a_credential_twice(house: House) -> None:
    authenticator = await house.enrolled()
    assert await register_again(house, authenticator) == Rejected("already_registered")
    assert isinstance(await house.sign_in(authenticator), Verified)
    assert isinstance(await house.register(a_passkey()), Confirmed)


async def test_a_registration_that_is_refused_claims_nothing(house: House) -> None:
    wanted = b"wanted" * 5
    refused = await house.register(a_passkey(), "mallory", credential_id=wanted, client={"type": "webauthn.get"})
    assert refused == Rejected("wrong_credential")
    assert isinstance(await house.register(a_passkey(), credential_id=wanted), Confirmed)


async def test_a_removed_credential_is_registered_again_by_its_account_at_once(house: House) -> None:
    authenticator = await house.enrolled()
    await remove_all(house)
    assert isinstance(await register_again(house, authenticator), Confirmed)


async def test_a_claim_that_nobody_uses_is_given_to_another_account_after_an_hour(house: House) -> None:
    authenticator = await house.enrolled()
    await remove_all(house)
    house.clock.advance(HOUR_S)
    assert await register_again(house, authenticator, "bob") == Rejected("already_registered")
    house.clock.advance(1)
    assert isinstance(await register_again(house, authenticator, "bob"), Confirmed)
    assert await register_again(house, authenticator) == Rejected("already_registered"), "now it is his"


async def test_the_credentials_of_a_deleted_account_are_free_at_once(house: House) -> None:
    authenticator = await house.enrolled()
    await house.deployment.verifier.accounts.delete("alice", caller=ADMIN)
    assert isinstance(await register_again(house, authenticator, "bob"), Confirmed)


async def test_of_many_accounts_that_register_one_credential_at_once_one_gets_it(house: House) -> None:
    names = [f"account-{number}" for number in range(8)]
    attempts = (house.register(a_passkey(), name, credential_id=b"the same") for name in names)
    ends = await asyncio.gather(*attempts)
    assert sum(isinstance(end, Confirmed) for end in ends) == 1
    assert [end.reason for end in ends if isinstance(end, Rejected)] == ["already_registered"] * 7


async def test_of_many_who_confirm_one_registration_at_once_one_gets_the_recovery_codes(house: House) -> None:
    pending = await house.begin()
    response = a_passkey().register(dict(pending.public_key), ORIGIN)
    attempts = (house.passkeys.confirm("alice", pending.id, response, EXAMPLE) for _ in range(8))
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Confirmed) for end in ends) == 1
    assert all(isinstance(end, Confirmed | Busy | Refused) for end in ends)
    assert (await house.deployment.verifier.accounts.get("alice")).recovery_codes_left == 10


async def test_one_credential_in_two_open_registrations_of_an_account_becomes_one(house: House) -> None:
    await add_phone(house.deployment.verifier, "alice", house.clock)
    authenticator = a_passkey()
    callers = [Caller("shop", is_admin=True), Caller("blog", is_admin=True)]
    begun = [await house.begin(caller=caller) for caller in callers]
    responses = [authenticator.register(dict(p.public_key), ORIGIN, credential_id=b"the same") for p in begun]
    ends = await asyncio.gather(
        *(
            house.passkeys.confirm("alice", pending.id, response, EXAMPLE, caller=caller)
            for pending, response, caller in zip(begun, responses, callers, strict=True)
        )
    )
    assert sorted(type(end).__name__ for end in ends) == ["Confirmed", "Rejected"]


# Handles: section 5.4.3.


async def test_a_handle_is_random_and_always_the_same_for_one_account_and_relying_party(house: House) -> None:
    first = await house.begin()
    handle = await handle_of(house)
    assert len(handle) == 32
    assert decode(first.public_key["user"]["id"]) == handle
    await house.enrolled()
    house.clock.advance(1_000)
    for caller in (ADMIN, Caller("shop", is_admin=True)):
        again = await house.begin(caller=caller)
        assert decode(again.public_key["user"]["id"]) == handle
    await remove_all(house)
    assert decode((await house.begin()).public_key["user"]["id"]) == handle


async def test_handles_tell_nothing_across_relying_parties_and_accounts(house: House) -> None:
    await house.begin()
    await house.begin(rp=ELSEWHERE, caller=Caller("shop"))
    await house.begin("bob")
    handles = {
        await handle_of(house),
        await handle_of(house, rp_id="example.org"),
        await handle_of(house, "bob"),
    }
    assert len(handles) == 3
    assert not any(b"alice" in handle or b"bob" in handle for handle in handles)


async def test_two_first_registrations_at_once_get_the_same_handle(house: House) -> None:
    callers = [Caller("shop"), Caller("blog")]
    begun = await asyncio.gather(*(house.begin(caller=caller) for caller in callers))
    assert len({pending.public_key["user"]["id"] for pending in begun}) == 1


async def test_whoever_gives_no_name_is_found_by_the_handle_of_the_authenticator(house: House) -> None:
    alices, bobs = await house.enrolled(), await house.enrolled("bob")
    asked = house.passkeys.challenge_anybody(EXAMPLE, binding="session-1", caller=Caller())
    assert asked.public_key["allowCredentials"] == []
    assert asked.public_key["userVerification"] == "required"
    ticket = house.passkeys.read_challenge(asked.id)
    for authenticator, owner in ((alices, "alice"), (bobs, "bob")):
        response = authenticator.answer(dict(asked.public_key), ORIGIN)
        question = house.passkeys.read_answer(ticket, response, EXAMPLE, purpose=None, binding="session-1")
        assert await house.passkeys.find_owner(question) == owner
    unknown = alices.answer(dict(asked.public_key), ORIGIN, user_handle=bytes(32))
    nameless = alices.answer(dict(asked.public_key), ORIGIN, user_handle=None)
    for response in (unknown, nameless):
        end = await house.passkeys.answer(asked.id, response, EXAMPLE, binding="session-1")
        assert end == Rejected("unknown_credential")
    right = alices.answer(dict(asked.public_key), ORIGIN)
    assert isinstance(await house.passkeys.answer(asked.id, right, EXAMPLE, binding="session-1"), Verified)


async def test_trap_60_d18_the_handle_of_one_with_the_key_of_another_signs_nobody_in(house: House) -> None:
    alices, bobs = await house.enrolled(), await house.enrolled("bob")
    asked = house.passkeys.challenge_anybody(EXAMPLE, binding="session-1", caller=Caller())

    async def send(**said: object) -> Outcome:
        response = alices.answer(dict(asked.public_key), ORIGIN, **said)
        return await house.passkeys.answer(asked.id, response, EXAMPLE, binding="session-1")

    bobs_handle = await handle_of(house, "bob")
    assert await house.refuses(send(user_handle=bobs_handle), "bob") == "unknown_credential"
    called_like_bobs = {"user_handle": bobs_handle, "credential_id": bobs.credentials[0].id}
    assert await house.refuses(send(**called_like_bobs), "bob") == "wrong_credential"
    assert isinstance(await send(), Verified)


async def test_d19_before_the_name_is_known_every_challenge_has_the_same_size(house: House) -> None:
    sizes = set()
    for number in range(20):
        asked = house.passkeys.challenge_anybody(EXAMPLE, binding=f"session-{number:09}", caller=Caller())
        sizes.add((len(asked.id), len(msgspec.json.encode(asked.public_key))))
        await house.enrolled(f"account-{number}")
        house.clock.advance(4_000)
    assert len(sizes) == 1


async def test_a_deleted_account_is_not_found_by_its_old_handle(house: House) -> None:
    authenticator = await house.enrolled()
    old = await handle_of(house)
    await house.deployment.verifier.accounts.delete("alice", caller=ADMIN)
    asked = house.passkeys.challenge_anybody(EXAMPLE, binding="session-1", caller=Caller())
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    end = await house.passkeys.answer(asked.id, response, EXAMPLE, binding="session-1")
    assert end == Rejected("unknown_credential")
    await house.enrolled()
    assert await handle_of(house) != old


# Confirming.


async def test_a_lost_answer_is_asked_for_again_and_brings_the_same_recovery_codes(house: House) -> None:
    pending = await house.begin()
    response = a_passkey().register(dict(pending.public_key), ORIGIN)
    caller = Caller(idempotency=IdempotencyKey(b"k" * 16, b"b" * 16, b"k"))
    first = await house.passkeys.confirm("alice", pending.id, response, EXAMPLE, caller=caller)
    events = len(await house.kinds())
    again = await house.passkeys.confirm("alice", pending.id, response, EXAMPLE, caller=caller)
    assert isinstance(first, Confirmed)
    assert len(first.recovery_codes) == 10
    assert again == first
    assert len(await house.kinds()) == events


async def test_an_answer_with_an_idempotency_key_ends_as_it_did(house: House) -> None:
    authenticator = await house.enrolled()
    asked = await house.ask(purpose="pay")
    response = authenticator.answer(dict(asked.public_key), ORIGIN)
    caller = Caller(idempotency=IdempotencyKey(b"k" * 16, b"b" * 16, b"k"))
    first = await house.passkeys.answer(asked.id, response, EXAMPLE, caller=caller)
    again = await house.passkeys.answer(asked.id, response, EXAMPLE, caller=caller)
    assert isinstance(first, Verified)
    assert isinstance(again, Verified)
    assert again.claims == first.claims


async def test_only_the_first_authenticator_brings_recovery_codes(house: House) -> None:
    await add_phone(house.deployment.verifier, "alice", house.clock)
    confirmed = await house.register(a_passkey())
    assert isinstance(confirmed, Confirmed)
    assert confirmed.recovery_codes == ()


async def test_wrong_registrations_wait_longer_and_longer_and_the_right_one_is_taken(house: House) -> None:
    pending = await house.begin()
    authenticator = a_passkey()

    async def send(**said: object) -> Outcome:
        fresh = await house.begin()
        response = authenticator.register(dict(fresh.public_key), ORIGIN, **said)
        return await house.passkeys.confirm("alice", pending.id, response, EXAMPLE)

    for _ in range(3):
        assert await send(client={"crossOrigin": True}) == Rejected("wrong_origin")
    assert (await house.last_event())["rule"] == "WebAuthn L3 7.1 step 10"
    assert isinstance(await send(), Throttled)
    house.clock.advance(60)
    assert isinstance(await send(), Confirmed)


async def test_a_second_factor_is_needed_to_add_a_passkey_to_an_account_that_has_one(house: House) -> None:
    authenticator = await house.enrolled()
    with pytest.raises(Refused) as refused:
        await house.begin()
    assert refused.value.code == "step_up_required"
    asked = await house.ask(purpose="manage")
    verified = await house.passkeys.answer(asked.id, authenticator.answer(dict(asked.public_key), ORIGIN), EXAMPLE)
    assert isinstance(verified, Verified)
    pending = await house.begin(step_up=verified.receipt)
    second = a_passkey()
    response = second.register(dict(pending.public_key), ORIGIN)
    assert isinstance(await house.passkeys.confirm("alice", pending.id, response, EXAMPLE), Confirmed)
    assert isinstance(await house.sign_in(second), Verified)


async def test_what_is_replaced_goes_when_its_successor_is_confirmed(house: House) -> None:
    old, new = await house.enrolled(), a_passkey()
    old_id = (await house.account()).authenticators[0].id
    pending = await house.begin(replaces=old_id, caller=ADMIN)
    assert isinstance(await house.sign_in(old), Verified)
    response = new.register(dict(pending.public_key), ORIGIN)
    assert isinstance(await house.passkeys.confirm("alice", pending.id, response, EXAMPLE, caller=ADMIN), Confirmed)
    assert isinstance(await house.sign_in(new), Verified)
    assert [a.id for a in (await house.account()).authenticators if a.factor == "webauthn"] == [pending.id]


async def test_a_registration_is_over_after_a_quarter_of_an_hour(house: House) -> None:
    pending = await house.begin()
    house.clock.advance(899)
    fresh = await house.passkeys.see_again("alice", pending.id, EXAMPLE)
    response = a_passkey().register(dict(fresh.public_key), ORIGIN)
    house.clock.advance(1)
    with pytest.raises(Refused) as refused:
        await house.passkeys.confirm("alice", pending.id, response, EXAMPLE)
    assert refused.value.code == "not_found"
    begun = await house.begin()
    assert begun.id != pending.id
    response = a_passkey().register(dict(begun.public_key), ORIGIN)
    assert isinstance(await house.passkeys.confirm("alice", begun.id, response, EXAMPLE), Confirmed)


# What a registration leaves behind: a claim by which the account is found, if it was begun.


@pytest.mark.parametrize("account_id", ["x" * 1000, "a/b"])
async def test_what_is_no_account_claims_no_handle(house: House, account_id: str) -> None:
    with pytest.raises(InvalidInput), watching_claims(house) as claimed:
        await house.begin(account_id)
    assert claimed == []


async def test_an_enrollment_that_is_refused_claims_no_handle(house: House) -> None:
    await add_phone(house.deployment.verifier, "alice", house.clock)
    with watching_claims(house) as claimed:
        with pytest.raises(Refused) as refused:
            await house.begin()
        assert (refused.value.code, claimed) == ("step_up_required", [])
        await house.begin(caller=ADMIN)
        await house.begin(caller=ADMIN)
    assert claimed == ["alice"]


@contextmanager
def watching_claims(house: House) -> Iterator[list[str]]:
    """For whom something is claimed meanwhile."""
    store, claimed = house.deployment.store, []
    claim = store.claim

    async def watched(kind: str, key_hmac: bytes, account_id: str, now: int) -> str:
        claimed.append(account_id)
        return await claim(kind, key_hmac, account_id, now)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "claim", watched)
        yield claimed


# What a caller began stays apart: by relying party, and by factor.


async def test_a_registration_begun_for_another_relying_party_makes_room(house: House) -> None:
    first = await house.begin()
    second = await house.begin(rp=ELSEWHERE)
    assert first.id != second.id
    assert first.public_key["user"]["id"] != second.public_key["user"]["id"]
    response = a_passkey().register(dict(second.public_key), ELSEWHERE.origins[0])
    assert isinstance(await house.passkeys.confirm("alice", second.id, response, ELSEWHERE, caller=ADMIN), Confirmed)


async def test_an_open_enrollment_is_seen_again_as_what_it_is(house: House) -> None:
    verifier = house.deployment.verifier
    app, passkey = await verifier.enroll("alice", "totp"), await house.begin()
    assert (await verifier.see_again("alice", app.id)).secret == app.secret
    assert (await house.passkeys.see_again("alice", passkey.id, EXAMPLE)).id == passkey.id
    for attempt in (verifier.see_again("alice", passkey.id), house.passkeys.see_again("alice", app.id, EXAMPLE)):
        with pytest.raises(Refused) as refused:
            await attempt
        assert refused.value.code == "not_found"


async def test_a_passkey_whose_step_up_is_missing_claims_nothing_however_often(house: House) -> None:
    pending = await house.begin()
    await add_phone(house.deployment.verifier, "alice", house.clock)
    response = a_passkey().register(
        dict((await house.passkeys.see_again("alice", pending.id, EXAMPLE, caller=ADMIN)).public_key), ORIGIN
    )
    with watching_claims(house) as claimed:
        for _ in range(3):
            with pytest.raises(Refused) as refused:
                await house.passkeys.confirm("alice", pending.id, response, EXAMPLE)
            assert refused.value.code == "step_up_required"
        assert claimed == []
        assert isinstance(await house.passkeys.confirm("alice", pending.id, response, EXAMPLE, caller=ADMIN), Confirmed)
