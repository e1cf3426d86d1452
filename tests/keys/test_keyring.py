import asyncio
import logging
from collections.abc import Sequence

import msgspec
import pytest
from tests.keys.rings import HOME, Place, Shelf
from tests.kit import PlainProvider, RepeatableEntropy, SetClock

from twofold.core.decision import ReceiptClaims
from twofold.core.ticket import Ticket
from twofold.core.verification import SEED_FIELD
from twofold.crypto.seal import read_key_id, read_own_key
from twofold.errors import (
    ConfigurationError,
    DataKeyMissing,
    InvalidInput,
    KeyRefused,
    ProviderAway,
    TamperedRecord,
    Unavailable,
)
from twofold.key_ports import Unwrapping, WrappedKey
from twofold.keys.keyring import PURPOSES, USES_BLOCK, USES_FIRST_BLOCK, USES_MAX, Keyring
from twofold.keys.node import ThisNode
from twofold.keys.opened import LEASE_S, LEASE_USES
from twofold.keys.receipts import KeyringReceipts
from twofold.keys.rotation import Rotation

PLACE = {"field": SEED_FIELD, "account_id": "alice", "authenticator_id": "au_1"}
NONCE = b"n" * 12
DAY_S = 86_400


async def seal(keyring: Keyring, plaintext: bytes = b"seed", **changes: str) -> bytes:
    """As whoever seals does it: what is missing is fetched."""
    while True:
        try:
            return keyring.seal(plaintext, **{**PLACE, **changes}, nonce=NONCE)
        except DataKeyMissing as missing:
            await keyring.fetch(missing)


async def open_seal(keyring: Keyring, sealed: bytes, **changes: str) -> bytes:
    while True:
        try:
            return keyring.open_seal(sealed, **{**PLACE, **changes})
        except DataKeyMissing as missing:
            await keyring.fetch(missing)


async def silently(_kind: str, _payload: object) -> None:
    """Nobody writes it down."""


def rotation_of(keyring: Keyring) -> Rotation:
    return Rotation(keyring, ThisNode(keyring, keyring.store), silently)  # type: ignore[arg-type]


async def rotate(place: Place, keyring: Keyring) -> str:
    """The id of the new data key."""
    place.clock.advance(1)
    return (await rotation_of(keyring).make_data_key("test")).id


def a_ticket(clock: SetClock) -> Ticket:
    now_s = int(clock.now_s)
    return Ticket("sign_in", "", "", "", "webauthn", "", "", (), True, b"c" * 32, now_s, now_s + 300)


async def test_a_new_database_gets_one_active_key_for_each_purpose() -> None:
    place = Place()
    keyring = await place.open()
    rows = keyring.rows()
    assert sorted(row.purpose for row in rows) == sorted((*PURPOSES, "master"))
    assert {row.state for row in rows} == {"active"}
    assert len({row.id for row in rows}) == len(PURPOSES) + 1
    uses, _ = keyring.masters.trace.take()
    for operation in ("wrapped", "unwrapped"):
        assert {use.key_id for use in uses if use.operation == operation} == {row.id for row in rows}
    assert len(place.provider.asked) == len(uses)


async def test_opened_again_it_has_the_same_keys() -> None:
    place = Place()
    first = await place.open()
    sealed = await seal(first)
    again = await place.open()
    assert again.open_seal(sealed, **PLACE) == b"seed"
    assert again.index_digest(b"contact", b"x") == first.index_digest(b"contact", b"x")
    assert again.mac_keys().is_signed(first.mac_keys().sign(b"doc"), b"doc")


async def test_a_second_first_start_uses_the_keys_of_the_first() -> None:
    place = Place()
    racing: list[Keyring] = []

    class Racing(Shelf):
        async def load_keys(self) -> Sequence[WrappedKey]:
            rows = await super().load_keys()
            if not racing and not rows:
                racing.append(None)  # type: ignore[arg-type]
                racing[0] = await place.open()
            return rows

    place.store = Racing()
    second = await place.open()
    assert {row.id for row in second.rows()} == {row.id for row in racing[0].rows()}


async def test_no_keys_are_made_over_a_database_that_has_accounts() -> None:
    place = Place()
    place.store.accounts = 1
    with pytest.raises(ConfigurationError, match="backup"):
        await place.open()
    assert await place.store.load_keys() == []


