"""How a model holds out when pictures are disturbed: accuracy, calibration, sets, what is known."""

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
"""Pictures of each kind."""
ASKED: Final = 0.9
"""Coverage that sets are asked for."""
_SHOWN: Final = 6
_BATCH: Final = 250


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of disturbance."""

    kind: str
    group: str
    """"clean", "MNIST-C", "others", or "training": the families that recipes train on."""
    like: str | None
    """The family of `disturb` that it is like, which recipes train on; None: none of them."""
    pictures: int
    accuracy: float
    """Of a sigmoid model the share of exact matches."""
    low: float
    """95 % interval of the accuracy (Wilson)."""
    high: float
    ece: float
    unknown: float | None
    """Share that is not known."""
    right_unknown: float | None
    """The same among right answers."""
    covered: float | None
    """Share of the sets for a coverage of 90 % that hold the true label."""
    set_size: float | None
    """Labels in such a set."""
    shown: Images
    """A few pictures."""

    def to_json(self) -> dict[str, Any]:
        """For `metrics.json`."""
        return {name: value for name, value in asdict(self).items() if name != "shown"}


def measure(predictor: Predictor, data: LabeledImages, *, count: int = COUNT) -> list[Row]:
    """Disturb pictures as they would be sent, in the network's size, and ask the model.

    Args:
        predictor: of any model.
        data: pictures that it was not trained on, prepared; the first ones are taken.
        count: how many, of each kind.

    Returns:
        of the pictures as they are, of each of `corruptions.KINDS`, and for models that take
        digits also of each of `disturb.FAMILIES`, whose lengths suit nothing else.
    """
    data = data[: min(count, len(data))]
    shown = data.images[:_SHOWN]
    takes_digits = predictor.card.input.fit is Fit.DIGIT
    if takes_digits:  # of the project, for the data set's have a license of their own
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
    """Of groups of rows: name, mean and lowest accuracy, mean calibration error, kinds."""
    groups = {
        "MNIST-C": [row for row in rows if row.group == "MNIST-C"],
        "like none of the families": [
            row for row in rows if row.like is None and row.group != "clean"
        ],
        "like one of the families": [
            row for row in rows if row.like is not None and row.group != "training"
        ],
        "the families themselves": [row for row in rows if row.group == "training"],
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
    if images.shape[3] == 1:  # as somebody sends them: without an axis for their one channel
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
