"""The search for the knee: the highest rate at which the 99th percentile stays under a limit."""

from collections.abc import Mapping
from dataclasses import dataclass, field

FIRST_RATE = 50.0
FACTOR = 1.6
"""From one rate to the next, while all goes well."""
PRECISION = 1.07
"""The search ends when the lowest rate that was too high is not further above the knee."""
KEPT_UP = 0.95
"""Of the offered rate, what must be reached: else requests wait where no clock sees them."""


@dataclass(frozen=True, slots=True)
class Step:
    """What was measured at one rate."""

    offered: float
    """Requests per second."""
    reached: float
    p50: float
    """Milliseconds."""
    p95: float
    p99: float
    failures: int

    def good(self, limit_ms: float) -> bool:
        """Whether the service stood it."""
        kept_up = self.reached >= KEPT_UP * self.offered
        return kept_up and self.p99 < limit_ms and not self.failures


@dataclass(slots=True)
class Search:
    """Raises the rate until the service no longer stands it, then halves the gap."""

    limit_ms: float
    highest: float
    """No rate is tried above this."""
    steps: list[Step] = field(default_factory=list)

    @property
    def knee(self) -> Step | None:
        """The highest rate, of those tried, that the service stood."""
        good = [step for step in self.steps if step.good(self.limit_ms)]
        return max(good, key=lambda step: step.offered, default=None)

    @property
    def next_rate(self) -> float | None:
        """The rate to try now; None when the knee is found."""
        low = self.knee.offered if self.knee else None
        failed = [step.offered for step in self.steps if not step.good(self.limit_ms)]
        # One hiccup of the machine is no limit of the service: what failed is tried once more.
        bad = [rate for rate in failed if failed.count(rate) > 1]
        if self.steps and not self.steps[-1].good(self.limit_ms) and failed[-1] not in bad:
            return failed[-1]
        if not bad:
            rate = FIRST_RATE if low is None else low * FACTOR
            return min(rate, self.highest) if low is None or low < self.highest else None
        high = min(bad)
        if low is None:
            return high / 2 if high > 1 else None
        if low >= high / PRECISION:
            return None
        return float((low * high) ** 0.5)


def percentile(counts: Mapping[int, int], share: float) -> float:
    """Of values that are counted: the least that at least this share does not exceed."""
    wanted = share * sum(counts.values())
    seen = 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted and seen:
            return float(value)
    raise ValueError("nothing was counted")
