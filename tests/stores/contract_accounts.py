"""What every store does with accounts, seen through the port `Accounts` alone.

The suite is here and not beside the stores: it needs pytest, and nothing in `src` should.
"""

import asyncio
import json

import msgspec
import pytest
from tests.stores.examples import count, counted, data_key, delete, event, fail, look, reject

from twofold.core.account import Account, AuditHead
from twofold.core.audit import verify_chain
from twofold.core.codec import Codec, Tombstone
from twofold.core.decision import ContactIndex, Decision, Done, Message
from twofold.crypto.digest import MacKeys
from twofold.errors import Busy, KeyRetired, TamperedRecord, Unavailable
from twofold.stores.memory import MemoryStore
from twofold.stores.postgres import PostgresStore
from twofold.stores.sqlite import SqliteStore

Store = MemoryStore | SqliteStore | PostgresStore


async def read_chain(store: Store, codec: Codec, account_id: str):
    """The head that the account's row holds, and the account's events."""
    rows = {row.account_id: row async for row in store.scan(tombstones=True)}
    return codec.load(rows[account_id]).head, await store.events(account_id)


class AccountsContract:
    async def test_an_unknown_account_is_none(self, store: Store) -> None:
        seen = []

        def decide(account: Account | None) -> Decision:
            seen.append(account)
            return Decision(Done())

        await store.transact("alice", decide)
        assert seen == [None]
        assert await store.load("alice") is None

    async def test_a_committed_account_is_loaded_with_the_head_of_its_chain(self, store: Store, codec: Codec) -> None:
        await store.transact("alice", count("alice"))
        account = await store.load("alice")
        assert account is not None
        assert (account.id, account.unguessable_failed_at, account.head.seq) == ("alice", 1, 1)
        assert verify_chain("alice", await store.events("alice"), account.head) is None

    async def test_a_decision_that_changes_nothing_writes_nothing(self, store: Store) -> None:
        await store.transact("alice", count("alice"))
        before = [row async for row in store.scan()]
        await store.transact("alice", reject)
        assert [row async for row in store.scan()] == before
        assert len(await store.events("alice")) == 1

    async def test_attempts_on_one_account_see_each_other(self, store: Store, codec: Codec) -> None:
        results = await asyncio.gather(*(store.transact("alice", count("alice")) for _ in range(8)))
        assert [counted(result) for result in results] == [1, 2, 3, 4, 5, 6, 7, 8]
        head, events = await read_chain(store, codec, "alice")
        assert head.seq == len(events) == 8
        assert verify_chain("alice", events, head) is None

    async def test_a_look_among_the_attempts_sees_the_state_at_its_place(self, store: Store) -> None:
        calls = [store.transact("alice", decide) for decide in (count("alice"), look, count("alice"), look)]
        assert [counted(result) for result in await asyncio.gather(*calls)] == [1, 1, 2, 2]

    async def test_different_commands_on_different_accounts_go_together(self, store: Store) -> None:
        await store.transact("bob", count("bob"))
        results = await asyncio.gather(
            store.transact("alice", count("alice")),
            store.claim("import", b"i", "alice", 1),
            store.transact("bob", delete),
            store.hit(b"network", 0, 1),
            store.transact("carol", reject),
            store.add_keys([data_key("d1")]),
        )
        assert counted(results[0]) == 1
        assert results[1] == "alice"
        assert results[3] is results[5] is True
        assert await store.load("alice") is not None
        assert await store.load("bob") is None
        assert await store.load("carol") is None

    async def test_what_one_decision_raises_reaches_its_caller_only(self, store: Store, codec: Codec) -> None:
        calls = [
            store.transact("alice", count("alice")),
            store.transact("alice", fail),
            store.transact("alice", count("alice")),
            store.transact("bob", count("bob")),
        ]
        first, failed, second, other = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(failed, LookupError)
        assert [counted(first), counted(second), counted(other)] == [1, 2, 1]
        head, events = await read_chain(store, codec, "alice")
        assert [json.loads(e.payload)["n"] for e in events] == [1, 2]
        assert verify_chain("alice", events, head) is None

    async def test_even_a_stop_iteration_answers_its_caller(self, store: Store) -> None:
        def stop(_: Account | None) -> Decision:
            raise StopIteration

        stopped, result = await asyncio.gather(
            store.transact("alice", stop), store.transact("bob", count("bob")), return_exceptions=True
        )
        assert isinstance(stopped, RuntimeError)
        assert counted(result) == 1

    async def test_not_even_a_panic_stops_the_store(self, store: Store) -> None:
        def panic(_: Account | None) -> Decision:
            raise KeyboardInterrupt("a panic of a library")

        async def survive() -> str:
            try:
                await store.transact("alice", panic)
            except BaseException as error:  # noqa: BLE001 - whatever it is
                return repr(error)
            return "nothing"

        assert "a panic of a library" in await survive()
        assert counted(await store.transact("alice", count("alice"))) == 1

    async def test_an_account_whose_row_was_taken_away_is_not_taken_for_a_new_one(self, store: Store) -> None:
        await store.transact("alice", count("alice"))
        await store.transact("bob", count("bob"))
        await self.take_row_away(store, "alice")
        for call in (store.load("alice"), store.transact("alice", count("alice"))):
            with pytest.raises(TamperedRecord):
                await call
        assert await store.orphans() == ["alice"]
        assert counted(await store.transact("bob", count("bob"))) == 2

    async def test_ids_are_taken_as_they_are(self, store: Store, codec: Codec) -> None:
        ids = ["'", '"', "\\", "a%", "a_", "A", "a", "a\x01b", "ÅÅ", "🦉", "x" * 128]
        for _ in range(2):
            await asyncio.gather(*(store.transact(i, count(i)) for i in ids))
        for account_id in ids:
            account = await store.load(account_id)
            assert account is not None
            assert (account.id, account.unguessable_failed_at) == (account_id, 2)

    async def test_an_id_that_is_no_text_fails_alone(self, store: Store) -> None:
        failed, result = await asyncio.gather(
            store.transact("\ud800", count("\ud800")), store.transact("bob", count("bob")), return_exceptions=True
        )
        assert isinstance(failed, UnicodeEncodeError | Unavailable)
        assert counted(result) == 1

    async def test_a_document_that_grew_too_large_changes_nothing(self, store: Store) -> None:
        def grow(account: Account | None) -> Decision:
            return Decision(Done(), Account("alice", b"e" * 20_000, 1, AuditHead(0, b"")), (event(1),))

        with pytest.raises(Exception, match="16384"):
            await store.transact("alice", grow)
        assert await store.load("alice") is None
        await store.transact("alice", count("alice"))
        assert await store.load("alice") is not None

    async def test_what_cannot_be_written_fails_alone_and_whole(self, store: Store, codec: Codec) -> None:
        message = Message("m1", "account.changed", {"x": 1})
        await store.transact("alice", count("alice", message))
        calls = [
            store.transact("alice", count("alice")),
            store.transact("alice", count("alice", message)),
            store.transact("carol", count("carol")),
            store.claim("import", b"i", "carol", 1),
        ]
        first, poisoned, other, claimed = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(poisoned, Unavailable)
        assert (counted(first), counted(other), claimed) == (2, 1, "carol")
        head, events = await read_chain(store, codec, "alice")
        assert len(events) == 2
        assert verify_chain("alice", events, head) is None
        assert [row.id for row in await store.take(10, 1, 60)] == ["m1"]

    async def test_a_cancelled_caller_harms_nobody(self, store: Store) -> None:
        calls = [asyncio.ensure_future(store.transact("alice", count("alice"))) for _ in range(4)]
        await asyncio.sleep(0)
        calls[1].cancel()
        calls[2].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert not isinstance(results[0], BaseException)
        assert not isinstance(results[3], BaseException)
        account = await store.load("alice")
        assert account is not None
        assert account.unguessable_failed_at == counted(results[3])
        assert counted(await store.transact("alice", count("alice"))) == counted(results[3]) + 1

    async def test_a_burst_on_one_account_is_judged_in_order_or_told_to_come_back(self, store: Store) -> None:
        calls = [store.transact("alice", count("alice")) for _ in range(100)]
        results = await asyncio.gather(*calls, store.transact("bob", count("bob")), return_exceptions=True)
        refused = [result for result in results if isinstance(result, BaseException)]
        judged = [counted(result) for result in results[:-1] if not isinstance(result, BaseException)]
        assert all(isinstance(error, Busy) and error.per_account and error.retry_after_s == 1 for error in refused)
        assert judged == list(range(1, len(judged) + 1))
        assert len(judged) >= 8
        assert counted(await store.transact("alice", look)) == len(judged)
        assert counted(results[-1]) == 1

    async def test_deletion_leaves_a_tombstone_and_digests_and_nothing_else(self, store: Store, codec: Codec) -> None:
        await store.transact("alice", count("alice", Message("m1", "account.changed", {})))
        await store.transact("alice", count("alice", ContactIndex((("email", b"h"),))))
        await store.claim("import", b"i", "alice", 1)
        digests = [row.digest for row in await store.events("alice")]
        await store.transact("alice", delete)
        assert await store.load("alice") is None
        assert [row async for row in store.scan()] == []
        assert await store.find_by_contact("email", b"h") == []
        assert await store.claim("import", b"i", "bob", 1) == "bob"
        assert await store.take(10, 1, 60) == []
        head, events = await read_chain(store, codec, "alice")
        assert [(e.at, e.kind, e.salt, e.payload) for e in events] == [(0, "", None, None)] * 3
        assert [e.digest for e in events[:2]] == digests
        assert verify_chain("alice", events, head) is None

    async def test_what_a_deletion_itself_sends_is_sent(self, store: Store) -> None:
        await store.transact("alice", count("alice", Message("before", "account.changed", {})))

        def delete_and_tell(account: Account | None) -> Decision:
            return Decision(Done(), "deleted", (event(0),), (Message("after", "account.deleted", {}),))

        await store.transact("alice", delete_and_tell)
        assert [row.id for row in await store.take(10, 1, 60)] == ["after"]

    @pytest.mark.parametrize("together", [True, False])
    async def test_an_account_made_anew_continues_the_chain(self, store: Store, codec: Codec, together: bool) -> None:
        calls = [store.transact("alice", d) for d in (count("alice"), delete, count("alice"), count("alice"))]
        results = await asyncio.gather(*calls) if together else [await call for call in calls]
        assert [counted(results[2]), counted(results[3])] == [1, 2]
        head, events = await read_chain(store, codec, "alice")
        assert [e.payload is None for e in events] == [True, True, False, False]
        assert (head.seq, head.erased) == (4, 2)
        assert verify_chain("alice", events, head) is None
        (row,) = [row async for row in store.scan()]
        assert row.version == 4

    async def test_versions_and_chains_go_on_after_two_deletions(self, store: Store, codec: Codec) -> None:
        for decide in (count("alice"), delete, count("alice"), delete):
            await store.transact("alice", decide)
        head, events = await read_chain(store, codec, "alice")
        assert (head.seq, head.erased) == (4, 4)
        assert verify_chain("alice", events, head) is None
        (row,) = [row async for row in store.scan(tombstones=True)]
        assert row.version == 4
        assert isinstance(codec.load(row), Tombstone)

    async def test_only_an_active_key_may_have_sealed_what_is_written(self, store: Store) -> None:
        await store.add_keys([data_key("d1")])
        assert counted(await store.transact("alice", count("alice", sealed_with=("d1",)))) == 1
        retired = msgspec.structs.replace(data_key("d1"), state="decrypt_only")
        assert await store.change_keys([(None, data_key("d2")), (data_key("d1"), retired)])
        retired, sealed = await asyncio.gather(
            store.transact("alice", count("alice", Message("m1", "x", {}), sealed_with=("d2", "d1"))),
            store.transact("alice", count("alice", sealed_with=("d2",))),
            return_exceptions=True,
        )
        assert isinstance(retired, KeyRetired)
        assert retired.key_id == "d1"
        assert counted(sealed) == 2
        assert len(await store.events("alice")) == 2
        assert await store.take(10, 1, 60) == []

    async def test_a_row_signed_by_another_key_is_refused_and_harms_no_other(self, store: Store, codec: Codec) -> None:
        await store.transact("mallory", count("mallory"))
        store.use_codec(Codec(MacKeys({"k1": b"another key of this same name..."}, signing="k1")))
        results = await asyncio.gather(
            store.transact("mallory", count("mallory")),
            store.transact("mallory", look),
            store.transact("alice", count("alice")),
            return_exceptions=True,
        )
        assert [type(result) for result in results[:2]] == [TamperedRecord, TamperedRecord]
        assert counted(results[2]) == 1
        with pytest.raises(TamperedRecord):
            await store.load("mallory")
        store.use_codec(codec)
        assert counted(await store.transact("mallory", count("mallory"))) == 2

    async def test_effects_come_with_the_write_or_not_at_all(self, store: Store) -> None:
        effects = (Message("m1", "account.changed", {"to": "x"}), ContactIndex((("email", b"h"),)))

        def refuse_after_all(account: Account | None) -> Decision:
            count("alice", *effects)(account)
            raise LookupError

        with pytest.raises(LookupError):
            await store.transact("alice", refuse_after_all)
        assert await store.take(10, 1, 60) == []
        assert await store.find_by_contact("email", b"h") == []
        await store.transact("alice", count("alice", *effects))
        assert [row.id for row in await store.take(10, 1, 60)] == ["m1"]
        assert await store.find_by_contact("email", b"h") == ["alice"]

    async def test_a_scan_goes_through_everything_in_order_of_id(self, store: Store, codec: Codec) -> None:
        ids = ["", *(f"account-{n:04}" for n in range(450)), "ä", "🦉"]
        for start in range(0, len(ids), 200):
            await asyncio.gather(*(store.transact(i, count(i)) for i in ids[start : start + 200]))
        await store.transact("account-0007", delete)
        assert [row.account_id async for row in store.scan(tombstones=True)] == ids
        assert [row.account_id async for row in store.scan()] == [i for i in ids if i != "account-0007"]
        assert [row.account_id async for row in store.scan(after="account-0448")] == ["account-0449", "ä", "🦉"]
        async for row in store.scan(tombstones=True):
            codec.load(row)

    async def test_a_scan_of_an_empty_store_ends(self, store: Store) -> None:
        assert [row async for row in store.scan(tombstones=True)] == []
        await store.transact("", count(""))
        assert [row.account_id async for row in store.scan()] == [""]

    async def test_events_come_in_pages(self, store: Store) -> None:
        for _ in range(5):
            await store.transact("alice", count("alice"))
        await store.transact("bob", count("bob"))
        assert [e.seq for e in await store.events("alice", limit=2)] == [1, 2]
        assert [e.seq for e in await store.events("alice", after_seq=2, limit=2)] == [3, 4]
        assert await store.events("alice", after_seq=5) == []
        assert await store.events("nobody") == []

    async def test_accounts_are_counted_tombstones_too(self, store: Store) -> None:
        assert await store.count_accounts() == 0
        await store.transact("alice", count("alice"))
        await store.transact("bob", count("bob"))
        await store.transact("bob", delete)
        assert await store.count_accounts() == 2

    async def test_without_a_codec_there_are_no_accounts(self, bare_store: Store, codec: Codec) -> None:
        assert await bare_store.load_keys() == []
        with pytest.raises(RuntimeError, match="use_codec"):
            await bare_store.transact("alice", count("alice"))
        bare_store.use_codec(codec)
        assert counted(await bare_store.transact("alice", count("alice"))) == 1

    async def test_a_closed_store_takes_nothing(self, store: Store) -> None:
        await store.transact("alice", count("alice"))
        await store.close()
        await store.close()
        with pytest.raises(Unavailable, match="closed"):
            await store.transact("alice", count("alice"))
