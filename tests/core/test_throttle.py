import pytest
from hypothesis import given
from hypothesis import strategies as st

from twofold.core.clock import MICROS_PER_S, in_seconds
from twofold.core.throttle import (
    BUDGET_PPM,
    GRAINS_PER_PPM,
    REFILL_PPM_PER_DAY,
    Lane,
    Wait,
    answer_cost_ppm,
    charge,
    delay_s,
    end_delay,
    find_wait,
    is_empty,
    refill,
)

DAY = in_seconds(86_400)
NOW = in_seconds(1_700_000_000)
COSTS = st.integers(3, 60)


def spent_ppm(lane: Lane) -> float:
    return lane.spent / GRAINS_PER_PPM


@pytest.mark.parametrize(
    ("candidates", "digits", "ppm"),
    [(3, 6, 3), (10, 6, 10), (3, 8, 3), (1, 6, 3), (200, 6, 200), (7, 5, 70), (10, 7, 3), (35, 7, 4), (1, 4, 100)],
)
def test_an_answer_costs_its_odds_rounded_up_and_three_ppm_at_least(candidates: int, digits: int, ppm: int) -> None:
    assert answer_cost_ppm(candidates, digits) == ppm


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 4), (6, 8), (7, 16), (8, 32), (9, 60), (10, 60), (10**9, 60)],
)
def test_the_third_failure_in_a_row_waits_a_second_and_each_further_one_twice_as_long_up_to_a_minute(
    failures: int, seconds: int
) -> None:
    assert delay_s(failures) == seconds


def test_a_full_lane_judges_ten_totp_codes_and_not_an_eleventh() -> None:
    lane = Lane()
    for _ in range(10):
        assert find_wait(Lane(lane.spent, lane.spent_at), 3, NOW) is None
        lane = charge(lane, 3, NOW)
    assert find_wait(Lane(lane.spent, lane.spent_at), 3, NOW) == Wait("empty", 86_400 * 3 // 2)
    assert is_empty(lane)


def test_when_the_wait_is_over_exactly_one_answer_can_be_judged() -> None:
    lane = Lane(30 * GRAINS_PER_PPM, NOW)
    wait = find_wait(lane, 3, NOW)
    assert wait is not None
    early, then = (NOW + in_seconds(wait.retry_after_s + late) for late in (-1, 0))
    assert find_wait(refill(lane, early), 3, early) == Wait("empty", 1)
    assert find_wait(refill(lane, then), 3, then) is None
    again = charge(refill(lane, then), 3, then)
    assert find_wait(refill(again, then), 3, then + DAY // 86_400 * 60) is not None


def test_an_answer_dearer_than_the_whole_budget_is_judged_when_the_lane_is_full() -> None:
    assert find_wait(Lane(), 50, NOW) is None
    lane = charge(Lane(), 50, NOW)
    assert spent_ppm(lane) == 50
    wait = find_wait(lane, 50, NOW)
    assert wait is not None
    assert wait.retry_after_s == 25 * 86_400
    assert find_wait(refill(lane, NOW + 25 * DAY), 50, NOW + 25 * DAY) is None
    just_before = NOW + 25 * DAY - in_seconds(1)
    assert find_wait(refill(lane, just_before), 50, just_before) == Wait("empty", 1)


def test_two_ppm_come_back_in_a_day_to_the_second() -> None:
    lane = Lane(10 * GRAINS_PER_PPM, NOW)
    assert spent_ppm(refill(lane, NOW + DAY)) == 8
    assert refill(lane, NOW + 5 * DAY) == Lane()
    assert refill(lane, NOW + 50 * DAY) == Lane()
    in_steps = lane
    for second in range(1, 86_401, 7):
        in_steps = refill(in_steps, NOW + in_seconds(second + 0.4))
    assert refill(in_steps, NOW + DAY) == refill(lane, NOW + DAY), "asking often neither loses nor gains"


def test_a_clock_that_went_back_refills_nothing_and_waits_for_nobody() -> None:
    lane = Lane(10 * GRAINS_PER_PPM, NOW, failures=9, failed_at=NOW)
    assert refill(lane, NOW - DAY).spent == lane.spent
    assert find_wait(lane, 3, NOW) == Wait("delayed", 60)
    assert find_wait(lane, 3, NOW - DAY) is None, "the delay of a minute does not become one of a day"
    assert find_wait(Lane(30 * GRAINS_PER_PPM, NOW), 3, NOW - DAY) is not None, "the budget still holds"


def test_after_the_clock_went_back_the_refill_goes_on_from_then() -> None:
    ahead = charge(Lane(), 30, NOW + 365 * DAY)
    back = refill(ahead, NOW)
    assert spent_ppm(back) == 30
    assert spent_ppm(refill(back, NOW + DAY)) == 28
    again = charge(refill(ahead, NOW), 3, NOW)
    assert spent_ppm(refill(again, NOW + DAY)) == 31


def test_a_delay_ends_with_its_last_second() -> None:
    lane = Lane(3 * GRAINS_PER_PPM, NOW, failures=4, failed_at=NOW)
    assert find_wait(lane, 3, NOW) == Wait("delayed", 2)
    assert find_wait(lane, 3, NOW + 1) == Wait("delayed", 2)
    assert find_wait(lane, 3, NOW + 1_999_999) == Wait("delayed", 1)
    assert find_wait(lane, 3, NOW + 2_000_000) is None


def test_a_success_ends_the_delay_and_what_was_spent_stays_spent() -> None:
    lane = charge(charge(Lane(), 3, NOW), 3, NOW + 1)
    assert end_delay(lane) == Lane(lane.spent, lane.spent_at)
    assert end_delay(Lane(5, NOW)) == Lane(5, NOW)


@given(st.lists(st.tuples(COSTS, st.integers(0, 3 * 86_400)), max_size=60))
def test_whatever_is_sent_a_lane_gives_no_more_than_its_budget_and_two_ppm_a_day(
    attempts: list[tuple[int, int]],
) -> None:
    lane, now, charged, dearest = Lane(), NOW, 0, 0
    for cost, seconds in attempts:
        lane = refill(lane, now)
        if find_wait(lane, cost, now) is None:
            lane = charge(lane, cost, now)
            charged += cost
            dearest = max(dearest, cost)
        allowed = max(BUDGET_PPM, dearest) + REFILL_PPM_PER_DAY * (now - NOW) / DAY
        assert charged <= allowed + 1e-6
        now += in_seconds(seconds)


@given(st.integers(1, 100 * GRAINS_PER_PPM), COSTS, st.integers(0, MICROS_PER_S - 1))
def test_coming_back_when_told_is_never_too_early_and_a_second_sooner_always_is(
    spent: int, cost: int, fraction: int
) -> None:
    lane, now = Lane(spent, NOW), NOW + fraction
    wait = find_wait(refill(lane, now), cost, now)
    if wait is not None:
        then = now + in_seconds(wait.retry_after_s)
        assert find_wait(refill(lane, then), cost, then) is None
        early = NOW + in_seconds(wait.retry_after_s - 1)
        assert find_wait(refill(lane, early), cost, early) is not None


def test_whether_a_lane_is_empty_depends_on_what_the_answer_costs() -> None:
    lane = Lane(23 * GRAINS_PER_PPM, NOW)
    assert not is_empty(lane)
    assert not is_empty(lane, 7)
    assert is_empty(lane, 8)
    assert not is_empty(Lane(), 50)
