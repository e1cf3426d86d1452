"""The trace of every use of a master key: what was asked of the provider, by whom, why, and how it ended.

Kept here until `twofold.key_audit` writes it into the deployment's audit chain: each second, and at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Literal

import msgspec

Operation = Literal["wrapped", "unwrapped", "refused", "away"]
#: If the database cannot be written for long, the oldest uses are counted instead of kept.
KEPT_MAX = 10_000
#: A failure that goes on is kept once in so many microseconds.
TOLD_EVERY = 60 * 1_000_000


class KeyUse(msgspec.Struct, frozen=True):
    """One call to a provider. `request_id` is how its own log names the call; `subject` is the account whose seed it
    was about, where it was one account's; `why` is the provider's refusal in words."""

    at: int
    operation: Operation
    key_id: str
    master: str
    reason: str
    request_id: str = ""
    subject: str = ""
    why: str = ""


class KeyTrace:
    """The uses that are not written down yet, and how many there were of each kind since the start."""

    def __init__(self) -> None:
        self._uses: list[KeyUse] = []
        self.counts: Counter[str] = Counter()
        #: Told of each use as well; whoever counts elsewhere listens.
        self.listener: Callable[[str], None] = lambda operation: None
        #: Uses that were dropped because too many waited; the next writing tells how many.
        self.lost: int = 0
        self._told: dict[tuple[str, ...], int] = {}

    def note(self, use: KeyUse) -> None:
        """Remember one use."""
        self.counts[use.operation] += 1
        self.listener(use.operation)
        if use.why and self._was_told(use):
            return
        self._uses.append(use)
        if len(self._uses) > KEPT_MAX:
            del self._uses[0]
            self.lost += 1

    def _was_told(self, use: KeyUse) -> bool:
        """Whether the same failure was kept within the last minute: a provider may be away for hours."""
        failure = (use.operation, use.key_id, use.subject, use.why)
        # A clock that was set back makes nothing silent.
        if 0 <= use.at - self._told.get(failure, -TOLD_EVERY) < TOLD_EVERY:
            return True
        if len(self._told) >= KEPT_MAX:
            self._told.clear()
        self._told[failure] = use.at
        return False

    def take(self) -> tuple[list[KeyUse], int]:
        """All that waits, oldest first, and how many were lost before."""
        uses, lost = self._uses, self.lost
        self._uses = []
        self.lost = 0
        return uses, lost

    def put_back(self, uses: list[KeyUse], lost: int) -> None:
        """What could not be written down waits again."""
        kept = (uses + self._uses)[-KEPT_MAX:]
        self.lost += lost + len(uses) + len(self._uses) - len(kept)
        self._uses = kept
