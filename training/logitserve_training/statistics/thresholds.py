"""Decision thresholds of labels with the highest expected F1."""

from typing import Final

import numpy as np

from logitserve_training.statistics.calibration import Floats

PRIOR_PICTURES: Final = 0.5
"""Pseudo-count of correctly found positives per label: a rare label gets a threshold near one
half."""


def best(probabilities: Floats) -> tuple[float, ...]:
    """Return for each label F*/2, where F* is the highest expected F1.

    For calibrated probabilities, predicting the label at or above F*/2 maximizes the expected F1
    (Lipton, Elkan, Naryanaswamy 2014, arXiv:1402.1892). F* follows from the probabilities alone:
    for the j most probable pictures it is 2·Σp/(j + Σ over all p). So it cannot overfit to the
    labels, unlike the threshold of the highest observed F1 (`python -m benchmarks.held_out`).

    The probabilities are calibrated, `[n, labels]`, of pictures not used to fit the weights.
    """
    descending = -np.sort(-probabilities, axis=0)
    having = descending.sum(axis=0)
    answered = np.arange(1, len(descending) + 1)[:, np.newaxis]
    highest = (2 * descending.cumsum(axis=0) / (answered + having)).max(axis=0)
    expected = (having * highest + PRIOR_PICTURES) / (having + PRIOR_PICTURES)
    return tuple((expected / 2).tolist())
