import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import add_phone, open_for_test, open_in_memory, phone_of
from tests.kit import Phone, SetClock, wrong_code

from twofold.bootstrap import Deployment
from twofold.core.decision import Confirmed, Redeemed, Rejected, Throttled, Verified
from twofold.core.network import network_of
from twofold.credentials import OtpParameters
from twofold.engine import Caller
from twofold.errors import Busy, InvalidInput, Refused, Unavailable
from twofold.verifier import THREE_CODES_PER_SECOND_WITHOUT_ADDRESS, Verifier

ADMIN = Caller(is_admin=True)


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture(params=["memory", "sqlite"])
async def deployment(request: pytest.FixtureRequest, tmp_path: Path, clock: SetClock) -> AsyncIterator[Deployment]:
    is_memory = request.param == "memory"
    opened = await (open_in_memory(clock) if is_memory else open_for_test(tmp_path / "data", clock))
    yield opened
    await opened.close()


@pytest.fixture
def verifier(deployment: Deployment) -> Verifier:
    return deployment.verifier


async def refusal(attempt: Any) -> str:
    with pytest.raises(Refused) as refused:
        await attempt
    return refused.value.code


# The main path.


async def test_a_phone_is_enrolled_confirmed_and_lets_its_owner_in(verifier: Verifier, clock: SetClock) -> None:
    pending = await verifier.enroll("alice", "totp", label="phone")
    assert pending.expires_at == clock.now() + 900 * 1_000_000
    assert pending.uri.startswith("otpauth://totp/Twofold:alice?secret=" + pending.secret)
    assert "<svg" in pending.qr_svg
    assert pending.qr_png.startswith("data:image/png;base64,")
    phone = phone_of(pending)
    assert len(phone.secret) == 20, "160 bits"
    confirmed = await verifier.confirm("alice", pending.id, code=phone.code(clock.now()))
    assert isinstance(confirmed, Confirmed)
    assert len(confirmed.recovery_codes) == 10
    again = await verifier.verify("alice", code=phone.code(clock.now()))
    assert again == Rejected("code_already_used", retry_after_s=30)
    clock.advance(30)
    let_in = await verifier.verify("alice", code=phone.code(clock.now()))
    assert isinstance(let_in, Verified)
    assert (let_in.factor, let_in.authenticator_id, let_in.receipt) == ("totp", phone.id, None)


async def test_a_secret_never_shows_in_what_is_printed(verifier: Verifier, clock: SetClock) -> None:
    pending = await verifier.enroll("alice")
    assert pending.secret not in repr(pending)
    _, confirmed = await add_phone(verifier, "bob", clock)
    assert confirmed.recovery_codes[0] not in repr(confirmed)


async def test_trap_17_generated_seeds_have_160_bits_and_are_distinct(verifier: Verifier) -> None:
    pending = [await verifier.enroll(f"account-{number}") for number in range(50)]
    assert len({p.secret for p in pending}) == len({p.id for p in pending}) == 50
    assert {len(p.secret) for p in pending} == {32}


async def test_trap_51_after_a_reload_the_same_secret_is_shown_and_another_caller_sees_another(
    verifier: Verifier,
) -> None:
    first = await verifier.enroll("alice")
    assert await verifier.enroll("alice", label="another label") == first
    other = await verifier.enroll("alice", caller=Caller("shop"))
    assert other.secret != first.secret
    await verifier.revoke("alice", first.id)
    assert (await verifier.enroll("alice")).secret != first.secret


async def test_an_application_may_be_kept_from_adding_accounts(verifier: Verifier) -> None:
    assert await refusal(verifier.enroll("alice", may_add_account=False)) == "not_found"
    await verifier.accounts.put("alice")
    assert (await verifier.enroll("alice", may_add_account=False)).factor == "totp"


async def test_a_hotp_token_is_enrolled_and_found_again_by_two_codes(verifier: Verifier, clock: SetClock) -> None:
    token, _ = await add_phone(verifier, "alice", clock, factor="hotp")
    assert isinstance(await verifier.verify("alice", codes=[token.code_of(60), token.code_of(61)]), Verified)
    assert isinstance(await verifier.verify("alice", code=token.code_of(62)), Verified)


