from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from tests.keys.rings import HOME, Place
from tests.kit import PlainProvider

from twofold.errors import ConfigurationError, KeyRefused, ProviderAway, Refused, Unavailable
from twofold.key_ports import Node, Unwrapping, Wrapping
from twofold.keys.keyring import USES_BLOCK, USES_MAX, Keyring
from twofold.keys.node import ThisNode, keyring_stamp
from twofold.keys.rotation import DATA_KEY_DAYS, GRACE_DAYS, SPARE_BLOCKS, Rotation

DAY_S = 86_400
VAULT = "plain:vault"
SIGNING = ("receipt", "ticket", "integrity")


class Workshop(Place):
    """A place with a vault to move to, and what was recorded. `behind` is a server that never follows."""

    def __init__(self) -> None:
        super().__init__()
        self.vault = PlainProvider("vault")
        self.providers[VAULT] = self.vault
        self.told: list[tuple[str, Mapping[str, object]]] = []

    async def begin(self) -> tuple[Keyring, Rotation]:
        keyring = await self.open()
        return keyring, self.rotation(keyring)

    def rotation(self, keyring: Keyring) -> Rotation:
        return Rotation(keyring, ThisNode(keyring, self.store, sleep=self.sleep), self.record)

    async def record(self, kind: str, payload: Mapping[str, object]) -> None:
        self.told.append((kind, payload))

    async def sleep(self, _: float) -> None:
        """Nobody comes after in the meantime."""

    async def put_behind(self) -> None:
        now = self.clock.now()
        node = Node("slow-1", "slow", now, now, (), "its provider is away", "another stamp")
        await self.store.put_node(node, forget_before=0)

    async def active(self, purpose: str) -> str:
        (row,) = (row for row in await self.rows(purpose) if row.state == "active")
        return row.id


async def test_a_new_data_key_seals_from_now_on_and_the_one_before_only_opens() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    old = keyring.active_key_id
    place.clock.advance(1)
    fresh = await rotation.make_data_key("because")
    assert keyring.active_key_id == fresh.id != old
    retired = await place.row(old)
    assert (retired.state, retired.retired_at) == ("decrypt_only", place.clock.now())
    assert place.told == [
        ("key.rotated", {"purpose": "data", "from": old, "key": fresh.id, "reason": "because"}),
    ]


async def test_of_two_that_make_a_data_key_at_once_one_is_used_by_both() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    _, other = await place.begin()
    first, second = await rotation.make_data_key("one"), await other.make_data_key("two")
    assert first.id == second.id
    assert len(await place.rows("data")) == 2
    assert len(place.told) == 1


async def test_a_data_key_is_due_after_ninety_days() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    place.clock.advance(DATA_KEY_DAYS * DAY_S - 1)
    assert not await rotation.is_data_key_due()
    place.clock.advance(1)
    assert await rotation.is_data_key_due()
    await rotation.make_data_key("due")
    assert not await rotation.is_data_key_due()


async def test_a_data_key_is_due_before_it_has_sealed_as_often_as_it_may() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    place.store.change(keyring.active_key_id, uses=USES_MAX - SPARE_BLOCKS * USES_BLOCK)
    assert not await rotation.is_data_key_due()
    place.store.change(keyring.active_key_id, uses=USES_MAX - SPARE_BLOCKS * USES_BLOCK + 1)
    assert await rotation.is_data_key_due()


async def test_the_ticket_key_is_replaced_once_a_day_and_the_one_before_the_last_destroyed() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    await rotation.rotate_ticket_key()
    assert len(await place.rows("ticket")) == 1
    for _ in range(3):
        place.clock.advance(DAY_S + 1)
        await rotation.rotate_ticket_key()
        await rotation.rotate_ticket_key()
    rows = await place.rows("ticket")
    assert [row.state for row in rows] == ["destroyed", "destroyed", "decrypt_only", "active"]
    assert all(not row.wrapped for row in rows[:2])


