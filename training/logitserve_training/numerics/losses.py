"""The loss and its gradient, computed through probabilities and fused, over a range of logits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.heads import sigmoid
from logitserve_training.backend import keras, tf
from logitserve_training.numerics.lesson import Cell, Floats, Lesson, Table
from logitserve_training.numerics.plots import Panel, figure

Tensor = Any
"""A float32 TensorFlow tensor."""

LOGITS: Final = np.arange(-200, 200 + 1 / 16, 1 / 16)
"""Of the true class; exact in float32."""
_OTHERS: Final = 9
"""Classes of the softmax that are not the true one; their logits are 0."""

TEXTBOOK: Final = "textbook"
SHIFTED: Final = "function, then log"
CLIPPED: Final = "clipped (Keras)"
FUSED: Final = "fused"


@dataclass(frozen=True, slots=True)
class Sweep:
    """One head's loss and gradient for a true class whose logit goes from -200 to 200."""

    head: str
    exact: tuple[Floats, Floats]
    """Loss, and its derivative by the logit of the true class; float64."""
    computed: dict[str, tuple[Floats, Floats]]
    """The same by way of computing, in float32."""

    def row(self, way: str) -> list[Cell]:
        """The logits nearest to 0, below and above, where a way goes wrong."""
        (loss, gradient), (true_loss, true_gradient) = self.computed[way], self.exact
        with np.errstate(invalid="ignore"):
            loss_is_right = np.abs(loss - true_loss) <= 0.01 * true_loss
            gradient_is_right = np.abs(gradient - true_gradient) <= 1e-6  # of at most 1
        off = [*_nearest(~loss_is_right), *_nearest(~gradient_is_right)]
        ends = [_nearest(np.isinf(loss))[0], _nearest(np.isnan(loss))[1]]
        return [f"{self.head}: {way}", *off, *ends, *_nearest(np.isnan(gradient))]


def measure() -> Lesson:
    """Both heads, in each way."""
    sweeps = (sweep_softmax(), sweep_sigmoid())
    columns = (
        "loss off by 1 %: z ≤", "z ≥", "gradient off by 1e-6: z ≤", "z ≥ ", "loss ∞: z ≤",
        "loss NaN: z ≥", "gradient NaN: z ≤", "gradient NaN: z ≥",
    )  # fmt: skip
    panels = [
        Panel(
            sweep.head, "logit of the true class z", what,
            {
                way: (LOGITS, np.where(np.isfinite(both[place]), both[place], np.nan))
                for way, both in sweep.computed.items()
            },
            overlaid=True, legend="" if place else "best",
        )
        for place, what in enumerate(("loss (nats)", "d loss / dz"))
        for sweep in sweeps
    ]  # fmt: skip
    title = "In float32; a line ends where its value is infinite or NaN"
    return Lesson(
        tables={
            "losses": Table(
                {"float32 loss": ""} | dict.fromkeys(columns, ".1f"),
                [sweep.row(way) for sweep in sweeps for way in sweep.computed],
            )
        },
        figures={"losses": figure(title, *panels, columns=2)},
        numbers={"silent_below": sweeps[1].row(TEXTBOOK)[3], "step_from": sweeps[0].row(FUSED)[2]},
    )


def sweep_softmax() -> Sweep:
    """Ten classes; the nine logits that are not swept are 0."""
    wrong = np.log(_OTHERS)  # the nine others together
    return _sweep(
        "softmax",
        (np.logaddexp(0, wrong - LOGITS), -sigmoid(wrong - LOGITS)),
        {
            FUSED: lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits(_zeros(z), _ten(z)),
            CLIPPED: lambda z: keras.losses.sparse_categorical_crossentropy(
                _zeros(z), tf.nn.softmax(_ten(z))
            ),
            SHIFTED: lambda z: -tf.math.log(tf.nn.softmax(_ten(z))[:, 0]),
            TEXTBOOK: lambda z: -tf.math.log(tf.exp(z) / tf.reduce_sum(tf.exp(_ten(z)), axis=1)),
        },
    )


def sweep_sigmoid() -> Sweep:
    """One logit, whose target is 1."""
    return _sweep(
        "sigmoid",
        (np.logaddexp(0, -LOGITS), -sigmoid(-LOGITS)),
        {
            FUSED: lambda z: tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(z), z),
            CLIPPED: lambda z: keras.losses.binary_crossentropy(
                tf.ones_like(z)[:, None], tf.sigmoid(z)[:, None]
            ),
            SHIFTED: lambda z: _cross_entropy(tf.sigmoid(z)),
            TEXTBOOK: lambda z: _cross_entropy(1 / (1 + tf.exp(-z))),
        },
    )


def _sweep(
    head: str, exact: tuple[Floats, Floats], ways: dict[str, Callable[[Tensor], Tensor]]
) -> Sweep:
    computed = {}
    for way, loss_of in ways.items():
        z = tf.constant(LOGITS, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = loss_of(z)
        both = (loss.numpy(), tape.gradient(loss, z).numpy())
        computed[way] = (both[0].astype(np.float64), both[1].astype(np.float64))
    return Sweep(head, exact, computed)


def _nearest(is_there: npt.NDArray[np.bool_]) -> list[float | None]:
    found = LOGITS[is_there]
    below, above = found[found < 0].tolist(), found[found > 0].tolist()
    return [max(below, default=None), min(above, default=None)]


def _cross_entropy(probability: Tensor) -> Tensor:
    """-(y log p + (1 - y) log(1 - p)) for a target of 1, as it is written on paper."""
    target = tf.ones_like(probability)
    return -(target * tf.math.log(probability) + (1 - target) * tf.math.log(1 - probability))


def _ten(z: Tensor) -> Tensor:
    """`[n]` → `[n, 10]`: the true class first."""
    return tf.pad(z[:, None], [[0, 0], [0, _OTHERS]])


def _zeros(z: Tensor) -> Tensor:
    return tf.zeros(tf.shape(z), tf.int32)
