"""A ladder of windows over a stream of pictures, and the alarms that it raises.

Each rung compares the pictures since its last test as soon as they are as many as it takes. Short
rungs find large changes soon, long ones small changes later. All rungs together give one false
alarm in so many pictures, each its equal share.
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
"""Of all bins of a model, `[bins]`."""

RUNGS: Final = tuple(100 * 2**step for step in range(8))
"""Pictures of each window: 100 to 12,800."""
_BLOCK: Final = 200
"""Pictures, or more where many come at a time; the dispersion is found between blocks."""
_BLOCKS: Final = 10
BASELINE: Final = _BLOCK * _BLOCKS
"""Pictures that a live baseline needs."""
_QUIET: Final = 0.01
"""A window with a larger p, or less of an effect than the floor, is quiet."""
_QUIET_WINDOWS: Final = 2
"""That end an alarm, one after the other."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When there is an alarm."""

    false_alarm_every: float
    """Pictures."""
    floor: float
    """Least PSI."""

    def is_loud(self, found: Comparison, features: int) -> bool:
        """Whether a window shows a change, of one of so many features."""
        share = self.false_alarm_every * len(RUNGS) * features
        return found.p < found.n / share and found.psi > self.floor


@dataclass(slots=True)
class Ladder:
    """Its state, which JSON can hold. Counts are totals since the service began to count."""

    starts: list[list[int]]
    """Of each rung's window."""
    began: list[float]
    """When that was, in seconds since the epoch."""
    blocks: list[list[int]]
    """At the ends of the last blocks, and before the first of them."""
    tests: dict[FeatureName, list[list[float] | None]] = field(default_factory=dict)
    """Last comparison of each rung."""
    alarms: dict[FeatureName, dict[str, Any]] = field(default_factory=dict)
    """`rung`, `since`, `sentence` and `quiet` windows of each feature with an alarm."""
    normal: list[int] | None = None
    """Of the live baseline; None: the card's reference is normal."""
    dispersion: dict[FeatureName, float] = field(default_factory=dict)

    @classmethod
    def at(cls, totals: Counts, now: float) -> "Ladder":
        """One that begins here."""
        ladder = cls([], [], [totals.tolist()])
        ladder.restart(totals, now)
        return ladder

    def restart(self, totals: Counts, now: float) -> None:
        """Let all windows begin here."""
        self.starts = [totals.tolist() for _ in RUNGS]
        self.began = [now] * len(RUNGS)


class Climber:
    """Climbs the ladder of one model."""

    def __init__(self, card: ModelCard, normal: Reference, rule: Rule) -> None:
        self.bins = Bins(normal.features)
        self._card, self._reference, self._rule = card, normal, rule
        self._of_card = [count for each in normal.features.values() for count in each.counts]
        self._every = next(iter(self.bins.of.values()))  # bins of one feature: all pictures

    def climb(self, ladder: Ladder, totals: Counts, now: float) -> list[tuple[FeatureName, str]]:
        """Test the windows that are full, and return the alarms that begin, with their sentences.

        An alarm ends when two windows of its rung are quiet. All windows begin anew then, so that
        none gives it again for pictures that have been.
        """
        before = dict(ladder.alarms)
        compared: dict[tuple[int, ...], dict[FeatureName, Comparison]] = {}
        for rung, size in enumerate(RUNGS):
            window = (totals - ladder.starts[rung]).tolist()
            if self.pictures(window) < size:
                continue
            found = compared.get(tuple(window))
            if found is None:  # where many come at a time, they fill several rungs
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
        """How many have been counted."""
        return sum(counts[self._every])

    def accept(
        self, ladder: Ladder, totals: Counts, now: float, *, live: bool = True
    ) -> Ladder | None:
        """A ladder that begins here with the last blocks as normal; None while there are too few.

        Not live, the card's reference is normal.
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
        """Note a comparison; begin an alarm, or end it."""
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
        """What has changed most, in words."""
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
