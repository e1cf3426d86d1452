"""How guessing is slowed and bounded: the only place that counts failures of second factors.

The rules, in the order in which an answer meets them:

1. A *lane* is a budget of odds with a delay. New browsers share one lane for each account; each known browser has its
   own, so a guesser elsewhere cannot slow the owner's browser down.
2. The budget counts odds, not tries: a judged answer that fails costs `candidates x 10^6 / 10^digits` ppm, and never
   less than 3 ppm for each authenticator it was tried against. A right answer costs nothing, but its cost must be left
   in the lane before it is judged (or the lane be full), else nobody could tell the two apart in time.
3. A lane holds 30 ppm. The new-browser lane gets 2 ppm a day back; its success refills nothing, a password change
   refills it. A known browser's lane is refilled by its own success and by nothing else; empty, it counts as new.
   Hence about 30 + 2 x 365 = 760 ppm a year of odds for everybody without a known browser, whatever they do; 900 with
   eighteen HOTP tokens, because an answer dearer than the whole budget is judged when the lane is full.
4. Within a lane the third failure in a row waits 1 s, then 2, 4, ... up to 60 s; a success in the lane ends it.
5. An authenticator that fails 100 times in a row, over all lanes, is disabled (NIST SP 800-63B-4 section 3.2.2).
6. Three consecutive codes in one answer (odds 3 x 10^-18) pass an empty or delayed lane and are never charged;
   recovery codes and passkeys cannot be guessed and never meet a lane.

            judged wrong: cost x ppm, failures + 1
           +--------------------------------------+
           v                                      |
        +------+  third failure in a row  +-----------+  wait is over
        | open |------------------------->|  delayed  |----------------> open
        +------+                          +-----------+
           |  cost no longer left               |  cost no longer left
           v                                    v
        +-------------------------------------------+  2 ppm a day, password change
        |  empty: known browser, passkey, recovery  |-------------------------------> open
        |  code or three codes in a row still pass  |
        +-------------------------------------------+

Amounts are kept in grains, 86,400 to the ppm, so that the daily refill is a whole number of grains a second.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from twofold.core.clock import MICROS_PER_S

BUDGET_PPM = 30
REFILL_PPM_PER_DAY = 2
COST_MIN_PPM = 3
FREE_FAILURES = 2
DELAY_MAX_S = 60
FAILURES_MAX = 100

GRAINS_PER_PPM = 86_400
_BUDGET = BUDGET_PPM * GRAINS_PER_PPM

LaneState = Literal["open", "delayed", "empty"]


class Lane(msgspec.Struct, frozen=True, array_like=True):
    """The budget and the delay of one lane. `spent` is in grains and may exceed the budget by one answer's cost."""

    spent: int = 0
    spent_at: int = 0
    failures: int = 0
    failed_at: int = 0


class Wait(msgspec.Struct, frozen=True):
    """Why an answer is not judged now, and for how long that stays so."""

    state: Literal["delayed", "empty"]
    retry_after_s: int


def answer_cost_ppm(candidates: int, digits: int) -> int:
    """The odds, in parts per million rounded up, that a blind guess hits one of `candidates` codes; at least 3."""
    codes: int = 10**digits
    return max(COST_MIN_PPM, -(-candidates * 1_000_000 // codes))


def refill(lane: Lane, now: int) -> Lane:
    """The new-browser lane as it stands at `now` (microseconds). A clock that went back refills nothing."""
    if not lane.spent:
        return lane
    elapsed_s = (now - lane.spent_at) // MICROS_PER_S
    if elapsed_s < 0:
        # The refill goes on from now, not when that time comes again: a wrong clock must not keep a lane empty.
        return msgspec.structs.replace(lane, spent_at=now)
    left = max(0, lane.spent - elapsed_s * REFILL_PPM_PER_DAY)
    return msgspec.structs.replace(lane, spent=left, spent_at=lane.spent_at + elapsed_s * MICROS_PER_S if left else 0)


def find_wait(lane: Lane, cost_ppm: int, now: int) -> Wait | None:
    """None when an answer of this cost may be judged in the lane now. `lane` is already refilled."""
    missing = lane.spent + cost_ppm * GRAINS_PER_PPM - _BUDGET
    if lane.spent and missing > 0:
        # An answer dearer than the whole budget is judged when the lane is full.
        return Wait("empty", max(1, -(-min(missing, lane.spent) // REFILL_PPM_PER_DAY)))
    elapsed = now - lane.failed_at
    left = delay_s(lane.failures) * MICROS_PER_S - elapsed
    # A clock that went back must not turn one second into a year: the budget above still bounds the guesses.
    if elapsed >= 0 and left > 0:
        return Wait("delayed", -(-left // MICROS_PER_S))
    return None


def delay_s(failures: int) -> int:
    """Seconds to wait after so many failures in a row: none for the first two, then 1, 2, 4 ... 60."""
    if failures <= FREE_FAILURES:
        return 0
    # The exponent is capped before it is used: nobody makes us compute 2 ** 10**9.
    return min(DELAY_MAX_S, 1 << min(failures - FREE_FAILURES - 1, 6))


def charge(lane: Lane, cost_ppm: int, now: int) -> Lane:
    """The lane after a judged answer that failed."""
    since = min(lane.spent_at, now) if lane.spent else now
    return Lane(lane.spent + cost_ppm * GRAINS_PER_PPM, since, lane.failures + 1, now)


def end_delay(lane: Lane) -> Lane:
    """The new-browser lane after a success: the failures in a row are over, what was spent stays spent."""
    return Lane(lane.spent, lane.spent_at) if lane.failures else lane


def is_empty(lane: Lane, cost_ppm: int = COST_MIN_PPM) -> bool:
    """Whether the (refilled) lane has no room for an answer of this cost, by default the cheapest there is."""
    return lane.spent > 0 and lane.spent + cost_ppm * GRAINS_PER_PPM > _BUDGET
