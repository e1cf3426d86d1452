"""What the server counts, for Prometheus. No account ids, ever: who reads a metric may not know who is here.

Counting is adding to plain numbers on the event loop; Prometheus' own types are made only when somebody reads.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_BUCKET_NAMES = (*map(str, LATENCY_BUCKETS_S), "+Inf")


class Metrics:
    """The counters of one process. `key_uses` (by how they ended) and `clock_offset_s` are asked when needed."""

    def __init__(self, *, key_uses: Callable[[], Mapping[str, int]], clock_offset_s: Callable[[], float]) -> None:
        self._key_uses = key_uses
        self._clock_offset_s = clock_offset_s
        self._verifications: Counter[tuple[str, str]] = Counter()
        self._latencies: dict[str, list[int]] = {}
        self._latency_sums: Counter[str] = Counter()
        self.enrollments = 0
        self.throttled = 0
        self.recoveries = 0

    def count_verification(self, factor: str, outcome: str) -> None:
        """One judged or throttled answer; `factor` is `any` where none was named and none was found."""
        self._verifications[factor, outcome] += 1

    def observe(self, call: str, seconds: float) -> None:
        """How long one call took."""
        buckets = self._latencies.get(call)
        if buckets is None:
            buckets = self._latencies[call] = [0] * len(_BUCKET_NAMES)
        buckets[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        self._latency_sums[call] += seconds  # type: ignore[assignment]  # a Counter adds floats as well

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

        verifications = CounterMetricFamily(
            "twofold_verifications", "Answers by factor and how they ended.", labels=["factor", "outcome"]
        )
        for (factor, outcome), count in sorted(self._verifications.items()):
            verifications.add_metric([factor, outcome], count)
        yield verifications
        yield CounterMetricFamily("twofold_enrollments", "Authenticators that became active.", self.enrollments)
        yield CounterMetricFamily("twofold_throttled", "Calls that were turned away unjudged.", self.throttled)
        yield CounterMetricFamily("twofold_recoveries", "Recovery codes that let somebody in.", self.recoveries)
        uses = self._key_uses()
        yield CounterMetricFamily("twofold_key_unwraps", "Keys opened by the key provider.", uses.get("unwrapped", 0))
        asked = CounterMetricFamily(
            "twofold_key_uses", "Calls to the key provider by how they ended.", labels=["outcome"]
        )
        for outcome in ("wrapped", "unwrapped", "refused", "away"):
            asked.add_metric([outcome], uses.get(outcome, 0))
        yield asked
        yield GaugeMetricFamily(
            "twofold_clock_offset_seconds",
            "How far this machine's clock was moved since the server started; `twofold doctor` asks a time server.",
            self._clock_offset_s(),
        )
        latencies = HistogramMetricFamily("twofold_call_seconds", "How long calls take.", labels=["call"])
        for call, buckets in sorted(self._latencies.items()):
            counts = list(zip(_BUCKET_NAMES, map(float, accumulate(buckets)), strict=True))
            latencies.add_metric([call], buckets=counts, sum_value=self._latency_sums[call])
        yield latencies
