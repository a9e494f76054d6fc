"""Compare the decisions of two versions on the same images, and test which is better."""

from math import exp, lgamma, log
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions

ENOUGH: Final = 50.0
"""Evidence required for a decision. For equally good versions the probability of ever reaching it,
however often it is checked, is 2 % (Ville 1939), 1 % in favor of each."""
_MOST: Final = 100_000


def decisions(
    card: ModelCard, predictions: Predictions, labels: tuple[str, ...] | None = None
) -> npt.NDArray[Any]:
    """Return the labels that a version predicts: bool `[batch, labels + 1]`, in `labels` order.

    The last column is True if it predicts a label that is not in `labels`.
    """
    if card.head is Head.SIGMOID:
        given = predictions.probabilities >= heads.thresholds(card)
    else:
        given = np.eye(len(card.labels), dtype=np.bool_)[predictions.argmax]
    labels = card.labels if labels is None else labels
    columns = [
        given[:, card.labels.index(label)] if label in card.labels else None for label in labels
    ]
    none = np.zeros(len(given), np.bool_)
    foreign = [given[:, index] for index, label in enumerate(card.labels) if label not in labels]
    return np.stack(
        [none if each is None else each for each in columns] + [np.any([none, *foreign], axis=0)],
        axis=1,
    )


def evidence(first: float, second: float) -> float:
    """Return the likelihood ratio of these counts: one version is better / both are equally good.

    The alternative is a binomial with a uniform prior on its share (Robbins 1970): unlike a
    p-value it may be checked after each label.

    Args:
        first: number of images that only one version predicts correctly.
        second: number that only the other predicts correctly.
    """
    n = first + second
    return exp(min(700.0, n * log(2) + lgamma(first + 1) + lgamma(second + 1) - lgamma(n + 2)))


def more_needed(first: int, second: int) -> int | None:
    """Estimate how many more such images would be enough at the present proportion.

    None if the counts are equal.
    """
    n = first + second
    if first == second:
        return None
    for more in range(_MOST):
        scale = (n + more) / n
        if evidence(scale * first, scale * second) >= ENOUGH:
            return more
    return None
