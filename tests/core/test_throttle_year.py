"""A year under attack: the attacker has the password and takes every slot of every door, the owner comes twice a day.

Nobody polls: the attacker comes back when `retry_after` says so. The odds are exact: each judged answer adds its
candidates over the number of codes.
"""

import heapq
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from tests.kit import Phone
from tests.ledger import Ledger

from twofold.core.decision import Outcome, Throttled, Verified

DAY_S = 86_400
YEAR_S = 365 * DAY_S
# Three-code answers are limited per network outside the decision; this many are judged a year at that limit.
THREES_A_YEAR = 10 * 60 * 24 * 365


@dataclass
class Guess:
    """An answer of the attacker and the odds that it is right when it is judged."""

    codes: tuple[str, ...]
    odds: float
    authenticator_id: str | None = None


@dataclass
class Year:
    """What came of it."""

    odds: float = 0.0
    judged: int = 0
    broken_in: int = 0
    sign_ins: int = 0
    owner_refused: int = 0
    slowed_in_known_browser: int = 0
    failures_in_a_row: dict[str, int] = field(default_factory=dict)
    ways_missing: int = 0


def guesses(phones: list[Phone], rng: random.Random, *, may_send_three: bool) -> Iterator[Guess]:
    """Every door in turn: unnamed, naming each authenticator, HOTP resynchronization, three codes."""
    totps = [phone for phone in phones if phone.factor == "totp"]
    hotps = [phone for phone in phones if phone.factor == "hotp"]

    def blind(digits: int) -> str:
        return f"{rng.randrange(10**digits):0{digits}d}"

    def odds_of(phone: Phone) -> float:
        return (3 if phone.factor == "totp" else 10) / 10**phone.digits

    while True:
        length = phones[0].digits
        yield Guess((blind(length),), sum(odds_of(phone) for phone in phones if phone.digits == length))
        for phone in phones:
            yield Guess((blind(phone.digits),), odds_of(phone), phone.id)
        for phone in hotps:
            yield Guess((blind(6), blind(6)), 100 / 10 ** (2 * phone.digits), phone.id)
        if may_send_three:
            candidates = 7 * len(totps) + 100 * len(hotps)
            yield Guess((blind(6), blind(6), blind(6)), candidates / 10**18)


def spend_a_year(
    factors: list[str], *, three_codes: bool = True, away: tuple[float, float] | None = None, digits: int = 6
) -> Year:
    rng = random.Random(f"{factors} {digits}")
    ledger = Ledger.with_account()
    phones = [ledger.import_phone(ledger.new_phone(factor, digits=digits)) for factor in factors]
    start_s, year = ledger.clock.now_s, Year()
    mine, browser = itertools.cycle(phones), None
    if (first := sign_in(ledger, next(mine), None, three_codes=False)) and isinstance(first, Verified):
        browser = first.browser
    attack = guesses(phones, rng, may_send_three=three_codes)

    # (when, who): the attacker goes first where both come at once.
    moments = [(0.0, 0)] + [(at * DAY_S / 2 + rng.uniform(0, DAY_S / 4), 1) for at in range(2 * 365)]
    heapq.heapify(moments)
    while moments and (moment := heapq.heappop(moments))[0] < YEAR_S:
        ledger.clock.set(start_s + moment[0])
        if moment[1] == 0:
            wait_s = attack_until_stopped(ledger, attack, year, may_send_three=three_codes)
            heapq.heappush(moments, (moment[0] + wait_s, 0))
        elif away is None or not away[0] * DAY_S <= moment[0] < away[1] * DAY_S:
            is_new_browser = rng.random() < 0.1
            # In the known browser one code is enough, whatever the attacker does.
            outcome = sign_in(
                ledger, next(mine), None if is_new_browser else browser, three_codes=three_codes and is_new_browser
            )
            year.sign_ins += 1
            year.slowed_in_known_browser += not is_new_browser and isinstance(outcome, Throttled)
            if not isinstance(outcome, Verified):
                year.owner_refused += 1
            elif not is_new_browser:
                browser = outcome.browser
        for phone in phones:
            in_a_row = ledger.authenticator(phone).failures
            year.failures_in_a_row[phone.id] = max(in_a_row, year.failures_in_a_row.get(phone.id, 0))
    return year


def attack_until_stopped(ledger: Ledger, attack: Iterator[Guess], year: Year, *, may_send_three: bool) -> int:
    """Guess through every door until the lane says when to come back."""
    while True:
        guess = next(attack)
        outcome = ledger.verify(
            *guess.codes,
            authenticator_id=guess.authenticator_id,
            browser=f"made up {year.judged}",
            ip=f"2001:db8::{year.judged:x}",
            is_strict=not may_send_three,
        )
        if isinstance(outcome, Throttled):
            year.ways_missing += may_send_three and "three_codes" not in outcome.ways
            return outcome.retry_after_s
        if isinstance(outcome, Verified):
            year.broken_in += 1
        if len(guess.codes) < 3:
            year.judged += 1
            year.odds += guess.odds


def sign_in(ledger: Ledger, phone: Phone, browser: str | None, *, three_codes: bool) -> Outcome:
    """The owner: one code, and where that is not judged three in a row."""
    now = ledger.clock.now()
    code = phone.press() if phone.factor == "hotp" else phone.code(now)
    outcome = ledger.verify(code, browser=browser)
    if not isinstance(outcome, Throttled) or not three_codes:
        return outcome
    if phone.factor == "hotp":
        return ledger.verify(code, phone.press(), phone.press(), browser=browser)
    return ledger.verify(*phone.three(now), browser=browser)


MIXES = [["totp"], ["hotp"], ["totp", "totp"], ["totp", "hotp"]]


@pytest.mark.parametrize("factors", MIXES, ids="+".join)
def test_in_a_year_under_attack_the_odds_stay_under_a_thousandth_and_the_owner_is_always_let_in(
    factors: list[str],
) -> None:
    year = spend_a_year(factors)
    candidates = sum(7 if factor == "totp" else 100 for factor in factors)
    assert year.odds + THREES_A_YEAR * candidates / 10**18 <= 0.001
    assert year.judged > 60, "the attacker was busy"
    assert year.broken_in == 0
    assert year.sign_ins == 730
    assert year.owner_refused == 0
    assert year.slowed_in_known_browser == 0
    assert year.ways_missing == 0


@pytest.mark.parametrize("factors", MIXES, ids="+".join)
def test_without_three_code_answers_the_same_year_misses_the_goal(factors: list[str]) -> None:
    year = spend_a_year(factors, three_codes=False)
    assert year.odds <= 0.001
    assert year.owner_refused > 30, "the owner stood before a closed door in new browsers"


def test_more_digits_make_guessing_no_dearer_for_the_owner_and_no_better_for_the_attacker() -> None:
    year = spend_a_year(["totp"], digits=8)
    assert year.odds <= 0.00001
    assert year.owner_refused == 0


@pytest.mark.parametrize("factors", MIXES, ids="+".join)
def test_an_owner_who_is_away_for_sixty_days_finds_every_authenticator_enabled(factors: list[str]) -> None:
    year = spend_a_year(factors, away=(100, 160))
    assert 5 < max(year.failures_in_a_row.values()) < 100
    assert year.owner_refused == 0
