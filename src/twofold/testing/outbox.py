"""What would have been sent to people: kept instead, from the moment that the decision behind it is committed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from twofold.core.decision import Effect, Message


class Notice(msgspec.Struct, frozen=True):
    """A message to the person of an account: its `kind`, as `docs/events.md` names what happened, and what it tells."""

    account_id: str
    kind: str
    payload: dict[str, Any]


class Outbox:
    """All notices since the test began, oldest first."""

    def __init__(self) -> None:
        self._notices: list[Notice] = []

    def __iter__(self) -> Iterator[Notice]:
        return iter(tuple(self._notices))

    def __len__(self) -> int:
        return len(self._notices)

    def to(self, account_id: str) -> list[Notice]:
        """Those to one person."""
        return [notice for notice in self if notice.account_id == account_id]

    def latest(self, account_id: str) -> Notice:
        """The last one to that person; raises LookupError if there was none."""
        notices = self.to(account_id)
        if not notices:
            raise LookupError(f"nothing was sent to {account_id!r}")
        return notices[-1]

    def clear(self) -> None:
        """Forget what was sent so far."""
        self._notices.clear()

    def keep(self, account_id: str, effects: Iterable[Effect]) -> None:
        """Note what a decision sends."""
        for effect in effects:
            if isinstance(effect, Message):
                self._notices.append(Notice(account_id, effect.kind, dict(effect.payload)))
