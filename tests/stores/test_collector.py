import asyncio

import pytest
from tests.stores.examples import look

from twofold.core.decision import Decision, Done
from twofold.errors import Busy, Unavailable
from twofold.stores._collector import (
    BATCH_MAX,
    WAITING_MAX,
    WAITING_PER_ACCOUNT_MAX,
    Attempt,
    Collector,
    Task,
    answer_all,
)


def put(collector: Collector, *account_ids: str) -> list[asyncio.Future[Decision]]:
    return [collector.put(Attempt(account_id, look)) for account_id in account_ids]


def taken(collector: Collector) -> list[str]:
    return [attempt.account_id for attempt in collector.take()]


async def test_a_lone_attempt_is_taken_at_once() -> None:
    collector = Collector()
    put(collector, "alice")
    assert taken(collector) == ["alice"]


async def test_accounts_take_turns() -> None:
    collector = Collector()
    put(collector, "hot", "hot", "hot", "alice", "bob", "alice")
    assert taken(collector) == ["hot", "alice", "bob", "hot", "alice", "hot"]


async def test_whoever_was_left_out_of_a_full_batch_is_first_in_the_next() -> None:
    collector = Collector()
    put(collector, *(f"account-{n}" for n in range(BATCH_MAX)), "late", "account-0", "account-0")
    assert len(taken(collector)) == BATCH_MAX
    assert taken(collector) == ["late", "account-0", "account-0"]


async def test_a_hot_account_has_eight_places_and_the_others_keep_theirs() -> None:
    collector = Collector()
    put(collector, *["hot"] * WAITING_PER_ACCOUNT_MAX)
    with pytest.raises(Busy) as busy:
        put(collector, "hot")
    assert (busy.value.per_account, busy.value.retry_after_s) == (True, 1)
    put(collector, "alice")
    assert taken(collector) == ["hot", "alice", *["hot"] * 7]
    put(collector, *["hot"] * WAITING_PER_ACCOUNT_MAX)


async def test_there_is_a_limit_for_all_together() -> None:
    collector = Collector()
    put(collector, *(f"account-{n}" for n in range(WAITING_MAX)))
    with pytest.raises(Busy) as busy:
        put(collector, "one more")
    assert busy.value.per_account is False
    taken(collector)
    put(collector, "one more")


async def test_what_belongs_to_no_account_has_only_the_common_limit_and_takes_turns_too() -> None:
    collector = Collector()
    for _ in range(BATCH_MAX):
        collector.put(Task(None))
    put(collector, "alice")
    batch = collector.take()
    assert len(batch) == BATCH_MAX
    assert [task.lane for task in batch[:3]] == [None, "alice", None]


async def test_a_caller_that_went_away_before_its_turn_is_skipped() -> None:
    collector = Collector()
    futures = put(collector, "alice", "bob", "carol")
    futures[1].cancel()
    assert taken(collector) == ["alice", "carol"]


async def test_a_caller_that_went_away_after_its_turn_is_not_answered_and_the_others_are() -> None:
    collector = Collector()
    futures = put(collector, "alice", "bob")
    batch = collector.take()
    futures[0].cancel()
    for task in batch:
        task.succeed(Decision(Done()))
    answer_all(batch)
    assert await futures[1] == Decision(Done())
    assert futures[0].cancelled()


async def test_errors_reach_their_own_caller() -> None:
    collector = Collector()
    futures = put(collector, "alice", "bob")
    batch = collector.take()
    batch[0].fail(LookupError("hers"))
    batch[1].succeed(Decision(Done()))
    answer_all(batch)
    first, second = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(first, LookupError)
    assert second == Decision(Done())


async def test_an_attempt_that_is_made_again_loses_its_first_error() -> None:
    attempt = Attempt("alice", look)
    attempt.fail(LookupError())
    attempt.succeed(Decision(Done()))
    attempt.answer()
    assert await attempt.future == Decision(Done())


def test_a_closed_loop_does_not_keep_the_others_from_their_answers() -> None:
    async def wait_for_one() -> Attempt:
        return Attempt("alice", look)

    gone = asyncio.run(wait_for_one())
    gone.succeed(Decision(Done()))

    async def answer_both() -> Decision:
        here = Attempt("bob", look)
        here.succeed(Decision(Done()))
        answer_all([gone, here])
        return await here.future

    assert asyncio.run(answer_both()) == Decision(Done())


async def test_after_the_end_nothing_may_wait_and_what_waits_is_still_taken() -> None:
    collector = Collector()
    put(collector, "alice")
    collector.close()
    with pytest.raises(Unavailable, match="closed"):
        put(collector, "bob")
    assert taken(collector) == ["alice"]
    assert collector.take() is None
