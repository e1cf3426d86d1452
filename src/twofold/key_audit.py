"""What happened to keys, as audit events: changes of the keyring in the deployment's own chain, every use of a master
key in a chain for that alone, so that the many hide nothing of the few.

The uses are collected by `twofold.keys.trace` and written here once a second and at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import cast

from twofold.core.account import DEPLOYMENT, KEY_TRACE, Account, new_deployment
from twofold.core.attempt import Call
from twofold.core.audit import Event, EventKind
from twofold.core.decision import Decision, Done
from twofold.core.entropy import derive
from twofold.engine import LOCAL, Decide, Engine
from twofold.key_ports import KeyStore
from twofold.keys.trace import KeyTrace, KeyUse

#: Uses alike are told in one event, up to so many.
USES_IN_EVENT_MAX = 100
_SALT_BYTES = 16


class KeyAudit:
    """Writes it down. `role` is what this process does: `serve`, a command, or `embedded`."""

    def __init__(self, engine: Engine, store: KeyStore, trace: KeyTrace, *, role: str, node: str) -> None:
        self._engine = engine
        self._store = store
        self._trace = trace
        self._role = role
        self._node = node

    async def record(self, kind: str, payload: Mapping[str, str | int | Sequence[str] | None]) -> None:
        """One event of the keyring."""
        whole = {**payload, "caller": self._role, "node": self._node}
        await self._engine.record(_telling(lambda call: (call.event(cast(EventKind, kind), **whole),)))

    async def record_uses(self) -> None:
        """Write down what was used since the last time; what cannot be written waits for the next one."""
        uses, lost = self._trace.take()
        if not uses:
            return
        groups: dict[tuple[str, ...], list[KeyUse]] = {}
        for use in uses:
            groups.setdefault(_alike(use), []).append(use)
        parts = [g[i : i + USES_IN_EVENT_MAX] for g in groups.values() for i in range(0, len(g), USES_IN_EVENT_MAX)]

        def tell(call: Call) -> tuple[Event, ...]:
            return tuple(self._event(part, call, number, lost) for number, part in enumerate(parts))

        try:
            await self._engine.decide(KEY_TRACE, _telling(tell, KEY_TRACE), LOCAL)
            await self._store.note_unwraps({use.key_id: use.at for use in uses if use.operation == "unwrapped"})
        except BaseException:
            self._trace.put_back(uses, lost)
            raise

    def _event(self, uses: Sequence[KeyUse], call: Call, number: int, lost: int) -> Event:
        first = uses[0]
        payload: dict[str, str | int | Sequence[str] | None] = {
            "master": first.master,
            "reason": first.reason,
            "keys": [use.key_id for use in uses],
            "requests": [use.request_id for use in uses] if any(use.request_id for use in uses) else None,
            "subject": first.subject or None,
            "why": first.why or None,
            "caller": self._role,
            "node": self._node,
            "lost_before": lost if lost and number == 0 else None,
        }
        kind = cast(EventKind, f"key.{first.operation}")
        return Event(kind, first.at, derive(call.seed, f"salt|key|{number}", _SALT_BYTES), payload)


def _alike(use: KeyUse) -> tuple[str, ...]:
    return (use.operation, use.master, use.reason, use.subject, use.why)


def _telling(tell: Callable[[Call], tuple[Event, ...]], account_id: str = DEPLOYMENT) -> Decide:
    def decide(account: Account | None, call: Call) -> Decision:
        return Decision(Done(), account or new_deployment(call.seed, call.now, account_id), tell(call))

    return decide
