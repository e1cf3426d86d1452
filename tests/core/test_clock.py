from twofold.core.clock import in_seconds, rfc3339


def test_a_time_is_written_in_utc_with_a_z_and_fractions_only_where_there_are_any() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(in_seconds(1_772_366_400)) == "2026-03-01T12:00:00Z"
    assert rfc3339(in_seconds(1_772_366_400.25)) == "2026-03-01T12:00:00.250000Z"
    assert rfc3339(1) == "1970-01-01T00:00:00.000001Z"


def test_seconds_become_whole_microseconds() -> None:
    assert in_seconds(1) == 1_000_000
    assert in_seconds(0.1 + 0.2) == 300_000
    assert in_seconds(-1.5) == -1_500_000
