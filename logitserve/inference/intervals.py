"""Intervals of shares."""

from math import sqrt
from typing import Final

Z_95: Final = 1.959963984540054
"""Standard deviations of the normal distribution, on either side, that hold 95 %."""


def wilson(successes: float, trials: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927): 9 of 9 are 0.70 to 1; 0 to 1 of none."""
    if not trials:
        return 0.0, 1.0
    p, spread = successes / trials, Z_95**2 / trials
    middle = (p + spread / 2) / (1 + spread)
    half = sqrt(spread * (p * (1 - p) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
