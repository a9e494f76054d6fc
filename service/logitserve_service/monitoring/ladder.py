"""Drift tests over windows of several sizes (a ladder), and their alarms.

Each rung of the ladder is a window size. A rung tests the pictures since its last test as soon as
its window is full. Short windows find large changes soon, long ones find small changes later. The
false alarm rate is divided equally among the rungs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import FeatureName, ModelCard, Reference
from logitserve.inference.features import Bins
from logitserve_service.monitoring.statistics import Comparison, compare, dispersion

Counts = npt.NDArray[np.int64]
"""Counts of all bins of a model, `[bins]`."""

RUNGS: Final = tuple(100 * 2**step for step in range(8))
"""Pictures per window: 100 to 12,800."""
_BLOCK: Final = 200
"""Minimum pictures per block; the overdispersion is estimated between blocks."""
_BLOCKS: Final = 10
BASELINE: Final = _BLOCK * _BLOCKS
"""Pictures that a live baseline needs."""
_QUIET: Final = 0.01
"""A window with a larger p, or a PSI up to the floor, is quiet."""
_QUIET_WINDOWS: Final = 2
"""Consecutive quiet windows that end an alarm."""


@dataclass(frozen=True, slots=True)
class Rule:
    """The rule for alarms."""

    false_alarm_every: float
    """Mean pictures per false alarm."""
    floor: float
    """PSI that a change must exceed."""

    def is_loud(self, found: Comparison, features: int) -> bool:
        """Return whether a window of one of `features` features shows a change."""
        share = self.false_alarm_every * len(RUNGS) * features
        return found.p < found.n / share and found.psi > self.floor


@dataclass(slots=True)
class Ladder:
    """The state of all windows, serializable as JSON. Counts are totals since the start."""

    starts: list[list[int]]
    """Counts at the start of each rung's window."""
    began: list[float]
    """Start time of each window, in seconds since the epoch."""
    blocks: list[list[int]]
    """Counts at the boundaries of the last blocks."""
    tests: dict[FeatureName, list[list[float] | None]] = field(default_factory=dict)
    """Last comparison of each rung."""
    alarms: dict[FeatureName, dict[str, Any]] = field(default_factory=dict)
    """Feature with an alarm → `rung`, `since`, `sentence`, and number of `quiet` windows."""
    normal: list[int] | None = None
    """Counts of the live baseline; None: the baseline is the card's reference."""
    dispersion: dict[FeatureName, float] = field(default_factory=dict)

    @classmethod
    def at(cls, totals: Counts, now: float) -> "Ladder":
        """Return a ladder whose windows start with these counts."""
        ladder = cls([], [], [totals.tolist()])
        ladder.restart(totals, now)
        return ladder

    def restart(self, totals: Counts, now: float) -> None:
        """Restart all windows with these counts."""
        self.starts = [totals.tolist() for _ in RUNGS]
        self.began = [now] * len(RUNGS)