async def test_a_ticket_key_that_a_server_does_not_know_is_not_used_and_waits_for_the_next_time() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    old = await place.active("ticket")
    place.clock.advance(DAY_S + 1)
    await place.put_behind()
    with pytest.raises(Unavailable, match="the server on slow cannot go along"):
        await rotation.rotate_ticket_key()
    assert await place.active("ticket") == old
    (announced,) = (row.id for row in await place.rows("ticket") if row.id != old)
    assert place.told == []
    # So late that a retired one would be over.
    place.clock.advance(DAY_S)
    await rotation.rotate_ticket_key()
    assert await place.active("ticket") == announced
    assert len(await place.rows("ticket")) == 2
    told = {"purpose": "ticket", "from": old, "key": announced, "reason": "a day old"}
    assert place.told == [("key.rotated", told)]


async def test_the_keys_that_sign_are_replaced_and_what_they_signed_still_counts() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    other = await place.open()
    old = {purpose: await place.active(purpose) for purpose in SIGNING}
    code, old_receipts = keyring.mac_keys().sign(b"document"), keyring.receipt_keys()
    await rotation.replace_signing_keys("because")
    for purpose in SIGNING:
        assert await place.active(purpose) != old[purpose]
        retired = await place.row(old[purpose])
        assert (retired.state, retired.retired_at) == ("decrypt_only", place.clock.now())
    assert keyring.mac_keys().signing_id() == await place.active("integrity")
    assert keyring.mac_keys().is_signed(code, b"document")
    assert {key.key_id for key in old_receipts} < {key.key_id for key in keyring.receipt_keys()}
    await other.refresh()
    assert other.mac_keys().is_signed(keyring.mac_keys().sign(b"document"), b"document")
    assert [payload["purpose"] for _, payload in place.told] == list(SIGNING)
    assert await place.open()


async def test_the_rows_of_master_keys_are_signed_anew_before_the_key_that_signed_them_goes() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    await rotation.join_master(VAULT)
    old = await place.active("integrity")
    await rotation.replace_signing_keys("because")
    # A server that slept through it believes them still.
    assert [row.mac.partition(b"\0")[0].decode() for row in await place.rows("master")] == [old, old]
    await rotation.destroy(old, "because")
    new = await place.active("integrity")
    assert [row.mac.partition(b"\0")[0].decode() for row in await place.rows("master")] == [new, new]
    fresh = await place.open()
    await fresh.masters.try_others()
    assert (len(fresh.masters.usable), fresh.masters.fault) == (2, "")


async def test_keys_that_sign_are_not_used_before_every_server_knows_them() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    old = {purpose: await place.active(purpose) for purpose in SIGNING}
    await place.put_behind()
    with pytest.raises(Unavailable, match="the server on slow cannot go along: its provider is away"):
        await rotation.replace_signing_keys("because")
    assert {purpose: await place.active(purpose) for purpose in SIGNING} == old
    assert keyring.mac_keys().signing_id() == old["integrity"]
    assert place.told == []


async def test_tried_again_and_again_it_leaves_no_more_keys_behind() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    await place.put_behind()
    for _ in range(4):
        with pytest.raises(Unavailable):
            await rotation.replace_signing_keys("because")
    held = [row for purpose in SIGNING for row in await place.rows(purpose) if row.state != "destroyed"]
    assert len(held) <= 2 * len(SIGNING)
    await place.store.drop_node("slow-1")
    await rotation.replace_signing_keys("because")
    held = [row for purpose in SIGNING for row in await place.rows(purpose) if row.state != "destroyed"]
    assert len(held) == 2 * len(SIGNING)


async def test_every_server_uses_the_new_keys_once_it_has_read_the_keyring() -> None:
    place = Workshop()
    mine, _ = await place.begin()
    theirs = await place.open()
    server = ThisNode(theirs, place.store)
    await server.report()
    place.sleep = lambda _: server.report()  # type: ignore[method-assign,assignment]
    await place.rotation(mine).replace_signing_keys("because")
    # Known there already, although not in use there yet.
    assert theirs.mac_keys().is_signed(mine.mac_keys().sign(b"document"), b"document")
    assert theirs.mac_keys().signing_id() != mine.mac_keys().signing_id()
    await server.report()
    assert theirs.mac_keys().signing_id() == mine.mac_keys().signing_id()


# Another master key.


