"""Calibrate logits on held-out pictures: one temperature, or a scale and bias per logit.

Guo et al. 2017 (arXiv:1706.04599) and Platt 1999, but each is the maximum a posteriori estimate
with a weak prior around no change: ln T, ln scale and bias ~ N(0, ½²). Otherwise, a few pictures
without a mistake would send the temperature to 0; a few thousand outweigh the prior
(`python -m benchmarks.held_out` compares).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, log_softmax

from logitserve.inference import heads
from logitserve.inference.card import Head, LabelScaling
from logitserve_training.errors import CalibrationError

Floats = npt.NDArray[np.float64]
Logits = npt.NDArray[np.floating[Any]]
"""Raw, `[n, k]`."""
Truth = npt.NDArray[np.int64]
"""Class of each picture, `[n]`; for a sigmoid model 1 if the label holds, else 0, `[n, k]`."""

PRIOR_DEVIATION: Final = 0.5
"""Prior standard deviation of ln T, ln scale and bias: two in three are within a factor of 1.65."""
FEW: Final = 50
"""Number of held-out pictures below which the prior dominates."""
_EDGE: Final = 3.0
"""Largest |ln T| or |ln scale|: six standard deviations of the prior."""


@dataclass(frozen=True, slots=True)
class Calibrator:
    """A calibration of raw logits; the default is the identity."""

    temperature: float = 1.0
    scaling: tuple[LabelScaling, ...] | None = None

    @classmethod
    def fitted(cls, head: Head, logits: Logits, truth: Truth) -> "Calibrator":
        """Return the maximum a posteriori estimate: a temperature for softmax, else scale and bias.

        Raises:
            CalibrationError: the fit failed: the estimate is at the edge of its range.
        """
        if head is Head.SOFTMAX:
            return cls(fit_temperature(logits, truth))
        outcomes = truth.reshape(logits.shape)
        return cls(scaling=tuple(map(fit_scaling, logits.T, outcomes.T)))

    def __call__(self, logits: Logits) -> Floats:
        """Return calibrated logits, `[n, k]`."""
        return heads.calibrated(logits, self)


def fit_temperature(logits: Logits, classes: Truth) -> float:
    """Return the maximum a posteriori temperature for raw logits, `[n, k]`."""
    z = logits.astype(np.float64)
    of_truth = z[np.arange(len(z)), classes]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        inverse = np.exp(-parameters[0])
        logs = log_softmax(inverse * z, axis=1)
        nll = -logs[np.arange(len(z)), classes].sum()
        slope = inverse * (of_truth - (np.exp(logs) * z).sum(axis=1)).sum()
        return float(nll), np.array([slope])

    return float(np.exp(_posterior_mode(loss, 1)[0]))


def fit_scaling(logits: Logits, outcomes: Truth) -> LabelScaling:
    """Return the maximum a posteriori scale and bias of one raw logit, `[n]`.

    The targets are the outcomes. Platt's smoothed targets cost 1/(n + 2) of confidence, more than
    the miscalibration of a good network; the prior avoids certain probabilities for labels that the
    logits separate perfectly.
    """
    z = logits.astype(np.float64)

    def loss(parameters: Floats) -> tuple[float, Floats]:
        scale = np.exp(parameters[0])
        calibrated = scale * z + parameters[1]
        residuals = expit(calibrated) - outcomes
        nll = np.sum(np.logaddexp(0, calibrated) - outcomes * calibrated)
        return float(nll), np.array([scale * (residuals @ z), residuals.sum()])

    log_scale, bias = _posterior_mode(loss, 2)
    return LabelScaling(scale=float(np.exp(log_scale)), bias=float(bias))


def _posterior_mode(loss: Any, parameters: int) -> Floats:
    """Minimize the sum of `loss` (value and gradient) and the negative log-prior.

    Raises:
        CalibrationError: the minimum is at the edge of the range, or was not found.
    """

    def penalized(values: Floats) -> tuple[float, Floats]:
        value, gradient = loss(values)
        precision = 1 / PRIOR_DEVIATION**2
        return value + precision * (values @ values) / 2, gradient + precision * values

    found = minimize(
        penalized,
        x0=np.zeros(parameters),
        jac=True,
        method="L-BFGS-B",
        # larger exponentials could overflow; a bias is not limited
        bounds=[(-_EDGE, _EDGE), *[(None, None)] * (parameters - 1)],
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    if not np.isfinite(found.x).all() or abs(found.x[0]) > 0.999 * _EDGE:
        raise CalibrationError(
            "the logits of the validation part cannot be calibrated: the fit ends at "
            f"{np.exp(found.x[0]):.3g}, the edge of its range; the network is worse than a guess, "
            "or its logits are far too large: change the training"
        )
    return np.asarray(found.x)


def losses(head: Head, calibrated: Logits, truth: Truth) -> Floats:
    """Return the negative log-likelihood per picture in nats, `[n]`; sigmoid: mean over labels."""
    if head is Head.SOFTMAX:
        of_truth = log_softmax(calibrated.astype(np.float64), axis=1)[np.arange(len(truth)), truth]
        return np.asarray(np.abs(of_truth))  # a logarithm is at most 0; avoids -0
    outcomes = truth.reshape(calibrated.shape)
    each: Floats = np.logaddexp(0, np.where(outcomes == 1, -calibrated, calibrated)).mean(axis=1)
    return each


def energies(logits: Floats, temperature: float) -> Floats:
    """Return −T·ln sum(exp(z/T)), `[batch]`, of logits already divided by the temperature.

    The energy is low if a logit is high, as for in-distribution images (Liu et al. 2020,
    arXiv:2010.03759).
    """
    energy: Floats = -temperature * heads.softmax_with_log_sum(logits)[1][:, 0]
    return energy
