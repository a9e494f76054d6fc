"""What is measured of a model file besides its mistakes: calibration, sets, strangers, speed."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from logitserve.inference import conformal
from logitserve.inference.card import COVERAGES, LEAST_OF_LABEL, Fit, ModelCard
from logitserve.inference.intervals import Interval
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.reliability import Null, Reliability, null, reliability
from logitserve_training import latency, strangers
from logitserve_training.calibrate import scores
from logitserve_training.evaluate import Evaluation, stated_beside_truth
from logitserve_training.latency import Latency
from logitserve_training.statistics import intervals
from logitserve_training.statistics.calibration import (
    Calibrator,
    Floats,
    Truth,
    losses,
)
from logitserve_training.strangers import Strangers

ASKED: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)
"""Coverages, of those that the pictures can give."""
ASKED_BY_LABEL: Final = (0.9, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Prediction sets on the test part, for one coverage that was asked for."""

    asked: float
    covered: float
    """Share of the sets that hold the true label."""
    low: float
    """Of 95 % of all draws of both parts, if the sets are right."""
    high: float
    mean_size: float
    """Labels in a set."""
    empty: float
    """Share of the sets without a label."""
    label: str | None = None
    """Of the pictures of this label alone; None: of all."""

    @property
    def is_missed(self) -> bool:
        """Whether fewer are held than chance leaves room for."""
        return self.covered < self.low


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that the report shows besides the mistakes."""

    raw: Reliability
    """On the test part, of the probabilities without calibration."""
    calibrated: Reliability
    latency: Latency
    null: Null
    """What the calibration error of the calibrated would be, were they right."""
    gain: tuple[float, float]
    """Nats by which calibration lowers the NLL of the test part, and its standard error."""
    coverage: tuple[Coverage, ...]
    """Empty for a sigmoid model."""
    coverage_by_label: tuple[Coverage, ...]
    strangers: Strangers | None
    """None where strangers are not what the project draws: for models of other than digits."""
    novelties: dict[str, Floats]
    """By kind of picture, `[n]`: of the test part and of strangers, where there are none of right
    and of wrong answers; empty for a model that has neither novelty nor energy."""
    uncalibrated_scores: dict[str, float]
    """On the test part: `nll`, `brier`, `ece`."""

    def to_json(self) -> dict[str, Any]:
        """For `metrics.json`."""
        document: dict[str, Any] = {
            "test_uncalibrated": self.uncalibrated_scores,
            "latency": asdict(self.latency),
            "ece_by_chance": asdict(self.null),
            "calibration_gain": dict(zip(("nats", "standard_error"), self.gain, strict=True)),
        }
        if self.coverage:
            document["coverage"] = [asdict(row) for row in self.coverage]
            document["coverage_by_label"] = [asdict(row) for row in self.coverage_by_label]
        if self.strangers is not None:
            document["strangers"] = {
                "auroc": self.strangers.auroc,
                "unknown": self.strangers.unknown,
                "unknown_at_home": self.strangers.unknown_at_home,
            }
        return document


def measure(predictor: Predictor, evaluation: Evaluation) -> Measured:
    """Measure a calibrated model file, opened with one thread, and evaluated on the test part."""
    card, said, truth = predictor.card, evaluation.predictions, evaluation.classes
    raw = said.uncalibrated(card)
    gains = losses(card.head, said.logits, truth) - evaluation.losses
    stated, came_true = stated_beside_truth(card.head, said, truth)
    is_cross_validated = card.dataset is not None and card.dataset.folds is not None
    has_sets = card.conformal is not None and not is_cross_validated  # thresholds rank all pictures
    shown = None
    if said.novelty is not None and card.input.fit is Fit.DIGIT:
        shown = strangers.measure(predictor, said, count=strangers.COUNT)
    return Measured(
        raw=reliability(*stated_beside_truth(card.head, raw, truth)),
        calibrated=reliability(stated, came_true),
        null=null(stated),
        gain=(float(gains.mean()), float(gains.std() / len(gains) ** 0.5)),
        latency=latency.measure(predictor),
        coverage=tuple(coverage(card, said, truth)) if has_sets else (),
        coverage_by_label=tuple(coverage_by_label(card, said, truth)) if has_sets else (),
        strangers=shown,
        novelties=dict(_novelties(evaluation, shown)),
        uncalibrated_scores=scores(card.head, said.logits, Calibrator(), truth).model_dump(),
    )


def coverage(card: ModelCard, said: Predictions, truth: Truth) -> Iterator[Coverage]:
    """How often prediction sets hold the truth, `[n]`, and how large they are."""
    assert card.conformal is not None  # noqa: S101 - asked of the caller
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
    """The same for the pictures of each label alone, where it has thresholds of its own."""
    assert card.conformal is not None  # noqa: S101 - asked of the caller
    for asked in ASKED_BY_LABEL:
        for index, count in enumerate(card.conformal.pictures_by_label):
            rows = np.flatnonzero(truth == index)
            if count >= max(conformal.needed(asked), LEAST_OF_LABEL) and len(rows):
                sets = conformal.prediction_sets(card, said.logits[rows], asked)
                interval = intervals.of_coverage(asked, count, len(rows))
                found = _of_sets(sets, truth[rows], asked, interval)
                yield replace(found, label=card.labels[index])


def _novelties(evaluation: Evaluation, shown: Strangers | None) -> Iterator[tuple[str, Floats]]:
    found = evaluation.predictions.novelty
    if shown is not None:
        yield "test part", shown.at_home
        yield from shown.novelties.items()
    elif found is not None:
        is_right = evaluation.is_right
        for kind, rows in (("right answers", is_right), ("wrong answers", ~is_right)):
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