async def test_everything_moves_under_another_master_key() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    await rotation.make_data_key("an older one stays")
    old = keyring.masters.active
    joined = await rotation.join_master(VAULT)
    assert (joined.state, keyring.masters.active) == ("decrypt_only", old)
    place.clock.advance(5)
    await rotation.move(joined, "because")
    assert keyring.masters.active == joined.id
    rows = [row for row in await place.store.load_keys() if row.purpose != "master"]
    assert all(row.master == joined.id and row.wrapped.startswith(b"vault|") for row in rows)
    left = await place.row(old)
    assert (left.state, left.retired_at) == ("decrypt_only", place.clock.now())
    assert [kind for kind, _ in place.told] == ["key.rotated", "key.joined", "key.moved"]
    assert place.told[-1][1] == {"from": old, "key": joined.id, "provider": VAULT, "reason": "because"}
    place.configured = VAULT
    place.provider.fault = KeyRefused("home is gone")
    again = await place.open()
    assert again.active_key_id == keyring.active_key_id


async def test_a_master_key_that_was_retired_is_not_moved_back_to() -> None:
    """It may be in other hands, and one of its two rows would be destroyed one day, and the key with it."""
    place = Workshop()
    keyring, rotation = await place.begin()
    old = keyring.masters.active
    await rotation.move(await rotation.join_master(VAULT), "there")
    with pytest.raises(Refused, match=f"{HOME} holds {old}, which is in use or was retired"):
        await rotation.join_master(HOME)
    assert [row.state for row in await place.rows("master")] == ["decrypt_only", "active"]
    place.providers["plain:other"] = PlainProvider("other")
    await rotation.move(await rotation.join_master("plain:other"), "on")
    assert [row.state for row in await place.rows("master")] == ["decrypt_only", "decrypt_only", "active"]
    place.configured = "plain:other"
    await place.open()


async def test_whoever_has_the_master_key_of_before_enters_no_key_by_it() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    thief = place.rotation(await place.open())
    await rotation.move(await rotation.join_master(VAULT), "stolen")
    forged = await thief._keyring.make("receipt", "forged")
    await place.store.add_keys([msgspec.structs.replace(forged, created_at=place.clock.now() + 1)])
    await keyring.refresh()
    assert forged.id not in {row.id for row in keyring.rows()}
    assert await rotation.make_data_key("and what is ours counts")


async def test_a_key_that_was_retired_is_never_in_use_again() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    old = keyring.active_key_id
    await rotation.make_data_key("because")
    place.store.change(old, state="active")
    with pytest.raises(KeyRefused, match=f"key {old} was retired and is in use again"):
        await keyring.refresh()
    place.store.change(old, state="decrypt_only")
    await keyring.refresh()
    assert keyring.active_key_id != old


async def test_a_rotation_that_a_move_overtakes_adds_no_key_under_the_master_key_of_before() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    other_ring = await place.open()
    other = place.rotation(other_ring)
    make = other_ring.make

    async def moves_first(purpose: Any, reason: str) -> Any:
        fresh = await make(purpose, reason)
        if keyring.masters.active == fresh.master:
            await rotation.move(await rotation.join_master(VAULT), "faster")
        return fresh

    other_ring.make = moves_first  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="try again"):
        await other.replace_signing_keys("slower")
    assert {row.master for row in await place.store.load_keys() if row.purpose != "master"} == {keyring.masters.active}
    place.configured = VAULT
    await place.open()


async def test_the_master_key_in_use_is_not_moved_to() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    with pytest.raises(Refused, match="holds the master key in use already"):
        await rotation.join_master(HOME)
    await rotation.join_master(VAULT)


async def test_tried_again_it_goes_on_with_the_master_key_that_was_entered() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    await place.put_behind()
    for _ in range(2):
        with pytest.raises(Unavailable, match="slow"):
            await rotation.join_master(VAULT)
    assert len(await place.rows("master")) == 2
    await place.store.drop_node("slow-1")
    assert (await rotation.join_master(VAULT)).uri == VAULT
    assert len(await place.rows("master")) == 2


@pytest.mark.parametrize("fault", [KeyRefused("access denied"), ProviderAway("timed out")])
async def test_a_master_key_that_does_not_work_is_not_entered(fault: Unavailable) -> None:
    place = Workshop()
    _, rotation = await place.begin()
    place.vault.fault = fault
    with pytest.raises(type(fault)):
        await rotation.join_master(VAULT)
    with pytest.raises(ConfigurationError):
        await rotation.join_master("plain:nowhere")
    assert len(await place.rows("master")) == 1
    place.vault.fault = None
    await rotation.join_master(VAULT)


