"""From code without an event loop to code with one: a loop in a thread of its own, and a call that waits for it.

A process that forks takes neither threads nor the locks of an open SQLite file along, and would write to it without
any. So what is kept here is closed before each fork, and opened again by whoever asks for it next, in either process.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from twofold.errors import Unavailable

#: For so long what is under way may hold up a close, or a fork; then it is cut off.
UNDER_WAY_S = 10

T = TypeVar("T")
V = TypeVar("V")


class Portal:
    """One event loop in one background thread."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="twofold", daemon=True)
        self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether something can still be asked of it: its thread is there, in this process."""
        return self._thread.is_alive() and self._process == os.getpid()

    def wait(self, coroutine: Coroutine[Any, Any, V], /) -> V:
        """What the coroutine returns, or raises; `Unavailable` where the thread was lost in a fork that Python was not
        told of before (uWSGI without `py-call-uwsgi-fork-hooks` or `lazy-apps`): else it would be waited for, for ever.
        """
        if not self.is_open:
            coroutine.close()
            raise Unavailable("forked while the database was open: each worker has to load the application by itself")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    def close(self) -> None:
        """End the thread. What is still under way is not waited for: end it before."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Kept(Generic[T]):
    """Something that lives in a portal: opened when it is asked for, closed by `close` and before a fork."""

    def __init__(
        self, begin: Callable[[], Coroutine[Any, Any, T]], end: Callable[[T], Coroutine[Any, Any, None]]
    ) -> None:
        self._begin, self._end = begin, end
        self._lock = threading.RLock()
        self._under_way = 0
        self._ended = threading.Condition()
        self._opened: tuple[Portal, T] | None = None
        _KEPT.add(self)

    @property
    def is_open(self) -> bool:
        """Whether it is open just now."""
        return self._opened is not None

    @property
    def value(self) -> T:
        """The thing itself, open."""
        return self._open()[1]

    def open(self) -> None:
        """Open it now, so that whoever starts an application hears what is wrong; raises what `begin` does."""
        self._open()

    def wait(self, coroutine: Coroutine[Any, Any, V], /) -> V:
        """See `Portal.wait`."""
        return self.ask(lambda _: coroutine)

    def ask(self, question: Callable[[T], Coroutine[Any, Any, V]]) -> V:
        """Ask it something, and wait for what it answers or raises; it is not closed in between."""
        with self._lock:
            portal, value = self._open()
            with self._ended:
                self._under_way += 1
        try:
            return portal.wait(question(value))
        finally:
            with self._ended:
                self._under_way -= 1
                self._ended.notify_all()

    def close(self) -> None:
        """Finish what is under way. Closing twice does nothing; asking again opens again."""
        with self._lock:
            opened, self._opened = self._opened, None
            if opened is not None and opened[0].is_open:
                portal, value = opened
                with self._ended:
                    self._ended.wait_for(lambda: self._under_way == 0, UNDER_WAY_S)
                portal.wait(self._end(value))
                portal.close()

    def _open(self) -> tuple[Portal, T]:
        # Read once: another thread may be closing it.
        if (opened := self._opened) is not None:
            return opened
        with self._lock:
            if self._opened is None:
                portal = Portal()
                try:
                    self._opened = portal, portal.wait(self._begin())
                except BaseException:
                    portal.close()
                    raise
            return self._opened

    def hold_for_fork(self) -> None:
        """Closed, and nobody opens it until `let_go_after_fork`."""
        self._lock.acquire()
        self.close()

    def let_go_after_fork(self) -> None:
        """Whoever asks next opens it."""
        self._lock.release()


_KEPT: WeakSet[Kept[Any]] = WeakSet()
_HELD: list[Kept[Any]] = []


def _hold_all() -> None:
    for kept in list(_KEPT):
        kept.hold_for_fork()
        _HELD.append(kept)


def _let_all_go() -> None:
    # None are held where a server forks by itself and tells Python only afterwards.
    while _HELD:
        _HELD.pop().let_go_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold_all, after_in_parent=_let_all_go, after_in_child=_let_all_go)
