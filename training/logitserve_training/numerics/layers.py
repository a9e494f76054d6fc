"""Dense layers against convolutions with as many parameters."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np

from logitserve.inference.predictor import INPUT, OUTPUT
from logitserve_training import backend
from logitserve_training.backend import keras
from logitserve_training.datasets.dataset import Dataset, LabeledImages
from logitserve_training.datasets.mnist import LABELS
from logitserve_training.networks import PixelStatistics
from logitserve_training.numerics import loop
from logitserve_training.numerics.roundoff import Numbers
from logitserve_training.recipes import DIGIT_INPUT

DENSE: Final = "dense"
CONVOLUTIONAL: Final = "convolutional"
HIDDEN: Final = ((8, 8), (25, 15))
"""Units of the two hidden dense layers; the second pair is the lecture's."""
SHIFTS: Final = (0, 1, 2, 3, 4)
_RATE: Final = 2e-3


@dataclass(frozen=True, slots=True)
class Contestant:
    """A network and how it did on the validation part."""

    kind: str
    parameters: int
    accuracy: float
    permuted: float
    """Trained and measured on pictures whose pixels all went to other places."""
    shifted: list[float]
    """Trained on the pictures as they are, measured on moved ones: for each of `SHIFTS`."""


@dataclass(frozen=True, slots=True)
class Contest:
    """All contestants."""

    contestants: list[Contestant]
    pictures: int
    epochs: int

    def of(self, kind: str) -> list[Contestant]:
        """Those of one kind, the smallest first."""
        return [contestant for contestant in self.contestants if contestant.kind == kind]

    @property
    def numbers(self) -> Numbers:
        """For the page."""
        return {
            "pictures": self.pictures,
            "epochs": self.epochs,
            "shifts": list(SHIFTS),
            "rows": [
                {
                    "kind": contestant.kind,
                    "parameters": contestant.parameters,
                    "accuracy": contestant.accuracy,
                    "permuted": contestant.permuted,
                    "shifted": contestant.shifted,
                }
                for contestant in self.contestants
            ],
        }


def measure(dataset: Dataset, *, epochs: int, seed: int) -> Contest:
    """Train each pair of equal size on the same pictures, in the same order."""
    permuted = _permuted(dataset, seed)
    contestants = []
    for hidden in HIDDEN:
        for kind in (DENSE, CONVOLUTIONAL):
            network = _network(kind, hidden, dataset.train, seed)
            train(network, dataset, epochs, seed)
            shifted = [loop.accuracy(network, _shifted(dataset, shift)) for shift in SHIFTS]
            other = _network(kind, hidden, dataset.train, seed)
            train(other, permuted, epochs, seed)
            contestants.append(
                Contestant(
                    kind,
                    parameters=network.count_params(),
                    accuracy=shifted[0],
                    permuted=loop.accuracy(other, permuted),
                    shifted=shifted,
                )
            )
    return Contest(contestants, len(dataset.train), epochs)


def train(network: "keras.Model", dataset: Dataset, epochs: int, seed: int) -> None:
    """Adam, the same for all."""
    optimizer = keras.optimizers.Adam(_RATE)
    loop.train(network, dataset, optimizer=optimizer, epochs=epochs, seed=seed)


def convolutional_filters(hidden: tuple[int, int]) -> int:
    """How many filters give a convolutional network about as many parameters as a dense one."""
    wanted = _dense_parameters(hidden)
    return min(range(1, 200), key=lambda filters: abs(_convolution_parameters(filters) - wanted))


def _dense_parameters(hidden: tuple[int, int]) -> int:
    widths = (int(np.prod(DIGIT_INPUT.shape)), *hidden, len(LABELS))
    return sum((fan_in + 1) * fan_out for fan_in, fan_out in pairwise(widths))


def _convolution_parameters(filters: int) -> int:
    return (25 + 1) * filters + (9 * filters + 1) * filters + (49 * filters + 1) * len(LABELS)


def _network(kind: str, hidden: tuple[int, int], data: LabeledImages, seed: int) -> "keras.Model":
    backend.make_deterministic(seed)
    statistics = PixelStatistics.of(data.images)
    image = keras.Input(DIGIT_INPUT.shape, dtype="uint8", name=INPUT)
    x = keras.layers.Rescaling(
        scale=1 / (255 * statistics.deviation), offset=-statistics.mean / statistics.deviation
    )(image)
    x = _dense(x, hidden) if kind == DENSE else _convolutional(x, convolutional_filters(hidden))
    return keras.Model(image, keras.layers.Dense(len(LABELS), name=OUTPUT)(x))


def _dense(x: Any, hidden: tuple[int, int]) -> Any:
    x = keras.layers.Flatten()(x)
    for units in hidden:
        x = keras.layers.Dense(units, activation="relu")(x)
    return x


def _convolutional(x: Any, filters: int) -> Any:
    options = {"strides": 2, "padding": "same", "activation": "relu"}
    x = keras.layers.Conv2D(filters, 5, **options)(x)  # [14, 14, filters]
    x = keras.layers.Conv2D(filters, 3, **options)(x)  # [7, 7, filters]
    return keras.layers.Flatten()(x)


def _permuted(dataset: Dataset, seed: int) -> Dataset:
    """Every pixel at another place, the same one in every picture."""
    pixels = int(np.prod(DIGIT_INPUT.shape))
    order = np.random.default_rng(seed).permutation(pixels)

    def permute(part: LabeledImages) -> LabeledImages:
        flat = part.images.reshape(len(part), pixels)
        return replace(part, images=flat[:, order].reshape(part.images.shape))

    return replace(dataset, train=permute(dataset.train), validation=permute(dataset.validation))


def _shifted(dataset: Dataset, pixels: int) -> Dataset:
    """The validation pictures moved to the right, on the paper's color."""
    images = np.zeros_like(dataset.validation.images)
    images[:, :, pixels:] = dataset.validation.images[:, :, : images.shape[2] - pixels]
    return replace(dataset, validation=replace(dataset.validation, images=images))
