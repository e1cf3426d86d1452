from collections.abc import Sequence

import msgspec
import pytest
from tests.kit import PlainProvider, RepeatableEntropy, SetClock

from twofold.core.decision import ReceiptClaims
from twofold.core.ticket import Ticket
from twofold.errors import ConfigurationError, DataKeyMissing, InvalidInput, TamperedRecord, Unavailable
from twofold.keys.keyring import PURPOSES, Keyring
from twofold.keys.receipts import KeyringReceipts
from twofold.ports import WrappedKey
from twofold.stores.memory import MemoryStore

PLACE = {"field": "accounts.seed", "account_id": "alice", "authenticator_id": "au_1"}
NONCE = b"n" * 12
DAY_S = 86_400


class Shelf(MemoryStore):
    """A key store whose rows a test may change, and whose number of accounts it may set."""

    accounts = 0

    async def count_accounts(self) -> int:
        return self.accounts

    def change(self, key_id: str, **changes: object) -> None:
        self._keys[key_id] = msgspec.structs.replace(self._keys[key_id], **changes)


class Place:
    """Where a keyring is opened: one store, one provider, one clock."""

    def __init__(self) -> None:
        self.store, self.provider, self.clock, self.entropy = Shelf(), PlainProvider(), SetClock(), RepeatableEntropy()

    async def open(self) -> Keyring:
        return await Keyring.open(self.store, self.provider, self.clock, self.entropy)


def a_ticket(clock: SetClock) -> Ticket:
    now_s = int(clock.now_s)
    return Ticket("sign_in", "", "", "", "webauthn", "", "", (), True, b"c" * 32, now_s, now_s + 300)


async def test_a_new_database_gets_one_active_key_for_each_purpose() -> None:
    place = Place()
    keyring = await place.open()
    rows = keyring.rows()
    assert sorted(row.purpose for row in rows) == sorted(PURPOSES)
    assert {row.state for row in rows} == {"active"}
    assert len({row.id for row in rows}) == len(PURPOSES)
    assert keyring.unwraps == len(PURPOSES)


async def test_opened_again_it_has_the_same_keys() -> None:
    place = Place()
    first = await place.open()
    sealed = first.seal(b"seed", **PLACE, nonce=NONCE)
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
    place.provider.is_down = True
    with pytest.raises(ConfigurationError, match="the plain provider does not open this database"):
        await place.open()
    place.provider.is_down = False
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
    sealed = theirs.seal(b"seed", **PLACE, nonce=NONCE)
    with pytest.raises(DataKeyMissing) as missing:
        mine.open_seal(sealed, **PLACE)
    await mine.fetch(missing.value.key_id)
    assert mine.open_seal(sealed, **PLACE) == b"seed"
    assert mine.active_key_id == theirs.active_key_id == missing.value.key_id


async def rotate(place: Place, keyring: Keyring) -> None:
    place.clock.advance(1)
    wrapped = await place.provider.wrap(b"2" * 32, key_id="data-2")
    fresh = WrappedKey("data-2", "data", "active", wrapped, place.clock.now())
    await place.store.add_keys([fresh], retire=[keyring.active_key_id])
    await keyring.refresh()


async def test_what_an_older_key_sealed_still_opens_and_new_seals_use_the_new_one() -> None:
    place = Place()
    keyring = await place.open()
    old = keyring.seal(b"seed", **PLACE, nonce=NONCE)
    await rotate(place, keyring)
    assert keyring.active_key_id == "data-2"
    assert keyring.open_seal(old, **PLACE) == b"seed"
    assert b"data-2" in keyring.seal(b"seed", **PLACE, nonce=NONCE)


async def test_a_destroyed_key_is_unavailable_and_not_asked_for_again() -> None:
    place = Place()
    keyring = await place.open()
    old, old_id = keyring.seal(b"seed", **PLACE, nonce=NONCE), keyring.active_key_id
    await rotate(place, keyring)
    place.store.change(old_id, state="destroyed")
    await keyring.refresh()
    with pytest.raises(DataKeyMissing):
        keyring.open_seal(old, **PLACE)
    await keyring.fetch(old_id)
    with pytest.raises(Unavailable) as unavailable:
        keyring.open_seal(old, **PLACE)
    assert not isinstance(unavailable.value, DataKeyMissing)


async def test_a_seal_moved_elsewhere_does_not_open() -> None:
    keyring = await Place().open()
    sealed = keyring.seal(b"seed", **PLACE, nonce=NONCE)
    with pytest.raises(TamperedRecord):
        keyring.open_seal(sealed, **{**PLACE, "account_id": "bob"})
    assert keyring.open_seal(sealed, **PLACE) == b"seed"


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
    await keyring.rotate_ticket_key()
    assert active() == first
    place.clock.advance(1)
    await keyring.rotate_ticket_key()
    assert active() != first


@pytest.mark.parametrize("age_s", [DAY_S + 1, 3 * DAY_S], ids=["in time", "late"])
async def test_a_ticket_made_just_before_its_key_changed_is_good_for_its_whole_life(age_s: int) -> None:
    place = Place()
    keyring = await place.open()
    place.clock.advance(age_s)
    text = keyring.issue_ticket(a_ticket(place.clock))
    await keyring.rotate_ticket_key()
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
