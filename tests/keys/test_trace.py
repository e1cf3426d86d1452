import msgspec

from twofold.keys.trace import KEPT_MAX, TOLD_EVERY, KeyTrace, KeyUse

USE = KeyUse(1_000, "unwrapped", "data-1", "master-1", "start", "r-1")
AWAY = KeyUse(1_000, "away", "data-1", "master-1", "use", why="the home provider is away")


def at(use: KeyUse, when: int, **changes: str) -> KeyUse:
    return msgspec.structs.replace(use, at=when, **changes)


def test_each_use_is_kept_until_it_is_taken_and_counted_for_good() -> None:
    trace = KeyTrace()
    uses = [USE, at(USE, 2_000), at(USE, 3_000, operation="wrapped")]
    for use in uses:
        trace.note(use)
    assert trace.take() == (uses, 0)
    assert trace.take() == ([], 0)
    assert trace.counts == {"unwrapped": 2, "wrapped": 1}


def test_what_could_not_be_written_down_comes_first_the_next_time() -> None:
    trace = KeyTrace()
    trace.note(USE)
    taken = trace.take()
    trace.note(at(USE, 2_000))
    trace.put_back(*taken)
    assert trace.take() == ([USE, at(USE, 2_000)], 0)


def test_the_oldest_of_too_many_are_counted_instead_of_kept() -> None:
    trace = KeyTrace()
    for number in range(KEPT_MAX + 3):
        trace.note(at(USE, number))
    uses, lost = trace.take()
    assert (uses[0].at, len(uses), lost) == (3, KEPT_MAX, 3)
    assert trace.lost == 0


def test_of_too_many_put_back_the_oldest_are_counted_with_those_lost_before() -> None:
    trace = KeyTrace()
    for number in range(KEPT_MAX + 1):
        trace.note(at(USE, number))
    uses, lost = trace.take()
    trace.note(at(USE, KEPT_MAX + 1))
    trace.put_back(uses, lost)
    uses, lost = trace.take()
    assert (uses[0].at, uses[-1].at, len(uses), lost) == (2, KEPT_MAX + 1, KEPT_MAX, 2)


def test_a_failure_that_goes_on_is_kept_once_a_minute_and_counted_each_time() -> None:
    trace = KeyTrace()
    for when in (0, 1, TOLD_EVERY - 1, TOLD_EVERY, TOLD_EVERY + 1):
        trace.note(at(AWAY, when))
    assert [use.at for use in trace.take()[0]] == [0, TOLD_EVERY]
    assert trace.counts == {"away": 5}


def test_failures_of_another_key_account_or_kind_are_told_beside_it() -> None:
    trace = KeyTrace()
    others = [{"key_id": "data-2"}, {"subject": "alice"}, {"operation": "refused"}, {"why": "something else"}]
    trace.note(AWAY)
    for changes in others:
        trace.note(at(AWAY, 1_001, **changes))
    assert len(trace.take()[0]) == 1 + len(others)


def test_failures_of_many_accounts_do_not_fill_the_memory() -> None:
    trace = KeyTrace()
    for number in range(KEPT_MAX + 10):
        trace.note(at(AWAY, 1_000, subject=f"a{number}"))
    assert len(trace._told) <= KEPT_MAX
    assert trace.counts == {"away": KEPT_MAX + 10}
