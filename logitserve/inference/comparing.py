"""Two versions on the same images: what each says, and whether one is better."""

from math import exp, lgamma, log
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.predictor import Predictions

ENOUGH: Final = 50.0
"""Evidence that tells two versions apart: of two that are as good it is reached, whenever and as
often as one looks, in 2 % of all cases (Ville 1939), in 1 % to the good of either."""
_MOST: Final = 100_000


def decisions(
    card: ModelCard, predictions: Predictions, labels: tuple[str, ...] | None = None
) -> npt.NDArray[Any]:
    """Which labels a version gives: bool `[batch, labels + 1]`, in the order of `labels`.

    The last column says whether it gives one that is not among them.
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
    """How much more likely such counts are if one version is better than if both are as good.

    The likelihood ratio of a binomial with a uniform prior on its share (Robbins 1970): other than
    a p-value it may be looked at after each label.

    Args:
        first: images that only one version has right.
        second: those that only the other has right.
    """
    n = first + second
    return exp(min(700.0, n * log(2) + lgamma(first + 1) + lgamma(second + 1) - lgamma(n + 2)))


def more_needed(first: int, second: int) -> int | None:
    """How many more such images would be evidence enough if they go on as these.

    None where the versions have been right as often.
    """
    n = first + second
    if first == second:
        return None
    for more in range(_MOST):
        scale = (n + more) / n
        if evidence(scale * first, scale * second) >= ENOUGH:
            return more
    return None
