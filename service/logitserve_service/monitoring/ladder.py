"""A ladder of windows over a stream of pictures, and the alarms that it raises.

Each rung compares the pictures since its last test as soon as they are as many as it takes. Short
rungs find large changes soon, long ones small changes later. All rungs together give one false
alarm in so many pictures, each its equal share.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from logitserve.inference.card import FeatureName, ModelCard, Reference
from logitserve.inference.features import Bins
from logitserve_service.monitoring import statistics
from logitserve_service.monitoring.statistics import Comparison, Counts

RUNGS: Final = tuple(100 * 2**step for step in range(8))
"""Pictures of each window: 100 to 12,800."""
BLOCK: Final = 200
BLOCKS: Final = 10
"""A live baseline is so many blocks of so many pictures, or more where many come at a time."""
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
        start = totals.tolist()
        return cls([start] * len(RUNGS), [now] * len(RUNGS), [start])


class Climber:
    """Climbs the ladder of one model."""

    def __init__(self, card: ModelCard, normal: Reference, rule: Rule) -> None:
        self.bins = Bins(normal.features)
        self._card, self._reference, self._rule = card, normal, rule
        self._of_card = np.concatenate([each.counts for each in normal.features.values()])
        self._every = next(iter(self.bins.of.values()))  # bins of a feature of every picture

    def climb(self, ladder: Ladder, totals: Counts, now: float) -> list[tuple[FeatureName, str]]:
        """Test the windows that are full, and return the alarms that begin, with their sentences.

        An alarm ends when two windows of its rung are quiet.
        """
        begun = []
        for rung, size in enumerate(RUNGS):
            window = totals - ladder.starts[rung]
            if self.pictures(window) < size:
                continue
            for name, found in self._compared(ladder, window):
                ladder.tests.setdefault(name, [None] * len(RUNGS))[rung] = list(found)
                is_loud = self._rule.is_loud(found, len(self.bins.of))
                alarm = ladder.alarms.get(name)
                if is_loud:
                    sentence = self._sentence(ladder, name, window)
                    if alarm is None:
                        since = ladder.began[rung]
                        alarm = ladder.alarms[name] = {"rung": rung, "since": since}
                        begun.append((name, sentence))
                    alarm |= {"sentence": sentence, "quiet": 0}
                elif alarm is not None and alarm["rung"] == rung:
                    is_quiet = found.p > _QUIET or found.psi <= self._rule.floor
                    alarm["quiet"] = alarm["quiet"] + 1 if is_quiet else 0
                    if alarm["quiet"] >= _QUIET_WINDOWS:
                        del ladder.alarms[name]
            ladder.starts[rung], ladder.began[rung] = totals.tolist(), now
        if self.pictures(totals - ladder.blocks[-1]) >= BLOCK:
            ladder.blocks = [*ladder.blocks[-BLOCKS:], totals.tolist()]
        return begun

    def pictures(self, counts: Counts) -> int:
        """How many have been counted."""
        return int(counts[self._every].sum())

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
        blocks = list(np.diff(ladder.blocks, axis=0))
        if len(blocks) < BLOCKS:
            return None
        accepted.normal = np.sum(blocks, axis=0).tolist()
        accepted.dispersion = {
            name: statistics.dispersion([block[bins] for block in blocks])
            for name, bins in self.bins.of.items()
        }
        return accepted

    def _normal(self, ladder: Ladder) -> Counts:
        return self._of_card if ladder.normal is None else np.array(ladder.normal)

    def _compared(self, ladder: Ladder, window: Counts) -> Iterator[tuple[FeatureName, Comparison]]:
        normal = self._normal(ladder)
        for name, bins in self.bins.of.items():
            dispersion = ladder.dispersion.get(name, 1.0)
            yield name, statistics.compare(window[bins], normal[bins], dispersion)

    def _sentence(self, ladder: Ladder, name: FeatureName, window: Counts) -> str:
        """What has changed most, in words."""
        bins = self.bins.of[name]
        now, before = (each[bins] / each[bins].sum() for each in (window, self._normal(ladder)))
        edges = self._reference.features[name].edges
        if name in {"classes", "known"}:
            names = self._card.labels if name == "classes" else ("unknown", "known")
            most = int(np.abs(now - before).argmax()) if name == "classes" else 0
            ends = [0, *(math.ceil(edge) for edge in edges), len(names)]
            named = names[ends[most] : ends[most + 1]]
            what = repr(named[0]) if len(named) == 1 else f"{named[0]!r} to {named[-1]!r}"
            verb = "rose" if now[most] > before[most] else "fell"
            share, usual = _percent(now[most]), _percent(before[most])
            return f"{what} {verb}: {share} of the pictures, was {usual}"
        below, was = now.cumsum()[:-1], before.cumsum()[:-1]
        cut = int(np.abs(below - was).argmax())
        fell = below[cut] > was[cut]
        share, usual = (each[cut] if fell else 1 - each[cut] for each in (below, was))
        side = "below" if fell else "at or above"
        return (
            f"{name} {'fell' if fell else 'rose'}: {_percent(share)} {side} {edges[cut]:g}, "
            f"was {_percent(usual)}"
        )


def _percent(share: float) -> str:
    return f"{100 * share:.{0 if share >= 0.1 else 1}f} %"
