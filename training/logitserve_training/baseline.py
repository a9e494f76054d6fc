"""The majority-class baseline: scores of the constant prediction."""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import intervals
from logitserve.inference.card import Head, ModelCard
from logitserve_training.datasets.dataset import Classes
from logitserve_training.evaluate import Evaluation, outcomes
from logitserve_training.label_scores import Labels, LabelScores
from logitserve_training.statistics.calibration import Floats

MAJORITY: Final = "majority_"
"""Prefix of the baseline's metric names."""
VERDICT: Final = "It is not significantly better than predicting the majority class"


@dataclass(frozen=True, slots=True)
class Comparison:
    """A network and the majority-class baseline on the test part."""

    labels: tuple[str, ...]
    network: tuple[LabelScores, ...]
    majority: tuple[float, ...]
    """F1 of each label; NaN for a label without pictures."""
    figures: dict[str, float]
    metrics: dict[str, float]
    """Metrics of the baseline, with the network's metric names."""
    gains: dict[str, intervals.Interval]
    """95 % bootstrap interval of (network − baseline) by metric."""
    lost: tuple[str, ...]
    """Metrics in which the network is not significantly better."""

    @classmethod
    def of(cls, card: ModelCard, evaluation: Evaluation, train: Classes) -> "Comparison":
        """Compare an evaluation on the test part with the baseline of the classes `train`."""
        network, truth = evaluation.labelwise, outcomes(evaluation.classes, len(card.labels))
        constant = np.tile(_majority(card, train), (len(truth), 1))
        majority = Labels(constant.astype(np.float64), constant, truth)
        is_right, is_so = evaluation.is_right, (constant == truth).all(axis=1)

        def figures(weights: Floats) -> tuple[dict[str, float], dict[str, float]]:
            both = network.means(weights), majority.means(weights)
            if card.head is not Head.SIGMOID:
                for found, right in zip(both, (is_right, is_so), strict=True):
                    found["accuracy"] = float(weights @ right / weights.sum())
            return both

        def gains(weights: Floats) -> dict[str, float]:
            found, yardstick = figures(weights)
            return {name: value - yardstick[name] for name, value in found.items()}

        found, yardstick = figures(np.ones(len(truth)))
        differences = intervals.bootstrap(gains, len(truth), evaluation.groups)
        return cls(
            labels=card.labels,
            network=evaluation.by_label,
            majority=tuple(majority.f1(np.ones(len(truth))).tolist()),
            figures=found,
            metrics={f"{MAJORITY}{name}": value for name, value in yardstick.items()},
            gains=differences,
            lost=tuple(name for name, (low, _) in differences.items() if not low > 0),
        )

    def judged(self, card: ModelCard, evaluation: Evaluation) -> ModelCard:
        """Return the card with the metrics of both, and the verdict if a metric is lost."""
        description = card.description.partition(f" {VERDICT}")[0]  # without an earlier verdict
        if self.lost:
            description = f"{description} {VERDICT} ({', '.join(self.lost)})."
        metrics = self.figures | evaluation.metrics | self.metrics
        return card.model_copy(update={"metrics": metrics, "description": description})

    def rows(self, spec: str = ".3f", missing: str = "–") -> Iterator[tuple[str, LabelScores, Any]]:
        """Yield each label with its scores, and the texts of its AP, F1 and the majority's F1."""
        for label, found, other in zip(self.labels, self.network, self.majority, strict=True):
            figures = [missing] * 3
            if found.average_precision is not None and found.f1 is not None:
                values = (found.average_precision.value, found.f1.value, other)
                figures = [format(value, spec) for value in values]
            yield label, found, figures

    def lines(self) -> list[str]:
        """Return the table as text, with the verdict."""
        width = max(len("label"), *map(len, self.labels))
        lines = [f"{'label':{width}}  pictures  share     AP     F1  majority's F1"]
        lines += [
            f"{label:{width}}  {found.support:8}  {found.share:5.3f}  {ap:>5}  {f1:>5}  {other:>13}"
            for label, found, (ap, f1, other) in self.rows()
        ]
        if self.lost:
            lines.append(f"WARNING: {VERDICT[0].lower()}{VERDICT[1:]}: {', '.join(self.lost)}")
        return lines

    def to_csv(self) -> str:
        """Return the table as CSV."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["label", "pictures", "share", "average_precision", "f1", "majority_f1"])
        for label, found, figures in self.rows(".4f", ""):
            table.writerow([label, found.support, f"{found.share:.4f}", *figures])
        return text.getvalue()


def _majority(card: ModelCard, train: Classes) -> npt.NDArray[np.int64]:
    """Return the constant prediction, `[labels]` of 0 and 1."""
    shares = outcomes(train, len(card.labels)).mean(axis=0)
    is_majority = shares >= 0.5
    if card.head is not Head.SIGMOID:
        is_majority = np.arange(len(shares)) == shares.argmax()
    return np.asarray(is_majority, dtype=np.int64)