async def test_with_another_master_key_nothing_starts() -> None:
    place = Place()
    await place.open()
    other = Place()
    other.store, other.provider.name = place.store, "other"
    with pytest.raises(ConfigurationError, match="the other provider does not open this database"):
        await other.open()
    assert await place.open()


@pytest.mark.parametrize("purpose", PURPOSES)
async def test_without_an_active_key_of_every_purpose_nothing_starts(purpose: str) -> None:
    place = Place()
    keyring = await place.open()
    key_id = next(row.id for row in keyring.rows() if row.purpose == purpose)
    place.store.change(key_id, state="destroyed")
    with pytest.raises(ConfigurationError, match=purpose):
        await place.open()


async def test_a_key_that_another_process_made_is_missing_until_it_is_fetched() -> None:
    place = Place()
    mine, theirs = await place.open(), await place.open()
    await rotate(place, theirs)
    sealed = await seal(theirs)
    with pytest.raises(DataKeyMissing) as missing:
        mine.open_seal(sealed, **PLACE)
    await mine.fetch(missing.value)
    assert mine.open_seal(sealed, **PLACE) == b"seed"
    assert mine.active_key_id == theirs.active_key_id == missing.value.key_id


async def test_what_an_older_key_sealed_still_opens_and_new_seals_use_the_new_one() -> None:
    place = Place()
    keyring = await place.open()
    old = await seal(keyring)
    fresh = await rotate(place, keyring)
    assert keyring.active_key_id == fresh
    assert keyring.open_seal(old, **PLACE) == b"seed"
    assert read_key_id(await seal(keyring)) == fresh


async def test_a_destroyed_key_is_unavailable_and_not_asked_for_again() -> None:
    place = Place()
    keyring = await place.open()
    old, old_id = await seal(keyring), keyring.active_key_id
    await rotate(place, keyring)
    place.store.change(old_id, state="destroyed", wrapped=b"")
    await keyring.refresh()
    with pytest.raises(DataKeyMissing) as missing:
        keyring.open_seal(old, **PLACE)
    asked = len(place.provider.asked)
    await keyring.fetch(missing.value)
    for ask in (lambda: keyring.open_seal(old, **PLACE), lambda: keyring.check_known(old)):
        with pytest.raises(Unavailable, match="was destroyed") as unavailable:
            ask()
        assert not isinstance(unavailable.value, DataKeyMissing)
    assert len(place.provider.asked) == asked


async def test_whether_the_key_of_a_seal_is_there_is_told_without_opening_anything() -> None:
    place = Place()
    keyring, other = await place.open(), await place.open()
    shared = await seal(keyring)
    keyring.mode = "per-seed"
    own = await seal(keyring)
    fresh = await rotate(place, other)
    newer = await seal(other)
    place.provider.fault = KeyRefused("nothing is opened")
    for sealed in (shared, own):
        keyring.check_known(sealed)
    with pytest.raises(DataKeyMissing) as missing:
        keyring.check_known(newer)
    assert missing.value.key_id == fresh
    place.provider.fault = None
    await keyring.fetch(missing.value)
    keyring.check_known(newer)


async def test_a_seal_moved_elsewhere_does_not_open() -> None:
    keyring = await Place().open()
    sealed = await seal(keyring)
    with pytest.raises(TamperedRecord):
        await open_seal(keyring, sealed, account_id="bob")
    assert await open_seal(keyring, sealed) == b"seed"


async def test_an_index_tells_nothing_without_its_key() -> None:
    one = await Place().open()
    other_place = Place()
    other_place.entropy = RepeatableEntropy(1)
    other = await other_place.open()
    assert one.index_digest(b"contact", b"a@example.com") != other.index_digest(b"contact", b"a@example.com")
    assert one.index_digest(b"contact", b"a") != one.index_digest(b"contacta", b"")


async def test_a_ticket_is_read_back_until_its_key_is_gone() -> None:
    place = Place()
    keyring = await place.open()
    ticket = a_ticket(place.clock)
    text = keyring.issue_ticket(ticket)
    assert keyring.read_ticket(text) == ticket
    with pytest.raises(InvalidInput):
        keyring.read_ticket(text[:-2])


