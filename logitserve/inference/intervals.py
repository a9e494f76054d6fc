"""Confidence intervals of metrics."""

from collections.abc import Callable, Mapping
from math import sqrt
from typing import Final, TypeVar

import numpy as np
import numpy.typing as npt

Z_95: Final = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""

_TAILS: Final = (0.025, 0.975)
_RESAMPLES: Final = 400
_SEED: Final = 20_240_601
FEWEST_GROUPS: Final = 5
"""Minimum number of groups for a group bootstrap; with fewer, intervals are over pictures and
apply to these groups only."""

Name = TypeVar("Name")
Interval = tuple[float, float]
Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int64]
"""`[n]`, number of the group of each picture: pictures of one group are not independent."""


def wilson(successes: float, trials: float) -> Interval:
    """Return Wilson's 95 % interval (1927): 0.70 to 1 for 9 of 9, 0 to 1 for 0 of 0."""
    if not trials:
        return 0.0, 1.0
    p, spread = successes / trials, Z_95**2 / trials
    middle = (p + spread / 2) / (1 + spread)
    half = sqrt(spread * (p * (1 - p) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def beyond(interval: Interval, pictures: int) -> Interval:
    """Return the interval of a proportion; Wilson's at 1, where all bootstrap samples agree."""
    return wilson(pictures, pictures) if interval[0] > 1 - 1e-9 else interval


def enough(groups: Groups | None) -> Groups | None:
    """Return the groups of pictures, `[n]`, or None if there are too few to resample."""
    return groups if groups is not None and len(np.unique(groups)) >= FEWEST_GROUPS else None


def bootstrap(
    figures: Callable[[Floats], Mapping[Name, float]], pictures: int, groups: Groups | None = None
) -> dict[Name, Interval]:
    """Return percentile bootstrap intervals of metrics; whole groups are resampled.

    Args:
        figures: computes the metrics from the weight of each picture, `[n]`.
        pictures: number n of pictures.
        groups: None or too few: each picture is its own group.
    """
    groups = enough(groups)
    _, unit_of = np.unique(np.arange(pictures) if groups is None else groups, return_inverse=True)
    units = int(unit_of.max()) + 1
    generator = np.random.default_rng(_SEED)
    drawn = [
        figures(generator.multinomial(units, np.full(units, 1 / units))[unit_of].astype(np.float64))
        for _ in range(_RESAMPLES)
    ]
    return {
        name: tuple(np.nanquantile([one[name] for one in drawn], _TAILS).tolist())
        for name in drawn[0]
    }
