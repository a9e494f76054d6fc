"""Prediction sets: labels that hold the true one as often as was asked.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173): a label is in the
set if its score is at most a threshold, the quantile of the true labels' scores over held-out
images. Over images like those, the set holds the true label as often as was asked, whatever
the network and the score. Here the score of a label is

    the probability of all labels above it, less its own.

That is the cumulative score of adaptive prediction sets (Romano et al. 2020, arXiv:2006.02544)
with its own probability subtracted instead of a random part of it added. So where the network is
unsure the set takes in as many labels as carry the probability, as theirs does; it is the same
each time; and where less coverage is asked for than the network is accurate, the images that go
without a label are those that it is least sure of, not random ones. An empty set means: none of
the labels is likely enough.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import COVERAGE_RANGE, COVERAGE_STEPS, Conformal, Head, ModelCard
from logitserve.inference.errors import CoverageError

_STEP: Final = 0.001
_ROUNDING: Final = 1e-9
"""Of the coverage; 0.9 × 1000 is not quite 900."""


def scores(probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Score of each label, `[batch, labels]`: the probability of those above it, less its own.

    From −1 to 1; among labels that are as probable, the first has the lowest.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    rows = np.arange(len(order))[:, np.newaxis]
    descending = probabilities[rows, order]
    above = np.cumsum(descending, axis=1) - descending
    by_label = np.empty_like(descending)
    by_label[rows, order] = np.minimum(np.maximum(above - descending, -1), 1)  # clip is slow
    return by_label


def calibrate(true_scores: npt.NDArray[np.float64]) -> Conformal:
    """Thresholds for every coverage, from the scores of the true labels of held-out images."""
    ascending = np.sort(true_scores)
    count = len(ascending)
    low = COVERAGE_RANGE[0]
    # The ⌈(n + 1)·coverage⌉-th smallest; where that is more than there are, every label is in.
    ranks = [
        math.ceil((count + 1) * (low + _STEP * step) - _ROUNDING) for step in range(COVERAGE_STEPS)
    ]
    thresholds = [float(ascending[rank - 1]) if rank <= count else 1.0 for rank in ranks]
    return Conformal(pictures=count, thresholds=tuple(thresholds))


def check(card: ModelCard, coverage: float) -> None:
    """Whether the model gives prediction sets of this coverage.

    Raises:
        CoverageError: it does not; the message says why.
    """
    low, high = COVERAGE_RANGE
    if not low <= coverage <= high:  # NaN is not, either
        raise CoverageError(f"coverage must be from {low} to {high}; it is {coverage:g}")
    if card.head is Head.SIGMOID:
        raise CoverageError(
            f"model {card.name!r} has no prediction sets, because any number of its labels may "
            "hold (sigmoid head); leave coverage out"
        )
    if card.conformal is None:
        raise CoverageError(
            f"model {card.name!r} version {card.version} has no prediction sets: its card has no "
            "conformal thresholds (`logitserve calibrate` adds them); leave coverage out"
        )


def prediction_sets(
    card: ModelCard, logits: npt.NDArray[np.float32], coverage: float
) -> list[list[int]]:
    """For each image the indices of the labels in its set, the most probable first.

    The logits are raw, `[batch, k]`; the sets are of calibrated probabilities. Between two
    coverages that are stored, the larger counts.

    Raises:
        CoverageError: see `check`.
    """
    check(card, coverage)
    assert card.conformal is not None  # noqa: S101 - `check` has seen it
    step = math.ceil((coverage - COVERAGE_RANGE[0]) / _STEP - _ROUNDING)
    by_label = scores(heads.probabilities(card.head, heads.calibrated(logits, card)))
    sizes = (by_label <= card.conformal.thresholds[step]).sum(axis=1)
    ranked = np.argsort(by_label, axis=1, kind="stable")  # by rank, so the most probable first
    return [row[:size].tolist() for row, size in zip(ranked, sizes.tolist(), strict=True)]
