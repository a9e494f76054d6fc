"""The loss and its gradient, computed through probabilities and fused, over a range of logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.heads import sigmoid
from logitserve_training.backend import keras, tf
from logitserve_training.numerics.roundoff import Numbers

Floats = npt.NDArray[np.float64]
Tensor = Any
"""A float32 TensorFlow tensor."""
Loss = Callable[[Tensor], Tensor]
"""Logits of the true class `[n]` → losses in nats `[n]`."""

LIMIT: Final = 200
_STEP: Final = 1 / 16
CLASSES: Final = 10
"""Of the softmax; the other nine logits are 0."""

TEXTBOOK: Final = "textbook"
SHIFTED: Final = "function, then log"
CLIPPED: Final = "clipped (Keras)"
FUSED: Final = "fused"

LOSS_TOLERANCE: Final = 0.01
"""Relative."""
GRADIENT_TOLERANCE: Final = 1e-6
"""Absolute; the gradient lies between -1 and 0."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """One head's loss and gradient for a true class whose logit goes from -200 to 200."""

    head: str
    logits: Floats
    loss: Floats
    """The reference, float64."""
    gradient: Floats
    """Likewise: the derivative of the loss by the logit of the true class."""
    losses: dict[str, Floats]
    """By way of computing, in float32."""
    gradients: dict[str, Floats]

    @property
    def numbers(self) -> list[Numbers]:
        """A row for each way: where it can be used, and where it ends."""
        return [self._row(way) for way in self.losses]

    def _row(self, way: str) -> Numbers:
        loss, gradient = self.losses[way], self.gradients[way]
        with np.errstate(invalid="ignore"):
            loss_is_right = np.abs(loss - self.loss) <= LOSS_TOLERANCE * self.loss
            gradient_is_right = np.abs(gradient - self.gradient) <= GRADIENT_TOLERANCE
        return {
            "head": self.head,
            "way": way,
            "loss_right": self._around_zero(loss_is_right),
            "gradient_right": self._around_zero(gradient_is_right),
            "loss_infinite": self._nearest(np.isinf(loss)),
            "loss_nan": self._nearest(np.isnan(loss)),
            "gradient_nan": self._nearest(np.isnan(gradient)),
        }

    def _around_zero(self, is_right: npt.NDArray[np.bool_]) -> list[float]:
        """The ends of the unbroken run around logit 0."""
        wrong = self.logits[~is_right]
        below, above = wrong[wrong < 0], wrong[wrong > 0]
        return [
            float(below.max() + _STEP) if below.size else -LIMIT,
            float(above.min() - _STEP) if above.size else LIMIT,
        ]

    def _nearest(self, is_there: npt.NDArray[np.bool_]) -> list[float | None]:
        """The logits nearest to 0, below and above, where it is there."""
        found = self.logits[is_there]
        below, above = found[found < 0], found[found > 0]
        return [
            float(below.max()) if below.size else None,
            float(above.min()) if above.size else None,
        ]


def sweep_softmax() -> Sweep:
    """Ten classes; the nine logits that are not swept are 0."""
    logits = _logits()
    wrong = np.log(CLASSES - 1)  # the nine others together
    return _sweep(
        "softmax",
        loss=np.logaddexp(0, wrong - logits),
        gradient=-sigmoid(wrong - logits),
        ways={
            TEXTBOOK: _textbook_softmax,
            SHIFTED: lambda z: -tf.math.log(tf.nn.softmax(_ten(z))[:, 0]),
            CLIPPED: lambda z: keras.losses.sparse_categorical_crossentropy(
                _zeros(z), tf.nn.softmax(_ten(z))
            ),
            FUSED: lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits(_zeros(z), _ten(z)),
        },
    )


def sweep_sigmoid() -> Sweep:
    """One logit, whose target is 1."""
    logits = _logits()
    return _sweep(
        "sigmoid",
        loss=np.logaddexp(0, -logits),
        gradient=-sigmoid(-logits),
        ways={
            TEXTBOOK: lambda z: _cross_entropy(1 / (1 + tf.exp(-z))),
            SHIFTED: lambda z: _cross_entropy(tf.sigmoid(z)),
            CLIPPED: lambda z: keras.losses.binary_crossentropy(
                tf.ones_like(z)[:, None], tf.sigmoid(z)[:, None]
            ),
            FUSED: lambda z: tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(z), z),
        },
    )


def _sweep(head: str, *, loss: Floats, gradient: Floats, ways: dict[str, Loss]) -> Sweep:
    losses, gradients = {}, {}
    for way, compute in ways.items():
        z = tf.constant(_logits(), tf.float32)  # exact: multiples of 1/16
        with tf.GradientTape() as tape:
            tape.watch(z)
            computed = compute(z)
        losses[way] = computed.numpy().astype(np.float64)
        gradients[way] = tape.gradient(computed, z).numpy().astype(np.float64)
    return Sweep(head, _logits(), loss, gradient, losses, gradients)


def _logits() -> Floats:
    return np.arange(-LIMIT, LIMIT + _STEP, _STEP, dtype=np.float64)


def _textbook_softmax(z: Tensor) -> Tensor:
    exponentials = tf.exp(_ten(z))
    return -tf.math.log((exponentials / tf.reduce_sum(exponentials, axis=1, keepdims=True))[:, 0])


def _cross_entropy(probability: Tensor) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for a target of 1, as it is written on paper."""
    target = tf.ones_like(probability)
    return -(target * tf.math.log(probability) + (1 - target) * tf.math.log(1 - probability))


def _ten(z: Tensor) -> Tensor:
    """`[n]` → `[n, 10]`: the true class first."""
    return tf.pad(z[:, None], [[0, 0], [0, CLASSES - 1]])


def _zeros(z: Tensor) -> Tensor:
    return tf.zeros(tf.shape(z), tf.int32)
