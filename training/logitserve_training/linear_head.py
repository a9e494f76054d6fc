"""Fit logistic or softmax regression on features with Adam; weight decay is cross-validated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from logitserve.inference.card import Head
from logitserve_training.datasets.dataset import Classes, Groups
from logitserve_training.datasets.splits import Rows, stratified
from logitserve_training.progress import Reporter
from logitserve_training.statistics.calibration import losses

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

DECAYS: Final = (1e-3, 3e-3, 1e-2)
"""Candidate decays: decay / 2 × the squared weights of standardized features is added to the loss.
Larger ones lower the in-distribution loss slightly by less confidence, as calibration also does;
on pictures of other sources they rank worse (docs/folder.md)."""
_FOLDS: Final = 5
_MOST: Final = 3_000
"""Number of pictures for the comparison of decays."""
_STEPS: Final = 200
_RATE: Final = 0.1
_BETA1, _BETA2, _EPSILON = 0.9, 0.999, 1e-8
_TINY: Final = 1e-6
_LEAST_SCALE: Final = 0.01
"""Lower limit of a feature's standard deviation, relative to the mean one; limits the scaling."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """A linear layer: features → logits."""

    kernel: Array
    """`[k, logits]`."""
    bias: Array
    """`[logits]`."""

    def logits(self, features: Array) -> Array:
        """Return the logits, `[n, logits]`, of features `[n, k]`."""
        return np.asarray(features @ self.kernel + self.bias)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A weight decay, with out-of-fold predictions of its heads."""

    decay: float
    loss: float
    """Cross-validated loss in nats."""
    folds: int
    rows: npt.NDArray[np.int64]
    """Rows of the pictures used."""
    logits: Floats
    """Out-of-fold logits of these pictures, `[rows, logits]`."""


def fit(
    head: Head, forms: Array, classes: Classes, decays: Floats, logits: int
) -> list[LinearHead]:
    """Fit one head per decay simultaneously with Adam on full batches, starting from 0.

    `forms` are the features of each form of the pictures, `[forms, n, k]`.
    """
    count, width = forms.shape[0] * forms.shape[1], forms.shape[2]
    shift, scale = forms[0].mean(axis=0), forms[0].std(axis=0)
    scale = np.maximum(scale, _LEAST_SCALE * scale.mean() + _TINY)
    x = ((forms - shift) / scale).reshape(count, width)
    targets = _targets(head, classes, logits)[None, :, None, :]
    parameters = np.zeros((width + 1, len(decays), logits), np.float32)
    first, second = np.zeros_like(parameters), np.zeros_like(parameters)
    for step in range(1, _STEPS + 1):
        kernel, bias = parameters[:-1].reshape(width, -1), parameters[-1].reshape(-1)
        z = (x @ kernel + bias).reshape(*forms.shape[:2], len(decays), logits)
        error = ((softmax(z, axis=3) if head is Head.SOFTMAX else expit(z)) - targets) / count
        flat = error.reshape(count, -1).astype(np.float32)
        gradient = np.concatenate([x.T @ flat, flat.sum(axis=0)[None]]).reshape(parameters.shape)
        gradient[:-1] += decays[:, None].astype(np.float32) * parameters[:-1]
        first += (1 - _BETA1) * (gradient - first)
        second += (1 - _BETA2) * (gradient**2 - second)
        rate = _RATE * (1 + np.cos(np.pi * step / _STEPS)) / 2
        moved = first / (1 - _BETA1**step)
        parameters -= rate * moved / (np.sqrt(second / (1 - _BETA2**step)) + _EPSILON)
    found = []
    for index in range(len(decays)):
        kernel = parameters[:-1, index] / scale[:, None]
        found.append(LinearHead(kernel, parameters[-1, index] - shift @ kernel))
    return found


def choose(
    head: Head,
    forms: Array,
    classes: Classes,
    groups: Groups | None,
    *,
    logits: int,
    reporter: Reporter,
) -> Chosen:
    """Choose the decay with the lowest cross-validated loss; groups are not split between folds.

    Validation uses the original pictures, `forms[0]`; without groups each picture is its own group.
    """
    rows = np.arange(len(classes))
    if len(rows) > _MOST:
        rows = np.sort(np.random.default_rng(0).permutation(rows)[:_MOST])
    outcomes = _targets(head, classes[rows], logits).astype(np.int64)
    units = None if groups is None else groups[rows]
    folds = min(_FOLDS, len(rows) if units is None else len(np.unique(units)))
    if folds < 2:  # one group: split its pictures
        units, folds = None, min(_FOLDS, len(rows))
    held_out = stratified(outcomes, [1 / folds] * folds, groups=units)
    said = np.zeros((len(rows), len(DECAYS), logits))
    with reporter.steps("choose the weight decay", len(held_out)) as advance:
        for fold in held_out:
            rest = np.setdiff1d(np.arange(len(rows)), fold)
            heads = fit(head, forms[:, rows[rest]], classes[rows[rest]], np.array(DECAYS), logits)
            for index, one in enumerate(heads):
                said[fold, index] = one.logits(forms[0, rows[fold]])
            advance(1)
    found = [losses(head, said[:, index], classes[rows]).mean() for index in range(len(DECAYS))]
    best = int(np.argmin(found))
    return Chosen(DECAYS[best], float(found[best]), folds, rows, said[:, best])


def cross_validated(
    head: Head,
    forms: Array,
    classes: Classes,
    groups: Groups | None,
    folds: Sequence[Rows],
    *,
    logits: int,
    reporter: Reporter,
) -> Floats:
    """Return out-of-fold logits, `[n, logits]`: a fold's head is fitted to the other folds.

    The decay is chosen within the other folds. Each picture is in exactly one fold.
    """
    said = np.zeros((len(classes), logits))
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(classes)), fold)
        some, of_some = forms[:, rest], classes[rest]
        units = None if groups is None else groups[rest]
        chosen = choose(head, some, of_some, units, logits=logits, reporter=reporter)
        (found,) = fit(head, some, of_some, np.array([chosen.decay]), logits)
        said[fold] = found.logits(forms[0, fold])
    return said


def _targets(head: Head, classes: Classes, logits: int) -> Array:
    """Return the targets of the logits, `[n, logits]` of 0 and 1."""
    if head is Head.SOFTMAX:
        return np.eye(logits, dtype=np.float32)[classes]
    return classes.reshape(len(classes), -1).astype(np.float32)
