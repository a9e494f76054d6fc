"""Accuracy without labels: the mean of the calibrated probabilities, where that can be trusted.

Probabilities are right on average for images like those that they were calibrated on. Of others a
network may be as sure, and wrong. Which others cannot be known, but where its predictions are as
sure as they were then, so are its mistakes nearly always (`python -m benchmarks.label_free`).
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import features, heads
from logitserve.inference.card import Head, ModelCard
from logitserve_service.monitoring.statistics import compare

KNOWN_SHARE: Final = 0.95
"""Below it there is no estimate: of what is not known, probabilities say nothing."""
MOST_PSI: Final = 0.1
"""Of the margins. What chance gives counts too, so that few images are not taken for the same."""
LEAST_ANSWERS: Final = 100
MOST_ANSWERS: Final = 10_000
"""That are looked at, or about so many."""


def why_silent(card: ModelCard, known: float, logits: npt.NDArray[np.floating[Any]]) -> str:
    """Why there is no estimate; empty where there is one.

    Args:
        card: of the model.
        known: share of the images that are known.
        logits: calibrated, of some of the answers, `[n, k]`; of softmax they may be shifted.
    """
    if card.head is Head.SIGMOID:
        return "several labels may hold"
    if len(logits) < LEAST_ANSWERS:
        return f"only {len(logits)} answers are kept, and it takes {LEAST_ANSWERS}"
    if known < KNOWN_SHARE:
        return f"only {known:.1%} of the images are known, and it takes {KNOWN_SHARE:.0%}"
    if card.reference is None:
        return "the card has no reference; `logitserve adopt --reference FOLDER` makes one"
    normal = card.reference.features["margin"]
    margins = features.margins(heads.uncalibrated(logits, card), card.head)
    counts = features.Bins({"margin": normal}).count({"margin": margins})
    found = compare(counts.tolist(), normal.counts)
    if max(found.psi, 0.0) + found.by_chance <= MOST_PSI:
        return ""
    return (
        f"the margins of the predictions differ from the reference by PSI {found.psi:.2f}, to "
        f"which so few images add {found.by_chance:.2f}; it takes {MOST_PSI:g} at most"
    )
