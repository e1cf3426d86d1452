import asyncio
import threading
from collections.abc import Iterator

import pytest

from twofold.errors import Busy
from twofold.hash_pool import PER_ADDRESS_MAX, WAITING_MAX, HashPool


class Gate:
    """Slow work that ends when the test says so; `order` is who was worked on, in turn."""

    def __init__(self) -> None:
        self.is_open = threading.Event()
        self.order: list[str] = []

    def work(self, name: str) -> str:
        self.is_open.wait(10)
        self.order.append(name)
        return name


@pytest.fixture
def pool() -> Iterator[HashPool]:
    pool = HashPool(workers=1)
    yield pool
    pool.close()


def begin(
    pool: HashPool, gate: Gate, name: str, address: str | None = None, *, is_known: bool = False
) -> asyncio.Task[str]:
    return asyncio.create_task(pool.run(lambda: gate.work(name), account_id=name, address=address, is_known=is_known))


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_the_result_of_the_work_comes_back_and_so_does_what_it_raises(pool: HashPool) -> None:
    assert await pool.run(lambda: 7, account_id="a", address="192.0.2.1") == 7
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 / 0, account_id="a", address="192.0.2.1")
    assert await pool.run(lambda: 8, account_id="a", address="192.0.2.1") == 8


async def test_never_two_for_one_account(pool: HashPool) -> None:
    gate = Gate()
    first = begin(pool, gate, "alice")
    await settled()
    with pytest.raises(Busy) as busy:
        await pool.run(lambda: 1, account_id="alice", address=None)
    assert busy.value.per_account
    gate.is_open.set()
    assert await first == "alice"
    assert await pool.run(lambda: 1, account_id="alice", address=None) == 1


async def test_four_for_one_address_and_others_still_come_in(pool: HashPool) -> None:
    gate = Gate()
    running = [begin(pool, gate, f"a{number}", "192.0.2.1") for number in range(PER_ADDRESS_MAX)]
    await settled()
    with pytest.raises(Busy) as busy:
        await pool.run(lambda: 1, account_id="b", address="192.0.2.1")
    assert busy.value.per_account
    other = begin(pool, gate, "c", "192.0.2.2")
    unnamed = begin(pool, gate, "d")
    gate.is_open.set()
    await asyncio.gather(*running, other, unnamed)
    assert await pool.run(lambda: 1, account_id="b", address="192.0.2.1") == 1


async def test_when_the_queue_is_full_the_next_is_turned_away_at_once(pool: HashPool) -> None:
    gate = Gate()
    running = [begin(pool, gate, f"a{number}") for number in range(WAITING_MAX + 1)]
    await settled()
    with pytest.raises(Busy) as busy:
        await pool.run(lambda: 1, account_id="b", address=None)
    assert not busy.value.per_account
    gate.is_open.set()
    await asyncio.gather(*running)
    assert await pool.run(lambda: 1, account_id="b", address=None) == 1


@pytest.mark.parametrize("crowd_is_known", [True, False])
async def test_known_browsers_and_strangers_take_turns_so_neither_crowd_keeps_out_the_other(
    pool: HashPool, *, crowd_is_known: bool
) -> None:
    gate = Gate()
    running = begin(pool, gate, "running")
    await settled()
    crowd = [begin(pool, gate, f"crowd {number}", is_known=crowd_is_known) for number in range(WAITING_MAX)]
    await settled()
    with pytest.raises(Busy):
        await pool.run(lambda: 1, account_id="one too many", address=None, is_known=crowd_is_known)
    others = [begin(pool, gate, name, is_known=not crowd_is_known) for name in ("one", "two")]
    await settled()
    gate.is_open.set()
    await asyncio.gather(running, *crowd, *others)
    assert sorted(gate.order[1:5]) == ["crowd 0", "crowd 1", "one", "two"]
    assert [name for name in gate.order if name.startswith("crowd")] == [f"crowd {n}" for n in range(WAITING_MAX)]
    assert gate.order.index("one") < gate.order.index("two")


async def test_the_owner_goes_before_the_strangers_who_came_first(pool: HashPool) -> None:
    gate = Gate()
    tasks = [begin(pool, gate, "running")]
    await settled()
    for name, is_known in (("one", False), ("two", False), ("owner", True)):
        tasks.append(begin(pool, gate, name, is_known=is_known))
        await settled()
    gate.is_open.set()
    await asyncio.gather(*tasks)
    assert gate.order == ["running", "owner", "one", "two"]


async def test_a_caller_who_goes_away_while_waiting_frees_the_place(pool: HashPool) -> None:
    gate = Gate()
    running, leaving, staying = begin(pool, gate, "a"), begin(pool, gate, "b"), begin(pool, gate, "c")
    await settled()
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    gate.is_open.set()
    assert await asyncio.gather(running, staying) == ["a", "c"]
    assert gate.order == ["a", "c"]
    assert await pool.run(lambda: 1, account_id="b", address=None) == 1


async def test_a_caller_who_goes_away_just_when_it_is_his_turn_hands_it_on(pool: HashPool) -> None:
    gate = Gate()
    running, leaving, staying = begin(pool, gate, "a"), begin(pool, gate, "b"), begin(pool, gate, "c")
    await settled()
    gate.is_open.set()
    await running
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert await staying == "c"
    assert await asyncio.gather(*(begin(pool, gate, name) for name in "xyz")) == ["x", "y", "z"]


async def test_a_caller_who_goes_away_while_the_worker_becomes_free_is_passed_over(pool: HashPool) -> None:
    gate = Gate()
    running, leaving, staying = begin(pool, gate, "a"), begin(pool, gate, "b"), begin(pool, gate, "c")
    await settled()
    leaving.cancel()
    pool._leave()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.is_open.set()
    assert await asyncio.gather(running, staying) == ["a", "c"]
    assert "b" not in gate.order


async def test_the_machine_decides_how_many_work_at_once() -> None:
    pool = HashPool()
    assert await pool.run(lambda: 1, account_id="a", address=None) == 1
    pool.close()