async def test_the_ticket_key_changes_once_a_day_and_not_before() -> None:
    place = Place()
    keyring = await place.open()

    def active() -> str:
        return next(row.id for row in keyring.rows() if row.purpose == "ticket" and row.state == "active")

    first = active()
    place.clock.advance(DAY_S)
    await rotation_of(keyring).rotate_ticket_key()
    assert active() == first
    place.clock.advance(1)
    await rotation_of(keyring).rotate_ticket_key()
    assert active() != first


@pytest.mark.parametrize("age_s", [DAY_S + 1, 3 * DAY_S], ids=["in time", "late"])
async def test_a_ticket_made_just_before_its_key_changed_is_good_for_its_whole_life(age_s: int) -> None:
    place = Place()
    keyring = await place.open()
    place.clock.advance(age_s)
    text = keyring.issue_ticket(a_ticket(place.clock))
    await rotation_of(keyring).rotate_ticket_key()
    place.clock.advance(299)
    assert keyring.read_ticket(text)
    place.clock.advance(900)
    with pytest.raises(InvalidInput):
        keyring.read_ticket(text)
    assert keyring.read_ticket(keyring.issue_ticket(a_ticket(place.clock)))


CLAIMS = ReceiptClaims("j", "alice", "shop", "e", 1, 121, 1, ("otp",), "urn:nist:aal1", "au_1", "pay")


async def test_a_receipt_is_checked_under_the_key_that_the_deployment_publishes() -> None:
    place = Place()
    receipts = KeyringReceipts(await place.open(), "https://login.example.com")
    receipt = receipts.issue(CLAIMS)
    assert receipts.check(receipt, field="receipt") == CLAIMS
    elsewhere = KeyringReceipts(await place.open(), "https://other.example.com")
    with pytest.raises(InvalidInput) as invalid:
        elsewhere.check(receipt, field="step_up")
    assert invalid.value.field == "step_up"
    [key] = receipts.jwks()["keys"]
    assert key["crv"] == "Ed25519"
    assert "d" not in key


# Leases.


async def test_a_data_key_serves_for_its_time_and_then_the_provider_is_asked_again() -> None:
    place = Place()
    keyring = await place.open()
    sealed = await seal(keyring)
    place.clock.advance(LEASE_S - 1)
    assert keyring.open_seal(sealed, **PLACE) == b"seed"
    keyring.check_usable()
    place.clock.advance(1)
    for ask in (
        lambda: keyring.open_seal(sealed, **PLACE),
        lambda: keyring.seal(b"seed", **PLACE, nonce=NONCE),
        keyring.check_usable,
    ):
        with pytest.raises(DataKeyMissing):
            ask()
    asked = len(place.provider.asked)
    assert await open_seal(keyring, sealed) == b"seed"
    keyring.check_usable()
    assert place.provider.asked[asked:] == [("unwrap", keyring.active_key_id)]


async def test_a_data_key_serves_for_its_uses_and_then_the_provider_is_asked_again() -> None:
    place = Place()
    keyring = await place.open()
    sealed = await seal(keyring)
    opened = keyring._opened[keyring.active_key_id]
    opened._uses = 1
    assert keyring.open_seal(sealed, **PLACE) == b"seed"
    with pytest.raises(DataKeyMissing):
        keyring.open_seal(sealed, **PLACE)
    assert await open_seal(keyring, sealed) == b"seed"
    assert opened._uses == LEASE_USES - 1


async def test_a_clock_that_is_set_back_ends_the_lease() -> None:
    place = Place()
    keyring = await place.open()
    place.clock.advance(-1)
    with pytest.raises(DataKeyMissing):
        keyring.check_usable()
    await keyring.check()
    keyring.check_usable()


async def test_upkeep_renews_the_lease_in_its_second_half_and_not_before() -> None:
    place = Place()
    keyring = await place.open()
    asked = len(place.provider.asked)
    place.clock.advance(LEASE_S / 2 - 1)
    await keyring.check()
    assert len(place.provider.asked) == asked
    place.clock.advance(1)
    await keyring.check()
    assert len(place.provider.asked) == asked + 1
    place.clock.advance(LEASE_S - 1)
    keyring.check_usable()


