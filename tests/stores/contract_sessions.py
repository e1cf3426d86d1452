"""What every store does with sessions: opened and ended by decisions, found by their tokens."""

import asyncio

import msgspec
import pytest
from tests.stores.contract_accounts import Store
from tests.stores.examples import count, counted, delete, look, opening, signed_in

from twofold.core.account import Account
from twofold.core.codec import Codec
from twofold.core.decision import Decision, Done, EndSessions, Message, OpenSession
from twofold.core.session import SESSIONS_MAX, Session, StoredSession, digest_token
from twofold.crypto.digest import MacKeys
from twofold.errors import TamperedRecord, Unavailable


async def find(store: Store, token: str) -> Session | None:
    return await store.find_session(digest_token(token))


async def ids(store: Store, account_id: str = "alice") -> list[str]:
    return [session.id for session in await store.list_sessions(account_id)]


async def write(store: Store, *effects: OpenSession | EndSessions, account_id: str = "alice") -> None:
    await store.transact(account_id, count(account_id, *effects))


class SessionsContract:
    async def test_a_session_is_found_by_its_token_with_every_field(self, store: Store) -> None:
        session = Session(
            "se_1", "alice", "epoch", "full", 3, 4, 50, 60, "Lynx", "192.0.2.1", "/next", "au_1", 5, 6, True, True
        )
        await write(store, opening(session, "token"))
        assert await find(store, "token") == session
        assert await find(store, "another token") is None
        assert await store.list_sessions("alice") == [session]
        assert await store.list_sessions("bob") == []

    async def test_a_session_comes_with_its_decision_or_not_at_all(self, store: Store) -> None:
        effect = opening(signed_in("1"), "token")

        def change_nothing(account: Account | None) -> Decision:
            return Decision(Done(), effects=(effect,))

        def refuse_after_all(account: Account | None) -> Decision:
            count("alice", effect)(account)
            raise LookupError

        await store.transact("alice", change_nothing)
        with pytest.raises(LookupError):
            await store.transact("alice", refuse_after_all)
        assert await find(store, "token") is None
        await write(store, effect)
        assert await find(store, "token") is not None

    async def test_what_cannot_be_written_leaves_neither_account_nor_session(self, store: Store) -> None:
        message = Message("m1", "account.changed", {})
        await store.transact("alice", count("alice", message))
        poisoned = (opening(signed_in("2"), "hers"), EndSessions(), message)
        poisoned_after = (message, opening(signed_in("2"), "hers"))
        unwritable = (opening(msgspec.structs.replace(signed_in("2"), browser="\ud800"), "hers"),)
        twice = (opening(signed_in("2"), "hers"), opening(signed_in("3"), "hers"))
        for effects in (poisoned, poisoned_after, unwritable, twice):
            with pytest.raises((Unavailable, UnicodeEncodeError)):
                await store.transact("alice", count("alice", *effects))
            assert counted(await store.transact("alice", look)) == 1
            assert await ids(store) == []
        await write(store, opening(signed_in("2"), "hers"))
        assert await ids(store) == ["se_2"]

    async def test_at_each_step_a_new_token_takes_the_place_of_the_old(self, store: Store) -> None:
        await write(store, opening(signed_in("1", level="pending"), "first"))
        await write(store, opening(signed_in("1"), "second", replaces="first"))
        assert await find(store, "first") is None
        assert await store.list_sessions("alice") == [signed_in("1")]
        await write(store, opening(signed_in("1"), "third", replaces="first"))
        assert await find(store, "third") is None
        assert await find(store, "second") == signed_in("1")

    @pytest.mark.parametrize("together", [True, False])
    @pytest.mark.parametrize("end", [EndSessions(), EndSessions(ids=("se_1",)), EndSessions(but="se_2")])
    async def test_nothing_is_opened_in_place_of_a_session_that_was_ended(
        self, store: Store, end: EndSessions, together: bool
    ) -> None:
        await write(store, opening(signed_in("1"), "first"))
        step = opening(signed_in("1"), "second", replaces="first")
        calls = [store.transact("alice", count("alice", effect)) for effect in (end, step)]
        results = await asyncio.gather(*calls) if together else [await call for call in calls]
        assert counted(results[1]) == 3
        assert await find(store, "first") is await find(store, "second") is None
        assert await ids(store) == []

    @pytest.mark.parametrize("together", [True, False])
    async def test_a_step_that_came_before_the_end_is_ended_too(self, store: Store, together: bool) -> None:
        await write(store, opening(signed_in("1"), "first"))
        step = opening(signed_in("1"), "second", replaces="first")
        calls = [store.transact("alice", count("alice", effect)) for effect in (step, EndSessions(ids=("se_1",)))]
        await asyncio.gather(*calls) if together else [await call for call in calls]
        assert await ids(store) == []

    async def test_of_two_steps_from_one_token_one_is_made(self, store: Store) -> None:
        await write(store, opening(signed_in("1"), "first"))
        steps = [opening(signed_in("1"), f"second-{n}", replaces="first") for n in range(2)]
        await asyncio.gather(*(store.transact("alice", count("alice", step)) for step in steps))
        assert await ids(store) == ["se_1"]

    async def test_the_session_of_another_account_is_not_replaced(self, store: Store) -> None:
        await write(store, opening(signed_in("1", "bob"), "bobs"), account_id="bob")
        await write(store, opening(signed_in("1"), "hers", replaces="bobs"))
        assert await find(store, "hers") is None
        assert await find(store, "bobs") == signed_in("1", "bob")

    @pytest.mark.parametrize(
        ("end", "left"),
        [
            (EndSessions(ids=("se_1", "se_3", "se_9")), ["se_2"]),
            (EndSessions(ids=()), ["se_1", "se_2", "se_3"]),
            (EndSessions(but="se_2"), ["se_2"]),
            (EndSessions(but="se_9"), []),
            (EndSessions(), []),
        ],
    )
    async def test_sessions_end_by_id_or_all_but_one(self, store: Store, end: EndSessions, left: list[str]) -> None:
        for account_id in ("alice", "bob"):
            effects = [opening(signed_in(name, account_id), f"{account_id} {name}") for name in "123"]
            await write(store, *effects, account_id=account_id)
        await write(store, end)
        assert await ids(store) == left
        assert await ids(store, "bob") == ["se_1", "se_2", "se_3"]

    async def test_effects_of_one_decision_are_carried_out_in_order(self, store: Store) -> None:
        await write(store, opening(signed_in("1"), "old"), opening(signed_in("2"), "other"))
        await write(store, EndSessions(but="se_1"), opening(signed_in("1"), "new", replaces="old"))
        assert await ids(store) == ["se_1"]
        assert await find(store, "new") is not None
        await write(store, opening(signed_in("3"), "third"), EndSessions())
        assert await ids(store) == []

    async def test_sessions_are_listed_oldest_first(self, store: Store) -> None:
        for name, begun_at in (("late", 9), ("early", 2), ("middle", 5), ("as late", 9)):
            await write(store, opening(signed_in(name, begun_at=begun_at), name))
        assert await ids(store) == ["se_early", "se_middle", "se_late", "se_as late"]

    async def test_of_too_many_sessions_of_one_level_the_oldest_makes_room(self, store: Store) -> None:
        names = [f"{n}" for n in range(SESSIONS_MAX)]
        await write(store, opening(signed_in("half", level="pending"), "half"))
        await write(store, *(opening(signed_in(name, begun_at=2), name) for name in names))
        await write(store, opening(signed_in("1", "bob"), "bobs"), account_id="bob")
        await write(store, opening(signed_in("5", begun_at=2), "next step of 5", replaces="5"))
        assert set(await ids(store)) == {"se_half", *(f"se_{name}" for name in names)}
        await write(store, opening(signed_in("new", begun_at=3), "new"))
        assert set(await ids(store)) == {"se_half", "se_new", *(f"se_{name}" for name in names[1:])}
        assert await ids(store, "bob") == ["se_1"]

    async def test_sessions_whose_time_is_over_go_when_one_is_opened(self, store: Store) -> None:
        await write(store, opening(signed_in("1", expires_at=49), "1"), opening(signed_in("2", expires_at=50), "2"))
        await write(store, opening(signed_in("3", "bob", expires_at=50), "3"), account_id="bob")
        await write(store, opening(signed_in("4", "bob", expires_at=51), "4"), account_id="bob")
        await write(store, EndSessions(ids=()))
        assert await ids(store) == ["se_1", "se_2"]
        await write(store, opening(signed_in("5", begun_at=50), "5"))
        assert await ids(store) == ["se_5"]
        assert await ids(store, "bob") == ["se_4"]

    async def test_a_look_at_a_session_is_kept_while_it_is_there(self, store: Store) -> None:
        await write(store, opening(signed_in("1"), "token"))
        seen = msgspec.structs.replace(signed_in("1"), seen_at=77)
        await store.touch_session(digest_token("token"), seen)
        assert await find(store, "token") == seen
        assert await store.list_sessions("alice") == [seen]
        await write(store, EndSessions())
        await store.touch_session(digest_token("token"), seen)
        assert await find(store, "token") is None
        assert await ids(store) == []

    async def test_a_deleted_account_leaves_no_session(self, store: Store) -> None:
        for account_id in ("alice", "bob"):
            await write(store, opening(signed_in("1", account_id), account_id), account_id=account_id)
        await store.transact("alice", delete)
        assert await find(store, "alice") is None
        assert await ids(store) == []
        assert await ids(store, "bob") == ["se_1"]

    @pytest.mark.parametrize("change", ["document", "account", "id", "token", "key", "mac", "type"])
    async def test_a_row_that_was_changed_from_outside_is_no_session(
        self, store: Store, codec: Codec, change: str
    ) -> None:
        await store.transact("mallory", count("mallory"))
        await write(store, opening(signed_in("1"), "token"), opening(signed_in("2", begun_at=2), "other"))
        row = codec.dump_session(signed_in("1"), digest_token("token"))
        wider = codec.dump_session(signed_in("1", expires_at=10**9), digest_token("elsewhere"))
        forger = Codec(MacKeys({"k1": b"another key of this same name..."}, signing="k1"))
        forged: dict[str, StoredSession] = {
            "document": msgspec.structs.replace(row, document=wider.document),
            "account": msgspec.structs.replace(row, account_id="mallory"),
            "id": msgspec.structs.replace(row, id="se_2"),
            "token": msgspec.structs.replace(wider, token_digest=row.token_digest),
            "key": forger.dump_session(signed_in("1"), row.token_digest),
            "mac": msgspec.structs.replace(row, mac=b""),
            "type": msgspec.structs.replace(row, id=7, mac="text"),  # type: ignore[arg-type]
        }
        await self.replace_session(store, forged[change])
        with pytest.raises(TamperedRecord):
            await find(store, "token")
        assert await ids(store) == ["se_2"]
        assert await ids(store, "mallory") == []
        await self.replace_session(store, row)
        assert await find(store, "token") == signed_in("1")
        assert await ids(store) == ["se_1", "se_2"]