async def test_only_factors_that_can_be_enrolled_are_offered(verifier: Verifier) -> None:
    with pytest.raises(InvalidInput) as invalid:
        await verifier.enroll("alice", "sms")  # type: ignore[arg-type]
    assert invalid.value.field == "factor"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "code"),
        ({"code": "1", "codes": ["1"]}, "code"),
        ({"codes": []}, "codes"),
        ({"codes": ["1"] * 4}, "codes"),
        ({"code": "1", "purpose": ""}, "purpose"),
        ({"code": "1", "purpose": "x" * 129}, "purpose"),
        ({"code": "1", "binding": "a\nb"}, "binding"),
        ({"codes": ["1", "2", "3"], "ip": "not an address"}, "context.ip"),
    ],
    ids=str,
)
async def test_what_cannot_be_understood_is_named_and_nothing_is_counted(
    verifier: Verifier, clock: SetClock, asked: dict[str, Any], field: str
) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    events = len(await verifier.accounts.events("alice"))
    with pytest.raises(InvalidInput) as invalid:
        await verifier.verify("alice", **asked)
    assert invalid.value.field == field
    assert len(await verifier.accounts.events("alice")) == events
    assert isinstance(await verifier.verify("alice", code=phone.code(clock.now())), Verified)


# Races.


async def test_trap_03_of_many_who_send_one_code_at_once_one_is_let_in(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    code = phone.code(clock.now())
    ends = await asyncio.gather(*(verifier.verify("alice", code=code) for _ in range(8)))
    assert sum(isinstance(end, Verified) for end in ends) == 1
    assert sum(end.reason == "code_already_used" for end in ends if isinstance(end, Rejected)) == 7


async def test_trap_20_of_many_who_send_one_recovery_code_at_once_one_is_let_in(
    verifier: Verifier, clock: SetClock
) -> None:
    _, confirmed = await add_phone(verifier, "alice", clock)
    code = confirmed.recovery_codes[0]
    attempts = (verifier.verify("alice", code=code) for _ in range(20))
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Verified) for end in ends) == 1
    assert all(isinstance(end, Verified | Rejected | Busy) for end in ends)
    assert (await verifier.accounts.get("alice")).recovery_codes_left == 9


async def test_of_many_who_confirm_at_once_one_gets_the_recovery_codes(verifier: Verifier, clock: SetClock) -> None:
    phone = phone_of(await verifier.enroll("alice"))
    attempts = (verifier.confirm("alice", phone.id, code=phone.code(clock.now())) for _ in range(8))
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Confirmed) for end in ends) == 1
    assert all(isinstance(end, Confirmed | Busy | Refused) for end in ends)
    assert (await verifier.accounts.get("alice")).recovery_codes_left == 10


async def test_trap_37_of_two_hundred_wrong_codes_at_once_no_more_are_judged_than_the_lane_allows(
    verifier: Verifier, clock: SetClock
) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    wrong = wrong_code(phone, clock.now())
    attempts = (verifier.verify("alice", code=wrong) for _ in range(200))
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Rejected) for end in ends) == 3, "the third one begins the delay"
    assert all(isinstance(end, Rejected | Throttled | Busy) for end in ends)
    clock.advance(1)
    assert isinstance(await verifier.verify("alice", code=phone.code(clock.now())), Verified)


