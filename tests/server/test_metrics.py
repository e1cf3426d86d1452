"""What is counted: at every door the same, and in several workers as in one."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.server.conftest import Server
from tests.server.enrolling import enrolled, new_ada
from tests.server.passkey_holders import add_holder
from tests.server.visitors import Person, add_person

from twofold.core.decision import Rejected, Throttled, Verified
from twofold.server.metrics import Counts, Metrics, SharedCounts, shared_folder


def read(text: str) -> dict[str, float]:
    """The samples by their names and the values of their labels."""
    return {
        ",".join((sample.name.removeprefix("twofold_"), *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def answers(server: Server) -> dict[str, float]:
    """How many answers there were, by factor and how they ended."""
    counted = read((await server.get("/metrics")).text)
    name = "verifications_total,"
    return {key.removeprefix(name): value for key, value in counted.items() if key.startswith(name)}


class TestAtThePages:
    async def test_a_first_enrollment_counts_and_is_no_answer(self, server: Server) -> None:
        ada = await new_ada(server)
        await ada.begin()
        await ada.send(code=ada.wrong_code())
        assert read((await server.get("/metrics")).text)["enrollments_total"] == 0
        await ada.send(code=ada.code())
        assert read((await server.get("/metrics")).text)["enrollments_total"] == 1
        assert await answers(server) == {}

    async def test_the_second_step_counts_and_the_password_does_not(self, server: Server) -> None:
        codes = await add_person(server)
        bo = Person(server)
        await bo.give_password()
        assert await answers(server) == {}
        await bo.send(code=bo.wrong_code())
        assert await answers(server) == {"any,wrong_code": 1}
        await bo.send(code=bo.fresh_code())
        assert await answers(server) == {"any,wrong_code": 1, "totp,verified": 1}
        await bo.sign_out()
        await bo.give_password()
        await bo.send(code=codes[0])
        assert (await answers(server))["recovery_codes,verified"] == 1
        assert read((await server.get("/metrics")).text)["recoveries_total"] == 1

    async def test_a_form_that_was_sent_twice_counts_once(self, server: Server) -> None:
        await add_person(server)
        bo = Person(server)
        form, code = await bo.give_password(), bo.fresh_code()
        for _ in range(2):
            await bo.send(form, code=code)
        assert sum((await answers(server)).values()) == 1

    async def test_whoever_is_turned_away_counts(self, server: Server) -> None:
        await add_person(server)
        bo = Person(server)
        await bo.give_password()
        for _ in range(4):
            await bo.send(code=bo.wrong_code())
        assert await answers(server) == {"any,wrong_code": 3, "any,throttled": 1}

    async def test_a_fresh_code_for_something_else_counts_right_or_wrong(self, server: Server) -> None:
        ada = await enrolled(await new_ada(server))
        await ada.open("/security/recovery-codes")
        await ada.send(code=ada.wrong_code())
        assert await answers(server) == {"any,wrong_code": 1}
        await ada.send(code=ada.fresh_code())
        assert await answers(server) == {"any,wrong_code": 1, "totp,verified": 1}

    async def test_a_passkey_alone_counts_and_one_that_nobody_knows_too(self, server: Server) -> None:
        bo = await add_holder(server)
        await bo.sign_out()
        before = await answers(server)
        await bo.open("/sign-in")
        await bo.show_passkey()
        assert await answers(server) == {**before, "webauthn,verified": 1}
        await bo.sign_out()
        await bo.open("/sign-in")
        await bo.show_passkey(says={"user_handle": b"nobody"})
        assert (await answers(server))["webauthn,unknown_credential"] == 1


OpenCounts = Callable[[str], SharedCounts]


@pytest.fixture
def open_counts(tmp_path: Path) -> Iterator[OpenCounts]:
    """Give a function from the name of a place to what is counted there."""
    with ExitStack() as opened:
        yield lambda place: opened.enter_context(closing(SharedCounts(tmp_path / place)))


class TestSeveralWorkers:
    async def test_each_tells_the_sum(self, open_counts: OpenCounts) -> None:
        first, second = (Metrics(time_s=lambda: 0.0, counts=open_counts(place)) for place in "01")
        first.count_answer("totp", Rejected("wrong_code"))
        second.count_answer("totp", Rejected("wrong_code"))
        second.count_answer("totp", Throttled(1))
        second.count_answer("any", Verified("recovery_codes", "au_1"))
        first.count_enrollment()
        second.count_throttled()
        first.count_key_use("unwrapped", 3)
        first.observe("verify", 0.003)
        second.observe("verify", 0.3)
        counted = tell(first)
        assert counted == tell(second)
        assert counted["verifications_total,totp,wrong_code"] == 2
        assert counted["verifications_total,totp,throttled"] == 1
        assert counted["verifications_total,recovery_codes,verified"] == 1
        assert [counted[f"{name}_total"] for name in ("enrollments", "throttled", "recoveries", "key_unwraps")] == [
            *(1, 1, 1, 3)
        ]
        assert counted["call_seconds_sum,verify"] == pytest.approx(0.303)
        buckets = {name: value for name, value in counted.items() if name.startswith("call_seconds_bucket")}
        assert buckets["call_seconds_bucket,verify,0.0025"] == 0
        assert buckets["call_seconds_bucket,verify,0.005"] == 1
        assert buckets["call_seconds_bucket,verify,+Inf"] == counted["call_seconds_count,verify"] == 2

    async def test_whoever_takes_a_place_goes_on_counting_there(self, open_counts: OpenCounts) -> None:
        Metrics(time_s=lambda: 0.0, counts=open_counts("0")).count_enrollment()
        successor = Metrics(time_s=lambda: 0.0, counts=open_counts("0"))
        assert tell(successor)["enrollments_total"] == 1
        successor.count_enrollment()
        assert tell(successor)["enrollments_total"] == 2

    async def test_one_that_is_just_beginning_does_not_disturb(self, open_counts: OpenCounts, tmp_path: Path) -> None:
        first = Metrics(time_s=lambda: 0.0, counts=open_counts("0"))
        first.count_enrollment()
        (tmp_path / "1").touch()
        open_counts("2")
        assert (tell(first)["enrollments_total"], tell(first)["clock_offset_seconds"]) == (1, 0)

    async def test_the_clock_is_as_far_off_as_for_the_one_that_has_seen_most(self, open_counts: OpenCounts) -> None:
        ahead_s = 100.0
        first = Metrics(time_s=lambda: ahead_s, counts=open_counts("0"))
        ahead_s -= 40
        second = Metrics(time_s=lambda: ahead_s, counts=open_counts("1"))
        assert tell(first)["clock_offset_seconds"] == tell(second)["clock_offset_seconds"] == -40


def test_the_folder_of_several_is_closed_to_others_locked_and_removed_at_the_end() -> None:
    with shared_folder() as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        descriptor = os.open(folder, os.O_RDONLY)
        # As `systemd-tmpfiles` tries before it removes what is old.
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    assert not folder.exists()


async def test_numbers_are_the_same_in_a_file_and_in_memory(open_counts: OpenCounts) -> None:
    told = []
    every: list[Counts | None] = [None, open_counts("0")]
    for counts in every:
        metrics = Metrics(time_s=lambda: 0.0, counts=counts)
        for number in range(100):
            metrics.observe(f"call{number % 7}", number / 100)
            metrics.count_answer("totp", Rejected("wrong_code" if number % 3 else "code_already_used"))
        told.append(metrics.dump())
    assert told[0] == told[1]


def tell(metrics: Metrics) -> dict[str, float]:
    return read(metrics.dump()[0].decode())
