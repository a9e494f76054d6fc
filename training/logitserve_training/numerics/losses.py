"""Loss and gradient through probabilities and fused, over a range of logits."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.heads import sigmoid
from logitserve_training.backend import keras, tf
from logitserve_training.numerics.section import Floats, Section
from logitserve_training.plots import Panel, figure

LOGITS: Final = np.arange(-200, 200 + 1 / 16, 1 / 16)
"""Logits of the true class; exact in float32."""
OTHERS: Final = {"softmax": 9, "sigmoid": 1}
"""Head → number of other classes; their logits are 0."""

TEXTBOOK: Final = "textbook"
SHIFTED: Final = "function, then log"
CLIPPED: Final = "clipped (Keras)"
FUSED: Final = "fused"

Curves = tuple[Floats, Floats]
"""Loss, and its derivative by the true class's logit, at `LOGITS`."""


def measure() -> Section:
    """Measure both heads with each method."""
    sweeps = {head: sweep(head) for head in OTHERS}
    panels = [
        Panel(
            head, "logit of the true class z", what,
            {
                way: (LOGITS, np.where(np.isfinite(both[place]), both[place], np.nan))
                for way, both in ways.items()
            },
            overlaid=True, legend="" if place else "best",
        )
        for place, what in enumerate(("loss (nats)", "d loss / dz"))
        for head, ways in sweeps.items()
    ]  # fmt: skip
    ends = {
        head: {way: goes_wrong(head, ways[way]) for way in ways} for head, ways in sweeps.items()
    }
    title = "In float32; a line ends where its value is infinite or NaN"
    return Section(
        {
            "losses": [
                [f"{head}: {way}", *row] for head, rows in ends.items() for way, row in rows.items()
            ],
            "silent_below": ends["sigmoid"][TEXTBOOK][2],
            "step_from": ends["softmax"][FUSED][1],
        },
        {"losses": figure(title, *panels, columns=2)},
    )


def exact(head: str) -> Curves:
    """Return the exact curves in float64."""
    wrong = np.log(OTHERS[head]) - LOGITS  # log-odds of the other classes together
    return np.logaddexp(0, wrong), -sigmoid(wrong)


def sweep(head: str) -> dict[str, Curves]:
    """Return the curves in float32 by method."""
    found = {}
    for way, loss_of in _WAYS[head].items():
        z = tf.constant(LOGITS, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(z)
            loss = loss_of(z)
        both = (loss, tape.gradient(loss, z))
        found[way] = tuple(one.numpy().astype(np.float64) for one in both)
    return found


def goes_wrong(head: str, computed: Curves) -> list[float | None]:
    """Return the logits nearest to 0, below and above, at which a method fails: a table row."""
    (loss, gradient), (true_loss, true_gradient) = computed, exact(head)
    with np.errstate(invalid="ignore"):
        loss_is_right = np.abs(loss - true_loss) <= 0.01 * true_loss
        gradient_is_right = np.abs(gradient - true_gradient) <= 1e-6  # gradients are at most 1
    off = [*_nearest(~loss_is_right), *_nearest(~gradient_is_right)]
    ends = [_nearest(np.isinf(loss))[0], _nearest(np.isnan(loss))[1]]
    return [*off, *ends, *_nearest(np.isnan(gradient))]


def _nearest(is_there: npt.NDArray[np.bool_]) -> list[float | None]:
    found = LOGITS[is_there]
    below, above = found[found < 0].tolist(), found[found > 0].tolist()
    return [max(below, default=None), min(above, default=None)]


def _of_both(p: Any) -> Any:
    """Return -(y log p + (1 - y) log(1 - p)) for a target of 1, without simplification."""
    y = tf.ones_like(p)
    return -(y * tf.math.log(p) + (1 - y) * tf.math.log(1 - p))


def _ten(z: Any) -> Any:
    """Return `[n, 10]` for `[n]`: the true class first."""
    return tf.pad(z[:, None], [[0, 0], [0, OTHERS["softmax"]]])


def _first(z: Any) -> Any:
    return tf.zeros(len(z), tf.int32)


_WAYS: Final[Mapping[str, Mapping[str, Callable[[Any], Any]]]] = {
    "softmax": {
        FUSED: lambda z: tf.nn.sparse_softmax_cross_entropy_with_logits(_first(z), _ten(z)),
        CLIPPED: lambda z: keras.losses.sparse_categorical_crossentropy(
            _first(z), tf.nn.softmax(_ten(z))
        ),
        SHIFTED: lambda z: -tf.math.log(tf.nn.softmax(_ten(z))[:, 0]),
        TEXTBOOK: lambda z: -tf.math.log(tf.exp(z) / tf.reduce_sum(tf.exp(_ten(z)), axis=1)),
    },
    "sigmoid": {
        FUSED: lambda z: tf.nn.sigmoid_cross_entropy_with_logits(tf.ones_like(z), z),
        CLIPPED: lambda z: keras.losses.binary_crossentropy(
            tf.ones_like(z)[:, None], tf.sigmoid(z)[:, None]
        ),
        SHIFTED: lambda z: _of_both(tf.sigmoid(z)),
        TEXTBOOK: lambda z: _of_both(1 / (1 + tf.exp(-z))),
    },
}
"""Head → method → function from float32 logits of the true class to losses, `[n]`."""
