"""Where softmax ends: temperature 0 and infinity, and two classes."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from logitserve.inference.heads import scaled, sigmoid, softmax
from logitserve_training.numerics.roundoff import Numbers

Floats = npt.NDArray[np.float64]

LOGITS: Final = (4.0, 3.0, 1.0, 0.0)
TEMPERATURES: Final = np.logspace(-2, 3, 251)
_TABLE: Final = (0.01, 0.1, 0.5, 1.0, 2.0, 10.0, 1000.0)
_DIFFERENCES: Final = (0.0, 1.0, 10.0, 20.0, 40.0, 100.0, 500.0)


def hardmax(logits: Floats) -> Floats:
    """1 for the largest logit and 0 for the rest; equal largest ones share, as in the limit.

    Args:
        logits: `[n, k]`.
    """
    is_largest = logits == logits.max(axis=-1, keepdims=True)
    shared: Floats = is_largest / is_largest.sum(axis=-1, keepdims=True)
    return shared


@dataclass(frozen=True, slots=True)
class Limits:
    """Softmax of `LOGITS` at each of `TEMPERATURES`, and its distance from both limits."""

    probabilities: Floats
    """`[temperatures, classes]`."""
    to_hardmax: Floats
    """`[temperatures]`, the largest difference of a probability."""
    to_uniform: Floats

    @property
    def numbers(self) -> Numbers:
        """For the page."""
        logits = np.array([LOGITS])
        tie = np.array([[2.0, 2.0, 1.0]])
        rows = [
            {
                "temperature": temperature,
                "probabilities": softmax(scaled(logits, temperature))[0].tolist(),
            }
            for temperature in _TABLE
        ]
        return {
            "logits": list(LOGITS),
            "rows": rows,
            "hardmax": hardmax(logits)[0].tolist(),
            "tie": softmax(scaled(tie, _TABLE[0]))[0].tolist(),
            "cold": _TABLE[0],
            "two": two_classes(),
        }


def temperatures() -> Limits:
    """Divide the logits by each temperature."""
    logits = np.array([LOGITS])
    probabilities = np.concatenate([softmax(scaled(logits, t)) for t in TEMPERATURES])
    return Limits(
        probabilities,
        to_hardmax=np.abs(probabilities - hardmax(logits)).max(axis=1),
        to_uniform=np.abs(probabilities - 1 / len(LOGITS)).max(axis=1),
    )


def two_classes() -> Numbers:
    """Softmax of (a, b) beside the sigmoid of b - a, and 1 - p beside the sigmoid of -z."""
    first, second = np.meshgrid(np.linspace(-200, 200, 801), np.linspace(-200, 200, 801))
    pairs = np.stack([first.ravel(), second.ravel()], axis=1)
    as_sigmoid = sigmoid(pairs[:, 1] - pairs[:, 0])
    difference = np.abs(softmax(pairs)[:, 1] - as_sigmoid)
    z = np.array(_DIFFERENCES)
    one_minus, other_side = 1 - sigmoid(z), sigmoid(-z)
    return {
        "pairs": len(pairs),
        "difference": float(difference.max()),
        "rows": [
            {"z": z_i, "one_minus": one_minus_i, "other_side": other_side_i}
            for z_i, one_minus_i, other_side_i in zip(
                z.tolist(), one_minus.tolist(), other_side.tolist(), strict=True
            )
        ],
    }
