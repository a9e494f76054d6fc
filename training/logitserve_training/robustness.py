"""Measure a model on corrupted pictures: accuracy, calibration, prediction sets, novelty."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from logitserve.inference import conformal, preprocessing
from logitserve.inference.card import COVERAGES, Fit
from logitserve.inference.intervals import wilson
from logitserve.inference.predictor import Predictions, Predictor
from logitserve_training import corruptions, disturb, drawings
from logitserve_training.datasets.dataset import Images, LabeledImages
from logitserve_training.evaluate import evaluated

COUNT: Final = 1_000
"""Pictures per kind."""
ASKED: Final = 0.9
"""Requested coverage of the prediction sets."""
_SHOWN: Final = 6
_BATCH: Final = 250


@dataclass(frozen=True, slots=True)
class Row:
    """Measurements for one kind of corruption."""

    kind: str
    group: str
    """"clean", "MNIST-C", "others", or "training": families used in training."""
    like: str | None
    """The most similar family of `disturb`, which recipes train on; None: no family."""
    pictures: int
    accuracy: float
    """For a sigmoid model, the share of exact matches."""
    low: float
    """95 % interval of the accuracy (Wilson)."""
    high: float
    ece: float
    unknown: float | None
    """Share of unknown pictures."""
    right_unknown: float | None
    """Share of unknown pictures among correct predictions."""
    covered: float | None
    """Share of the 90 % prediction sets that contain the true label."""
    set_size: float | None
    """Mean number of labels per set."""
    shown: Images
    """A few example pictures."""

    def to_json(self) -> dict[str, Any]:
        """Return the content for `metrics.json`."""
        return {name: value for name, value in asdict(self).items() if name != "shown"}


def measure(predictor: Predictor, data: LabeledImages, *, count: int = COUNT) -> list[Row]:
    """Corrupt pictures of the network's input size, and evaluate the model on them.

    Args:
        predictor: any model.
        data: prepared pictures that were not used for training; the first `count` are used.
        count: pictures per kind.

    Returns:
        rows for the clean pictures, each of `corruptions.KINDS`, and for models of digits also each
        of `disturb.FAMILIES`, whose lengths apply only to digits.
    """
    data = data[: min(count, len(data))]
    shown = data.images[:_SHOWN]
    takes_digits = predictor.card.input.fit is Fit.DIGIT
    if takes_digits:  # drawn by the project: the data set's pictures have their own license
        drawn = [drawings.draw(digit, seed=digit).convert("L") for digit in range(_SHOWN)]
        shown = np.stack([np.asarray(picture)[..., None] for picture in drawn])
    found = [_row(predictor, data, data.images, ("clean", "clean", None), shown)]
    for kind, corruption in corruptions.KINDS.items():
        group = "MNIST-C" if corruption.of_mnist_c else "others"
        images, samples = (corruptions.corrupted(kind, each) for each in (data.images, shown))
        found.append(_row(predictor, data, images, (kind, group, corruption.like), samples))
    if takes_digits:
        for family in disturb.FAMILIES:
            images, samples = (disturb.by_family(family, each) for each in (data.images, shown))
            found.append(_row(predictor, data, images, (family, "training", family), samples))
    return found


def means(rows: list[Row]) -> Iterator[tuple[str, float, float, float, int]]:
    """Yield for groups of rows: name, mean and lowest accuracy, mean calibration error, kinds."""
    groups = {
        "MNIST-C": [row for row in rows if row.group == "MNIST-C"],
        "not similar to a training family": [
            row for row in rows if row.like is None and row.group != "clean"
        ],
        "similar to a training family": [
            row for row in rows if row.like is not None and row.group != "training"
        ],
        "training families": [row for row in rows if row.group == "training"],
    }
    for name, group in groups.items():
        if group:
            accuracies = [row.accuracy for row in group]
            error = float(np.mean([row.ece for row in group]))
            yield name, float(np.mean(accuracies)), min(accuracies), error, len(group)


def _row(
    predictor: Predictor,
    data: LabeledImages,
    images: Images,
    named: tuple[str, str, str | None],
    shown: Images,
) -> Row:
    card = predictor.card
    if images.shape[3] == 1:  # as sent by clients: without a channel axis
        images = images[..., 0]
    said = Predictions.concatenated(
        [
            predictor.predict(preprocessing.prepare(list(part), card.input))
            for part in np.array_split(images, -(-len(images) // _BATCH))
        ]
    )
    evaluation = evaluated(card, said, data)
    right, known = evaluation.is_right, said.known
    low, high = wilson(int(right.sum()), len(right))
    covered = size = None
    if card.conformal is not None and COVERAGES[len(card.conformal.thresholds) - 1] >= ASKED:
        sets = conformal.prediction_sets(card, said.logits, ASKED)
        truth = data.classes.tolist()
        covered = float(
            np.mean([label in chosen for label, chosen in zip(truth, sets, strict=True)])
        )
        size = float(np.mean([len(chosen) for chosen in sets]))
    return Row(
        *named,
        pictures=len(right),
        accuracy=float(right.mean()),
        low=low,
        high=high,
        ece=evaluation.figures(np.ones(len(right)))["ece"],
        unknown=None if known is None else float(np.mean(~known)),
        right_unknown=None if known is None or not right.any() else float(np.mean(~known[right])),
        covered=covered,
        set_size=size,
        shown=shown,
    )