async def test_while_the_provider_is_away_the_keys_in_memory_serve_until_their_time_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    place = Place()
    keyring = await place.open()
    sealed = await seal(keyring)
    place.provider.fault = ProviderAway("the home provider is away")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            place.clock.advance(LEASE_S / 4)
            await keyring.check()
        assert keyring.fault == "the home provider is away; the keys in memory serve for another 3 min 45 s"
        assert keyring.open_seal(sealed, **PLACE) == b"seed"
        place.clock.advance(LEASE_S / 4)
        with pytest.raises(ProviderAway):
            await keyring.check()
        with pytest.raises(DataKeyMissing):
            keyring.open_seal(sealed, **PLACE)
        assert keyring.fault == "the home provider is away"
        place.provider.fault = None
        await keyring.check()
    assert keyring.fault == ""
    assert keyring.open_seal(sealed, **PLACE) == b"seed"
    # Once each way, and not every second.
    assert [record.message for record in caplog.records] == [
        "key provider: the home provider is away; the keys in memory serve for another 7 min 30 s",
        "key provider: the home provider answers again",
    ]


async def test_a_refusal_ends_what_is_in_memory_at_once() -> None:
    place = Place()
    keyring = await place.open()
    sealed = await seal(keyring)
    place.provider.fault = KeyRefused("the key was disabled")
    with pytest.raises(KeyRefused):
        await keyring.check()
    with pytest.raises(DataKeyMissing):
        keyring.open_seal(sealed, **PLACE)
    with pytest.raises(KeyRefused):
        await open_seal(keyring, sealed)
    assert keyring.fault == "the key was disabled"
    place.provider.fault = None
    assert await open_seal(keyring, sealed) == b"seed"
    await keyring.check()
    assert keyring.fault == ""


async def test_an_older_data_key_has_a_lease_of_its_own() -> None:
    place = Place()
    keyring = await place.open()
    old = await seal(keyring)
    await rotate(place, keyring)
    place.clock.advance(LEASE_S)
    with pytest.raises(DataKeyMissing):
        keyring.open_seal(old, **PLACE)
    assert await open_seal(keyring, old) == b"seed"


async def test_twenty_that_miss_the_same_key_at_once_all_have_it() -> None:
    place = Place()
    keyring = await place.open()
    sealed = await seal(keyring)
    place.clock.advance(LEASE_S)
    keyring.masters._providers[keyring.masters.active] = Slow(place.provider)
    assert await asyncio.gather(*(open_seal(keyring, sealed) for _ in range(20))) == [b"seed"] * 20
    place.provider.fault = ProviderAway("not now")
    assert await open_seal(keyring, sealed) == b"seed"


async def test_however_many_ask_whether_it_is_ready_the_provider_is_asked_once() -> None:
    place = Place()
    keyring = await place.open()
    place.clock.advance(LEASE_S / 2)
    keyring.masters._providers[keyring.masters.active] = Slow(place.provider)
    before = len(place.provider.asked)
    await asyncio.gather(*(keyring.check() for _ in range(50)))
    assert len(place.provider.asked) == before + 1


class Slow(PlainProvider):
    """Another provider that lets others have a turn before it answers."""

    def __init__(self, provider: PlainProvider) -> None:
        super().__init__(provider.name)
        self.asked = provider.asked

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        await asyncio.sleep(0)
        return await super().unwrap(wrapped, key_id=key_id)


# Uses.


async def uses_of(place: Place, keyring: Keyring) -> int:
    return (await place.row(keyring.active_key_id)).uses


async def test_uses_are_reserved_in_blocks_before_they_are_made() -> None:
    place = Place()
    keyring = await place.open()
    assert await uses_of(place, keyring) == 0
    with pytest.raises(DataKeyMissing):
        keyring.seal(b"seed", **PLACE, nonce=NONCE)
    for _ in range(USES_FIRST_BLOCK):
        await seal(keyring)
    assert await uses_of(place, keyring) == USES_FIRST_BLOCK
    await seal(keyring)
    assert await uses_of(place, keyring) == USES_FIRST_BLOCK + USES_BLOCK
    assert keyring._reserved == USES_BLOCK - 1


async def test_each_process_reserves_uses_of_its_own() -> None:
    place = Place()
    one, other = await place.open(), await place.open()
    await seal(one)
    await seal(other)
    assert await uses_of(place, one) == 2 * USES_FIRST_BLOCK


async def test_those_who_reserve_at_the_same_time_have_what_was_reserved_and_no_more() -> None:
    class Turns(Shelf):
        async def reserve_uses(self, key_id: str, count: int, uses_max: int) -> int:
            await asyncio.sleep(0)
            return await super().reserve_uses(key_id, count, uses_max)

    place = Place()
    place.store = Turns()
    keyring = await place.open()
    missing = DataKeyMissing(keyring.active_key_id)
    await asyncio.gather(*(keyring.fetch(missing) for _ in range(5)))
    assert 0 < keyring._reserved <= await uses_of(place, keyring)


