"""From which probability a label holds: the threshold of the highest expected F1."""

from typing import Final

import numpy as np

from logitserve_training.statistics.calibration import Floats

PRIOR_PICTURES: Final = 0.5
"""That have the label, and are found without a mistake: a label that hardly any picture has gets a
threshold near one half."""


def best(probabilities: Floats) -> tuple[float, ...]:
    """For each label F*/2, where F* is the highest F1 that is to be expected.

    If the probabilities are right, answering all pictures at or above F*/2 has the highest expected
    F1 (Lipton, Elkan, Naryanaswamy 2014, arXiv:1402.1892). F* follows from the probabilities alone:
    of the j most probable pictures it is 2·Σp/(j + Σ over all p). So it has no truth to overfit to,
    as the threshold of the highest F1 that was seen has (`python -m benchmarks.held_out`).

    The probabilities are calibrated, `[n, labels]`, of pictures that the weights were not fitted
    to.
    """
    descending = -np.sort(-probabilities, axis=0)
    having = descending.sum(axis=0)
    answered = np.arange(1, len(descending) + 1)[:, np.newaxis]
    highest = (2 * descending.cumsum(axis=0) / (answered + having)).max(axis=0)
    expected = (having * highest + PRIOR_PICTURES) / (having + PRIOR_PICTURES)
    return tuple((expected / 2).tolist())
