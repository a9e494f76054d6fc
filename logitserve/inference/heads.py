"""Heads: logits → probabilities. The only implementation of softmax and sigmoid.

Computed in float64: the difference of two finite float32 logits, and the quotient by any
reasonable temperature, are then finite too.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from logitserve.inference.card import Head, LabelScaling, ModelCard
from logitserve.inference.errors import NonFiniteLogitsError

Logits = npt.NDArray[np.floating[Any]]
Probabilities = npt.NDArray[np.float64]


def scaled(logits: Logits, temperature: float) -> npt.NDArray[np.float64]:
    """Divide logits, `[batch, k]`, by the temperature (Guo et al. 2017, arXiv:1706.04599).

    Above 1 it flattens the probabilities, below 1 it sharpens them; it never changes the argmax.

    Raises:
        NonFiniteLogitsError: a logit is NaN or infinite; the text names the rows.
    """
    finite = np.isfinite(logits)
    if not finite.all():
        raise NonFiniteLogitsError(np.flatnonzero(~finite.all(axis=1)).tolist())
    return logits.astype(np.float64) / temperature


class Calibrated(Protocol):
    """An object with a calibration, such as a card."""

    @property
    def temperature(self) -> float:
        """Temperature of all logits."""

    @property
    def scaling(self) -> Sequence[LabelScaling] | None:
        """Scale and bias of each logit, instead of the temperature."""


def calibrated(logits: Logits, card: Calibrated) -> npt.NDArray[np.float64]:
    """Apply the card's temperature, or its scaling of each label (Platt 1999), to raw logits.

    Raises:
        NonFiniteLogitsError: a logit is NaN or infinite; the text names the rows.
    """
    if card.scaling is None:
        return scaled(logits, card.temperature)
    scales, biases = _scaling(card.scaling)
    return scaled(logits, 1.0) * scales + biases


def uncalibrated(logits: Logits, card: Calibrated) -> npt.NDArray[np.float64]:
    """Invert the calibration: return the raw logits of calibrated ones."""
    if card.scaling is None:
        return np.asarray(logits * card.temperature, np.float64)
    scales, biases = _scaling(card.scaling)
    return np.asarray((logits - biases) / scales, np.float64)


def _scaling(labels: Sequence[LabelScaling]) -> tuple[Probabilities, Probabilities]:
    """Return scale and bias of each label."""
    return np.array([label.scale for label in labels]), np.array([label.bias for label in labels])


def thresholds(card: ModelCard, *, of_calibrated: bool = True) -> Probabilities:
    """Return the decision thresholds of a sigmoid model's probabilities, `[labels]`.

    The card's are for calibrated probabilities; those for raw ones give the same decisions.
    """
    stated = np.array(card.thresholds, np.float64)
    if of_calibrated:
        return stated
    with np.errstate(divide="ignore"):  # at 0 and 1 the logits are -inf and inf, as intended
        logits = np.log(stated) - np.log1p(-stated)
    return sigmoid(uncalibrated(logits, card))


def softmax(logits: npt.NDArray[np.float64]) -> Probabilities:
    """Return exp(z) / sum(exp(z)) over the last axis, shifted by the maximum against overflow."""
    return softmax_with_log_sum(logits)[0]


def softmax_with_log_sum(
    logits: npt.NDArray[np.float64],
) -> tuple[Probabilities, npt.NDArray[np.float64]]:
    """Return the softmax over the last axis, and its by-product ln sum(exp(z)), `[…, 1]`."""
    top = logits.max(axis=-1, keepdims=True)
    exponentials: Probabilities = np.exp(logits - top)
    total = exponentials.sum(axis=-1, keepdims=True)
    return exponentials / total, top + np.log(total)


def sigmoid(logits: npt.NDArray[np.float64]) -> Probabilities:
    """Return 1 / (1 + exp(-z)), computed from exp(-|z|), which cannot overflow."""
    decayed = np.exp(-np.abs(logits))
    return np.where(logits >= 0, 1.0, decayed) / (1.0 + decayed)


def probabilities(head: Head, logits: npt.NDArray[np.float64]) -> Probabilities:
    """Apply the head to finite logits, `[batch, classes]`, or `[batch, 1]` for `binary`.

    For `binary` the two columns are `[1 - p, p]`, each computed directly so that neither loses
    precision when the other is near 1.
    """
    match head:
        case Head.SOFTMAX:
            return softmax(logits)
        case Head.SIGMOID:
            return sigmoid(logits)
        case Head.BINARY:
            return sigmoid(np.concatenate([-logits, logits], axis=1))


def argmax(head: Head, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the index of the most probable class, `[batch]`, from logits, which do not round to 1.

    On a tie the lower index is returned.
    """
    if head is Head.BINARY:
        return (logits[:, 0] > 0).astype(np.int64)
    indices: npt.NDArray[np.int64] = logits.argmax(axis=1)
    return indices