async def test_a_master_key_whose_entry_somebody_changed_is_not_moved_to() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    joined = await rotation.join_master(VAULT)
    thief = PlainProvider("thief")
    place.providers["plain:thief"] = thief
    place.store.change(joined.id, uri="plain:thief")
    keyring, rotation = await place.begin()
    with pytest.raises(Unavailable):
        await rotation.move(await rotation.join_master("plain:thief"), "fooled")
    assert thief.asked == []
    assert (await place.row(keyring.masters.active)).uri == HOME


@pytest.mark.parametrize("is_wrap", [True, False], ids=["wrapped by the new", "unwrapped by the old"])
async def test_a_move_that_fails_in_the_middle_has_changed_nothing(is_wrap: bool) -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    joined = await rotation.join_master(VAULT)
    before = await place.store.load_keys()
    total = len([row for row in before if row.purpose != "master"])
    for number in range(1, total + 1):
        provider = place.vault if is_wrap else place.provider
        with failing_from(provider, "wrap" if is_wrap else "unwrap", number), pytest.raises(ProviderAway):
            await rotation.move(joined, "because")
        assert await place.store.load_keys() == before
    await rotation.move(joined, "because")
    assert keyring.masters.active == joined.id


class failing_from:  # noqa: N801 - reads as what it does
    """The provider fails from the so-many-th call of one kind on."""

    def __init__(self, provider: PlainProvider, call: str, number: int) -> None:
        self._provider, self._call, self._left = provider, call, number

    def __enter__(self) -> None:
        self._note = self._provider._note

        def note(call: str, key_id: str) -> None:
            self._left -= call == self._call
            if self._left <= 0:
                raise ProviderAway("not now")
            self._note(call, key_id)

        self._provider._note = note  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        del self._provider._note


class Scrambling(PlainProvider):
    """Wraps each key but the proof of its own row into something that opens to another key."""

    async def wrap(self, key: bytes, *, key_id: str) -> Wrapping:
        wrapping = await super().wrap(key, key_id=key_id)
        return wrapping if key_id.startswith("master") else Wrapping(wrapping.wrapped[:-32] + b"?" * 32)


class Losing(PlainProvider):
    """Wraps each key but the proof of its own row into something that it refuses later."""

    async def unwrap(self, wrapped: bytes, *, key_id: str) -> Unwrapping:
        if not key_id.startswith("master"):
            raise KeyRefused("never seen")
        return await super().unwrap(wrapped, key_id=key_id)


@pytest.mark.parametrize("kind", [Scrambling, Losing])
async def test_nothing_moves_under_a_master_key_that_does_not_give_back_what_it_wrapped(
    kind: type[PlainProvider],
) -> None:
    place = Workshop()
    _, rotation = await place.begin()
    place.providers[VAULT] = kind("vault")
    joined = await rotation.join_master(VAULT)
    before = await place.store.load_keys()
    with pytest.raises(KeyRefused):
        await rotation.move(joined, "because")
    assert await place.store.load_keys() == before
    await place.open()


@pytest.mark.parametrize("kind", [Scrambling, Losing])
async def test_no_data_key_is_put_in_use_that_the_provider_does_not_give_back(kind: type[PlainProvider]) -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    before = await place.store.load_keys()
    keyring.masters._providers[keyring.masters.active] = kind("home")
    for rotate in (rotation.make_data_key, rotation.replace_signing_keys):
        with pytest.raises(KeyRefused):
            await rotate("because")
    assert await place.store.load_keys() == before
    await place.open()


async def test_a_keyring_that_another_process_changed_meanwhile_is_not_overwritten() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    joined = await rotation.join_master(VAULT)
    other = place.rotation(await place.open())
    wrap = place.vault.wrap

    async def rotate_first(key: bytes, *, key_id: str) -> Wrapping:
        place.vault.wrap = wrap  # type: ignore[method-assign]
        await other.make_data_key("faster")
        return await wrap(key, key_id=key_id)

    place.vault.wrap = rotate_first  # type: ignore[method-assign]
    with pytest.raises(Unavailable, match="changed by another process meanwhile: try again"):
        await rotation.move(joined, "because")
    assert {row.master for row in await place.rows("data")} == {keyring.masters.active} != {joined.id}
    await rotation.move(joined, "because")
    assert {row.master for row in await place.rows("data")} == {joined.id}


