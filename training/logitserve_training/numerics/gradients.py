"""dz = ŷ - y, compared with automatic differentiation and with finite differences."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.heads import sigmoid, softmax
from logitserve_training.backend import tf
from logitserve_training.numerics.roundoff import Numbers

Floats = npt.NDArray[np.float64]

_SHAPE: Final = (64, 10)
_SPREAD: Final = 3.0
STEPS: Final = np.logspace(-13, 0, 53)
"""By which a logit is moved for a finite difference."""


@dataclass(frozen=True, slots=True)
class Check:
    """The largest errors of other ways to the gradient, over 64 × 10 logits."""

    head: str
    autodiff64: float
    autodiff32: float
    differences: Floats
    """Of central differences in float64, for each of `STEPS`."""

    @property
    def numbers(self) -> Numbers:
        """For the page."""
        best = int(self.differences.argmin())
        return {
            "head": self.head,
            "autodiff64": self.autodiff64,
            "autodiff32": self.autodiff32,
            "difference": float(self.differences[best]),
            "step": float(STEPS[best]),
        }


def check_softmax(seed: int) -> Check:
    """Cross-entropy of a softmax, one true class a row."""
    logits, generator = _logits(seed)
    targets = np.eye(_SHAPE[1])[generator.integers(_SHAPE[1], size=_SHAPE[0])]
    return _check(
        "softmax",
        logits,
        formula=softmax(logits) - targets,
        fused=lambda z: tf.nn.softmax_cross_entropy_with_logits(tf.cast(targets, z.dtype), z),
        loss=lambda z: np.logaddexp.reduce(z, axis=1) - (targets * z).sum(axis=1),
    )


def check_sigmoid(seed: int) -> Check:
    """Binary cross-entropy of ten sigmoids a row, summed, each with its own target."""
    logits, generator = _logits(seed)
    targets = generator.integers(2, size=_SHAPE).astype(np.float64)
    return _check(
        "sigmoid",
        logits,
        formula=sigmoid(logits) - targets,
        fused=lambda z: tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(targets, z.dtype), z),
        loss=lambda z: (np.logaddexp(0, z) - targets * z).sum(axis=1),
    )


def _check(
    head: str,
    logits: Floats,
    *,
    formula: Floats,
    fused: Callable[[Any], Any],
    loss: Callable[[Floats], Floats],
) -> Check:
    def error(gradient: Floats) -> float:
        return float(np.abs(gradient - formula).max())

    return Check(
        head,
        autodiff64=error(_autodiff(fused, logits, tf.float64)),
        autodiff32=error(_autodiff(fused, logits, tf.float32)),
        differences=np.array([error(central_difference(loss, logits, h)) for h in STEPS]),
    )


def central_difference(loss: Callable[[Floats], Floats], logits: Floats, step: float) -> Floats:
    """(f(z + h) - f(z - h)) / 2h for each logit on its own.

    Args:
        loss: `[n, k]` → `[n]`.
        logits: `[n, k]`.
        step: h.

    Returns:
        `[n, k]`.
    """
    columns = [
        (loss(logits + direction) - loss(logits - direction)) / (2 * step)
        for direction in np.eye(logits.shape[1]) * step
    ]
    return np.stack(columns, axis=1)


def _autodiff(loss: Callable[[Any], Any], logits: Floats, dtype: Any) -> Floats:
    z = tf.constant(logits, dtype)
    with tf.GradientTape() as tape:
        tape.watch(z)
        total = tf.reduce_sum(loss(z))
    gradient: Floats = tape.gradient(total, z).numpy().astype(np.float64)
    return gradient


def _logits(seed: int) -> tuple[Floats, np.random.Generator]:
    """Random logits that float32 holds exactly, so that only the arithmetic differs."""
    generator = np.random.default_rng(seed)
    return generator.normal(0, _SPREAD, _SHAPE).astype(np.float32).astype(np.float64), generator
