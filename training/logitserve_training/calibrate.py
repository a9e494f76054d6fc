"""Probabilities made right on held-out pictures, after the weights: what the card says of doubt.

A temperature (Guo et al. 2017, arXiv:1706.04599) or a scale and bias for each label (Platt 1999)
is fitted by the likelihood, and kept only where cross-validation shows that it helps. Then come
the thresholds for prediction sets and for what is known. All are found on the same pictures, the
validation part: the one or two numbers a logit that are fitted first hardly follow any of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit, log_softmax, logit

from logitserve.inference import conformal, heads
from logitserve.inference.card import Calibration, Energy, Head, LabelScaling, ModelCard, Scores
from logitserve_training.evaluate import (
    Floats,
    brier_score,
    energies,
    expected_calibration_error,
    reliability,
)

Logits = npt.NDArray[np.floating[Any]]
"""Raw, `[n, k]`."""
Truth = npt.NDArray[np.int64]
"""Class of each picture, `[n]`; of a sigmoid model 1 where the label holds, else 0, `[n, k]`."""

KNOWN_SHARE: Final = 0.99
"""Of the held-out pictures. At 0.95, as the literature likes to report it, one in twenty pictures
that the network reads well would be called unknown."""

_FOLDS: Final = 10
_FOLD_SEED: Final = 20_240_601
_LOG_TEMPERATURES: Final = (-3.0, 3.0)
_SCALES: Final = (0.02, 50.0)
_BIASES: Final = (-50.0, 50.0)


@dataclass(frozen=True, slots=True)
class Calibrator:
    """What is applied to raw logits; the default leaves them as they are."""

    temperature: float = 1.0
    scaling: tuple[LabelScaling, ...] | None = None

    @classmethod
    def fitted(cls, head: Head, logits: Logits, truth: Truth) -> "Calibrator":
        """By maximum likelihood."""
        if head is Head.SOFTMAX:
            return cls(temperature=fit_temperature(logits, truth))
        outcomes = truth.reshape(logits.shape)
        return cls(scaling=tuple(map(fit_scaling, logits.T, outcomes.T)))

    def __call__(self, logits: Logits) -> Floats:
        """Calibrated logits, `[n, k]`."""
        if self.scaling is None:
            return logits.astype(np.float64) / self.temperature
        scales = [label.scale for label in self.scaling]
        biases = [label.bias for label in self.scaling]
        calibrated: Floats = logits.astype(np.float64) * scales + biases
        return calibrated


def calibrate(card: ModelCard, logits: Logits, truth: Truth) -> ModelCard:
    """Complete a card by what held-out pictures say.

    Args:
        card: of the model; what it says of calibration is replaced.
        logits: raw, `[n, k]`, of pictures that the weights were not fitted to.
        truth: `[n]`, or `[n, k]` for a sigmoid model.

    Returns:
        the card with `temperature` or `scaling`, `thresholds` that mean the same as before,
        `calibration`, and for the heads that have them `conformal` and `energy`.
    """
    fitted = Calibrator.fitted(card.head, logits, truth)
    gain, gain_error = cross_validated_gain(card.head, logits, truth)
    # The one-standard-error rule (Breiman et al. 1984): what is within the noise is not kept.
    kept = gain > gain_error
    chosen = fitted if kept else Calibrator()
    calibration = Calibration(
        pictures=len(logits),
        kept=kept,
        gain=gain,
        gain_error=gain_error,
        before=scores(card.head, Calibrator()(logits), truth),
        after=scores(card.head, fitted(logits), truth),
    )
    changes: dict[str, Any] = {
        "temperature": chosen.temperature,
        "scaling": chosen.scaling,
        "thresholds": _restated_thresholds(card, chosen),
        "calibration": calibration,
        "conformal": None,
        "energy": None,
    }
    if card.head is not Head.SIGMOID:
        by_label = conformal.scores(heads.probabilities(card.head, chosen(logits)))
        changes["conformal"] = conformal.calibrate(by_label[np.arange(len(truth)), truth])
    if card.head is Head.SOFTMAX:
        changes["energy"] = _energy(logits, chosen.temperature)
    return ModelCard.model_validate(dict(card) | changes)


def fit_temperature(logits: Logits, classes: Truth) -> float:
    """The temperature of the highest likelihood, e⁻³ to e³.

    The likelihood has one maximum over 1/T, so Brent's bounded search finds it.

    Args:
        logits: raw, `[n, k]`.
        classes: `[n]`.
    """
    found = minimize_scalar(
        lambda log_t: losses(Head.SOFTMAX, logits / np.exp(log_t), classes).mean(),
        bounds=_LOG_TEMPERATURES,
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def fit_scaling(logits: Logits, outcomes: Truth) -> LabelScaling:
    """The scale and bias of one label (Platt 1999).

    The targets are Platt's, (n₊ + 1)/(n₊ + 2) for yes and 1/(n₋ + 2) for no, so that labels which
    the logits tell apart without a mistake do not get certain probabilities.

    Args:
        logits: raw, `[n]`.
        outcomes: 1 where the label holds, else 0, `[n]`.
    """
    z = logits.astype(np.float64)
    yes = int(outcomes.sum())
    targets = np.where(outcomes == 1, (yes + 1) / (yes + 2), 1 / (len(z) - yes + 2))

    def loss(parameters: Floats) -> tuple[float, Floats]:
        calibrated = parameters[0] * z + parameters[1]
        residuals = expit(calibrated) - targets
        nll = np.mean(np.logaddexp(0, calibrated) - targets * calibrated)
        return float(nll), np.array([np.mean(residuals * z), np.mean(residuals)])

    found = minimize(
        loss,
        x0=[1.0, 0.0],
        jac=True,
        method="L-BFGS-B",
        bounds=(_SCALES, _BIASES),
        options={"ftol": 1e-14, "gtol": 1e-9},
    )
    scale, bias = found.x.tolist()
    return LabelScaling(scale=scale, bias=bias)


def losses(head: Head, calibrated: Logits, truth: Truth) -> Floats:
    """Negative log-likelihood of each picture in nats, `[n]`; for sigmoid the mean over labels."""
    if head is Head.SOFTMAX:
        return np.asarray(-log_softmax(calibrated, axis=1)[np.arange(len(truth)), truth])
    outcomes = truth.reshape(calibrated.shape)
    each: Floats = np.logaddexp(0, np.where(outcomes == 1, -calibrated, calibrated)).mean(axis=1)
    return each


def cross_validated_gain(head: Head, logits: Logits, truth: Truth) -> tuple[float, float]:
    """What calibrating lowers the NLL by on pictures that it was not fitted to.

    Returns:
        mean over all pictures, and its standard error; nats.
    """
    before = losses(head, Calibrator()(logits), truth)
    after = before.copy()
    for held_out in _folds(len(logits)):
        rest = np.setdiff1d(np.arange(len(logits)), held_out)
        calibrator = Calibrator.fitted(head, logits[rest], truth[rest])
        after[held_out] = losses(head, calibrator(logits[held_out]), truth[held_out])
    gains = before - after
    return float(gains.mean()), float(gains.std() / len(gains) ** 0.5)


def scores(head: Head, calibrated: Floats, truth: Truth) -> Scores:
    """How right the probabilities of these logits are."""
    probabilities = heads.probabilities(head, calibrated)
    nll = float(losses(head, calibrated, truth).mean())
    if head is Head.SIGMOID:
        return Scores(
            nll=nll,
            brier=float(np.mean((probabilities - truth) ** 2)),
            ece=reliability(probabilities.ravel(), truth.ravel()).error,
        )
    return Scores(
        nll=nll,
        brier=brier_score(probabilities, truth),
        ece=expected_calibration_error(probabilities, truth),
    )


def _folds(count: int) -> Iterator[npt.NDArray[np.int64]]:
    """The pictures in random parts of about the same size; no part where there is but one."""
    if count > 1:
        order = np.random.default_rng(_FOLD_SEED).permutation(count)
        yield from np.array_split(order, min(_FOLDS, count))


def _restated_thresholds(card: ModelCard, chosen: Calibrator) -> tuple[float, ...] | None:
    """The card's thresholds for probabilities that are calibrated otherwise."""
    if card.thresholds is None:
        return None
    raw = logit(heads.thresholds(card, of_calibrated=False))
    return tuple(expit(chosen(raw[np.newaxis]))[0].tolist())


def _energy(logits: Logits, temperature: float) -> Energy:
    found = energies(heads.scaled(logits, temperature), temperature)
    threshold = float(np.quantile(found, KNOWN_SHARE, method="higher"))
    return Energy(
        threshold=threshold,
        known_share=float(np.mean(found <= threshold)),
        pictures=len(found),
    )