# The end of a key.


async def test_a_retired_key_is_destroyed_after_two_scans_a_day_apart_and_its_grace() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    old = keyring.active_key_id
    await rotation.make_data_key("because")
    assert "a second look" in str(await rotation.note_scan(old, 0))
    place.clock.advance(DAY_S - 1)
    early = f"{old} may be destroyed in 1 days: look again then"
    assert await rotation.note_scan(old, 0, grace_days=0) == early
    assert await rotation.note_scan(old, 0) == f"{old} may be destroyed in {GRACE_DAYS} days: look again then"
    place.clock.advance(1)
    assert await rotation.note_scan(old, 0, grace_days=0) is None
    place.clock.advance((GRACE_DAYS - 1) * DAY_S - 1)
    assert await rotation.note_scan(old, 0) is not None
    place.clock.advance(1)
    assert await rotation.note_scan(old, 0) is None
    place.told.clear()
    row = await rotation.destroy(old, "over")
    assert row.id == old
    gone = await place.row(old)
    assert (gone.state, gone.wrapped) == ("destroyed", b"")
    assert place.told == [("key.destroyed", {"key": old, "purpose": "data", "reason": "over"})]


async def test_a_scan_that_finds_something_begins_the_two_scans_anew() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    old = keyring.active_key_id
    await rotation.make_data_key("because")
    await rotation.note_scan(old, 0, grace_days=0)
    place.clock.advance(DAY_S)
    assert "3 values are still under" in str(await rotation.note_scan(old, 3, grace_days=0))
    assert "still under" in str(await rotation.note_scan(old, 3, grace_days=0))
    assert "a second look" in str(await rotation.note_scan(old, 0, grace_days=0))
    place.clock.advance(DAY_S)
    assert await rotation.note_scan(old, 0, grace_days=0) is None


async def test_only_a_retired_key_is_destroyed() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    active = keyring.active_key_id
    with pytest.raises(Refused, match="is active, and only a retired key is destroyed"):
        await rotation.destroy(active, "a mistake")
    with pytest.raises(ConfigurationError, match="there is no key data-x: twofold keys status --all"):
        await rotation.destroy("data-x", "a mistake")
    await rotation.make_data_key("because")
    await rotation.destroy(active, "over")
    with pytest.raises(Refused, match="is destroyed"):
        await rotation.destroy(active, "twice")
    assert (await place.row(active)).state == "destroyed"


async def test_a_master_key_that_was_entered_and_never_used_has_its_grace_from_then_on() -> None:
    place = Workshop()
    _, rotation = await place.begin()
    joined = await rotation.join_master(VAULT)
    await rotation.note_scan(joined.id, 0)
    place.clock.advance(GRACE_DAYS * DAY_S - 1)
    assert await rotation.note_scan(joined.id, 0) is not None
    place.clock.advance(1)
    assert await rotation.note_scan(joined.id, 0) is None
    await rotation.destroy(joined.id, "it was never in use")
    assert (await place.row(joined.id)).state == "destroyed"


async def test_all_processes_forget_a_destroyed_key() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    other, old = await place.open(), keyring.active_key_id
    await rotation.make_data_key("because")
    await rotation.destroy(old, "over")
    await other.refresh()
    assert old not in keyring._opened
    assert old not in other._opened
    assert keyring_stamp(keyring) == keyring_stamp(other)
    await place.open()


async def test_a_destroyed_master_key_opens_nothing_any_more() -> None:
    place = Workshop()
    keyring, rotation = await place.begin()
    old = keyring.masters.active
    await rotation.move(await rotation.join_master(VAULT), "because")
    await rotation.destroy(old, "over")
    with pytest.raises(KeyRefused, match="destroyed"):
        await keyring.masters.unwrap(b"x", key_id="seed-1", master=old, reason="test")
    place.configured = VAULT
    del place.providers[HOME]
    fresh = await place.open()
    await fresh.refresh()
    assert fresh.masters.fault == ""
