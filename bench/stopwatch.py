"""Processor time by part: each function or coroutine that is watched gets what it spends itself, not what those that
it calls and that are watched, too, spend.

Looking at the clock costs about as much as a small function: the same work is measured without it as well, and what it
takes longer is taken off where the looking was done.
"""

from __future__ import annotations

import inspect
import time
import types
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from functools import partial, wraps
from typing import Any, TypeVar

OUTSIDE = ""

T = TypeVar("T")


class Stopwatch:
    """Counts for one thread; whatever is spent outside everything that is watched belongs to `OUTSIDE`."""

    def __init__(self) -> None:
        self._spent: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._calls_from: Counter[str] = Counter()
        self._stack = [OUTSIDE]
        self._since = time.thread_time_ns()

    def reset(self) -> None:
        """Begin anew."""
        for counter in (self._spent, self._calls, self._calls_from):
            counter.clear()
        self._since = time.thread_time_ns()

    def watch(self, part: str, owner: object, name: str) -> None:
        """Have the time of that function or coroutine function, an attribute of `owner`, counted for `part`."""
        setattr(owner, name, self._watched(part, getattr(owner, name)))

    def spent_us(self, whole_us: float) -> dict[str, float]:
        """What each part spends, in microseconds. `whole_us` is what all of it takes when nobody looks."""
        now = time.thread_time_ns()
        self._spent[self._stack[-1]] += now - self._since
        self._since = now
        looking_ns = (self._spent.total() - 1000 * whole_us) / self._calls.total()
        # Half of it is inside what is called, half is around it.
        return {
            part: (spent - looking_ns / 2 * (self._calls[part] + self._calls_from[part])) / 1000
            for part, spent in self._spent.items()
        }

    def _watched(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(function):

            @wraps(function)
            async def run_watched(*args: Any, **kwargs: Any) -> Any:
                return await self._drive(part, function(*args, **kwargs))

            return run_watched

        @wraps(function)
        def call_watched(*args: Any, **kwargs: Any) -> Any:
            self._begin(part)
            try:
                return function(*args, **kwargs)
            finally:
                self._end()

        return call_watched

    @types.coroutine
    def _drive(self, part: str, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
        """The coroutine, with every stretch between two waits counted."""
        step: Callable[[], Any] = partial(work.send, None)
        while True:
            self._begin(part)
            try:
                waits_for = step()
            except StopIteration as ended:
                result: T = ended.value
                return result
            finally:
                self._end()
            try:
                step = partial(work.send, (yield waits_for))
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the coroutine's
                step = partial(work.throw, error)

    def _begin(self, part: str) -> None:
        now = time.thread_time_ns()
        caller = self._stack[-1]
        self._spent[caller] += now - self._since
        self._calls[part] += 1
        self._calls_from[caller] += 1
        self._stack.append(part)
        self._since = time.thread_time_ns()

    def _end(self) -> None:
        now = time.thread_time_ns()
        self._spent[self._stack.pop()] += now - self._since
        self._since = time.thread_time_ns()
