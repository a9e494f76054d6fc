"""Estimates with their intervals, of answers of which some are labeled.

Labels are seldom of a random part: people label what is unsure, or complain of what is wrong. So
each figure is given twice. The naive one is over what is labeled. The weighted one is by strata of
the stated probability: of each, the labeled answers stand for all answers that there were
(post-stratification, Holt and Smith 1979). That is right whenever answers of about the same
probability were labeled without regard to whether they are right.
"""

from dataclasses import dataclass
from math import sqrt
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

EDGES: Final = (0.5, 0.9, 0.99)
"""Of the strata; what is not known is a stratum of its own."""
STRATA: Final = len(EDGES) + 2
BINS: Final = 15
F1: Final = "f1 "
_RESAMPLES: Final = 200
_Z: Final = 1.959964


class Estimate(NamedTuple):
    """A figure in its 95 % interval."""

    value: float
    low: float
    high: float


class Strata(NamedTuple):
    """All answers by stratum, `[strata]`, labeled or not."""

    answers: Floats
    """How many there were; those that were kept by chance count as 1 / chance."""
    stated: Floats
    """Sum of their probabilities."""


def wilson(right: float, trials: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson 1927); 0 to 1 of none."""
    if not trials:
        return 0.0, 1.0
    p, spread = right / trials, _Z**2 / trials
    middle = (p + spread / 2) / (1 + spread)
    half = sqrt(spread * (p * (1 - p) + spread / 4)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def naive_share(right: npt.NDArray[np.bool_]) -> Estimate:
    """The share that is right, `[n]`, and Wilson's interval."""
    return Estimate(float(right.mean()), *wilson(float(right.sum()), len(right)))


def weighted_share(
    right: npt.NDArray[np.bool_], stratum: npt.NDArray[np.int64], strata: Strata
) -> Estimate:
    """The share of all answers that is right.

    Wilson's intervals of the strata are joined by the method of variance estimates recovery (Zou
    and Donner 2008), which holds where a stratum shows no error at all. A stratum without labels
    may be anything: its value is its mean probability, its interval 0 to 1.

    Args:
        right: `[n]`, of the labeled answers.
        stratum: `[n]`, theirs.
        strata: of all answers.
    """
    value = below = above = 0.0
    for number, share in enumerate(strata.answers / strata.answers.sum()):
        if share:
            found = right[stratum == number]
            stated = strata.stated[number] / strata.answers[number]
            p = float(found.mean()) if len(found) else float(stated)
            low, high = wilson(float(found.sum()), len(found))
            value += share * p
            below += (share * (p - low)) ** 2
            above += (share * (high - p)) ** 2
    return Estimate(value, max(0.0, value - sqrt(below)), min(1.0, value + sqrt(above)))


@dataclass(frozen=True, slots=True)
class Labeled:
    """Answers and what was true of them, one row each."""

    labels: list[str]
    answered: npt.NDArray[np.bool_]
    """`[n, labels]`, labels that the answer said hold; of softmax the one."""
    truth: npt.NDArray[np.bool_]
    """`[n, labels]`, labels that hold; none where the true one is no class of the model."""
    probabilities: Floats
    """`[n, labels]`, calibrated; NaN where the store does not have the answer."""
    stated: Floats
    """`[n]`, of the most probable label."""
    stratum: npt.NDArray[np.int64]
    """`[n]`."""
    is_single: bool
    """Whether one label holds, as of softmax and binary models."""

    @property
    def right(self) -> npt.NDArray[np.bool_]:
        """`[n]`, whether the answer was the truth."""
        return np.asarray((self.answered == self.truth).all(axis=1))

    def figures(self, weights: Floats) -> dict[str, float]:
        """`nll` (nats), `ece`, and F1 of each label, as `F1` and its name; NaN where there is none.

        Args:
            weights: `[n]`, as how many answers each counts.
        """
        found = {}
        p, truth = self.probabilities, self.truth
        has = np.isfinite(p).all(axis=1) & (truth.any(axis=1) | (not self.is_single))
        with np.errstate(divide="ignore", invalid="ignore"):
            of_truth = np.maximum(np.where(truth, p, 1 - p), np.finfo(np.float64).tiny)
            losses = -np.log(of_truth)
            if self.is_single:
                losses = np.where(truth, losses, 0).sum(axis=1)
            else:
                losses = losses.mean(axis=1)
            found["nll"] = float(weights[has] @ losses[has] / weights[has].sum())
            said = (self.answered * weights[:, None]).sum(axis=0)
            held = (truth * weights[:, None]).sum(axis=0)
            both = (self.answered & truth) * weights[:, None]
            f1 = 2 * both.sum(axis=0) / (said + held)
        found["ece"] = self._ece(weights)
        return found | {F1 + name: float(f1[i]) for i, name in enumerate(self.labels)}

    def _ece(self, weights: Floats) -> float:
        """Expected calibration error over bins of equal width (Guo et al. 2017)."""
        stated, true = self.stated, self.right.astype(np.float64)
        if not self.is_single:
            has = np.isfinite(self.probabilities).all(axis=1)
            stated, true = self.probabilities[has].ravel(), self.truth[has].ravel().astype(float)
            weights = np.repeat(weights[has], len(self.labels))
        gaps = np.bincount(
            np.clip(np.ceil(stated * BINS).astype(np.int64) - 1, 0, BINS - 1),
            weights * (stated - true),
        )
        return float(np.abs(gaps).sum() / weights.sum())

    def intervals(self, weights: Floats) -> dict[str, Estimate]:
        """The figures with percentile intervals of the bootstrap (Poisson, Efron 1979)."""
        generator = np.random.default_rng(0)
        drawn: dict[str, list[float]] = {}
        for _ in range(_RESAMPLES):
            counts = generator.poisson(1, len(weights))
            for name, value in self.figures(weights * counts).items():
                drawn.setdefault(name, []).append(value)
        found = {}
        for name, value in self.figures(weights).items():
            values = np.array(drawn[name])
            values = values[np.isfinite(values)]
            if np.isfinite(value) and len(values):
                low, high = np.quantile(values, (0.025, 0.975)).tolist()
                found[name] = Estimate(value, min(low, value), max(high, value))
        return found
