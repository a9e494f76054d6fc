"""Confidence intervals of metrics, and significance tests of paired models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import betabinom, binomtest, norm

from logitserve.inference import conformal
from logitserve.inference.intervals import Interval

CONFIDENCE: Final = 0.95
_LEVEL: Final = 1 - CONFIDENCE
_TAILS: Final = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Estimate(NamedTuple):
    """A metric with its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def of_coverage(asked: float, calibrated: int, tested: int) -> Interval:
    """Return the 95 % range of the measured coverage on `tested` pictures, if the sets are valid.

    Over draws of both parts the covered count is Beta-binomial (Vovk 2012, arXiv:1209.2673); the
    threshold was chosen on `calibrated` pictures.
    """
    place = conformal.rank(calibrated, asked)
    if place > calibrated:
        return 1.0, 1.0
    low, high = betabinom.ppf(_TAILS, tested, place, calibrated + 1 - place)
    return float(low / tested), float(high / tested)


def of_coverages(asked: float, calibrated: Sequence[int], tested: Sequence[int]) -> Interval:
    """Return the range over all labels with their own thresholds (normal approximation)."""
    total = sum(tested)
    mean = variance = 0.0
    for known, tried in zip(calibrated, tested, strict=True):
        place = conformal.rank(known, asked)
        mean += betabinom.mean(tried, place, known + 1 - place)
        variance += betabinom.var(tried, place, known + 1 - place)
    low, high = norm.ppf(_TAILS, mean, variance**0.5)
    return max(float(low / total), 0.0), min(float(high / total), 1.0)


@dataclass(frozen=True, slots=True)
class Paired:
    """Exact McNemar test of two models on the same pictures (1947)."""

    only_first: int
    """Number of pictures that only the first model predicts correctly."""
    only_second: int
    p: float
    """p-value: probability of at least this difference for equally good models."""
    pictures: int

    @property
    def verdict(self) -> Literal["better", "worse", "cannot tell"]:
        """Whether the first model is better, at a significance level of 5 %."""
        if self.p >= _LEVEL:
            return "cannot tell"
        return "better" if self.only_first > self.only_second else "worse"

    @property
    def pictures_needed(self) -> int | None:
        """Number of pictures for a power of 80 %, if the models differ as here (Connor 1987).

        None if they do not differ.
        """
        difference = (self.only_first - self.only_second) / self.pictures
        if not difference:
            return None
        differing = (self.only_first + self.only_second) / self.pictures
        spread = float(norm.isf(_LEVEL / 2)) * math.sqrt(differing)
        spread += float(norm.ppf(0.8)) * math.sqrt(differing - difference**2)
        return math.ceil((spread / difference) ** 2)

    @classmethod
    def of(cls, first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> "Paired":
        """Compare two models; both arguments are `[n]`, whether the prediction is correct."""
        only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
        differing = only_first + only_second
        p = binomtest(only_first, differing).pvalue if differing else 1.0
        return cls(only_first, only_second, float(p), len(first))
