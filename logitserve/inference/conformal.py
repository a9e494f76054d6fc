"""Prediction sets with guaranteed coverage: split conformal prediction.

Vovk et al. 2005; Lei et al. 2018 (arXiv:1604.04173). A label is in the set if its score is at most
a threshold: the quantile of the true labels' scores over held-out images. The quantile is computed
per label, so that each label has the coverage, not only their mean (Mondrian: Vovk 2012,
arXiv:1209.2673); a label with too few images uses the quantile over all images. For exchangeable
images the coverage holds for any network and score. Here the score of a label is

    the total probability of all labels above it, less its own.

This is the cumulative score of adaptive prediction sets (Romano et al. 2020, arXiv:2006.02544),
with the label's own probability subtracted instead of a random part added. So an uncertain
prediction has a larger set, as theirs does, and sets are deterministic. If the coverage is below
the accuracy, the empty sets are those of the most uncertain images, not of random ones. An empty
set means that no label is probable enough. With `allow_empty=False` the most probable label is in
every set.
"""

import math
from bisect import bisect_left
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import COVERAGES, LEAST_OF_LABEL, Conformal, Head, ModelCard
from logitserve.inference.errors import CoverageError

Floats = npt.NDArray[np.float64]

_ROUNDING: Final = 1e-9
"""Rounding tolerance of the coverage; 0.29 × 100 is not exactly 29."""
_DECIMALS: Final = 1e6
"""Thresholds are rounded up to multiples of 1 / this, which shortens the card to a third."""


def scores(probabilities: Floats) -> Floats:
    """Return the score of each label, `[batch, labels]`: probability above it, less its own.

    Scores are from −1 to 1; on a tie, the first label has the lowest.
    """
    order, ranked = _ranked(probabilities)
    by_label = np.empty_like(ranked)
    np.put_along_axis(by_label, order, ranked, axis=1)
    return by_label


def _ranked(probabilities: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return the labels by descending probability, and their scores: both `[batch, labels]`."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    descending = probabilities[np.arange(len(order))[:, np.newaxis], order]
    ranked = np.cumsum(descending, axis=1) - 2 * descending
    return order, np.minimum(np.maximum(ranked, -1), 1)  # clip is slow


def rank(count: int, coverage: float) -> int:
    """Return ⌈(n + 1)·coverage⌉, the rank of the threshold in n ascending scores; none above n."""
    return math.ceil((count + 1) * coverage - _ROUNDING)


def needed(coverage: float) -> int:
    """Return the minimum number of held-out images for this coverage."""
    return round(coverage / (1 - coverage))


def quantile(values: Floats, coverage: float) -> float | None:
    """Return the value that a new one exceeds with a probability of at most 1 − coverage.

    None if there are fewer than coverage / (1 − coverage) values.
    """
    place = rank(len(values), coverage)
    return float(np.partition(values, place - 1)[place - 1]) if place <= len(values) else None


def calibrate(true_scores: Floats, classes: npt.NDArray[np.int64], labels: int) -> Conformal:
    """Compute the thresholds for every coverage that the number of images allows.

    Scores and classes are those of the true labels of held-out images, `[n]`.
    """
    by_label = [true_scores[classes == label] for label in range(labels)]
    return Conformal(
        pictures=len(true_scores),
        thresholds=_thresholds(true_scores),
        pictures_by_label=tuple(map(len, by_label)),
        thresholds_by_label=tuple(
            _thresholds(of_label) if len(of_label) >= LEAST_OF_LABEL else ()
            for of_label in by_label
        ),
    )


def _thresholds(true_scores: Floats) -> tuple[float, ...]:
    ascending = np.minimum(np.ceil(np.sort(true_scores) * _DECIMALS) / _DECIMALS, 1)
    ranks = [rank(len(ascending), coverage) for coverage in COVERAGES]
    return tuple(float(ascending[place - 1]) for place in ranks if place <= len(ascending))


def check(card: ModelCard, coverage: float) -> int:
    """Return the row of the card's table for this coverage, rounded up to a stored one.

    Raises:
        CoverageError: the card has no sets, or not for this coverage.
    """
    if not COVERAGES[0] <= coverage <= COVERAGES[-1]:  # NaN is not, either
        raise CoverageError(
            f"coverage must be from {COVERAGES[0]} to {COVERAGES[-1]}; it is {coverage:g}"
        )
    if card.head is Head.SIGMOID:
        raise CoverageError(
            f"model {card.name!r} has no prediction sets, because it is multilabel "
            "(sigmoid head); omit coverage"
        )
    if card.conformal is None:
        raise CoverageError(
            f"model {card.name!r} version {card.version} has no prediction sets: its card has no "
            "conformal thresholds (`logitserve calibrate` adds them); omit coverage"
        )
    step = bisect_left(COVERAGES, coverage - _ROUNDING)
    given = len(card.conformal.thresholds)
    if step >= given:
        raise CoverageError(
            f"model {card.name!r} version {card.version} does not support coverage {coverage:g}: "
            f"it needs {needed(coverage)} held-out images, and the model has "
            f"{card.conformal.pictures}; use at most {COVERAGES[given - 1]:g}"
        )
    return step


def label_thresholds(card: ModelCard, coverage: float) -> Floats:
    """Return the threshold of each label's score, `[labels]`. Raises the errors of `check`."""
    step = check(card, coverage)
    assert card.conformal is not None  # noqa: S101 - `check` has seen it
    row: Floats = card.conformal.table[step]
    return row


def prediction_sets(
    card: ModelCard,
    logits: npt.NDArray[np.float32],
    coverage: float,
    *,
    allow_empty: bool = True,
) -> list[list[int]]:
    """Return the label indices of each image's prediction set, most probable first.

    Args:
        card: card of the model.
        logits: raw, `[batch, k]`; the card's calibration is applied.
        coverage: rounded up to a stored coverage.
        allow_empty: if False, the most probable label is in every set.

    Raises:
        CoverageError: see `check`.
    """
    thresholds = label_thresholds(card, coverage)
    order, ranked = _ranked(heads.probabilities(card.head, heads.calibrated(logits, card)))
    members = ranked <= thresholds[order]
    if not allow_empty:
        members[:, 0] = True
    flat = order[members].tolist()
    ends = np.cumsum(members.sum(axis=1)).tolist()
    return [flat[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
