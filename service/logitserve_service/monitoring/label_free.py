"""Accuracy without labels: the mean of the calibrated probabilities, if it is reliable.

Probabilities are calibrated for images like those of the calibration set. For others, a network can
be as certain, and wrong. Such images cannot be identified, but if the predictions are as certain as
on the calibration set, the error rate is nearly always the same (`python -m
benchmarks.label_free`).
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import features, heads
from logitserve.inference.card import Head, ModelCard
from logitserve_service.monitoring.statistics import compare

KNOWN_SHARE: Final = 0.95
"""Minimum share of known images for an estimate; probabilities of other images mean nothing."""
MOST_PSI: Final = 0.1
"""Maximum PSI of the margins; its expectation by chance is added, so that few images are not
enough."""
LEAST_ANSWERS: Final = 100
MOST_ANSWERS: Final = 10_000
"""Approximate maximum of answers to compare."""


def why_silent(card: ModelCard, known: float, logits: npt.NDArray[np.floating[Any]]) -> str:
    """Return why there is no estimate; empty if there is one.

    Args:
        card: card of the model.
        known: share of the images that are known.
        logits: calibrated logits of some answers, `[n, k]`; for softmax up to a constant per row.
    """
    if card.head is Head.SIGMOID:
        return "an image can have several labels"
    if len(logits) < LEAST_ANSWERS:
        return f"only {len(logits)} answers are stored; at least {LEAST_ANSWERS} are needed"
    if known < KNOWN_SHARE:
        return f"only {known:.1%} of the images are known; at least {KNOWN_SHARE:.0%} are needed"
    if card.reference is None:
        return "the card has no reference; `logitserve adopt --reference FOLDER` makes one"
    normal = card.reference.features["margin"]
    margins = features.margins(heads.uncalibrated(logits, card), card.head)
    counts = features.Bins({"margin": normal}).count({"margin": margins})
    found = compare(counts.tolist(), normal.counts)
    if max(found.psi, 0.0) + found.by_chance <= MOST_PSI:
        return ""
    return (
        f"the margins of the predictions differ from the reference by PSI {found.psi:.2f}, plus "
        f"{found.by_chance:.2f} expected by chance for so few images; the limit is {MOST_PSI:g}"
    )
