"""Where attempts wait for a commit, and how their callers hear of it; shared by every store that commits in batches.

Nothing here knows a database. A store takes a batch whenever it has no commit under way: there is no timer, so a lone
attempt waits for nobody, and under load the batches grow by themselves.
"""

from __future__ import annotations

import asyncio
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Generic, TypeVar, cast

from twofold.core.account import Account
from twofold.core.decision import Decision
from twofold.errors import Busy, Unavailable

BATCH_MAX = 256
WAITING_MAX = 4096
WAITING_PER_ACCOUNT_MAX = 8

T = TypeVar("T")


class Task(Generic[T]):
    """Something that one caller waits for. Made on the caller's event loop, carried out in a thread of the store.

    `lane` is whom it takes turns for: an account, or None for what belongs to no account.
    """

    __slots__ = ("error", "future", "lane", "result")

    def __init__(self, lane: str | None) -> None:
        self.lane = lane
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self.result: T | None = None
        self.error: Exception | None = None

    def succeed(self, result: T) -> None:
        """Keep the result until the commit."""
        self.result, self.error = result, None

    def fail(self, error: BaseException) -> None:
        """Keep the error until the commit."""
        # A future refuses StopIteration, and its refusal would leave the rest of the batch without an answer; what is
        # no Exception (a panic of a library, an interrupt) would end the caller's loop instead of its call.
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            error = RuntimeError(repr(error))
        self.error = error

    def answer(self) -> None:
        """Wake the caller, unless it has gone away; on its event loop only."""
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(cast(T, self.result))


class Attempt(Task[Decision]):
    """One call of `transact`."""

    __slots__ = ("account_id", "decide")

    def __init__(self, account_id: str, decide: Callable[[Account | None], Decision]) -> None:
        super().__init__(account_id)
        self.account_id = account_id
        self.decide = decide


class Waiting:
    """The waiting tasks, lane by lane. Lanes take turns, so that one hot account cannot crowd out the others.

    Used by one thread at a time.
    """

    def __init__(self) -> None:
        self._lanes: OrderedDict[str | None, deque[Task[object]]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def put(self, task: Task[T]) -> None:
        """Let the task wait; raises `Busy` when too many do, in its lane or in all."""
        lane = self._lanes.get(task.lane)
        if lane is not None and task.lane is not None and len(lane) >= WAITING_PER_ACCOUNT_MAX:
            raise Busy(per_account=True)
        if self._count >= WAITING_MAX:
            raise Busy
        if lane is None:
            lane = self._lanes[task.lane] = deque()
        lane.append(cast(Task[object], task))
        self._count += 1

    def take(self, most: int = BATCH_MAX, *, but: AbstractSet[str] = frozenset()) -> list[Task[object]]:
        """What waits now, at most so much, without the callers that went away. The lanes of `but` go on waiting, and
        are the first ones the next time."""
        batch: list[Task[object]] = []
        left = {name: self._lanes.pop(name) for name in but if name in self._lanes}
        while self._lanes and len(batch) < most:
            name, lane = self._lanes.popitem(last=False)
            task = lane.popleft()
            self._count -= 1
            if lane:
                self._lanes[name] = lane
            if not task.future.cancelled():
                batch.append(task)
        for name, lane in left.items():
            self._lanes[name] = lane
            self._lanes.move_to_end(name, last=False)
        return batch


class Collector:
    """What waits for a thread, put there by callers on any event loop."""

    def __init__(self) -> None:
        self._waiting = Waiting()
        self._waking: set[asyncio.AbstractEventLoop] = set()
        self._is_closed = False
        self._changed = threading.Condition()

    def put(self, task: Task[T]) -> asyncio.Future[T]:
        """Let the task wait; raises `Busy` when too many do, in its lane or in all, and `Unavailable` after `close`."""
        with self._changed:
            if self._is_closed:
                raise Unavailable("the store is closed")
            self._waiting.put(task)
        loop = task.future.get_loop()
        if loop not in self._waking:
            # Not at once but after the callbacks that are ready now: what they bring goes into the same batch.
            self._waking.add(loop)
            loop.call_soon(self._wake, loop)
        return task.future

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waking.discard(loop)
        with self._changed:
            self._changed.notify()

    def take(self) -> list[Task[object]] | None:
        """What waits now, as `Waiting.take`; None once closed and empty. Blocks."""
        with self._changed:
            while not self._waiting and not self._is_closed:
                self._changed.wait()
            return self._waiting.take() if self._waiting else None

    def close(self) -> None:
        """Nothing more may wait; what waits already is still taken."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()


def answer_all(tasks: Iterable[Task[object]]) -> None:
    """Wake the callers of a batch that is committed: one wake-up per event loop, however many callers it has."""
    by_loop: dict[asyncio.AbstractEventLoop, list[Task[object]]] = {}
    for task in tasks:
        by_loop.setdefault(task.future.get_loop(), []).append(task)
    for loop, theirs in by_loop.items():
        # A loop that was closed meanwhile has no callers any more; what they asked for is committed all the same.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_answer_on_loop, theirs)


def _answer_on_loop(tasks: Iterable[Task[object]]) -> None:
    for task in tasks:
        task.answer()
