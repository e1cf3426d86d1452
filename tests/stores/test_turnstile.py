import fcntl
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from twofold.stores._turnstile import Turnstile


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "twofold.db"


@pytest.fixture
def mine(database: Path) -> Iterator[Turnstile]:
    turnstile = Turnstile(database)
    yield turnstile
    turnstile.close()


@pytest.fixture
def theirs(database: Path) -> Iterator[Turnstile]:
    turnstile = Turnstile(database)
    yield turnstile
    turnstile.close()


def wait_until_somebody_is_in_line(database: Path) -> None:
    descriptor = os.open(database.with_name("twofold.db-next"), os.O_RDWR)
    try:
        while True:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        os.close(descriptor)


def test_one_is_inside_at_a_time(mine: Turnstile, theirs: Turnstile, database: Path) -> None:
    inside = []

    def enter() -> None:
        with theirs:
            inside.append("theirs")

    other = threading.Thread(target=enter)
    with mine:
        other.start()
        wait_until_somebody_is_in_line(database)
        inside.append("mine")
    other.join()
    assert inside == ["mine", "theirs"]


def test_whoever_is_in_line_comes_before_one_who_was_just_inside(
    mine: Turnstile, theirs: Turnstile, database: Path
) -> None:
    inside = []

    def enter() -> None:
        with theirs:
            inside.append("theirs")

    for _ in range(50):
        other = threading.Thread(target=enter)
        with mine:
            other.start()
            wait_until_somebody_is_in_line(database)
            inside.append("mine")
        with mine:
            inside.append("mine again")
        other.join()
    assert inside == ["mine", "theirs", "mine again"] * 50


def test_it_is_free_again_after_an_error(mine: Turnstile, theirs: Turnstile) -> None:
    with pytest.raises(LookupError), mine:
        raise LookupError
    with theirs:
        pass


def test_a_process_that_dies_inside_lets_go(mine: Turnstile, database: Path) -> None:
    dying = Turnstile(database)
    dying.__enter__()
    dying.close()
    with mine:
        pass
