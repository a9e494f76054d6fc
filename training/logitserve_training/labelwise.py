"""Each label looked at on its own: thresholds, and how well the label is found."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve

Floats = npt.NDArray[np.float64]
Outcomes = npt.NDArray[np.int64]
"""`[n, labels]`, 1 where the label holds, else 0."""

UNDECIDED = 0.5
"""Threshold of a label that the validation part can say nothing about."""


@dataclass(frozen=True, slots=True)
class LabelScores:
    """How well one label is found."""

    support: int
    """Pictures that have it."""
    share: float
    """Of the pictures that have it: the average precision of an order by chance."""
    average_precision: float
    """As scikit-learn has it: pictures of equal probability are one step, in any order."""
    f1: float
    """Of what is answered; 0 where the label neither holds nor is answered."""


def best_thresholds(probabilities: Floats, outcomes: Outcomes) -> tuple[float, ...]:
    """For each label the threshold of the highest F1.

    Args:
        probabilities: `[n, labels]`, of pictures that the weights were not fitted to.
        outcomes: `[n, labels]`.

    Returns:
        between two of the probabilities, so that neither is on the edge; of several as good the
        one nearest to 0.5, which is also the threshold of a label that all or none have.
    """
    return tuple(map(_best_threshold, probabilities.T, outcomes.T))


def score(probabilities: Floats, answers: Outcomes, outcomes: Outcomes) -> list[LabelScores]:
    """Measure each label.

    Args:
        probabilities: `[n, labels]`.
        answers: `[n, labels]`, 1 where the model says that the label holds.
        outcomes: `[n, labels]`, what is true.
    """
    return [
        LabelScores(
            support=int(truth.sum()),
            share=float(truth.mean()),
            # without a picture that has it, no order finds it
            average_precision=float(average_precision_score(truth, ranked)) if truth.any() else 0.0,
            f1=float(f1_score(truth, said, zero_division=0)),
        )
        for ranked, said, truth in zip(probabilities.T, answers.T, outcomes.T, strict=True)
    ]


def means(scores: Sequence[LabelScores]) -> dict[str, float]:
    """Over the labels that some picture has, each counting the same."""
    present = [label for label in scores if label.support]
    return {
        "macro_f1": float(np.mean([label.f1 for label in present])),
        "mean_average_precision": float(np.mean([label.average_precision for label in present])),
    }


def _best_threshold(probabilities: Floats, outcomes: Outcomes) -> float:
    """Of one label, `[n]` and `[n]`."""
    if outcomes.min() == outcomes.max():
        return UNDECIDED
    precision, recall, steps = precision_recall_curve(outcomes, probabilities)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    lower = np.concatenate([[0.0], steps[:-1]])  # answers are the same down to the one before
    holds_half = (lower < UNDECIDED) & (steps >= UNDECIDED)
    between = np.where(holds_half, UNDECIDED, (lower + steps) / 2)
    best = between[np.isclose(f1[:-1], f1[:-1].max(), rtol=0, atol=1e-12)]
    return float(best[np.abs(best - UNDECIDED).argmin()])
