"""Confidence intervals of proportions."""

from math import sqrt
from typing import Final

Z_95: Final = 1.959963984540054
"""Two-sided 95 % quantile of the standard normal distribution."""


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval (1927): 0.70 to 1 for 9 of 9, 0 to 1 for 0 of 0."""
    if not trials:
        return 0.0, 1.0
    p, spread = successes / trials, Z_95**2 / trials
    middle = (p + spread / 2) / (1 + spread)
    half = sqrt(spread * (p * (1 - p) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
