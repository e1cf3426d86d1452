"""One attempt from outside: gather time and randomness, decide and commit in one step, repeat where a decision asks.

The verbs are in `twofold.verifier` and `twofold.directory`; both stand on this.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import msgspec

from twofold.core.account import (
    AUTHENTICATORS_MAX,
    DEPLOYMENT,
    FIRST_PERSON,
    Account,
    new_deployment,
    without_expired,
)
from twofold.core.attempt import LOCAL_APPLICATION, Call, Context
from twofold.core.audit import Event
from twofold.core.clock import MICROS_PER_S
from twofold.core.decision import (
    Decision,
    Done,
    NeedsRecoveryCodes,
    Outcome,
    Refusal,
    Rejected,
    Stale,
    Throttled,
    Verified,
)
from twofold.core.entropy import SEED_BYTES, Seed
from twofold.core.factor import Factors
from twofold.core.idempotency import IdempotencyKey, once
from twofold.core.network import network_of
from twofold.core.sign_in import DEFAULT_LIMITS, Bearer, SessionLimits, in_session
from twofold.core.verdict import Question
from twofold.errors import Busy, DataKeyMissing, KeyRetired, Refused, TamperedRecord, TwofoldError, Unavailable
from twofold.hash_pool import HashPool
from twofold.ports import Accounts, Clock, Entropy, Limits, SealingKeys

TRIES_MAX = 4
#: Each authenticator may have a data key of its own, and a new one gets another.
LENT_MAX = AUTHENTICATORS_MAX + 1
_REMEMBERED_MAX = 10_000
#: Endings that ask for slow work to be done, and then for another try.
PREPARE_AGAIN = (Stale, NeedsRecoveryCodes)
#: The events of an authenticator that became active.
ENROLLED = ("authenticator.added", "authenticator.imported")

T = TypeVar("T")
Unjudged = TypeVar("Unjudged", Rejected, Throttled)

log: logging.Logger = logging.getLogger("twofold")


class NotProven(TwofoldError):
    """The answer that came with a call, to prove who calls, was not right; nothing else happened."""

    def __init__(self, outcome: Rejected | Throttled) -> None:
        super().__init__("the answer that came with the call is not right")
        self.outcome = outcome


class Caller(msgspec.Struct, frozen=True):
    """Who calls: an application's id, whether it may manage without a step-up, and where the person is.

    `idempotency` makes a repeated call end as it did the first time. A person on Twofold's own pages calls with a
    `session`, and with a `proof` where a fresh second factor is asked for; right, it ends the other sessions too if
    `ends_others`. After a call in which a second factor was shown an authenticator may be added if `may_enroll`. `by`
    is the administrator who acts on another account.
    """

    application: str = LOCAL_APPLICATION
    is_admin: bool = False
    context: Context = Context()
    idempotency: IdempotencyKey | None = None
    session: Bearer | None = None
    proof: Question | None = None
    ends_others: bool = False
    may_enroll: bool = False
    by: str | None = None

    @property
    def neighborhood(self) -> str | None:
        """The network that counts as one neighbor; None where the address is not known."""
        return None if self.context.ip is None else network_of(self.context.ip)


LOCAL = Caller()
Decide = Callable[[Account | None, Call], Decision]


class Tally(Protocol):
    """Whoever counts what is decided; nobody is named to it."""

    def count_answer(self, factor: str, outcome: Verified | Rejected | Throttled) -> None:
        """An answer of a second factor ended like this; `factor` is what was asked for, or `any`."""
        ...

    def count_enrollment(self) -> None:
        """An authenticator became active."""
        ...


class Engine:
    """The ports, and the loop around one decision. `tally` may be set by whoever wants to count."""

    def __init__(
        self,
        *,
        accounts: Accounts,
        limits: Limits,
        keys: SealingKeys,
        factors: Factors,
        clock: Clock,
        entropy: Entropy,
        pool: HashPool,
        session_limits: SessionLimits = DEFAULT_LIMITS,
    ) -> None:
        self.accounts = accounts
        self.limits = limits
        self.keys = keys
        self.factors = factors
        self.clock = clock
        self.entropy = entropy
        self.pool = pool
        self.session_limits = session_limits
        self.tally: Tally | None = None
        #: Called with each event once it is written down, and the account that it is of. It must not wait.
        self.listener: Callable[[str, Event], None] | None = None
        self._unrecorded: dict[str, int] = {}
        self._alarmed: dict[str, int] = {}

    async def load(self, account_id: str) -> Account | None:
        """The account as it counts now, for reading only; raises `TamperedRecord`."""
        account = await self.read(lambda: self.accounts.load(account_id))
        return account and without_expired(account, self.clock.now())

    async def read(self, look: Callable[[], Awaitable[T]]) -> T:
        """What `look` finds. Raises `TamperedRecord` if that is under none of the keys that are stored now: one that
        is not known here may be another process's, which began to use it while this one stood still."""
        try:
            return await look()
        except TamperedRecord:
            await self.keys.refresh()
            return await look()

    def begin(self, account_id: str, caller: Caller) -> Call:
        """Time and randomness for one try."""
        return Call(
            self.clock.now(),
            Seed(self.entropy.bytes(SEED_BYTES)),
            caller.application,
            caller.is_admin,
            caller.context,
            self._unrecorded.get(account_id, 0),
            caller.by,
        )

    async def decide(
        self,
        account_id: str,
        decide: Decide,
        caller: Caller,
        *,
        prepare: Callable[[Outcome | None], Awaitable[None]] | None = None,
    ) -> Outcome:
        """Decide and commit. `prepare` does slow work before the first try and again whenever a decision asks for it
        (`Stale`, `NeedsRecoveryCodes`): at most three times more, never charged.

        Raises `Refused`, `InvalidInput`, `Busy`, `Unavailable`; to a caller with a session `SessionEnded`, `NotProven`.
        """
        asked: Outcome | None = None
        lent: list[DataKeyMissing] = []
        errors: list[Unavailable] = []
        tries = 0
        try:
            while tries < TRIES_MAX and len(lent) <= LENT_MAX:
                try:
                    # What is written about the keys themselves must not wait for them.
                    if account_id >= FIRST_PERSON:
                        self.keys.check_usable()
                    if prepare is not None:
                        await prepare(asked)
                    call = self.begin(account_id, caller)
                    run = once(self._bind(decide, call, caller), caller.idempotency, call, self.keys)
                    decision = await self.accounts.transact(account_id, run)
                except (DataKeyMissing, KeyRetired, TamperedRecord) as error:
                    await self._mend(error, account_id, caller, lent, errors)
                    tries += not isinstance(error, DataKeyMissing) or error.seed is None
                    continue
                asked = decision.outcome
                tries += 1
                if isinstance(asked, PREPARE_AGAIN):
                    continue
                self._count_unrecorded(account_id, decision)
                self._tell(account_id, decision)
                if isinstance(asked, Refusal):
                    raise Refused(asked.code, asked.detail)
                if caller.proof is not None and isinstance(asked, Rejected | Throttled):
                    raise NotProven(asked)
                return asked
            raise Busy(1, per_account=isinstance(asked, Stale))
        finally:
            self.keys.drop(lent)

    async def _mend(
        self,
        error: DataKeyMissing | KeyRetired | TamperedRecord,
        account_id: str,
        caller: Caller,
        lent: list[DataKeyMissing],
        errors: list[Unavailable],
    ) -> None:
        """Bring about what the attempt lacks, for another try; raises where nothing can. `lent` are the keys of single
        seeds that the attempt holds, `errors` the ones before this."""
        if isinstance(error, DataKeyMissing):
            await self.keys.fetch(error, subject=account_id)
            if error.seed is not None:
                lent.append(error)
        elif isinstance(error, KeyRetired):
            # A key that was made for a new seed belongs to the keys of before, too.
            self.keys.drop(lent)
            lent.clear()
            await self.keys.refresh()
        elif any(isinstance(e, TamperedRecord) for e in errors):
            await self.raise_alarm(account_id, error, caller)
            raise error
        else:
            # Its code may be under a key that another process began to use a moment ago.
            await self.keys.refresh()
        errors.append(error)

    def _bind(self, decide: Decide, call: Call, caller: Caller) -> Callable[[Account | None], Decision]:
        if caller.session is None:
            return lambda account: decide(account, call)
        return in_session(
            decide,
            caller.session,
            call,
            proof=caller.proof,
            ends_others=caller.ends_others,
            may_enroll=caller.may_enroll,
            limits=self.session_limits,
            factors=self.factors,
            seals=self.keys,
        )

    async def record(self, decide: Decide, caller: Caller = LOCAL) -> None:
        """Write an event of the deployment itself."""
        await self.decide(DEPLOYMENT, decide, caller)

    def _count_unrecorded(self, account_id: str, decision: Decision) -> None:
        # Answers that are turned away write no event; the next event tells how many there were.
        if any("unrecorded_before" in event.payload for event in decision.events):
            self._unrecorded.pop(account_id, None)
        elif isinstance(decision.outcome, Throttled | Rejected):
            if len(self._unrecorded) >= _REMEMBERED_MAX:
                self._unrecorded.pop(next(iter(self._unrecorded)))
            self._unrecorded[account_id] = self._unrecorded.get(account_id, 0) + 1

    def turn_away(self, factor: str, outcome: Unjudged) -> Unjudged:
        """How an answer ended that no account had to judge."""
        if self.tally is not None:
            self.tally.count_answer(factor, outcome)
        return outcome

    def _tell(self, account_id: str, decision: Decision) -> None:
        if self.listener is not None:
            for event in decision.events:
                self.listener(account_id, event)
        if self.tally is None:
            return
        if decision.answered is not None:
            self.tally.count_answer(*decision.answered)
        for event in decision.events:
            if event.kind in ENROLLED:
                self.tally.count_enrollment()

    async def raise_alarm(self, account_id: str, tampered: TamperedRecord, caller: Caller = LOCAL) -> None:
        """Log that an account was changed from outside, and record it in the deployment's own chain: once a minute."""
        log.error("ALARM account=%r: %s", account_id, tampered)
        now = self.clock.now()
        if account_id < FIRST_PERSON or now - self._alarmed.get(account_id, -(10**18)) < 60 * MICROS_PER_S:
            return
        if len(self._alarmed) >= _REMEMBERED_MAX:
            self._alarmed.clear()
        self._alarmed[account_id] = now

        def alarm(account: Account | None, call: Call) -> Decision:
            deployment = account or new_deployment(call.seed, call.now)
            event = call.event("account.tampered", account=account_id)
            return Decision(Done(), deployment, (event,), (call.message("account.tampered", {"account": account_id}),))

        await self.record(alarm, Caller(caller.application, context=caller.context))
