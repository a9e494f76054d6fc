"""The gradient dz = ŷ - y, and its backpropagation to weights and the previous layer."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import numpy as np

from logitserve.inference.heads import sigmoid, softmax
from logitserve_training.backend import tf
from logitserve_training.numerics.crossentropy import STATED, TARGET
from logitserve_training.numerics.section import Floats, Rows, Section
from logitserve_training.plots import Panel, figure

STEPS: Final = np.logspace(-13, 0, 53)
"""Step of the finite difference."""
ACTIVATIONS: Final = np.array([[1.0, 2.0, 0.0]])
"""Outputs of the previous layer in the worked example; the third unit is inactive."""
WEIGHTS: Final = np.array([[1.0, 0.0, -1.0, 2.0], [0.0, 1.0, 1.0, -1.0], [2.0, 1.0, 0.0, 1.0]])
_UNITS: Final = (784, 25, 15, 10)
_ROWS: Final = 64

Loss = Callable[..., Any]
"""Logits `[n, k]` → losses `[n]`."""


def measure() -> Section:
    """Compare the formula with other methods, on random logits and layers."""
    generator = np.random.default_rng(0)
    # Rounded to float32, so that only the arithmetic differs.
    logits = generator.normal(0, 3, (_ROWS, 10)).astype(np.float32).astype(np.float64)
    one = np.eye(10)[generator.integers(10, size=_ROWS)]
    many = generator.integers(2, size=logits.shape).astype(np.float64)
    rows, curves = [], {}
    for head, formula, fused, loss in (
        (
            "softmax",
            softmax(logits) - one,
            lambda z: tf.nn.softmax_cross_entropy_with_logits(tf.cast(one, z.dtype), z),
            lambda z: np.logaddexp.reduce(z, axis=1) - (one * z).sum(axis=1),
        ),
        (
            "sigmoid",
            sigmoid(logits) - many,
            lambda z: tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(many, z.dtype), z),
            lambda z: (np.logaddexp(0, z) - many * z).sum(axis=1),
        ),
    ):
        off = [
            np.abs(_autodiff(fused, tf.constant(logits, dtype))[0] - formula).max()
            for dtype in (tf.float64, tf.float32)
        ]
        moved = [np.abs(central_difference(loss, logits, h) - formula).max() for h in STEPS]
        rows.append([head, *off, min(moved), STEPS[np.argmin(moved)]])
        curves[head] = (STEPS, moved)
    title = "dz = ŷ − y against central differences"
    panel = Panel("", "step h", "largest error of a derivative", curves, log="xy")
    return Section(
        {"gradients": rows, "chain": _worked(), "layers_chain": _checked(generator)},
        {"differences": figure(title, panel)},
    )


def central_difference(loss: Loss, logits: Floats, step: float) -> Floats:
    """Return (f(z + h) - f(z - h)) / 2h for each logit, `[n, k]`."""
    columns = [
        (loss(logits + direction) - loss(logits - direction)) / (2 * step)
        for direction in np.eye(logits.shape[1]) * step
    ]
    return np.stack(columns, axis=1)


def backward(
    inputs: list[Floats], weights: list[Floats], dz: Floats
) -> tuple[list[Floats], list[Floats]]:
    """Backpropagate from the last layer to the first.

    Takes each layer's inputs, `[n, fan_in]`, 0 for an inactive ReLU, weights `[fan_in, out]`, and
    dz = ŷ − y of the last layer, `[n, out]`. Returns, last layer first, dW, the mean over the
    pictures, and dz of the layer's input, `[n, fan_in]`.
    """
    by_weights, by_inputs = [], []
    for a, w in zip(reversed(inputs), reversed(weights), strict=True):
        by_weights.append(a.T @ dz / len(dz))
        dz = dz @ w.T * (a > 0)
        by_inputs.append(dz)
    return by_weights, by_inputs


def _worked() -> Rows:
    """Return one picture and the last layer alone, small enough to compute by hand."""
    dz = STATED - TARGET
    ((dw,), (before,)) = backward([ACTIVATIONS], [WEIGHTS], dz[None])
    rows: Rows = [["dz = ŷ − y", None, *dz, None, None]]
    for unit in range(len(WEIGHTS)):
        unmasked = WEIGHTS[unit] @ dz
        name = f"dW of unit {unit + 1}"
        rows.append([name, ACTIVATIONS[0, unit], *dw[unit], unmasked, before[0, unit]])
    return rows


def _checked(generator: np.random.Generator) -> Rows:
    """Compare backpropagation with automatic differentiation for random weights."""
    weights = [generator.normal(0, n**-0.5, (n, out)) for n, out in pairwise(_UNITS)]
    classes = generator.integers(_UNITS[-1], size=_ROWS)
    inputs = [generator.uniform(0, 1, (_ROWS, _UNITS[0]))]
    for w in weights[:-1]:
        inputs.append(np.maximum(inputs[-1] @ w, 0))
    probabilities = softmax(inputs[-1] @ weights[-1])
    by_hand, _ = backward(inputs, weights, probabilities - np.eye(_UNITS[-1])[classes])

    def cost(*kernels: Any) -> Any:
        x = tf.constant(inputs[0])
        for kernel in kernels[:-1]:
            x = tf.nn.relu(x @ kernel)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(classes, x @ kernels[-1]) / _ROWS

    automatic = _autodiff(cost, *map(tf.constant, weights))[::-1]
    return [
        [str(3 - i), "×".join(map(str, dw.shape)), np.abs(dw).max(), np.abs(dw - other).max()]
        for i, (dw, other) in enumerate(zip(by_hand, automatic, strict=True))
    ]


def _autodiff(loss: Loss, *variables: Any) -> list[Floats]:
    with tf.GradientTape() as tape:
        tape.watch(variables)
        total = tf.reduce_sum(loss(*variables))
    return [found.numpy().astype(np.float64) for found in tape.gradient(total, variables)]
