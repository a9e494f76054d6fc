"""How right a model's probabilities are: measured on the model file itself, by onnxruntime."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference import heads
from logitserve.inference.card import Head
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_training import labelwise, recipes
from logitserve_training.datasets import folder, sources
from logitserve_training.datasets.dataset import Classes, Images, LabeledImages
from logitserve_training.errors import OptionError
from logitserve_training.progress import Reporter
from logitserve_training.recipes import Source

CALIBRATION_BINS: Final = 15
_BATCH: Final = 250

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What a model said about pictures whose class is known."""

    predictions: Predictions
    classes: Classes
    answers: Classes | None = None
    """Where many labels may hold, `[n, labels]`: 1 for those that the model says do."""
    metrics: dict[str, float] = field(init=False)
    """By name; fractions, except `nll` in nats."""
    confusion: npt.NDArray[np.int64] | None = field(init=False)
    """`[class, predicted class]`, counts; None where many labels may hold."""
    by_label: tuple[labelwise.LabelScores, ...] = field(init=False, default=())
    """Where many labels may hold."""

    def __post_init__(self) -> None:
        if self.answers is not None:
            object.__setattr__(self, "metrics", self._of_labels(self.answers))
            object.__setattr__(self, "confusion", None)
            return
        probabilities, argmax = self.predictions.probabilities, self.predictions.argmax
        confusion = confusion_matrix(self.classes, argmax, labels=probabilities.shape[1])
        metrics = {
            "accuracy": float(np.mean(argmax == self.classes)),
            "nll": negative_log_likelihood(probabilities, self.classes),
            "brier": brier_score(probabilities, self.classes),
            "ece": expected_calibration_error(probabilities, self.classes),
        }
        if probabilities.shape[1] == 2:
            metrics |= precision_recall_f1(confusion)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "confusion", confusion)

    def _of_labels(self, answers: Classes) -> dict[str, float]:
        """The metrics where many labels may hold; `nll` and `brier` are means over the labels."""
        probabilities, outcomes = self.predictions.probabilities, self.classes
        scores = labelwise.score(probabilities, answers, outcomes)
        object.__setattr__(self, "by_label", tuple(scores))
        of_truth = np.where(outcomes == 1, probabilities, 1 - probabilities)
        return labelwise.means(scores) | {
            "exact_match": float(np.mean((answers == outcomes).all(axis=1))),
            "nll": float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean()),
            "brier": float(np.mean((probabilities - outcomes) ** 2)),
            "ece": reliability(probabilities.ravel(), outcomes.ravel()).error,
        }


@dataclass(frozen=True, slots=True)
class Reliability:
    """Stated probabilities beside what came true, in bins of equal width over 0 to 1."""

    counts: npt.NDArray[np.int64]
    """`[bins]`, probabilities that fell into the bin."""
    stated: Floats
    """`[bins]`, their sum."""
    came_true: npt.NDArray[np.int64]
    """`[bins]`, how many of them came true."""

    @property
    def error(self) -> float:
        """Expected calibration error: the mean gap, weighted by count."""
        return float(np.abs(self.stated - self.came_true).sum() / self.counts.sum())


def evaluate(predictor: Predictor, data: LabeledImages) -> Evaluation:
    """Run a model over pictures, all of them, and measure.

    Args:
        predictor: the model file, opened.
        data: pictures of the model's input size, with the classes of its labels.
    """
    predictions = predict_all(predictor, data.images)
    answers = None
    if predictor.card.head is Head.SIGMOID:
        holds = predictions.probabilities >= heads.thresholds(predictor.card)
        answers = holds.astype(np.int64)
    return Evaluation(predictions, data.classes, answers)


def evaluate_file(path: Path, data: Path | None, reporter: Reporter) -> Evaluation:
    """Measure a model file on the test part of the data set that its recipe was made for.

    Args:
        path: the ONNX file.
        data: a folder with the data set; None downloads it. For a model that was trained on a
            folder, that one, or another with the same labels, which is taken whole.
        reporter: told of downloads.

    Raises:
        ModelFileError: the file must not be served.
        OptionError: the card names no recipe that is known here.
        DataError: the data set cannot be used.
    """
    predictor = Predictor.load(path)
    recipe = recipes.of_card(predictor.card)
    if recipe.source is Source.FOLDER:
        if data is None:
            raise OptionError(f"{path} was trained on a folder: name one with --data")
        dataset_info = predictor.card.dataset
        return evaluate(predictor, folder.of_model(recipe, dataset_info, data, reporter))
    _, dataset = sources.load(recipe, data, reporter)
    return evaluate(predictor, dataset.test)


