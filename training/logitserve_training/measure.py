"""What is measured of a model file besides its mistakes: calibration, sets, strangers, speed."""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from logitserve.inference import conformal, heads
from logitserve.inference.card import Fit, Head, ModelCard
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_training import latency, strangers
from logitserve_training.calibrate import Truth, scores
from logitserve_training.evaluate import Evaluation, Floats, Reliability, reliability
from logitserve_training.latency import Latency
from logitserve_training.strangers import Strangers

COVERAGES: Final = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Prediction sets on the test part, for each coverage that was asked for."""

    asked: tuple[float, ...]
    covered: tuple[float, ...]
    """Share of the sets that hold the true label."""
    mean_size: tuple[float, ...]
    """Labels in a set."""
    empty: tuple[float, ...]
    """Share of the sets without a label."""

    def to_json(self) -> list[dict[str, float]]:
        """One object a coverage."""
        columns = asdict(self)
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


@dataclass(frozen=True, slots=True)
class Measured:
    """Everything that the report shows besides the mistakes."""

    raw: Reliability
    """On the test part, of the probabilities without calibration."""
    calibrated: Reliability
    latency: Latency
    coverage: Coverage | None
    """None for a sigmoid model."""
    strangers: Strangers | None
    """None where strangers are not what the project draws: for models of other than digits."""
    uncalibrated_scores: dict[str, float]
    """On the test part: `nll`, `brier`, `ece`."""

    def to_json(self) -> dict[str, Any]:
        """For `metrics.json`."""
        document: dict[str, Any] = {
            "test_uncalibrated": self.uncalibrated_scores,
            "latency": asdict(self.latency),
        }
        if self.coverage is not None:
            document["coverage"] = self.coverage.to_json()
        if self.strangers is not None:
            document["strangers"] = {
                "auroc": self.strangers.auroc,
                "unknown": self.strangers.unknown,
                "unknown_at_home": self.strangers.unknown_at_home,
            }
        return document


def measure(predictor: Predictor, evaluation: Evaluation) -> Measured:
    """Measure a calibrated model file.

    Args:
        predictor: opened with one thread.
        evaluation: of it on the test part.
    """
    card, said, truth = predictor.card, evaluation.predictions, evaluation.classes
    before = scores(card.head, heads.scaled(said.logits, 1.0), truth)
    return Measured(
        raw=_reliability(card, said.uncalibrated(card).probabilities, truth),
        calibrated=_reliability(card, said.probabilities, truth),
        latency=latency.measure(predictor),
        coverage=None if card.conformal is None else coverage(card, said, truth),
        strangers=(
            strangers.measure(predictor, said, count=strangers.COUNT)
            if card.energy is not None and card.input.fit is Fit.DIGIT
            else None
        ),
        uncalibrated_scores=before.model_dump(),
    )


def coverage(card: ModelCard, said: Predictions, truth: Truth) -> Coverage:
    """How often prediction sets hold the truth, `[n]`, and how large they are."""
    rows = []
    for asked in COVERAGES:
        sets = conformal.prediction_sets(card, said.logits, asked)
        holds = [label in chosen for label, chosen in zip(truth.tolist(), sets, strict=True)]
        sizes = np.array([len(chosen) for chosen in sets])
        rows.append((float(np.mean(holds)), float(sizes.mean()), float(np.mean(sizes == 0))))
    covered, sizes_of, empty = zip(*rows, strict=True)
    return Coverage(asked=COVERAGES, covered=covered, mean_size=sizes_of, empty=empty)


def _reliability(card: ModelCard, probabilities: Floats, truth: Truth) -> Reliability:
    """Of the predicted class; where many labels may hold, of each label."""
    if card.head is Head.SIGMOID:
        return reliability(probabilities.ravel(), truth.ravel())
    return reliability(probabilities.max(axis=1), probabilities.argmax(axis=1) == truth)