class Climber:
    """Runs the drift tests of one model."""

    def __init__(self, card: ModelCard, normal: Reference, rule: Rule) -> None:
        self.bins = Bins(normal.features)
        self._card, self._reference, self._rule = card, normal, rule
        self._of_card = [count for each in normal.features.values() for count in each.counts]
        self._every = next(
            iter(self.bins.of.values())
        )  # bins of one feature, which sum to all pictures

    def climb(self, ladder: Ladder, totals: Counts, now: float) -> list[tuple[FeatureName, str]]:
        """Test the full windows, and return new alarms with their descriptions.

        An alarm ends after two quiet windows of its rung. Then all windows restart, so that past
        pictures cannot raise it again.
        """
        before = dict(ladder.alarms)
        compared: dict[tuple[int, ...], dict[FeatureName, Comparison]] = {}
        for rung, size in enumerate(RUNGS):
            window = (totals - ladder.starts[rung]).tolist()
            if self.pictures(window) < size:
                continue
            found = compared.get(tuple(window))
            if found is None:  # one large batch can fill several rungs
                normal = self._normal(ladder)
                found = compared[tuple(window)] = {
                    name: compare(window[bins], normal[bins], ladder.dispersion.get(name, 1.0))
                    for name, bins in self.bins.of.items()
                }
            for name, comparison in found.items():
                self._judge(ladder, rung, name, comparison, window)
            ladder.starts[rung], ladder.began[rung] = totals.tolist(), now
        if before.keys() - ladder.alarms:
            ladder.restart(totals, now)
        if self.pictures((totals - ladder.blocks[-1]).tolist()) >= _BLOCK:
            ladder.blocks = [*ladder.blocks[-_BLOCKS:], totals.tolist()]
        return [
            (name, alarm["sentence"]) for name, alarm in ladder.alarms.items() if name not in before
        ]

    def pictures(self, counts: Sequence[int]) -> int:
        """Return the number of pictures in counts."""
        return sum(counts[self._every])

    def accept(
        self, ladder: Ladder, totals: Counts, now: float, *, live: bool = True
    ) -> Ladder | None:
        """Return a ladder with the last blocks as baseline; None if they are too few.

        If not `live`, the baseline is the card's reference.
        """
        accepted = Ladder.at(totals, now)
        accepted.blocks = ladder.blocks
        if not live:
            return accepted
        blocks = np.diff(ladder.blocks, axis=0)
        normal = blocks.sum(axis=0).tolist()
        if self.pictures(normal) < BASELINE:
            return None
        accepted.normal = normal
        accepted.dispersion = {
            name: dispersion(blocks[:, bins]) for name, bins in self.bins.of.items()
        }
        return accepted

    def _judge(
        self,
        ladder: Ladder,
        rung: int,
        name: FeatureName,
        found: Comparison,
        window: Sequence[int],
    ) -> None:
        """Record a comparison; begin or end an alarm."""
        test = [found.n, float(f"{found.p:.3g}"), round(found.psi, 5)]
        ladder.tests.setdefault(name, [None] * len(RUNGS))[rung] = test
        alarm = ladder.alarms.get(name)
        if self._rule.is_loud(found, len(self.bins.of)):
            begin = {"rung": rung, "since": ladder.began[rung]}
            alarm = ladder.alarms.setdefault(name, begin)
            alarm["quiet"] = 0
            if alarm["rung"] == rung:
                alarm["sentence"] = self._sentence(ladder, name, window)
        elif alarm is not None and alarm["rung"] == rung:
            is_quiet = found.p > _QUIET or found.psi <= self._rule.floor
            alarm["quiet"] = alarm["quiet"] + 1 if is_quiet else 0
            if alarm["quiet"] == _QUIET_WINDOWS:
                del ladder.alarms[name]

    def _normal(self, ladder: Ladder) -> list[int]:
        return self._of_card if ladder.normal is None else ladder.normal

    def _sentence(self, ladder: Ladder, name: FeatureName, window: Sequence[int]) -> str:
        """Describe the largest change of a feature in words."""
        bins = self.bins.of[name]
        counts = np.array([window[bins], self._normal(ladder)[bins]], np.float64)
        now, before = counts / counts.sum(axis=1, keepdims=True)
        edges = self._reference.features[name].edges
        if name in {"classes", "known"}:
            names = self._card.labels if name == "classes" else ("unknown", "known")
            most = 0 if name == "known" else int(np.abs(now - before).argmax())
            ends = [0, *(math.ceil(edge) for edge in edges), len(names)]
            named = names[ends[most] : ends[most + 1]]
            what = repr(named[0]) if len(named) == 1 else f"{named[0]!r} to {named[-1]!r}"
            verb = "rose" if now[most] > before[most] else "fell"
            share, usual = _percent(now[most]), _percent(before[most])
            return f"{what} {verb}: {share} of the pictures, was {usual}"
        below, was = now.cumsum()[:-1], before.cumsum()[:-1]
        cut = int(np.abs(below - was).argmax())
        verb, side, share, usual = "fell", "below", below[cut], was[cut]
        if share < usual:
            verb, side, share, usual = "rose", "at or above", 1 - share, 1 - usual
        return f"{name} {verb}: {_percent(share)} {side} {edges[cut]:g}, was {_percent(usual)}"


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.095 else 1}f} %"
