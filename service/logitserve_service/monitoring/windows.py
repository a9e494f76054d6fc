"""Drift tests over windows of several sizes, and their alarms.

Each level has a window size. It tests the pictures since its last test as soon as its window is
full. Short windows find large changes soon, long ones find small changes later. The false alarm
rate is divided equally among the levels.
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

WINDOW_SIZES: Final = tuple(100 * 2**step for step in range(8))
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
        share = self.false_alarm_every * len(WINDOW_SIZES) * features
        return found.p < found.n / share and found.psi > self.floor


@dataclass(slots=True)
class WindowState:
    """The state of all windows, serializable as JSON. Counts are totals since the start."""

    starts: list[list[int]]
    """Counts at the start of each level's window."""
    began: list[float]
    """Start time of each window, in seconds since the epoch."""
    blocks: list[list[int]]
    """Counts at the boundaries of the last blocks."""
    tests: dict[FeatureName, list[list[float] | None]] = field(default_factory=dict)
    """Last comparison of each level."""
    alarms: dict[FeatureName, dict[str, Any]] = field(default_factory=dict)
    """Feature with an alarm → `level`, `since`, `sentence`, and number of `quiet` windows."""
    normal: list[int] | None = None
    """Counts of the live baseline; None: the baseline is the card's reference."""
    dispersion: dict[FeatureName, float] = field(default_factory=dict)

    @classmethod
    def at(cls, totals: Counts, now: float) -> "WindowState":
        """Return a state whose windows start with these counts."""
        state = cls([], [], [totals.tolist()])
        state.restart(totals, now)
        return state

    def restart(self, totals: Counts, now: float) -> None:
        """Restart all windows with these counts."""
        self.starts = [totals.tolist() for _ in WINDOW_SIZES]
        self.began = [now] * len(WINDOW_SIZES)


class DriftTests:
    """Runs the drift tests of one model."""

    def __init__(self, card: ModelCard, normal: Reference, rule: Rule) -> None:
        self.bins = Bins(normal.features)
        self._card, self._reference, self._rule = card, normal, rule
        self._of_card = [count for each in normal.features.values() for count in each.counts]
        # The bins of one feature, whose counts sum to all pictures.
        self._every = next(iter(self.bins.of.values()))

    def run(self, state: WindowState, totals: Counts, now: float) -> list[tuple[FeatureName, str]]:
        """Test the full windows, and return new alarms with their descriptions.

        An alarm ends after two quiet windows of its level. Then all windows restart, so that past
        pictures cannot raise it again.
        """
        before = dict(state.alarms)
        compared: dict[tuple[int, ...], dict[FeatureName, Comparison]] = {}
        for level, size in enumerate(WINDOW_SIZES):
            window = (totals - state.starts[level]).tolist()
            if self.pictures(window) < size:
                continue
            found = compared.get(tuple(window))
            if found is None:  # one large batch can fill several levels
                normal = self._normal(state)
                found = compared[tuple(window)] = {
                    name: compare(window[bins], normal[bins], state.dispersion.get(name, 1.0))
                    for name, bins in self.bins.of.items()
                }
            for name, comparison in found.items():
                self._judge(state, level, name, comparison, window)
            state.starts[level], state.began[level] = totals.tolist(), now
        if before.keys() - state.alarms:
            state.restart(totals, now)
        if self.pictures((totals - state.blocks[-1]).tolist()) >= _BLOCK:
            state.blocks = [*state.blocks[-_BLOCKS:], totals.tolist()]
        return [
            (name, alarm["sentence"]) for name, alarm in state.alarms.items() if name not in before
        ]

    def pictures(self, counts: Sequence[int]) -> int:
        """Return the number of pictures in counts."""
        return sum(counts[self._every])

    def accept(
        self, state: WindowState, totals: Counts, now: float, *, live: bool = True
    ) -> WindowState | None:
        """Return a state with the last blocks as baseline; None if they are too few.

        If not `live`, the baseline is the card's reference.
        """
        accepted = WindowState.at(totals, now)
        accepted.blocks = state.blocks
        if not live:
            return accepted
        blocks = np.diff(state.blocks, axis=0)
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
        state: WindowState,
        level: int,
        name: FeatureName,
        found: Comparison,
        window: Sequence[int],
    ) -> None:
        """Record a comparison; begin or end an alarm."""
        test = [found.n, float(f"{found.p:.3g}"), round(found.psi, 5)]
        state.tests.setdefault(name, [None] * len(WINDOW_SIZES))[level] = test
        alarm = state.alarms.get(name)
        if self._rule.is_loud(found, len(self.bins.of)):
            begin = {"level": level, "since": state.began[level]}
            alarm = state.alarms.setdefault(name, begin)
            alarm["quiet"] = 0
            if alarm["level"] == level:
                alarm["sentence"] = self._sentence(state, name, window)
        elif alarm is not None and alarm["level"] == level:
            is_quiet = found.p > _QUIET or found.psi <= self._rule.floor
            alarm["quiet"] = alarm["quiet"] + 1 if is_quiet else 0
            if alarm["quiet"] == _QUIET_WINDOWS:
                del state.alarms[name]

    def _normal(self, state: WindowState) -> list[int]:
        return self._of_card if state.normal is None else state.normal

    def _sentence(self, state: WindowState, name: FeatureName, window: Sequence[int]) -> str:
        """Describe the largest change of a feature in words."""
        bins = self.bins.of[name]
        counts = np.array([window[bins], self._normal(state)[bins]], np.float64)
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
