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

from logitserve.inference.card import CardPart
from logitserve.inference.intervals import Floats, bootstrap, wilson
from logitserve.inference.reliability import reliability

EDGES: Final = (0.5, 0.9, 0.99)
"""Of the strata; what is not known is a stratum of its own."""
STRATA: Final = len(EDGES) + 2
F1: Final = "f1 "


class Estimate(CardPart):
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


def naive_share(right: npt.NDArray[np.bool_]) -> Estimate:
    """The share that is right, `[n]`, and Wilson's interval."""
    low, high = wilson(float(right.sum()), len(right))
    return Estimate(value=float(right.mean()), low=low, high=high)


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
    low, high = max(0.0, value - sqrt(below)), min(1.0, value + sqrt(above))
    return Estimate(value=value, low=low, high=high)


class Pairs(NamedTuple):
    """Labels of answers: row of the answer, and index of the label."""

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labeled:
    """Answers whose true labels are known; `[n]` each, where nothing else is said."""

    labels: list[str]
    said: Pairs
    """Labels that the answers said hold; of softmax one each."""
    held: Pairs
    """Labels of the model that hold."""
    both: Pairs
    right: npt.NDArray[np.bool_]
    """Whether the answer was the truth."""
    covered: Floats
    """1 where the true label is in the answer's set, else 0; NaN where there is none."""
    losses: Floats
    """Negative log-likelihood, nats; NaN where it cannot be told."""
    stratum: npt.NDArray[np.int64]
    outcomes: tuple[npt.NDArray[np.int64], Floats, Floats]
    """Row, stated probability, 1 where it came true: `[n]` each, of sigmoid `[n · labels]`."""

    def figures(self, weights: Floats) -> dict[str, float]:
        """`nll` (nats), `ece`, and F1 of each label, as `F1` and its name; NaN where there is none.

        Args:
            weights: `[n]`, as how many answers each counts.
        """
        has = np.isfinite(self.losses)
        rows, stated, true = self.outcomes
        said, held, both = (
            np.bincount(of.labels, weights[of.rows], len(self.labels))
            for of in (self.said, self.held, self.both)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            nll = (weights[has] @ self.losses[has]) / weights[has].sum()
            f1 = 2 * both / (said + held)
            ece = reliability(stated, true, weights[rows]).error
        of_labels = {F1 + name: float(f1[i]) for i, name in enumerate(self.labels)}
        return {"nll": float(nll), "ece": ece, **of_labels}

    def estimates(self, weights: Floats) -> dict[str, Estimate]:
        """The figures that there are, with percentile intervals of the bootstrap (Efron 1979)."""
        values = {name: of for name, of in self.figures(weights).items() if np.isfinite(of)}

        def drawn(counts: Floats) -> dict[str, float]:
            found = self.figures(weights * counts)
            return {name: found[name] for name in values}

        return {
            name: Estimate(
                value=values[name], low=min(low, values[name]), high=max(high, values[name])
            )
            for name, (low, high) in bootstrap(drawn, len(weights)).items()
        }
