"""The database of a test: in memory, and the same for everything that the test opens."""

from __future__ import annotations

from collections.abc import Callable

from twofold.core.account import Account
from twofold.core.decision import Decision
from twofold.stores.memory import MemoryStore
from twofold.testing.outbox import Outbox


class MemoryDatabase(MemoryStore):
    """Outlives each deployment over it, as a database does: an application that is started anew finds its accounts.
    What a decision sends is in `outbox` once it is committed."""

    def __init__(self, outbox: Outbox) -> None:
        super().__init__()
        self._sent = outbox

    async def transact(self, account_id: str, decide: Callable[[Account | None], Decision]) -> Decision:
        decision = await super().transact(account_id, decide)
        if decision.account != "unchanged":  # else nothing was written
            self._sent.keep(account_id, decision.effects)
        return decision

    async def close(self) -> None:
        """The database stays."""

    def forget_people(self) -> None:
        """Begin anew, but for the keys: deployments that are open have them in memory."""
        with self._lock:
            for kept in (
                self._rows,
                self._summaries,
                self._events,
                self._contacts,
                self._claims,
                self._sessions,
                self._blocks,
                self._rate,
                self._outbox,
                self._settings,
            ):
                kept.clear()
