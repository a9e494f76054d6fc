"""The lecture's network with a softmax output and a plain loss, beside a linear output."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from logitserve.inference.predictor import OUTPUT
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset, LabeledImages
from logitserve_training.datasets.mnist import LABELS
from logitserve_training.networks import PixelStatistics
from logitserve_training.numerics import loop
from logitserve_training.numerics.loop import Curve
from logitserve_training.numerics.roundoff import Numbers

LINEAR: Final = "linear, from_logits=True"
SOFTMAX: Final = "softmax, plain loss"
HIDDEN: Final = "softmax, hidden from Keras"
TEXTBOOK: Final = "softmax, then log"

_RATE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Ending:
    """What comes after the last linear layer, in the network and in the loss."""

    name: str
    layers: Callable[[Any], Any]
    """Symbolic logits → symbolic output."""
    loss: Callable[[], Any]
    """A loss of Keras that gives one value a picture."""


@dataclass(frozen=True, slots=True)
class Start:
    """How the logits of the fresh network are: one of the settings."""

    name: str
    statistics: PixelStatistics | None = None
    """With which the pixels are standardized; None measures them."""
    head_start: float = 0.0
    """Of the first class: what its bias begins with."""

    def network(self, dataset: Dataset, seed: int) -> "keras.Model":
        """The same weights for the same seed."""
        network = loop.fresh(dataset.train, seed=seed, statistics=self.statistics)
        bias = network.get_layer(OUTPUT).bias
        bias.assign(self.head_start * np.eye(len(LABELS))[0])
        return network


STARTS: Final = (
    Start("ordinary"),
    Start("pixels left at 0 to 255", statistics=PixelStatistics(mean=0.0, deviation=1 / 255)),
    Start("one class 30 logits ahead", head_start=30.0),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """The same start and seed with each ending."""

    name: str
    curves: dict[str, Curve]
    spread: float
    """Mean over the pictures of the largest absolute logit of the fresh network."""
    silent: float
    """Share of the wrongly answered pictures that the clipped loss gives no gradient, fresh."""

    @property
    def numbers(self) -> Numbers:
        """For the page."""
        fused, found = self.curves[LINEAR].losses, self.curves[SOFTMAX].losses
        return {
            "name": self.name,
            "rate": _RATE,
            "spread": self.spread,
            "silent": self.silent,
            "epochs": len(fused) - 1,
            "endings": [{"name": name} | curve.numbers for name, curve in self.curves.items()],
            "keras_difference": max(
                abs(one - other) for one, other in zip(fused, found, strict=True)
            ),
        }


def compare(dataset: Dataset, *, epochs: int, seed: int) -> list[Setting]:
    """Train from each of `STARTS` with each ending."""
    return [_setting(start, dataset, epochs=epochs, seed=seed) for start in STARTS]


def _setting(start: Start, dataset: Dataset, *, epochs: int, seed: int) -> Setting:
    curves = {}
    for ending in _endings():
        body = start.network(dataset, seed)
        curves[ending.name] = loop.train(
            keras.Model(body.input, ending.layers(body.output)),
            dataset,
            optimizer=keras.optimizers.Adam(_RATE),
            epochs=epochs,
            seed=seed,
            loss=ending.loss(),
        )
    spread, silent = _first_look(start.network(dataset, seed), dataset.validation)
    return Setting(start.name, curves, spread, silent)


def _first_look(network: "keras.Model", data: LabeledImages) -> tuple[float, float]:
    """How large the logits are, and the share of the wrong pictures without a gradient."""
    logits = network(tf.constant(data.images))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = keras.losses.sparse_categorical_crossentropy(data.classes, tf.nn.softmax(logits))
    is_silent = np.abs(tape.gradient(loss, logits).numpy()).max(axis=1) == 0
    is_wrong = logits.numpy().argmax(axis=1) != data.classes
    return float(np.abs(logits.numpy()).max(axis=1).mean()), float(np.mean(is_silent[is_wrong]))


def _endings() -> list[Ending]:
    def softmax(logits: Any) -> Any:
        return keras.layers.Softmax()(logits)

    def hidden_softmax(logits: Any) -> Any:
        # Any layer after the softmax will do: Keras then no longer finds the logits behind it.
        return keras.layers.Reshape(logits.shape[1:])(softmax(logits))

    def crossentropy(*, from_logits: bool) -> Callable[[], Any]:
        return lambda: keras.losses.SparseCategoricalCrossentropy(
            from_logits=from_logits, reduction="none"
        )

    return [
        Ending(LINEAR, lambda logits: logits, crossentropy(from_logits=True)),
        Ending(SOFTMAX, softmax, crossentropy(from_logits=False)),
        Ending(HIDDEN, hidden_softmax, crossentropy(from_logits=False)),
        Ending(TEXTBOOK, softmax, lambda: _logarithm_of_the_true_one),
    ]


def _logarithm_of_the_true_one(classes: Any, probabilities: Any) -> Any:
    return -tf.math.log(tf.gather(probabilities, classes, batch_dims=1))
