"""Evaluate a published model file with onnxruntime."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads, intervals
from logitserve.inference.card import Head, ModelCard
from logitserve.inference.intervals import Interval, wilson
from logitserve.inference.predictor import Predictions, Predictor
from logitserve.inference.reliability import reliability
from logitserve_training import recipes
from logitserve_training.datasets import folder, sources
from logitserve_training.datasets.dataset import Classes, Groups, Images, LabeledImages
from logitserve_training.errors import OptionError
from logitserve_training.label_scores import Labels, LabelScores
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Source
from logitserve_training.statistics.calibration import Floats

SHARES: Final = (
    "accuracy", "precision", "recall", "f1", "exact_match", "macro_f1", "mean_average_precision",
)  # fmt: skip
"""Metrics from 0 to 1 for which 1 is best."""
_BATCH: Final = 250
_PIXELS: Final = 2_000_000
"""Pixels per batch: EfficientNet-Lite0 needs some 240 bytes for each while it runs."""


@dataclass(frozen=True)
class Evaluation:
    """Predictions of a model for pictures whose classes are known."""

    head: Head
    predictions: Predictions
    classes: Classes
    answers: Classes | None = None
    """Sigmoid model, `[n, labels]`: 1 for the labels at or above their thresholds."""
    groups: Groups | None = None
    """Pictures with the same number are not independent; None: all are independent."""

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Metrics by name; fractions, except `nll` in nats and `brier`, 0 to 2."""
        return self.figures(np.ones(len(self.classes)))

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """95 % confidence interval of each metric: Wilson's for proportions, else by bootstrap."""
        count = len(self.classes)
        groups = intervals.enough(self.groups)
        found = intervals.bootstrap(self.figures, count, groups)
        for name in {"accuracy", "exact_match"} & found.keys():
            share = wilson(round(self.metrics[name] * count), count)
            if groups is not None:
                share = min(share[0], found[name][0]), max(share[1], found[name][1])
            found[name] = share
        for name in found.keys() & set(SHARES):
            found[name] = intervals.beyond(found[name], count)
        # If all resamples agree, different summation orders differ by a rounding error.
        return {
            name: (min(found[name][0], value), max(found[name][1], value))
            for name, value in self.metrics.items()
        }

    def figures(self, weights: Floats) -> dict[str, float]:
        """Return the metrics with a weight per picture, `[n]`."""
        total = weights.sum()
        figures = {name: float(weights @ each / total) for name, each in self._each.items()}
        stated, came_true = stated_beside_truth(self.head, self.predictions, self.classes)
        repeated = np.repeat(weights, len(stated) // len(weights))
        figures["ece"] = reliability(stated, came_true, repeated).error
        if self.answers is not None:
            return self.labelwise.means(weights) | figures
        if self.predictions.probabilities.shape[1] == 2:
            figures |= self._of_yes(weights)
        return figures

    @property
    def losses(self) -> Floats:
        """Negative log-likelihood of each picture, `[n]`, in nats."""
        return self._each["nll"]

    @cached_property
    def _each(self) -> dict[str, Floats]:
        """The metrics that are means over pictures, per picture."""
        probabilities, truth = self.predictions.probabilities, self.classes
        # A probability that underflows to 0 counts as the smallest float64, about 708 nats.
        smallest = np.finfo(np.float64).tiny
        if self.answers is not None:
            of_truth = np.where(truth == 1, probabilities, 1 - probabilities)
            return {
                "exact_match": (self.answers == truth).all(axis=1).astype(np.float64),
                "nll": np.abs(np.log(np.maximum(of_truth, smallest))).mean(axis=1),
                "brier": ((probabilities - truth) ** 2).mean(axis=1),
            }
        of_truth = probabilities[np.arange(len(truth)), truth]
        one_hot = np.eye(probabilities.shape[1])[truth]
        return {
            "accuracy": self.is_right.astype(np.float64),
            "nll": np.abs(np.log(np.maximum(of_truth, smallest))),  # never -0
            # As Brier 1950 wrote it; twice the one-sided form of scikit-learn for two classes.
            "brier": ((probabilities - one_hot) ** 2).sum(axis=1),
        }

    @property
    def is_right(self) -> npt.NDArray[np.bool_]:
        """`[n]`, whether the prediction is correct; for a sigmoid model, all labels of it."""
        if self.answers is not None:
            return np.asarray((self.answers == self.classes).all(axis=1))
        return np.asarray(self.predictions.argmax == self.classes)

    @cached_property
    def labelwise(self) -> Labels:
        """Scores per label; a multiclass model is treated as one-vs-rest."""
        each = (self.predictions.argmax if self.answers is None else self.answers, self.classes)
        probabilities = self.predictions.probabilities
        return Labels(probabilities, *(outcomes(one, probabilities.shape[1]) for one in each))

    def _of_yes(self, weights: Floats) -> dict[str, float]:
        """Return the metrics of the second of two classes, "yes"; 0 for a zero denominator."""
        cell = 2 * self.classes + self.predictions.argmax
        _, false_yes, false_no, true_yes = np.bincount(cell, weights, minlength=4).tolist()
        return {
            "precision": true_yes / max(true_yes + false_yes, 1),
            "recall": true_yes / max(true_yes + false_no, 1),
            "f1": 2 * true_yes / max(2 * true_yes + false_yes + false_no, 1),
        }

    @cached_property
    def confusion(self) -> npt.NDArray[np.int64] | None:
        """`[class, predicted class]`, counts; None for a multilabel model."""
        if self.answers is not None:
            return None
        labels = self.predictions.probabilities.shape[1]
        cell = self.classes * labels + self.predictions.argmax
        return np.bincount(cell, minlength=labels * labels).reshape(labels, labels)

    @cached_property
    def by_label(self) -> tuple[LabelScores, ...]:
        """Scores of each label."""
        return self.labelwise.scores(self.groups)


def outcomes(classes: Classes, labels: int) -> Classes:
    """Return `[n, labels]` of 0 and 1, also for one class per picture (one-hot)."""
    return classes if classes.ndim == 2 else np.eye(labels, dtype=np.int64)[classes]


def stated_beside_truth(
    head: Head, said: Predictions, truth: Classes
) -> tuple[Floats, npt.NDArray[Any]]:
    """Return the probabilities for judging calibration, and whether each came true.

    Multiclass: of the predicted class; binary: of the second class, "yes"; multilabel: of each.
    """
    probabilities = said.probabilities
    if head is Head.SIGMOID:
        return probabilities.ravel(), truth.ravel()
    if probabilities.shape[1] == 2:
        return probabilities[:, 1], truth
    return probabilities.max(axis=1), said.argmax == truth


def evaluate(predictor: Predictor, data: LabeledImages) -> Evaluation:
    """Run a model on pictures of its input size, and evaluate it."""
    return evaluated(predictor.card, predict_all(predictor, data.images), data)


def evaluated(card: ModelCard, said: Predictions, data: LabeledImages) -> Evaluation:
    """Evaluate predictions against the true classes."""
    answers = None
    if card.head is Head.SIGMOID:
        answers = (said.probabilities >= heads.thresholds(card)).astype(np.int64)
    return Evaluation(card.head, said, data.classes, answers, data.groups)


def held_out(predictor: Predictor, data: Path | None, reporter: Reporter) -> LabeledImages:
    """Return the held-out pictures of a model file, as defined by its recipe.

    `data` is a folder with the data set; None downloads it. For a model trained on a folder, it is
    that folder, or another one with the same labels, all of whose pictures are used.

    Raises:
        OptionError: the recipe on the card is unknown in this version.
        DataError: the data set cannot be used.
    """
    recipe = recipes.of_card(predictor.card)
    if recipe.source is Source.FOLDER:
        if data is None:
            raise OptionError(f"{predictor.path} was trained on a folder: give one with --data")
        return folder.of_model(recipe, predictor.card.dataset, data, reporter)
    return sources.load(recipe, data, reporter)[1].test


def predict_all(predictor: Predictor, images: Images) -> Predictions:
    """Predict any number of pictures, at least 1, batch by batch."""
    batch = at_a_time(images)
    starts = range(0, len(images), batch)
    return Predictions.concatenated([predictor.predict(images[at : at + batch]) for at in starts])


def at_a_time(images: Images) -> int:
    """Return the batch size for pictures of this size."""
    height, width = int(images.shape[1]), int(images.shape[2])
    return max(1, min(_BATCH, _PIXELS // (height * width)))
