"""Dense layers and convolutions: accuracy at equal parameters, amount of data, speed."""

from dataclasses import replace
from functools import partial
from timeit import repeat
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure

from logitserve.inference.predictor import INPUT, OUTPUT
from logitserve_training import backend
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset, LabeledImages
from logitserve_training.datasets.mnist import LABELS
from logitserve_training.networks import PixelStatistics
from logitserve_training.numerics import loop
from logitserve_training.numerics.loop import Effort, Runs
from logitserve_training.numerics.section import Rows, Section
from logitserve_training.plots import BLUE, VERMILION, Panel, figure
from logitserve_training.recipes import DIGIT_INPUT

DENSE: Final = "dense"
CONVOLUTIONAL: Final = "convolutional"
SIZES: Final = (((8, 8), 11), ((25, 15), 27))
"""Units of two hidden dense layers (the second pair is the lecture's) → filters of two
convolutions with about as many parameters."""
SHIFTS: Final = (0, 1, 2, 3, 4)
_RATE: Final = 2e-3
Size = tuple[tuple[int, int], int]
_SHARES: Final = (1 / 16, 1 / 8, 1 / 4, 1.0)
"""Shares of the training pictures."""
_TIMED: Final = 15
"""Number of timed runs; the fastest counts, as others were disturbed."""


def measure(dataset: Dataset, effort: Effort) -> Section:
    """Train each pair of equal size on the same pictures in the same order."""
    train = dataset.train
    permuted = loop.changed(dataset, _permuted)
    rows, shifts = [], []
    for size in SIZES:
        for kind in (DENSE, CONVOLUTIONAL):
            plain, mixed = (_trained(kind, size, parts, effort) for parts in (dataset, permuted))
            parameters = plain.networks[0].count_params()
            rows.append([kind, parameters, plain.accuracy, mixed.accuracy])
            moved = [
                [loop.accuracy(network, shifted(dataset.validation, by)) for by in SHIFTS]
                for network in plain.networks
            ]
            shifts.append([f"{kind}, {parameters:,}", *np.transpose(moved).tolist()])
    counts = [max(int(share * len(train)), 10) for share in _SHARES]
    steps = max(len(train) // loop.BATCH, 1)
    fewer = [loop.first(dataset, count) for count in counts]
    by_data = [
        [kind, *(_trained(kind, SIZES[1], few, effort, steps).accuracy for few in fewer)]
        for kind in (DENSE, CONVOLUTIONAL)
    ]
    return Section(
        {
            "layers": rows,
            "shifts": shifts,
            "data": by_data,
            "counts": counts,
            "speed": _speed(train),
            "steps": steps * effort.epochs,
        },
        {"layers": _figure(shifts, by_data, counts)},
    )


def multiplications(network: "keras.Model") -> int:
    """Return the multiplications per picture: each kernel weight at each position."""
    return sum(
        layer.kernel.shape.num_elements() * int(np.prod(layer.output.shape[1:-1]))
        for layer in network.layers
        if hasattr(layer, "kernel")
    )


def seconds(network: "keras.Model", *, training: bool) -> float:
    """Return the seconds per picture in a batch of 128: forward, or with the gradient."""
    images = tf.zeros((loop.BATCH, *network.input.shape[1:]), tf.uint8)
    weights = [weight.value for weight in network.trainable_variables]

    def run(pictures: Any) -> Any:
        if not training:
            return network(pictures)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(network(pictures, training=True) ** 2)
        return tape.gradient(loss, weights)

    compiled = tf.function(run).get_concrete_function(images)
    return min(repeat(lambda: compiled(images), number=1, repeat=_TIMED)) / loop.BATCH


def shifted(part: LabeledImages, pixels: int) -> LabeledImages:
    """Shift the pictures to the right, filling with the background."""
    width = part.images.shape[2]
    moved = np.pad(part.images, ((0, 0), (0, 0), (pixels, 0), (0, 0)))[:, :, :width]
    return replace(part, images=moved)


def build(kind: str, size: Size, train: LabeledImages, seed: int) -> "keras.Model":
    """Return two hidden ReLU layers of a kind and a linear layer."""
    backend.make_deterministic(seed)
    statistics = PixelStatistics.of(train.images)
    image = keras.Input(DIGIT_INPUT.shape, dtype="uint8", name=INPUT)
    x = keras.layers.Rescaling(
        scale=1 / (255 * statistics.deviation), offset=-statistics.mean / statistics.deviation
    )(image)
    units, filters = size
    if kind == DENSE:
        x = keras.layers.Flatten()(x)
        for width in units:
            x = keras.layers.Dense(width, activation="relu")(x)
    else:
        options = {"strides": 2, "padding": "same", "activation": "relu"}
        x = keras.layers.Conv2D(filters, 5, **options)(x)  # [14, 14, filters]
        x = keras.layers.Conv2D(filters, 3, **options)(x)  # [7, 7, filters]
        x = keras.layers.Flatten()(x)
    return keras.Model(image, keras.layers.Dense(len(LABELS), name=OUTPUT)(x))


def _trained(
    kind: str, size: Size, dataset: Dataset, effort: Effort, steps: int | None = None
) -> Runs:
    def make(seed: int) -> "keras.Model":
        return build(kind, size, dataset.train, seed)

    adam = partial(keras.optimizers.Adam, _RATE)
    return loop.repeat(dataset, effort, adam, make=make, steps=steps)


def _speed(train: LabeledImages) -> Rows:
    """Time the lecture's size in both kinds, and dense layers with as many units."""
    (units, filters) = SIZES[1]
    places = (14 * 14 * filters, 7 * 7 * filters)
    networks = {
        f"dense, {units[0]} and {units[1]} units": build(DENSE, SIZES[1], train, 0),
        f"convolutional, {filters} filters": build(CONVOLUTIONAL, SIZES[1], train, 0),
        "dense, as many units as the convolutions": build(DENSE, (places, 0), train, 0),
    }
    return [
        [name, network.count_params(), multiplications(network)]
        + [seconds(network, training=training) * 1e6 for training in (False, True)]
        for name, network in networks.items()
    ]


def _permuted(part: LabeledImages) -> LabeledImages:
    """Permute the pixels, equally in every picture."""
    order = np.random.default_rng(0).permutation(part.images[0].size)
    flat = part.images.reshape(len(part), -1)
    return replace(part, images=flat[:, order].reshape(part.images.shape))


def _figure(shifts: list[list[Any]], by_data: list[list[Any]], counts: list[int]) -> Figure:
    colors = {DENSE: VERMILION, CONVOLUTIONAL: BLUE}
    styles = {
        row[0]: {"color": colors[row[0].split(",")[0]], "marker": "o", "linestyle": line}
        for row, line in zip(shifts + by_data, (":", ":", "-", "-", "-", "-"), strict=True)
    }
    return figure(
        "Dense against convolutional layers at equal parameters",
        Panel(
            "error by training set size", "training pictures", "validation error",
            {row[0]: (counts, 1 - np.transpose(row[1:])) for row in by_data},
            log="xy", percent=True, styles=styles,
            also=lambda axes: axes.set_xticks(counts, [f"{n:,}" for n in counts], minor=False),
        ),
        Panel(
            "accuracy on shifted pictures", "shift to the right (pixels)", "validation accuracy",
            {row[0]: (SHIFTS, np.transpose(row[1:])) for row in shifts},
            percent=True, styles=styles,
        ),
    )  # fmt: skip
