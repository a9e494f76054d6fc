"""The training loop of the page's experiments: one compiled function an epoch.

`logitserve_training.fit` makes models. Here the loss and the optimizer are what is studied, so both
are arguments, and a loss that becomes NaN is a finding, not an error.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from logitserve_training import backend
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset, LabeledImages
from logitserve_training.datasets.mnist import LABELS
from logitserve_training.networks import PixelStatistics, build
from logitserve_training.numerics.roundoff import Numbers
from logitserve_training.recipes import DIGIT_INPUT, NetworkName

Loss = Callable[[Any, Any], Any]
"""Classes `[n]`, outputs `[n, k]` → losses `[n]`."""

BATCH: Final = 128
_FEW_STEPS: Final = 50
"""So few take less time than compiling does."""


@dataclass(frozen=True, slots=True)
class Curve:
    """How a network went, an entry an epoch; the first is before the first step."""

    losses: list[float]
    """Mean over the training part, of the weights as they were at each step; nats."""
    accuracies: list[float]
    """On the validation part."""

    @property
    def numbers(self) -> Numbers:
        """How it ended, and the best that it was."""
        return {
            "loss": self.losses[-1],
            "accuracy": self.accuracies[-1],
            "best": max(self.accuracies),
        }


def fused(classes: Any, logits: Any) -> Any:
    """Softmax and cross-entropy in one."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)


def fresh(
    train: LabeledImages, *, seed: int, statistics: PixelStatistics | None = None
) -> "keras.Model":
    """The lecture's network of 25, 15 and 10 units; the same weights for the same seed."""
    backend.make_deterministic(seed)
    return build(
        NetworkName.MLP,
        shape=DIGIT_INPUT.shape,
        logits=len(LABELS),
        statistics=statistics or PixelStatistics.of(train.images),
    )


def matrices(network: "keras.Model") -> list[Any]:
    """The weights that decay: not the biases."""
    return [weight for weight in network.trainable_variables if len(weight.shape) > 1]


def train(
    network: "keras.Model",
    dataset: Dataset,
    *,
    optimizer: Any,
    epochs: int,
    seed: int,
    loss: Loss = fused,
    penalty: float = 0.0,
) -> Curve:
    """Train in place.

    Args:
        network: uint8 pictures in, logits or probabilities out.
        dataset: fitted to `train`, measured on `validation`.
        optimizer: of Keras.
        epochs: passes over the training part, less what does not fill a batch.
        seed: of the order of the pictures.
        loss: of each picture.
        penalty: times half the sum of the squared weights is added to the loss.
    """
    batch = min(BATCH, len(dataset.train))
    steps = len(dataset.train) // batch
    optimizer.build(network.trainable_variables)
    epoch = _epoch(network, dataset.train, optimizer, loss, penalty=penalty)
    if steps * epochs > _FEW_STEPS:
        # Traced here and once: TensorFlow warns of functions that are traced when they are called.
        epoch = tf.function(epoch).get_concrete_function(tf.TensorSpec([None, batch], tf.int64))
    generator = np.random.default_rng(seed)

    curve = Curve([mean_loss(network, dataset.train, loss)], [accuracy(network, dataset)])
    for _ in range(epochs):
        order = generator.permutation(len(dataset.train))[: steps * batch]
        total = epoch(tf.constant(order.reshape(steps, batch)))
        curve.losses.append(float(total) / steps)
        curve.accuracies.append(accuracy(network, dataset))
    return curve


def accuracy(network: "keras.Model", dataset: Dataset) -> float:
    """Share of the validation part; outputs that are not finite are no answer."""
    outputs = network(tf.constant(dataset.validation.images)).numpy()
    is_right = outputs.argmax(axis=1) == dataset.validation.classes
    return float(np.mean(is_right & np.isfinite(outputs).all(axis=1)))


def mean_loss(network: "keras.Model", data: LabeledImages, loss: Loss) -> float:
    """Of at most 5,000 pictures, of the weights as they are."""
    outputs = network(tf.constant(data.images[:5000]))
    return float(tf.reduce_mean(loss(tf.constant(data.classes[:5000]), outputs)))


def _epoch(
    network: "keras.Model",
    data: LabeledImages,
    optimizer: Any,
    loss: Loss,
    *,
    penalty: float,
) -> Any:
    """A function of the order of the pictures, `[steps, batch]`, that makes an epoch's steps."""
    images, classes = tf.constant(data.images), tf.constant(data.classes)
    weights, decaying = network.trainable_variables, matrices(network)

    def step(rows: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = network(tf.gather(images, rows), training=True)
            mean = tf.reduce_mean(loss(tf.gather(classes, rows), outputs))
            objective = mean
            if penalty:
                squares = [tf.reduce_sum(tf.square(weight.value)) for weight in decaying]
                objective = mean + penalty / 2 * tf.add_n(squares)
        optimizer.apply(tape.gradient(objective, [weight.value for weight in weights]), weights)
        return mean

    def epoch(order: Any) -> Any:
        total = tf.constant(0.0)
        for rows in order:
            total += step(rows)
        return total

    return epoch
