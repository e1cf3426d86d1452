from pathlib import Path

import pytest

from twofold.clocks import FileClock, SystemClock, SystemEntropy, system_clock
from twofold.errors import Unavailable


def test_bytes_are_of_the_length_asked_for_and_never_handed_out_twice() -> None:
    entropy = SystemEntropy()
    drawn = [entropy.bytes(32) for _ in range(10_000)]
    assert {len(value) for value in drawn} == {32}
    assert len(set(drawn)) == len(drawn)


def test_the_clock_of_tests_is_read_from_its_file_each_time(tmp_path: Path) -> None:
    file = tmp_path / "now"
    clock = system_clock(file)
    assert isinstance(clock, FileClock)
    file.write_text("1700000000\n")
    assert clock.now() == 1_700_000_000_000_000
    file.write_text("1700000000.25")
    assert clock.now() == 1_700_000_000_250_000
    file.write_text("noon")
    with pytest.raises(Unavailable, match="holds no Unix time"):
        clock.now()


def test_without_a_file_the_clock_is_the_machine_s() -> None:
    assert isinstance(system_clock(None), SystemClock)
    assert system_clock(None).now() > 1_700_000_000_000_000
