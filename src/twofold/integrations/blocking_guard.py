"""The guard for frameworks without an event loop: every question waits for it."""

from __future__ import annotations

from twofold.blocking import BlockingVerifier
from twofold.integrations.arrival import Answer, Arrival, Demand, Login, Options, Person
from twofold.integrations.guard import Administrators, Guard, Listener, Rule, subject_of
from twofold.portal import Kept


class BlockingGuard:
    """The same verbs for Flask and Django: each waits for a `Guard` in a thread with an event loop (`twofold.portal`).
    A server may fork its workers with it."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._rule: Rule | None = None
        self._listeners: list[tuple[str, Listener]] = []
        self._kept = Kept(self._begin, Guard.let_go)
        self._kept.open()

    def close(self) -> None:
        """See `Guard.close`. Closing twice does nothing."""
        if self._kept.is_open:
            self._kept.value.finish_telling()
        self._kept.close()

    @property
    def verifier(self) -> BlockingVerifier:
        """The verifier behind the guard; it is closed with it."""
        return BlockingVerifier(lambda: self._kept.value.verifier, self._kept.wait, self.close)

    def require(self, rule: Rule, administrators: Administrators) -> None:
        """See `Guard.require`. The rule is asked in the thread of each request, the administrators in this one."""
        ids = list(administrators() if callable(administrators) else administrators)
        self._kept.ask(lambda guard: guard.require(rule, ids))
        self._rule = rule

    def on(self, kind: str, listener: Listener) -> None:
        """See `Guard.on`."""
        self._listeners.append((kind, listener))
        self._kept.value.on(kind, listener)

    def admit(self, arrival: Arrival, person: Person | None, login: Login) -> Answer | None:
        """See `Guard.admit`."""
        is_required = person is not None and self._rule is not None and self._rule(subject_of(person))
        return self._kept.ask(lambda guard: guard.admit(arrival, person, login, is_required=is_required))

    def check(
        self, arrival: Arrival, person: Person | None, login: Login, demand: Demand, body: bytes | None
    ) -> Answer | None:
        """See `Guard.check`."""
        return self._kept.ask(lambda guard: guard.check(arrival, person, login, demand, body))

    def serve(self, arrival: Arrival, person: Person | None, login: Login, body: bytes) -> Answer:
        """See `Guard.serve`."""
        return self._kept.ask(lambda guard: guard.serve(arrival, person, login, body))

    async def _begin(self) -> Guard:
        guard = await Guard.open(self.options)
        for kind, listener in self._listeners:
            guard.on(kind, listener)
        return guard
