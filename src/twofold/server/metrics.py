"""What the server counts, for Prometheus. No account ids, ever: who reads a metric may not know who is here.

Counting is adding to plain numbers on the event loop; Prometheus' own types are made only when somebody reads. Where
several workers serve, each keeps its numbers where the others read them (`SharedCounts`), and any of them tells the
sum.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Protocol

from twofold.core.account import RECOVERY
from twofold.core.decision import Rejected, Throttled, Verified

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
KEY_OPERATIONS = ("wrapped", "unwrapped", "refused", "away")
_BUCKET_NAMES = (*map(str, LATENCY_BUCKETS_S), "+Inf")


class Counts(Protocol):
    """Numbers under names: a word for what is counted, and its labels, with blanks between them."""

    def __getitem__(self, name: str, /) -> float: ...
    def __setitem__(self, name: str, value: float, /) -> None: ...

    def read_all(self) -> Sequence[Mapping[str, float]]:
        """The numbers of every process that serves here."""
        ...


class OwnCounts(defaultdict[str, float]):
    """The numbers of a process that serves alone."""

    def __init__(self) -> None:
        super().__init__(float)

    def read_all(self) -> Sequence[Mapping[str, float]]:
        return [self]


class SharedCounts:
    """The numbers of one of several workers, in a file of their folder that is mapped into memory.

    They outlive the worker, also one that was killed; the one that takes its place goes on with them, so that no
    counter ever goes back.
    """

    def __init__(self, file: Path) -> None:
        # Late: who serves alone does not need it.
        from prometheus_client.mmap_dict import MmapedDict  # noqa: PLC0415

        self._folder = file.parent
        self._numbers: Any = MmapedDict(str(file))  # type: ignore[no-untyped-call]  # this part of it has no types

    def __getitem__(self, name: str) -> float:
        value: float = self._numbers.read_value(name)[0]
        return value

    def __setitem__(self, name: str, value: float) -> None:
        self._numbers.write_value(name, value, 0.0)

    def read_all(self) -> Sequence[Mapping[str, float]]:
        # A worker that is just beginning has made its file and written nothing.
        files = [file for file in sorted(self._folder.iterdir()) if file.stat().st_size]
        return [{name: value for name, value, *_ in self._numbers.read_all_values_from_file(file)} for file in files]

    def close(self) -> None:
        """Count no more; what was counted stays in the file."""
        self._numbers.close()


@contextmanager
def shared_folder() -> Iterator[Path]:
    """A folder for `SharedCounts` while the block runs; locked, so that whoever tidies up temporary files leaves it."""
    from fcntl import LOCK_SH, flock  # noqa: PLC0415 - there is none on Windows

    with TemporaryDirectory(prefix="twofold-") as folder:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            flock(descriptor, LOCK_SH)
            yield Path(folder)
        finally:
            os.close(descriptor)


class Metrics:
    """What one process counts, and what all of them have counted."""

    def __init__(self, *, time_s: Callable[[], float], counts: Counts | None = None) -> None:
        """`time_s` is how far the wall clock is ahead of one that nobody moves: the same on all of a machine."""
        self._time_s = time_s
        self._counts: Counts = OwnCounts() if counts is None else counts
        self._counts["began_ahead"] = time_s()
        self._names: dict[str, tuple[str, ...]] = {}

    def count_answer(self, factor: str, outcome: Verified | Rejected | Throttled) -> None:
        """One judged or throttled answer; `factor` is what was asked for, or `any`."""
        match outcome:
            case Verified():
                self._counts[f"verifications {outcome.factor} verified"] += 1
                if outcome.factor == RECOVERY:
                    self._counts["recoveries"] += 1
            case Rejected():
                self._counts[f"verifications {factor} {outcome.reason}"] += 1
            case Throttled():
                self._counts[f"verifications {factor} throttled"] += 1

    def count_enrollment(self) -> None:
        """One authenticator that became active."""
        self._counts["enrollments"] += 1

    def count_throttled(self) -> None:
        """One call that was turned away unjudged."""
        self._counts["throttled"] += 1

    def count_key_use(self, operation: str, times: int = 1) -> None:
        """Calls to the key provider."""
        self._counts[f"key_uses {operation}"] += times

    def observe(self, call: str, seconds: float) -> None:
        """How long one call took."""
        names = self._names.get(call)
        if names is None:
            names = self._names[call] = (*(f"seconds {call} {le}" for le in _BUCKET_NAMES), f"seconds_sum {call}")
        self._counts[names[bisect_left(LATENCY_BUCKETS_S, seconds)]] += 1
        self._counts[names[-1]] += seconds

    def dump(self) -> tuple[bytes, str]:
        """The text of `/metrics` and its content type."""
        # Late: most of the time that this library costs at start would be for nobody.
        from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """Every family with its values, as Prometheus' registry wants them."""
        from prometheus_client.metrics_core import (  # noqa: PLC0415 - as above
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        processes, ahead_s = self._counts.read_all(), self._time_s()
        sums = OwnCounts()
        for counts in processes:
            for name, number in counts.items():
                sums[name] += number
        verifications = CounterMetricFamily(
            "twofold_verifications", "Answers by factor and how they ended.", labels=["factor", "outcome"]
        )
        for name in sorted(sums):
            if name.startswith("verifications "):
                verifications.add_metric(name.split(" ")[1:], sums[name])
        yield verifications
        yield CounterMetricFamily("twofold_enrollments", "Authenticators that became active.", sums["enrollments"])
        yield CounterMetricFamily("twofold_throttled", "Calls that were turned away unjudged.", sums["throttled"])
        yield CounterMetricFamily("twofold_recoveries", "Recovery codes that let somebody in.", sums["recoveries"])
        opened = sums["key_uses unwrapped"]
        yield CounterMetricFamily("twofold_key_unwraps", "Keys opened by the key provider.", opened)
        asked = CounterMetricFamily(
            "twofold_key_uses", "Calls to the key provider by how they ended.", labels=["outcome"]
        )
        for operation in KEY_OPERATIONS:
            asked.add_metric([operation], sums[f"key_uses {operation}"])
        yield asked
        yield GaugeMetricFamily(
            "twofold_clock_offset_seconds",
            "How far this machine's clock was moved since the server started; `twofold doctor` asks a time server.",
            max((ahead_s - counts.get("began_ahead", ahead_s) for counts in processes), key=abs),
        )
        latencies = HistogramMetricFamily("twofold_call_seconds", "How long calls take.", labels=["call"])
        prefix = "seconds_sum "
        for call in sorted(name.removeprefix(prefix) for name in sums if name.startswith(prefix)):
            counted = accumulate(sums[f"seconds {call} {le}"] for le in _BUCKET_NAMES)
            buckets = list(zip(_BUCKET_NAMES, map(float, counted), strict=True))
            latencies.add_metric([call], buckets=buckets, sum_value=sums[prefix + call])
        yield latencies
