"""Prediction sets: labels that hold the true one as often as was asked.

Split conformal prediction (Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173): a label is in the
set if its score is at most a threshold, the quantile of the true labels' scores over held-out
images. The quantile is that of the label's own images, so that each label is held as often as was
asked, and not only their mean (Mondrian: Vovk 2012, arXiv:1209.2673); a label with too few of them
has the quantile over all images. Over images like those, that holds whatever the network and the
score. Here the score of a label is

    the probability of all labels above it, less its own.

That is the cumulative score of adaptive prediction sets (Romano et al. 2020, arXiv:2006.02544)
with its own probability subtracted instead of a random part of it added. So where the network is
unsure the set takes in as many labels as carry the probability, as theirs does; it is the same
each time; and where less coverage is asked for than the network is accurate, the images that go
without a label are those that it is least sure of, not random ones. An empty set means: none of
the labels is likely enough. It may be refused: then the most probable label is in every set.
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
"""Of the coverage; 0.29 × 100 is not quite 29."""
_DECIMALS: Final = 1e6
"""Thresholds are rounded up to so many parts of one, which makes the card a third as long."""


def scores(probabilities: Floats) -> Floats:
    """Score of each label, `[batch, labels]`: the probability of those above it, less its own.

    From −1 to 1; among labels that are as probable, the first has the lowest.
    """
    order, ranked = _ranked(probabilities)
    by_label = np.empty_like(ranked)
    np.put_along_axis(by_label, order, ranked, axis=1)
    return by_label


def _ranked(probabilities: Floats) -> tuple[npt.NDArray[np.intp], Floats]:
    """Labels, the most probable first, and their scores: both `[batch, labels]`."""
    order = np.argsort(-probabilities, axis=1, kind="stable")
    descending = probabilities[np.arange(len(order))[:, np.newaxis], order]
    ranked = np.cumsum(descending, axis=1) - 2 * descending
    return order, np.minimum(np.maximum(ranked, -1), 1)  # clip is slow


def rank(count: int, coverage: float) -> int:
    """⌈(n + 1)·coverage⌉: which of n ascending scores is the threshold; above n, none is."""
    return math.ceil((count + 1) * coverage - _ROUNDING)


def needed(coverage: float) -> int:
    """Held-out images below which no threshold gives this coverage."""
    return round(coverage / (1 - coverage))


def quantile(values: Floats, coverage: float) -> float | None:
    """The value that another of the kind exceeds in at most a share of 1 − coverage.

    None where there are fewer than coverage / (1 − coverage) of them, which cannot tell.
    """
    place = rank(len(values), coverage)
    return float(np.partition(values, place - 1)[place - 1]) if place <= len(values) else None


def calibrate(true_scores: Floats, classes: npt.NDArray[np.int64], labels: int) -> Conformal:
    """Thresholds for every coverage that the images can give.

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
    """The row of the card's table for this coverage: the next that is stored.

    Raises:
        CoverageError: there is none; the message says why.
    """
    if not COVERAGES[0] <= coverage <= COVERAGES[-1]:  # NaN is not, either
        raise CoverageError(
            f"coverage must be from {COVERAGES[0]} to {COVERAGES[-1]}; it is {coverage:g}"
        )
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
    step = bisect_left(COVERAGES, coverage - _ROUNDING)
    given = len(card.conformal.thresholds)
    if step >= given:
        raise CoverageError(
            f"model {card.name!r} version {card.version} cannot give coverage {coverage:g}: that "
            f"needs {needed(coverage)} held-out images, and it has "
            f"{card.conformal.pictures}; ask for {COVERAGES[given - 1]:g} at most"
        )
    return step


def label_thresholds(card: ModelCard, coverage: float) -> Floats:
    """The score up to which each label is in a set, `[labels]`. Raises as `check` does."""
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
    """For each image the indices of the labels in its set, the most probable first.

    Args:
        card: of the model.
        logits: raw, `[batch, k]`; the sets are of calibrated probabilities.
        coverage: between two that are stored, the larger counts.
        allow_empty: False puts the most probable label into every set.

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