async def test_a_receipt_is_redeemed_by_one_of_many(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    verified = await verifier.verify("alice", code=phone.code(clock.now()), purpose="pay")
    assert isinstance(verified, Verified)
    assert verified.receipt is not None
    attempts = (verifier.redeem(verified.receipt, purpose="pay") for _ in range(8))
    ends = await asyncio.gather(*attempts, return_exceptions=True)
    assert sum(isinstance(end, Redeemed) for end in ends) == 1
    assert [end.code for end in ends if isinstance(end, Refused)] == ["receipt_used"] * 7


# Three codes.


async def test_three_codes_are_judged_ten_times_a_minute_for_each_network(verifier: Verifier, clock: SetClock) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    clock.set(clock.now_s // 60 * 60 + 60)
    for number in range(10):
        ip = f"2001:db8:1:2::{number}"
        assert await verifier.verify("alice", codes=["000000"] * 3, ip=ip) == Rejected("wrong_code")
    three = phone.three(clock.now())
    assert isinstance(await verifier.verify("alice", codes=three, ip="2001:db8:1:2:ffff::1"), Throttled)
    other, _ = await add_phone(verifier, "bob", clock)
    clock.advance(90)
    bobs = await verifier.verify("bob", codes=other.three(clock.now()), ip="2001:db8:1:2:ffff::1")
    assert isinstance(bobs, Verified), "the neighbor of a guesser is another person"
    three = phone.three(clock.now())
    assert isinstance(await verifier.verify("alice", codes=three, ip="2001:db8:1:3::1"), Verified)
    clock.advance(90)
    three = phone.three(clock.now())
    assert isinstance(await verifier.verify("alice", codes=three, ip="2001:db8:1:2::1"), Verified)


async def test_without_an_address_three_codes_are_judged_so_often_a_second_that_nobody_is_kept_out(
    verifier: Verifier, clock: SetClock
) -> None:
    phone, _ = await add_phone(verifier, "alice", clock)
    clock.advance(90)
    for _ in range(THREE_CODES_PER_SECOND_WITHOUT_ADDRESS):
        assert await verifier.verify("alice", codes=["000000"] * 3) == Rejected("wrong_code")
    throttled = await verifier.verify("alice", codes=phone.three(clock.now()))
    assert isinstance(throttled, Throttled)
    assert throttled.retry_after_s == 1
    clock.advance(1)
    assert isinstance(await verifier.verify("alice", codes=phone.three(clock.now())), Verified)


async def test_the_strict_profile_takes_no_three_codes_and_no_short_seeds(clock: SetClock) -> None:
    strict = await open_in_memory(clock, profile="strict")
    phone, _ = await add_phone(strict.verifier, "alice", clock)
    with pytest.raises(InvalidInput):
        await strict.verifier.verify("alice", codes=phone.three(clock.now()))
    with pytest.raises(InvalidInput) as invalid:
        await strict.verifier.accounts.import_authenticator("alice", "totp", OtpParameters(b"x" * 13), caller=ADMIN)
    assert invalid.value.field == "secret"
    assert await strict.verifier.accounts.import_authenticator("alice", "totp", OtpParameters(b"x" * 14), caller=ADMIN)
    assert isinstance(await strict.verifier.verify("alice", code=phone.code(clock.now())), Verified)
    await strict.close()


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:ffff:ffff:ffff", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
    ],
)
def test_trap_36_an_ipv6_neighbor_is_a_slash_64_and_a_mapped_address_is_ipv4(ip: str, network: str) -> None:
    assert network_of(ip) == network


@pytest.mark.parametrize("ip", ["", "localhost", "192.0.2", "192.0.2.7, 198.51.100.1", "1" * 5000])
def test_what_is_no_address_is_invalid(ip: str) -> None:
    with pytest.raises(InvalidInput):
        network_of(ip)


# Opening, closing, crashing.


async def test_what_was_accepted_stays_used_after_a_restart(tmp_path: Path, clock: SetClock) -> None:
    opened = await open_for_test(tmp_path, clock)
    phone, confirmed = await add_phone(opened.verifier, "alice", clock)
    code, recovery_code = phone.code(clock.now()), confirmed.recovery_codes[0]
    assert isinstance(await opened.verifier.verify("alice", code=code), Verified)
    assert isinstance(await opened.verifier.verify("alice", code=recovery_code), Verified)
    await opened.close()
    reopened = await open_for_test(tmp_path, clock, seed=1)
    for used in (code, recovery_code):
        end = await reopened.verifier.verify("alice", code=used)
        assert isinstance(end, Rejected)
        assert end.reason == "code_already_used"
    clock.advance(30)
    assert isinstance(await reopened.verifier.verify("alice", code=phone.code(clock.now())), Verified)
    assert (await reopened.inspection.verify_audit()).ok
    await reopened.close()


async def test_trap_33_failures_are_still_counted_after_a_restart(tmp_path: Path, clock: SetClock) -> None:
    phone: Phone | None = None
    judged = 0
    for seed in range(8):
        opened = await open_for_test(tmp_path, clock, seed=seed)
        if phone is None:
            phone, _ = await add_phone(opened.verifier, "alice", clock)
        for _ in range(3):
            clock.advance(60)
            judged += isinstance(await opened.verifier.verify("alice", code=wrong_code(phone, clock.now())), Rejected)
        await opened.close()
    assert judged == 10


async def test_a_verifier_opens_a_database_of_its_own_and_closes_it(tmp_path: Path) -> None:
    verifier = await Verifier.open(f"sqlite:///{tmp_path}/app.db", issuer="Acme")
    pending = await verifier.enroll("alice")
    assert "issuer=Acme" in pending.uri
    await verifier.close()
    assert (tmp_path / "app.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(Unavailable):
        await verifier.enroll("alice")
