"""Reliability of stated probabilities, and the calibration error expected by chance."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.intervals import Floats

BINS: Final = 15
_SIMULATIONS: Final = 200
_SEED: Final = 20_240_601


@dataclass(frozen=True, slots=True)
class Reliability:
    """Stated probabilities and outcomes in equal-width bins over 0 to 1."""

    counts: Floats
    """`[bins]`, number of probabilities per bin."""
    stated: Floats
    """`[bins]`, sum of the probabilities."""
    came_true: Floats
    """`[bins]`, number of positive outcomes."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap, weighted by count (Guo et al. 2017)."""
        return float(np.abs(self.stated - self.came_true).sum() / self.counts.sum())

    def merged(self, fewest: int) -> "Reliability":
        """Merge adjacent bins until each has at least `fewest`, or one is left."""
        groups: list[list[int]] = [[]]
        for index in np.flatnonzero(self.counts).tolist():
            if self.counts[groups[-1]].sum() >= fewest:
                groups.append([])
            groups[-1].append(index)
        if len(groups) > 1 and self.counts[groups[-1]].sum() < fewest:
            rest = groups.pop()
            groups[-1] += rest
        columns = (self.counts, self.stated, self.came_true)
        return Reliability(
            *(np.array([column[group].sum() for group in groups]) for column in columns)
        )


@dataclass(frozen=True, slots=True)
class Null:
    """Calibration error of a perfectly calibrated model with the same number of pictures."""

    mean: float
    limit: float
    """95th percentile."""


def reliability(
    stated: Floats, came_true: npt.NDArray[Any], weights: Floats | None = None
) -> Reliability:
    """Sort probabilities into left-open bins.

    Args:
        stated: `[n]`, probabilities.
        came_true: `[n]`, whether the stated outcome occurred.
        weights: `[n]`, weight of each picture; None: 1.
    """
    index = np.clip(np.ceil(stated * BINS).astype(np.int64) - 1, 0, BINS - 1)
    weights = np.ones(len(stated)) if weights is None else weights

    def total(values: Floats) -> Floats:
        return np.bincount(index, weights=values, minlength=BINS).astype(np.float64)

    return Reliability(total(weights), total(weights * stated), total(weights * came_true))


def null(stated: Floats) -> Null:
    """Simulate the calibration error with outcomes drawn from the stated probabilities, `[n]`.

    It is above 0, especially for few pictures, and is the reference for the measured error.
    """
    generator = np.random.default_rng(_SEED)
    errors = [
        reliability(stated, generator.random(len(stated)) < stated).error
        for _ in range(_SIMULATIONS)
    ]
    return Null(mean=float(np.mean(errors)), limit=float(np.quantile(errors, 0.95)))
