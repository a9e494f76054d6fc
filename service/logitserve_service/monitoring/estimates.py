"""Estimates with intervals, from answers of which some are labeled.

The labeled answers are seldom a random sample: people label uncertain answers, or report wrong
ones. So each figure has two estimates. The naive one uses the labeled answers alone. The weighted
one uses strata of the predicted probability: in each, the labeled answers represent all answers
(post-stratification, Holt and Smith 1979). It is unbiased if, within a stratum, the choice of
answers to label does not depend on whether they are right.
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
"""Edges of the strata of probability; answers that are not known are a stratum of their own."""
STRATA: Final = len(EDGES) + 2
F1: Final = "f1 "


class Estimate(CardPart):
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


class Strata(NamedTuple):
    """Counts of all answers, labeled or not, by stratum: `[strata]`."""

    answers: Floats
    """Number of answers; an answer that was sampled with a probability counts as its inverse."""
    stated: Floats
    """Sum of their predicted probabilities."""


def naive_share(right: npt.NDArray[np.bool_]) -> Estimate:
    """Return the share of true values in `[n]`, with its Wilson interval."""
    low, high = wilson(float(right.sum()), len(right))
    return Estimate(value=float(right.mean()), low=low, high=high)


def weighted_share(
    right: npt.NDArray[np.bool_], stratum: npt.NDArray[np.int64], strata: Strata
) -> Estimate:
    """Estimate the share of all answers that is right.

    The Wilson intervals of the strata are combined by the method of variance estimates recovery
    (Zou and Donner 2008), which is valid for a stratum without errors too. A stratum without labels
    has its mean probability as value, and the interval 0 to 1.

    Args:
        right: `[n]`, whether each labeled answer is right.
        stratum: `[n]`, stratum of each labeled answer.
        strata: counts of all answers.
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
    """Pairs of an answer's row and a label's index."""

    rows: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Labeled:
    """Answers whose true labels are known; arrays are `[n]` unless stated otherwise."""

    labels: list[str]
    said: Pairs
    """Predicted labels; one per answer for softmax."""
    held: Pairs
    """True labels that the model has."""
    both: Pairs
    right: npt.NDArray[np.bool_]
    """Whether the predicted labels equal the true ones."""
    covered: Floats
    """1 if the prediction set contains the true label, else 0; NaN without a set."""
    losses: Floats
    """Negative log-likelihood in nats; NaN if unknown."""
    stratum: npt.NDArray[np.int64]
    outcomes: tuple[npt.NDArray[np.int64], Floats, Floats]
    """Row, predicted probability, and 1 if true, else 0: `[n]` each; for sigmoid `[n · labels]`."""

    def figures(self, weights: Floats) -> dict[str, float]:
        """Return `nll` (nats), `ece`, and `f1 LABEL` of each label; NaN if undefined.

        Args:
            weights: `[n]`, number of answers that each represents.
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
        """Return the defined figures, with bootstrap percentile intervals (Efron 1979)."""
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