async def test_a_key_that_is_used_up_is_replaced_before_it_seals_once_more() -> None:
    place = Place()
    keyring = await place.open()
    old = keyring.active_key_id
    place.store.change(old, uses=USES_MAX - USES_FIRST_BLOCK)
    for _ in range(USES_FIRST_BLOCK):
        assert read_key_id(await seal(keyring)) == old
    fresh = read_key_id(await seal(keyring))
    assert fresh != old
    assert ((await place.row(old)).state, (await place.row(fresh)).state) == ("decrypt_only", "active")
    assert (await place.row(old)).uses == USES_MAX


async def test_uses_that_were_left_of_the_key_before_do_not_count_for_the_next_one() -> None:
    place = Place()
    keyring = await place.open()
    await seal(keyring)
    await rotate(place, keyring)
    with pytest.raises(DataKeyMissing):
        keyring.seal(b"seed", **PLACE, nonce=NONCE)
    await seal(keyring)
    assert await uses_of(place, keyring) == USES_BLOCK


# Seeds with keys of their own.


async def test_a_seed_with_a_key_of_its_own_opens_only_while_that_key_is_lent() -> None:
    place = Place()
    keyring = await place.open("per-seed")
    with pytest.raises(DataKeyMissing) as missing:
        keyring.seal(b"seed", **PLACE, nonce=NONCE)
    await keyring.fetch(missing.value)
    sealed = keyring.seal(b"seed", **PLACE, nonce=NONCE)
    keyring.drop([missing.value])
    own = read_own_key(sealed)
    assert own is not None
    assert own.master == read_key_id(sealed) == keyring.masters.active
    with pytest.raises(DataKeyMissing) as missing:
        keyring.open_seal(sealed, **PLACE)
    await keyring.fetch(missing.value, subject="alice")
    assert keyring.open_seal(sealed, **PLACE) == b"seed"
    keyring.drop([missing.value])
    with pytest.raises(DataKeyMissing):
        keyring.open_seal(sealed, **PLACE)
    with pytest.raises(DataKeyMissing):
        keyring.seal(b"seed", **PLACE, nonce=NONCE)
    uses, _ = keyring.masters.trace.take()
    told = [(use.operation, use.reason, use.subject) for use in uses if use.key_id == own.key_id]
    assert (told[0], told[-1]) == (("wrapped", "new seed", ""), ("unwrapped", "seed", "alice"))


async def test_only_seeds_get_keys_of_their_own() -> None:
    keyring = await Place().open("per-seed")
    sealed = await seal(keyring, field="accounts.profile")
    assert read_own_key(sealed) is None
    assert read_key_id(sealed) == keyring.active_key_id


async def test_no_two_seeds_share_a_key() -> None:
    keyring = await Place().open("per-seed")
    sealed = [await seal(keyring, authenticator_id=f"au_{number}") for number in range(3)]
    keys = [own for value in sealed if (own := read_own_key(value))]
    assert len({own.key_id for own in keys}) == len({own.wrapped for own in keys}) == 3


@pytest.mark.parametrize("fault", [KeyRefused("no"), ProviderAway("not now")])
async def test_what_the_provider_does_not_open_stays_closed_and_opens_later(fault: Unavailable) -> None:
    place = Place()
    keyring = await place.open("per-seed")
    first = await seal(keyring)
    keyring.drop([DataKeyMissing("alice/au_1", b"")])
    place.provider.fault = fault
    with pytest.raises(type(fault)):
        await open_seal(keyring, first)
    with pytest.raises(type(fault)):
        await seal(keyring)
    assert not keyring._seeds._held
    place.provider.fault = None
    assert await open_seal(keyring, first) == b"seed"


async def test_a_seed_whose_master_key_is_not_known_is_refused() -> None:
    place = Place()
    keyring = await place.open("per-seed")
    sealed = await seal(keyring)
    renamed = sealed.replace(keyring.masters.active.encode(), b"master-00000000")
    with pytest.raises(KeyRefused, match="never belonged"):
        await open_seal(keyring, renamed)
    assert await open_seal(keyring, sealed) == b"seed"


