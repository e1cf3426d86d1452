import msgspec
import pytest
from tests.keys.rings import Place
from tests.kit import PlainProvider

from twofold.errors import Unavailable
from twofold.keys.keyring import Keyring
from twofold.keys.node import (
    ALIVE_S,
    FOLLOW_EVERY_S,
    FORGOTTEN_AFTER_S,
    REPORT_EVERY_S,
    WAIT_MAX_S,
    ThisNode,
    keyring_stamp,
)

VAULT = "plain:vault"


class Waiting:
    """Instead of sleeping: does one thing after so many pauses, and counts them."""

    def __init__(self) -> None:
        self.paused = 0
        self.then = 0, self.nothing

    async def nothing(self) -> None:
        pass

    async def sleep(self, _: float) -> None:
        self.paused += 1
        if self.paused == self.then[0]:
            await self.then[1]()


async def announce(keyring: Keyring) -> None:
    """One more row in the stored keyring, which other processes have not read yet."""
    row = msgspec.structs.replace(await keyring.make("receipt", "test"), state="decrypt_only")
    assert await keyring.store.change_keys([(None, row)])
    await keyring.refresh()


async def two_nodes() -> tuple[Place, Keyring, ThisNode, ThisNode, Waiting]:
    place, waiting = Place(), Waiting()
    mine, theirs = await place.open(), await place.open()
    return (
        place,
        mine,
        ThisNode(mine, place.store, sleep=waiting.sleep),
        ThisNode(theirs, place.store),
        waiting,
    )


async def test_a_node_tells_who_it_is_and_what_it_can_use() -> None:
    place, mine, node, _, _ = await two_nodes()
    place.clock.advance(5)
    await node.report()
    (told,) = await place.store.list_nodes()
    assert (told.id, told.masters, told.fault, told.stamp) == (
        node.id,
        (mine.masters.active,),
        "",
        keyring_stamp(mine),
    )
    assert told.seen_at - told.started_at == 5_000_000
    assert told.id.startswith(told.host)
    await node.leave()
    assert await place.store.list_nodes() == []


async def test_what_changed_is_told_at_once_and_that_it_is_here_every_few_seconds() -> None:
    place, mine, _, other, _ = await two_nodes()
    seen = []

    async def look() -> None:
        await other.follow()
        (told,) = await place.store.list_nodes()
        seen.append((told.seen_at - told.started_at, told.stamp == keyring_stamp(mine)))

    await look()
    place.clock.advance(FOLLOW_EVERY_S)
    await look()
    await announce(mine)
    await look()
    place.clock.advance(REPORT_EVERY_S)
    await look()
    place.clock.advance(-86_400)
    await look()
    assert seen == [(0, True), (0, True), (500_000, True), (3_500_000, True), (-86_396_500_000, True)]


async def test_a_report_that_did_not_arrive_is_made_up_for_at_the_next_look(monkeypatch: pytest.MonkeyPatch) -> None:
    place, _, node, _, _ = await two_nodes()
    put_node = place.store.put_node

    async def fail(*_: object, **__: object) -> None:
        raise Unavailable("the database is away")

    monkeypatch.setattr(place.store, "put_node", fail)
    with pytest.raises(Unavailable):
        await node.follow()
    monkeypatch.setattr(place.store, "put_node", put_node)
    await node.follow()
    assert len(await place.store.list_nodes()) == 1


async def test_commits_that_are_under_way_are_waited_for_where_others_serve_even_by_a_wrong_clock() -> None:
    place, _, node, other, waiting = await two_nodes()
    await node.report()
    await node.let_commits_end()
    assert waiting.paused == 0
    await other.report()
    place.clock.advance(ALIVE_S)
    await node.let_commits_end()
    assert waiting.paused == 1


async def test_no_two_processes_have_the_same_id() -> None:
    _, _, node, other, _ = await two_nodes()
    assert node.id != other.id


async def test_nodes_that_were_not_seen_for_a_day_are_forgotten() -> None:
    place, _, node, other, _ = await two_nodes()
    await other.report()
    place.clock.advance(FORGOTTEN_AFTER_S)
    await node.report()
    assert len(await place.store.list_nodes()) == 2
    place.clock.advance(1)
    await node.report()
    assert [told.id for told in await place.store.list_nodes()] == [node.id]


async def test_it_waits_for_nobody_when_all_know_the_keyring() -> None:
    _, _, node, other, waiting = await two_nodes()
    await node.wait_for_all()
    await other.report()
    await node.wait_for_all()
    assert waiting.paused == 0


async def test_it_waits_until_another_one_has_read_the_keyring() -> None:
    _, mine, node, other, waiting = await two_nodes()
    await other.report()
    await announce(mine)
    waiting.then = 3, other.report
    await node.wait_for_all()
    assert waiting.paused == 3


async def test_one_that_does_not_follow_within_a_minute_is_named() -> None:
    place, mine, node, other, waiting = await two_nodes()
    await other.report()
    await announce(mine)
    with pytest.raises(Unavailable, match="does not follow the keyring") as refused:
        await node.wait_for_all()
    (told,) = await place.store.list_nodes()
    assert told.host in str(refused.value)
    assert waiting.paused == WAIT_MAX_S * 2
    await other.report()
    await node.wait_for_all()


async def test_one_that_serves_no_more_is_not_waited_for() -> None:
    place, mine, node, other, waiting = await two_nodes()
    await other.report()
    await announce(mine)
    place.clock.advance(ALIVE_S)
    await node.wait_for_all()
    assert waiting.paused == 0


async def test_one_that_ended_is_not_waited_for() -> None:
    _, mine, node, other, waiting = await two_nodes()
    await other.report()
    await announce(mine)
    await other.leave()
    await node.wait_for_all()
    assert waiting.paused == 0


async def test_one_that_cannot_use_the_master_key_says_why_at_once() -> None:
    place, mine, node, other, waiting = await two_nodes()
    vault = PlainProvider("vault")
    place.providers[VAULT] = vault
    row = await mine.masters.make(mine.mac_keys(), VAULT)
    assert await place.store.change_keys([(None, row)])
    await mine.refresh()
    del place.providers[VAULT]
    await other.report()
    with pytest.raises(Unavailable, match=f"cannot go along: KEY_PROVIDER {VAULT}: cannot be opened here"):
        await node.wait_for_all(row.id)
    # It has looked: a minute would change nothing.
    assert waiting.paused == 0
    place.providers[VAULT] = vault
    await other.report()
    await node.wait_for_all(row.id)


async def test_the_stamp_follows_which_keys_there_are_and_not_how_often_they_are_used() -> None:
    place = Place()
    one, other = await place.open(), await place.open()
    assert keyring_stamp(one) == keyring_stamp(other)
    place.store.change(one.active_key_id, uses=7, unwrapped_at=7)
    await one.refresh()
    assert keyring_stamp(one) == keyring_stamp(other)
    await announce(one)
    assert keyring_stamp(one) != keyring_stamp(other)
    await other.refresh()
    assert keyring_stamp(one) == keyring_stamp(other)
