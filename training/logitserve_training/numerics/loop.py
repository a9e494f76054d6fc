"""The training loop of the page's experiments, repeated over several seeds.

`logitserve_training.fit` makes models. Here the loss and the optimizer are the subject, so both are
arguments, and a NaN loss is a result, not an error.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve_training import backend
from logitserve_training.backend import keras, tf
from logitserve_training.datasets.dataset import Dataset, LabeledImages, stratified_split
from logitserve_training.datasets.mnist import LABELS
from logitserve_training.drawings import draw
from logitserve_training.networks import PixelStatistics, build
from logitserve_training.numerics.section import Floats
from logitserve_training.recipes import DIGIT_INPUT, NetworkName

Loss = Callable[[Any, Any], Any]
"""Classes `[n]`, outputs `[n, k]` → losses `[n]`."""
Answers = Callable[[Floats], Any]
"""Outputs `[n, k]` → predictions, in the shape of the classes."""

BATCH: Final = 128
_DRAWN: Final = 60
"""Drawn pictures per digit, if there is no data set."""
_LARGEST: Final = partial(np.argmax, axis=1)
_FEW_STEPS: Final = 50
"""Number of steps below which compilation is not worth its time."""


@dataclass(frozen=True, slots=True)
class Effort:
    """Size and number of the trainings."""

    pictures: int
    epochs: int
    seeds: int = 5

    @property
    def axis(self) -> npt.NDArray[np.int64]:
        """Epochs from 0, for the x axis."""
        return np.arange(self.epochs + 1)


@dataclass(slots=True)
class Runs:
    """Results of networks that differ only in their seed."""

    losses: list[list[float]] = field(default_factory=list)
    """`[seeds, epochs + 1]`, nats: before the first step, then the mean over each epoch."""
    accuracies: list[list[float]] = field(default_factory=list)
    """`[seeds, epochs + 1]`, on the validation part."""
    networks: list["keras.Model"] = field(default_factory=list)
    optimizers: list[Any] = field(default_factory=list)

    @property
    def loss(self) -> list[float]:
        """Final loss of each seed."""
        return [curve[-1] for curve in self.losses]

    @property
    def accuracy(self) -> list[float]:
        """Final accuracy of each seed."""
        return [curve[-1] for curve in self.accuracies]


def fused(classes: Any, logits: Any) -> Any:
    """Return softmax cross-entropy, fused."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, logits)


def fresh(
    train: LabeledImages,
    *,
    seed: int,
    logits: int = len(LABELS),
    statistics: PixelStatistics | None = None,
) -> "keras.Model":
    """Return the lecture's network of 25, 15 and 10 units; equal seeds give equal weights."""
    backend.make_deterministic(seed)
    return build(
        NetworkName.MLP,
        shape=DIGIT_INPUT.shape,
        logits=logits,
        statistics=statistics or PixelStatistics.of(train.images),
    )


def matrices(network: "keras.Model") -> list[Any]:
    """Return the weights subject to decay: all but the biases."""
    return [weight for weight in network.trainable_variables if len(weight.shape) > 1]


def repeat(
    dataset: Dataset,
    effort: Effort,
    optimizer: Callable[[], Any],
    *,
    make: Callable[[int], "keras.Model"] | None = None,
    logits: int = len(LABELS),
    loss: Loss = fused,
    penalty: float = 0.0,
    answers: Answers = _LARGEST,
    steps: int | None = None,
) -> Runs:
    """Train a network from each seed.

    `make` builds a network from a seed; None is the lecture's with `logits` outputs. `penalty`
    times half the sum of the squared weights is added to the loss; `steps=None` is one pass per
    epoch.
    """
    runs = Runs()
    for seed in range(effort.seeds):
        network = make(seed) if make else fresh(dataset.train, seed=seed, logits=logits)
        rule = optimizer()
        biases = [weight for weight in network.trainable_variables if len(weight.shape) == 1]
        rule.exclude_from_weight_decay(var_list=biases)
        rule.build(network.trainable_variables)
        orders = _orders(len(dataset.train), effort.epochs, steps, seed)
        epoch = _epoch(network, dataset.train, rule, loss, penalty=penalty)
        if orders.shape[0] * orders.shape[1] > _FEW_STEPS:
            # Traced once here: TensorFlow warns of functions that are traced on each call.
            spec = tf.TensorSpec(orders.shape[1:], tf.int64)
            epoch = tf.function(epoch).get_concrete_function(spec)
        few = dataset.train[:5000]
        fresh_loss = loss(tf.constant(few.classes), network(tf.constant(few.images)))
        losses = [float(tf.reduce_mean(fresh_loss))]
        accuracies = [accuracy(network, dataset.validation, answers)]
        for order in orders:
            losses.append(float(epoch(tf.constant(order))) / len(order))
            accuracies.append(accuracy(network, dataset.validation, answers))
        runs.losses.append(losses)
        runs.accuracies.append(accuracies)
        runs.networks.append(network)
        runs.optimizers.append(rule)
    return runs


def accuracy(network: "keras.Model", data: LabeledImages, answers: Answers = _LARGEST) -> float:
    """Return the accuracy; non-finite outputs count as wrong."""
    outputs = network(tf.constant(data.images)).numpy()
    is_right = (answers(outputs) == data.classes).reshape(len(data), -1)
    return float(np.mean(is_right & np.isfinite(outputs).all(axis=1, keepdims=True)))


def _orders(pictures: int, epochs: int, steps: int | None, seed: int) -> npt.NDArray[np.int64]:
    """Return `[epochs, steps, batch]`: the pictures in a new order for each pass."""
    batch = min(BATCH, pictures)
    shape = (epochs, steps or pictures // batch, batch)
    generator = np.random.default_rng(seed)
    passes = -(-int(np.prod(shape)) // pictures)
    order = np.concatenate([generator.permutation(pictures) for _ in range(passes)])
    return np.resize(order, shape)


def _epoch(
    network: "keras.Model", data: LabeledImages, optimizer: Any, loss: Loss, *, penalty: float
) -> Any:
    """Return a function that trains one epoch in the given order, `[steps, batch]`."""
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


def drawn() -> Dataset:
    """Return digits drawn by the project, for a quick run without a data set."""
    pictures = [draw(digit, seed=seed) for seed in range(_DRAWN) for digit in range(10)]
    images = np.stack([np.array(picture.convert("L"))[..., None] for picture in pictures])
    whole = LabeledImages(images, np.tile(np.arange(10), _DRAWN))
    train, validation = stratified_split(whole, held_out=len(whole) // 6, seed=0)
    return Dataset("drawn digits", "", train, validation, validation)


def first(dataset: Dataset, pictures: int) -> Dataset:
    """Return a copy with at most `pictures` training pictures; MNIST is already shuffled."""
    return replace(dataset, train=dataset.train[:pictures])


def changed(dataset: Dataset, change: Callable[[LabeledImages], LabeledImages]) -> Dataset:
    """Return a copy with changed training and validation parts."""
    return replace(dataset, train=change(dataset.train), validation=change(dataset.validation))


def relabeled(dataset: Dataset, table: npt.NDArray[np.int64]) -> Dataset:
    """Return a copy with other classes: each class's new one, or its row of 0s and 1s."""
    return changed(dataset, lambda part: replace(part, classes=table[part.classes]))
