"""Measure a model file beyond accuracy: calibration, prediction sets, novelty, latency."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from logitserve.inference import conformal
from logitserve.inference.card import COVERAGES, LEAST_OF_LABEL, Fit, ModelCard
from logitserve.inference.intervals import Interval
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.reliability import Null, Reliability, null, reliability
from logitserve_training import latency, out_of_distribution
from logitserve_training.calibrate import scores
from logitserve_training.evaluate import Evaluation, stated_beside_truth
from logitserve_training.latency import Latency
from logitserve_training.out_of_distribution import OutOfDistribution
from logitserve_training.statistics import intervals
from logitserve_training.statistics.calibration import (
    Calibrator,
    Floats,
    Truth,
    losses,
)

ASKED: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
"""Coverages to measure, if the number of pictures allows."""
ASKED_BY_LABEL: Final = (0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Prediction sets on the test part, for one requested coverage."""

    asked: float
    covered: float
    """Share of the sets that contain the true label."""
    low: float
    """Lower limit of the 95 % interval of `covered`, if the sets are valid."""
    high: float
    mean_size: float
    """Mean number of labels per set."""
    empty: float
    """Share of empty sets."""
    label: str | None = None
    """Restricted to pictures of this label; None: all pictures."""

    @property
    def is_missed(self) -> bool:
        """Whether the measured coverage is below the 95 % interval."""
        return self.covered < self.low


@dataclass(frozen=True, slots=True)
class Measured:
    """All measurements of a report except the evaluation."""

    raw: Reliability
    """On the test part, of uncalibrated probabilities."""
    calibrated: Reliability
    latency: Latency
    null: Null
    """Distribution of the calibration error of a perfectly calibrated model."""
    gain: tuple[float, float]
    """Decrease of the test NLL by calibration in nats, and its standard error."""
    coverage: tuple[Coverage, ...]
    """Empty for a sigmoid model."""
    coverage_by_label: tuple[Coverage, ...]
    out_of_distribution: OutOfDistribution | None
    """None unless the model classifies digits, for which the pictures are drawn."""
    novelties: dict[str, Floats]
    """Novelty by kind of picture, `[n]`: test part and out-of-distribution, or
    right and wrong predictions; empty for a model without novelty or energy."""
    uncalibrated_scores: dict[str, float]
    """On the test part: `nll`, `brier`, `ece`."""

    def to_json(self) -> dict[str, Any]:
        """Return the content for `metrics.json`."""
        document: dict[str, Any] = {
            "test_uncalibrated": self.uncalibrated_scores,
            "latency": asdict(self.latency),
            "ece_by_chance": asdict(self.null),
            "calibration_gain": dict(zip(("nats", "standard_error"), self.gain, strict=True)),
        }
        if self.coverage:
            document["coverage"] = [asdict(row) for row in self.coverage]
            document["coverage_by_label"] = [asdict(row) for row in self.coverage_by_label]
        if self.out_of_distribution is not None:
            document["out_of_distribution"] = {
                "auroc": self.out_of_distribution.auroc,
                "unknown": self.out_of_distribution.unknown,
                "unknown_in_distribution": self.out_of_distribution.unknown_in_distribution,
            }
        return document


def measure(predictor: Predictor, evaluation: Evaluation) -> Measured:
    """Measure a calibrated single-threaded model and its evaluation on the test part."""
    card, said, truth = predictor.card, evaluation.predictions, evaluation.classes
    raw = said.uncalibrated(card)
    gains = losses(card.head, said.logits, truth) - evaluation.losses
    stated, came_true = stated_beside_truth(card.head, said, truth)
    is_cross_validated = card.dataset is not None and card.dataset.folds is not None
    has_sets = card.conformal is not None and not is_cross_validated  # then no picture is held out
    shown = None
    if said.novelty is not None and card.input.fit is Fit.DIGIT:
        shown = out_of_distribution.measure(predictor, said, count=out_of_distribution.COUNT)
    return Measured(
        raw=reliability(*stated_beside_truth(card.head, raw, truth)),
        calibrated=reliability(stated, came_true),
        null=null(stated),
        gain=(float(gains.mean()), float(gains.std() / len(gains) ** 0.5)),
        latency=latency.measure(predictor),
        coverage=tuple(coverage(card, said, truth)) if has_sets else (),
        coverage_by_label=tuple(coverage_by_label(card, said, truth)) if has_sets else (),
        out_of_distribution=shown,
        novelties=dict(_novelties(evaluation, shown)),
        uncalibrated_scores=scores(card.head, said.logits, Calibrator(), truth).model_dump(),
    )


def coverage(card: ModelCard, said: Predictions, truth: Truth) -> Iterator[Coverage]:
    """Yield measured coverage of the truth, `[n]`, and size of prediction sets."""
    assert card.conformal is not None  # noqa: S101 - ensured by the caller
    given = COVERAGES[: len(card.conformal.thresholds)]
    of_labels = card.conformal.pictures_by_label
    tested = np.bincount(truth, minlength=len(card.labels))
    for asked in ASKED:
        if asked <= given[-1]:
            sets = conformal.prediction_sets(card, said.logits, asked)
            if card.conformal.thresholds_by_label[0] and min(of_labels) >= conformal.needed(asked):
                low, high = intervals.of_coverages(asked, of_labels, tested.tolist())
            else:
                low, high = intervals.of_coverage(asked, card.conformal.pictures, len(truth))
            yield _of_sets(sets, truth, asked, (low, high))


def coverage_by_label(card: ModelCard, said: Predictions, truth: Truth) -> Iterator[Coverage]:
    """Yield the coverage per label, for labels with their own thresholds."""
    assert card.conformal is not None  # noqa: S101 - ensured by the caller
    for asked in ASKED_BY_LABEL:
        for index, count in enumerate(card.conformal.pictures_by_label):
            rows = np.flatnonzero(truth == index)
            if count >= max(conformal.needed(asked), LEAST_OF_LABEL) and len(rows):
                sets = conformal.prediction_sets(card, said.logits[rows], asked)
                interval = intervals.of_coverage(asked, count, len(rows))
                found = _of_sets(sets, truth[rows], asked, interval)
                yield replace(found, label=card.labels[index])


def _novelties(
    evaluation: Evaluation, shown: OutOfDistribution | None
) -> Iterator[tuple[str, Floats]]:
    found = evaluation.predictions.novelty
    if shown is not None:
        yield "test part", shown.in_distribution
        yield from shown.novelties.items()
    elif found is not None:
        is_right = evaluation.is_right
        for kind, rows in (("correct predictions", is_right), ("wrong predictions", ~is_right)):
            if rows.any():
                yield kind, found[rows].astype(np.float64)


def _of_sets(sets: list[list[int]], truth: Truth, asked: float, interval: Interval) -> Coverage:
    holds = [label in chosen for label, chosen in zip(truth.tolist(), sets, strict=True)]
    sizes = np.array([len(chosen) for chosen in sets])
    return Coverage(
        asked=asked,
        covered=float(np.mean(holds)),
        low=interval[0],
        high=interval[1],
        mean_size=float(sizes.mean()),
        empty=float(np.mean(sizes == 0)),
    )
