"""The lecture's network with other outputs and losses instead of logits and the fused loss."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np

from logitserve.inference.predictor import OUTPUT
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset, LabeledImages
from logitserve_training.datasets.mnist import LABELS
from logitserve_training.networks import PixelStatistics
from logitserve_training.numerics import loop
from logitserve_training.numerics.loop import Effort, Runs
from logitserve_training.numerics.section import Section
from logitserve_training.plots import Panel, figure

LINEAR: Final = "linear, from_logits=True"
SOFTMAX: Final = "softmax, plain loss"
HIDDEN: Final = "softmax, hidden from Keras"
TEXTBOOK: Final = "softmax, then log"
SQUARED: Final = "softmax, squared error"
_CROSSENTROPY: Final = keras.losses.sparse_categorical_crossentropy
_RATE: Final = 1e-3


STARTS: Final = {
    "ordinary": (None, 0.0),
    "pixels left at 0 to 255": (PixelStatistics(mean=0.0, deviation=1 / 255), 0.0),
    "one class 30 logits ahead": (None, 30.0),
}
"""Standardization of the pixels (None: measured), and initial bias of one class."""


def measure(dataset: Dataset, effort: Effort) -> Section:
    """Train from each of `STARTS` with each output, and once on the class number."""
    rows, numbers = [], []
    panels: list[Panel] = []
    for start in STARTS:
        runs = {name: _trained(start, name, dataset, effort) for name in _ENDINGS}
        fresh = [_fresh(start, dataset, seed) for seed in range(effort.seeds)]
        looks = [_first_look(network, dataset.validation) for network in fresh]
        spread, silent = np.mean(looks, axis=0)
        rows.append([f"{start} ({spread:.3g})", *(run.accuracy for run in runs.values())])
        numbers.append(
            {
                "silent": silent,
                "keras_difference": np.ptp(
                    [runs[name].losses for name in (LINEAR, SOFTMAX)], axis=0
                ).max(),
                "loss": {name: run.loss for name, run in runs.items()},
                "accuracy": {name: run.accuracy for name, run in runs.items()},
            }
        )
        panels.append(
            Panel(
                f"{start}\n(mean largest initial logit: {spread:.3g})",
                "epoch", "validation accuracy",
                {name: (effort.axis, run.accuracies) for name, run in runs.items()},
                percent=True, overlaid=True, y_range=(-0.03, 1.0),
                legend="lower right" if not panels else "",
            )
        )  # fmt: skip
    number = loop.repeat(
        dataset, effort, _adam, logits=1, loss=of_number, answers=lambda y: np.rint(y[:, 0])
    )
    return Section(
        {"endings": rows, "starts": numbers, "rate": _RATE, "number": number.accuracy},
        {"endings": figure("One network with five combinations of output and loss", *panels)},
    )


def of_one_hot(classes: Any, probabilities: Any) -> Any:
    """Return the sum over the classes of (probability − one-hot)²."""
    return tf.reduce_sum(tf.square(probabilities - tf.one_hot(classes, len(LABELS))), axis=1)


def of_number(classes: Any, outputs: Any) -> Any:
    """Return (output − class number)²."""
    return tf.square(outputs[:, 0] - tf.cast(classes, tf.float32))


def _adam() -> Any:
    return keras.optimizers.Adam(_RATE)


def _fresh(start: str, dataset: Dataset, seed: int) -> "keras.Model":
    statistics, head_start = STARTS[start]
    network = loop.fresh(dataset.train, seed=seed, statistics=statistics)
    network.get_layer(OUTPUT).bias.assign(head_start * np.eye(len(LABELS))[0])
    return network


def _trained(start: str, ending: str, dataset: Dataset, effort: Effort) -> Runs:
    layers, loss = _ENDINGS[ending]

    def make(seed: int) -> "keras.Model":
        body = _fresh(start, dataset, seed)
        return keras.Model(body.input, layers(body.output))

    return loop.repeat(dataset, effort, _adam, make=make, loss=loss)


def _first_look(network: "keras.Model", data: LabeledImages) -> tuple[float, float]:
    """Return the size of the logits, and the share of misclassified pictures without a gradient."""
    logits = network(tf.constant(data.images))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = keras.losses.sparse_categorical_crossentropy(data.classes, tf.nn.softmax(logits))
    is_silent = np.abs(tape.gradient(loss, logits).numpy()).max(axis=1) == 0
    is_wrong = logits.numpy().argmax(axis=1) != data.classes
    return float(np.abs(logits.numpy()).max(axis=1).mean()), float(np.mean(is_silent[is_wrong]))


def _softmax(logits: Any) -> Any:
    return keras.layers.Softmax()(logits)


def _hidden_softmax(logits: Any) -> Any:
    # Any layer after the softmax works: Keras then no longer finds the logits.
    return keras.layers.Reshape(logits.shape[1:])(_softmax(logits))


def _logarithm_of_the_true_one(classes: Any, probabilities: Any) -> Any:
    return -tf.math.log(tf.gather(probabilities, classes, batch_dims=1))


_ENDINGS: Final[dict[str, tuple[Callable[[Any], Any], loop.Loss]]] = {
    LINEAR: (lambda logits: logits, partial(_CROSSENTROPY, from_logits=True)),
    SOFTMAX: (_softmax, _CROSSENTROPY),
    HIDDEN: (_hidden_softmax, _CROSSENTROPY),
    TEXTBOOK: (_softmax, _logarithm_of_the_true_one),
    SQUARED: (_softmax, of_one_hot),
}
"""Output → function from symbolic logits to symbolic output, and its loss."""