def predict_all(predictor: Predictor, images: Images) -> Predictions:
    """Predictions for any number of pictures, computed batch by batch.

    Args:
        predictor: the model file, opened.
        images: uint8, `[n, height, width, channels]`, n at least 1.
    """
    parts = [
        predictor.predict(images[start : start + _BATCH]) for start in range(0, len(images), _BATCH)
    ]
    return Predictions.concatenated(parts)


def energies(logits: Floats, temperature: float) -> Floats:
    """−T·ln sum(exp(z/T)), `[batch]` (Liu et al. 2020, arXiv:2010.03759).

    It is low where some logit is high: for images like those of the training.

    Args:
        logits: finite and already divided by the temperature, `[batch, classes]`.
        temperature: T.
    """
    energy: Floats = -temperature * heads.softmax_with_log_sum(logits)[1][:, 0]
    return energy


def negative_log_likelihood(probabilities: Floats, classes: Classes) -> float:
    """Mean of −ln p(true class), in nats.

    Args:
        probabilities: `[n, classes]`.
        classes: `[n]`.
    """
    of_truth = probabilities[np.arange(len(classes)), classes]
    # A probability that rounds to 0 counts as the smallest float64, about 708 nats.
    return float(-np.log(np.maximum(of_truth, np.finfo(np.float64).tiny)).mean())


def brier_score(probabilities: Floats, classes: Classes) -> float:
    """Mean squared distance of the probabilities from the truth, summed over the classes, 0 to 2.

    As Brier 1950 wrote it; for two classes that is twice the one-sided form that scikit-learn
    gives by default.
    """
    truth = np.eye(probabilities.shape[1])[classes]
    return float(((probabilities - truth) ** 2).sum(axis=1).mean())


def expected_calibration_error(
    probabilities: Floats, classes: Classes, *, bins: int = CALIBRATION_BINS
) -> float:
    """Mean gap between confidence and accuracy (Guo et al. 2017, arXiv:1706.04599).

    Pictures are sorted by the probability of their predicted class into bins of equal width,
    open on the left; the gaps are weighted by the pictures in each bin.

    Args:
        probabilities: `[n, classes]`.
        classes: `[n]`.
        bins: over 0 to 1.
    """
    is_right = probabilities.argmax(axis=1) == classes
    return reliability(probabilities.max(axis=1), is_right, bins=bins).error


def reliability(
    stated: Floats,
    came_true: npt.NDArray[np.bool_] | npt.NDArray[np.int64],
    *,
    bins: int = CALIBRATION_BINS,
) -> Reliability:
    """Sort probabilities into bins, open on the left.

    Args:
        stated: `[n]`, probabilities.
        came_true: `[n]`, whether what was stated held.
        bins: over 0 to 1.
    """
    index = np.clip(np.ceil(stated * bins).astype(np.int64) - 1, 0, bins - 1)
    return Reliability(
        counts=np.bincount(index, minlength=bins),
        stated=np.bincount(index, weights=stated, minlength=bins).astype(np.float64),
        came_true=np.bincount(index[came_true.astype(bool)], minlength=bins),
    )


def confusion_matrix(
    classes: Classes, predicted: npt.NDArray[np.int64], *, labels: int
) -> npt.NDArray[np.int64]:
    """Counts of `[class, predicted class]`."""
    flat = np.bincount(classes * labels + predicted, minlength=labels * labels)
    return flat.reshape(labels, labels)


def precision_recall_f1(confusion: npt.NDArray[np.int64]) -> dict[str, float]:
    """Of the second of two classes, "yes"; 0 where nothing is there to divide by."""
    (_, false_yes), (false_no, true_yes) = confusion.tolist()
    return {
        "precision": true_yes / max(true_yes + false_yes, 1),
        "recall": true_yes / max(true_yes + false_no, 1),
        "f1": 2 * true_yes / max(2 * true_yes + false_yes + false_no, 1),
    }