async def test_another_process_opens_a_seed_under_a_master_key_that_is_new_to_it() -> None:
    place = Place()
    place.providers["plain:vault"] = PlainProvider("vault")
    mine, theirs = await place.open("per-seed"), await place.open("per-seed")
    rotation = rotation_of(theirs)
    await rotation.move(await rotation.join_master("plain:vault"), "test")
    sealed = await seal(theirs)
    assert await open_seal(mine, sealed) == b"seed"


# Databases of before, and those that somebody has changed.


async def test_a_database_of_before_gets_the_row_of_its_master_key_at_its_next_start() -> None:
    place = Place()
    sealed = await seal(await place.open())
    (master,) = await place.rows("master")
    del place.store._keys[master.id]
    for row in await place.store.load_keys():
        place.store.change(row.id, master="")
    again = await place.open()
    (entered,) = await place.rows("master")
    assert (entered.state, entered.uri) == ("active", HOME)
    assert {row.master for row in again.rows() if row.purpose != "master"} == {entered.id}
    assert await open_seal(again, sealed) == b"seed"


async def test_a_database_of_before_does_not_open_with_another_master_key() -> None:
    place = Place()
    await place.open()
    (master,) = await place.rows("master")
    del place.store._keys[master.id]
    for row in await place.store.load_keys():
        place.store.change(row.id, master="")
    other = Place()
    other.store, other.provider.name = place.store, "other"
    with pytest.raises(ConfigurationError, match="does not open this database"):
        await other.open()
    assert await place.rows("master") == []
    await place.open()


async def test_a_master_key_that_was_moved_to_another_place_is_entered_there() -> None:
    place = Place()
    await place.open()
    place.configured = "plain:elsewhere"
    place.providers["plain:elsewhere"] = place.provider
    keyring = await place.open()
    (master,) = await place.rows("master")
    assert master.uri == "plain:elsewhere"
    assert keyring.masters._read_uri(master) == "plain:elsewhere"


async def test_with_a_former_master_key_nothing_starts_and_the_one_to_set_is_named() -> None:
    place = Place()
    place.providers["plain:vault"] = PlainProvider("vault")
    keyring = await place.open()
    sealed = await seal(keyring)
    rotation = rotation_of(keyring)
    await rotation.move(await rotation.join_master("plain:vault"), "test")
    with pytest.raises(ConfigurationError, match="set KEY_PROVIDER") as refused:
        await place.open()
    assert "plain:vault" in str(refused.value)
    assert "\n" not in str(refused.value)
    place.configured = "plain:vault"
    assert await open_seal(await place.open(), sealed) == b"seed"


async def test_a_key_row_whose_purpose_was_exchanged_does_not_pass() -> None:
    place = Place()
    keyring = await place.open()
    ticket = next(row.id for row in keyring.rows() if row.purpose == "ticket")
    place.store.change(ticket, purpose="index")
    with pytest.raises(ConfigurationError, match=f"{ticket} is not for index"):
        await place.open()
    place.store.change(ticket, purpose="ticket")
    await place.open()


@pytest.mark.parametrize("fault", [KeyRefused("no"), ProviderAway("not now")])
async def test_a_start_without_the_provider_ends_in_one_line_and_makes_nothing(fault: Unavailable) -> None:
    place = Place()
    place.provider.fault = fault
    with pytest.raises(ConfigurationError) as refused:
        await place.open()
    assert len(str(refused.value).splitlines()) == 1
    assert await place.store.load_keys() == []
    place.provider.fault = None
    await place.open()


async def test_a_closed_keyring_has_forgotten_its_data_keys() -> None:
    place = Place()
    keyring = await place.open()
    await keyring.close()
    with pytest.raises(DataKeyMissing):
        keyring.check_usable()
    assert (await place.open()).check_usable() is None


async def test_tickets_are_good_while_a_rotation_of_signing_keys_that_failed_is_not_repeated() -> None:
    place = Place()
    keyring = await place.open()
    place.clock.advance(60)
    announced = msgspec.structs.replace(await keyring.make("ticket", "test"), state="decrypt_only")
    await place.store.change_keys([(None, announced)])
    await keyring.refresh()
    place.clock.advance(3600)
    ticket = a_ticket(place.clock)
    assert keyring.read_ticket(keyring.issue_ticket(ticket)) == ticket
