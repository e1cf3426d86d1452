"""What every store does beside accounts and sessions: contacts, claims, applications, limits, blocks, the outbox, the
keyring, settings."""

import asyncio
import json

import msgspec
import pytest
from tests.stores.contract_accounts import Store
from tests.stores.examples import count, data_key

from twofold.core.decision import ContactIndex, Message
from twofold.errors import Unavailable
from twofold.key_ports import Node
from twofold.ports import Application, NetworkBlock

DAY_S = 86_400


class PortsContract:
    async def test_contacts_are_found_by_kind_and_digest_and_need_not_be_unique(self, store: Store) -> None:
        index = ContactIndex((("email", b"h1"), ("phone", b"h2")))
        await store.transact("bob", count("bob", index))
        await store.transact("alice", count("alice", index))
        assert await store.find_by_contact("email", b"h1") == ["alice", "bob"]
        assert await store.find_by_contact("email", b"h2") == []

    async def test_a_new_index_replaces_the_contacts_of_its_account_only(self, store: Store) -> None:
        for account_id in ("alice", "bob"):
            await store.transact(account_id, count(account_id, ContactIndex((("email", b"old"),))))
        await store.transact("alice", count("alice", ContactIndex((("email", b"new"), ("email", b"new")))))
        assert await store.find_by_contact("email", b"old") == ["bob"]
        assert await store.find_by_contact("email", b"new") == ["alice"]
        await store.transact("alice", count("alice", ContactIndex(())))
        assert await store.find_by_contact("email", b"new") == []

    async def test_a_claim_belongs_to_whoever_came_first(self, store: Store) -> None:
        holders = await asyncio.gather(*(store.claim("credential", b"c", f"account-{n}", 1) for n in range(20)))
        assert len(set(holders)) == 1
        assert holders[0] in {f"account-{n}" for n in range(20)}
        assert await store.claim("handle", b"c", "another", 1) == "another"

    async def test_a_claim_is_given_back_by_its_holder_only(self, store: Store) -> None:
        await store.claim("credential", b"c", "alice", 1)
        await store.release("credential", b"c", "bob")
        assert await store.claim("credential", b"c", "bob", 2) == "alice"
        await store.release("credential", b"c", "alice")
        assert await store.claim("credential", b"c", "bob", 3) == "bob"

    async def test_an_old_claim_may_be_given_back_and_one_that_was_renewed_may_not(self, store: Store) -> None:
        await store.claim("credential", b"c", "alice", 1)
        await store.claim("credential", b"c", "bob", 8)
        assert await store.claim("credential", b"c", "alice", 9) == "alice"
        await store.release("credential", b"c", "alice", made_before=9)
        assert await store.find_claim("credential", b"c") == "alice"
        await store.release("credential", b"c", "alice", made_before=10)
        assert await store.find_claim("credential", b"c") is None

    async def test_an_application_is_kept_with_every_field(self, store: Store) -> None:
        application = Application(
            "app1", "Shop", ("verify",), 7, ("https://a.example",), "a.example", 5, ("10.0.0.0/8",), b"\x00\xff"
        )
        await store.add_application(application)
        assert await store.find_application("app1") == application
        assert await store.find_application("app2") is None

    async def test_applications_are_listed_oldest_first_until_revoked(self, store: Store) -> None:
        later, earlier = Application("a", "A", ("verify",), 9), Application("b", "B", ("admin",), 3)
        await store.add_application(later)
        await store.add_application(earlier)
        assert await store.list_applications() == [earlier, later]
        assert await store.revoke_application("a") is True
        assert await store.revoke_application("a") is False
        assert await store.find_application("a") is None
        assert await store.list_applications() == [earlier]

    async def test_an_application_is_never_overwritten(self, store: Store) -> None:
        first = Application("a", "first", ("verify",), 1)
        await store.add_application(first)
        with pytest.raises(Unavailable):
            await store.add_application(Application("a", "second", ("admin",), 2))
        assert await store.find_application("a") == first

    async def test_no_more_hits_than_the_cap_however_many_come_at_once(self, store: Store) -> None:
        hits = [await asyncio.gather(*(store.hit(b"network", 60, 10) for _ in range(8))) for _ in range(5)]
        assert sum(map(sum, hits)) == 10
        assert await store.hit(b"network", 60, 11) is True
        assert await store.hit(b"network", 60, 11) is False

    async def test_keys_and_windows_are_counted_apart(self, store: Store) -> None:
        assert await store.hit(b"a", 60, 1) is True
        assert await store.hit(b"a", 60, 1) is False
        assert await store.hit(b"b", 60, 1) is True
        assert await store.hit(b"a", 120, 1) is True
        assert await store.hit(b"a", 60, 1) is False
        assert await store.hit(b"a", 180, 0) is False

    async def test_a_window_counts_while_others_of_the_same_day_begin(self, store: Store) -> None:
        assert await store.hit(b"daily", 20 * DAY_S, 1) is True
        assert await store.hit(b"each second", 20 * DAY_S + DAY_S - 1, 1) is True
        assert await store.hit(b"daily", 20 * DAY_S, 1) is False

    async def test_a_hit_that_is_taken_back_is_free_again(self, store: Store) -> None:
        assert [await store.hit(b"a", 60, 2) for _ in range(3)] == [True, True, False]
        await store.take_back(b"a", 60)
        assert [await store.hit(b"a", 60, 2) for _ in range(2)] == [True, False]

    async def test_no_more_is_taken_back_than_was_counted(self, store: Store) -> None:
        await store.take_back(b"a", 60)
        assert await store.hit(b"a", 60, 1) is True
        for _ in range(3):
            await store.take_back(b"a", 60)
            await store.take_back(b"b", 60)
            await store.take_back(b"a", 120)
        assert [await store.hit(b"a", 60, 1) for _ in range(2)] == [True, False]

    async def test_a_block_is_kept_with_every_field_and_replaced_by_a_newer_one(self, store: Store) -> None:
        assert await store.list_blocks() == []
        other = NetworkBlock("2001:db8::/56", 0, 1, 3, "by hand", "admin")
        await store.put_block(other)
        await store.put_block(NetworkBlock("192.0.2.0/24", 9, 1, 3, "passwords"))
        longer = NetworkBlock("192.0.2.0/24", 99, 2, 9)
        await store.put_block(longer)
        assert await store.list_blocks() == [longer, other]

    async def test_a_block_that_was_dropped_is_gone(self, store: Store) -> None:
        await store.put_block(NetworkBlock("192.0.2.0/24", 9, 1, 3))
        assert await store.drop_block("192.0.2.0/25") is False
        assert await store.drop_block("192.0.2.0/24") is True
        assert await store.drop_block("192.0.2.0/24") is False
        assert await store.list_blocks() == []

    async def test_messages_are_taken_oldest_first_and_by_one_taker_only(self, store: Store) -> None:
        for n in range(4):
            message = Message(f"m{3 - n}", "account.changed", {"n": n, "who": None, "ok": True})
            await store.transact("alice", count("alice", message))
        one, other = await store.take(2, 100, 60), await store.take(2, 100, 60)
        assert [row.id for row in (*one, *other)] == ["m3", "m2", "m1", "m0"]
        assert json.loads(one[0].payload) == {"n": 0, "who": None, "ok": True}
        assert (one[0].account_id, one[0].kind, one[0].created_at) == ("alice", "account.changed", 1)
        assert await store.take(9, 100, 60) == []

    async def test_of_many_takers_at_once_each_message_has_one(self, store: Store) -> None:
        await store.transact("alice", count("alice", *(Message(f"m{n}", "x", {}) for n in range(20))))
        taken = await asyncio.gather(*(store.take(4, 100, 60) for _ in range(8)))
        assert max(map(len, taken)) <= 4
        assert sorted(row.id for rows in taken for row in rows) == sorted(f"m{n}" for n in range(20))

    async def test_a_message_that_was_sent_is_gone(self, store: Store) -> None:
        await store.transact("alice", count("alice", Message("m", "x", {})))
        await store.take(1, 100, 60)
        await store.settle("m", sent=True)
        assert await store.take(1, 10**15, 60) == []

    async def test_a_message_that_was_not_sent_comes_back_when_it_is_due(self, store: Store) -> None:
        await store.transact("alice", count("alice", Message("m", "x", {})))
        (row,) = await store.take(1, 100, 60)
        assert row.attempts == 1
        await store.settle("m", sent=False, retry_at=500)
        assert await store.take(1, 499, 60) == []
        (row,) = await store.take(1, 500, 60)
        assert row.attempts == 2

    async def test_a_message_whose_taker_died_comes_back_after_the_lease(self, store: Store) -> None:
        await store.transact("alice", count("alice", Message("m", "x", {})))
        await store.take(1, 100, 60)
        assert await store.take(1, 100 + 60 * 10**6 - 1, 60) == []
        (row,) = await store.take(1, 100 + 60 * 10**6, 60)
        assert row.attempts == 2

    async def test_a_message_that_is_gone_can_be_settled_again(self, store: Store) -> None:
        await store.settle("never there", sent=True)
        await store.settle("never there", sent=False, retry_at=5)
        assert await store.take(1, 10**15, 60) == []

    async def test_of_many_first_keyrings_one_is_kept_whole(self, store: Store) -> None:
        rings = [[data_key(f"data-{n}"), data_key(f"more-{n}")] for n in range(10)]
        added = await asyncio.gather(*(store.add_keys(ring, first=True) for ring in rings))
        assert added.count(True) == 1
        assert await store.load_keys() == rings[added.index(True)]

    async def test_keys_are_kept_oldest_first_and_retired_in_the_same_step(self, store: Store) -> None:
        old, new = data_key("new-id", 5), data_key("old-id", 9)
        assert await store.add_keys([old]) is True
        retired = msgspec.structs.replace(old, state="decrypt_only", retired_at=9)
        assert await store.change_keys([(None, new), (old, retired)]) is True
        assert await store.load_keys() == [retired, new]

    async def test_when_one_key_is_not_as_expected_none_is_changed(self, store: Store) -> None:
        old, other = data_key("d1", 1), data_key("d2", 2)
        await store.add_keys([old, other])
        retired = msgspec.structs.replace(old, state="decrypt_only")
        outdated = msgspec.structs.replace(other, state="decrypt_only")
        for changes in (
            [(None, data_key("d3")), (old, retired), (outdated, other)],
            [(old, retired), (None, data_key("d2"))],
            [(old, retired), (data_key("gone"), data_key("gone"))],
        ):
            assert await store.change_keys(changes) is False
            assert await store.load_keys() == [old, other]
        assert await store.change_keys([(None, data_key("d3", 3)), (old, retired)]) is True
        assert await store.load_keys() == [retired, other, data_key("d3", 3)]

    async def test_uses_are_reserved_up_to_their_limit_and_for_active_keys_only(self, store: Store) -> None:
        key = data_key("d1", 1)
        retired = msgspec.structs.replace(data_key("d2", 2), state="decrypt_only")
        await store.add_keys([key, retired])
        assert [await store.reserve_uses("d1", 40, 100) for _ in range(3)] == [40, 80, 0]
        assert await store.reserve_uses("d1", 20, 100) == 100
        assert await store.reserve_uses("d2", 1, 100) == 0
        assert await store.reserve_uses("unknown", 1, 100) == 0
        # A change neither expects a number of uses nor takes any of them back.
        again = msgspec.structs.replace(key, wrapped=b"again")
        assert await store.change_keys([(key, again)]) is True
        assert (await store.load_keys())[0] == msgspec.structs.replace(again, uses=100)

    async def test_the_last_unwrap_of_a_key_is_noted(self, store: Store) -> None:
        await store.add_keys([data_key("d1", 1)])
        await store.note_unwraps({"d1": 7, "unknown": 8})
        await store.note_unwraps({"d1": 5})
        assert [key.unwrapped_at for key in await store.load_keys()] == [7]

    async def test_nodes_are_kept_as_they_last_reported_until_they_are_forgotten(self, store: Store) -> None:
        one, two = Node("n1", "a", 1, 10, ("m1",)), Node("n2", "b", 1, 20, fault="no route")
        for node in (one, two):
            await store.put_node(node, forget_before=0)
        assert await store.list_nodes() == [one, two]
        later = msgspec.structs.replace(two, seen_at=30, fault="")
        await store.put_node(later, forget_before=11)
        assert await store.list_nodes() == [later]
        await store.drop_node("n2")
        await store.drop_node("n2")
        assert await store.list_nodes() == []

    async def test_a_key_is_never_overwritten(self, store: Store) -> None:
        await store.add_keys([data_key("d1", 1)])
        with pytest.raises(Unavailable):
            await store.add_keys([data_key("d2"), data_key("d1", 2)])
        assert await store.load_keys() == [data_key("d1", 1)]

    async def test_a_setting_is_the_last_value_that_was_put(self, store: Store) -> None:
        assert await store.get_setting("public_url") is None
        await store.put_setting("public_url", "http://a")
        await store.put_setting("public_url", "http://b")
        assert await store.get_setting("public_url") == "http://b"
